// Link, network and tunnel headers off a packet, down to the TCP segment.
//
// Stateless but for counters and IP fragments that wait for the rest of their datagram; one instance a
// thread. Checksums are not checked (offload makes them wrong at the sender). Malformed and foreign packets
// are counted and dropped.
#pragma once

#include "agent/capture/packet_source.h"
#include "agent/packet/fragment_table.h"
#include "agent/packet/segment.h"
#include "common/counters.h"

namespace keytrail {

class PacketDecoder {
 public:
  explicit PacketDecoder(Counters& counters, const FragmentCaps& caps = {})
      : counters_(counters), fragments_(counters, caps) {}

  // Calls sink.OnSegment at most once (a tunnel's inner packet counts, not the outer). The segment of a
  // datagram in fragments has the time of the packet that completes it.
  void Feed(const RawPacket& packet, SegmentSink& sink);

  // The input has ended: datagrams that lack fragments are counted.
  void Finish() { fragments_.Finish(); }

 private:
  Counters& counters_;
  FragmentTable fragments_;
};

}  // namespace keytrail
