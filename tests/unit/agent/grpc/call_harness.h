// HTTP/2 events in, a log of calls out: what the tests of the gRPC room share.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/grpc/grpc_decoder.h"
#include "tests/unit/agent/grpc/proto_writer.h"

namespace keytrail::testing {

const Schema& BundledSchema();

// One CallRecord, copied.
struct SeenCall {
  CallKind kind = CallKind::kUnary;
  MethodFrom from = MethodFrom::kUnknown;
  std::string method;
  std::string command;
  uint32_t stream = 0;
  std::optional<uint64_t> id;
  TimeNs req_first, req_last, resp_first, resp_last;
  uint64_t req_bytes = 0, resp_bytes = 0, req_messages = 0, resp_messages = 0;
  std::optional<uint32_t> grpc_status, http_status;
  std::string grpc_message;
  std::string client;
  bool client_known = true;
  bool from_start = false;
  bool reset = false;
  bool forwarded = false;
  bool follower_allowed = false;
  uint32_t incomplete = 0;
  bool has_request = false, has_response = false;
  uint64_t region_id = 0;                         // of the request's first route
  std::string first_key;                          // of the request
  uint64_t value_bytes = 0;                       // of the response
  std::vector<std::pair<ErrorKind, int>> errors;  // with their routes
  std::string request_message, response_message;

  // Everything on one line, for comparing runs and for reading a failure.
  std::string Line(bool with_times = true) const;
};

class CallLog final : public CallSink {
 public:
  void OnMessage(const MessageEvent& event) override;
  void OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) override;

  std::vector<SeenCall> calls;
  std::vector<std::string> events;  // "-> /path Get#1 12B"

  std::string Text(bool with_times = true) const;
  std::vector<SeenCall> Of(CallKind kind) const;
};

// One connection; the client is direction 0 unless told otherwise.
class CallHarness {
 public:
  explicit CallHarness(GrpcOptions options = {}, Protocol protocol = Protocol::kHttp2Start,
                       int client_direction = 0);

  CallLog log;
  Counters counters;
  GrpcDecoder decoder;
  ConnectionRef connection;
  FlowKey key;
  int64_t now = 1'000'000;  // of the next event
  int client = 0;

  // A request's HEADERS. An empty content type leaves the field out.
  void Request(uint32_t stream, std::string_view path, bool end_stream = false,
               std::string_view content_type = "application/grpc", std::string_view encoding = {});
  // The same with fields that nobody can read: path and content type stand in unknown slots. `former_*`: what
  // the slot was before a loss.
  void HiddenRequest(uint32_t stream, uint32_t slot = 62, std::string_view former_path = {},
                     uint32_t former_slot = 0);
  void Response(uint32_t stream, std::string_view content_type = "application/grpc",
                std::string_view encoding = {}, int http_status = 200);
  void Trailers(uint32_t stream, int grpc_status = 0, std::string_view grpc_message = {});
  void TrailersOnly(uint32_t stream, int grpc_status, std::string_view grpc_message = {});
  // One DATA frame in one piece.
  void Data(bool from_client, uint32_t stream, std::string_view bytes, bool end_stream = false);
  // A piece of a DATA frame.
  void Piece(bool from_client, uint32_t stream, std::string_view bytes, bool frame_end,
             bool end_stream = false);
  void Reset(bool from_client, uint32_t stream);
  void Goaway(uint32_t last_stream);
  void Loss(bool from_client, uint64_t bytes = 100, uint32_t affected_stream = 0);
  void End(CloseReason reason = CloseReason::kInputEnd);

  // A whole unary call with no status but 0.
  void UnaryCall(uint32_t stream, std::string_view path, std::string_view request, std::string_view response);

 private:
  int Direction(bool from_client) const { return from_client ? client : 1 - client; }
};

// 5-byte prefix and body.
std::string Framed(std::string_view body, bool compressed = false);

// Messages of kvproto.
Proto Context(uint64_t region);
std::string GetRequest(uint64_t region, std::string_view key);
std::string GetResponse(std::string_view value);
struct Command {
  uint64_t id;
  uint32_t number;
  std::string message;
};
std::string Batch(const std::vector<Command>& commands, bool packed = true);

}  // namespace keytrail::testing
