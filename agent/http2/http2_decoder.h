// Bytes of TCP connections in, HTTP/2 stream events out (RFC 9113, HPACK RFC 7541 through nghttp2).
//
// Decides the protocol of a connection by content: preface, h2c upgrade, chains of valid frame headers for
// late joins; HTTP/1, TLS and others are counted and left alone. The only room that includes nghttp2.h.
// One thread, no clock. A direction that is in step holds at most a frame header and a header block; bytes of
// an undecided or lost direction are held up to limits::kMaxDetectBytes. Spans end with the call.
//
// After a loss, or joined late, frames are told only once a chain of them is proved (frame_search.h), and
// table entries from before are unknown fields with a slot number (hpack_decoder.h): never a guess. A
// connection that is not HTTP/2 is counted at its close and never told to the sink.
#pragma once

#include <memory>

#include "agent/http2/stream_events.h"
#include "agent/tcp/byte_events.h"
#include "common/counters.h"

namespace keytrail {

class Http2Decoder final : public ByteSink {
 public:
  // `protocols` may be null.
  Http2Decoder(Http2Sink& sink, Counters& counters, ProtocolSink* protocols = nullptr);
  ~Http2Decoder() override;

  void OnOpen(const ConnectionRef& connection, TimeNs time) override;
  void OnBytes(const ConnectionRef& connection, int direction, TimeNs time, uint64_t offset,
               Bytes bytes) override;
  void OnGap(const ConnectionRef& connection, int direction, TimeNs time, uint64_t offset,
             uint64_t length) override;
  void OnClose(const ConnectionRef& connection, TimeNs time, CloseReason reason) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
