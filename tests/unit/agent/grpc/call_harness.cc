#include "tests/unit/agent/grpc/call_harness.h"

#include <cstdio>
#include <cstdlib>

namespace keytrail::testing {

const Schema& BundledSchema() {
  static const std::unique_ptr<Schema> schema = [] {
    Result<std::unique_ptr<Schema>> built = Schema::Bundled();
    if (!built) {
      std::fprintf(stderr, "no schema: %s\n", built.error().c_str());
      std::abort();
    }
    return std::move(*built);
  }();
  return *schema;
}

namespace {

std::string TimeText(TimeNs t) {
  return t.known() ? std::to_string(t.ns) : "?";
}

Endpoint MakeEndpoint(uint8_t last, uint16_t port) {
  Endpoint e;
  e.address.family = 4;
  e.address.bytes[0] = 10;
  e.address.bytes[3] = last;
  e.port = port;
  return e;
}

}  // namespace

std::string SeenCall::Line(bool with_times) const {
  std::string s(CallKindName(kind));
  s += " " + (method.empty() ? "?" : method) + " from=" + std::string(MethodFromName(from));
  if (!command.empty()) s += " " + command;
  if (id) s += "#" + std::to_string(*id);
  s += " stream=" + std::to_string(stream) + " client=" + client;
  s += " req=" + std::to_string(req_messages) + "/" + std::to_string(req_bytes);
  s += " resp=" + std::to_string(resp_messages) + "/" + std::to_string(resp_bytes);
  if (with_times) {
    s += " t=" + TimeText(req_first) + "," + TimeText(req_last) + "," + TimeText(resp_first) + "," +
         TimeText(resp_last);
  }
  if (grpc_status) s += " grpc=" + std::to_string(*grpc_status);
  if (http_status) s += " http=" + std::to_string(*http_status);
  if (!grpc_message.empty()) s += " \"" + grpc_message + "\"";
  if (reset) s += " reset";
  if (has_request) s += " region=" + std::to_string(region_id) + " key=" + first_key;
  if (has_response) s += " value=" + std::to_string(value_bytes);
  for (const auto& [error_kind, route] : errors) {
    s += " error=" + std::string(ErrorKindName(error_kind)) + "@" + std::to_string(route);
  }
  for (int bit = 0; bit < kIncompleteBits; ++bit) {
    if (incomplete >> bit & 1) s += " " + std::string(IncompleteName(bit));
  }
  return s;
}

void CallLog::OnMessage(const MessageEvent& event) {
  std::string s = event.is_response ? "<- " : "-> ";
  s += event.call->method.empty() ? "?" : std::string(event.call->method);
  if (!event.call->command.empty()) s += " " + std::string(event.call->command);
  if (event.call->request_id) s += "#" + std::to_string(*event.call->request_id);
  s += " " + std::to_string(event.message.size()) + "B";
  if (event.is_response && event.call->req_first.known()) {
    s += " after " + std::to_string(event.call->resp_last - event.call->req_first);
  }
  events.push_back(s);
}

void CallLog::OnCall(const CallRecord& call, MessageType, MessageType) {
  SeenCall seen;
  seen.kind = call.kind;
  seen.from = call.method_from;
  seen.method = call.method;
  seen.command = call.command;
  seen.stream = call.stream;
  seen.id = call.request_id;
  seen.req_first = call.req_first;
  seen.req_last = call.req_last;
  seen.resp_first = call.resp_first;
  seen.resp_last = call.resp_last;
  seen.req_bytes = call.req_bytes;
  seen.resp_bytes = call.resp_bytes;
  seen.req_messages = call.req_messages;
  seen.resp_messages = call.resp_messages;
  seen.grpc_status = call.grpc_status;
  seen.http_status = call.http_status;
  seen.grpc_message = call.grpc_message;
  seen.client = FormatEndpoint(call.client);
  seen.client_known = call.client_known;
  seen.from_start = call.joined_at_start;
  seen.reset = call.reset;
  seen.forwarded = call.forwarded;
  seen.follower_allowed = call.follower_allowed;
  seen.incomplete = call.incomplete;
  seen.has_request = call.request != nullptr;
  seen.has_response = call.response != nullptr;
  if (call.request != nullptr) {
    if (!call.request->routes.empty()) seen.region_id = call.request->routes[0].region_id;
    if (!call.request->keys.empty()) seen.first_key = ToString(call.request->keys[0].start);
  }
  if (call.response != nullptr) {
    seen.value_bytes = call.response->value_bytes;
    for (const ErrorFact& error : call.response->errors) seen.errors.emplace_back(error.kind, error.route);
  }
  seen.request_message = ToString(call.request_message);
  seen.response_message = ToString(call.response_message);
  calls.push_back(std::move(seen));
}

std::string CallLog::Text(bool with_times) const {
  std::string text;
  for (const SeenCall& call : calls) text += call.Line(with_times) + "\n";
  return text;
}

std::vector<SeenCall> CallLog::Of(CallKind kind) const {
  std::vector<SeenCall> found;
  for (const SeenCall& call : calls) {
    if (call.kind == kind) found.push_back(call);
  }
  return found;
}

CallHarness::CallHarness(GrpcOptions options, Protocol protocol, int client_direction)
    : decoder(BundledSchema(), options, log, counters) {
  key.a = MakeEndpoint(1, 40000);
  key.b = MakeEndpoint(2, 20160);
  connection.slot = 3;
  connection.serial = 77;
  connection.key = &key;
  client = client_direction < 0 ? 0 : client_direction;
  decoder.OnHttp2(connection, protocol, client_direction, TimeNs{now});
}

void CallHarness::Request(uint32_t stream, std::string_view path, bool end_stream,
                          std::string_view content_type, std::string_view encoding) {
  std::vector<HeaderField> fields = {{":method", "POST"}, {":scheme", "http"}, {":path", path}};
  HeaderBlock block;
  block.method = "POST";
  block.path = path;
  block.content_type = content_type;
  block.grpc_encoding = encoding;
  if (!content_type.empty()) fields.push_back({"content-type", content_type});
  if (!encoding.empty()) fields.push_back({"grpc-encoding", encoding});
  block.fields = fields;
  decoder.OnHeaders(connection, Direction(true), stream, TimeNs{now}, TimeNs{now}, block, end_stream);
}

void CallHarness::HiddenRequest(uint32_t stream, uint32_t slot, std::string_view former_path,
                                uint32_t former_slot) {
  const std::vector<HeaderField> fields = {
      {":method", "POST"}, {":scheme", "http"}, {{}, {}, true, slot}, {{}, {}, true, slot + 1}};
  HeaderBlock block;
  block.method = "POST";
  block.fields = fields;
  block.has_unknown = true;
  block.path_slot = slot;
  block.former_path = former_path;
  block.former_slot = former_slot;
  decoder.OnHeaders(connection, Direction(true), stream, TimeNs{now}, TimeNs{now}, block, false);
}

void CallHarness::Response(uint32_t stream, std::string_view content_type, std::string_view encoding,
                           int http_status) {
  HeaderBlock block;
  block.http_status = http_status;
  block.content_type = content_type;
  block.grpc_encoding = encoding;
  decoder.OnHeaders(connection, Direction(false), stream, TimeNs{now}, TimeNs{now}, block, false);
}

void CallHarness::Trailers(uint32_t stream, int grpc_status, std::string_view grpc_message) {
  HeaderBlock block;
  block.grpc_status = grpc_status;
  block.grpc_message = grpc_message;
  decoder.OnHeaders(connection, Direction(false), stream, TimeNs{now}, TimeNs{now}, block, true);
}

void CallHarness::TrailersOnly(uint32_t stream, int grpc_status, std::string_view grpc_message) {
  HeaderBlock block;
  block.http_status = 200;
  block.content_type = "application/grpc";
  block.grpc_status = grpc_status;
  block.grpc_message = grpc_message;
  decoder.OnHeaders(connection, Direction(false), stream, TimeNs{now}, TimeNs{now}, block, true);
}

void CallHarness::Data(bool from_client, uint32_t stream, std::string_view bytes, bool end_stream) {
  Piece(from_client, stream, bytes, true, end_stream);
}

void CallHarness::Piece(bool from_client, uint32_t stream, std::string_view bytes, bool frame_end,
                        bool end_stream) {
  // A copy of its own, so that a sanitizer sees whoever keeps the span.
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  decoder.OnData(connection, Direction(from_client), stream, TimeNs{now}, TimeNs{now}, copy, frame_end,
                 end_stream);
}

void CallHarness::Reset(bool from_client, uint32_t stream) {
  decoder.OnReset(connection, Direction(from_client), stream, TimeNs{now}, 8);
}

void CallHarness::Goaway(uint32_t last_stream) {
  decoder.OnGoaway(connection, Direction(false), TimeNs{now}, last_stream, 0);
}

void CallHarness::Loss(bool from_client, uint64_t bytes, uint32_t affected_stream) {
  decoder.OnLoss(connection, Direction(from_client), TimeNs{now}, bytes, affected_stream);
}

void CallHarness::End(CloseReason reason) {
  decoder.OnEnd(connection, TimeNs{now}, reason);
}

void CallHarness::UnaryCall(uint32_t stream, std::string_view path, std::string_view request,
                            std::string_view response) {
  Request(stream, path);
  now += 10;
  Data(true, stream, Framed(request), true);
  now += 10;
  Response(stream);
  now += 10;
  Data(false, stream, Framed(response));
  now += 10;
  Trailers(stream);
  now += 10;
}

std::string Framed(std::string_view body, bool compressed) {
  std::string s(1, compressed ? '\1' : '\0');
  for (int shift = 24; shift >= 0; shift -= 8) s += static_cast<char>(body.size() >> shift);
  return s.append(body);
}

Proto Context(uint64_t region) {
  return Proto()
      .Varint(1, region)
      .Message(2, Proto().Varint(1, 1).Varint(2, 5))
      .Message(3, Proto().Varint(1, 3).Varint(2, 1));
}

std::string GetRequest(uint64_t region, std::string_view get_key) {
  return Proto().Message(1, Context(region)).Text(2, get_key).Varint(3, 449).bytes();
}

std::string GetResponse(std::string_view value) {
  return Proto().Text(3, value).bytes();
}

std::string Batch(const std::vector<Command>& commands, bool packed) {
  Proto batch;
  Proto ids;
  for (const Command& c : commands) {
    batch.Message(1, Proto().Text(c.number, c.message));
    ids.Raw(c.id);
  }
  if (packed) return batch.Text(2, ids.bytes()).bytes();
  for (const Command& c : commands) batch.Varint(2, c.id);
  return batch.bytes();
}

}  // namespace keytrail::testing
