// What waits for a name: the messages of a stream, or the finished calls of an HPACK slot, of which no :path
// was seen. Each is held, within limits, until the evidence (agent/schema/naming.h) proves a method; then it
// goes the way that it would have gone with its name. What must go before is told as unknown, and an
// amendment follows if the name is found after all.
//
// Not thread-safe. Bodies come from the tracker's BodyStore and must be given back to it.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "agent/grpc/body_store.h"
#include "agent/grpc/message_assembler.h"
#include "agent/grpc/method_directory.h"
#include "agent/schema/naming.h"

namespace keytrail::grpc {

struct Stream;

struct WaitingMessage {
  int direction = 0;
  std::unique_ptr<Body> body;  // as on the wire
  WireMessage wire;            // its `body` is not valid: see Message()

  WireMessage Message() const {
    WireMessage message = wire;
    message.body = body == nullptr ? Bytes() : Bytes(*body);
    return message;
  }
};

struct NamelessStream {
  std::vector<WaitingMessage> waiting;
  size_t waiting_bytes = 0;
  // By the direction that requests would have; only one if it is known who is the client.
  std::array<std::unique_ptr<MethodEvidence>, 2> evidence;
  uint32_t observed = 0;
  bool told = false;  // messages have gone out as unknown: nothing waits any more
};

// A unary call at its end.
struct WaitingCall {
  std::unique_ptr<Stream> stream;
  bool reset = false;
  uint32_t ended = 0;
  TimeNs finished;
};

// What one unknown slot of a request's header table stands for.
struct SlotName {
  explicit SlotName(const Schema& schema)
      : evidence(std::make_unique<MethodEvidence>(schema, MethodEvidence::Shape::kCall)) {}

  MethodEntry* bound = nullptr;
  // What the same entry was before a loss, as far as that can be told: one call confirms it.
  MethodEntry* hint = nullptr;
  uint64_t used = 0;
  uint32_t agreed = 0;                       // messages that fit the name
  std::unique_ptr<MethodEvidence> evidence;  // null: given up
  std::deque<WaitingCall> waiting;
  size_t waiting_bytes = 0;
  std::vector<uint32_t> told;  // streams that went out as unknown
};

}  // namespace keytrail::grpc
