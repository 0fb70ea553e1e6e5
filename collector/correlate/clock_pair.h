// The clocks of two machines against each other, from calls that were seen on both.
//
// A call's first byte leaves the client at its reading t1 and reaches the server at the server's reading t2;
// the answer's first byte leaves at t3 and arrives at t4. Hence t3 - t4 <= server - client <= t2 - t1, each
// at its own moment. That takes stamps of the same byte: a call counts only if no byte of it is missing at
// either end.
//
// What a capture can do to a stamp:
// - A segment that was lost on the way and sent again is stamped at the sender when it left first: the bound
// is
//   looser, not false. The same holds for any delay at the receiver.
// - A sender's capture that missed a segment which did arrive, and saw it sent once more for no need, has a
//   stamp after the arrival. A bound from it contradicts the call's other one, and the call is refused, or it
//   contradicts other calls and OffsetCurve holds both possible around that moment.
// - Classic pcap cuts stamps to microseconds: kStampNs widens every bound.
// - Stamps from a network card's own clock, or of a card that merges segments and keeps the time of the last
//   byte's last copy, are not foreseen.
// Pure, not thread-safe.
#pragma once

#include <cstdint>

#include "collector/correlate/offset_curve.h"

namespace keytrail::correlate {

// How much later than its stamp says an event may have been.
inline constexpr int64_t kStampNs = 1000;

// First bytes of request and response, each by the clock of the machine that saw it.
struct FourStamps {
  int64_t client_sent = 0;
  int64_t server_received = 0;
  int64_t server_sent = 0;
  int64_t client_received = 0;
};

// Two machines, "a" and "b". Each curve is read with the stamps of the machine that it begins at.
class ClockPair {
 public:
  // Constant but for the search of a bucket. Stamps must be times, not kNoTime.
  void Add(bool a_is_client, const FourStamps& stamps);
  void Coarsen(int shift);
  void Settle();
  size_t bucket_count() const { return a_to_b_.bucket_count() + b_to_a_.bucket_count(); }

  // b minus a by a's reading; a minus b by b's.
  const OffsetCurve& a_to_b() const { return a_to_b_; }
  const OffsetCurve& b_to_a() const { return b_to_a_; }
  uint64_t calls() const { return calls_; }
  // Calls that contradict themselves: no offset explains all four stamps.
  uint64_t refused() const { return refused_; }

 private:
  OffsetCurve a_to_b_;
  OffsetCurve b_to_a_;
  uint64_t calls_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace keytrail::correlate
