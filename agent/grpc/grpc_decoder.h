// HTTP/2 streams in, calls out: gRPC message framing, decompression, pairing, BatchCommands split,
// QueryRegion pairing.
//
// One thread, no clock. Per open stream it holds the facts of unanswered requests and the bytes of partial
// messages, within limits::*. Names come from :path, or where that was not seen from the evidence of the
// messages (agent/schema/naming.h); what waits for a name waits limits::kMaxWaitForNameNs of capture time at
// most.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "agent/grpc/call_events.h"
#include "agent/http2/stream_events.h"
#include "common/counters.h"
#include "common/detail_level.h"

namespace keytrail {

struct GrpcOptions {
  bool all = false;             // record Tso and etcd messages one by one
  bool keep_messages = false;   // fill CallRecord::request_message / response_message
  bool wants_messages = false;  // call CallSink::OnMessage
  bool full_text = false;       // OnMessage prints whole messages (to be left out from kDropPayloads on)
};

class GrpcDecoder final : public Http2Sink {
 public:
  GrpcDecoder(const Schema& schema, const GrpcOptions& options, CallSink& sink, Counters& counters);
  ~GrpcDecoder() override;

  // From now on; kCountOnly is as kHeadersOnly (nothing comes then).
  void SetDetail(DetailLevel level);

  void OnHttp2(const ConnectionRef& connection, Protocol protocol, int client_direction,
               TimeNs time) override;
  void OnClientKnown(const ConnectionRef& connection, int client_direction) override;
  void OnHeaders(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first, TimeNs last,
                 const HeaderBlock& block, bool end_stream) override;
  void OnData(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first, TimeNs last,
              Bytes data, bool frame_end, bool end_stream) override;
  void OnReset(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs time,
               uint32_t error_code) override;
  void OnGoaway(const ConnectionRef& connection, int direction, TimeNs time, uint32_t last_stream,
                uint32_t error_code) override;
  void OnLoss(const ConnectionRef& connection, int direction, TimeNs time, uint64_t lost_bytes,
              uint32_t affected_stream) override;
  void OnEnd(const ConnectionRef& connection, TimeNs time, CloseReason reason) override;

  // By path, for connections that began inside the capture (joined_at_start) and for all others.
  const std::map<std::string, PathCounts, std::less<>>& counts_from_start() const;
  const std::map<std::string, PathCounts, std::less<>>& counts_late() const;
  // BatchCommands sub-commands by oneof number: asked and answered, joined_at_start connections only.
  const std::map<uint32_t, PathCounts>& sub_counts_from_start() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
