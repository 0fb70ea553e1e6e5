#include "collector/cli/keep_options.h"

#include <charconv>
#include <optional>
#include <string>

namespace keytrail {

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
// Windows of less than some seconds would be made and dropped all the time; a file of an empty window has
// some hundred kilobytes.
constexpr int64_t kLeastAgeNs = 10 * kSecondNs;
constexpr int64_t kMostAgeNs = 10ll * 365 * 86400 * kSecondNs;
constexpr uint64_t kLeastBytes = 4u << 20;

// A number and what stands behind it.
std::optional<double> Split(const std::string& text, std::string& unit) {
  double number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || !(number > 0)) return std::nullopt;
  unit.assign(end, text.data() + text.size());
  return number;
}

std::string ReadAge(const std::string& text, int64_t& age_ns) {
  std::string unit;
  const std::optional<double> number = Split(text, unit);
  const double scale = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
  const double ns = number.value_or(0) * scale * static_cast<double>(kSecondNs);
  if (ns < static_cast<double>(kLeastAgeNs) || ns > static_cast<double>(kMostAgeNs)) {
    return "'" + text + "' is no age of at least 10s; 90m, 24h and 7d are";
  }
  age_ns = static_cast<int64_t>(ns);
  return "";
}

std::string ReadBytes(const std::string& text, uint64_t& bytes) {
  std::string unit;
  const std::optional<double> number = Split(text, unit);
  const double scale = unit.empty() || unit == "B" ? 1
                       : unit == "K"               ? 1024.0
                       : unit == "M"               ? 1024.0 * 1024
                       : unit == "G"               ? 1024.0 * 1024 * 1024
                       : unit == "T"               ? 1024.0 * 1024 * 1024 * 1024
                                                   : 0;
  const double size = number.value_or(0) * scale;
  if (size < static_cast<double>(kLeastBytes) || size > 1e18) {
    return "'" + text + "' is no size of at least 4M; 500M, 20G and 2T are";
  }
  bytes = static_cast<uint64_t>(size);
  return "";
}

}  // namespace

void AddKeepOptions(CLI::App& app, FolderOptions& options) {
  app.add_option_function<std::string>(
         "--keep-age",
         [&options](const std::string& text) {
           const std::string wrong = ReadAge(text, options.keep_age_ns);
           if (!wrong.empty()) throw CLI::ValidationError("--keep-age", wrong);
         },
         "Keep calls for this long (s, m, h, d), then drop them by the file")
      ->type_name("AGE")
      ->default_str("24h");
  app.add_option_function<std::string>(
         "--keep-bytes",
         [&options](const std::string& text) {
           const std::string wrong = ReadBytes(text, options.keep_bytes);
           if (!wrong.empty()) throw CLI::ValidationError("--keep-bytes", wrong);
         },
         "Keep at most so much (K, M, G, T); the oldest calls are dropped by the file")
      ->type_name("SIZE")
      ->default_str("20G");
  app.add_flag("--check", options.check,
               "Read every page of every file at the start, and set damaged files aside");
}

}  // namespace keytrail
