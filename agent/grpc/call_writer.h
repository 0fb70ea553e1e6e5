// Turns what is held of a call into CallRecords and message events for the CallSink, and counts them.
//
// One CallRecord is used again for all; the sink must not keep references. Not thread-safe.
#pragma once

#include <string_view>

#include "agent/grpc/call_events.h"
#include "agent/grpc/grpc_decoder.h"
#include "agent/grpc/stream.h"
#include "common/counters.h"

namespace keytrail::grpc {

class CallWriter {
 public:
  CallWriter(CallSink& sink, Counters& counters) : sink_(sink), counters_(counters) {}

  // Whether message events may print whole messages.
  void SetPayloads(bool shown) { payloads_ = shown; }

  // A unary call, at its end. `ended` are Incomplete bits of the way it ended.
  void Unary(const Connection& connection, Stream& stream, bool reset, uint32_t ended);
  // A stream itself, at its end.
  void StreamEnd(const Connection& connection, const Stream& stream, bool reset, uint32_t ended);
  // One message of a stream.
  void Message(const Connection& connection, const Stream& stream, bool is_response,
               const HeldMessage& message);
  // A sub-command of BatchCommands (request_id is set) or a question of QueryRegion; either half may be null.
  void Sub(const Connection& connection, const Stream& stream, std::string_view command,
           std::optional<uint64_t> request_id, const HeldMessage* request, HeldMessage* response, bool reset,
           uint32_t ended);

  // A stream's records went out as unknown, and now its method is known.
  void Amend(const Connection& connection, uint32_t stream, const MethodEntry& entry, MethodFrom from);

  // A message at the time it is complete. `request`: the question that a response answers, or null. The kind
  // is what is known by now: a message of an unknown method is told as of a unary call.
  void Event(const Connection& connection, const Stream& stream, CallKind kind, std::string_view command,
             std::optional<uint64_t> request_id, const HeldMessage* request, const HeldMessage& message,
             bool is_response, Bytes body);

 private:
  void Begin(const Connection& connection, const Stream& stream, CallKind kind);
  void SetRequest(const HeldMessage& message);
  void SetResponse(const HeldMessage& message);
  void Emit(MessageType request_type, MessageType response_type);

  CallSink& sink_;
  Counters& counters_;
  CallRecord record_;
  bool payloads_ = true;
};

// StoreBatchTask errors answer the request's route with the same task id (tidb-wire.md section 2).
void MatchTaskErrors(const MessageFacts& request, MessageFacts& response);

}  // namespace keytrail::grpc
