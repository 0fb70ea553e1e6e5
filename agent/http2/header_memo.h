// Header blocks that came before, with their fields: a block that leaves the dynamic table alone means the
// same whenever it comes again while the table stays as it is. C-core sends almost nothing else.
//
// One direction of one connection. A block is kept from its second sighting on, so that literals which never
// come again (a timeout) cost no copy and push nothing out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "agent/http2/stream_events.h"
#include "common/bytes.h"

namespace keytrail {

uint64_t HashHeaderBlock(Bytes block);

class HeaderMemo {
 public:
  // Indexed blocks have 5 to 30 bytes; longer ones carry literals that hardly repeat.
  static constexpr size_t kMaxBlockBytes = 256;

  struct Entry {
    uint64_t hash = 0;
    HeaderBlock block;
    uint32_t unknown_fields = 0;
    std::vector<HeaderField> fields;
    std::vector<uint8_t> bytes;  // the block itself, then the text of its fields
    size_t block_bytes = 0;
  };

  // Of which state of the table the entries speak. The caller compares before Find.
  uint64_t generation() const { return generation_; }
  // Null if it is not here. Valid until the next Offer.
  const Entry* Find(Bytes block, uint64_t hash) const;
  // A block that was just decoded in state `generation`; `decoded` and what it points to is copied. Gives a
  // kept block its identity out of `next_identity`.
  void Offer(Bytes block, uint64_t hash, uint64_t generation, const HeaderBlock& decoded,
             uint64_t& next_identity);

 private:
  // 4 sets of 4: a unary C-core client has about two blocks a method.
  static constexpr size_t kSets = 4;
  static constexpr size_t kWays = 4;

  uint64_t generation_ = 0;
  std::array<std::unique_ptr<Entry>, kSets * kWays> entries_;  // hash 0: free
  std::array<uint32_t, 16> sighted_{};                         // hashes of blocks seen once
  uint8_t victim_ = 0;
};

}  // namespace keytrail
