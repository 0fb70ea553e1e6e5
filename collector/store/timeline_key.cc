// Keys as people write them.

#include <charconv>

#include "collector/store/timeline_rows.h"
#include "collector/store/timeline_sql.h"
#include "common/key_codec.h"

namespace keytrail {

namespace {

constexpr uint64_t kSignBit = uint64_t{1} << 63;

void AppendInt(int64_t n, std::string& out) {
  const uint64_t bits = static_cast<uint64_t>(n) ^ kSignBit;
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(bits >> shift);
}

bool TakeInt(std::string_view& text, int64_t& n) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (problem != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

// t53, t53_r8012, t53_i1, t53_i1_902_7: tables, handles, indexes of whole numbers. Empty: none of these.
std::string RawTableKey(std::string_view text) {
  int64_t n = 0;
  if (text.empty() || text.front() != 't') return "";
  text.remove_prefix(1);
  std::string raw = "t";
  if (!TakeInt(text, n) || n < 0) return "";
  AppendInt(n, raw);
  if (text.empty()) return raw;
  if (text.size() < 2 || text[0] != '_' || (text[1] != 'r' && text[1] != 'i')) return "";
  const bool index = text[1] == 'i';
  raw += text.substr(0, 2);
  text.remove_prefix(2);
  if (text.empty()) return raw;
  if (!TakeInt(text, n)) return "";
  AppendInt(n, raw);
  while (index && !text.empty() && text.front() == '_') {
    text.remove_prefix(1);
    if (!TakeInt(text, n)) return "";
    raw += '\3';  // the flag of a signed integer in codec.EncodeKey
    AppendInt(n, raw);
  }
  return text.empty() ? raw : "";
}

}  // namespace

Result<std::vector<std::string>> FindTimelineKey(const std::string& text, const TimelineSql& sql) {
  std::vector<std::string> keys;
  if (const std::optional<std::string> bytes = FromHex(text); bytes && !bytes->empty()) {
    // Hex is what keytrail prints: encoded. What is no encoding may be a raw key, or one of RawKV as it is.
    keys.push_back(*bytes);
    if (!DecodeKey(AsBytes(*bytes))) keys.push_back(EncodeKey(AsBytes(*bytes)));
    return keys;
  }
  if (const std::string raw = RawTableKey(text); !raw.empty()) {
    const std::string encoded = EncodeKey(AsBytes(raw));
    if (EncodedKeyText(AsBytes(encoded)) == text) keys.push_back(encoded);
  }
  if (!keys.empty()) return keys;
  if (text.size() > 2 && text.front() == '"' && text.back() == '"') {
    const std::string inner = text.substr(1, text.size() - 2);
    keys.push_back(EncodeKey(AsBytes(inner)));
    keys.push_back(inner);  // of RawKV, where keys are compared as they are
    return keys;
  }
  const std::string wanted = SqlText(text);
  const auto matching = [&](const char* column, const char* table) {
    return std::string("SELECT DISTINCT ") + column + " FROM " + table + " WHERE tidb_key(" + column +
           ") = " + wanted;
  };
  const Status read = sql(
      matching("start_key", "call_keys") + " UNION " + matching("start_key", "statements") + " UNION " +
          matching("end_key", "statements") + " UNION " + matching("key", "errors") + " LIMIT 8",
      [](const Store::QueryColumns&) {},
      [&](const auto& values) {
        keys.push_back(SqlRow(values).Text(0));
        return true;
      });
  if (!read.ok()) return Error{read.error()};
  if (keys.empty()) {
    return Error{"no key is shown as '" + text +
                 "' in the database; hex is taken, too, and a key's own text in \"quotes\""};
  }
  return keys;
}

}  // namespace keytrail
