#include "collector/correlate/clock_pair.h"

#include <algorithm>

namespace keytrail::correlate {

void ClockPair::Add(bool a_is_client, const FourStamps& s) {
  const int64_t most = s.server_received - s.client_sent + kStampNs;
  const int64_t least = s.server_sent - s.client_received - kStampNs;
  const int64_t took = std::max(s.client_received - s.client_sent, s.server_sent - s.server_received);
  const bool in_order = s.client_sent <= s.client_received && s.server_received <= s.server_sent;
  if (!in_order || least - most > DriftWithin(took)) {
    ++refused_;
    return;
  }
  ++calls_;
  OffsetCurve& of_client = a_is_client ? a_to_b_ : b_to_a_;
  OffsetCurve& of_server = a_is_client ? b_to_a_ : a_to_b_;
  of_client.AddAtMost(s.client_sent, most);
  of_client.AddAtLeast(s.client_received, least);
  of_server.AddAtLeast(s.server_received, -most);
  of_server.AddAtMost(s.server_sent, -least);
}

void ClockPair::Coarsen(int shift) {
  a_to_b_.Coarsen(shift);
  b_to_a_.Coarsen(shift);
}

void ClockPair::Settle() {
  a_to_b_.Settle();
  b_to_a_.Settle();
  const auto a_twice = b_to_a_.OtherClockTwice();
  const auto b_twice = a_to_b_.OtherClockTwice();
  if (!a_twice.empty()) a_to_b_.Settle(a_twice);
  if (!b_twice.empty()) b_to_a_.Settle(b_twice);
}

}  // namespace keytrail::correlate
