#include "common/log.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iterator>

#include "common/plain_text.h"

namespace keytrail {

namespace {

std::atomic<LogLevel> least = LogLevel::kInfo;

constexpr std::string_view kNames[] = {"debug", "info", "warn", "error"};
constexpr std::string_view kShown[] = {"DEBUG", "INFO", "WARN", "ERROR"};

// Those of the RFC, and besides what is not fit for a terminal. An empty text would be hard to see.
bool WantsQuotes(std::string_view text) {
  for (const char c : text) {
    if (static_cast<uint8_t>(c) <= 0x20 || c == '"' || c == '=' || c == '[' || c == ']') return true;
  }
  return text.empty() || !IsPlainText(text);
}

void AppendEscape(uint32_t point, std::string& out) {
  char text[16];
  std::snprintf(text, sizeof text, "\\u%04x", point);
  out += text;
}

// The bytes of the character that begins the text, as they are, escaped or replaced. Gives how many were
// read.
size_t AppendCharacter(std::string_view text, std::string& out) {
  const uint8_t c = static_cast<uint8_t>(text[0]);
  if (c < 0x80) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7F) {
      AppendEscape(c, out);
    } else {
      out += static_cast<char>(c);
    }
    return 1;
  }
  const size_t more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
  const std::string_view whole = text.substr(0, more + 1);
  if (IsPlainText(whole)) {
    out += whole;
    return whole.size();
  }
  // All that is obeyed lies below U+10000.
  uint32_t point = c & (0x3Fu >> more);
  bool valid = c >= 0xC2 && more < 3 && whole.size() == more + 1;
  for (const char next : whole.substr(1)) {
    valid = valid && (static_cast<uint8_t>(next) & 0xC0) == 0x80;
    point = point << 6 | (static_cast<uint8_t>(next) & 0x3F);
  }
  if (valid && point >= (more == 1 ? 0x80u : 0x800u) && (point < 0xD800 || point > 0xDFFF)) {
    AppendEscape(point, out);
    return whole.size();
  }
  out += "\xEF\xBF\xBD";
  return 1;
}

std::string SourceName(std::string_view path) {
  std::string name;
  for (const char c : path.substr(path.rfind('/') + 1)) {
    const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '-' || c == '_';
    if (fits) name += c;
  }
  return name;
}

}  // namespace

std::optional<LogLevel> ParseLogLevel(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

void SetLogLevel(LogLevel level) {
  least.store(level, std::memory_order_relaxed);
}

std::string LogText(std::string_view text) {
  if (!WantsQuotes(text)) return std::string(text);
  std::string out = "\"";
  while (!text.empty()) text.remove_prefix(AppendCharacter(text, out));
  out += '"';
  return out;
}

std::string LogLine(int64_t time_ns, LogLevel level, std::string_view file, unsigned line,
                    std::string_view message, const std::vector<LogField>& fields) {
  const int64_t ms = time_ns / 1'000'000;
  const std::time_t seconds = ms / 1000;
  std::tm local{};
  localtime_r(&seconds, &local);
  const long zone = local.tm_gmtoff / 60;
  char text[80];
  std::snprintf(text, sizeof text, "[%04d/%02d/%02d %02d:%02d:%02d.%03d %c%02ld:%02ld] [",
                local.tm_year + 1900, local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min,
                local.tm_sec, static_cast<int>(ms % 1000), zone < 0 ? '-' : '+', std::labs(zone) / 60,
                std::labs(zone) % 60);
  std::string out = text;
  out += kShown[static_cast<size_t>(level)];
  const std::string name = SourceName(file);
  out += name.empty() || line == 0 ? "] [<unknown>] [" : "] [" + name + ":" + std::to_string(line) + "] [";
  out += LogText(message) + "]";
  for (const LogField& field : fields) out += " [" + LogText(field.key) + "=" + LogText(field.value) + "]";
  out += '\n';
  return out;
}

void Log(LogLevel level, std::string_view message, const std::vector<LogField>& fields, LogPlace where) {
  if (level < least.load(std::memory_order_relaxed)) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string line = LogLine(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count(), level,
                                   where.file, where.line, message, fields);
  std::string_view rest = line;
  // More than one write only if a signal or a full pipe cut the first.
  while (!rest.empty()) {
    const ssize_t n = write(STDERR_FILENO, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    rest.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace keytrail
