#include "agent/tcp/connection_table.h"

#include <cassert>

namespace keytrail {

ConnectionTable::ConnectionTable() : entries_(1024, Entry{0, kEmpty}), mask_(entries_.size() - 1) {}

void ConnectionTable::Place(Entry entry, uint64_t hash) {
  size_t at = hash & mask_;
  while (entries_[at].index != kEmpty) at = (at + 1) & mask_;
  entries_[at] = entry;
}

void ConnectionTable::Grow() {
  std::vector<Entry> old = std::move(entries_);
  entries_.assign(old.size() * 2, Entry{0, kEmpty});
  mask_ = entries_.size() - 1;
  for (const Entry& entry : old) {
    if (entry.index != kEmpty) Place(entry, hashes_[entry.index]);
  }
}

Connection& ConnectionTable::Insert(const FlowView& flow) {
  if ((size_ + 1) * 2 > entries_.size()) Grow();
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = used_++;
    if (index >> kChunkBits == chunks_.size()) {
      chunks_.push_back(std::make_unique<Connection[]>(size_t{1} << kChunkBits));
    }
    hashes_.resize(used_);
  }
  hashes_[index] = flow.hash;
  Place(Entry{Tag(flow.hash), index}, flow.hash);
  ++size_;
  Connection& c = *At(index);
  c = Connection();
  c.key = FlowKey{*flow.a, *flow.b};
  c.index = index;
  c.generation = next_generation_++;
  c.ref.key = &c.key;
  return c;
}

// Closes the hole by moving later entries of the run back (no tombstones: runs stay as short as they were).
void ConnectionTable::Erase(Connection& c) {
  size_t at = hashes_[c.index] & mask_;
  while (entries_[at].index != c.index) at = (at + 1) & mask_;
  for (size_t next = (at + 1) & mask_; entries_[next].index != kEmpty; next = (next + 1) & mask_) {
    const size_t home = hashes_[entries_[next].index] & mask_;
    if (((next - home) & mask_) >= ((next - at) & mask_)) {
      entries_[at] = entries_[next];
      at = next;
    }
  }
  entries_[at].index = kEmpty;
  --size_;
  c.generation = 0;
  free_.push_back(c.index);
}

}  // namespace keytrail
