#include "agent/http2/hpack_instruction.h"

#include "common/limits.h"

namespace keytrail {
namespace {

// RFC 7541 section 5.1.
bool ReadInteger(const uint8_t*& at, const uint8_t* end, uint8_t prefix_mask, uint32_t& out) {
  if (at == end) return false;
  uint32_t value = *at++ & prefix_mask;
  if (value == prefix_mask) {
    for (int shift = 0;; shift += 7) {
      if (at == end || shift > 21) return false;
      const uint8_t byte = *at++;
      value += uint32_t{byte & 0x7Fu} << shift;
      if ((byte & 0x80) == 0) break;
    }
  }
  out = value;
  return true;
}

bool ReadString(const uint8_t*& at, const uint8_t* end, HpackString& out) {
  if (at == end) return false;
  out.huffman = (*at & 0x80) != 0;
  uint32_t length = 0;
  if (!ReadInteger(at, end, 0x7F, length) || length > static_cast<size_t>(end - at)) return false;
  out.bytes = {at, length};
  at += length;
  return true;
}

}  // namespace

bool ReadHpackInstruction(Bytes& block, HpackInstruction& out) {
  if (block.empty()) return false;
  const uint8_t* const begin = block.data();
  const uint8_t* const end = begin + block.size();
  const uint8_t* at = begin;
  const uint8_t first = *begin;
  bool literal = true;
  uint8_t mask = 0x0F;
  if ((first & 0x80) != 0) {
    out.kind = HpackInstruction::Kind::kIndexed;
    mask = 0x7F;
    literal = false;
  } else if ((first & 0x40) != 0) {
    out.kind = HpackInstruction::Kind::kLiteralIndexed;
    mask = 0x3F;
  } else if ((first & 0x20) != 0) {
    out.kind = HpackInstruction::Kind::kSizeUpdate;
    mask = 0x1F;
    literal = false;
  } else {
    out.kind = HpackInstruction::Kind::kLiteral;
  }
  if (!ReadInteger(at, end, mask, out.index)) return false;
  if (literal) {
    if (out.index == 0 && !ReadString(at, end, out.name)) return false;
    const uint8_t* const value = at;
    if (!ReadString(at, end, out.value)) return false;
    out.value_bytes = {value, at};
  }
  out.bytes = {begin, at};
  block = block.subspan(out.bytes.size());
  return true;
}

bool IsPlausibleHeaderBlock(Bytes block) {
  constexpr uint32_t kMaxIndex = kStaticEntries + limits::kMaxHeaderTableBytes / 32;
  if (block.empty()) return false;
  HpackInstruction instruction;
  bool fields = false;
  while (!block.empty()) {
    if (!ReadHpackInstruction(block, instruction)) return false;
    if (instruction.kind == HpackInstruction::Kind::kSizeUpdate) {
      if (fields || instruction.index > limits::kMaxHeaderTableBytes) return false;
      continue;
    }
    fields = true;
    if (instruction.index > kMaxIndex) return false;
    if (instruction.index != 0) continue;
    if (instruction.kind == HpackInstruction::Kind::kIndexed || instruction.name.bytes.empty()) return false;
  }
  return fields;
}

}  // namespace keytrail
