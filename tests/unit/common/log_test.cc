// Lines and quoting, against the rules and samples of TiDB's unified log format (tikv/rfcs, text/0018).

#include "common/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <set>
#include <thread>

#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

// Nanoseconds since 1970 of a time in UTC.
int64_t At(int year, int month, int day, int hour, int minute, int second, int ms) {
  std::tm utc{};
  utc.tm_year = year - 1900;
  utc.tm_mon = month - 1;
  utc.tm_mday = day;
  utc.tm_hour = hour;
  utc.tm_min = minute;
  utc.tm_sec = second;
  return int64_t{timegm(&utc)} * 1'000'000'000 + int64_t{ms} * 1'000'000;
}

class LogLineTest : public ::testing::Test {
 protected:
  void In(const char* zone) {
    setenv("TZ", zone, 1);
    tzset();
  }
  void TearDown() override { In("UTC0"); }
};

TEST_F(LogLineTest, SamplesOfTheRfc) {
  In("CST-8");
  const int64_t time = At(2018, 12, 15, 6, 20, 11, 15);
  EXPECT_EQ(LogLine(time, LogLevel::kInfo, "src/bin/tikv-server.rs", 13, "TiKV Started", {}),
            "[2018/12/15 14:20:11.015 +08:00] [INFO] [tikv-server.rs:13] [\"TiKV Started\"]\n");
  EXPECT_EQ(
      LogLine(time, LogLevel::kWarn, "session.go", 1234, "Slow query",
              {{"sql", "SELECT * FROM TABLE\nWHERE ID=\"abc\""},
               {"duration", "1.345s"},
               {"client", "192.168.0.123:12345"},
               {"txn_id", "123000102231"}}),
      "[2018/12/15 14:20:11.015 +08:00] [WARN] [session.go:1234] [\"Slow query\"] "
      "[sql=\"SELECT * FROM TABLE\\nWHERE ID=\\\"abc\\\"\"] [duration=1.345s] [client=192.168.0.123:12345] "
      "[txn_id=123000102231]\n");
  In("MST7");
  EXPECT_EQ(
      LogLine(At(2013, 1, 5, 7, 1, 15, 0), LogLevel::kWarn, "", 0, "DDL_Finished",
              {{"ddl_job_id", "1"}, {"duration", "1.3s"}}),
      "[2013/01/05 00:01:15.000 -07:00] [WARN] [<unknown>] [DDL_Finished] [ddl_job_id=1] [duration=1.3s]\n");
}

TEST_F(LogLineTest, ZonesOfHalfAnHour) {
  In("NST3:30");
  EXPECT_EQ(LogLine(At(2026, 11, 29, 12, 0, 0, 7), LogLevel::kError, "a.cc", 1, "m", {}),
            "[2026/11/29 08:30:00.007 -03:30] [ERROR] [a.cc:1] [m]\n");
  In("IST-5:30");
  EXPECT_EQ(LogLine(At(2026, 11, 29, 20, 0, 0, 999), LogLevel::kDebug, "a b[1].cc", 1, "m", {}),
            "[2026/11/30 01:30:00.999 +05:30] [DEBUG] [ab1.cc:1] [m]\n");
}

TEST(LogText, FieldsOfTheRfc) {
  EXPECT_EQ(LogText("1"), "1");
  EXPECT_EQ(LogText("user name"), "\"user name\"");
  EXPECT_EQ(LogText("1.345s"), "1.345s");
  EXPECT_EQ(LogText("192.168.0.123:12345"), "192.168.0.123:12345");
  EXPECT_EQ(LogText("insert into t values (\"]This should not break log parsing!\")"),
            "\"insert into t values (\\\"]This should not break log parsing!\\\")\"");
}

TEST(LogText, EachCharacterThatTheRfcNames) {
  for (int c = 1; c <= 0x7E; ++c) {
    const std::string text{'a', static_cast<char>(c)};
    const bool named = c <= 0x20 || c == '"' || c == '=' || c == '[' || c == ']';
    EXPECT_EQ(LogText(text) != text, named) << c;
  }
  EXPECT_EQ(LogText(std::string("a\0b", 3)), "\"a\\u0000b\"");
  EXPECT_EQ(LogText("\n\r\t\x01\x1f"), "\"\\n\\r\\t\\u0001\\u001f\"");
  EXPECT_EQ(LogText("a\\b"), "a\\b");
  EXPECT_EQ(LogText("a \\b"), "\"a \\\\b\"");
  EXPECT_EQ(LogText(""), "\"\"");
}

TEST(LogText, OtherThanAscii) {
  EXPECT_EQ(LogText("主机"), "主机");
  EXPECT_EQ(LogText("主 机"), "\"主 机\"");
  EXPECT_EQ(LogText("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
  // What a terminal obeys: DEL, a C1 control, a mark that turns the direction.
  EXPECT_EQ(LogText("a\x7f"), "\"a\\u007f\"");
  EXPECT_EQ(LogText("a\xC2\x9B"), "\"a\\u009b\"");
  EXPECT_EQ(LogText("a\xE2\x80\xAE"), "\"a\\u202e\"");
  // No UTF-8: a stray byte, a cut character, an overlong one, a surrogate, beyond U+10FFFF.
  const std::string gone = "\xEF\xBF\xBD";
  EXPECT_EQ(LogText("a\x80 z"), "\"a" + gone + " z\"");
  EXPECT_EQ(LogText("a\xE4\xB8"), "\"a" + gone + gone + "\"");
  EXPECT_EQ(LogText("\xC0\x80"), "\"" + gone + gone + "\"");
  EXPECT_EQ(LogText("\xE0\x80\x80"), "\"" + gone + gone + gone + "\"");
  EXPECT_EQ(LogText("\xED\xA0\x80"), "\"" + gone + gone + gone + "\"");
  EXPECT_EQ(LogText("\xF4\x90\x80\x80"), "\"" + gone + gone + gone + gone + "\"");
}

TEST(Log, LevelsAndThreads) {
  EXPECT_EQ(ParseLogLevel("warn"), LogLevel::kWarn);
  EXPECT_EQ(ParseLogLevel("WARN"), std::nullopt);
  EXPECT_EQ(ParseLogLevel("fatal"), std::nullopt);

  const ScratchDir dir;
  const std::string path = dir / "log";
  const int saved = dup(STDERR_FILENO);
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ASSERT_GE(file, 0);
  dup2(file, STDERR_FILENO);
  close(file);
  SetLogLevel(LogLevel::kWarn);
  Log(LogLevel::kInfo, "left out");
  constexpr int kThreads = 4;
  constexpr int kLines = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kLines; ++i) Log(LogLevel::kError, std::to_string(t) + "/" + std::to_string(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  SetLogLevel(LogLevel::kInfo);
  dup2(saved, STDERR_FILENO);
  close(saved);

  std::ifstream in(path);
  std::set<std::string> messages;
  for (std::string line; std::getline(in, line);) {
    EXPECT_EQ(line.find("] [ERROR] [log_test.cc:"), 31u) << line;
    const std::string message = line.substr(line.rfind('['));
    EXPECT_TRUE(messages.insert(message).second) << line;
  }
  EXPECT_EQ(messages.size(), size_t{kThreads} * kLines);
}

}  // namespace
}  // namespace keytrail
