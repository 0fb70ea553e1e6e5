#include "collector/correlate/requests_around.h"

#include <algorithm>
#include <set>

namespace keytrail::correlate {

RequestsAround::RequestsAround(const Scene& scene) : scene_(scene) {
  std::set<uint32_t> connections;
  for (const Complaint& c : scene.findings.complaints())
    connections.insert(scene.At(c.observation).connection);
  if (connections.empty()) return;
  for (uint32_t i = 0; i < scene.log.observations().size(); ++i) {
    const Observation& o = scene.At(i);
    if ((o.flags & kErrorFree) == 0 || o.req_first == kNoTime || o.region_id == 0) continue;
    if (!connections.contains(o.connection)) continue;
    sent_[{o.connection, o.agent, {o.region_id, o.version}}].push_back({o.req_first, i});
  }
  for (auto& [place, list] : sent_) std::sort(list.begin(), list.end());
}

RequestsAround::Neighbours RequestsAround::Of(uint32_t observation, const RegionVersion& region) const {
  const Observation& q = scene_.At(observation);
  const auto it = sent_.find({q.connection, q.agent, region});
  if (it == sent_.end() || q.req_first == kNoTime) return {};
  const auto& list = it->second;
  Neighbours out;
  // Of one clock the nearest ones are sure, unless it was set just then: a few further ones are tried.
  constexpr int kTries = 16;
  const auto at = std::lower_bound(list.begin(), list.end(), std::pair(q.req_first, uint32_t{0}));
  auto earlier = at;
  for (int tries = 0; earlier != list.begin() && tries < kTries && out.before == kNone; ++tries) {
    --earlier;
    const uint32_t i = earlier->second;
    if (scene_.Compare(scene_.Asked(i), scene_.Asked(observation)) == Order::kBefore) out.before = i;
  }
  auto later = at;
  for (int tries = 0; later != list.end() && tries < kTries && out.after == kNone; ++tries, ++later) {
    const uint32_t i = later->second;
    if (scene_.Compare(scene_.Asked(i), scene_.Asked(observation)) == Order::kAfter) out.after = i;
  }
  return out;
}

}  // namespace keytrail::correlate
