// The protobuf wire format, read with raw pointers: tags, varints, lengths, and skipping of any field.
//
// Every function takes p < end or p == end, never reads at or behind `end`, and gives nullptr if the bytes
// are damaged (cut short, a varint of more than 10 bytes, a length beyond `end`, tag 0, a wire type of 6 or
// 7, an unmatched group). Accepts what protobuf's own C++ parser accepts: overlong varints, and tags whose
// fifth byte has bits beyond 32 (they are dropped).
// Source: https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <cstdint>

namespace keytrail::wire {

enum Type : uint8_t { kVarint = 0, kFixed64 = 1, kLen = 2, kStartGroup = 3, kEndGroup = 4, kFixed32 = 5 };

// The longer halves, in wire_cursor.cc. Results come back in registers: an out-parameter would keep the
// caller's hot variables in memory.
struct Read {
  const uint8_t* p;  // nullptr: damaged
  uint64_t value;
};
Read ReadLongVarint(const uint8_t* p, const uint8_t* end);
Read ReadLongTag(const uint8_t* p, const uint8_t* end);
Read ReadLongLength(const uint8_t* p, const uint8_t* end);
const uint8_t* SkipGroup(const uint8_t* p, const uint8_t* end, uint32_t number, int depth);

inline const uint8_t* ReadVarint(const uint8_t* p, const uint8_t* end, uint64_t& value) {
  if (p < end && *p < 0x80) [[likely]] {
    value = *p;
    return p + 1;
  }
  // Ids and versions of regions have two or three bytes.
  if (end - p >= 3) {
    if (p[1] < 0x80) {
      value = (p[0] & 0x7Fu) | static_cast<uint32_t>(p[1]) << 7;
      return p + 2;
    }
    if (p[2] < 0x80) {
      value = (p[0] & 0x7Fu) | (p[1] & 0x7Fu) << 7 | static_cast<uint32_t>(p[2]) << 14;
      return p + 3;
    }
  }
  const Read read = ReadLongVarint(p, end);
  value = read.value;
  return read.p;
}

inline const uint8_t* ReadTag(const uint8_t* p, const uint8_t* end, uint32_t& tag) {
  if (*p < 0x80) [[likely]] {
    tag = *p;
    return p + 1;
  }
  if (end - p >= 2 && p[1] < 0x80) {
    tag = (p[0] & 0x7Fu) | static_cast<uint32_t>(p[1]) << 7;
    return p + 2;
  }
  const Read read = ReadLongTag(p, end);
  tag = static_cast<uint32_t>(read.value);
  return read.p;
}

// The length of a length-delimited field, checked against `end`.
inline const uint8_t* ReadLength(const uint8_t* p, const uint8_t* end, uint32_t& length) {
  if (p < end && *p < 0x80) [[likely]] {
    length = *p++;
    return static_cast<uint64_t>(end - p) >= length ? p : nullptr;
  }
  const Read read = ReadLongLength(p, end);
  length = static_cast<uint32_t>(read.value);
  return read.p;
}

// Skips the value behind a tag. `depth` is how many more groups may be open.
inline const uint8_t* SkipValue(const uint8_t* p, const uint8_t* end, uint32_t tag, int depth) {
  switch (tag & 7) {
    case kVarint:
      for (int i = 0; i < 10 && p < end; ++i) {
        if (*p++ < 0x80) return p;
      }
      return nullptr;
    case kFixed64:
      return end - p >= 8 ? p + 8 : nullptr;
    case kLen: {
      uint32_t length;
      p = ReadLength(p, end, length);
      return p ? p + length : nullptr;
    }
    case kStartGroup:
      return SkipGroup(p, end, tag >> 3, depth);
    case kFixed32:
      return end - p >= 4 ? p + 4 : nullptr;
    default:
      return nullptr;
  }
}

}  // namespace keytrail::wire
