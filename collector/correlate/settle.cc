#include "collector/correlate/settle.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_set>
#include <vector>

#include "collector/correlate/region_case.h"

namespace keytrail::correlate {
namespace {

// A client that went to the right region for a key before and after knew better (Judge::KnewBetter): those
// two requests belong to the complaint. Which regions hold the key is as good as known by now.
void MarkNeighbours(const Scene& scene, uint32_t young, std::vector<bool>& kept) {
  struct Asked {
    const Complaint* complaint;
    std::set<RegionVersion> right;
    std::map<RegionVersion, std::pair<uint32_t, uint32_t>> around;  // before, after
  };
  std::map<uint32_t, std::vector<Asked>> by_connection;
  std::optional<NeighbourIndex> neighbours;  // made if it is needed
  for (const Complaint& c : scene.findings.complaints()) {
    const Observation& o = scene.At(c.observation);
    if (c.observation >= young || c.item_count != 1 || o.req_first == kNoTime) continue;
    if (!neighbours) neighbours.emplace(scene);
    std::set<RegionVersion> right = neighbours->HoldersOf(c).by_all;
    if (!right.empty()) by_connection[o.connection].push_back({&c, std::move(right), {}});
  }
  if (by_connection.empty()) return;
  for (uint32_t i = 0; i < scene.log.observations().size(); ++i) {
    const Observation& o = scene.At(i);
    if ((o.flags & kErrorFree) == 0 || o.req_first == kNoTime || o.region_id == 0) continue;
    const auto asked = by_connection.find(o.connection);
    if (asked == by_connection.end()) continue;
    for (Asked& a : asked->second) {
      const Observation& q = scene.At(a.complaint->observation);
      const RegionVersion region{o.region_id, o.version};
      if (q.agent != o.agent || !a.right.contains(region)) continue;
      auto& [before, after] = a.around.try_emplace(region, kNone, kNone).first->second;
      if (o.req_first < q.req_first && (before == kNone || o.req_first > scene.At(before).req_first))
        before = i;
      if (o.req_first > q.req_first && (after == kNone || o.req_first < scene.At(after).req_first)) after = i;
    }
  }
  for (const auto& [connection, list] : by_connection) {
    for (const Asked& a : list) {
      for (const auto& [region, around] : a.around) {
        if (around.first != kNone) kept[around.first] = true;
        if (around.second != kNone) kept[around.second] = true;
      }
    }
  }
}

}  // namespace

void Settle(const Scene& scene, size_t window, CallLog& log, RouteLedger& ledger, Findings& findings,
            Settled& settled) {
  const auto count = static_cast<uint32_t>(log.observations().size());
  const auto young = static_cast<uint32_t>(count - std::min<size_t>(count, window));
  findings.Settle(log, scene.pairing, young);
  std::vector<uint32_t> ranges;
  if (ledger.over_cap()) {
    std::unordered_set<RegionVersion, RegionVersionHash> needed;
    findings.MarkRegions(needed);
    std::vector<bool> range_used(ledger.ranges().size());
    findings.MarkRanges(range_used);
    ranges = ledger.Shrink(needed, std::move(range_used));
  }
  std::vector<bool> kept(count);
  std::fill(kept.begin() + young, kept.end(), true);
  ledger.Mark(kept);
  findings.Mark(scene.pairing, kept);
  MarkNeighbours(scene, young, kept);
  settled.Count(log, scene.pairing, [&](uint32_t i) { return !kept[i]; });
  std::vector<uint32_t> renumbered(count, kNone);
  uint32_t next = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (kept[i]) renumbered[i] = next++;
  }
  log.Keep(renumbered);
  ledger.Renumber(renumbered);
  findings.Renumber(renumbered, ranges);
}

}  // namespace keytrail::correlate
