// Bytes of TCP connections in, HTTP/2 stream events out (RFC 9113, HPACK RFC 7541 through nghttp2).
//
// Decides the protocol of a connection by content: preface, h2c upgrade, chains of valid frame headers for
// late joins; HTTP/1, TLS and others are counted and left alone. The only room that includes nghttp2.h.
// One thread; holds at most one header block and one frame header per direction besides limits::*.
#pragma once

#include <memory>

#include "agent/http2/stream_events.h"
#include "agent/tcp/byte_events.h"
#include "common/counters.h"

namespace keytrail {

class Http2Decoder final : public ByteSink {
 public:
  Http2Decoder(Http2Sink& sink, Counters& counters);
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
