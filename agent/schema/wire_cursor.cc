#include "agent/schema/wire_cursor.h"

#include <bit>
#include <cstring>

namespace keytrail::wire {

namespace {

Read VarintByByte(const uint8_t* p, const uint8_t* end) {
  uint64_t v = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (p == end) return {nullptr, 0};
    const uint64_t byte = *p++;
    v |= (byte & 0x7F) << shift;
    if (byte < 0x80) return {p, v};
  }
  return {nullptr, 0};
}

}  // namespace

Read ReadLongVarint(const uint8_t* p, const uint8_t* end) {
  if (std::endian::native != std::endian::little || end - p < 8) return VarintByByte(p, end);
  // Eight bytes at once: the first without its top bit ends the number; then the 7-bit groups move together.
  uint64_t x;
  std::memcpy(&x, p, sizeof x);
  const uint64_t stops = ~x & 0x8080808080808080u;
  if (stops != 0) x &= stops ^ (stops - 1);
  uint64_t v = x & 0x7F7F7F7F7F7F7F7Fu;
  v = (v & 0x007F007F007F007Fu) | (v & 0x7F007F007F007F00u) >> 1;
  v = (v & 0x00003FFF00003FFFu) | (v & 0x3FFF00003FFF0000u) >> 2;
  v = (v & 0x000000000FFFFFFFu) | (v & 0x0FFFFFFF00000000u) >> 4;
  if (stops != 0) return {p + (std::countr_zero(stops) >> 3) + 1, v};
  // 9 or 10 bytes; of the tenth only one bit fits.
  if (end - p == 8) return {nullptr, 0};
  v |= uint64_t{p[8] & 0x7Fu} << 56;
  if (p[8] < 0x80) return {p + 9, v};
  if (end - p == 9 || p[9] >= 0x80) return {nullptr, 0};
  return {p + 10, v | uint64_t{p[9]} << 63};
}

Read ReadLongTag(const uint8_t* p, const uint8_t* end) {
  uint32_t v = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (p == end) return {nullptr, 0};
    const uint32_t byte = *p++;
    v |= (byte & 0x7F) << shift;
    if (byte < 0x80) return {p, v};
  }
  return {nullptr, 0};
}

Read ReadLongLength(const uint8_t* p, const uint8_t* end) {
  uint32_t v = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (p == end) return {nullptr, 0};
    const uint32_t byte = *p++;
    if (shift == 28 && byte > 0x07) return {nullptr, 0};  // 2 GiB and more
    v |= (byte & 0x7F) << shift;
    if (byte < 0x80) return {static_cast<uint64_t>(end - p) >= v ? p : nullptr, v};
  }
  return {nullptr, 0};
}

const uint8_t* SkipGroup(const uint8_t* p, const uint8_t* end, uint32_t number, int depth) {
  if (depth <= 0) return nullptr;
  while (p < end) {
    uint32_t tag;
    p = ReadTag(p, end, tag);
    if (!p || (tag >> 3) == 0) return nullptr;
    if ((tag & 7) == kEndGroup) return (tag >> 3) == number ? p : nullptr;
    p = SkipValue(p, end, tag, depth - 1);
    if (!p) return nullptr;
  }
  return nullptr;
}

}  // namespace keytrail::wire
