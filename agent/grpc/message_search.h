// Finds the place of gRPC messages in a direction of a stream where it is not known: joined in the middle, or
// after a loss.
//
// Senders begin a message at the start of a DATA frame and end one at the end of a DATA frame, though a
// message may take many frames and a frame may hold many messages. So each start of a frame that looks like a
// prefix (flag 0 or 1, sane length) begins a chain of messages; a chain that ends exactly with a frame is a
// candidate, and the caller judges its messages strictly. Only then they are messages; nothing is guessed
// before, and what lies before the chain is left out.
//
// Holds at most limits::kMaxSearchedMessageBytes in a buffer of the BodyStore. Not thread-safe.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "agent/grpc/body_store.h"
#include "common/time.h"

namespace keytrail::grpc {

class MessageSearch {
 public:
  struct Found {
    size_t offset = 0;  // of the body in bytes()
    uint32_t size = 0;
    bool compressed = false;
    TimeNs first;
    TimeNs last;
  };

  // place_known: the first byte fed begins a message, if these are messages at all; no other place is tried.
  void Begin(bool place_known);
  void End(BodyStore& store);

  // verify(std::span<const Found>, Bytes buffer) -> bool. True: found; `messages` and `bytes` hold the proven
  // ones, which end where the fed data ends. Call End afterwards.
  template <typename Verify>
  bool Feed(Bytes data, TimeNs time, bool frame_start, bool frame_end, BodyStore& store, Verify&& verify);

  std::span<const Found> messages() const { return chains_[proven_].messages; }
  Bytes bytes() const { return buffer_ == nullptr ? Bytes() : Bytes(*buffer_); }

  // Some bytes look like a message that has not ended.
  bool in_message() const { return live_chains_ != 0; }
  // With place_known: these are no gRPC messages.
  bool refuted() const { return refuted_; }
  // Since the last call a cap has left out bytes, a place or messages.
  bool TakeCapHit() { return std::exchange(cap_hit_, false); }

 private:
  struct Chain {
    bool alive = false;
    bool some_body = false;  // not all messages are empty
    size_t next = 0;         // where the next prefix is expected in the buffer
    TimeNs next_first;       // when the byte there arrived
    std::vector<Found> messages;
  };

  void StartChain(size_t at, TimeNs time);
  void Advance(Chain& chain, TimeNs time);
  void Kill(Chain& chain);
  void Append(Bytes data, TimeNs time, bool frame_start, BodyStore& store);
  void DropAll(BodyStore& store);

  std::unique_ptr<Body> buffer_;
  std::vector<Chain> chains_;
  size_t live_chains_ = 0;
  size_t proven_ = 0;
  bool place_known_ = false;
  bool begun_ = false;
  bool refuted_ = false;
  bool cap_hit_ = false;
};

template <typename Verify>
bool MessageSearch::Feed(Bytes data, TimeNs time, bool frame_start, bool frame_end, BodyStore& store,
                         Verify&& verify) {
  Append(data, time, frame_start, store);
  if (!frame_end || live_chains_ == 0) return false;
  for (size_t i = 0; i < chains_.size(); ++i) {
    Chain& chain = chains_[i];
    if (!chain.alive || chain.next != buffer_->size() || chain.messages.empty()) continue;
    // Empty messages prove nothing: zeroes look like them.
    if (!chain.some_body && !place_known_) continue;
    if (verify(std::span<const Found>(chain.messages), Bytes(*buffer_))) {
      proven_ = i;
      return true;
    }
    Kill(chain);
  }
  if (live_chains_ == 0) DropAll(store);
  return false;
}

}  // namespace keytrail::grpc
