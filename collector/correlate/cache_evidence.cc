// What a client's own requests show of its region cache.
#include <algorithm>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {
namespace {

// A cached route lives for minutes; what was used this shortly before and after was there in between.
constexpr int64_t kKnewBetterWithinNs = 60'000'000'000;
constexpr int64_t kToldMarginNs = 5'000'000;

}  // namespace

bool Judge::ToldBetween(const RegionVersion& region, uint32_t client_host, int64_t from, int64_t to) const {
  const auto entries = scene_.ledger.entries().find(region);
  if (entries == scene_.ledger.entries().end()) return false;
  for (const LedgerEntry& e : entries->second) {
    if (scene_.hosts.OfEndpoint(e.listener) != client_host) continue;
    for (const StatementUse& use : e.uses) {
      const int64_t t = scene_.ResponseTime(use.observation);
      if (t == kNoTime || (t >= from - kToldMarginNs && t <= to + kToldMarginNs)) return true;
    }
  }
  return false;
}

bool Judge::KnewBetter(const CaseComplaint& k, const std::vector<Item>& items) const {
  // Only a single key is looked up by itself; others are grouped by the region of the one before.
  if (items.size() != 1 || items.front().is_range || k.complaint->item_count != 1) return false;
  const uint32_t q = k.complaint->observation;
  const auto on_connection = on_connection_.find(scene_.At(q).connection);
  if (on_connection == on_connection_.end()) return false;
  const int64_t asked = scene_.RequestTime(q);
  const uint32_t client = scene_.ClientHost(q);
  const auto holders = neighbours_->HoldersOf(items.front().start);
  for (const RegionVersion& right : holders.by_all) {
    if (right.region_id == k.complaint->region.region_id) continue;
    int64_t before = kNoTime;
    int64_t after = kNoTime;
    for (uint32_t i : on_connection->second) {
      const Observation& o = scene_.At(i);
      if (o.agent != scene_.At(q).agent || o.region_id != right.region_id || o.version != right.version ||
          (o.flags & kErrorFree) == 0 || o.req_first == kNoTime) {
        continue;
      }
      const int64_t t = scene_.RequestTime(i);
      if (t < asked) before = std::max(before, t);
      if (t > asked && (after == kNoTime || t < after)) after = t;
    }
    if (before == kNoTime || after == kNoTime || after - before > kKnewBetterWithinNs) continue;
    bool told = ToldBetween(k.complaint->region, client, before, after);
    for (const RegionVersion& place : holders.by_some)
      told = told || ToldBetween(place, client, before, after);
    if (!told) return true;
  }
  return false;
}

}  // namespace keytrail::correlate
