#include "tests/live/region_cache.h"

#include <algorithm>

#include "tests/live/keys.h"
#include "tests/live/node.h"

namespace keytrail::live {

namespace {

bool Intersect(const metapb::Region& a, const metapb::Region& b) {
  return (a.end_key().empty() || b.start_key() < a.end_key()) &&
         (b.end_key().empty() || a.start_key() < b.end_key());
}

}  // namespace

std::optional<Route> RegionCache::Find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  auto after = by_start_.upper_bound(key);
  if (after == by_start_.begin()) return {};
  const Route& route = std::prev(after)->second;
  if (!Holds(route.region.start_key(), route.region.end_key(), key)) return {};
  return route;
}

std::optional<Route> RegionCache::LeftOf(const metapb::Region& region) const {
  const std::lock_guard lock(mutex_);
  auto at = by_start_.lower_bound(region.start_key());
  if (region.start_key().empty() || at == by_start_.begin()) return {};
  const Route& left = std::prev(at)->second;
  if (left.region.end_key() != region.start_key()) return {};
  return left;
}

std::optional<Route> RegionCache::Current(const metapb::Region& region) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_start_.find(region.start_key());
  if (found == by_start_.end() || !SameVersion(found->second.region, region)) return {};
  return found->second;
}

bool RegionCache::Insert(const Route& route) {
  const std::lock_guard lock(mutex_);
  const metapb::RegionEpoch& epoch = route.region.region_epoch();
  for (const auto& [start, cached] : by_start_) {
    const metapb::RegionEpoch& other = cached.region.region_epoch();
    const bool same = cached.region.id() == route.region.id();
    if (same && (other.version() > epoch.version() || other.conf_ver() > epoch.conf_ver())) return false;
    if (Intersect(cached.region, route.region) && other.version() > epoch.version()) return false;
  }
  std::erase_if(by_start_, [&](const auto& entry) {
    return entry.second.region.id() == route.region.id() || Intersect(entry.second.region, route.region);
  });
  by_start_[route.region.start_key()] = route;
  return true;
}

void RegionCache::Forget(const metapb::Region& region) {
  const std::lock_guard lock(mutex_);
  std::erase_if(by_start_, [&](const auto& entry) { return SameVersion(entry.second.region, region); });
}

void RegionCache::ForgetStore(uint64_t store_id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(by_start_, [&](const auto& entry) { return entry.second.leader.store_id() == store_id; });
}

void RegionCache::ForgetAll() {
  const std::lock_guard lock(mutex_);
  by_start_.clear();
}

bool RegionCache::SwitchLeader(const metapb::Region& region, const metapb::Peer& leader) {
  const std::lock_guard lock(mutex_);
  const auto found = by_start_.find(region.start_key());
  if (found == by_start_.end() || !SameVersion(found->second.region, region)) return false;
  for (const metapb::Peer& peer : found->second.region.peers()) {
    if (peer.id() != leader.id()) continue;
    found->second.leader = peer;
    return true;
  }
  by_start_.erase(found);
  return false;
}

}  // namespace keytrail::live
