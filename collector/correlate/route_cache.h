// What client-go's region cache on one machine would have held at a time, replayed from what the machine was
// told (tidb-wire.md section 5): so that a verdict can say which message gave the client the route that it
// used.
//
// Rules: PD answers and the regions of EpochNotMatch are inserted unless a cached region of the same id or of
// the same place has a larger version; what is inserted pushes out what it overlaps. EpochNotMatch,
// RegionNotFound and KeyNotInRegion drop the route that was used. An answer that is refused is still used
// once. SplitRegion's answers are not inserted. Processes of one machine share one replay: without their ids
// nobody can tell them apart.
//
// Expiry (600 s without use) is not replayed: a route that is used does not expire, and one that is not used
// harms nobody. Pure; borrows the scene.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "collector/correlate/history.h"
#include "collector/correlate/scene.h"

namespace keytrail::correlate {

struct RouteOrigin {
  enum class State : uint8_t {
    kCached,    // the cache held it when the request was sent
    kOnce,      // refused by the insert rule, so that it was only good for the call that had asked for it
    kReplaced,  // pushed out, or dropped after an error, before the request was sent
  };
  State state = State::kCached;
  Mention by;                    // the message that gave the route
  RegionVersion replaced_by;     // what pushed it out; region 0: an error dropped it
  int64_t dropped_ns = kNoTime;  // when, if after an error
};

class RouteCache {
 public:
  RouteCache(const Scene& scene, uint32_t client_host);

  // How the machine knew `region` when it sent the request `observation` (the client's side if there is one);
  // nullopt: nothing that it was told before holds that region and version.
  std::optional<RouteOrigin> OriginOf(const RegionVersion& region, uint32_t observation) const;

 private:
  struct Change {
    Mention told;  // version 0: a route is dropped
    uint64_t region_id = 0;
    uint64_t dropped_version = 0;
  };
  void AddStatements(uint32_t client_host);
  void AddErrors(uint32_t client_host);

  const Scene& scene_;
  std::vector<Change> changes_;  // in time order
};

}  // namespace keytrail::correlate
