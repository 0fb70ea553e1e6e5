// TCP segments out of raw packets.
#pragma once

#include <cstdint>

#include "common/bytes.h"
#include "common/flow_key.h"
#include "common/time.h"

namespace keytrail {

// TCP flags as on the wire (RFC 9293 section 3.1).
namespace tcp_flag {
inline constexpr uint8_t kFin = 0x01;
inline constexpr uint8_t kSyn = 0x02;
inline constexpr uint8_t kRst = 0x04;
inline constexpr uint8_t kPsh = 0x08;
inline constexpr uint8_t kAck = 0x10;
}  // namespace tcp_flag

struct Segment {
  TimeNs time;
  Endpoint source;
  Endpoint destination;
  uint32_t sequence = 0;
  uint32_t acknowledgement = 0;  // meaningful with kAck
  uint8_t flags = 0;
  Bytes payload;                 // captured payload bytes; valid during OnSegment only
  uint32_t payload_length = 0;   // payload bytes on the wire; more than payload.size() if the snaplen cut it
};

class SegmentSink {
 public:
  virtual ~SegmentSink() = default;
  virtual void OnSegment(const Segment& segment) = 0;
};

}  // namespace keytrail
