// Live packets for a while, through the agent's own rooms as far as HTTP/2: what speaks which protocol at
// which port.
//
// The protocol of a connection is what the HTTP/2 room says of it, never a guess by port. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "agent/capture/packet_source.h"
#include "common/counters.h"
#include "common/result.h"

namespace keytrail {

// Connections by what they are, at one port of a server.
struct PortLook {
  uint64_t http2 = 0;
  uint64_t tls = 0;
  uint64_t unread = 0;             // another protocol, or one that did not show itself in time
  uint64_t requests = 0;           // HTTP/2 requests with a method that was seen
  std::set<std::string> services;  // "tikvpb.Tikv", of requests
};

struct TrafficLook {
  Counters counters;
  std::map<uint16_t, PortLook> ports;
  std::set<uint16_t> left_out;  // where HTTP/2 is spoken, and the filter hides it
  int64_t lasted_ns = 0;
};

// Reads `source` for `look_ns`, or until it is known at once that nothing can be read. Error: the source's.
Result<TrafficLook> LookAtTraffic(PacketSource& source, int64_t look_ns);

}  // namespace keytrail
