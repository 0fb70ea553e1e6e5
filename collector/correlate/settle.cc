#include "collector/correlate/settle.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <vector>

#include "collector/correlate/region_case.h"
#include "collector/correlate/requests_around.h"

namespace keytrail::correlate {
namespace {

// A client that went to the right region for a key before and after knew better (Judge::KnewBetter): those
// two requests belong to the complaint. Which regions hold the key is as good as known by now.
void MarkNeighbours(const Scene& scene, uint32_t young, std::vector<bool>& kept) {
  std::optional<NeighbourIndex> neighbours;  // made if they are needed
  std::optional<RequestsAround> around;
  for (const Complaint& c : scene.findings.complaints()) {
    if (c.observation >= young || c.item_count != 1) continue;
    if (!neighbours) {
      neighbours.emplace(scene);
      around.emplace(scene);
    }
    for (const RegionVersion& right : neighbours->HoldersOf(c).by_all) {
      const auto [before, after] = around->Of(c.observation, right);
      if (before != kNone) kept[before] = true;
      if (after != kNone) kept[after] = true;
    }
  }
}

}  // namespace

void Settle(const Scene& scene, size_t window, size_t connections, CallLog& log, RouteLedger& ledger,
            Findings& findings, Settled& settled) {
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
  if (log.connections().size() > connections) {
    std::vector<bool> used(log.endpoints().size());
    ledger.MarkEndpoints(used);
    ledger.RenumberEndpoints(log.FoldConnections(std::move(used)));
  }
  findings.Renumber(renumbered, ranges);
}

}  // namespace keytrail::correlate
