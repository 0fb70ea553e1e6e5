// CallLog::FoldConnections: what is kept of connections that nobody refers to any more.
#include <iterator>
#include <map>
#include <tuple>
#include <utility>

#include "collector/correlate/call_log.h"

namespace keytrail::correlate {
namespace {

// All that the judge may ask of a connection whose calls are gone.
struct Likeness {
  IpAddress client;
  uint32_t client_agent = kNone;
  uint32_t server = kNone;
  std::vector<uint16_t> seen_by;
  uint64_t cluster_id = 0;
  bool serves_pd = false;
  bool serves_tikv = false;
  bool store_heartbeats = false;
  bool from_start = false;
  bool joined = false;

  friend auto operator<=>(const Likeness&, const Likeness&) = default;
};

void Merge(const ConnectionUse& from, ConnectionUse& into) {
  into.folded_unread = into.unread_connections() + from.unread_connections();
  into.unknown_calls += from.unknown_calls;
  into.ends_used_again = true;
  if (from.first_unknown_ns == kNoTime) return;
  if (into.first_unknown_ns == kNoTime || from.first_unknown_ns < into.first_unknown_ns) {
    into.first_unknown_ns = from.first_unknown_ns;
  }
}

}  // namespace

std::vector<uint32_t> CallLog::FoldConnections(std::vector<bool> used) {
  const auto count = static_cast<uint32_t>(connections_.size());
  std::vector<bool> held(count);
  for (const Observation& o : observations_) held[o.connection] = true;
  std::vector<std::vector<uint16_t>> seen_by(count);
  for (uint16_t a = 0; a < agents_.size(); ++a) {
    for (uint32_t c = 0; c < count; ++c) {
      if (Saw(a, c)) seen_by[c].push_back(a);
    }
  }
  std::vector<uint32_t> renumbered(count, kNone);
  std::vector<SeenConnection> connections;
  std::vector<ConnectionUse> uses;
  std::unordered_set<uint64_t> agent_connections;
  const auto keep = [&](uint32_t c, const SeenConnection& ends) {
    const auto number = static_cast<uint32_t>(connections.size());
    for (const uint16_t a : seen_by[c]) agent_connections.insert(uint64_t{a} << 32 | number);
    connections.push_back(ends);
    uses.push_back(uses_[c]);
    return number;
  };
  std::map<Likeness, uint32_t> folded;
  for (uint32_t c = 0; c < count; ++c) {
    if (held[c]) {
      renumbered[c] = keep(c, connections_[c]);
      continue;
    }
    const SeenEndpoint client = endpoints_[connections_[c].client];
    const ConnectionUse& use = uses_[c];
    const auto [it, fresh] = folded.try_emplace(
        Likeness{client.endpoint.address, client.agent, connections_[c].server, seen_by[c], use.cluster_id,
                 use.serves_pd, use.serves_tikv, use.store_heartbeats, use.from_start, use.joined});
    if (!fresh) {
      Merge(use, uses[it->second]);
      continue;
    }
    it->second = keep(c, {AnyPort(connections_[c].client), connections_[c].server});
  }
  connections_ = std::move(connections);
  uses_ = std::move(uses);
  agent_connections_ = std::move(agent_connections);
  for (Observation& o : observations_) o.connection = renumbered[o.connection];
  ForgetSerials(renumbered);
  FoldJoined();
  return KeepEndpoints(std::move(used));
}

// The endpoint that stands for all ports of this one's address.
uint32_t CallLog::AnyPort(uint32_t endpoint) {
  SeenEndpoint any = endpoints_[endpoint];
  any.endpoint.port = 0;
  const auto [it, fresh] = endpoint_ids_.try_emplace(any, static_cast<uint32_t>(endpoints_.size()));
  if (fresh) endpoints_.push_back(any);
  return it->second;
}

void CallLog::FoldJoined() {
  std::map<std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>, JoinedConnection> folded;
  for (JoinedConnection j : joined_) {
    j.client = AnyPort(j.client);
    j.client_at_server = AnyPort(j.client_at_server);
    const auto [it, fresh] =
        folded.try_emplace({j.client, j.client_at_server, j.server, j.server_at_client}, j);
    if (fresh) continue;
    it->second.connections += j.connections;
    it->second.calls += j.calls;
  }
  joined_.clear();
  for (const auto& [ends, j] : folded) joined_.push_back(j);
}

// Of connections that are gone. If one of them comes back it is a new one.
void CallLog::ForgetSerials(const std::vector<uint32_t>& renumbered) {
  for (auto it = by_serial_.begin(); it != by_serial_.end();) {
    it->second = renumbered[it->second];
    if (it->second == kNone) ends_of_joined_.erase(it->first);
    it = it->second == kNone ? by_serial_.erase(it) : std::next(it);
  }
  for (auto it = connection_ids_.begin(); it != connection_ids_.end();) {
    it->second = renumbered[it->second];
    it = it->second == kNone ? connection_ids_.erase(it) : std::next(it);
  }
}

std::vector<uint32_t> CallLog::KeepEndpoints(std::vector<bool> used) {
  used.resize(endpoints_.size());
  const auto mark = [&](const SeenConnection& c) { used[c.client] = used[c.server] = true; };
  for (const SeenConnection& c : connections_) mark(c);
  for (const auto& [ends, connection] : connection_ids_) mark(ends);
  for (const auto& [serial, ends] : ends_of_joined_) mark(ends);
  for (const JoinedConnection& j : joined_) {
    mark({j.client, j.server});
    mark({j.client_at_server, j.server_at_client});
  }
  std::vector<uint32_t> renumbered(endpoints_.size(), kNone);
  uint32_t next = 0;
  for (uint32_t e = 0; e < endpoints_.size(); ++e) {
    if (!used[e]) continue;
    renumbered[e] = next;
    endpoints_[next++] = endpoints_[e];
  }
  endpoints_.resize(next);
  endpoint_ids_.clear();
  for (uint32_t e = 0; e < next; ++e) endpoint_ids_.emplace(endpoints_[e], e);
  const auto renew = [&](SeenConnection& c) { c = {renumbered[c.client], renumbered[c.server]}; };
  for (SeenConnection& c : connections_) renew(c);
  for (auto& [serial, ends] : ends_of_joined_) renew(ends);
  std::map<SeenConnection, uint32_t> ids;
  for (const auto& [ends, connection] : connection_ids_) {
    ids.emplace(SeenConnection{renumbered[ends.client], renumbered[ends.server]}, connection);
  }
  connection_ids_ = std::move(ids);
  for (JoinedConnection& j : joined_) {
    for (uint32_t* end : {&j.client, &j.client_at_server, &j.server, &j.server_at_client}) {
      *end = renumbered[*end];
    }
  }
  return renumbered;
}

}  // namespace keytrail::correlate
