#include "agent/grpc/call_writer.h"

#include <algorithm>

namespace keytrail::grpc {

namespace {

bool SeenFromItsStart(const StreamHalf& half) {
  return half.headers_seen || half.messages != 0;
}

// Times of all bytes of a direction: of HEADERS to trailers, as far as they were seen.
void SetTimes(const StreamHalf& half, TimeNs& first, TimeNs& last) {
  if (SeenFromItsStart(half)) first = half.first;
  if (SeenFromItsStart(half) || half.ended) last = half.last;
}

}  // namespace

void MatchTaskErrors(const MessageFacts& request, MessageFacts& response) {
  for (ErrorFact& error : response.errors) {
    if (error.task_id == 0) continue;
    for (size_t i = 0; i < request.routes.size(); ++i) {
      const Route& route = request.routes[i];
      if (route.kind != Route::Kind::kTask || route.task_id != error.task_id) continue;
      error.route = static_cast<uint16_t>(i);
      break;
    }
  }
}

void CallWriter::Begin(const Connection& connection, const Stream& stream, CallKind kind) {
  record_ = CallRecord();
  record_.connection = connection.serial;
  const bool client_is_b = connection.request_direction() == 1;
  record_.client = client_is_b ? connection.key->b : connection.key->a;
  record_.server = client_is_b ? connection.key->a : connection.key->b;
  record_.client_known = connection.client_direction >= 0;
  record_.joined_at_start = connection.from_start;
  record_.kind = kind;
  if (stream.entry != nullptr && !stream.entry->path.empty()) {
    record_.method = stream.entry->path;
    record_.method_from = stream.name_from;
  }
  record_.stream = stream.id;
  record_.forwarded = stream.forwarded;
  record_.follower_allowed = stream.follower_allowed;
  const StreamHalf& request = stream.halves[connection.request_direction()];
  if (!request.headers_seen || stream.headers_unreadable) record_.incomplete |= kHeadersNotSeen;
}

void CallWriter::SetRequest(const HeldMessage& message) {
  record_.req_bytes = message.bytes;
  record_.req_messages = 1;
  record_.request = message.facts.get();
  record_.incomplete |= message.incomplete;
  if (message.body != nullptr) record_.request_message = *message.body;
}

void CallWriter::SetResponse(const HeldMessage& message) {
  record_.resp_bytes = message.bytes;
  record_.resp_messages = 1;
  record_.response = message.facts.get();
  record_.incomplete |= message.incomplete;
  if (message.body != nullptr) record_.response_message = *message.body;
}

void CallWriter::Emit(MessageType request_type, MessageType response_type) {
  switch (record_.method_from) {
    case MethodFrom::kUnknown:
      counters_.Add(Counter::kCallsUnknown);
      break;
    case MethodFrom::kHeader:
      counters_.Add(Counter::kCallsHeader);
      break;
    case MethodFrom::kSlot:
      counters_.Add(Counter::kCallsSlot);
      break;
    case MethodFrom::kShape:
      counters_.Add(Counter::kCallsShape);
      break;
  }
  sink_.OnCall(record_, request_type, response_type);
}

void CallWriter::Unary(const Connection& connection, Stream& stream, bool reset, uint32_t ended) {
  Begin(connection, stream, CallKind::kUnary);
  const int direction = connection.request_direction();
  StreamHalf& request = stream.halves[direction];
  StreamHalf& response = stream.halves[1 - direction];
  SetTimes(request, record_.req_first, record_.req_last);
  SetTimes(response, record_.resp_first, record_.resp_last);
  if (request.held.present) SetRequest(request.held);
  if (response.held.present) SetResponse(response.held);
  record_.req_bytes = request.bytes;
  record_.resp_bytes = response.bytes;
  // A second message of a unary call is malformed, and is told as that alone (call_record.h).
  record_.req_messages = std::min<uint64_t>(request.messages, 1);
  record_.resp_messages = std::min<uint64_t>(response.messages, 1);
  if (stream.grpc_status >= 0) record_.grpc_status = static_cast<uint32_t>(stream.grpc_status);
  if (stream.http_status >= 0) record_.http_status = static_cast<uint32_t>(stream.http_status);
  record_.grpc_message = stream.grpc_message;
  record_.reset = reset;
  record_.incomplete |= stream.incomplete | ended;
  if (request.losses != 0 || response.losses != 0) record_.incomplete |= kGap;
  // A call may rightly have no request message (cancelled before it was written); then all of it was seen.
  const bool request_whole = request.headers_seen && request.ended && request.losses == 0;
  if (!request.held.present && !request_whole) {
    record_.incomplete |= kRequestNotSeen;
    if (response.held.present) counters_.Add(Counter::kResponsesWithoutRequest);
  }
  // An error is an answer too, and so is an end without a message if the whole direction was seen.
  const bool response_whole = response.headers_seen && response.ended && response.losses == 0;
  const bool answered = response.held.present || stream.grpc_status > 0 || response_whole;
  if (!answered) {
    record_.incomplete |= kResponseNotSeen;
    if (request.held.present) counters_.Add(Counter::kRequestsWithoutResponse);
  }
  if (request.held.facts != nullptr && response.held.facts != nullptr) {
    MatchTaskErrors(*request.held.facts, *response.held.facts);
  }
  Emit(request.held.type, response.held.type);
}

void CallWriter::StreamEnd(const Connection& connection, const Stream& stream, bool reset, uint32_t ended) {
  Begin(connection, stream, CallKind::kStream);
  const int direction = connection.request_direction();
  const StreamHalf& request = stream.halves[direction];
  const StreamHalf& response = stream.halves[1 - direction];
  SetTimes(request, record_.req_first, record_.req_last);
  SetTimes(response, record_.resp_first, record_.resp_last);
  record_.req_bytes = request.bytes;
  record_.resp_bytes = response.bytes;
  record_.req_messages = request.messages;
  record_.resp_messages = response.messages;
  if (stream.grpc_status >= 0) record_.grpc_status = static_cast<uint32_t>(stream.grpc_status);
  if (stream.http_status >= 0) record_.http_status = static_cast<uint32_t>(stream.http_status);
  record_.grpc_message = stream.grpc_message;
  record_.reset = reset;
  record_.incomplete |= stream.incomplete | ended;
  if (request.losses != 0 || response.losses != 0) record_.incomplete |= kGap;
  Emit(kNoType, kNoType);
}

void CallWriter::Message(const Connection& connection, const Stream& stream, bool is_response,
                         const HeldMessage& message) {
  Begin(connection, stream, CallKind::kMessage);
  if (is_response) {
    SetResponse(message);
    record_.resp_first = message.first;
    record_.resp_last = message.last;
    Emit(kNoType, message.type);
  } else {
    SetRequest(message);
    record_.req_first = message.first;
    record_.req_last = message.last;
    Emit(message.type, kNoType);
  }
}

void CallWriter::Sub(const Connection& connection, const Stream& stream, std::string_view command,
                     std::optional<uint64_t> request_id, const HeldMessage* request, HeldMessage* response,
                     bool reset, uint32_t ended) {
  Begin(connection, stream, CallKind::kSub);
  record_.command = command;
  record_.request_id = request_id;
  record_.reset = reset;
  record_.incomplete |= ended;
  if (request != nullptr) {
    SetRequest(*request);
    record_.req_first = request->first;
    record_.req_last = request->last;
  } else {
    record_.incomplete |= kRequestNotSeen;
    counters_.Add(Counter::kResponsesWithoutRequest);
  }
  if (response != nullptr) {
    SetResponse(*response);
    record_.resp_first = response->first;
    record_.resp_last = response->last;
  } else {
    record_.incomplete |= kResponseNotSeen;
    counters_.Add(Counter::kRequestsWithoutResponse);
  }
  if (request != nullptr && response != nullptr && request->facts != nullptr && response->facts != nullptr) {
    MatchTaskErrors(*request->facts, *response->facts);
  }
  Emit(request == nullptr ? kNoType : request->type, response == nullptr ? kNoType : response->type);
}

void CallWriter::Amend(const Connection& connection, uint32_t stream, const MethodEntry& entry,
                       MethodFrom from) {
  record_ = CallRecord();
  record_.connection = connection.serial;
  const bool client_is_b = connection.request_direction() == 1;
  record_.client = client_is_b ? connection.key->b : connection.key->a;
  record_.server = client_is_b ? connection.key->a : connection.key->b;
  record_.joined_at_start = connection.from_start;
  record_.kind = CallKind::kAmend;
  record_.method = entry.path;
  record_.method_from = from;
  record_.stream = stream;
  counters_.Add(Counter::kAmendments);
  sink_.OnCall(record_, kNoType, kNoType);
}

void CallWriter::Event(const Connection& connection, const Stream& stream, CallKind kind,
                       std::string_view command, std::optional<uint64_t> request_id,
                       const HeldMessage* request, const HeldMessage& message, bool is_response, Bytes body) {
  Begin(connection, stream, kind);
  record_.command = command;
  record_.request_id = request_id;
  if (!is_response) request = &message;
  if (request != nullptr) {
    SetRequest(*request);
    record_.req_first = request->first;
    record_.req_last = request->last;
  }
  if (kind == CallKind::kUnary) {
    const StreamHalf& half = stream.halves[connection.request_direction()];
    SetTimes(half, record_.req_first, record_.req_last);
  }
  if (is_response) {
    SetResponse(message);
    record_.resp_first = message.first;
    record_.resp_last = message.last;
    if (request != nullptr && request->facts != nullptr && message.facts != nullptr) {
      MatchTaskErrors(*request->facts, *message.facts);
    }
  }
  if (!payloads_) counters_.Add(Counter::kPayloadsDropped);
  sink_.OnMessage(MessageEvent{&record_, is_response, message.facts.get(), message.type, body, payloads_});
}

}  // namespace keytrail::grpc
