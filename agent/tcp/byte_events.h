// Ordered bytes of TCP connections: deliver, gap, end.
//
// Rules of the producer (agent/tcp/tcp_tracker.h):
//  - bytes of one direction come in sequence order, each byte once; the first copy of a byte wins;
//  - causality: bytes come after the bytes of the other direction that their segment acknowledges, as far
//    as those were captured; so an answer never precedes its question even if packets were shuffled;
//  - a gap is an event with a length, never bytes;
//  - OnOpen comes first, OnClose last, for every connection that had payload or a SYN.
#pragma once

#include <cstdint>

#include "common/bytes.h"
#include "common/flow_key.h"
#include "common/time.h"

namespace keytrail {

// A connection under way. `slot` is small and dense and reused after OnClose, for use as a vector index by
// the rooms behind; `serial` is unique in its tracker.
struct ConnectionRef {
  uint32_t slot = 0;
  uint64_t serial = 0;
  const FlowKey* key = nullptr;  // valid until OnClose returns
  // The handshake was seen (the SYN, or the SYN-ACK that answers it): opened by a (0) or b (1). -1: joined
  // late.
  int8_t opened_by = -1;
};

enum class CloseReason : uint8_t {
  kFin,
  kReset,
  kReplaced /* port reused */,
  kIdle,
  kCap,
  kInputEnd,
  kForgotten /* nothing is read for a while */
};

// Direction 0 is a -> b of the flow key, 1 is b -> a.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual void OnOpen(const ConnectionRef& connection, TimeNs time) = 0;
  // `bytes` is valid during the call. `time` is that of the packet that carried them. `offset` counts this
  // direction's bytes, gaps included, from the first one that the tracker knew of.
  virtual void OnBytes(const ConnectionRef& connection, int direction, TimeNs time, uint64_t offset,
                       Bytes bytes) = 0;
  // `length` bytes are missing before the next OnBytes of this direction.
  virtual void OnGap(const ConnectionRef& connection, int direction, TimeNs time, uint64_t offset,
                     uint64_t length) = 0;
  virtual void OnClose(const ConnectionRef& connection, TimeNs time, CloseReason reason) = 0;
};

}  // namespace keytrail
