#include "collector/correlate/hosts.h"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

namespace keytrail::correlate {
namespace {

// Addresses that stand for other machines, as far as it was found out.
std::set<IpAddress> Translated(const CallLog& log) {
  std::set<IpAddress> out;
  const auto address = [&](uint32_t endpoint) { return log.endpoints()[endpoint].endpoint.address; };
  for (const JoinedConnection& j : log.joined()) {
    if (address(j.client_at_server) != address(j.client)) out.insert(address(j.client_at_server));
    if (address(j.server_at_client) != address(j.server)) out.insert(address(j.server_at_client));
  }
  return out;
}

// The addresses that take part in the most connections of an agent: more than one is a tie.
std::vector<IpAddress> MostCommon(const AgentInfo& agent, const std::set<IpAddress>& translated) {
  std::vector<IpAddress> best;
  uint32_t most = 0;
  for (const auto& [address, count] : agent.connections_by_address) {
    if (address.is_loopback() || translated.contains(address)) continue;
    if (count > most) {
      best.clear();
      most = count;
    }
    if (count == most) best.push_back(address);
  }
  return best;
}

// An agent sees all connections of its own machine: one that another agent saw and this one did not belongs
// to another machine, unless a NAT made two of one.
class Placement {
 public:
  Placement(const CallLog& log, uint16_t agent) : log_(log), agent_(agent) {
    for (uint32_t c = 0; c < log.connections().size(); ++c) {
      if (!log.Saw(agent, c)) continue;
      clients_.insert(log.connections()[c].client);
      servers_.insert(log.connections()[c].server);
    }
  }

  // `behind_nat`: the server may see its clients under another address.
  bool MayStandOn(const IpAddress& address, bool behind_nat) const {
    for (uint32_t c = 0; c < log_.connections().size(); ++c) {
      const SeenConnection& connection = log_.connections()[c];
      if (log_.Saw(agent_, c)) continue;
      // One port for two servers: most likely one of the two is the other's other name.
      const bool from_here = log_.endpoints()[connection.client].endpoint.address == address;
      if (from_here && !clients_.contains(connection.client)) return false;
      const bool to_here = log_.endpoints()[connection.server].endpoint.address == address;
      if (to_here && !(behind_nat && servers_.contains(connection.server))) return false;
    }
    return true;
  }

 private:
  const CallLog& log_;
  const uint16_t agent_;
  std::set<uint32_t> clients_;  // endpoints
  std::set<uint32_t> servers_;
};

std::vector<IpAddress> Possible(const CallLog& log, uint16_t agent, const std::vector<IpAddress>& tied) {
  if (tied.size() < 2) return tied;
  const Placement placement(log, agent);
  std::vector<IpAddress> left;
  // No place is possible for an agent that sees clients under other addresses than their own agents do.
  for (const bool behind_nat : {false, true}) {
    if (!left.empty()) break;
    for (const IpAddress& address : tied) {
      if (placement.MayStandOn(address, behind_nat)) left.push_back(address);
    }
  }
  return left;
}

// With one agent alone what helps is the role that the user gave.
std::optional<IpAddress> ByRole(const CallLog& log, const AgentInfo& agent,
                                const std::vector<IpAddress>& tied) {
  if (agent.role.empty()) return std::nullopt;
  std::optional<IpAddress> found;
  for (const IpAddress& address : tied) {
    bool fits = false;
    for (size_t c = 0; c < log.connections().size(); ++c) {
      const ConnectionUse& use = log.uses()[c];
      const bool server = log.endpoints()[log.connections()[c].server].endpoint.address == address;
      const bool client = log.endpoints()[log.connections()[c].client].endpoint.address == address;
      fits |= agent.role == "pd" && server && use.serves_pd;
      fits |= agent.role == "tikv" && server && use.serves_tikv;
      fits |= agent.role == "tidb" && client && (use.serves_tikv || use.serves_pd) && !use.store_heartbeats;
    }
    if (!fits) continue;
    if (found) return std::nullopt;
    found = address;
  }
  return found;
}

// Two agents that saw the same calls and nothing else: the one at the server saw each answer sooner after its
// request.
std::optional<IpAddress> ByDelay(const CallLog& log, uint16_t agent) {
  constexpr size_t kEnough = 1000;
  std::map<std::tuple<uint32_t, uint32_t, uint64_t>, int64_t> own;
  const auto delay = [](const Observation& o) -> std::optional<int64_t> {
    if (o.req_first == kNoTime || o.resp_first == kNoTime) return std::nullopt;
    return o.resp_first - o.req_first;
  };
  for (const Observation& o : log.observations()) {
    if (own.size() == kEnough) break;
    if (o.agent == agent && delay(o)) own[{o.connection, o.stream, o.request_id}] = *delay(o);
  }
  int64_t longer = 0;
  uint32_t connection = kNone;
  for (const Observation& o : log.observations()) {
    if (o.agent == agent || !delay(o)) continue;
    const auto it = own.find({o.connection, o.stream, o.request_id});
    if (it == own.end()) continue;
    longer += it->second > *delay(o) ? 1 : it->second < *delay(o) ? -1 : 0;
    connection = std::min(connection, o.connection);
  }
  if (longer == 0) return std::nullopt;
  const SeenConnection& c = log.connections()[connection];
  return log.endpoints()[longer > 0 ? c.client : c.server].endpoint.address;
}

}  // namespace

uint32_t HostNumbers::Of(const IpAddress& address) {
  const auto [it, fresh] = numbers_.try_emplace(address, static_cast<uint32_t>(addresses_.size()));
  if (fresh) addresses_.push_back(address);
  return it->second;
}

HostTable::HostTable(const CallLog& log, HostNumbers& numbers) : numbers_(numbers) {
  FindAgents(log);
  of_endpoint_.resize(log.endpoints().size(), kNone);
  for (size_t e = 0; e < log.endpoints().size(); ++e) {
    const SeenEndpoint& seen = log.endpoints()[e];
    const uint32_t agent_host = seen.agent == kNone ? kNone : of_agent_[seen.agent];
    of_endpoint_[e] = agent_host != kNone ? agent_host : HostOf(seen.endpoint.address);
  }
  // Machines of former connections keep their place.
  if (!numbers_.addresses().empty()) HostOf(numbers_.addresses().back());
  FindRoles(log);
}

uint32_t HostTable::HostOf(const IpAddress& address) {
  const uint32_t host = numbers_.Of(address);
  while (hosts_.size() <= host) {
    Host& added = hosts_.emplace_back();
    added.address = numbers_.addresses()[hosts_.size() - 1];
    added.name = FormatAddress(added.address);
  }
  return host;
}

void HostTable::FindAgents(const CallLog& log) {
  const auto& agents = log.agents();
  of_agent_.assign(agents.size(), kNone);
  std::vector<std::optional<IpAddress>> own(agents.size());
  const std::set<IpAddress> translated = Translated(log);
  for (size_t a = 0; a < agents.size(); ++a) {
    const auto agent = static_cast<uint16_t>(a);
    const auto all = MostCommon(agents[a], translated);
    const std::vector<IpAddress> left = Possible(log, agent, all);
    if (left.size() == 1) {
      own[a] = left.front();
    } else if (all.size() > 1) {
      own[a] = ByRole(log, agents[a], left.empty() ? all : left);
      if (!own[a] && all.size() == 2) own[a] = ByDelay(log, agent);
    }
    const auto& by_address = agents[a].connections_by_address;
    if (!own[a] && all.empty() && !by_address.empty()) own[a] = by_address.begin()->first;  // loopback only
  }
  for (size_t a = 0; a < agents.size(); ++a) {
    if (!own[a]) continue;
    const uint32_t host = HostOf(*own[a]);
    of_agent_[a] = host;
    hosts_[host].agents.push_back(static_cast<uint16_t>(a));
  }
  for (Host& host : hosts_) {
    // Two captures of one machine may bear two names: the smaller, so that the order does not matter.
    std::optional<std::string> name;
    for (uint16_t a : host.agents) {
      if (!agents[a].name.empty() && (!name || agents[a].name < *name)) name = agents[a].name;
    }
    if (name) host.name = *name;
  }
}

void HostTable::FindRoles(const CallLog& log) {
  std::vector<bool> store(hosts_.size()), client(hosts_.size()), talks(hosts_.size());
  for (size_t c = 0; c < log.connections().size(); ++c) {
    const uint32_t from = of_endpoint_[log.connections()[c].client];
    const uint32_t to = of_endpoint_[log.connections()[c].server];
    const ConnectionUse& use = log.uses()[c];
    hosts_[to].serves_pd = hosts_[to].serves_pd || use.serves_pd;
    hosts_[to].serves_tikv = hosts_[to].serves_tikv || use.serves_tikv;
    if (use.store_heartbeats) store[from] = true;
    if (use.serves_pd || use.serves_tikv) client[from] = true;
    talks[from] = true;
  }
  for (size_t h = 0; h < hosts_.size(); ++h) {
    Host& host = hosts_[h];
    std::optional<std::string> named;
    for (uint16_t a : host.agents) {
      const std::string& role = log.agents()[a].role;
      if (!role.empty() && (!named || role < *named)) named = role;
    }
    if (named) {
      host.role = *named;
    } else if (host.serves_pd) {
      host.role = "pd";
    } else if (host.serves_tikv || store[h]) {
      host.role = "tikv";
    } else if (client[h]) {
      host.role = "tidb";
    } else {
      host.role = talks[h] ? "client" : "unknown";
    }
  }
}

std::string HostTable::EndpointText(const CallLog& log, uint32_t endpoint) const {
  Endpoint e = log.endpoints()[endpoint].endpoint;
  e.address = hosts_[of_endpoint_[endpoint]].address;
  return FormatEndpoint(e);
}

}  // namespace keytrail::correlate
