// One HPACK instruction (RFC 7541 section 6) cut out of a header block, without any table.
//
// Spans point into the block. Strings stay as they are on the wire: Huffman is not decoded here.
#pragma once

#include <cstdint>

#include "common/bytes.h"

namespace keytrail {

inline constexpr uint32_t kStaticEntries = 61;

struct HpackString {
  Bytes bytes;
  bool huffman = false;
};

struct HpackInstruction {
  enum class Kind : uint8_t {
    kIndexed,         // 1xxxxxxx
    kLiteralIndexed,  // 01xxxxxx: the field becomes a table entry
    kLiteral,         // 0000xxxx, 0001xxxx: it does not
    kSizeUpdate,      // 001xxxxx
  };
  Kind kind = Kind::kIndexed;
  uint32_t index = 0;  // of the field or its name; 0: `name` is a literal; kSizeUpdate: the size in bytes
  HpackString name;
  HpackString value;
  Bytes bytes;        // the whole instruction
  Bytes value_bytes;  // from the value's length byte to the end: what follows another name
};

// Takes one instruction off the front of `block`. False if the block is cut short or an integer exceeds
// 2^28, which no field of a real block does.
bool ReadHpackInstruction(Bytes& block, HpackInstruction& out);

// The block falls exactly into instructions with indices that are possible (not 0, not beyond what a table
// of kMaxHeaderTableBytes can hold) and size updates stand at its beginning only.
bool IsPlausibleHeaderBlock(Bytes block);

}  // namespace keytrail
