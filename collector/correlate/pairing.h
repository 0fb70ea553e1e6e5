// One call seen by several agents becomes one logical call, and paired calls relate the clocks.
//
// Views are paired by (client, server, stream, request id); where that occurs more than once (a port or a
// stream used again, the messages of a stream) by order, size and corrected time. The calls whose views are
// paired beyond doubt feed the clocks (clock_graph.h) first. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collector/correlate/call_log.h"
#include "collector/correlate/clock_graph.h"
#include "collector/correlate/hosts.h"

namespace keytrail::correlate {

class Pairing {
 public:
  // How exactly the clocks are worked out: that is linear in all that they remember.
  enum class Clocks : uint8_t { kExact, kRoughly };

  // `clocks` remembers calls of earlier pairings of this log, whose observations may be gone by now; it gets
  // those that are paired now and that it does not have yet (kFedClocks). All three must outlive the pairing.
  Pairing(CallLog& log, const HostTable& hosts, ClockGraph& clocks, Clocks how = Clocks::kExact);

  uint32_t Logical(uint32_t observation) const { return logical_[observation]; }
  uint32_t logical_count() const { return count_; }
  // Observations of one logical call, at most one an agent.
  std::span<const uint32_t> Members(uint32_t logical) const {
    return {members_.data() + first_member_[logical], first_member_[logical + 1] - first_member_[logical]};
  }
  // By number of HostTable.
  const ClockGraph& clocks() const { return clocks_; }
  // What to add to the agent's stamp to get the reference's clock; nothing if the two are not related.
  std::optional<OffsetClaim> Clock(uint16_t agent, int64_t t) const;
  uint32_t reference_host() const { return reference_host_; }  // kNone if there is no agent with a machine
  // On the reference's clock; as it is if the agent's clock is unrelated.
  int64_t ToReference(uint16_t agent, int64_t t) const;

 private:
  // A view's first stamp on the reference's clock.
  struct CorrectedTime {
    int64_t t = kNoTime;
    int64_t error = -1;  // -1: not related
  };
  struct Group {
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  void SortGroups();
  void FeedClocks();
  void SpreadClocks(Clocks how);
  void Assign();
  void AssignGroup(std::span<const uint32_t> group);

  CallLog& log_;
  const HostTable& hosts_;
  std::vector<uint32_t> order_;  // observations, sorted by key, agent, time
  std::vector<Group> groups_;
  std::vector<uint32_t> logical_;
  std::vector<uint32_t> members_;
  std::vector<uint32_t> first_member_;
  ClockGraph& clocks_;
  std::vector<CorrectedTime> corrected_;
  uint32_t reference_host_ = kNone;
  uint32_t count_ = 0;
};

}  // namespace keytrail::correlate
