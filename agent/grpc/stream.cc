#include "agent/grpc/stream.h"

namespace keytrail::grpc {

void StreamTable::Add(std::unique_ptr<Stream> stream) {
  if ((size_ + 1) * 2 > table_.size()) {
    std::vector<std::unique_ptr<Stream>> old = std::move(table_);
    table_.clear();
    table_.resize(old.empty() ? 8 : old.size() * 2);
    mask_ = table_.size() - 1;
    for (std::unique_ptr<Stream>& s : old) {
      if (s == nullptr) continue;
      size_t at = Home(s->id);
      while (table_[at] != nullptr) at = (at + 1) & mask_;
      table_[at] = std::move(s);
    }
  }
  stream->older = newest_;
  stream->newer = nullptr;
  (newest_ == nullptr ? oldest_ : newest_->newer) = stream.get();
  newest_ = stream.get();
  size_t at = Home(stream->id);
  while (table_[at] != nullptr) at = (at + 1) & mask_;
  table_[at] = std::move(stream);
  ++size_;
}

std::unique_ptr<Stream> StreamTable::Remove(Stream& stream) {
  (stream.older == nullptr ? oldest_ : stream.older->newer) = stream.newer;
  (stream.newer == nullptr ? newest_ : stream.newer->older) = stream.older;
  size_t at = Home(stream.id);
  while (table_[at].get() != &stream) at = (at + 1) & mask_;
  std::unique_ptr<Stream> taken = std::move(table_[at]);
  --size_;
  for (size_t next = (at + 1) & mask_; table_[next] != nullptr; next = (next + 1) & mask_) {
    const size_t home = Home(table_[next]->id);
    if (((next - home) & mask_) >= ((next - at) & mask_)) {
      table_[at] = std::move(table_[next]);
      at = next;
    }
  }
  return taken;
}

}  // namespace keytrail::grpc
