#include "agent/schema/wire_cursor.h"

#include <google/protobuf/io/coded_stream.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace keytrail::wire {
namespace {

// protobuf's own reader, over exactly these bytes.
const uint8_t* Expected(const std::vector<uint8_t>& bytes, uint64_t& value) {
  google::protobuf::io::CodedInputStream input(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::uint64 v = 0;
  if (!input.ReadVarint64(&v)) return nullptr;
  value = v;
  return bytes.data() + input.CurrentPosition();
}

void ExpectAsProtobuf(const std::vector<uint8_t>& bytes) {
  uint64_t want = 0;
  uint64_t have = 0;
  const uint8_t* const want_p = Expected(bytes, want);
  const uint8_t* const have_p = ReadVarint(bytes.data(), bytes.data() + bytes.size(), have);
  ASSERT_EQ(have_p, want_p);
  if (want_p) {
    ASSERT_EQ(have, want);
  }
  ASSERT_EQ(SkipValue(bytes.data(), bytes.data() + bytes.size(), 1 << 3 | kVarint, 0), want_p);
}

TEST(WireCursor, VarintsOfEveryLengthWithEveryNumberOfBytesBehind) {
  std::mt19937_64 random(1);
  for (int length = 1; length <= 12; ++length) {
    for (int behind = 0; behind <= 12; ++behind) {
      for (int round = 0; round < 200; ++round) {
        std::vector<uint8_t> bytes;
        for (int i = 0; i < length - 1; ++i) bytes.push_back(static_cast<uint8_t>(random() | 0x80));
        bytes.push_back(static_cast<uint8_t>(random() & 0x7F));
        for (int i = 0; i < behind; ++i) bytes.push_back(static_cast<uint8_t>(random()));
        ASSERT_NO_FATAL_FAILURE(ExpectAsProtobuf(bytes)) << length << " " << behind;
      }
    }
  }
}

TEST(WireCursor, VarintsThatAreCut) {
  for (size_t length = 0; length <= 12; ++length) {
    ASSERT_NO_FATAL_FAILURE(ExpectAsProtobuf(std::vector<uint8_t>(length, 0xFF))) << length;
    ASSERT_NO_FATAL_FAILURE(ExpectAsProtobuf(std::vector<uint8_t>(length, 0x80))) << length;
  }
}

TEST(WireCursor, TagsOfEveryLength) {
  const auto read = [](std::vector<uint8_t> bytes, uint32_t& tag) {
    const uint8_t* p = ReadTag(bytes.data(), bytes.data() + bytes.size(), tag);
    return p ? static_cast<int>(p - bytes.data()) : -1;
  };
  uint32_t tag = 0;
  EXPECT_EQ(read({0x0A}, tag), 1);
  EXPECT_EQ(tag, 10u);
  EXPECT_EQ(read({0x8A, 0x01}, tag), 2);
  EXPECT_EQ(tag, 138u);
  EXPECT_EQ(read({0x8A, 0x80, 0x00}, tag), 3);  // overlong, and allowed
  EXPECT_EQ(tag, 10u);
  EXPECT_EQ(read({0xFF, 0xFF, 0xFF, 0xFF, 0x0F}, tag), 5);
  EXPECT_EQ(tag, 0xFFFFFFFFu);
  EXPECT_EQ(read({0xFF, 0xFF, 0xFF, 0xFF, 0x8F, 0x00}, tag), -1);
  EXPECT_EQ(read({0x8A}, tag), -1);
}

TEST(WireCursor, LengthsEndWithinTheirMessage) {
  const auto read = [](std::vector<uint8_t> bytes, size_t behind) {
    bytes.resize(bytes.size() + behind, 0);
    uint32_t length = 0;
    const uint8_t* p = ReadLength(bytes.data(), bytes.data() + bytes.size(), length);
    return p ? static_cast<int64_t>(length) : -1;
  };
  EXPECT_EQ(read({0x00}, 0), 0);
  EXPECT_EQ(read({0x05}, 5), 5);
  EXPECT_EQ(read({0x05}, 4), -1);
  EXPECT_EQ(read({0x80, 0x01}, 128), 128);
  EXPECT_EQ(read({0x80, 0x01}, 127), -1);
  EXPECT_EQ(read({0xFF, 0xFF, 0xFF, 0xFF, 0x07}, 10), -1);
  EXPECT_EQ(read({0xFF, 0xFF, 0xFF, 0xFF, 0x0F}, 10), -1);
  EXPECT_EQ(read({}, 0), -1);
}

}  // namespace
}  // namespace keytrail::wire
