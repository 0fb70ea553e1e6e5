// SQL functions of connections that keytrail opens (docs: product.md "SQL"): a plain sqlite3 does not have
// them, so no view uses them.

#include <cstdio>
#include <ctime>

#include "collector/store/store_state.h"
#include "common/key_codec.h"

namespace keytrail {

namespace {

Bytes BytesOf(sqlite3_value* value) {
  const void* data = sqlite3_value_blob(value);
  return {static_cast<const uint8_t*>(data), static_cast<size_t>(sqlite3_value_bytes(value))};
}

bool IsNull(sqlite3_value* value) {
  return sqlite3_value_type(value) == SQLITE_NULL;
}

void GiveText(sqlite3_context* context, const std::string& s) {
  sqlite3_result_text64(context, s.data(), s.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

void GiveBlob(sqlite3_context* context, const std::string& s) {
  sqlite3_result_blob64(context, s.data(), s.size(), SQLITE_TRANSIENT);
}

// tidb_key(encoded key): for people. tidb_key(encoded key, 1): the end of a range, where empty is +inf.
void TidbKey(sqlite3_context* context, int count, sqlite3_value** values) {
  if (IsNull(values[0])) return;
  const bool is_end = count == 2 && sqlite3_value_int(values[1]) != 0;
  GiveText(context, EncodedKeyText(BytesOf(values[0]), is_end ? Bound::kEnd : Bound::kStart));
}

void EncodeKeyFunction(sqlite3_context* context, int, sqlite3_value** values) {
  if (!IsNull(values[0])) GiveBlob(context, EncodeKey(BytesOf(values[0])));
}

// Null if it is no encoding.
void DecodeKeyFunction(sqlite3_context* context, int, sqlite3_value** values) {
  if (IsNull(values[0])) return;
  const std::optional<std::string> raw = DecodeKey(BytesOf(values[0]));
  if (raw.has_value()) GiveBlob(context, *raw);
}

// The physical part of a timestamp, ms since 1970 in the upper 46 bits, in UTC.
void TsoTime(sqlite3_context* context, int, sqlite3_value** values) {
  if (sqlite3_value_type(values[0]) != SQLITE_INTEGER) return;
  const int64_t ts = sqlite3_value_int64(values[0]);
  // 0 and the largest ("read the newest") are no times.
  if (ts <= 0 || ts == INT64_MAX) return;
  const int64_t ms = ts >> 18;
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  if (gmtime_r(&seconds, &utc) == nullptr) return;
  char text[64];
  const size_t n = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
  std::snprintf(text + n, sizeof text - n, ".%03d", static_cast<int>(ms % 1000));
  GiveText(context, text);
}

// A time of the database, ns since 1970, in UTC.
void NsTime(sqlite3_context* context, int, sqlite3_value** values) {
  if (sqlite3_value_type(values[0]) != SQLITE_INTEGER) return;
  const int64_t ns = sqlite3_value_int64(values[0]);
  if (ns < 0) return;
  const std::time_t seconds = static_cast<std::time_t>(ns / 1'000'000'000);
  std::tm utc{};
  if (gmtime_r(&seconds, &utc) == nullptr) return;
  char text[64];
  const size_t n = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
  std::snprintf(text + n, sizeof text - n, ".%06d", static_cast<int>(ns % 1'000'000'000 / 1000));
  GiveText(context, text);
}

// in_range(key, start, end): start <= key < end, an empty end is +infinity.
void InRangeFunction(sqlite3_context* context, int, sqlite3_value** values) {
  if (IsNull(values[0]) || IsNull(values[1]) || IsNull(values[2])) return;
  sqlite3_result_int(context, InRange(BytesOf(values[0]), BytesOf(values[1]), BytesOf(values[2])) ? 1 : 0);
}

}  // namespace

Status AddSqlFunctions(sqlite3* db) {
  const struct {
    const char* name;
    int arguments;
    void (*function)(sqlite3_context*, int, sqlite3_value**);
  } kFunctions[] = {{"tidb_key", 1, TidbKey},
                    {"tidb_key", 2, TidbKey},
                    {"ns_time", 1, NsTime},
                    {"encode_key", 1, EncodeKeyFunction},
                    {"decode_key", 1, DecodeKeyFunction},
                    {"tso_time", 1, TsoTime},
                    {"in_range", 3, InRangeFunction}};
  for (const auto& f : kFunctions) {
    if (sqlite3_create_function_v2(db, f.name, f.arguments,
                                   SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, nullptr, f.function,
                                   nullptr, nullptr, nullptr) != SQLITE_OK) {
      return Error{std::string("cannot add SQL function ") + f.name + ": " + sqlite3_errmsg(db)};
    }
  }
  return Done{};
}

}  // namespace keytrail
