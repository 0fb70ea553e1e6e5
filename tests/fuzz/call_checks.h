// What common/call_record.h promises of facts and records, as checks; used by several targets.
#pragma once

#include "agent/grpc/grpc_decoder.h"
#include "common/call_record.h"
#include "common/record_codec.h"

namespace keytrail::fuzz {

// The bundled schema, read once.
const Schema& TheSchema();

// Spans can be read, and indices lie in their lists.
void CheckReferences(const MessageFacts& facts);
// The same, and what the walker promises besides.
void CheckFacts(const MessageFacts& facts);

// Looks at every record; what was told also has to pass the wire between agent and collector unharmed.
class CallChecks final : public CallSink {
 public:
  explicit CallChecks(const GrpcOptions& options) : options_(options) {}

  void OnMessage(const MessageEvent& event) override;
  void OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) override;

  // The input has ended. `ordered_times`: the events came in the order of their times.
  void Finish();
  bool ordered_times = true;

 private:
  void CheckCall(const CallRecord& call) const;

  const GrpcOptions options_;
  BatchEncoder encoder_;
};

}  // namespace keytrail::fuzz
