#include "collector/correlate/route_cache.h"

#include <algorithm>
#include <tuple>

namespace keytrail::correlate {
namespace {

bool IsInserted(StatementSource source) {
  return IsPdLookup(source) || source == StatementSource::kEpochNotMatch;
}

bool DropsTheRoute(const Setback& s) {
  switch (s.kind) {
    case ErrorKind::kEpochNotMatch:
      // A store that is behind is asked again with the same route.
      return s.server_version == 0 || s.server_version >= s.region.version;
    case ErrorKind::kRegionNotFound:
    case ErrorKind::kStoreNotMatch:
      return true;
    default:
      return false;
  }
}

}  // namespace

RouteCache::RouteCache(const Scene& scene, uint32_t client_host) : scene_(scene) {
  AddErrors(client_host);
  AddStatements(client_host);
  std::sort(changes_.begin(), changes_.end(), [&](const Change& a, const Change& b) {
    // An error drops before its own answer's regions are inserted.
    const auto rank = [&](const Change& e) {
      return std::tuple(e.told.told_ns, e.told.version != 0, scene_.At(e.told.observation).call_id,
                        e.told.index);
    };
    return rank(a) < rank(b);
  });
}

void RouteCache::AddStatements(uint32_t client_host) {
  for (const auto& [region, entries] : scene_.ledger.entries()) {
    for (const LedgerEntry& e : entries) {
      if (!IsInserted(e.source) || scene_.hosts.OfEndpoint(e.listener) != client_host) continue;
      for (const StatementUse& use : e.uses) {
        // Of two views the client's side tells when it arrived.
        const uint32_t logical = scene_.pairing.Logical(use.observation);
        if (scene_.Best(logical, View::kClient) != use.observation) continue;
        Change event;
        event.region_id = region.region_id;
        event.told = MentionOf(scene_, region, e, use);
        if (event.told.told_ns != kNoTime) changes_.push_back(event);
      }
    }
  }
}

void RouteCache::AddErrors(uint32_t client_host) {
  const auto drop = [&](uint32_t observation, const RegionVersion& region) {
    if (scene_.ClientHost(observation) != client_host) return;
    const uint32_t logical = scene_.pairing.Logical(observation);
    if (scene_.Best(logical, View::kClient) != observation) return;
    Change event;
    event.region_id = region.region_id;
    event.dropped_version = region.version;
    event.told.observation = observation;
    event.told.told = scene_.Answered(observation);
    event.told.told_ns = scene_.ResponseTime(observation);
    if (event.told.told_ns != kNoTime) changes_.push_back(event);
  };
  for (const Setback& s : scene_.findings.setbacks()) {
    if (DropsTheRoute(s)) drop(s.observation, s.region);
  }
  for (const Complaint& c : scene_.findings.complaints()) {
    if (c.kind == ErrorKind::kKeyNotInRegion) drop(c.observation, c.region);
  }
}

std::optional<RouteOrigin> RouteCache::OriginOf(const RegionVersion& region, uint32_t observation) const {
  std::map<uint64_t, Mention> cached;  // by region
  std::optional<RouteOrigin> origin;
  const auto range = [&](const Mention& m) -> const Range& { return scene_.ledger.ranges().Get(m.range); };
  for (const Change& event : changes_) {
    if (scene_.After(scene_.Asked(observation), event.told.told, 0)) continue;
    const bool ours = event.region_id == region.region_id;
    if (event.told.version == 0) {
      const auto it = cached.find(event.region_id);
      if (it == cached.end() || it->second.version != event.dropped_version) continue;
      cached.erase(it);
      if (ours && event.dropped_version == region.version && origin) {
        origin->state = RouteOrigin::State::kReplaced;
        origin->replaced_by = {};
        origin->dropped_ns = event.told.told_ns;
      }
      continue;
    }
    const bool refused = std::any_of(cached.begin(), cached.end(), [&](const auto& entry) {
      const Mention& m = entry.second;
      return (entry.first == event.region_id || range(event.told).Overlaps(range(m))) &&
             m.version > event.told.version;
    });
    const bool same = ours && event.told.version == region.version;
    if (refused) {
      if (same) origin = RouteOrigin{RouteOrigin::State::kOnce, event.told, {}, kNoTime};
      continue;
    }
    for (auto it = cached.begin(); it != cached.end();) {
      const bool out = it->first == event.region_id || range(it->second).Overlaps(range(event.told));
      if (out && !same && it->first == region.region_id && it->second.version == region.version && origin) {
        origin->state = RouteOrigin::State::kReplaced;
        origin->replaced_by = {event.region_id, event.told.version};
        origin->dropped_ns = event.told.told_ns;
      }
      it = out ? cached.erase(it) : std::next(it);
    }
    cached[event.region_id] = event.told;
    if (same) origin = RouteOrigin{RouteOrigin::State::kCached, event.told, {}, kNoTime};
  }
  return origin;
}

}  // namespace keytrail::correlate
