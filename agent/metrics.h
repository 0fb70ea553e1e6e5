// What an agent says of itself at --metrics (docs/metrics.md): /metrics, /healthz, /readyz.
//
// Attend() copies what the decoding thread alone may read, a few times in a second at most; requests are
// answered from that copy, and from the shipper's own figures, by threads of the port. Nothing is done per
// packet.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "agent/pipeline.h"
#include "agent/self_restraint.h"
#include "agent/ship/shipper.h"
#include "common/operations_port.h"
#include "common/result.h"

namespace keytrail {

inline constexpr char kAgentMetricPrefix[] = "keytrail_agent_";

class AgentMetrics {
 public:
  // Error: as OperationsPort::Open() gives it.
  static Result<std::unique_ptr<AgentMetrics>> Open(const std::string& address);

  // With the port that it got.
  const std::string& address() const { return port_->address(); }

  // Records go there from now on. It must outlive this. spool_bytes: the room of the spool; 0: there is none.
  void Ships(const Shipper& shipper, uint64_t spool_bytes);
  // There is no capture: what a spool has is shipped.
  void Drains();

  // On the decoding thread, as often as one likes.
  void Attend(const AgentPipeline& pipeline, const SelfRestraint& restraint);
  // The capture is over; what is left is still shipped.
  void Ended(const AgentPipeline& pipeline, const SelfRestraint& restraint);

 private:
  enum class Phase : uint8_t { kStarting, kCapturing, kEnded, kDraining };

  AgentMetrics() = default;
  void Copy(Phase phase, const AgentPipeline& pipeline, const SelfRestraint& restraint);
  OperationsState State() const;

  int64_t next_ns_ = 0;  // the decoding thread's

  mutable std::mutex mutex_;  // guards what follows
  Phase phase_ = Phase::kStarting;
  Counters counters_;
  DetailLevel level_ = DetailLevel::kFull;
  std::array<int64_t, kDetailLevels> lasted_ns_{};
  const Shipper* shipper_ = nullptr;
  uint64_t spool_bytes_ = 0;

  std::unique_ptr<OperationsPort> port_;  // goes first: its threads use the rest
};

}  // namespace keytrail
