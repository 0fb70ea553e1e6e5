// Requests of one stream that wait for their answers: by request id (BatchCommands) or in order
// (QueryRegion). Insertion order is kept for both.
//
// Open addressing; entries are used again, so there is no allocation in the steady state. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "agent/grpc/held_message.h"

namespace keytrail::grpc {

struct PendingRequest {
  uint64_t id = 0;
  uint32_t number = 0;           // of the BatchCommands oneof
  uint32_t response_losses = 0;  // losses of the answering direction when it was asked
  HeldMessage request;
  PendingRequest* older = nullptr;
  PendingRequest* newer = nullptr;
};

class PendingRequests {
 public:
  size_t size() const { return size_; }
  PendingRequest* oldest() { return oldest_; }

  // Null if none waits under this id.
  PendingRequest* Find(uint64_t id) {
    if (size_ == 0) return nullptr;
    for (size_t at = Home(id);; at = (at + 1) & mask_) {
      if (table_[at] == nullptr) return nullptr;
      if (table_[at]->id == id) return table_[at].get();
    }
  }

  // Adds an entry under an id that must not wait already. Its request is to be filled by the caller.
  PendingRequest& Add(uint64_t id, Pool<PendingRequest>& pool) {
    if ((size_ + 1) * 2 > table_.size()) Grow();
    std::unique_ptr<PendingRequest> entry = pool.Take();
    PendingRequest* const added = entry.get();
    added->id = id;
    added->older = newest_;
    added->newer = nullptr;
    (newest_ == nullptr ? oldest_ : newest_->newer) = added;
    newest_ = added;
    size_t at = Home(id);
    while (table_[at] != nullptr) at = (at + 1) & mask_;
    table_[at] = std::move(entry);
    ++size_;
    return *added;
  }

  // Takes the entry out; the caller gives it back to the pool.
  std::unique_ptr<PendingRequest> Remove(PendingRequest& entry) {
    (entry.older == nullptr ? oldest_ : entry.older->newer) = entry.newer;
    (entry.newer == nullptr ? newest_ : entry.newer->older) = entry.older;
    size_t at = Home(entry.id);
    while (table_[at].get() != &entry) at = (at + 1) & mask_;
    std::unique_ptr<PendingRequest> taken = std::move(table_[at]);
    --size_;
    // Backward shift (Knuth 6.4 R): no tombstones, so a table that lives for weeks stays short to search.
    for (size_t next = (at + 1) & mask_; table_[next] != nullptr; next = (next + 1) & mask_) {
      const size_t home = Home(table_[next]->id);
      if (((next - home) & mask_) >= ((next - at) & mask_)) {
        table_[at] = std::move(table_[next]);
        at = next;
      }
    }
    return taken;
  }

 private:
  size_t Home(uint64_t id) const { return static_cast<size_t>(id * 0x9E3779B97F4A7C15ull >> 20) & mask_; }

  void Grow() {
    std::vector<std::unique_ptr<PendingRequest>> old = std::move(table_);
    table_.clear();
    table_.resize(old.empty() ? 16 : old.size() * 2);
    mask_ = table_.size() - 1;
    for (std::unique_ptr<PendingRequest>& entry : old) {
      if (entry == nullptr) continue;
      size_t at = Home(entry->id);
      while (table_[at] != nullptr) at = (at + 1) & mask_;
      table_[at] = std::move(entry);
    }
  }

  std::vector<std::unique_ptr<PendingRequest>> table_;
  size_t mask_ = 0;
  size_t size_ = 0;
  PendingRequest* oldest_ = nullptr;
  PendingRequest* newest_ = nullptr;
};

}  // namespace keytrail::grpc
