// Whether a collector would take this agent, found out without becoming one of its agents: for `--doctor`.
//
// Resolves, connects, reads the other end's ZMTP greeting (https://rfc.zeromq.org/spec/23), makes the agent's
// own handshake, and sends a heartbeat. A collector answers that one with "say hello first", which proves
// that it is one and leaves nothing in its database. One thread; waits a few seconds for each step at most.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/curve_key.h"
#include "common/result.h"

namespace keytrail {

struct CollectorProbe {
  enum class Outcome {
    kAnswers,
    kNoAddress,      // the address is none, or its host's name is not known
    kNeedsKeys,      // not of this host, and there are no keys
    kRefused,        // nothing listens there
    kNoWay,          // the network does not take it there, or nothing comes back
    kSilent,         // it takes the connection and says nothing of ZeroMQ's in time
    kOtherProtocol,  // it says something else
    kWantsKeys,      // it has keys, we have none
    kHasNoKeys,      // we have keys, it has none
    kOtherKey,       // its key is not the one of --server-key
    kNotAdmitted,    // it does not know our key
    kNoCollector,    // ZeroMQ, but not keytrail's protocol
    kVersion,        // another version of the protocol
  };
  Outcome outcome = Outcome::kNoAddress;
  std::string detail;      // the system's or the collector's words
  int64_t connect_ns = 0;  // how long connecting took
};

CollectorProbe ProbeCollector(const std::string& address, const std::optional<AgentKeys>& keys);

}  // namespace keytrail
