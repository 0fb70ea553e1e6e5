// Log lines of the daemons, on standard error, in TiDB's unified log format (tikv/rfcs, text/0018), so that
// what collects and reads the logs of TiDB, PD and TiKV reads these, too:
//
//   [2026/11/29 12:00:00.123 +00:00] [WARN] [door.cc:123] ["refused 127.0.0.1: no hello"] [count=3]
//
// Any thread; a line is one write(2). Nothing is thrown; a line that cannot be written is lost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keytrail {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };

// "debug", "info", "warn", "error".
std::optional<LogLevel> ParseLogLevel(std::string_view name);

struct LogField {
  std::string key;
  std::string value;
};

// Where a line is said: std::source_location, which clang 14 (for fuzzing) does not have.
struct LogPlace {
  const char* file = "";
  unsigned line = 0;
  static constexpr LogPlace Here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

// What is below it is left out from now on. At first: kInfo.
void SetLogLevel(LogLevel level);

void Log(LogLevel level, std::string_view message, const std::vector<LogField>& fields = {},
         LogPlace where = LogPlace::Here());

// A message, key or value as it stands in a line: itself, or a JSON string if it has to be one. What is not
// UTF-8 becomes U+FFFD, and what a terminal would obey (common/plain_text.h) is escaped.
std::string LogText(std::string_view text);

// The whole line with its end, the time in the local zone. file: a path, of which the name is shown.
std::string LogLine(int64_t time_ns, LogLevel level, std::string_view file, unsigned line,
                    std::string_view message, const std::vector<LogField>& fields);

}  // namespace keytrail
