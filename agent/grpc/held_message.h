// One message that waits for the other half of its call: times, sizes, facts.
#pragma once

#include <memory>

#include "agent/grpc/body_store.h"
#include "agent/grpc/pool.h"
#include "agent/schema/schema.h"
#include "common/call_record.h"

namespace keytrail::grpc {

struct HeldMessage {
  bool present = false;
  TimeNs first;  // of the message's prefix
  TimeNs last;
  uint64_t bytes = 0;       // on the wire; of a sub-command its own
  uint32_t incomplete = 0;  // Incomplete bits
  MessageType type = kNoType;
  std::unique_ptr<MessageFacts> facts;  // null: not read (no schema, not asked for, not readable)
  std::unique_ptr<Body> body;           // only with GrpcOptions::keep_messages
  size_t fact_bytes = 0;                // as accounted by FactsPool
};

// MessageFacts that are used again, with a running total of the bytes that they hold.
class FactsPool {
 public:
  std::unique_ptr<MessageFacts> Take() {
    std::unique_ptr<MessageFacts> facts = pool_.Take();
    facts->Reset();
    return facts;
  }

  void Hold(HeldMessage& message) {
    message.fact_bytes = message.facts == nullptr ? 0 : message.facts->arena.bytes_used();
    held_bytes_ += message.fact_bytes;
  }

  void DropFacts(HeldMessage& message) {
    if (message.facts == nullptr) return;
    held_bytes_ -= message.fact_bytes;
    message.fact_bytes = 0;
    // Facts of a huge message are freed: their lists keep their capacity otherwise.
    if (message.facts->keys.capacity() <= 1024 && message.facts->statements.capacity() <= 1024 &&
        message.facts->arena.bytes_used() <= 65536) {
      pool_.Give(std::move(message.facts));
    }
    message.facts.reset();
  }

  // Gives back what `message` holds and empties it.
  void Release(HeldMessage& message, BodyStore& bodies) {
    DropFacts(message);
    bodies.Give(std::move(message.body));
    message.present = false;
    message.first = message.last = kTimeUnknown;
    message.bytes = 0;
    message.incomplete = 0;
    message.type = kNoType;
  }

  size_t held_bytes() const { return held_bytes_; }

 private:
  Pool<MessageFacts> pool_;
  size_t held_bytes_ = 0;
};

}  // namespace keytrail::grpc
