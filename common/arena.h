// ByteArena: copies of byte strings with stable addresses, freed all at once, chunks kept for reuse.
//
// Spans from Copy() live until Reset() or destruction. After the first few messages a Reset() + Copy()
// cycle allocates nothing. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "common/bytes.h"

namespace keytrail {

class ByteArena {
 public:
  ByteArena() = default;
  ByteArena(const ByteArena&) = delete;
  ByteArena& operator=(const ByteArena&) = delete;
  ByteArena(ByteArena&&) = default;
  ByteArena& operator=(ByteArena&&) = default;

  Bytes Copy(Bytes b) {
    if (b.empty()) return {};
    uint8_t* to = Take(b.size());
    std::memcpy(to, b.data(), b.size());
    return {to, b.size()};
  }

  // Uninitialised room for n > 0 bytes.
  uint8_t* Take(size_t n) {
    while (chunk_ < chunks_.size()) {
      Chunk& c = chunks_[chunk_];
      if (c.size - used_ >= n) {
        uint8_t* p = c.bytes.get() + used_;
        used_ += n;
        total_ += n;
        return p;
      }
      ++chunk_;
      used_ = 0;
    }
    const size_t size = std::max<size_t>(n, chunks_.empty() ? 512 : 4096);
    chunks_.push_back(Chunk{std::unique_ptr<uint8_t[]>(new uint8_t[size]), size});
    chunk_ = chunks_.size() - 1;
    used_ = n;
    total_ += n;
    return chunks_.back().bytes.get();
  }

  // Forgets all copies. A chunk larger than keep_bytes in all is given back.
  void Reset(size_t keep_bytes = 16384) {
    size_t kept = 0;
    size_t n = 0;
    while (n < chunks_.size() && kept + chunks_[n].size <= keep_bytes) kept += chunks_[n++].size;
    if (n < chunks_.size()) chunks_.resize(n);
    chunk_ = 0;
    used_ = 0;
    total_ = 0;
  }

  size_t bytes_used() const { return total_; }

 private:
  struct Chunk {
    std::unique_ptr<uint8_t[]> bytes;
    size_t size = 0;
  };
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0;
  size_t used_ = 0;
  size_t total_ = 0;
};

}  // namespace keytrail
