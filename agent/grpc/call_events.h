// Calls, as the last decoding room tells them.
#pragma once

#include "agent/schema/schema.h"
#include "common/call_record.h"

namespace keytrail {

// One message at the time it is complete, for line-by-line text output.
struct MessageEvent {
  const CallRecord* call = nullptr;  // what is known so far: addresses, method, command, ids, times
  bool is_response = false;
  const MessageFacts* facts = nullptr;  // null: no schema for it
  MessageType type = kNoType;
  Bytes message;        // decompressed; the inner message for a sub-command
  bool payload = true;  // false: print the line alone, to save work
};

// Streams and messages seen by path, for the summary and for tests against truth.json.
struct PathCounts {
  uint64_t streams = 0;
  uint64_t request_messages = 0;
  uint64_t response_messages = 0;
};

class CallSink {
 public:
  virtual ~CallSink() = default;
  // Every message (request at once, response at once). Only called if wants_messages was set.
  virtual void OnMessage(const MessageEvent& event) = 0;
  // A call is complete or will never be: exactly one per call, sub-command, question, stream message and
  // stream (interfaces.md, "JSON output").
  virtual void OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) = 0;
};

}  // namespace keytrail
