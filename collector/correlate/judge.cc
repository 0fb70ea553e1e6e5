#include "collector/correlate/judge.h"

#include <algorithm>
#include <tuple>

#include "collector/correlate/words.h"

namespace keytrail::correlate {
namespace {

bool AllInside(const std::vector<Item>& items, const Range& range) {
  return std::all_of(items.begin(), items.end(), [&](const Item& i) { return i.InsideOf(range); });
}

constexpr size_t kFlipsThatNoLossExplains = 4;
constexpr int64_t kFasterThanReportsNs = 1'000'000'000;
// An answer that both ends lost may explain one request outside of its route, not those to several regions.
constexpr size_t kRegionsThatNoLossExplains = 3;

// A cached route lives for minutes; what was used this shortly before and after was there in between.
constexpr int64_t kKnewBetterWithinNs = 60'000'000'000;
constexpr int64_t kToldMarginNs = 5'000'000;

// How often one PD's answers about the region changed from one range to another faster than stores report: a
// heartbeat comes every minute, or at a change of the region, which would change its version.
size_t Flips(const Scene& scene, const RegionCase& c, uint32_t pd_host) {
  std::vector<std::tuple<int64_t, uint32_t, uint32_t>> answers;
  for (const Said& s : c.said) {
    if (!IsPdAnswer(s.source) || s.speaker_host != pd_host) continue;
    for (const Telling& t : s.tellings) answers.push_back({t.ref_ns, s.range, t.observation});
  }
  std::sort(answers.begin(), answers.end());
  size_t flips = 0;
  for (size_t i = 1; i < answers.size(); ++i) {
    const auto& [before, range, observation] = answers[i - 1];
    const auto& [after, next_range, next_observation] = answers[i];
    // Seen from two machines, two answers at about the same time have no order, and are no flip.
    flips += next_range != range && after - before < kFasterThanReportsNs &&
             scene.Compare(scene.Answered(observation), scene.Answered(next_observation)) == Order::kBefore;
  }
  return flips;
}

}  // namespace

Judge::Judge(const Scene& scene, const Graces& graces)
    : scene_(scene),
      graces_(graces),
      neighbours_(std::make_unique<NeighbourIndex>(scene)),
      history_(scene, graces) {}

void Judge::Run() {
  BuildCases();
  JudgeComplaints();
  for (const auto& [region, c] : cases_) JudgeStatements(c);
  JudgeFaceFaults();
  for (auto& [key, cause] : causes_) {
    if (!cause.decided || cause.component != Component::kPd || cause.told_range == kNone) continue;
    if (!cause.region_case->pd_contradicts) FindRefutingNeighbour(cause);
  }
  JudgeSetbacks();
  JudgeVersions();
  JudgeOddRequests();
  JudgeAddresses();
  JudgeHoles();
  DoubtMixedClusters();
  Sort();
}

void Judge::JudgeComplaints() {
  struct Judged {
    const RegionCase* c;
    const CaseComplaint* k;
    Blame blame;
  };
  std::vector<Judged> all;
  std::map<uint32_t, std::set<RegionVersion>> outside_but_for_losses;  // by client
  for (const auto& [region, c] : cases_) {
    for (const CaseComplaint& k : c.complaints) {
      all.push_back({&c, &k, JudgeComplaint(c, k)});
      if (all.back().blame.only_losses) {
        outside_but_for_losses[scene_.ClientHost(k.complaint->observation)].insert(region);
      }
    }
  }
  for (auto& [c, k, blame] : all) {
    const uint32_t i = k->complaint->observation;
    const uint32_t client = scene_.ClientHost(i);
    if (blame.only_losses && outside_but_for_losses[client].size() >= kRegionsThatNoLossExplains) {
      blame.decided = true;
      blame.component = Component::kTidb;
      blame.reason = Reason::kTidbOutsideRoute;
      blame.certain = false;
      blame.weakened = std::move(blame.missing);
      blame.missing.clear();
      blame.suspects.clear();
    }
    Cause& cause =
        CauseFor(*c, blame, client, blame.server != kNone ? blame.server : scene_.ServerEndpoint(i));
    cause.complaints.push_back(*k);
  }
}

void Judge::BuildCases() {
  // Both views of a complaint are one; the view that knows more speaks.
  std::map<std::tuple<uint32_t, uint64_t>, CaseComplaint> logical;
  for (const Complaint& k : scene_.findings.complaints()) {
    const uint32_t l = scene_.pairing.Logical(k.observation);
    CaseComplaint& best = logical[{l, k.region.region_id}];
    const auto rank = [&](const Complaint& x) {
      return std::tuple(!x.version_known, !x.items_known, x.bounds == kNone,
                        x.observation != scene_.Best(l, View::kServer), scene_.At(x.observation).call_id);
    };
    if (best.complaint == nullptr || rank(k) < rank(*best.complaint)) best = {&k, l};
  }
  std::map<RegionVersion, std::vector<CaseComplaint>> by_region;
  for (auto& [key, k] : logical) {
    const uint32_t i = k.complaint->observation;
    k.elsewhere = history_.ElsewhereDuring(scene_.ServerEndpoint(i), k.complaint->region, i).has_value();
    by_region[k.complaint->region].push_back(k);
  }
  around_ = std::make_unique<RequestsAround>(scene_);
  complaint_count_ = logical.size() + scene_.findings.complaints_over_cap();
  for (auto& [region, list] : by_region) {
    std::sort(list.begin(), list.end(), [&](const CaseComplaint& a, const CaseComplaint& b) {
      const auto rank = [&](const CaseComplaint& k) {
        return std::tuple(scene_.ResponseTime(k.complaint->observation),
                          scene_.At(k.complaint->observation).call_id);
      };
      return rank(a) < rank(b);
    });
  }
  std::set<RegionVersion> regions;
  for (const auto& [region, list] : by_region) regions.insert(region);
  for (const FaceFault& f : scene_.findings.face_faults()) {
    regions.insert(f.region);
    faults_of_region_[f.region].push_back(&f);
  }
  for (const auto& [region, entries] : scene_.ledger.entries()) {
    const bool differ = std::any_of(entries.begin(), entries.end(),
                                    [&](const LedgerEntry& e) { return e.range != entries.front().range; });
    if (differ) regions.insert(region);
  }
  for (const auto& [by, commands] : scene_.ledger.served()) {
    const auto entries = scene_.ledger.entries().find(by.region);
    if (entries == scene_.ledger.entries().end()) continue;
    for (const ServedKeys& served : commands) {
      const bool outside =
          std::any_of(entries->second.begin(), entries->second.end(), [&](const LedgerEntry& e) {
            const Range& r = scene_.ledger.ranges().Get(e.range);
            return !r.Contains(AsBytes(served.low)) || !r.Contains(AsBytes(served.high));
          });
      if (outside) regions.insert(by.region);
    }
  }
  for (const RegionVersion& region : regions) {
    const auto list = by_region.find(region);
    cases_.emplace(region, BuildCase(scene_, *neighbours_, region,
                                     list == by_region.end() ? std::vector<CaseComplaint>() : list->second));
  }
}

const RegionCase* Judge::CaseOf(const RegionVersion& region) const {
  const auto it = cases_.find(region);
  return it == cases_.end() ? nullptr : &it->second;
}

void Judge::FindRefutingNeighbour(Cause& cause) {
  const auto neighbour = neighbours_->Refutes(cause.region, scene_.ledger.ranges().Get(cause.told_range));
  if (!neighbour) return;
  for (const Said& s : CaseFor(*neighbour).said) {
    if (!IsPdAnswer(s.source) || s.tellings.empty()) continue;
    cause.neighbour = ToldAt{&s, s.tellings.front()};
    cause.neighbour_region = *neighbour;
    return;
  }
}

std::vector<ToldAt> Judge::ToldBefore(const RegionCase& c, uint32_t client_host, uint32_t logical) const {
  std::vector<ToldAt> out;
  const uint32_t request = scene_.Best(logical, View::kClient);
  for (const Said& s : c.said) {
    if (s.listener_host != client_host || IsReportToPd(s.source) ||
        s.source == StatementSource::kPdSyncRegions) {
      continue;
    }
    for (const Telling& t : s.tellings) {
      // The listener's side tells when it arrived.
      const uint32_t heard = scene_.Best(t.logical, View::kClient);
      if (scene_.Compare(scene_.Answered(heard), scene_.Asked(request)) == Order::kAfter) continue;
      out.push_back({&s, t});
    }
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const ToldAt& a, const ToldAt& b) { return a.telling.ref_ns > b.telling.ref_ns; });
  return out;
}

Judge::Blame Judge::JudgeComplaint(const RegionCase& c, const CaseComplaint& k) const {
  const Complaint& complaint = *k.complaint;
  Blame blame;
  if (complaint.inverted) {
    blame.rule = "0";
    blame.reason = Reason::kTidbMalformed;
    return blame;
  }
  if (!complaint.version_known || (!complaint.items_known && !complaint.complained)) {
    blame.decided = false;
    blame.rule = "15";
    blame.suspects = {Component::kTidb, Component::kPd, Component::kTikv};
    blame.missing.push_back(complaint.version_known
                                ? "the keys of the refused request (cut, over a cap or redacted)"
                                : "the refused request itself: its first bytes were not captured");
    return blame;
  }
  // Rule 4: all that was asked lies inside the bounds that the server itself names.
  const bool named_inside = complaint.bounds != kNone && complaint.complained &&
                            complaint.complained->InsideOf(scene_.ledger.ranges().Get(complaint.bounds));
  if (complaint.bounds != kNone && complaint.items_known && complaint.all_inside_bounds) {
    blame.component = Component::kTikv;
    blame.rule = "4";
    blame.reason = Reason::kTikvInsideBounds;
    if (!named_inside && complaint.complained && !complaint.complained_in_request) {
      const std::string& command = scene_.log.ShortMethod(scene_.At(complaint.observation));
      blame.certain = command.find("Coprocessor") != std::string::npos;
      if (!blame.certain)
        blame.weakened.push_back("the refused key stands in no part of the request that we read");
    }
    return blame;
  }
  const std::vector<Item> items = DisputedItems(complaint);
  const auto range = [&](uint32_t r) -> const Range& { return scene_.ledger.ranges().Get(r); };
  if (items.empty()) {
    blame.decided = false;
    blame.rule = "15";
    blame.suspects = {Component::kTidb, Component::kPd, Component::kTikv};
    blame.missing.push_back("the refused key: the text is redacted and the request names none");
    return blame;
  }
  const std::vector<ToldAt> told = ToldBefore(c, scene_.ClientHost(complaint.observation), k.logical);
  std::vector<ToldAt> holding;
  for (const ToldAt& t : told) {
    if (AllInside(items, range(t.said->range))) holding.push_back(t);
  }
  // A store that is at another version itself has to say so, whatever the key (rule 6).
  if (k.elsewhere && (!holding.empty() || told.empty())) {
    blame.component = Component::kTikv;
    blame.rule = "6";
    blame.reason = Reason::kTikvEpochUnchecked;
    return blame;
  }
  // The range is known and holds the key: it does not matter what the client was told. Known from PD alone,
  // because another store contradicts itself, it is PD's word against this one's.
  const bool own_words = ContradictsItself(c, complaint);
  const bool stores_know = c.StoresKnow();
  if (c.truth && AllInside(items, range(*c.truth)) && *c.truth != complaint.bounds &&
      (own_words || stores_know || !c.tikv_contradicts)) {
    blame.component = Component::kTikv;
    blame.rule = told.empty() ? "5" : "3";
    blame.reason = Reason::kTikvNarrow;
    blame.certain = own_words || stores_know;
    if (!blame.certain) blame.weakened.push_back("the store is refuted by PD alone");
    return blame;
  }
  if (!holding.empty()) return JudgeDispute(c, k, holding, items);
  if (!told.empty()) return JudgeOutsideRoute(c, k, items);
  return JudgeWithoutRoute(c, k, items);
}

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
    if (Flips(scene_, c, pd) < kFlipsThatNoLossExplains) return std::nullopt;
    blame.certain = false;
    blame.weakened.insert(blame.weakened.end(), hidden.begin(), hidden.end());
  }
  if (c.pd_contradicts) return blame;
  // PD's own answers about a neighbour leave no room for it.
  if (neighbours_->Refutes(c.region, scene_.ledger.ranges().Get(range))) return blame;
  // What a store had told PD is the truth, whatever a store said besides. But a store that contradicts itself
  // may have told PD this range, too, before anybody looked, and PD keeps the first report of a version.
  if (c.truth && c.reported_ranges.contains(*c.truth) && c.against_report.contains(range)) {
    if (c.tikv_contradicts) {
      blame.certain = false;
      blame.weakened.push_back(
          "a store contradicts itself about this version, and may have told PD this range earlier");
    }
    return blame;
  }
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
      scene_.Compare(scene_.Asked(reported->observation), scene_.Answered(answered->observation)) !=
          Order::kBefore) {
    return std::nullopt;
  }
  blame.reason = Reason::kPdWrongRange;
  blame.right_range = bounds;
  return blame;
}

bool Judge::ContradictsItself(const RegionCase& c, const Complaint& complaint) const {
  return c.contradicting_stores.contains(scene_.ServerHost(complaint.observation));
}

// Two stores differ about one version, each true to itself: one of them is wrong, and nobody knows which.
Judge::Blame Judge::StoresDiffer(const char* rule) {
  Blame blame;
  blame.decided = false;
  blame.rule = rule;
  blame.suspects = {Component::kTikv};
  blame.missing.push_back("a third witness: two stores differ, each true to itself");
  return blame;
}

// A store's own statement that holds all of it, rather of a store that contradicts itself.
const Said* Judge::StoreThatSaid(const RegionCase& c, const std::vector<Item>& items) const {
  const Said* found = nullptr;
  for (const Said& s : c.said) {
    if (IsPdAnswer(s.source) || !AllInside(items, scene_.ledger.ranges().Get(s.range))) continue;
    if (found == nullptr || (!c.contradicting_stores.contains(found->speaker_host) &&
                             c.contradicting_stores.contains(s.speaker_host))) {
      found = &s;
    }
  }
  return found;
}

// The key lies in a range that the client was told, and the server refuses it: one of the two is wrong.
Judge::Blame Judge::JudgeDispute(const RegionCase& c, const CaseComplaint& k,
                                 const std::vector<ToldAt>& holding, const std::vector<Item>& items) const {
  const uint32_t used = holding.front().said->range;
  const bool from_pd = std::any_of(holding.begin(), holding.end(), [&](const ToldAt& t) {
    return IsPdAnswer(t.said->source) && c.PdInvented(t.said->range);
  });
  // The truth, where it is known, does not hold the key: then whoever said so is wrong.
  if (c.truth || !c.tikv_contradicts) {
    for (const ToldAt& t : holding) {
      if (!IsPdAnswer(t.said->source)) continue;
      if (auto pd = BlamePd(c, t.said->range, k.complaint->bounds)) return *pd;
    }
  }
  Blame blame;
  blame.told_range = used;
  const bool own_words = ContradictsItself(c, *k.complaint);
  if (!from_pd || (!c.truth && own_words && !c.pd_contradicts)) {
    // A store told the range to PD or to the client, or this one contradicts itself.
    blame.component = Component::kTikv;
    blame.rule = "3";
    blame.reason = Reason::kTikvNarrow;
    const Said* const teller = StoreThatSaid(c, items);
    if (!from_pd && teller != nullptr && (c.truth || !own_words)) {
      const bool refuted = c.truth && !AllInside(items, scene_.ledger.ranges().Get(*c.truth));
      if (refuted || (!c.truth && c.contradicting_stores.contains(teller->speaker_host))) {
        blame.reason = refuted ? Reason::kTikvToldWrong : Reason::kTikvContradictsItself;
        blame.server = ServingEndpoint(teller->speaker_host, teller->speaker);
      } else if (c.tikv_contradicts) {
        return StoresDiffer("3");
      }
    }
    if (!c.tikv_contradicts) {
      // The complaint names no bounds (redacted), and only stores spoke.
      blame.certain = false;
      blame.weakened.push_back("the complaint does not name the store's bounds");
    }
    return blame;
  }
  blame.decided = false;
  blame.rule = "3";
  blame.suspects = {Component::kPd, Component::kTikv};
  const std::string region =
      "region " + std::to_string(c.region.region_id) + " (version " + std::to_string(c.region.version) + ")";
  if (k.complaint->bounds == kNone)
    blame.missing.push_back("the bounds in the store's complaint (redacted or unread)");
  for (const ToldAt& t : holding) {
    if (!IsPdAnswer(t.said->source)) continue;
    const auto hidden_reports = ReportsHidden(t.said->speaker_host);
    blame.missing.insert(blame.missing.end(), hidden_reports.begin(), hidden_reports.end());
    break;
  }
  blame.missing.push_back("a third witness of the range of " + region +
                          ": a heartbeat of its leader to PD, or an answer of PD about it to somebody else");
  return blame;
}

bool Judge::AnsweredWithoutItsKey(const CaseComplaint& k, const std::vector<Item>& items) const {
  const auto faults = faults_of_region_.find(k.complaint->region);
  if (faults == faults_of_region_.end()) return false;
  for (const FaceFault* fault : faults->second) {
    const FaceFault& f = *fault;
    if (f.kind != FaceFault::Kind::kKeyOutside) continue;
    if (scene_.ClientHost(f.observation) != scene_.ClientHost(k.complaint->observation)) continue;
    for (const Item& item : items) {
      if (item.start == f.key || (item.is_range && item.end == f.key)) return true;
    }
  }
  return false;
}

bool Judge::ToldBetween(const RegionVersion& region, uint32_t client_host, uint32_t from, uint32_t to) const {
  const auto entries = scene_.ledger.entries().find(region);
  if (entries == scene_.ledger.entries().end()) return false;
  for (const LedgerEntry& e : entries->second) {
    if (scene_.hosts.OfEndpoint(e.listener) != client_host) continue;
    if (e.has_gap()) return true;
    for (const StatementUse& use : e.uses) {
      // A little before the first request was sent counts, too: the client needs time to act.
      Event told = scene_.Answered(use.observation);
      if (told.t_ns == kNoTime) return true;
      told.t_ns += kToldMarginNs;
      if (scene_.Compare(told, scene_.Asked(from)) == Order::kBefore) continue;
      told.t_ns -= 2 * kToldMarginNs;
      if (scene_.Compare(told, scene_.Asked(to)) != Order::kAfter) return true;
    }
  }
  return false;
}

bool Judge::KnewBetter(const CaseComplaint& k) const {
  const uint32_t q = k.complaint->observation;
  const uint32_t client = scene_.ClientHost(q);
  const NeighbourIndex::Holders holders = neighbours_->HoldersOf(*k.complaint);
  for (const RegionVersion& right : holders.by_all) {
    if (right.region_id == k.complaint->region.region_id) continue;
    const auto [before, after] = around_->Of(q, right);
    if (before == kNone || after == kNone ||
        scene_.At(after).req_first - scene_.At(before).req_first > kKnewBetterWithinNs) {
      continue;
    }
    bool told = ToldBetween(k.complaint->region, client, before, after);
    for (const RegionVersion& place : holders.by_some)
      told = told || ToldBetween(place, client, before, after);
    if (!told) return true;
  }
  return false;
}

// Rule 2: the client was told the range and asked for a key outside of it.
Judge::Blame Judge::JudgeOutsideRoute(const RegionCase& c, const CaseComplaint& k,
                                      const std::vector<Item>& items) const {
  Blame blame;
  const uint32_t client = scene_.ClientHost(k.complaint->observation);
  if (AnsweredWithoutItsKey(k, items)) {
    blame.component = Component::kPd;
    blame.rule = "1";
    blame.reason = Reason::kPdFaceFault;
    return blame;
  }
  const auto hidden = NotCovered(client, scene_.ServerHost(k.complaint->observation));
  // PD lied about this region to somebody in a way that would explain the request.
  const bool explained = std::any_of(c.said.begin(), c.said.end(), [&](const Said& s) {
    return IsPdAnswer(s.source) && AllInside(items, scene_.ledger.ranges().Get(s.range));
  });
  const auto unread = Unread(client);
  const auto lost = Lost(client, k.logical);
  const bool blind = !unread.empty() || (!lost.empty() && !KnewBetter(k));
  if (!hidden.empty() || explained || blind) {
    blame.decided = false;
    blame.rule = "2";
    blame.suspects = {Component::kTidb, Component::kPd};
    blame.missing = hidden;
    blame.missing.insert(blame.missing.end(), unread.begin(), unread.end());
    blame.missing.insert(blame.missing.end(), lost.begin(), lost.end());
    blame.only_losses = hidden.empty() && !explained && unread.empty();
    if (explained) {
      blame.missing.push_back("proof that PD did not give " + HostText(client) +
                              ", too, the wide range that it gave to others");
    }
    return blame;
  }
  blame.component = Component::kTidb;
  blame.rule = "2";
  blame.reason = Reason::kTidbOutsideRoute;
  blame.weakened = lost;
  blame.certain = lost.empty();
  return blame;
}

// Rule 5: nothing that told the client about this (region, version) was captured.
Judge::Blame Judge::JudgeWithoutRoute(const RegionCase& c, const CaseComplaint& k,
                                      const std::vector<Item>& items) const {
  Blame blame;
  const uint32_t client = scene_.ClientHost(k.complaint->observation);
  const auto range = [&](uint32_t r) -> const Range& { return scene_.ledger.ranges().Get(r); };
  bool pd_holds = false;
  bool store_holds = false;
  for (const Said& s : c.said) {
    if (!AllInside(items, range(s.range))) continue;
    (IsPdAnswer(s.source) && c.PdInvented(s.range) ? pd_holds : store_holds) = true;
    blame.told_range = s.range;
  }
  if (AnsweredWithoutItsKey(k, items)) {
    blame.component = Component::kPd;
    blame.rule = "1";
    blame.reason = Reason::kPdFaceFault;
    return blame;
  }
  if (c.tikv_contradicts && !c.pd_contradicts) {
    // What one store says of itself is nothing against another one, nor is what PD says: that may be the
    // wrong key's reason. A refusal by the true bounds is right.
    const uint32_t bounds = k.complaint->bounds;
    const bool own_words = ContradictsItself(c, *k.complaint);
    const bool stores_know = c.StoresKnow();
    const bool refuted = bounds != kNone && (!c.truth || *c.truth != bounds) && (own_words || stores_know);
    const Said* const teller = StoreThatSaid(c, items);
    const bool told_wrong = teller != nullptr && c.truth && !AllInside(items, range(*c.truth)) &&
                            (stores_know || c.contradicting_stores.contains(teller->speaker_host));
    if (refuted || told_wrong || (teller != nullptr && own_words)) {
      blame.component = Component::kTikv;
      blame.rule = "5";
      blame.reason = told_wrong ? Reason::kTikvToldWrong : Reason::kTikvNarrow;
      if (told_wrong) blame.server = ServingEndpoint(teller->speaker_host, teller->speaker);
      blame.certain = refuted;  // its own words or deeds refute its bounds
      blame.weakened.push_back("the answer that gave " + HostText(client) + " this route was not captured");
      return blame;
    }
  }
  blame.told_range = kNone;
  blame.decided = false;
  blame.rule = "5";
  const auto hidden = NotCovered(client, scene_.ServerHost(k.complaint->observation));
  const bool refused_by_truth = c.truth && *c.truth == k.complaint->bounds;
  if (pd_holds && ((c.pd_contradicts && !c.tikv_contradicts) || (refused_by_truth && !store_holds))) {
    // PD gave the wrong range to others; whether to this client, too, was not seen.
    blame.suspects = {Component::kTidb, Component::kPd};
    blame.missing = hidden;
    blame.missing.push_back("the answer that gave " + HostText(client) + " this route");
    return blame;
  }
  if (pd_holds || store_holds) {
    blame.suspects = {Component::kPd, Component::kTikv};
    blame.missing = hidden;
    blame.missing.push_back("a third witness of the range of region " + std::to_string(c.region.region_id) +
                            " (version " + std::to_string(c.region.version) +
                            "): a heartbeat of its leader to PD, or another answer of PD about it");
    return blame;
  }
  const bool clear = hidden.empty() && Unread(client).empty() && Lost(client, k.logical).empty();
  if (clear && WholeLifeSeen(client) && !c.said.empty()) {
    blame.decided = true;
    blame.component = Component::kTidb;
    blame.reason = Reason::kTidbNeverTold;
    blame.certain = false;
    blame.weakened.push_back("no message that told " + HostText(client) + " about this region was seen");
    return blame;
  }
  if (clear && KnewBetter(k)) {
    blame.decided = true;
    blame.component = Component::kTidb;
    blame.reason = Reason::kTidbKnewBetter;
    blame.certain = false;
    blame.weakened.push_back(
        "the answer that gave " + HostText(client) +
        " its routes was not captured; it sent this key's neighbours to another region before "
        "and after, and was told nothing in between");
    return blame;
  }
  if (k.complaint->unsorted) {
    blame.decided = true;
    blame.component = Component::kTidb;
    blame.rule = "0";
    blame.reason = Reason::kTidbUnsorted;
    blame.certain = false;
    blame.weakened.push_back("the answer that gave " + HostText(client) + " its route was not captured");
    return blame;
  }
  blame.suspects = {Component::kTidb, Component::kPd};
  blame.missing = hidden;
  if (hidden.empty()) {
    blame.missing.push_back("the answer from which " + HostText(client) + " learnt region " +
                            std::to_string(c.region.region_id) + " (version " +
                            std::to_string(c.region.version) +
                            "): it came before the capture began, or could not be read");
  }
  if (c.said.empty()) {
    blame.missing.push_back("any statement about that region and version: a heartbeat, or an answer of PD");
  }
  return blame;
}

void Judge::JudgeStatements(const RegionCase& c) {
  bool blamed_pd = false;
  // Of each range that stores state, where nobody knows which of the stores is wrong.
  std::map<uint32_t, const Said*> differing;
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
      // A store that said the same all the time does not answer for another one that did not.
      if (!c.truth && !c.contradicting_stores.contains(s.speaker_host)) {
        if (c.contradicting_stores.empty() && !s.tellings.empty()) differing.emplace(s.range, &s);
        continue;
      }
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
  if (differing.size() > 1 && c.complaints.empty()) {
    const Said& first = *differing.begin()->second;
    Cause& cause = CauseFor(c, StoresDiffer("0.1"), first.listener_host,
                            ServingEndpoint(first.speaker_host, first.speaker));
    for (const auto& [range, s] : differing) cause.wrong.push_back({s, s->tellings.front()});
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
    RegionVersion left_out;
    std::optional<ToldAt> knew;
    if (f.kind == FaceFault::Kind::kQuietHole && !(knew = LeftOut(f, left_out))) continue;
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
      } else if (knew) {
        blame.certain = false;
        blame.weakened.push_back(
            "PD may have dropped the region for a moment for a report that was not seen");
      }
      cause = &CauseFor(*c, blame, client, scene_.ServerEndpoint(f.observation));
      if (knew) {
        cause->neighbour = knew;
        cause->neighbour_region = left_out;
      }
    }
    cause->faults.push_back(&f);
  }
}

Cause* Judge::PdCauseOf(uint32_t client_host, const RegionVersion& region) {
  for (Cause* cause : causes_of_region_[region]) {
    if (cause->decided && cause->component == Component::kPd && cause->client_host == client_host)
      return cause;
  }
  return nullptr;
}

Cause* Judge::TikvCauseOf(uint32_t server, const RegionVersion& region, uint32_t client_host) {
  Cause* any = nullptr;
  for (Cause* cause : causes_of_region_[region]) {
    if (!cause->decided || cause->component != Component::kTikv || cause->server != server) continue;
    if (cause->client_host == client_host) return cause;
    if (any == nullptr) any = cause;
  }
  return any;
}

Cause& Judge::CauseFor(const RegionCase& c, const Blame& blame, uint32_t client_host, uint32_t server) {
  std::string key = blame.decided ? ComponentName(blame.component) : "~";
  for (Component s : blame.suspects) key += std::string(",") + ComponentName(s);
  key += "|" + std::string(blame.rule) + "|" + FormatAddress(scene_.hosts[client_host].address) + "|" +
         scene_.hosts.EndpointText(scene_.log, server) + "|" + std::to_string(c.region.region_id) + "|" +
         std::to_string(c.region.version);
  auto [it, fresh] = causes_.try_emplace(key);
  Cause& cause = it->second;
  if (fresh) {
    cause.decided = blame.decided;
    cause.component = blame.component;
    cause.suspects = blame.suspects;
    cause.rule = blame.rule;
    cause.reason = blame.reason;
    cause.client_host = client_host;
    cause.server = server;
    cause.region = c.region;
    cause.region_case = &c;
    cause.told_range = blame.told_range;
    cause.right_range = blame.right_range != kNone ? blame.right_range : c.truth.value_or(kNone);
    auto& of_region = causes_of_region_[c.region];
    of_region.push_back(&cause);
    // In the order of their keys, whatever came first.
    std::sort(of_region.begin(), of_region.end(), [&](const Cause* a, const Cause* b) {
      const auto rank = [&](const Cause* x) {
        return std::tuple(x->rule != "3", x->rule, scene_.hosts[x->client_host].address,
                          scene_.hosts.EndpointText(scene_.log, x->server));
      };
      return rank(a) < rank(b);
    });
  }
  if (cause.told_range == kNone) cause.told_range = blame.told_range;
  cause.certain |= blame.certain;
  cause.weakened.insert(blame.weakened.begin(), blame.weakened.end());
  cause.missing.insert(blame.missing.begin(), blame.missing.end());
  return cause;
}

void Judge::Sort() {
  for (auto& [key, cause] : causes_) {
    if (cause.certain) cause.weakened.clear();
    std::sort(cause.wrong.begin(), cause.wrong.end(), [&](const ToldAt& a, const ToldAt& b) {
      return std::tuple(a.telling.ref_ns, scene_.At(a.telling.observation).call_id, a.telling.index) <
             std::tuple(b.telling.ref_ns, scene_.At(b.telling.observation).call_id, b.telling.index);
    });
    sorted_.push_back(&cause);
  }
  // Worst first: certain before inferred, then the one with more that shows it.
  const auto weight = [](const Cause& c) {
    return c.complaints.size() + c.wrong.size() + c.faults.size() + c.served.size();
  };
  std::stable_sort(sorted_.begin(), sorted_.end(), [&](const Cause* a, const Cause* b) {
    const auto rank = [&](const Cause& c) {
      return std::tuple(!c.decided, !c.certain, c.complaints.empty(), ~weight(c));
    };
    return rank(*a) < rank(*b);
  });
}

}  // namespace keytrail::correlate
