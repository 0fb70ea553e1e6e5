// A client's region cache with client-go's rules (tidb-wire.md section 5). Thread-safe. It has no time to
// live: ten minutes are longer than a test.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "metapb.pb.h"

namespace keytrail::live {

struct Route {
  metapb::Region region;
  metapb::Peer leader;  // the peer that requests go to
};

class RegionCache {
 public:
  std::optional<Route> Find(const std::string& encoded_key) const;
  // The cached region whose end is this region's start.
  std::optional<Route> LeftOf(const metapb::Region& region) const;
  // The route as it is now, if that version of the region is still cached.
  std::optional<Route> Current(const metapb::Region& region) const;

  // False, and nothing is kept: the same region is cached with a larger version or conf_ver, or one that
  // intersects has a larger version. Else it replaces whatever intersects.
  bool Insert(const Route& route);
  void Forget(const metapb::Region& region);  // this version of it
  void ForgetStore(uint64_t store_id);        // whatever is led there
  void ForgetAll();
  // Another peer of the same version leads. False if the version has no such peer; it is then forgotten.
  bool SwitchLeader(const metapb::Region& region, const metapb::Peer& leader);

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Route> by_start_;
};

}  // namespace keytrail::live
