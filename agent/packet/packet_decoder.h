// Link, network and tunnel headers off a packet, down to the TCP segment.
//
// Stateless but for counters; one instance a thread. Checksums are not checked (offload makes them wrong at
// the sender). Malformed and foreign packets are counted and dropped.
#pragma once

#include "agent/capture/packet_source.h"
#include "agent/packet/segment.h"
#include "common/counters.h"

namespace keytrail {

class PacketDecoder {
 public:
  explicit PacketDecoder(Counters& counters) : counters_(counters) {}

  // Calls sink.OnSegment at most once (a tunnel's inner packet counts, not the outer).
  void Feed(const RawPacket& packet, SegmentSink& sink);

 private:
  Counters& counters_;
};

}  // namespace keytrail
