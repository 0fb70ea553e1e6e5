#include "agent/schema/error_text.h"

#include <string>

#include "common/key_codec.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr std::string_view kOpenMark = "\xE2\x80\xB9";   // ‹, of security.redact-info-log = "marker"
constexpr std::string_view kCloseMark = "\xE2\x80\xBA";  // ›

// A key as it stands in a text.
struct TextKey {
  enum class What { kBytes, kNone, kRedacted } what = What::kBytes;
  std::string bytes;
};

bool IsHexDigit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
}
bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool IsOctal(char c) {
  return c >= '0' && c <= '7';
}

// tikv_util::escape: printable bytes as they are, \n \r \t \" \\ and \ooo. Each debug print around it doubles
// the backslashes, so a run of them stands for one; all runs must be of one length, else it is anybody's
// guess.
bool Unescape(std::string_view text, std::string& out) {
  size_t run_length = 0;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '\\') {
      if (static_cast<unsigned char>(text[i]) < 0x20 || static_cast<unsigned char>(text[i]) > 0x7E)
        return false;
      out += text[i++];
      continue;
    }
    size_t n = 0;
    while (i < text.size() && text[i] == '\\') ++i, ++n;
    if (run_length == 0) run_length = n;
    if (n != run_length || i == text.size()) return false;
    if (text.size() - i >= 3 && text[i] <= '3' && IsOctal(text[i]) && IsOctal(text[i + 1]) &&
        IsOctal(text[i + 2])) {
      out += static_cast<char>((text[i] - '0') << 6 | (text[i + 1] - '0') << 3 | (text[i + 2] - '0'));
      i += 3;
      continue;
    }
    switch (text[i++]) {
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      default:
        return false;
    }
  }
  return run_length != 0;  // without any escape it is no key of TiDB's
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : s_(text) {}

  bool Eat(std::string_view expected) {
    if (!s_.starts_with(expected)) return false;
    s_.remove_prefix(expected.size());
    return true;
  }

  // Goes on behind the next `mark`.
  bool GoTo(std::string_view mark) {
    const size_t at = s_.find(mark);
    if (at == std::string_view::npos) return false;
    s_.remove_prefix(at + mark.size());
    return true;
  }

  void EatSpaces() {
    while (Eat(" ")) {
    }
  }

  bool Number(uint64_t& value) {
    EatSpaces();
    size_t n = 0;
    uint64_t v = 0;
    for (; n < s_.size() && IsDigit(s_[n]); ++n) {
      if (v > (UINT64_MAX - 9) / 10) return false;
      v = v * 10 + static_cast<uint64_t>(s_[n] - '0');
    }
    if (n == 0) return false;
    s_.remove_prefix(n);
    value = v;
    return true;
  }

  // A key in any of its forms, up to `terminator`, which is eaten too.
  bool Key(std::string_view terminator, TextKey& key) {
    EatSpaces();
    if (Eat("end:")) EatSpaces();
    if (Eat("(none)") || Eat("None")) {
      key.what = TextKey::What::kNone;
      return Terminator(terminator);
    }
    const bool some = Eat("Some(");
    const bool quoted = EatQuote();
    const bool marked = Eat(kOpenMark);
    if (!KeyBody(terminator, some, quoted, marked, key)) return false;
    if (marked && !Eat(kCloseMark)) return false;
    if (quoted && !EatQuote()) return false;
    if (some && !Eat(")")) return false;
    return Terminator(terminator);
  }

 private:
  bool Terminator(std::string_view terminator) {
    if (terminator.empty()) return s_.empty();
    if (terminator == ",") {
      EatSpaces();
      if (!Eat(",")) return false;
      EatSpaces();
      return true;
    }
    EatSpaces();
    return Eat(terminator);
  }

  // A quote, with the backslashes that debug prints put before it.
  bool EatQuote() {
    size_t n = 0;
    while (n < s_.size() && s_[n] == '\\') ++n;
    if (n >= s_.size() || s_[n] != '"') return false;
    s_.remove_prefix(n + 1);
    return true;
  }

  bool KeyBody(std::string_view terminator, bool some, bool quoted, bool marked, TextKey& key) {
    if (Eat("?")) {
      key.what = TextKey::What::kRedacted;
      return true;
    }
    if (Eat("[")) return DecimalList(key.bytes);
    size_t n = 0;
    while (n < s_.size() && IsHexDigit(s_[n])) ++n;
    const std::string_view rest = s_.substr(n);
    bool ends;
    if (marked) {
      ends = rest.starts_with(kCloseMark);
    } else if (quoted) {
      ends = rest.starts_with('"') || (rest.starts_with('\\') && !EscapeFollows(rest));
    } else if (some) {
      ends = rest.starts_with(')');
    } else {
      ends = terminator.empty() ? rest.empty() : rest.starts_with(terminator);
    }
    if (ends && n % 2 == 0) {
      key.bytes = *FromHex(s_.substr(0, n));
      s_ = rest;
      return true;
    }
    return Escaped(terminator, some, quoted, marked, key.bytes);
  }

  static bool EscapeFollows(std::string_view rest) {
    const size_t n = rest.find_first_not_of('\\');
    return n != std::string_view::npos && rest[n] != '"';
  }

  bool DecimalList(std::string& bytes) {
    EatSpaces();
    if (Eat("]")) return true;
    for (;;) {
      uint64_t value;
      if (!Number(value) || value > 255) return false;
      bytes += static_cast<char>(value);
      if (bytes.size() > limits::kMaxFactBytesPerMessage) return false;
      EatSpaces();
      if (Eat("]")) return true;
      if (!Eat(",")) return false;
      EatSpaces();
    }
  }

  bool Escaped(std::string_view terminator, bool some, bool quoted, bool marked, std::string& bytes) {
    size_t end = std::string_view::npos;
    if (marked) {
      end = s_.find(kCloseMark);
    } else if (quoted) {
      end = s_.find('"');
      while (end != std::string_view::npos && end > 0 && s_[end - 1] == '\\') --end;
    } else if (some) {
      end = s_.find(')');
    } else {
      end = terminator.empty() ? s_.size() : s_.find(terminator == "," ? ", " : terminator);
    }
    if (end == std::string_view::npos || !Unescape(s_.substr(0, end), bytes)) return false;
    s_.remove_prefix(end);
    return true;
  }

  std::string_view s_;
};

// start and end of a range; the text says "(none)" or nothing at all for an open side.
struct TextRange {
  TextKey start;
  TextKey end;
  bool redacted() const {
    return start.what == TextKey::What::kRedacted || end.what == TextKey::What::kRedacted;
  }
};

Bytes Kept(const TextKey& key, ByteArena& arena) {
  return arena.Copy(AsBytes(key.bytes));
}

// A complaint whose keys are hidden still says what was complained of, and where.
void SetRedacted(uint64_t region_id, ErrorFact& error) {
  error.kind = ErrorKind::kRedacted;
  error.from_text = true;
  error.region_id = region_id;
}

void SetBounds(const TextRange& bounds, ByteArena& arena, ErrorFact& error) {
  error.has_bounds = true;
  error.start = Kept(bounds.start, arena);
  error.end = Kept(bounds.end, arena);
}

// The key that ends at `end` of `text`, behind the word "key".
bool KeyBefore(std::string_view text, size_t end, TextKey& key) {
  const std::string_view before = text.substr(0, end);
  const size_t at = before.rfind("ey ");
  if (at == std::string_view::npos) return false;
  return Scanner(before.substr(at + 3)).Key("", key);
}

// (b) Key K is out of [region N] [S, E)
bool KeyOutOfRegion(std::string_view text, ByteArena& arena, ErrorFact& error) {
  constexpr std::string_view kMark = " is out of [region ";
  const size_t at = text.find(kMark);
  if (at == std::string_view::npos) return false;
  TextKey key;
  TextRange bounds;
  uint64_t region_id = 0;
  Scanner scan(text.substr(at + kMark.size()));
  if (!KeyBefore(text, at, key) || !scan.Number(region_id) || !scan.Eat("] [") ||
      !scan.Key(",", bounds.start) || !scan.Key(")", bounds.end)) {
    return false;
  }
  if (key.what == TextKey::What::kRedacted || bounds.redacted()) {
    SetRedacted(region_id, error);
    return true;
  }
  error.kind = ErrorKind::kKeyOutOfRegion;
  error.from_text = true;
  error.region_id = region_id;
  error.has_key = true;
  error.key = WithoutMvccSuffix(Kept(key, arena));
  SetBounds(bounds, arena, error);
  return true;
}

// (a) key K is not in region key range [S, E) for region N. Seen without the structured error only through
// proxies that pass texts on.
bool KeyNotInRegion(std::string_view text, ByteArena& arena, ErrorFact& error) {
  constexpr std::string_view kMark = " is not in region key range [";
  const size_t at = text.find(kMark);
  if (at == std::string_view::npos) return false;
  TextKey key;
  TextRange bounds;
  uint64_t region_id = 0;
  Scanner scan(text.substr(at + kMark.size()));
  if (!KeyBefore(text, at, key) || !scan.Key(",", bounds.start) || !scan.Key(")", bounds.end) ||
      !scan.Eat(" for region") || !scan.Number(region_id)) {
    return false;
  }
  if (key.what == TextKey::What::kRedacted || bounds.redacted()) {
    SetRedacted(region_id, error);
    return true;
  }
  error.kind = ErrorKind::kKeyNotInRegion;
  error.from_text = true;
  error.region_id = region_id;
  error.has_key = true;
  error.key = WithoutMvccSuffix(Kept(key, arena));
  SetBounds(bounds, arena, error);
  return true;
}

bool SetRangeExceedsBound(const TextRange& range, const TextRange& bounds, ByteArena& arena,
                          ErrorFact& error) {
  if (range.redacted() || bounds.redacted()) {
    SetRedacted(0, error);
    return true;
  }
  error.kind = ErrorKind::kRangeExceedsBound;
  error.from_text = true;
  error.has_range = true;
  error.range_start = WithoutMvccSuffix(Kept(range.start, arena));
  error.range_end = WithoutMvccSuffix(Kept(range.end, arena));
  SetBounds(bounds, arena, error);
  return true;
}

// (c) Request range exceeds bound, request range:[S, E), physical bound:[S, E)
bool RangeExceedsBound(std::string_view text, ByteArena& arena, ErrorFact& error) {
  Scanner scan(text);
  TextRange range;
  TextRange bounds;
  return scan.GoTo("Request range exceeds bound") && scan.GoTo("request range:[") &&
         scan.Key(",", range.start) && scan.Key(")", range.end) && scan.GoTo("physical bound:[") &&
         scan.Key(",", bounds.start) && scan.Key(")", bounds.end) &&
         SetRangeExceedsBound(range, bounds, arena, error);
}

// (c) InvalidReqRange { start: Some([..]), end: Some([..]), lower_bound: Some([..]), upper_bound: Some([..])
// }
bool InvalidReqRange(std::string_view text, ByteArena& arena, ErrorFact& error) {
  Scanner scan(text);
  TextRange range;
  TextRange bounds;
  return scan.GoTo("InvalidReqRange") && scan.GoTo("start:") && scan.Key(",", range.start) &&
         scan.Eat("end:") && scan.Key(",", range.end) && scan.Eat("lower_bound:") &&
         scan.Key(",", bounds.start) && scan.Eat("upper_bound:") && scan.Key("}", bounds.end) &&
         SetRangeExceedsBound(range, bounds, arena, error);
}

// (d) range.start should be smaller than range.end, but got [[..],[..]): these keys are raw.
bool InvertedRange(std::string_view text, ByteArena& arena, ErrorFact& error) {
  Scanner scan(text);
  TextRange range;
  if (!scan.GoTo("range.start should be smaller than range.end") || !scan.GoTo("but got [") ||
      !scan.Key(",", range.start) || !scan.Key(")", range.end)) {
    return false;
  }
  if (range.redacted()) {
    SetRedacted(0, error);
    return true;
  }
  error.kind = ErrorKind::kInvertedRange;
  error.from_text = true;
  error.key_form = KeyForm::kRaw;
  error.has_range = true;
  error.range_start = Kept(range.start, arena);
  error.range_end = Kept(range.end, arena);
  return true;
}

// (e)
bool ApiVersionMismatch(std::string_view text, ErrorFact& error) {
  for (const std::string_view mark : {"Api version in request does not match", "ApiVersionNotMatched",
                                      "Key mode mismatched", "InvalidKeyMode"}) {
    if (text.find(mark) == std::string_view::npos) continue;
    error.kind = ErrorKind::kApiVersionMismatch;
    error.from_text = true;
    return true;
  }
  return false;
}

// (h) EpochNotMatch current epoch of region N is conf_ver: A version: B, but you sent conf_ver: C version: D
bool EpochText(std::string_view text, ErrorFact& error) {
  Scanner scan(text);
  uint64_t region_id;
  uint64_t conf_ver = 0;
  uint64_t version = 0;
  if (!scan.GoTo("current epoch of region") || !scan.Number(region_id) || !scan.Eat(" is")) return false;
  // rust-protobuf's short form leaves zeroes out.
  scan.EatSpaces();
  const bool has_conf = scan.Eat("conf_ver:") && scan.Number(conf_ver);
  scan.EatSpaces();
  const bool has_version = scan.Eat("version:") && scan.Number(version);
  if (!has_conf && !has_version) return false;
  error.kind = ErrorKind::kEpochText;
  error.from_text = true;
  error.region_id = region_id;
  error.current_conf_ver = conf_ver;
  error.current_version = version;
  return true;
}

// (g) TiFlash. The numbers in the first are the request's, so only the region is taken over.
bool TiFlashText(std::string_view text, ErrorFact& error) {
  uint64_t region_id;
  Scanner epoch(text);
  if (epoch.GoTo("Region epoch not match after retries") && epoch.GoTo("Region {") &&
      epoch.Number(region_id)) {
    error.kind = ErrorKind::kEpochText;
  } else {
    Scanner duplicate(text);
    if (!duplicate.GoTo("contain duplicate region") || !duplicate.Number(region_id)) return false;
    error.kind = ErrorKind::kOtherError;
  }
  error.from_text = true;
  error.region_id = region_id;
  return true;
}

}  // namespace

bool ParseErrorText(Bytes bytes, ByteArena& arena, ErrorFact& error) {
  const std::string_view text = AsText(bytes);
  return KeyOutOfRegion(text, arena, error) || RangeExceedsBound(text, arena, error) ||
         InvalidReqRange(text, arena, error) || KeyNotInRegion(text, arena, error) ||
         InvertedRange(text, arena, error) || EpochText(text, error) || TiFlashText(text, error) ||
         ApiVersionMismatch(text, error);
}

}  // namespace keytrail
