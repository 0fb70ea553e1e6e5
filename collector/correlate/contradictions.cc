// PD and stores against themselves: rules 0.1 and 1.
#include <algorithm>
#include <tuple>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {
namespace {

constexpr size_t kFlipsThatNoLossExplains = 4;
constexpr int64_t kFasterThanReportsNs = 1'000'000'000;

// How often one PD's answers about the region changed from one range to another faster than stores report: a
// heartbeat comes every minute, or at a change of the region, which would change its version.
size_t Flips(const RegionCase& c, uint32_t pd_host) {
  std::vector<std::tuple<int64_t, uint32_t>> answers;
  for (const Said& s : c.said) {
    if (!IsPdAnswer(s.source) || s.speaker_host != pd_host) continue;
    for (const Telling& t : s.tellings) answers.push_back({t.ref_ns, s.range});
  }
  std::sort(answers.begin(), answers.end());
  size_t flips = 0;
  for (size_t i = 1; i < answers.size(); ++i) {
    flips += std::get<1>(answers[i]) != std::get<1>(answers[i - 1]) &&
             std::get<0>(answers[i]) - std::get<0>(answers[i - 1]) < kFasterThanReportsNs;
  }
  return flips;
}

}  // namespace

// PD said `range`, which no store told it: is that proved to be wrong? `bounds` are those of a store's
// complaint, kNone without one.
std::optional<Judge::Blame> Judge::BlamePd(const RegionCase& c, uint32_t range, uint32_t bounds) const {
  if (!c.PdInvented(range) || (c.truth && *c.truth == range)) return std::nullopt;
  Blame blame;
  blame.component = Component::kPd;
  blame.rule = "3";
  blame.reason = c.truth ? Reason::kPdWrongRange : Reason::kPdContradictsItself;
  blame.told_range = range;
  // A report of a store that was not seen would explain it: then PD is not to blame. Where some reports may
  // be lost, one that flips again and again is still PD's own doing.
  std::set<uint32_t> speakers;
  for (const Said& s : c.said) {
    if (IsPdAnswer(s.source) && s.range == range) speakers.insert(s.speaker_host);
  }
  for (uint32_t pd : speakers) {
    const auto hidden = ReportsHidden(pd);
    if (hidden.empty()) continue;
    if (Flips(c, pd) < kFlipsThatNoLossExplains) return std::nullopt;
    blame.certain = false;
    blame.weakened.insert(blame.weakened.end(), hidden.begin(), hidden.end());
  }
  if (c.pd_contradicts) return blame;
  // PD's own answers about a neighbour leave no room for it.
  if (neighbours_->Refutes(c.region, scene_.ledger.ranges().Get(range))) return blame;
  // A store had told PD the range by which it refuses, and only that, and PD answered otherwise.
  if (bounds == kNone || c.tikv_contradicts || !c.reported_ranges.contains(bounds)) return std::nullopt;
  const Telling* reported = nullptr;
  const Telling* answered = nullptr;
  const auto earlier = [](const Said& s, const Telling* than) {
    return !s.tellings.empty() && (than == nullptr || s.tellings.front().ref_ns < than->ref_ns);
  };
  for (const Said& s : c.said) {
    if (IsReportToPd(s.source) && earlier(s, reported)) reported = &s.tellings.front();
    if (s.range == range && IsPdAnswer(s.source) && earlier(s, answered)) answered = &s.tellings.front();
  }
  if (reported == nullptr || answered == nullptr ||
      reported->ref_ns + scene_.ClockSlack(reported->observation, answered->observation) > answered->ref_ns) {
    return std::nullopt;
  }
  blame.reason = Reason::kPdWrongRange;
  blame.right_range = bounds;
  return blame;
}

void Judge::FindRefutingNeighbour(Cause& cause) {
  const auto neighbour = neighbours_->Refutes(cause.region, scene_.ledger.ranges().Get(cause.told_range));
  if (!neighbour) return;
  auto it = cases_.find(*neighbour);
  if (it == cases_.end())
    it = cases_.emplace(*neighbour, BuildCase(scene_, *neighbours_, *neighbour, {})).first;
  for (const Said& s : it->second.said) {
    if (!IsPdAnswer(s.source) || s.tellings.empty()) continue;
    cause.neighbour = ToldAt{&s, s.tellings.front()};
    cause.neighbour_region = *neighbour;
    return;
  }
}

void Judge::JudgeStatements(const RegionCase& c) {
  bool blamed_pd = false;
  for (const Said& s : c.said) {
    const bool wrong_range = !c.truth || s.range != *c.truth;
    if (!wrong_range) continue;
    if (IsPdAnswer(s.source)) {
      Cause* cause = PdCauseOf(s.listener_host, c.region);
      auto blame = BlamePd(c, s.range, cause == nullptr ? kNone : cause->right_range);
      if (!blame) continue;
      blamed_pd = true;
      if (cause == nullptr) {
        blame->rule = "0.1";
        cause = &CauseFor(c, *blame, s.listener_host, s.speaker);
      }
      for (const Telling& t : s.tellings) cause->wrong.push_back({&s, t});
    } else if (c.tikv_contradicts) {
      const uint32_t server = ServingEndpoint(s.speaker_host, s.speaker);
      Cause* cause = TikvCauseOf(server, c.region, s.listener_host);
      // Which statement is wrong is not known, but the fault is told already by what the store refused.
      if (!c.truth && cause != nullptr && !cause->complaints.empty()) continue;
      if (cause == nullptr || (cause->client_host != s.listener_host && !cause->complaints.empty())) {
        Blame blame;
        blame.component = Component::kTikv;
        blame.rule = "0.1";
        blame.reason = c.truth ? Reason::kTikvToldWrong : Reason::kTikvContradictsItself;
        blame.told_range = s.range;
        cause = &CauseFor(c, blame, s.listener_host, server);
      }
      for (const Telling& t : s.tellings) cause->wrong.push_back({&s, t});
    }
  }
  for (const ServedOutside& s : c.served_outside) {
    // What a complaint shows already is not told twice; else the served key itself is the fault.
    const bool shown = std::any_of(c.complaints.begin(), c.complaints.end(),
                                   [&](const CaseComplaint& k) { return k.complaint->bounds == s.range; });
    const uint32_t client = scene_.ClientHost(s.observation);
    if (shown || TikvCauseOf(s.server, c.region, client) != nullptr) continue;
    Blame blame;
    blame.component = Component::kTikv;
    blame.rule = "0.1";
    blame.reason = Reason::kTikvServedOutside;
    blame.told_range = s.range;
    CauseFor(c, blame, client, s.server).served.push_back(s);
  }
  if (c.OneRange() || c.tikv_contradicts || blamed_pd || !c.complaints.empty()) return;
  // PD and a store differ, each true to itself, or PD differs in a way that an unseen report may explain.
  const Said* pd = nullptr;
  const Said* other = nullptr;
  for (const Said& s : c.said) {
    if (IsPdAnswer(s.source) && pd == nullptr) pd = &s;
  }
  for (const Said& s : c.said) {
    if (pd != nullptr && s.range != pd->range && other == nullptr) other = &s;
  }
  if (pd == nullptr || other == nullptr) return;
  Blame blame;
  blame.decided = false;
  blame.rule = "0.1";
  blame.suspects = {Component::kPd, Component::kTikv};
  blame.missing = ReportsHidden(pd->speaker_host);
  blame.missing.push_back("what its leader reported to PD about region " +
                          std::to_string(c.region.region_id) + " (version " +
                          std::to_string(c.region.version) + ")");
  const bool both_pd = IsPdAnswer(other->source);
  Cause& cause = CauseFor(c, blame, pd->listener_host,
                          both_pd ? pd->speaker : ServingEndpoint(other->speaker_host, other->speaker));
  for (const Said* s : {pd, other}) cause.wrong.push_back({s, s->tellings.front()});
}

void Judge::JudgeFaceFaults() {
  // Both views of an answer say the same; the server's speaks if it could be read.
  std::map<std::tuple<uint32_t, RegionVersion, uint8_t>, const FaceFault*> best;
  for (const FaceFault& f : scene_.findings.face_faults()) {
    const uint32_t logical = scene_.pairing.Logical(f.observation);
    const FaceFault*& chosen = best[{logical, f.region, static_cast<uint8_t>(f.kind)}];
    const auto rank = [&](const FaceFault& x) {
      return std::tuple(x.observation != scene_.Best(logical, View::kServer),
                        scene_.At(x.observation).call_id, x.statement);
    };
    if (chosen == nullptr || rank(f) < rank(*chosen)) chosen = &f;
  }
  std::vector<const FaceFault*> order;
  for (const auto& [key, fault] : best) order.push_back(fault);
  std::sort(order.begin(), order.end(), [&](const FaceFault* a, const FaceFault* b) {
    const auto rank = [&](const FaceFault* x) {
      return std::tuple(scene_.ResponseTime(x->observation), scene_.At(x->observation).call_id, x->statement);
    };
    return rank(a) < rank(b);
  });
  for (const FaceFault* fault : order) {
    const FaceFault& f = *fault;
    const RegionCase* c = CaseOf(f.region);
    const uint32_t client = scene_.ClientHost(f.observation);
    Cause* cause = PdCauseOf(client, f.region);
    if (cause == nullptr && f.kind == FaceFault::Kind::kOverlap && c->truth && f.range == *c->truth) {
      continue;  // the other of the two overlapping ranges is the wrong one, and is told by its own case
    }
    if (cause == nullptr) {
      Blame blame;
      blame.component = Component::kPd;
      blame.rule = "1";
      blame.reason = Reason::kPdFaceFault;
      blame.told_range = f.range;
      if (f.kind == FaceFault::Kind::kHole) {
        blame.certain = false;
        blame.weakened.push_back("a split that was not yet reported to PD leaves a hole for a moment");
      }
      cause = &CauseFor(*c, blame, client, scene_.ServerEndpoint(f.observation));
    }
    cause->faults.push_back(&f);
  }
}

}  // namespace keytrail::correlate
