#include "common/key_codec.h"

#include <charconv>
#include <cmath>
#include <cstring>

#include "common/key_token.h"

namespace keytrail {

namespace {

constexpr size_t kGroup = 8;
constexpr uint64_t kSignBit = uint64_t{1} << 63;

// One group of the memcomparable form: how many of its 8 bytes are data, or -1 if it is none.
int GroupLength(const uint8_t* group) {
  const int pad = 0xFF - group[kGroup];
  if (pad > static_cast<int>(kGroup)) return -1;
  const int length = static_cast<int>(kGroup) - pad;
  for (size_t i = static_cast<size_t>(length); i < kGroup; ++i) {
    if (group[i] != 0) return -1;
  }
  return length;
}

// Bytes of the whole memcomparable value at the start of `b`, 0 if there is none. Appends the raw bytes to
// `raw` unless that is null.
size_t EncodedLength(Bytes b, std::string* raw) {
  size_t at = 0;
  while (b.size() - at >= kGroup + 1) {
    const int length = GroupLength(b.data() + at);
    if (length < 0) return 0;
    if (raw) raw->append(reinterpret_cast<const char*>(b.data() + at), static_cast<size_t>(length));
    at += kGroup + 1;
    if (length < static_cast<int>(kGroup)) return at;
  }
  return 0;
}

bool IsPrintable(Bytes b) {
  for (const uint8_t c : b) {
    if (c < 0x20 || c > 0x7E) return false;
  }
  return true;
}

void AppendHex(Bytes b, const char* digits, std::string& out) {
  for (const uint8_t c : b) {
    out += digits[c >> 4];
    out += digits[c & 15];
  }
}

constexpr const char* kUpperDigits = "0123456789ABCDEF";

void AppendQuoted(Bytes b, std::string& out) {
  out += '"';
  for (const uint8_t c : b) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<char>(c);
  }
  out += '"';
}

void AppendRest(Bytes rest, std::string& out) {
  if (rest.empty()) return;
  out += '+';
  AppendHex(rest, kUpperDigits, out);
}

int64_t SignedAt(const uint8_t* p) {
  return static_cast<int64_t>(LoadBe64(p) ^ kSignBit);
}

// Text that cannot be taken for a number, for hex or for two parts stays bare.
bool NeedsQuotes(Bytes b) {
  if (b.empty()) return true;
  if ((b[0] >= '0' && b[0] <= '9') || b[0] == '-' || b[0] == '+') return true;
  for (const uint8_t c : b) {
    if (c == '_' || c == '"' || c == '\\' || c == ' ' || c == '{' || c == '}') return true;
  }
  return AsText(b) == "NULL" || AsText(b) == "MAX";
}

void AppendBytesPart(Bytes b, std::string& out) {
  if (!IsPrintable(b)) {
    out += "0x";
    AppendHex(b, kUpperDigits, out);
  } else if (NeedsQuotes(b)) {
    AppendQuoted(b, out);
  } else {
    out += AsText(b);
  }
}

// TiDB's codec.EncodeKey: a flag byte, then the value in a form that sorts as bytes.
enum DatumFlag : uint8_t {
  kNil = 0,
  kBytes = 1,
  kInt = 3,
  kUint = 4,
  kFloat = 5,
  kDuration = 7,
  kMax = 0xFA,
};

// Appends the datum at the start of `b`; gives its length, 0 if it is of no kind that we read.
size_t AppendDatum(Bytes b, std::string& out) {
  switch (b[0]) {
    case kNil:
      out += "NULL";
      return 1;
    case kMax:
      out += "MAX";
      return 1;
    case kBytes: {
      std::string raw;
      const size_t n = EncodedLength(b.subspan(1), &raw);
      if (n == 0) return 0;
      AppendBytesPart(AsBytes(raw), out);
      return 1 + n;
    }
    default:
      break;
  }
  if (b.size() < 9) return 0;
  switch (b[0]) {
    case kInt:
      out += std::to_string(SignedAt(b.data() + 1));
      return 9;
    case kUint:
      out += std::to_string(LoadBe64(b.data() + 1));
      return 9;
    case kDuration:
      out += std::to_string(SignedAt(b.data() + 1)) + "ns";
      return 9;
    case kFloat: {
      const uint64_t bits = LoadBe64(b.data() + 1);
      const uint64_t plain = (bits & kSignBit) != 0 ? bits & ~kSignBit : ~bits;
      double value;
      std::memcpy(&value, &plain, sizeof value);
      if (std::isnan(value)) return 0;
      char text[40];
      const auto end = std::to_chars(text, text + sizeof text, value).ptr;
      out.append(text, end);
      return 9;
    }
    default:
      return 0;
  }
}

// All of `b` as datums joined by '_'; what cannot be read follows as "+HEX".
void AppendDatums(Bytes b, std::string& out) {
  bool first = true;
  while (!b.empty()) {
    const size_t mark = out.size();
    if (!first) out += '_';
    const size_t n = AppendDatum(b, out);
    if (n == 0) {
      out.resize(mark);
      break;
    }
    first = false;
    b = b.subspan(n);
  }
  AppendRest(b, out);
}

bool AllDatums(Bytes b) {
  std::string scratch;
  while (!b.empty()) {
    const size_t n = AppendDatum(b, scratch);
    if (n == 0) return false;
    b = b.subspan(n);
  }
  return true;
}

// What follows "t<id>_r": an 8-byte handle, or the datums of a clustered primary key.
void AppendHandle(Bytes b, std::string& out) {
  // A handle whose first byte is a datum flag would be about -2^63, or an unsigned one of 2^63 and more.
  // 8 bytes are always a plain handle; no sequence of our datums is that short and that long.
  if (b.size() != 8 && !b.empty() && b[0] >= kBytes && b[0] <= kDuration && AllDatums(b)) {
    out += '{';
    AppendDatums(b, out);
    out += '}';
    return;
  }
  if (b.size() < 8) return AppendRest(b, out);
  out += std::to_string(SignedAt(b.data()));
  AppendRest(b.subspan(8), out);
}

// t + table id [+ "_r" + handle | "_i" + index id [+ datums]]
bool AppendTableKey(Bytes b, std::string& out) {
  if (b[0] != 't') return false;
  if (b.size() == 1) {
    out += 't';
    return true;
  }
  if (b.size() < 9) return false;
  const int64_t id = SignedAt(b.data() + 1);
  if (id < 0) return false;
  const std::string table = "t" + std::to_string(id);
  Bytes rest = b.subspan(9);
  if (rest.empty()) {
    out += table;
    return true;
  }
  if (rest.size() < 2 || rest[0] != '_' || (rest[1] != 'r' && rest[1] != 'i')) {
    out += table;
    AppendRest(rest, out);
    return true;
  }
  const bool index = rest[1] == 'i';
  rest = rest.subspan(2);
  out += table;
  out += index ? "_i" : "_r";
  if (!index) {
    AppendHandle(rest, out);
    return true;
  }
  if (rest.size() < 8) {
    AppendRest(rest, out);
    return true;
  }
  out += std::to_string(SignedAt(rest.data()));
  rest = rest.subspan(8);
  if (rest.empty()) return true;
  const size_t mark = out.size();
  out += '_';
  AppendDatums(rest, out);
  if (out[mark + 1] == '+') out.erase(mark, 1);
  return true;
}

// m + memcomparable(key) [+ 8-byte type [+ memcomparable(field) | index]]
bool AppendMetaKey(Bytes b, std::string& out) {
  if (b[0] != 'm') return false;
  if (b.size() == 1) {
    out += 'm';
    return true;
  }
  std::string part;
  const size_t n = EncodedLength(b.subspan(1), &part);
  if (n == 0 || part.empty()) return false;
  out += "m_";
  out += IsPrintable(AsBytes(part)) ? part : "0x" + HexUpper(AsBytes(part));
  Bytes rest = b.subspan(1 + n);
  if (rest.size() < 8 || LoadBe64(rest.data()) > 0x7F) {
    AppendRest(rest, out);
    return true;
  }
  const uint64_t type = LoadBe64(rest.data());
  rest = rest.subspan(8);
  if (rest.empty()) return true;
  if (type == 'h') {
    part.clear();
    const size_t field = EncodedLength(rest, &part);
    if (field != 0) {
      out += '_';
      out += IsPrintable(AsBytes(part)) ? part : "0x" + HexUpper(AsBytes(part));
      rest = rest.subspan(field);
    }
  } else if (type == 'l' && rest.size() >= 8) {
    out += '_' + std::to_string(SignedAt(rest.data()));
    rest = rest.subspan(8);
  }
  AppendRest(rest, out);
  return true;
}

bool AppendTidbKey(Bytes b, std::string& out) {
  return !b.empty() && (AppendTableKey(b, out) || AppendMetaKey(b, out));
}

// API V2: 'x' (transactions) or 'r' (RawKV), 3 bytes of keyspace id, the user's key. Believed only if the
// user's key can be read, since a RawKV V1 key may begin with these letters too.
bool AppendKeyspaceKey(Bytes b, std::string& out) {
  if (b.size() < 4 || (b[0] != 'x' && b[0] != 'r')) return false;
  const Bytes rest = b.subspan(4);
  const std::string prefix = "ks=" + std::to_string(LoadBe24(b.data() + 1)) + ":";
  if (rest.empty()) {
    out += prefix;
    return true;
  }
  std::string text;
  if (!AppendTidbKey(rest, text)) {
    if (!IsPrintable(rest)) return false;
    AppendQuoted(rest, text);
  }
  out += prefix + text;
  return true;
}

// 12 hex digits that are the same for the same token (FNV-1a and a last mix): a token is too long to be read.
std::string ShortName(Bytes token) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const uint8_t c : token) hash = (hash ^ c) * 0x100000001B3;
  hash = (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15;
  std::string out;
  for (int shift = 60; shift > 12; shift -= 4) out += "0123456789abcdef"[hash >> shift & 15];
  return out;
}

std::string EmptyBound(Bound bound) {
  return bound == Bound::kEnd ? "+inf" : "-inf";
}

}  // namespace

void EncodeKeyTo(Bytes raw, std::string& out) {
  out.reserve(out.size() + (raw.size() / kGroup + 1) * (kGroup + 1));
  size_t at = 0;
  for (;; at += kGroup) {
    const size_t n = std::min(kGroup, raw.size() - at);
    if (n != 0) out.append(reinterpret_cast<const char*>(raw.data() + at), n);
    out.append(kGroup - n, '\0');
    out += static_cast<char>(0xFF - (kGroup - n));
    if (n < kGroup) return;
  }
}

std::string EncodeKey(Bytes raw) {
  std::string out;
  EncodeKeyTo(raw, out);
  return out;
}

std::optional<std::string> DecodeKey(Bytes encoded, std::optional<uint64_t>* mvcc_ts) {
  if (mvcc_ts) mvcc_ts->reset();
  std::string raw;
  const size_t n = EncodedLength(encoded, &raw);
  if (n == 0) return std::nullopt;
  const Bytes tail = encoded.subspan(n);
  if (tail.empty()) return raw;
  if (tail.size() != 8 || !mvcc_ts) return std::nullopt;
  *mvcc_ts = ~LoadBe64(tail.data());
  return raw;
}

Bytes WithoutMvccSuffix(Bytes encoded) {
  const size_t n = EncodedLength(encoded, nullptr);
  return n != 0 && encoded.size() == n + 8 ? encoded.first(n) : encoded;
}

bool InRange(Bytes key, Bytes start, Bytes end) {
  return CompareBytes(key, start) >= 0 && (end.empty() || CompareBytes(key, end) < 0);
}

std::string RawKeyText(Bytes raw, Bound bound) {
  if (raw.empty()) return EmptyBound(bound);
  std::string out;
  const bool printable = IsPrintable(raw);
  // No table id that TiDB gives out begins with a printable byte, so a printable key is a user's text.
  if ((!printable || raw.size() == 1) && AppendTidbKey(raw, out)) return out;
  if (printable) {
    AppendQuoted(raw, out);
  } else if (!AppendKeyspaceKey(raw, out)) {
    out.clear();
    AppendHex(raw, kUpperDigits, out);
  }
  return out;
}

std::string EncodedKeyText(Bytes encoded, Bound bound) {
  if (encoded.empty()) return EmptyBound(bound);
  if (IsKeyToken(encoded)) return "redacted:" + ShortName(encoded);
  if (const std::optional<std::string> raw = DecodeKey(encoded)) {
    // The encoding of the empty key is a key, not a missing bound.
    return raw->empty() ? "\"\"" : RawKeyText(AsBytes(*raw), bound);
  }
  // Boundaries of RawKV V1 are not encoded. A printable one cannot be an encoding (no marker is printable).
  std::string out;
  if (IsPrintable(encoded)) {
    AppendQuoted(encoded, out);
  } else {
    AppendHex(encoded, kUpperDigits, out);
  }
  return out;
}

std::string HexLower(Bytes b) {
  std::string out;
  out.reserve(b.size() * 2);
  AppendHex(b, "0123456789abcdef", out);
  return out;
}

std::string HexUpper(Bytes b) {
  std::string out;
  out.reserve(b.size() * 2);
  AppendHex(b, kUpperDigits, out);
  return out;
}

std::optional<std::string> FromHex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  std::string out;
  out.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = digit(hex[i]);
    const int low = digit(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
  }
  return out;
}

}  // namespace keytrail
