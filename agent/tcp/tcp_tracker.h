// Segments in, ordered bytes out (RFC 9293). See byte_events.h for what is promised.
//
// Holds bytes only while they are out of order, up to limits::kMaxHeldBytes*. One thread, no clock: time
// comes with the segments. Sequence numbers, ports and acknowledgements are believed, checksums and TCP
// options are not looked at.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "agent/packet/segment.h"
#include "agent/tcp/byte_events.h"
#include "common/counters.h"
#include "common/flow_key.h"

namespace keytrail {

// A connection that is not read, and its segments since the last look.
struct UnreadConnection {
  FlowKey key;
  int8_t opened_by = -1;  // as in ConnectionRef
  uint64_t segments = 0;
};

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

  // Nobody wants the bytes of this connection any more, and some of them may not be captured from now on: no
  // OnBytes() and no OnGap() follows, and its end (FIN, RST, another SYN, nothing for long) is told. Not from
  // within a call of the sink.
  void Disregard(const FlowKey& key);
  // All that are open and disregarded.
  void TakeUnread(std::vector<UnreadConnection>& connections);

  // Nothing will be read for a while: as Finish(), with CloseReason::kForgotten. What comes afterwards is
  // joined late, since nobody knows what a connection has seen in between.
  void Forget();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
