// Keys of the table that the live nodes work on, and texts of keys. Pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "common/key_codec.h"

namespace keytrail::live {

constexpr int64_t kTable = 53;

// t<table>_r<row>, as TiDB writes it (tidb-wire.md section 4): raw, as requests to stores carry it.
inline std::string RowKey(int64_t table, int64_t row) {
  std::string key = "t";
  const auto append = [&](int64_t value) {
    const uint64_t shifted = static_cast<uint64_t>(value) ^ (uint64_t{1} << 63);
    for (int bit = 56; bit >= 0; bit -= 8) key += static_cast<char>(shifted >> bit);
  };
  append(table);
  key += "_r";
  append(row);
  return key;
}

// The row of such a raw key, or -1.
inline int64_t RowOf(const std::string& raw) {
  const std::string first = RowKey(kTable, 0);
  if (raw.size() != first.size() || raw.compare(0, 11, first, 0, 11) != 0) return -1;
  return static_cast<int64_t>(LoadBe64(AsBytes(raw).data() + 11) ^ (uint64_t{1} << 63));
}

// The form of region boundaries and of what PD is asked for.
inline std::string Encoded(const std::string& raw) {
  return EncodeKey(AsBytes(raw));
}

// Back; an open end stays one.
inline std::string Raw(const std::string& encoded) {
  return encoded.empty() ? std::string() : DecodeKey(AsBytes(encoded)).value_or(encoded);
}

inline bool Holds(const std::string& start, const std::string& end, const std::string& key) {
  return InRange(AsBytes(key), AsBytes(start), AsBytes(end));
}

inline std::string Hex(const std::string& key) {
  return HexUpper(AsBytes(key));
}

}  // namespace keytrail::live
