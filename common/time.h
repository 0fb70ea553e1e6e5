// Time as it stands in a capture: nanoseconds since the Unix epoch by the observer's clock.
//
// Two TimeNs of different hosts must not be subtracted without a clock offset (collector/correlate).
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace keytrail {

struct TimeNs {
  int64_t ns = std::numeric_limits<int64_t>::min();  // the default means "not seen"

  bool known() const { return ns != std::numeric_limits<int64_t>::min(); }
  friend auto operator<=>(const TimeNs&, const TimeNs&) = default;
  // Nanoseconds between two known times of one clock.
  friend int64_t operator-(TimeNs a, TimeNs b) { return a.ns - b.ns; }
};

inline constexpr TimeNs kTimeUnknown{};

}  // namespace keytrail
