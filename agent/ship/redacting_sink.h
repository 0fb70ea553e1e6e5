// RedactingSink: with `--redact on`, stands before every output and lets no key, value or foreign text past.
//
// Keys become tokens (common/key_token.h) of the form in which the collector compares them, and are marked as
// encoded. Texts of errors and grpc-message go out empty: what was parsed out of them stays, with tokens.
// Message bytes are dropped. One thread; what the next sink gets is valid during its call.
#pragma once

#include <optional>

#include "agent/grpc/call_events.h"
#include "common/key_token.h"
#include "common/redaction.h"

namespace keytrail {

// What Hello, spool and database say of it; without a secret nothing is redacted.
Redaction RedactionBy(const std::optional<RedactSecret>& secret);

class RedactingSink final : public CallSink {
 public:
  // `next` must outlive it.
  RedactingSink(const RedactSecret& secret, CallSink& next) : tokens_(secret), next_(next) {}

  void OnMessage(const MessageEvent& event) override;
  void OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) override;

 private:
  const MessageFacts* Facts(const MessageFacts* from, MessageFacts& to);
  void Key(Bytes& key, MessageFacts& room);
  void Record(const CallRecord& call);

  KeyTokens tokens_;
  CallSink& next_;
  CallRecord record_;
  MessageFacts request_;
  MessageFacts response_;
  MessageFacts event_;
  std::string encoded_;
};

}  // namespace keytrail
