#include "collector/report/layout.h"

#include <cstdio>

namespace keytrail::report {
namespace {

constexpr int64_t kDayNs = 86'400'000'000'000;

bool StartsCharacter(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

// The first `columns` characters of UTF-8 text, as bytes.
size_t BytesOf(std::string_view text, size_t columns) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (StartsCharacter(text[i]) && seen++ == columns) return i;
  }
  return text.size();
}

}  // namespace

std::string Paint::operator()(Tone tone, std::string_view text) const {
  if (!on_ || tone == Tone::kPlain || text.empty()) return std::string(text);
  const char* code = "";
  switch (tone) {
    case Tone::kPlain:
      break;
    case Tone::kBold:
      code = "\x1b[1m";
      break;
    case Tone::kDim:
      code = "\x1b[2m";
      break;
    case Tone::kRed:
      code = "\x1b[1;31m";
      break;
    case Tone::kGreen:
      code = "\x1b[32m";
      break;
    case Tone::kYellow:
      code = "\x1b[33m";
      break;
  }
  return code + std::string(text) + "\x1b[0m";
}

size_t Columns(std::string_view text) {
  size_t n = 0;
  for (char c : text) n += StartsCharacter(c);
  return n;
}

std::string Pad(std::string text, size_t columns) {
  const size_t have = Columns(text);
  if (have < columns) text.append(columns - have, ' ');
  return text;
}

std::string Shorten(const std::string& text, size_t columns) {
  const size_t have = Columns(text);
  if (have <= columns || columns < 5) return text;
  const size_t head = (columns - 1) * 2 / 3;
  const size_t tail = columns - 1 - head;
  return text.substr(0, BytesOf(text, head)) + "…" + text.substr(BytesOf(text, have - tail));
}

std::vector<std::string> Wrap(const std::string& text, size_t columns) {
  std::vector<std::string> lines;
  std::string line;
  for (size_t at = 0; at < text.size();) {
    const size_t space = text.find(' ', at);
    const std::string word = text.substr(at, space == std::string::npos ? std::string::npos : space - at);
    at = space == std::string::npos ? text.size() : space + 1;
    if (!line.empty() && Columns(line) + 1 + Columns(word) > columns) {
      lines.push_back(std::move(line));
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  if (!line.empty() || lines.empty()) lines.push_back(std::move(line));
  return lines;
}

std::string Number(uint64_t n) {
  std::string digits = std::to_string(n);
  for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string Count(uint64_t n, const std::string& one, const std::string& many) {
  return Number(n) + " " + (n == 1 ? one : many);
}

std::string TimeText(int64_t ns) {
  const int64_t us = ((ns % kDayNs + kDayNs) % kDayNs) / 1000;
  char out[32];
  std::snprintf(out, sizeof out, "%02d:%02d:%02d.%06d", static_cast<int>(us / 3'600'000'000),
                static_cast<int>(us / 60'000'000 % 60), static_cast<int>(us / 1'000'000 % 60),
                static_cast<int>(us % 1'000'000));
  return out;
}

std::string DateText(int64_t ns) {
  // Days to a civil date (proleptic Gregorian), counted in eras of 400 years from 0000-03-01.
  const int64_t days = (ns - ((ns % kDayNs + kDayNs) % kDayNs)) / kDayNs + 719'468;
  const int64_t era = (days >= 0 ? days : days - 146'096) / 146'097;
  const int64_t day_of_era = days - era * 146'097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted_month = (5 * day_of_year + 2) / 153;
  const int64_t day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  const int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  char out[32];
  std::snprintf(out, sizeof out, "%04d-%02d-%02d", static_cast<int>(year), static_cast<int>(month),
                static_cast<int>(day));
  return out;
}

}  // namespace keytrail::report
