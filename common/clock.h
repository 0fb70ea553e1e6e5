// Now, in nanoseconds. Not for the rooms that get their time from the capture.
#pragma once

#include <chrono>
#include <cstdint>

namespace keytrail {

// Of a clock that nobody sets; its zero means nothing.
inline int64_t SteadyNs() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Since the Unix epoch, by this host's clock, which may be set.
inline int64_t WallClockNs() {
  return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace keytrail
