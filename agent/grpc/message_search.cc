#include "agent/grpc/message_search.h"

#include "agent/grpc/message_assembler.h"
#include "common/limits.h"

namespace keytrail::grpc {

void MessageSearch::Begin(bool place_known) {
  for (Chain& chain : chains_) chain.alive = false;
  live_chains_ = 0;
  place_known_ = place_known;
  begun_ = refuted_ = false;
}

void MessageSearch::End(BodyStore& store) {
  DropAll(store);
}

void MessageSearch::DropAll(BodyStore& store) {
  store.Give(std::move(buffer_));
  for (Chain& chain : chains_) chain.alive = false;
  live_chains_ = 0;
}

void MessageSearch::StartChain(size_t at, TimeNs time) {
  Chain* chain = nullptr;
  for (Chain& c : chains_) {
    if (!c.alive) chain = &c;
  }
  if (chain == nullptr) {
    if (chains_.size() == limits::kMaxSearchChains) {
      cap_hit_ = true;
      return;
    }
    chain = &chains_.emplace_back();
  }
  chain->alive = true;
  chain->some_body = false;
  chain->next = at;
  chain->next_first = time;
  chain->messages.clear();
  ++live_chains_;
}

void MessageSearch::Kill(Chain& chain) {
  chain.alive = false;
  --live_chains_;
  if (place_known_) refuted_ = true;
}

void MessageSearch::Advance(Chain& chain, TimeNs time) {
  const Body& bytes = *buffer_;
  while (chain.next < bytes.size()) {
    const uint8_t* prefix = bytes.data() + chain.next;
    const size_t have = bytes.size() - chain.next;
    if (prefix[0] > 1) return Kill(chain);
    if (have < kMessagePrefixBytes) return;
    const uint32_t size = LoadBe32(prefix + 1);
    if (size > limits::kMaxSearchedMessageBytes) return Kill(chain);
    if (have - kMessagePrefixBytes < size) return;
    if (chain.messages.size() == limits::kMaxSearchMessages) {
      cap_hit_ = true;
      return Kill(chain);
    }
    chain.messages.push_back(
        Found{chain.next + kMessagePrefixBytes, size, prefix[0] == 1, chain.next_first, time});
    chain.some_body |= size != 0;
    chain.next += kMessagePrefixBytes + size;
    // If the next message begins within these bytes it began now; else Append sets the time of its bytes.
    chain.next_first = time;
  }
}

void MessageSearch::Append(Bytes data, TimeNs time, bool frame_start, BodyStore& store) {
  if (data.empty() || refuted_) return;
  if (frame_start && (!place_known_ || !begun_)) {
    if (data[0] <= 1) {
      StartChain(buffer_ == nullptr ? 0 : buffer_->size(), time);
    } else if (place_known_) {
      refuted_ = true;
    }
  }
  begun_ = true;
  if (live_chains_ == 0) return;
  if (buffer_ == nullptr) buffer_ = store.Take();
  for (Chain& chain : chains_) {
    if (chain.alive && chain.next == buffer_->size()) chain.next_first = time;
  }
  if (buffer_->size() + data.size() > limits::kMaxSearchedMessageBytes || !store.Append(*buffer_, data)) {
    cap_hit_ = true;
    if (place_known_) refuted_ = true;
    DropAll(store);
    return;
  }
  for (Chain& chain : chains_) {
    if (chain.alive) Advance(chain, time);
  }
  if (live_chains_ == 0) DropAll(store);
}

}  // namespace keytrail::grpc
