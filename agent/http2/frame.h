// HTTP/2 frame headers and what makes one legal (RFC 9113 sections 4.1 and 6).
//
// Values without ownership, thread-safe by having no state.
#pragma once

#include <cstdint>

#include "common/bytes.h"

namespace keytrail {

inline constexpr size_t kFrameHeaderBytes = 9;
inline constexpr uint32_t kDefaultMaxFrameBytes = 16384;  // SETTINGS_MAX_FRAME_SIZE before any SETTINGS
inline constexpr std::string_view kClientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum FrameType : uint8_t {
  kFrameData = 0,
  kFrameHeaders = 1,
  kFramePriority = 2,
  kFrameReset = 3,
  kFrameSettings = 4,
  kFramePushPromise = 5,
  kFramePing = 6,
  kFrameGoaway = 7,
  kFrameWindowUpdate = 8,
  kFrameContinuation = 9,
};

// END_STREAM and ACK are one bit: which it is depends on the type.
inline constexpr uint8_t kFlagEndStream = 0x1;
inline constexpr uint8_t kFlagAck = 0x1;
inline constexpr uint8_t kFlagEndHeaders = 0x4;
inline constexpr uint8_t kFlagPadded = 0x8;
inline constexpr uint8_t kFlagPriority = 0x20;

struct FrameHeader {
  uint32_t length = 0;
  uint8_t type = 0;
  uint8_t flags = 0;
  bool reserved = false;  // the bit before the stream id: must be ignored, but is 0 in practice
  uint32_t stream = 0;

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
};

// The caller guarantees kFrameHeaderBytes readable bytes at p.
inline FrameHeader ReadFrameHeader(const uint8_t* p) {
  FrameHeader header;
  header.length = LoadBe24(p);
  header.type = p[3];
  header.flags = p[4];
  const uint32_t stream = LoadBe32(p + 5);
  header.reserved = (stream >> 31) != 0;
  header.stream = stream & 0x7FFFFFFF;
  return header;
}

// What a receiver must treat as a connection error by the header alone: a length over `max_frame_bytes` or
// wrong for the type, stream 0 where there must be one or the reverse. Unknown types and flags pass.
bool IsLegalFrame(const FrameHeader& header, uint32_t max_frame_bytes);

// IsLegalFrame, and nothing unusual either: a type of RFC 9113 without PUSH_PROMISE (gRPC never pushes),
// flags defined for the type alone, a client's (odd) stream id, the reserved bit 0. For the search of frames
// among unknown bytes, where a refusal costs little and a false frame much.
bool IsPlausibleFrame(const FrameHeader& header, uint32_t max_frame_bytes);

}  // namespace keytrail
