// Connections by address pair: open addressing over stable storage. Inside agent/tcp only; one thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "agent/packet/segment.h"
#include "agent/tcp/connection.h"

namespace keytrail {

// The two ends of a segment in FlowKey's order, and the hash of the pair.
struct FlowView {
  const Endpoint* a;
  const Endpoint* b;
  int direction;  // 0: the segment goes from a to b
  uint64_t hash;

  explicit FlowView(const Segment& segment);
};

class ConnectionTable {
 public:
  ConnectionTable();

  // Null if there is none.
  Connection* Find(const FlowView& flow) const {
    for (size_t at = flow.hash & mask_;; at = (at + 1) & mask_) {
      const Entry entry = entries_[at];
      if (entry.index == kEmpty) return nullptr;
      if (entry.tag == Tag(flow.hash)) {
        Connection* c = At(entry.index);
        if (Equal(c->key.a, *flow.a) && Equal(c->key.b, *flow.b)) return c;
      }
    }
  }

  // The pair must not be in the table. The connection is as constructed but for key, index, generation and
  // ref.key; its address is stable until Erase.
  Connection& Insert(const FlowView& flow);
  void Erase(Connection& connection);
  size_t size() const { return size_; }

 private:
  struct Entry {
    uint32_t tag;
    uint32_t index;
  };
  static constexpr uint32_t kEmpty = 0xFFFFFFFF;
  static constexpr uint32_t kChunkBits = 6;

  // Bits that the position does not use.
  static uint32_t Tag(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }
  static bool Equal(const Endpoint& x, const Endpoint& y) {
    return std::memcmp(x.address.bytes.data(), y.address.bytes.data(), 16) == 0 && x.port == y.port &&
           x.address.family == y.address.family;
  }
  Connection* At(uint32_t index) const {
    return &chunks_[index >> kChunkBits][index & ((1u << kChunkBits) - 1)];
  }
  void Place(Entry entry, uint64_t hash);
  void Grow();

  std::vector<Entry> entries_;
  std::vector<uint64_t> hashes_;  // by index
  size_t mask_;
  size_t size_ = 0;
  std::vector<std::unique_ptr<Connection[]>> chunks_;
  std::vector<uint32_t> free_;
  uint32_t used_ = 0;
  uint64_t next_generation_ = 1;
};

// ---------------------------------------------------------------------------------------------------------

namespace flow_hash {

inline uint64_t Load64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// The two halves of the 128-bit product, folded: every bit of both inputs reaches every bit of the result.
inline uint64_t Fold(uint64_t x, uint64_t y) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(x) * y;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace flow_hash

inline FlowView::FlowView(const Segment& segment) {
  using flow_hash::Load64;
  const Endpoint& s = segment.source;
  const Endpoint& d = segment.destination;
  const uint64_t s0 = Load64(s.address.bytes.data());
  const uint64_t d0 = Load64(d.address.bytes.data());
  const uint64_t s1 = Load64(s.address.bytes.data() + 8);
  const uint64_t d1 = Load64(d.address.bytes.data() + 8);
  // The order of Endpoint's operator<=>: address bytes, family, port.
  bool forward;
  if (s0 != d0) {
    forward = __builtin_bswap64(s0) < __builtin_bswap64(d0);
  } else if (s1 != d1) {
    forward = __builtin_bswap64(s1) < __builtin_bswap64(d1);
  } else if (s.address.family != d.address.family) {
    forward = s.address.family < d.address.family;
  } else {
    forward = s.port <= d.port;
  }
  a = forward ? &s : &d;
  b = forward ? &d : &s;
  direction = forward ? 0 : 1;
  const uint64_t a0 = forward ? s0 : d0, b0 = forward ? d0 : s0;
  const uint64_t a1 = forward ? s1 : d1, b1 = forward ? d1 : s1;
  const uint64_t ports = uint64_t{a->port} << 32 | uint64_t{b->port} << 8 | a->address.family;
  hash = flow_hash::Fold(a0 ^ 0x9E3779B97F4A7C15u, b0 ^ 0xC2B2AE3D27D4EB4Fu ^ ports << 16);
  hash = flow_hash::Fold(hash ^ a1, b1 ^ 0xD6E8FEB86659FD93u ^ ports);
}

}  // namespace keytrail
