// What PD knows of regions: as pd/pkg/core/region.go, from the stores' heartbeats alone. Not thread-safe.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pdpb.pb.h"

namespace keytrail::live {

class RegionTree {
 public:
  struct Known {
    metapb::Region region;
    metapb::Peer leader;
    uint64_t term = 0;
  };

  // PD's check(): an overlapping region with a larger version, or an epoch or term that goes back, makes a
  // heartbeat stale. Else the region replaces its former self and all that it overlaps.
  bool Accept(const pdpb::RegionHeartbeatRequest& beat);

  const Known* ById(uint64_t id) const;
  const Known* ByKey(const std::string& key) const;
  // Those that hold a key in [start, end), in order; limit 0: all.
  std::vector<const Known*> Scan(const std::string& start, const std::string& end, size_t limit) const;
  const std::map<uint64_t, Known>& all() const { return regions_; }

 private:
  std::map<uint64_t, Known> regions_;
  std::map<std::string, uint64_t> by_start_;
};

}  // namespace keytrail::live
