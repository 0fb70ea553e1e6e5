// Segments in, ordered bytes out (RFC 9293). See byte_events.h for what is promised.
//
// Holds bytes only while they are out of order, up to limits::kMaxHeldBytes*. One thread, no clock: time
// comes with the segments. Sequence numbers, ports and acknowledgements are believed, checksums and TCP
// options are not looked at.
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

  // The capture's clock has reached `now` without a segment (a live device that is quiet): what waits for
  // time only is let go. Optional; segments bring their own time.
  void Advance(TimeNs now);

  // The input has ended: what is held is delivered (holes become gaps), every connection is closed.
  void Finish();

  // Nothing will be read for a while: as Finish(), with CloseReason::kForgotten. What comes afterwards is
  // joined late, since nobody knows what a connection has seen in between.
  void Forget();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
