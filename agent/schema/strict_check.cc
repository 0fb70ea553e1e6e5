#include "agent/schema/strict_check.h"

#include <algorithm>

#include "agent/schema/wire_cursor.h"
#include "common/limits.h"

namespace keytrail::schema {

namespace {

bool IsUtf8(Bytes b) {
  const uint8_t* p = b.data();
  const uint8_t* const end = p + b.size();
  while (p < end) {
    if (*p < 0x80) {
      ++p;
      continue;
    }
    const int more = *p >= 0xF0 ? 3 : (*p >= 0xE0 ? 2 : 1);
    if (*p < 0xC2 || *p > 0xF4 || end - p <= more) return false;
    for (int i = 1; i <= more; ++i) {
      if ((p[i] & 0xC0) != 0x80) return false;
    }
    // Overlong forms, surrogates, beyond U+10FFFF.
    if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) || (*p == 0xF0 && p[1] < 0x90) ||
        (*p == 0xF4 && p[1] > 0x8F)) {
      return false;
    }
    p += more + 1;
  }
  return true;
}

// A tag that is one of the type's own, with its wire type: most types have fewer than ten fields of 32
// numbers and five wire types.
constexpr int kFieldBits = 4;
constexpr int kTextBits = 4;
constexpr size_t kShortText = 3;
constexpr size_t kLongText = 1024;
constexpr int kChildBits = 2;
// A newer release may have it, but hardly many.
constexpr int kUnknownFieldBits = -8;
constexpr int kUnknownEnumBits = -4;
constexpr int kZeroBits = -8;
// A message is judged by its first fields: ten thousand keys prove no more than the first of them.
constexpr uint32_t kWeighedFields = 96;

bool IsPrintable(Bytes b) {
  return std::all_of(b.begin(), b.end(), [](uint8_t c) { return c >= 0x20 && c < 0x7F; });
}

class Checker {
 public:
  explicit Checker(const Tables& tables) : t_(tables) {}

  const uint8_t* Fields(const MessageTable& table, const uint8_t* p, const uint8_t* end) {
    uint64_t seen = 0;
    uint32_t last_number = 0;
    uint32_t oneofs[8] = {};  // the member of each oneof seen first; more than 7 are not watched
    while (p < end) {
      uint32_t tag;
      p = wire::ReadTag(p, end, tag);
      const uint32_t number = tag >> 3;
      if (!p || number == 0) return nullptr;
      ++r_.fields;
      const Field* field = nullptr;
      int32_t child = -1;
      domain_ = Domain::kAny;
      if (number < table.dense) {
        field = &t_.fields[table.first + number];
        child = t_.plain_children[table.first + number];
        domain_ = t_.domains[table.first + number];
      } else if (const SparseField* sparse = t_.FindSparse(table, number)) {
        field = &sparse->field;
        child = sparse->plain_child;
        domain_ = sparse->domain;
      }
      if (!field || field->oneof == 0) {
        if (number < last_number) ++r_.out_of_order;
        last_number = number;
      }
      if (!field || !field->known()) {
        ++r_.unknown_fields;
        if (depth_ == 0) ++r_.unknown_at_top;
        r_.bits += kUnknownFieldBits;
        p = wire::SkipValue(p, end, tag, limits::kMaxMessageDepth - depth_);
      } else if (field->wire == (tag & 7)) {
        ++r_.known_fields;
        Worth(kFieldBits);
        if (number < 64) {
          if (!field->repeated && (seen >> number & 1) != 0) ++r_.repeated_singular;
          seen |= uint64_t{1} << number;
        }
        if (field->oneof != 0 && field->oneof < std::size(oneofs)) {
          uint32_t& member = oneofs[field->oneof];
          if (member != 0 && member != number) ++r_.oneof_conflicts;
          member = number;
        }
        p = Value(*field, child, p, end);
      } else if (field->packable && (tag & 7) == wire::kLen) {
        ++r_.known_fields;
        if (number < 64) seen |= uint64_t{1} << number;
        p = Packed(*field, child, p, end);
      } else {
        ++r_.wrong_wire_types;
        p = wire::SkipValue(p, end, tag, limits::kMaxMessageDepth - depth_);
      }
      if (!p) return nullptr;
    }
    if ((table.required & ~seen) != 0) {
      if (table.demanded) ++r_.implausible;
    } else {
      Worth(table.shape_bits);
      if (table.anchor) ++r_.anchors;
    }
    return p;
  }

  StrictResult& result() { return r_; }

 private:
  void Zero() {
    ++r_.explicit_zeroes;
    r_.bits += kZeroBits;
  }
  void Worth(int bits) {
    if (r_.fields <= kWeighedFields) r_.bits += bits;
  }

  const uint8_t* Value(const Field& field, int32_t child, const uint8_t* p, const uint8_t* end) {
    const bool zero_counts = !field.repeated && field.oneof == 0;
    switch (field.wire) {
      case wire::kVarint: {
        uint64_t value;
        p = wire::ReadVarint(p, end, value);
        if (!p) return nullptr;
        if (zero_counts && value == 0) Zero();
        Number(field, child, value);
        return p;
      }
      case wire::kFixed64:
        if (end - p < 8) return nullptr;
        if (zero_counts && std::all_of(p, p + 8, [](uint8_t b) { return b == 0; })) Zero();
        return p + 8;
      case wire::kFixed32:
        if (end - p < 4) return nullptr;
        if (zero_counts && std::all_of(p, p + 4, [](uint8_t b) { return b == 0; })) Zero();
        return p + 4;
      case wire::kLen:
        break;
      default:
        return nullptr;  // a group field: nothing of TiDB has one
    }
    uint32_t length;
    p = wire::ReadLength(p, end, length);
    if (!p) return nullptr;
    if (field.type == ValueType::kMessage) {
      if (depth_ >= limits::kMaxMessageDepth) {
        r_.too_deep = true;
        return p + length;
      }
      if (length != 0) Worth(kChildBits);
      ++depth_;
      const uint8_t* const at = Fields(t_.tables[static_cast<size_t>(child)], p, p + length);
      --depth_;
      return at;
    }
    if (zero_counts && length == 0) Zero();
    if (field.type == ValueType::kString) {
      if (!IsUtf8(Bytes(p, length))) ++r_.bad_strings;
      if (length >= kShortText && length < kLongText && IsPrintable(Bytes(p, length))) Worth(kTextBits);
    }
    return p + length;
  }

  void Number(const Field& field, int32_t child, uint64_t value) {
    if (domain_ != Domain::kAny) {
      IsPlausible(domain_, value) ? Worth(BitsOf(domain_)) : void(++r_.implausible);
    }
    if (field.type == ValueType::kBool && value > 1) ++r_.bad_bools;
    if (field.type != ValueType::kEnum || child < 0) return;
    const std::vector<int32_t>& numbers = t_.enums[static_cast<size_t>(child)];
    if (!std::binary_search(numbers.begin(), numbers.end(), static_cast<int32_t>(value))) {
      ++r_.unknown_enums;
      r_.bits += kUnknownEnumBits;
    }
  }

  const uint8_t* Packed(const Field& field, int32_t child, const uint8_t* p, const uint8_t* end) {
    uint32_t length;
    p = wire::ReadLength(p, end, length);
    if (!p) return nullptr;
    const uint8_t* const packed_end = p + length;
    if (field.wire == wire::kFixed64) return length % 8 == 0 ? packed_end : nullptr;
    if (field.wire == wire::kFixed32) return length % 4 == 0 ? packed_end : nullptr;
    while (p < packed_end) {
      uint64_t value;
      p = wire::ReadVarint(p, packed_end, value);
      if (!p) return nullptr;
      Number(field, child, value);
    }
    return p;
  }

  const Tables& t_;
  StrictResult r_;
  Domain domain_ = Domain::kAny;  // of the field being read
  int depth_ = 0;
};

}  // namespace

StrictResult CheckMessage(const Tables& tables, int32_t plain_table, Bytes message) {
  Checker checker(tables);
  const uint8_t* const end = message.data() + message.size();
  const uint8_t* const at =
      checker.Fields(tables.tables[static_cast<size_t>(plain_table)], message.data(), end);
  checker.result().valid = at == end;
  return checker.result();
}

}  // namespace keytrail::schema
