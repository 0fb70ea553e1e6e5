#include "agent/schema/wire_cursor.h"

namespace keytrail::wire {

const uint8_t* ReadLongVarint(const uint8_t* p, const uint8_t* end, uint64_t& value) {
  uint64_t v = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (p == end) return nullptr;
    const uint64_t byte = *p++;
    v |= (byte & 0x7F) << shift;
    if (byte < 0x80) {
      value = v;
      return p;
    }
  }
  return nullptr;
}

const uint8_t* ReadLongTag(const uint8_t* p, const uint8_t* end, uint32_t& tag) {
  uint32_t v = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (p == end) return nullptr;
    const uint32_t byte = *p++;
    v |= (byte & 0x7F) << shift;
    if (byte < 0x80) {
      tag = v;
      return p;
    }
  }
  return nullptr;
}

const uint8_t* ReadLongLength(const uint8_t* p, const uint8_t* end, uint32_t& length) {
  uint32_t v = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (p == end) return nullptr;
    const uint32_t byte = *p++;
    if (shift == 28 && byte > 0x07) return nullptr;  // 2 GiB and more
    v |= (byte & 0x7F) << shift;
    if (byte < 0x80) {
      length = v;
      return static_cast<uint64_t>(end - p) >= v ? p : nullptr;
    }
  }
  return nullptr;
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
