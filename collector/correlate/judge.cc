#include <algorithm>
#include <tuple>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {
namespace {

// An answer that both ends lost may explain one request outside of its route, not those to several regions.
constexpr size_t kRegionsThatNoLossExplains = 3;

}  // namespace

Judge::Judge(const Scene& scene)
    : scene_(scene), neighbours_(std::make_unique<NeighbourIndex>(scene)) {}

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
  for (const auto& [key, k] : logical) by_region[k.complaint->region].push_back(k);
  for (const Complaint& k : scene_.findings.complaints()) on_connection_[scene_.At(k.observation).connection];
  if (!on_connection_.empty()) {
    for (uint32_t i = 0; i < scene_.log.observations().size(); ++i) {
      const auto it = on_connection_.find(scene_.At(i).connection);
      if (it != on_connection_.end()) it->second.push_back(i);
    }
  }
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

std::vector<ToldAt> Judge::ToldBefore(const RegionCase& c, uint32_t client_host, uint32_t logical) const {
  std::vector<ToldAt> out;
  const uint32_t request = scene_.Best(logical, View::kClient);
  const int64_t asked = scene_.RequestTime(request);
  for (const Said& s : c.said) {
    if (s.listener_host != client_host || IsReportToPd(s.source) ||
        s.source == StatementSource::kPdSyncRegions) {
      continue;
    }
    for (const Telling& t : s.tellings) {
      // The listener's side tells when it arrived.
      const uint32_t heard = scene_.Best(t.logical, View::kClient);
      const int64_t at = scene_.ResponseTime(heard);
      if (at != kNoTime && asked != kNoTime && at - asked > scene_.ClockSlack(heard, request)) continue;
      out.push_back({&s, t});
    }
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const ToldAt& a, const ToldAt& b) { return a.telling.ref_ns > b.telling.ref_ns; });
  return out;
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
