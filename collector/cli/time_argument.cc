#include "collector/cli/time_argument.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace keytrail {

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kDayNs = 86'400 * kSecondNs;

// Days since 1970 of a civil date (proleptic Gregorian), counted in eras of 400 years from 0000-03-01.
int64_t DaysOf(int64_t year, int64_t month, int64_t day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146'097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719'468;
}

// "16:30", "16:30:10", "16:30:10.684"
std::optional<int64_t> TimeOfDay(const std::string& text) {
  unsigned hour = 0;
  unsigned minute = 0;
  unsigned second = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "%2u:%2u%n", &hour, &minute, &used) != 2 || hour > 23 || minute > 59)
    return {};
  int64_t ns = (int64_t{hour} * 60 + minute) * 60 * kSecondNs;
  std::string rest = text.substr(static_cast<size_t>(used));
  if (rest.empty()) return ns;
  if (std::sscanf(rest.c_str(), ":%2u%n", &second, &used) != 1 || second > 59) return {};
  ns += int64_t{second} * kSecondNs;
  rest.erase(0, static_cast<size_t>(used));
  if (rest.empty()) return ns;
  if (rest[0] != '.' || rest.size() < 2 || rest.size() > 10) return {};
  int64_t unit = kSecondNs / 10;
  for (size_t i = 1; i < rest.size(); ++i, unit /= 10) {
    if (rest[i] < '0' || rest[i] > '9') return {};
    ns += (rest[i] - '0') * unit;
  }
  return ns;
}

}  // namespace

std::optional<int64_t> ParseTimeArgument(const std::string& text, int64_t first_ns, int64_t last_ns) {
  int64_t ns = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), ns);
  // Seconds since 1970 would be small numbers: what is no plausible ns is refused.
  if (problem == std::errc() && end == text.data() + text.size()) {
    return ns > kDayNs * 365 ? std::optional(ns) : std::nullopt;
  }
  std::string rest = text;
  if (!rest.empty() && (rest.back() == 'Z' || rest.back() == 'z')) rest.pop_back();
  unsigned year = 0;
  unsigned month = 0;
  unsigned day = 0;
  int used = 0;
  if (std::sscanf(rest.c_str(), "%4u-%2u-%2u%n", &year, &month, &day, &used) == 3) {
    rest.erase(0, static_cast<size_t>(used));
    if (year < 1971 || year > 2200 || month < 1 || month > 12 || day < 1 || day > 31) return {};
    int64_t of_day = 0;
    if (!rest.empty()) {
      if (rest[0] != 'T' && rest[0] != 't' && rest[0] != ' ') return {};
      const std::optional<int64_t> time = TimeOfDay(rest.substr(1));
      if (!time) return {};
      of_day = *time;
    }
    return DaysOf(year, month, day) * kDayNs + of_day;
  }
  const std::optional<int64_t> of_day = TimeOfDay(rest);
  if (!of_day) return {};
  std::optional<int64_t> best;
  int64_t least = 0;
  for (int64_t days = first_ns / kDayNs - 1; days <= last_ns / kDayNs + 1; ++days) {
    const int64_t at = days * kDayNs + *of_day;
    const int64_t outside = at < first_ns ? first_ns - at : at > last_ns ? at - last_ns : 0;
    if (best && outside >= least) continue;
    best = at;
    least = outside;
  }
  return best;
}

std::optional<int64_t> ParseSpanArgument(const std::string& text) {
  double number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc()) return std::nullopt;
  const std::string unit(end, text.data() + text.size());
  const double scale = unit == "ns"                   ? 1
                       : unit == "us" || unit == "µs" ? 1e3
                       : unit == "ms"                 ? 1e6
                       : unit.empty() || unit == "s"  ? 1e9
                       : unit == "m"                  ? 60e9
                       : unit == "h"                  ? 3600e9
                                                      : 0;
  const double ns = number * scale;
  if (scale == 0 || !(ns >= 0) || ns > static_cast<double>(kDayNs)) return std::nullopt;
  return static_cast<int64_t>(ns);
}

}  // namespace keytrail
