#include "collector/correlate/call_log.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <string_view>

#include "common/limits.h"

namespace keytrail::correlate {
namespace {

bool StartsWith(std::string_view s, std::string_view prefix) {
  return s.substr(0, prefix.size()) == prefix;
}

uint32_t Narrow(uint64_t n) {
  return static_cast<uint32_t>(std::min<uint64_t>(n, std::numeric_limits<uint32_t>::max()));
}

int64_t OrNone(TimeNs t) {
  return t.ns >= 0 && t.ns < kTimeEnd ? t.ns : kNoTime;
}

// What tells one question from another: the same at both ends, whoever looks.
uint32_t ContentOf(const MessageFacts& request) {
  if (request.parse_failed || request.over_cap || (request.keys.empty() && request.start_ts == 0)) return 0;
  uint64_t h = 0;
  const auto mix = [&h](uint64_t value) {
    h = (h ^ value) * 0x9E3779B97F4A7C15ull;
    h ^= h >> 32;
  };
  mix(request.start_ts);
  for (const Route& route : request.routes) mix(route.region_id << 20 ^ route.version);
  for (const KeyItem& item : request.keys) {
    mix(std::hash<std::string_view>()(AsText(item.start)));
    mix(std::hash<std::string_view>()(AsText(item.end)));
  }
  return std::max(static_cast<uint32_t>(h), uint32_t{1});
}

void Widen(int64_t t, int64_t& first, int64_t& last) {
  if (t == kNoTime) return;
  if (first == kNoTime || t < first) first = t;
  if (last == kNoTime || t > last) last = t;
}

}  // namespace

uint32_t NameTable::Intern(std::string_view name, size_t most) {
  if (names_.size() >= most) {
    const auto known = ids_.find(std::string(name));
    return known == ids_.end() ? kNone : known->second;
  }
  auto [it, fresh] = ids_.try_emplace(std::string(name), static_cast<uint32_t>(names_.size()));
  if (fresh) names_.push_back(&it->first);
  return it->second;
}

void CallLog::AddAgent(uint32_t number, const std::string& name, const std::string& role) {
  AgentInfo& agent = agents_[AgentIndex(number)];
  if (!name.empty()) agent.name = name;
  if (!role.empty()) agent.role = role;
}

uint16_t CallLog::AgentIndex(uint32_t number) {
  auto [it, fresh] = agent_index_.try_emplace(number, static_cast<uint16_t>(agents_.size()));
  if (fresh) {
    agents_.emplace_back();
    agents_.back().number = number;
  }
  return it->second;
}

uint32_t CallLog::InternEndpoint(const Endpoint& endpoint, uint16_t agent) {
  const SeenEndpoint seen{endpoint, endpoint.address.is_loopback() ? agent : kNone};
  auto [it, fresh] = endpoint_ids_.try_emplace(seen, static_cast<uint32_t>(endpoints_.size()));
  if (fresh) endpoints_.push_back(seen);
  return it->second;
}

uint32_t CallLog::InternConnection(const CallRecord& call, uint16_t agent) {
  // The serial is only a shortcut: it is trusted when the ends agree.
  const uint64_t serial = uint64_t{agent} << 48 ^ call.connection;
  const auto known = by_serial_.find(serial);
  if (known != by_serial_.end()) {
    const SeenConnection& c = EndsAsSeen(serial, known->second);
    if (endpoints_[c.client].endpoint == call.client && endpoints_[c.server].endpoint == call.server) {
      return known->second;
    }
  }
  const SeenConnection seen{InternEndpoint(call.client, agent), InternEndpoint(call.server, agent)};
  auto [it, fresh] = connection_ids_.try_emplace(seen, static_cast<uint32_t>(connections_.size()));
  if (fresh) {
    connections_.push_back(seen);
    uses_.emplace_back();
  }
  by_serial_[serial] = it->second;
  if (agent_connections_.insert(uint64_t{agent} << 32 | it->second).second) {
    auto& by_address = agents_[agent].connections_by_address;
    ++by_address[call.client.address];
    if (call.server.address != call.client.address) ++by_address[call.server.address];
  } else {
    uses_[it->second].ends_used_again = true;
  }
  return it->second;
}

uint32_t CallLog::Add(uint32_t agent_number, uint64_t call_id, const CallRecord& call) {
  const uint16_t agent = AgentIndex(agent_number);
  Observation o;
  o.agent = agent;
  o.call_id = call_id;
  o.connection = InternConnection(call, agent);
  o.req_first = OrNone(call.req_first);
  o.resp_first = OrNone(call.resp_first);
  o.resp_last = OrNone(call.resp_last);
  o.stream = call.stream;
  o.kind = call.kind;
  const uint32_t method = names_.Intern(call.method, limits::kMaxCallNames);
  const uint32_t command = names_.Intern(call.command, limits::kMaxCallNames);
  const bool named = !call.method.empty() && method != kNone;
  o.method = static_cast<uint16_t>(method == kNone ? no_name_ : method);
  o.command = static_cast<uint16_t>(command == kNone ? no_name_ : command);
  o.req_bytes = Narrow(call.req_bytes);
  o.resp_bytes = Narrow(call.resp_bytes);
  o.request_id = call.request_id.value_or(0);
  if (call.request_id) o.flags |= kHasRequestId;
  if (call.request != nullptr) o.flags |= kRequestSeen;
  if (call.response != nullptr) o.flags |= kResponseSeen;
  if (!named) o.flags |= kMethodUnknown;
  if (call.joined_at_start) o.flags |= kFromStart;
  if (call.forwarded) o.flags |= kForwarded;
  if (call.client_known) o.flags |= kClientKnown;
  constexpr uint32_t kDamaged =
      kGap | kCut | kOverCap | kUnknownEncoding | kMalformed | kResponseNotSeen | kDegraded;
  if (call.response != nullptr && call.response->errors.empty() && !call.response->parse_failed &&
      !call.response->over_cap && (call.incomplete & kDamaged) == 0 && !call.reset &&
      call.grpc_status.value_or(0) == 0) {
    o.flags |= kErrorFree;
  }
  // Headers are bytes of unary calls alone (call_record.h).
  const uint32_t not_whole = kRequestNotSeen | kResponseNotSeen | kGap | kCut | kMalformed |
                             (call.kind == CallKind::kUnary ? kHeadersNotSeen : 0u);
  if ((call.incomplete & not_whole) == 0) o.flags |= kStampsWhole;
  bool routed = false;
  if (call.request != nullptr) {
    for (const Route& route : call.request->routes) routed |= route.region_id != 0;
    if (!call.request->routes.empty()) {
      o.region_id = call.request->routes.front().region_id;
      o.version = call.request->routes.front().version;
    }
  }
  if (call.request != nullptr) o.content = ContentOf(*call.request);
  ConnectionUse& use = uses_[o.connection];
  use.from_start |= call.joined_at_start;
  if (use.cluster_id == 0 && StartsWith(call.method, "/pdpb.PD/")) {
    if (call.request != nullptr) use.cluster_id = call.request->cluster_id;
    if (use.cluster_id == 0 && call.response != nullptr) use.cluster_id = call.response->cluster_id;
  }
  if (call.client_known) {
    use.serves_pd |= StartsWith(call.method, "/pdpb.PD/") || StartsWith(call.method, "/routerpb.Router/");
    use.serves_tikv |= routed && StartsWith(call.method, "/tikvpb.Tikv/");
    use.store_heartbeats |=
        call.method == "/pdpb.PD/StoreHeartbeat" || call.method == "/pdpb.PD/RegionHeartbeat";
  }
  AgentInfo& info = agents_[agent];
  Widen(o.first(), info.first_ns, info.last_ns);
  Widen(o.resp_last, info.first_ns, info.last_ns);
  if (!named) {
    ++use.unknown_calls;
    const int64_t t = o.first();
    if (t != kNoTime && (use.first_unknown_ns == kNoTime || t < use.first_unknown_ns))
      use.first_unknown_ns = t;
  }
  observations_.push_back(o);
  return static_cast<uint32_t>(observations_.size() - 1);
}

void CallLog::Amend(uint32_t agent_number, const CallRecord& call) {
  static constexpr std::string_view kNoRoutes[] = {"/pdpb.PD/GetMembers", "/pdpb.PD/GetClusterInfo",
                                                   "/pdpb.PD/GetStore",   "/pdpb.PD/GetAllStores",
                                                   "/pdpb.PD/AllocID",    "/pdpb.PD/StoreHeartbeat"};
  if (std::find(std::begin(kNoRoutes), std::end(kNoRoutes), call.method) == std::end(kNoRoutes)) return;
  ConnectionUse& use = uses_[InternConnection(call, AgentIndex(agent_number))];
  if (use.unknown_calls > 0) --use.unknown_calls;
}

const SeenConnection& CallLog::EndsAsSeen(uint64_t serial, uint32_t connection) const {
  if (!uses_[connection].joined) return connections_[connection];
  const auto joined = ends_of_joined_.find(serial);
  return joined != ends_of_joined_.end() ? joined->second : connections_[connection];
}

void CallLog::Join(uint32_t client_side, uint32_t server_side, uint32_t calls) {
  const SeenConnection ends{connections_[client_side].client, connections_[server_side].server};
  joined_.push_back({ends.client, connections_[server_side].client, ends.server,
                     connections_[client_side].server, 1, calls});
  for (auto& [serial, connection] : by_serial_) {
    if (connection != client_side && connection != server_side) continue;
    ends_of_joined_[serial] = connections_[connection];
    connection = client_side;
  }
  connection_ids_.erase(connections_[client_side]);
  connection_ids_.erase(connections_[server_side]);
  for (Observation& o : observations_) {
    if (o.connection == server_side) o.connection = client_side;
  }
  for (uint64_t agent = 0; agent < agents_.size(); ++agent) {
    const bool saw =
        Saw(static_cast<uint16_t>(agent), client_side) || Saw(static_cast<uint16_t>(agent), server_side);
    if (!saw) continue;
    agent_connections_.insert(agent << 32 | client_side);
    agent_connections_.insert(agent << 32 | server_side);
  }
  ConnectionUse& use = uses_[client_side];
  const ConnectionUse& other = uses_[server_side];
  use.serves_pd |= other.serves_pd;
  use.serves_tikv |= other.serves_tikv;
  use.store_heartbeats |= other.store_heartbeats;
  use.from_start |= other.from_start;
  if (use.cluster_id == 0) use.cluster_id = other.cluster_id;
  use.unknown_calls += other.unknown_calls;
  if (use.first_unknown_ns == kNoTime ||
      (other.first_unknown_ns != kNoTime && other.first_unknown_ns < use.first_unknown_ns)) {
    use.first_unknown_ns = other.first_unknown_ns;
  }
  use.joined = true;
  connections_[client_side] = connections_[server_side] = ends;
  uses_[server_side] = {};
  uses_[server_side].joined = true;
}

void CallLog::ForgetFedClocks() {
  for (Observation& o : observations_) o.flags &= static_cast<uint16_t>(~kFedClocks);
}

void CallLog::Keep(const std::vector<uint32_t>& renumbered) {
  size_t kept = 0;
  for (size_t i = 0; i < observations_.size(); ++i) {
    if (renumbered[i] == kNone) continue;
    observations_[renumbered[i]] = observations_[i];
    ++kept;
  }
  observations_.resize(kept);
}

std::string CallLog::ShortMethod(const Observation& o) const {
  const std::string& name = method(o);
  if (name.empty()) return "an unknown call";
  const size_t slash = name.rfind('/');
  std::string out = slash == std::string::npos ? name : name.substr(slash + 1);
  if (!command(o).empty()) out += "/" + command(o);
  return out;
}

}  // namespace keytrail::correlate
