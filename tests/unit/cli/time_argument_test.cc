#include "collector/cli/time_argument.h"

#include <gtest/gtest.h>

namespace keytrail {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// date -u -d '2026-11-23 16:30:10' +%s
constexpr int64_t kSeen = 1'795'451'410 * kSecond;
constexpr int64_t kMidnight = kSeen - ((16 * 60 + 30) * 60 + 10) * kSecond;

std::optional<int64_t> Parse(const std::string& text) {
  return ParseTimeArgument(text, kSeen, kSeen + 3600 * kSecond);
}

TEST(TimeArgument, Times) {
  EXPECT_EQ(Parse("2026-11-23T16:30:10"), kSeen);
  EXPECT_EQ(Parse("2026-11-23 16:30:10.684"), kSeen + 684'000'000);
  EXPECT_EQ(Parse("2026-11-23T16:30:10.684628123Z"), kSeen + 684'628'123);
  EXPECT_EQ(Parse("2026-11-23"), kMidnight);
  EXPECT_EQ(Parse("16:30:10"), kSeen);
  EXPECT_EQ(Parse("16:30"), kSeen - 10 * kSecond);
  EXPECT_EQ(Parse("1795451410684628000"), kSeen + 684'628'000);
  EXPECT_EQ(Parse("2024-02-29"), 1'709'164'800 * kSecond);
}

TEST(TimeArgument, ATimeOfDayIsOnTheDayOfTheCalls) {
  // From 23:50 to 00:10: both sides of midnight are meant as they were.
  const int64_t first = kMidnight + (23 * 60 + 50) * 60 * kSecond;
  const int64_t last = first + 20 * 60 * kSecond;
  EXPECT_EQ(ParseTimeArgument("23:55", first, last), first + 300 * kSecond);
  EXPECT_EQ(ParseTimeArgument("00:05", first, last), first + 900 * kSecond);
}

TEST(TimeArgument, NoTimes) {
  for (const char* text :
       {"", "now", "12", "1795451410", "25:00", "16:60", "16:30:61", "16:30:10.", "16:30:10.12x", "16:30x",
        "2026-13-01", "2026-11-23X10:00", "2026-11-23T", "16:30:10.1234567890", "-5"}) {
    EXPECT_EQ(Parse(text), std::nullopt) << text;
  }
}

TEST(TimeArgument, Spans) {
  EXPECT_EQ(ParseSpanArgument("50ms"), 50'000'000);
  EXPECT_EQ(ParseSpanArgument("2"), 2 * kSecond);
  EXPECT_EQ(ParseSpanArgument("1.5m"), 90 * kSecond);
  EXPECT_EQ(ParseSpanArgument("100us"), 100'000);
  EXPECT_EQ(ParseSpanArgument("0"), 0);
  for (const char* text : {"", "ms", "-1s", "5 s", "5x", "2000h", "nan", "inf"}) {
    EXPECT_EQ(ParseSpanArgument(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace keytrail
