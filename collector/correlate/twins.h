// One connection that two agents saw between different ends, because a NAT or a TCP proxy stands between
// them.
//
// The client's agent sees client -> V, the server's agent G -> server: two connections by their addresses.
// Addresses say nothing of it, so what is compared is what went over them: the same calls (stream, request
// id, and what was asked), each of them asked on no third connection, and every answer within the time in
// which the client waited for it, whatever the two clocks' distance is. Once some are found and the clocks
// of two machines are known to a millisecond, others need fewer calls, and those may be alike. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "collector/correlate/call_log.h"
#include "collector/correlate/clock_graph.h"
#include "collector/correlate/hosts.h"

namespace keytrail::correlate {

// Both into CallLog::connections().
struct TwinConnections {
  uint32_t client_side = kNone;  // seen by an agent on the client's machine, by none on the server's
  uint32_t server_side = kNone;  // the other way round
  uint32_t calls = 0;            // that are the same on both
};

// Those that are proved and have one possible partner alone. `clocks` is of the same hosts. A connection
// whose ends were used again for another one is never a twin: it could not be told which of the two it is.
// Costs nothing where every connection was seen from both ends or no agent saw a server's end alone.
std::vector<TwinConnections> FindTwins(const CallLog& log, const HostTable& hosts, const ClockGraph& clocks);

}  // namespace keytrail::correlate
