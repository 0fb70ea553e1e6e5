// gRPC messages out of the DATA of one direction of one stream ("Length-Prefixed-Message" of the gRPC over
// HTTP/2 protocol: 1 byte compressed flag, 4 bytes big-endian length, body).
//
// A message that lies wholly in the bytes fed is handed on without a copy; otherwise it is collected in a
// buffer of the BodyStore. Messages that are not wanted, too large, or damaged by a loss of known length are
// followed by count. The place in the stream must be known (message_search.h finds it otherwise).
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "agent/grpc/body_store.h"
#include "common/call_record.h"
#include "common/limits.h"
#include "common/time.h"

namespace keytrail::grpc {

// One message as it came off the wire. `body` lives during the call that hands it on.
struct WireMessage {
  Bytes body;         // empty if it was not kept
  uint32_t size = 0;  // of the body on the wire
  bool compressed = false;
  uint32_t incomplete = 0;  // kGap, kOverCap: the body is not there
  TimeNs first;             // of the prefix's first byte
  TimeNs last;
};

enum class AssemblyEnd : uint8_t {
  kConsumed,
  kBadPrefix,  // the flag is neither 0 nor 1: this is no message, and the place is lost
};

class MessageAssembler {
 public:
  // All of `data` arrived at `time`. keep: bodies are wanted (else `body` stays empty). Calls
  // on_message(const WireMessage&) for each message that is complete. Caps hit are or-ed into `caps`.
  template <typename OnMessage>
  AssemblyEnd Feed(Bytes data, TimeNs time, bool keep, BodyStore& store, OnMessage&& on_message);

  // `n` bytes are missing here. True if the place is still known: all of them belong to the message under
  // way, whose body is then damaged. (If that ends the message, it is handed on.)
  template <typename OnMessage>
  bool Lose(uint64_t n, TimeNs time, BodyStore& store, OnMessage&& on_message);

  // Some bytes of a message are here but not all.
  bool in_message() const { return in_body_ || prefix_bytes_ != 0; }

  void Drop(BodyStore& store) {
    store.Give(std::move(body_));
    in_body_ = false;
    prefix_bytes_ = 0;
  }

  // Bits of kHitMessageCap, kHitPartialCap since the last call.
  static constexpr uint8_t kHitMessageCap = 1;
  static constexpr uint8_t kHitPartialCap = 2;
  uint8_t TakeCapsHit() { return std::exchange(caps_hit_, uint8_t{0}); }

 private:
  void BeginBody(uint8_t flag, uint32_t size, bool keep, BodyStore& store) {
    in_body_ = true;
    prefix_bytes_ = 0;
    prefix_[0] = flag;
    size_ = remaining_ = size;
    incomplete_ = 0;
    if (size > limits::kMaxMessageBytes) {
      incomplete_ = kOverCap;
      caps_hit_ |= kHitMessageCap;
    } else if (keep && size != 0) {
      body_ = store.Take();
    }
  }

  void AppendBody(Bytes part, BodyStore& store) {
    remaining_ -= static_cast<uint32_t>(part.size());
    if (body_ == nullptr || store.Append(*body_, part)) return;
    store.Give(std::move(body_));
    incomplete_ |= kOverCap;
    caps_hit_ |= kHitPartialCap;
  }

  template <typename OnMessage>
  void EndBody(TimeNs time, BodyStore& store, OnMessage&& on_message) {
    in_body_ = false;
    WireMessage message;
    if (body_ != nullptr) message.body = *body_;
    message.size = size_;
    message.compressed = prefix_[0] == 1;
    message.incomplete = incomplete_;
    message.first = first_;
    message.last = time;
    // The body stays taken during the call: on_message may feed nothing into this assembler.
    on_message(message);
    store.Give(std::move(body_));
  }

  std::unique_ptr<Body> body_;
  TimeNs first_;
  uint32_t size_ = 0;
  uint32_t remaining_ = 0;
  uint32_t incomplete_ = 0;
  bool in_body_ = false;
  uint8_t prefix_bytes_ = 0;
  uint8_t caps_hit_ = 0;
  uint8_t prefix_[5] = {};
};

inline constexpr size_t kMessagePrefixBytes = 5;

template <typename OnMessage>
AssemblyEnd MessageAssembler::Feed(Bytes data, TimeNs time, bool keep, BodyStore& store,
                                   OnMessage&& on_message) {
  while (!data.empty()) {
    if (in_body_) {
      const Bytes part = data.first(std::min<size_t>(data.size(), remaining_));
      data = data.subspan(part.size());
      AppendBody(part, store);
      if (remaining_ == 0) EndBody(time, store, on_message);
      continue;
    }
    if (prefix_bytes_ == 0) {
      first_ = time;
      if (data[0] > 1) return AssemblyEnd::kBadPrefix;
      if (data.size() >= kMessagePrefixBytes) {
        const uint32_t size = LoadBe32(data.data() + 1);
        if (data.size() - kMessagePrefixBytes >= size && size <= limits::kMaxMessageBytes) {
          WireMessage message;
          message.body = data.subspan(kMessagePrefixBytes, size);
          message.size = size;
          message.compressed = data[0] == 1;
          message.first = message.last = time;
          data = data.subspan(kMessagePrefixBytes + size);
          on_message(message);
          continue;
        }
        BeginBody(data[0], size, keep, store);
        data = data.subspan(kMessagePrefixBytes);
        continue;
      }
    }
    const size_t n = std::min(data.size(), kMessagePrefixBytes - prefix_bytes_);
    std::memcpy(prefix_ + prefix_bytes_, data.data(), n);
    prefix_bytes_ = static_cast<uint8_t>(prefix_bytes_ + n);
    data = data.subspan(n);
    if (prefix_bytes_ < kMessagePrefixBytes) continue;
    BeginBody(prefix_[0], LoadBe32(prefix_ + 1), keep, store);
    if (remaining_ == 0) EndBody(time, store, on_message);
  }
  return AssemblyEnd::kConsumed;
}

template <typename OnMessage>
bool MessageAssembler::Lose(uint64_t n, TimeNs time, BodyStore& store, OnMessage&& on_message) {
  if (!in_body_ || n > remaining_) {
    Drop(store);
    return false;
  }
  store.Give(std::move(body_));
  incomplete_ |= kGap;
  remaining_ -= static_cast<uint32_t>(n);
  if (remaining_ == 0) EndBody(time, store, on_message);
  return true;
}

}  // namespace keytrail::grpc
