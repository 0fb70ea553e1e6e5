// Sequence numbers modulo 2^32 (RFC 9293 section 3.4).
#pragma once

#include <cstdint>

namespace keytrail {

// How far a lies after b (negative: before), for numbers less than 2^31 apart.
inline int32_t Distance(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b);
}

}  // namespace keytrail
