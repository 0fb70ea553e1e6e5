#include "collector/correlate/scene.h"

#include <algorithm>
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
  int64_t t = pairing.ToReference(o.agent, o.first());
  const uint32_t host = hosts.OfAgent(o.agent);
  if (o.req_first == kNoTime || host != ServerHost(observation)) return t;
  for (uint32_t i : pairing.Members(pairing.Logical(observation))) {
    if (log[i].req_first == kNoTime || i == observation || hosts.OfAgent(log[i].agent) != ClientHost(i))
      continue;
    if (ClientHost(i) != host) t = std::max(t, pairing.ToReference(log[i].agent, log[i].req_first));
  }
  return t;
}

int64_t Scene::ResponseTime(uint32_t observation) const {
  const Observation& o = log[observation];
  int64_t t = pairing.ToReference(o.agent, o.last());
  const uint32_t host = hosts.OfAgent(o.agent);
  if (o.resp_last == kNoTime) return RequestTime(observation);
  // The server's view: not before the request came.
  if (o.req_first != kNoTime) t = std::max(t, RequestTime(observation));
  if (host != ClientHost(observation)) return t;
  for (uint32_t i : pairing.Members(pairing.Logical(observation))) {
    if (log[i].resp_last == kNoTime || i == observation || hosts.OfAgent(log[i].agent) != ServerHost(i))
      continue;
    if (ServerHost(i) != host) t = std::max(t, ResponseTime(i));
  }
  return t;
}

bool Scene::SameCluster(uint32_t a, uint32_t b) const {
  const auto x = clusters.find(a);
  const auto y = clusters.find(b);
  return x != clusters.end() && y != clusters.end() && x->second.size() == 1 && x->second == y->second;
}

Order Scene::Compare(const Event& a, const Event& b) const {
  if (a.t_ns == kNoTime || b.t_ns == kNoTime) return Order::kNotKnown;
  const uint16_t x = log[a.observation].agent;
  const uint16_t y = log[b.observation].agent;
  const uint32_t from = hosts.OfAgent(x);
  const uint32_t to = hosts.OfAgent(y);
  if (from != kNone && to != kNone) return pairing.clocks().Compare({from, a.t_ns}, {to, b.t_ns});
  // An agent whose machine is not known has one clock all the same.
  if (x != y || a.t_ns == b.t_ns) return Order::kNotKnown;
  return a.t_ns < b.t_ns ? Order::kBefore : Order::kAfter;
}

}  // namespace keytrail::correlate
