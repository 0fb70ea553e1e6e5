#include "common/plain_text.h"

#include <cstdint>

namespace keytrail {

namespace {

// What a terminal obeys instead of showing it: C1 controls, line separators, directional marks (UAX #9).
bool IsObeyed(uint32_t c) {
  return (c >= 0x80 && c < 0xA0) || c == 0x61C || c == 0x200E || c == 0x200F ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

bool IsPlainText(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const uint8_t c = byte(i);
    if (c < 0x20 || c == 0x7F || (c >= 0x80 && c < 0xC2) || c > 0xF4) return false;
    const size_t more = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (text.size() - i <= more) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((byte(i + k) & 0xC0) != 0x80) return false;
    }
    // Overlong forms, surrogates, beyond U+10FFFF.
    if ((c == 0xE0 && byte(i + 1) < 0xA0) || (c == 0xF0 && byte(i + 1) < 0x90)) return false;
    if ((c == 0xED && byte(i + 1) > 0x9F) || (c == 0xF4 && byte(i + 1) > 0x8F)) return false;
    uint32_t point = more == 0 ? c : c & (0x3Fu >> more);
    for (size_t k = 1; k <= more; ++k) point = point << 6 | (byte(i + k) & 0x3F);
    if (IsObeyed(point)) return false;
    i += more + 1;
  }
  return true;
}

std::string PlainText(std::string_view text) {
  std::string out(text);
  if (IsPlainText(text)) return out;
  for (char& c : out) {
    const uint8_t byte = static_cast<uint8_t>(c);
    if (c == '\n' || c == '\t') {
      c = ' ';
    } else if (byte < 0x20 || byte >= 0x7F) {
      c = '?';
    }
  }
  return out;
}

}  // namespace keytrail
