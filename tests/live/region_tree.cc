#include "tests/live/region_tree.h"

#include "tests/live/keys.h"

namespace keytrail::live {

bool RegionTree::Accept(const pdpb::RegionHeartbeatRequest& beat) {
  const metapb::Region& region = beat.region();
  const std::vector<const Known*> overlaps = Scan(region.start_key(), region.end_key(), 0);
  for (const Known* other : overlaps)
    if (other->region.id() != region.id() &&
        other->region.region_epoch().version() > region.region_epoch().version())
      return false;
  const Known* former = ById(region.id());
  if (former != nullptr && (beat.term() < former->term ||
                            region.region_epoch().version() < former->region.region_epoch().version() ||
                            region.region_epoch().conf_ver() < former->region.region_epoch().conf_ver())) {
    return false;
  }
  std::vector<uint64_t> gone{region.id()};
  for (const Known* other : overlaps) gone.push_back(other->region.id());
  for (const uint64_t id : gone) {
    const auto found = regions_.find(id);
    if (found == regions_.end()) continue;
    by_start_.erase(found->second.region.start_key());
    regions_.erase(found);
  }
  by_start_[region.start_key()] = region.id();
  regions_[region.id()] = {region, beat.leader(), beat.term()};
  return true;
}

const RegionTree::Known* RegionTree::ById(uint64_t id) const {
  const auto found = regions_.find(id);
  return found == regions_.end() ? nullptr : &found->second;
}

const RegionTree::Known* RegionTree::ByKey(const std::string& key) const {
  auto after = by_start_.upper_bound(key);
  if (after == by_start_.begin()) return nullptr;
  const Known* known = ById(std::prev(after)->second);
  return Holds(known->region.start_key(), known->region.end_key(), key) ? known : nullptr;
}

std::vector<const RegionTree::Known*> RegionTree::Scan(const std::string& start, const std::string& end,
                                                       size_t limit) const {
  std::vector<const Known*> found;
  auto at = by_start_.upper_bound(start);
  if (at != by_start_.begin()) {
    const Known* known = ById(std::prev(at)->second);
    if (Holds(known->region.start_key(), known->region.end_key(), start)) --at;
  }
  for (; at != by_start_.end() && (end.empty() || at->first < end); ++at) {
    if (limit != 0 && found.size() == limit) break;
    found.push_back(ById(at->second));
  }
  return found;
}

}  // namespace keytrail::live
