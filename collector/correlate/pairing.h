// One call seen by several agents becomes one logical call, and paired calls bound the clocks.
//
// Views are paired by (client, server, stream, request id); where that occurs more than once (a port or a
// stream used again, the messages of a stream) by order, size and corrected time. Clocks: for a call seen at
// the client (c) and at the server (s), s_request - c_request is at least the offset of the server's clock
// and s_response - c_response at most, because no byte arrives before it is sent; the tightest bounds over
// all calls are those of minimum delay. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collector/correlate/call_log.h"
#include "collector/correlate/hosts.h"

namespace keytrail::correlate {

struct ClockOfAgent {
  // Add to the reference's clock to get this agent's; nothing if no paired calls lead to the reference.
  std::optional<int64_t> offset_ns;
  int64_t error_ns = 0;
};

class Pairing {
 public:
  Pairing(const CallLog& log, const HostTable& hosts);

  uint32_t Logical(uint32_t observation) const { return logical_[observation]; }
  uint32_t logical_count() const { return count_; }
  // Observations of one logical call, at most one an agent.
  std::span<const uint32_t> Members(uint32_t logical) const {
    return {members_.data() + first_member_[logical], first_member_[logical + 1] - first_member_[logical]};
  }
  const ClockOfAgent& clock(uint16_t agent) const { return clocks_[agent]; }
  uint32_t reference_host() const { return reference_host_; }  // kNone if there is no agent with a machine
  // On the reference's clock; as it is if the agent's clock is unrelated.
  int64_t ToReference(uint16_t agent, int64_t t) const;

 private:
  struct Edge {
    uint16_t client_agent = 0;
    uint16_t server_agent = 0;
    int64_t offset = 0;  // server's clock minus client's
    int64_t error = 0;
    uint64_t pairs = 0;
  };
  struct Group {
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  void SortGroups();
  void EstimateClocks();
  void SpreadClocks(const std::vector<Edge>& edges);
  void Assign();
  void AssignGroup(std::span<const uint32_t> group);

  const CallLog& log_;
  const HostTable& hosts_;
  std::vector<uint32_t> order_;  // observations, sorted by key, agent, time
  std::vector<Group> groups_;
  std::vector<uint32_t> logical_;
  std::vector<uint32_t> members_;
  std::vector<uint32_t> first_member_;
  std::vector<ClockOfAgent> clocks_;
  uint32_t reference_host_ = kNone;
  uint32_t count_ = 0;
};

}  // namespace keytrail::correlate
