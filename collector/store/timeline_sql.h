// Small pieces of SQL text and rows, for the timeline's own queries.
//
// For timeline_*.cc alone. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collector/store/store.h"
#include "common/bytes.h"
#include "common/key_codec.h"

namespace keytrail {

inline std::string SqlBlob(std::string_view bytes) {
  return "x'" + HexLower(AsBytes(bytes)) + "'";
}

// No NUL: SQLite would end the statement there.
inline std::string SqlText(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\0') continue;
    if (c == '\'') out += '\'';
    out += c;
  }
  return out + "'";
}

// Unsigned numbers are stored as two's complement.
inline std::string SqlNumber(uint64_t n) {
  return std::to_string(static_cast<int64_t>(n));
}

template <class Numbers>
std::string SqlList(const Numbers& numbers) {
  std::string out;
  for (const uint64_t n : numbers) out += (out.empty() ? "" : ",") + SqlNumber(n);
  return out;
}

// The columns of one row, in order.
class SqlRow {
 public:
  explicit SqlRow(const std::vector<Store::QueryValue>& values) : values_(values) {}

  bool Null(size_t i) const { return values_[i].type == Store::QueryValue::Type::kNull; }
  int64_t Signed(size_t i) const { return values_[i].integer; }
  uint64_t Number(size_t i) const { return static_cast<uint64_t>(values_[i].integer); }
  const std::string& Text(size_t i) const { return values_[i].bytes; }
  std::optional<int64_t> OptionalSigned(size_t i) const {
    if (Null(i)) return std::nullopt;
    return Signed(i);
  }
  std::optional<uint64_t> OptionalNumber(size_t i) const {
    if (Null(i)) return std::nullopt;
    return Number(i);
  }
  std::optional<std::string> OptionalText(size_t i) const {
    if (Null(i)) return std::nullopt;
    return Text(i);
  }

 private:
  const std::vector<Store::QueryValue>& values_;
};

}  // namespace keytrail
