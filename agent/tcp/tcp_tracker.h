// Segments in, ordered bytes out (RFC 9293). See byte_events.h for what is promised.
//
// Holds bytes only while they are out of order, up to limits::kMaxHeldBytes*. One thread, no clock: time
// comes with the segments.
#pragma once

#include <memory>

#include "agent/packet/segment.h"
#include "agent/tcp/byte_events.h"
#include "common/counters.h"

namespace keytrail {

class TcpTracker final : public SegmentSink {
 public:
  TcpTracker(ByteSink& sink, Counters& counters);
  ~TcpTracker() override;

  void OnSegment(const Segment& segment) override;

  // The input has ended: what is held is delivered (holes become gaps), every connection is closed.
  void Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
