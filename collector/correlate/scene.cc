#include "collector/correlate/scene.h"

#include <tuple>

namespace keytrail::correlate {

uint32_t Scene::Best(uint32_t logical, View side) const {
  uint32_t best = kNone;
  const auto rank = [&](uint32_t i) {
    const Observation& o = log[i];
    const uint32_t host = hosts.OfAgent(o.agent);
    const uint32_t end = side == View::kClient ? ClientHost(i) : ServerHost(i);
    // A view that holds the request is worth more than the right side's that does not.
    return std::tuple((o.flags & kRequestSeen) == 0, host == kNone || host != end,
                      host == kNone ? IpAddress{} : hosts[host].address, o.first(), o.call_id);
  };
  for (uint32_t i : pairing.Members(logical)) {
    if (best == kNone || rank(i) < rank(best)) best = i;
  }
  return best;
}

std::string Scene::Observer(uint32_t logical) const {
  bool client = false;
  bool server = false;
  for (uint32_t i : pairing.Members(logical)) {
    const uint32_t host = hosts.OfAgent(log[i].agent);
    if (host == kNone) continue;
    client |= host == ClientHost(i);
    server |= host == ServerHost(i);
  }
  if (client && server) return "both";
  return client ? "client" : server ? "server" : "between";
}

int64_t Scene::RequestTime(uint32_t observation) const {
  const Observation& o = log[observation];
  return pairing.ToReference(o.agent, o.first());
}

int64_t Scene::ResponseTime(uint32_t observation) const {
  const Observation& o = log[observation];
  return pairing.ToReference(o.agent, o.last());
}

bool Scene::SameCluster(uint32_t a, uint32_t b) const {
  const auto x = clusters.find(a);
  const auto y = clusters.find(b);
  return x != clusters.end() && y != clusters.end() && x->second.size() == 1 && x->second == y->second;
}

int64_t Scene::ClockSlack(uint32_t a, uint32_t b) const {
  const uint16_t x = log[a].agent;
  const uint16_t y = log[b].agent;
  if (x == y) return 0;
  if (!pairing.clock(x).offset_ns || !pairing.clock(y).offset_ns)
    return std::numeric_limits<int64_t>::max() / 4;
  return pairing.clock(x).error_ns + pairing.clock(y).error_ns;
}

}  // namespace keytrail::correlate
