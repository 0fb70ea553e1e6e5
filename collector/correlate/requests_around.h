// What a client sent just before and just after a refused request, on the same connection, to another region:
// whether it knew better (rule 5 of README.md).
//
// Gone through once for all complaints, so that a storm of them costs no more than a sort. Borrows the scene.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "collector/correlate/scene.h"

namespace keytrail::correlate {

class RequestsAround {
 public:
  // Of the connections on which somebody complained.
  explicit RequestsAround(const Scene& scene);

  struct Neighbours {
    uint32_t before = kNone;  // observations
    uint32_t after = kNone;
  };
  // The last request to `region` that was surely sent before `observation` and the first surely after, both
  // by the same agent's clock and answered without any error.
  Neighbours Of(uint32_t observation, const RegionVersion& region) const;

 private:
  struct Place {
    uint32_t connection = kNone;
    uint16_t agent = 0;
    RegionVersion region;
    friend auto operator<=>(const Place&, const Place&) = default;
  };
  const Scene& scene_;
  std::map<Place, std::vector<std::pair<int64_t, uint32_t>>> sent_;  // by time
};

}  // namespace keytrail::correlate
