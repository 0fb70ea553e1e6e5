#include "collector/correlate/region_case.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <tuple>

namespace keytrail::correlate {
namespace {

// Looking back for ranges that start before a place and reach into it stops after so many.
constexpr size_t kMostLookedBack = 64;
// A report takes a moment until PD's tree holds it.
constexpr int64_t kSettledNs = 1'000'000'000;

View SpeakerSide(StatementSource source) {
  return IsReportToPd(source) ? View::kClient : View::kServer;
}

int64_t SpokenTime(const Scene& scene, StatementSource source, uint32_t observation) {
  return IsReportToPd(source) ? scene.RequestTime(observation) : scene.ResponseTime(observation);
}

// One distinct statement of all agents' entries, each telling once.
std::vector<Said> MergeEntries(const Scene& scene, const RouteLedger::Entries& entries) {
  using Key = std::tuple<Range, uint8_t, IpAddress, IpAddress>;
  std::map<Key, Said> merged;
  std::map<Key, std::map<uint16_t, uint64_t>> counts;
  for (const LedgerEntry& e : entries) {
    const uint32_t speaker_host = scene.hosts.OfEndpoint(e.speaker);
    const uint32_t listener_host = scene.hosts.OfEndpoint(e.listener);
    const Key key{scene.ledger.ranges().Get(e.range), static_cast<uint8_t>(e.source),
                  scene.hosts[speaker_host].address, scene.hosts[listener_host].address};
    Said& said = merged[key];
    const auto& endpoints = scene.log.endpoints();
    if (said.speaker == kNone || endpoints[e.speaker] < endpoints[said.speaker]) said.speaker = e.speaker;
    said.range = e.range;
    said.source = e.source;
    said.speaker_host = speaker_host;
    said.listener_host = listener_host;
    counts[key][e.agent] += e.count;
    for (const StatementUse& use : e.uses) {
      Telling t;
      t.logical = scene.pairing.Logical(use.observation);
      t.observation = use.observation;
      t.index = use.index;
      said.tellings.push_back(t);
    }
  }
  std::vector<Said> out;
  for (auto& [key, said] : merged) {
    const auto rank = [&](const Telling& t) {
      return std::tuple(t.logical, t.observation != scene.Best(t.logical, SpeakerSide(said.source)),
                        t.observation, t.index);
    };
    std::sort(said.tellings.begin(), said.tellings.end(),
              [&](const Telling& a, const Telling& b) { return rank(a) < rank(b); });
    said.tellings.erase(
        std::unique(said.tellings.begin(), said.tellings.end(),
                    [](const Telling& a, const Telling& b) { return a.logical == b.logical; }),
        said.tellings.end());
    for (Telling& t : said.tellings) t.ref_ns = SpokenTime(scene, said.source, t.observation);
    std::sort(said.tellings.begin(), said.tellings.end(), [&](const Telling& a, const Telling& b) {
      return std::tuple(a.ref_ns, scene.At(a.observation).call_id) <
             std::tuple(b.ref_ns, scene.At(b.observation).call_id);
    });
    said.count = said.tellings.size();
    for (const auto& [agent, count] : counts[key]) said.count = std::max(said.count, count);
    out.push_back(std::move(said));
  }
  return out;
}

// Did this store refuse a key of this region to the same command? Then it does check that command.
bool RefusedByCommand(const Scene& scene, const RegionCase& c, uint32_t server, const ServedKeys& served) {
  return std::any_of(c.complaints.begin(), c.complaints.end(), [&](const CaseComplaint& k) {
    const uint32_t i = k.complaint->observation;
    return scene.ServerEndpoint(i) == server && scene.At(i).method == served.method &&
           scene.At(i).command == served.command;
  });
}

// Keys that a store served under this (region, version) outside of what it states itself. Where everybody
// agrees on a range without the key, the request was wrong and the store merely did not check: no proof
// against the store's statement. Where nobody but the store spoke, it must have refused the same command.
void FindServedOutside(const Scene& scene, RegionCase& c,
                       const std::set<std::pair<uint32_t, uint32_t>>& stated) {
  std::set<uint32_t> all = c.pd_ranges;
  all.insert(c.tikv_ranges.begin(), c.tikv_ranges.end());
  std::set<uint32_t> servers;
  for (const auto& [server, range] : stated) servers.insert(server);
  for (uint32_t server : servers) {
    const auto it = scene.ledger.served().find(ServedBy{c.region, server});
    if (it == scene.ledger.served().end()) continue;
    for (const ServedKeys& served : it->second) {
      for (const auto& [key, observation] : {std::pair(&served.low, served.low_observation),
                                             std::pair(&served.high, served.high_observation)}) {
        const bool held_by_some = std::any_of(all.begin(), all.end(), [&](uint32_t r) {
          return scene.ledger.ranges().Get(r).Contains(AsBytes(*key));
        });
        if (!held_by_some && (!c.pd_ranges.empty() || !RefusedByCommand(scene, c, server, served))) continue;
        for (const auto& [by, range] : stated) {
          if (by != server || scene.ledger.ranges().Get(range).Contains(AsBytes(*key))) continue;
          c.served_outside.push_back({*key, observation, server, range});
        }
      }
    }
  }
  std::sort(c.served_outside.begin(), c.served_outside.end(),
            [&](const ServedOutside& a, const ServedOutside& b) {
              const auto rank = [&](const ServedOutside& s) {
                return std::tuple(scene.ResponseTime(s.observation), scene.At(s.observation).call_id, s.key,
                                  scene.ledger.ranges().Get(s.range));
              };
              return rank(a) < rank(b);
            });
}

// Removes every element for which `wrong` holds, unless none would be left.
template <typename F>
void KeepIfAny(std::vector<uint32_t>& ranges, F wrong) {
  std::vector<uint32_t> kept;
  std::copy_if(ranges.begin(), ranges.end(), std::back_inserter(kept), [&](uint32_t r) { return !wrong(r); });
  if (!kept.empty()) ranges = std::move(kept);
}

std::optional<uint32_t> Only(const std::vector<uint32_t>& ranges) {
  return ranges.size() == 1 ? std::optional(ranges.front()) : std::nullopt;
}

std::vector<uint32_t> Among(const std::vector<uint32_t>& ranges, const std::set<uint32_t>& of) {
  std::vector<uint32_t> out;
  std::copy_if(ranges.begin(), ranges.end(), std::back_inserter(out),
               [&](uint32_t r) { return of.contains(r); });
  return out;
}

// PD answered `range`, of which no store told it, after a store had told it another one: it is no older
// report that PD still held. A version has no older one if its birth was reported before; PD only logs that
// report.
bool InventedAgainstReport(const Scene& scene, const RegionCase& c, uint32_t range) {
  if (!c.PdInvented(range)) return false;
  for (const Said& answer : c.said) {
    if (!IsPdAnswer(answer.source) || answer.range != range || answer.tellings.empty()) continue;
    const Event asked = scene.Asked(answer.tellings.back().observation);
    for (const Said& report : c.said) {
      if (!IsReportToPd(report.source)) continue;
      for (const Telling& telling : report.tellings) {
        const std::string& method = scene.log.method(scene.At(telling.observation));
        const bool birth = method == "/pdpb.PD/ReportBatchSplit" || method == "/pdpb.PD/ReportSplit";
        if (!birth && report.source != StatementSource::kHeartbeat)
          continue;  // it asks to split this version
        const Event before{asked.observation, asked.t_ns - (birth ? 0 : kSettledNs)};
        if (scene.Compare(scene.Asked(telling.observation), before) == Order::kBefore) return true;
      }
    }
  }
  return false;
}

// Which of the stated ranges is true. A component's own statements never decide for it alone: what decides
// is a contradiction of one component together with the other's word, or what was served.
std::optional<uint32_t> FindTruth(const Scene& scene, const NeighbourIndex& neighbours, const RegionCase& c) {
  std::vector<uint32_t> alive(c.pd_ranges.begin(), c.pd_ranges.end());
  for (uint32_t r : c.tikv_ranges) {
    if (!c.pd_ranges.contains(r)) alive.push_back(r);
  }
  if (alive.size() == 1) {
    return !c.pd_ranges.empty() && !c.tikv_ranges.empty() ? Only(alive) : std::nullopt;
  }
  const auto range = [&](uint32_t r) -> const Range& { return scene.ledger.ranges().Get(r); };
  if (c.pd_contradicts || c.tikv_contradicts) {
    for (uint32_t server : scene.store_endpoints) {
      const auto it = scene.ledger.served().find(ServedBy{c.region, server});
      if (it == scene.ledger.served().end()) continue;
      for (const ServedKeys& served : it->second) {
        KeepIfAny(alive, [&](uint32_t r) { return !range(r).Contains(AsBytes(served.low)); });
        KeepIfAny(alive, [&](uint32_t r) { return !range(r).Contains(AsBytes(served.high)); });
      }
    }
    KeepIfAny(alive, [&](uint32_t r) { return c.against_report.contains(r); });
    if (auto one = Only(alive)) return one;
    // What PD repeats after a store's report is that report once more. Against a store only what PD knew
    // otherwise counts.
    std::set<uint32_t> pd = c.pd_ranges;
    if (c.tikv_contradicts) std::erase_if(pd, [&](uint32_t r) { return c.reported_ranges.contains(r); });
    if (auto one = Only(Among(Among(alive, c.tikv_ranges), pd))) return one;
    if (!c.tikv_contradicts) {
      if (auto one = Only(Among(alive, c.tikv_ranges))) return one;
    }
    // PD's word alone, where no store had told it any other range that may be true.
    if (!c.pd_contradicts && Among(alive, c.reported_ranges).empty()) {
      if (auto one = Only(Among(alive, pd))) return one;
    }
  }
  KeepIfAny(alive, [&](uint32_t r) {
    return c.PdInvented(r) && neighbours.Refutes(c.region, range(r)).has_value();
  });
  if (auto one = Only(alive)) return one;
  if (!c.pd_contradicts || c.tikv_contradicts) return std::nullopt;
  // PD is wrong in any case; which of its answers is, its neighbours tell.
  std::map<uint32_t, size_t> conflicts;
  size_t least = std::numeric_limits<size_t>::max();
  for (uint32_t r : alive) least = std::min(least, conflicts[r] = neighbours.Conflicts(c.region, range(r)));
  KeepIfAny(alive, [&](uint32_t r) { return conflicts[r] > least; });
  return Only(alive);
}

// A store told PD `range` between the two times. If not all reports of it were kept, one may have been.
bool MayBeReportedBetween(const Scene& scene, const RegionCase& c, uint32_t range, const Telling& first,
                          const Telling& last) {
  for (const Said& report : c.said) {
    if (!IsReportToPd(report.source) || report.range != range) continue;
    if (report.count != report.tellings.size()) return true;
    for (const Telling& telling : report.tellings) {
      const Event told = scene.Asked(telling.observation);
      if (scene.Compare(told, scene.Asked(first.observation)) != Order::kBefore &&
          scene.Compare(told, scene.Answered(last.observation)) != Order::kAfter) {
        return true;
      }
    }
  }
  return false;
}

// PD answered one range and later another, and no store had told it the second one in between: its tree does
// not turn by itself, neither to something new nor back.
bool MovedOnByItself(const Scene& scene, const RegionCase& c) {
  for (const Said& later : c.said) {
    if (!IsPdAnswer(later.source)) continue;
    for (const Said& earlier : c.said) {
      if (!IsPdAnswer(earlier.source) || earlier.range == later.range ||
          earlier.speaker_host != later.speaker_host || earlier.tellings.empty() || later.tellings.empty()) {
        continue;
      }
      const Telling& first = earlier.tellings.front();
      const Telling& last = later.tellings.back();
      // Answered before the other was even asked for.
      if (scene.Compare(scene.Answered(first.observation), scene.Asked(last.observation)) != Order::kBefore) {
        continue;
      }
      if (!MayBeReportedBetween(scene, c, later.range, first, last)) return true;
    }
  }
  return false;
}

}  // namespace

bool RegionCase::OneRange() const {
  std::set<uint32_t> all = pd_ranges;
  all.insert(tikv_ranges.begin(), tikv_ranges.end());
  return all.size() <= 1;
}

NeighbourIndex::NeighbourIndex(const Scene& scene) : scene_(scene) {
  std::set<uint32_t> pds;
  for (const auto& [region, entries] : scene.ledger.entries()) {
    for (const LedgerEntry& e : entries) {
      if (IsPdAnswer(e.source)) pds.insert(scene.hosts.OfEndpoint(e.speaker));
      const Range& r = scene.ledger.ranges().Get(e.range);
      places_.push_back({r.start, r.end, region});
    }
  }
  one_pd_ = pds.size() <= 1;
  const auto key = [](const Place& p) { return std::tie(p.start, p.end, p.region); };
  std::sort(places_.begin(), places_.end(), [&](const Place& a, const Place& b) { return key(a) < key(b); });
  places_.erase(std::unique(places_.begin(), places_.end(),
                            [&](const Place& a, const Place& b) { return key(a) == key(b); }),
                places_.end());
  for (const auto& [by, commands] : scene.ledger.served()) {
    for (const ServedKeys& keys : commands) {
      served_.push_back({keys.low, keys.high, by.region, keys.method, keys.command});
    }
  }
  const auto served_key = [](const ServedPlace& p) {
    return std::tie(p.low, p.high, p.region, p.method, p.command);
  };
  std::sort(served_.begin(), served_.end(),
            [&](const ServedPlace& a, const ServedPlace& b) { return served_key(a) < served_key(b); });
}

std::set<RegionVersion> NeighbourIndex::ServersOf(const std::string& key, uint16_t method,
                                                  uint16_t command) const {
  std::set<RegionVersion> out;
  auto it = std::upper_bound(served_.begin(), served_.end(), key,
                             [](const std::string& k, const ServedPlace& p) { return k < p.low; });
  for (size_t looked = 0; it != served_.begin() && looked < kMostLookedBack; ++looked) {
    --it;
    if (it->high < key || it->method != method || it->command != command) continue;
    const auto entries = scene_.ledger.entries().find(it->region);
    const bool refuted =
        entries != scene_.ledger.entries().end() &&
        std::any_of(entries->second.begin(), entries->second.end(), [&](const LedgerEntry& e) {
          return !scene_.ledger.ranges().Get(e.range).Contains(AsBytes(key));
        });
    if (!refuted) out.insert(it->region);
  }
  return out;
}

// Places that start inside of `range`, then those before it that may reach into it.
template <typename F>
void NeighbourIndex::ForEachOverlap(const Range& range, F visit) const {
  const auto from =
      std::lower_bound(places_.begin(), places_.end(), range.start,
                       [](const Place& p, const std::string& start) { return p.start < start; });
  for (auto it = from; it != places_.end() && (range.end.empty() || it->start < range.end); ++it) visit(*it);
  size_t looked = 0;
  for (auto it = from; it != places_.begin() && looked < kMostLookedBack; ++looked) {
    --it;
    if (it->end.empty() || it->end > range.start) visit(*it);
  }
}

bool NeighbourIndex::OverlapsAll(const RegionVersion& other, const Range& range) const {
  const auto it = scene_.ledger.entries().find(other);
  if (it == scene_.ledger.entries().end()) return false;
  return std::all_of(it->second.begin(), it->second.end(), [&](const LedgerEntry& e) {
    return scene_.ledger.ranges().Get(e.range).Overlaps(range);
  });
}

NeighbourIndex::Moments NeighbourIndex::PdMoments(const RegionVersion& region) const {
  Moments out;
  const auto it = scene_.ledger.entries().find(region);
  if (it == scene_.ledger.entries().end()) return out;
  for (const LedgerEntry& e : it->second) {
    if (IsReportToPd(e.source) && e.has_gap()) out.all_reports = false;
    for (const StatementUse& use : e.uses) {
      const Event asked = scene_.Asked(use.observation);
      if (IsReportToPd(e.source)) {
        out.reports.push_back(asked);
      } else if (IsPdAnswer(e.source) && scene_.At(use.observation).req_first != kNoTime) {
        out.answers.push_back({scene_.RequestTime(use.observation), scene_.At(use.observation).call_id, asked,
                               scene_.Answered(use.observation)});
      }
    }
  }
  std::sort(out.answers.begin(), out.answers.end(), [](const Answer& a, const Answer& b) {
    return std::tie(a.asked_ref_ns, a.call_id) < std::tie(b.asked_ref_ns, b.call_id);
  });
  return out;
}

bool NeighbourIndex::HeldAround(const Moments& a, const Moments& b) const {
  const auto surely_before = [&](const Event& x, const Event& y) {
    return scene_.Compare(x, y) == Order::kBefore;
  };
  if (!a.all_reports) return false;
  const Event first = a.answers.front().answered;
  std::vector<Event> reports;  // that may have come after the first answer
  for (const Event& r : a.reports) {
    if (!surely_before(r, first)) reports.push_back(r);
  }
  for (const Answer& other : b.answers) {
    if (!surely_before(first, other.asked)) continue;
    const auto again = std::find_if(a.answers.rbegin(), a.answers.rend(),
                                    [&](const Answer& x) { return !surely_before(other.answered, x.asked); });
    if (again == a.answers.rbegin()) continue;
    const Event last = std::prev(again)->answered;
    if (std::all_of(reports.begin(), reports.end(), [&](const Event& r) { return surely_before(last, r); })) {
      return true;
    }
  }
  return false;
}

std::optional<RegionVersion> NeighbourIndex::Refutes(const RegionVersion& region, const Range& range) const {
  if (!one_pd_) return std::nullopt;
  const Moments own = PdMoments(region);
  if (own.answers.empty()) return std::nullopt;
  std::optional<RegionVersion> found;
  ForEachOverlap(range, [&](const Place& p) {
    if (p.region.region_id == region.region_id || (found && *found <= p.region)) return;
    if (!OverlapsAll(p.region, range)) return;
    const Moments other = PdMoments(p.region);
    if (other.answers.empty() || (!HeldAround(own, other) && !HeldAround(other, own))) return;
    found = p.region;
  });
  return found;
}

std::optional<RegionVersion> NeighbourIndex::KnownAround(const Range& hole, uint32_t lookup) const {
  // What was disputed a while ago may still be so: stores repeat their reports every minute.
  constexpr int64_t kDisputedForNs = 120'000'000'000;
  if (!one_pd_ || scene_.At(lookup).req_first == kNoTime) return std::nullopt;
  const Event asked = scene_.Asked(lookup);
  const Event answered = scene_.Answered(lookup);
  std::optional<RegionVersion> found;
  ForEachOverlap(hole, [&](const Place& p) {
    if ((found && *found <= p.region) || !OverlapsAll(p.region, hole)) return;
    // Told with two ranges, it may have been dropped for a neighbour that one of them overlaps.
    const auto& entries = scene_.ledger.entries().at(p.region);
    if (std::any_of(entries.begin(), entries.end(),
                    [&](const LedgerEntry& e) { return e.range != entries.front().range; })) {
      return;
    }
    std::optional<Event> before;  // the last one
    const auto knew = [&](const Event& event) {
      if (!before || scene_.Compare(*before, event) == Order::kBefore) before = event;
    };
    bool after = false;
    for (const Answer& answer : PdMoments(p.region).answers) {
      if (scene_.Compare(answer.answered, asked) == Order::kBefore) knew(answer.answered);
      after |= scene_.Compare(answered, answer.asked) == Order::kBefore;
    }
    // A split report is only logged by PD: its tree grows by heartbeats.
    for (const LedgerEntry& e : entries) {
      if (e.source != StatementSource::kHeartbeat) continue;
      for (const StatementUse& use : e.uses) {
        const Event report = scene_.Asked(use.observation);
        if (scene_.Compare(report, {lookup, asked.t_ns - kSettledNs}) == Order::kBefore) knew(report);
      }
    }
    if (!before || !after) return;
    const Event from{before->observation, before->t_ns - kDisputedForNs};
    if (!MayBeDropped(p.region, Range{p.start, p.end}, from, asked)) found = p.region;
  });
  return found;
}

// A report of another region of this place drops the one that is there from PD's tree.
bool NeighbourIndex::MayBeDropped(const RegionVersion& region, const Range& range, const Event& from,
                                  const Event& to) const {
  bool may = false;
  ForEachOverlap(range, [&](const Place& p) {
    if (may || p.region.region_id == region.region_id) return;
    for (const LedgerEntry& e : scene_.ledger.entries().at(p.region)) {
      if (!IsReportToPd(e.source)) continue;
      may |= e.has_gap();  // those that were not kept may be in between
      for (const StatementUse& use : e.uses) {
        const Event report = scene_.Asked(use.observation);
        may |= scene_.Compare(report, from) != Order::kBefore && scene_.Compare(to, report) != Order::kBefore;
      }
    }
  });
  return may;
}

std::pair<int64_t, int64_t> NeighbourIndex::Spoken(const RegionVersion& region) const {
  std::pair<int64_t, int64_t> out{kNoTime, kNoTime};
  const auto it = scene_.ledger.entries().find(region);
  if (it == scene_.ledger.entries().end()) return out;
  for (const LedgerEntry& e : it->second) {
    for (const StatementUse& use : e.uses) {
      const int64_t t = scene_.ResponseTime(use.observation);
      if (t == kNoTime) continue;
      if (out.first == kNoTime || t < out.first) out.first = t;
      if (out.second == kNoTime || t > out.second) out.second = t;
    }
  }
  return out;
}

size_t NeighbourIndex::Conflicts(const RegionVersion& region, const Range& range) const {
  const auto own = Spoken(region);
  std::set<RegionVersion> conflicts;
  ForEachOverlap(range, [&](const Place& p) {
    if (p.region.region_id == region.region_id || !OverlapsAll(p.region, range)) return;
    const auto other = Spoken(p.region);
    if (other.first <= own.second && own.first <= other.second) conflicts.insert(p.region);
  });
  return conflicts.size();
}

NeighbourIndex::Holders NeighbourIndex::HoldersOf(const std::string& key) const {
  Holders out;
  // The smallest range that begins at the key: reaches those that begin before it, too.
  ForEachOverlap(Range{key, key + std::string(1, '\0')}, [&](const Place& p) {
    if (!Range{p.start, p.end}.Contains(AsBytes(key))) return;
    out.by_some.insert(p.region);
    const auto& entries = scene_.ledger.entries().at(p.region);
    const bool all = std::all_of(entries.begin(), entries.end(), [&](const LedgerEntry& e) {
      return scene_.ledger.ranges().Get(e.range).Contains(AsBytes(key));
    });
    if (all) out.by_all.insert(p.region);
  });
  return out;
}

NeighbourIndex::Holders NeighbourIndex::HoldersOf(const Complaint& complaint) const {
  const std::vector<Item> items = DisputedItems(complaint);
  if (items.size() != 1 || items.front().is_range || complaint.item_count != 1) return {};
  const std::string& key = items.front().start;
  Holders out = HoldersOf(key);
  if (out.by_all.empty()) {
    const Observation& call = scene_.At(complaint.observation);
    out.by_all = ServersOf(key, call.method, call.command);
    out.by_some.insert(out.by_all.begin(), out.by_all.end());
  }
  return out;
}

namespace {

void FindContradictingStores(const Scene& scene, RegionCase& c) {
  std::map<uint32_t, std::set<uint32_t>> ranges;  // by machine
  for (const Said& s : c.said) {
    if (!IsPdAnswer(s.source)) ranges[s.speaker_host].insert(s.range);
  }
  for (const CaseComplaint& k : c.complaints) {
    if (k.complaint->bounds != kNone && !k.elsewhere)
      ranges[scene.ServerHost(k.complaint->observation)].insert(k.complaint->bounds);
  }
  for (const auto& [host, stated] : ranges) {
    if (stated.size() > 1) c.contradicting_stores.insert(host);
  }
  for (const ServedOutside& s : c.served_outside)
    c.contradicting_stores.insert(scene.hosts.OfEndpoint(s.server));
}

}  // namespace

RegionCase BuildCase(const Scene& scene, const NeighbourIndex& neighbours, const RegionVersion& region,
                     std::vector<CaseComplaint> complaints) {
  RegionCase c;
  c.region = region;
  c.complaints = std::move(complaints);
  const auto entries = scene.ledger.entries().find(region);
  if (entries != scene.ledger.entries().end()) c.said = MergeEntries(scene, entries->second);
  // (store's endpoint, range) of what stores state to clients and to PD.
  std::set<std::pair<uint32_t, uint32_t>> stated;
  std::map<uint32_t, std::set<uint32_t>> endpoints_of_host;
  for (uint32_t e : scene.store_endpoints) {
    if (scene.ledger.served().contains(ServedBy{region, e}))
      endpoints_of_host[scene.hosts.OfEndpoint(e)].insert(e);
  }
  for (const Said& s : c.said) {
    if (IsPdAnswer(s.source)) {
      c.pd_ranges.insert(s.range);
      continue;
    }
    c.tikv_ranges.insert(s.range);
    if (IsReportToPd(s.source)) c.reported_ranges.insert(s.range);
    // A machine with one store serves at one endpoint; with more of them nobody knows which store spoke.
    const auto& served_at = endpoints_of_host[s.speaker_host];
    if (served_at.size() == 1) stated.insert({*served_at.begin(), s.range});
  }
  for (const CaseComplaint& k : c.complaints) {
    if (k.complaint->bounds == kNone || k.elsewhere) continue;
    c.tikv_ranges.insert(k.complaint->bounds);
    stated.insert({scene.ServerEndpoint(k.complaint->observation), k.complaint->bounds});
  }
  FindServedOutside(scene, c, stated);
  FindContradictingStores(scene, c);
  c.tikv_contradicts = c.tikv_ranges.size() > 1 || !c.served_outside.empty();
  const auto invented =
      std::count_if(c.pd_ranges.begin(), c.pd_ranges.end(), [&](uint32_t r) { return c.PdInvented(r); });
  c.pd_contradicts = invented > 1 || MovedOnByItself(scene, c);
  std::copy_if(c.pd_ranges.begin(), c.pd_ranges.end(),
               std::inserter(c.against_report, c.against_report.end()),
               [&](uint32_t r) { return InventedAgainstReport(scene, c, r); });
  c.truth = FindTruth(scene, neighbours, c);
  return c;
}

}  // namespace keytrail::correlate
