#include "common/port_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;

TEST(PortRanges, AsWritten) {
  const auto ranges = ParsePortRanges("2379,20160-20170,65535");
  ASSERT_TRUE(ranges.ok()) << ranges.error();
  EXPECT_THAT(*ranges, ElementsAre(PortRange{2379, 2379}, PortRange{20160, 20170}, PortRange{65535, 65535}));
}

TEST(PortRanges, WhatIsNone) {
  for (const char* text :
       {"", ",", "1,", "0", "65536", "1-", "-1", "2-1", "1-2-3", "http", " 1", "+1", "1 "}) {
    EXPECT_FALSE(ParsePortRanges(text).ok()) << text;
  }
}

TEST(PortRanges, Bounds) {
  std::string text = "1";
  for (size_t i = 1; i < limits::kMaxPortRanges; ++i) text += ",1";
  EXPECT_TRUE(ParsePortRanges(text).ok());
  EXPECT_FALSE(ParsePortRanges(text + ",1").ok());
}

}  // namespace
}  // namespace keytrail
