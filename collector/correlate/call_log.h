// Observations of calls in a few numbers, and the names, endpoints and connections that they refer to.
//
// Observations are numbered in the order of arrival; Keep() drops those that nobody needs any more and
// numbers the rest anew. Whoever sorts must sort by what numbers stand for. Not thread-safe.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/call_record.h"

namespace keytrail::correlate {

inline constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
// Not the smallest number, so that a difference with any time below kTimeEnd cannot overflow.
inline constexpr int64_t kTimeEnd = int64_t{1} << 62;  // the year 2116: later stamps are damage
inline constexpr int64_t kNoTime = -kTimeEnd;

// Strings, each kept once.
class NameTable {
 public:
  // kNone: there are `most` names already, and this is none of them.
  uint32_t Intern(std::string_view name, size_t most = kNone);
  const std::string& Get(uint32_t id) const { return *names_[id]; }
  size_t size() const { return names_.size(); }

 private:
  std::unordered_map<std::string, uint32_t> ids_;
  std::vector<const std::string*> names_;
};

// An endpoint as seen; a loopback address means another machine at every agent, so the agent belongs to it.
struct SeenEndpoint {
  Endpoint endpoint;
  uint32_t agent = kNone;  // index of the agent if the address is loopback

  friend auto operator<=>(const SeenEndpoint&, const SeenEndpoint&) = default;
};

struct SeenConnection {
  uint32_t client = kNone;  // into CallLog endpoints
  uint32_t server = kNone;

  friend auto operator<=>(const SeenConnection&, const SeenConnection&) = default;
};

enum ObservationFlag : uint16_t {
  kHasRequestId = 1,
  kRequestSeen = 2,
  kResponseSeen = 4,
  kMethodUnknown = 8,
  kFromStart = 16,  // the connection's preface was seen
  kForwarded = 32,
  kClientKnown = 64,
  kErrorFree = 128,  // the response was seen whole and holds no error
  // The first stamps of request and response are those of their very first bytes: comparable with the other
  // end's.
  kStampsWhole = 256,
  kFedClocks = 512,  // its stamps have gone to the clocks
};

// One observation of one call by one agent.
struct Observation {
  int64_t req_first = kNoTime;  // the agent's clock
  int64_t resp_first = kNoTime;
  int64_t resp_last = kNoTime;
  uint64_t call_id = 0;
  uint64_t request_id = 0;
  uint64_t region_id = 0;  // of the first route
  uint64_t version = 0;
  uint32_t connection = kNone;
  uint32_t stream = 0;
  uint32_t req_bytes = 0;
  uint32_t resp_bytes = 0;
  uint16_t agent = 0;
  uint16_t method = 0;
  uint16_t command = 0;
  CallKind kind = CallKind::kUnary;
  uint16_t flags = 0;
  uint32_t content = 0;  // hash of what was asked (keys, routes, start_ts); 0: nothing that tells calls apart

  int64_t first() const { return req_first != kNoTime ? req_first : resp_first; }
  int64_t last() const { return resp_last != kNoTime ? resp_last : first(); }
};

struct AgentInfo {
  uint32_t number = 0;  // the caller's
  std::string name;
  std::string role;
  int64_t first_ns = kNoTime;  // of its records
  int64_t last_ns = kNoTime;
  // Connections by address that takes part in them.
  std::map<IpAddress, uint32_t> connections_by_address;
};

// One connection that was seen between different ends: endpoints.
struct JoinedConnection {
  uint32_t client = kNone;  // as its own agent sees it
  uint32_t client_at_server = kNone;
  uint32_t server = kNone;  // as its own agent sees it
  uint32_t server_at_client = kNone;
  uint64_t connections = 1;  // more: former ones, of which the clients' ports are forgotten
  uint64_t calls = 0;        // that prove it
};

// What a connection was used for, over all agents.
struct ConnectionUse {
  bool serves_pd = false;
  bool serves_tikv = false;       // routed requests arrive there
  bool store_heartbeats = false;  // the client is a store
  bool from_start = false;
  uint64_t cluster_id = 0;       // of the messages to and from a PD; 0: none was seen
  bool ends_used_again = false;  // by another connection, as far as one agent saw
  bool joined = false;           // what two agents saw between different ends (CallLog::Join)
  uint64_t unknown_calls = 0;
  int64_t first_unknown_ns = kNoTime;  // the observer's clock
  // Of a place that stands for several former connections: how many of them had unknown calls.
  uint64_t folded_unread = 0;

  // How many connections of it could not be read whole.
  uint64_t unread_connections() const {
    return folded_unread != 0 ? folded_unread : unknown_calls != 0 ? 1 : 0;
  }
};

class CallLog {
 public:
  void AddAgent(uint32_t number, const std::string& name, const std::string& role);
  uint16_t AgentIndex(uint32_t number);
  // Returns the index of the new observation.
  uint32_t Add(uint32_t agent_number, uint64_t call_id, const CallRecord& call);
  // A name that came late, of a call that was added without (kAmend): what it said stays unread, but if its
  // method tells nobody a route, nothing was hidden.
  void Amend(uint32_t agent_number, const CallRecord& call);

  const std::vector<Observation>& observations() const { return observations_; }
  const std::vector<AgentInfo>& agents() const { return agents_; }
  const std::vector<SeenEndpoint>& endpoints() const { return endpoints_; }
  const std::vector<SeenConnection>& connections() const { return connections_; }
  const std::vector<ConnectionUse>& uses() const { return uses_; }
  const Observation& operator[](uint32_t i) const { return observations_[i]; }
  void FedClocks(uint32_t i) { observations_[i].flags |= kFedClocks; }
  void ForgetFedClocks();
  // Drops the observations of which `renumbered` is kNone; the others get the numbers that it gives, which
  // must be in the same order and without gaps.
  void Keep(const std::vector<uint32_t>& renumbered);
  // Former connections, of which no observation is held, become one of all that are alike in everything but
  // the client's port. Endpoints are numbered anew: returns their new numbers, kNone for those that are gone.
  // `used`: those that others refer to.
  std::vector<uint32_t> FoldConnections(std::vector<bool> used);
  // The two are one connection that was seen between different ends: from now on it has the client of the
  // one and the server of the other, under the number `client_side`. `server_side` stays as an empty place.
  // Connections that use the same ends later are new ones.
  void Join(uint32_t client_side, uint32_t server_side, uint32_t calls);
  // Those of which there are more than `most` are listed by address alone.
  void LimitJoined(size_t most) {
    if (joined_.size() > most) FoldJoined();
  }
  const std::vector<JoinedConnection>& joined() const { return joined_; }
  const SeenConnection& connection_of(const Observation& o) const { return connections_[o.connection]; }
  bool Saw(uint16_t agent, uint32_t connection) const {
    return agent_connections_.contains(uint64_t{agent} << 32 | connection);
  }
  const std::string& method(const Observation& o) const { return names_.Get(o.method); }
  const std::string& command(const Observation& o) const { return names_.Get(o.command); }
  // "GetRegion", "BatchCommands/Get", "an unknown call".
  std::string ShortMethod(const Observation& o) const;

 private:
  uint32_t InternEndpoint(const Endpoint& endpoint, uint16_t agent);
  uint32_t AnyPort(uint32_t endpoint);
  void FoldJoined();
  void ForgetSerials(const std::vector<uint32_t>& renumbered);
  std::vector<uint32_t> KeepEndpoints(std::vector<bool> used);
  uint32_t InternConnection(const CallRecord& call, uint16_t agent);
  const SeenConnection& EndsAsSeen(uint64_t serial, uint32_t connection) const;

  std::vector<Observation> observations_;
  std::vector<AgentInfo> agents_;
  std::unordered_map<uint32_t, uint16_t> agent_index_;
  std::vector<SeenEndpoint> endpoints_;
  std::map<SeenEndpoint, uint32_t> endpoint_ids_;
  std::vector<SeenConnection> connections_;
  std::vector<ConnectionUse> uses_;
  std::map<SeenConnection, uint32_t> connection_ids_;
  std::unordered_set<uint64_t> agent_connections_;  // agent << 32 | connection
  // The agent's serial of a connection -> connection id; most records hit the last one.
  std::unordered_map<uint64_t, uint32_t> by_serial_;
  std::vector<JoinedConnection> joined_;
  // Of the serials of joined connections: the ends as that agent sees them.
  std::unordered_map<uint64_t, SeenConnection> ends_of_joined_;
  NameTable names_;
  const uint32_t no_name_ = names_.Intern("");
};

}  // namespace keytrail::correlate
