#include <gtest/gtest.h>

#include <random>

#include "agent/schema/schema.h"
#include "common/key_codec.h"

namespace keytrail {
namespace {

std::string Text(std::string_view hex, bool single_line) {
  const std::string bytes = FromHex(hex).value();
  return RawText(AsBytes(bytes), single_line);
}

TEST(RawText, FieldsOfEveryWireType) {
  // 1: { 1: 7, 2: "k" }, 2: 300, 3: "ab", 4: fixed64, 5: fixed32
  const char* const hex =
      "0a0508071201"
      "6b"
      "10ac02"
      "1a026162"
      "210100000000000000"
      "2dffffffff";
  EXPECT_EQ(Text(hex, false),
            "tag=1 struct\n"
            "  tag=1 varint=7\n"
            "  tag=2 bytes=\"k\"\n"
            "tag=2 varint=300\n"
            "tag=3 bytes=\"ab\"\n"
            "tag=4 fixed64=0x0000000000000001\n"
            "tag=5 fixed32=0xffffffff");
  EXPECT_EQ(Text(hex, true),
            "tag=1 struct {tag=1 varint=7 tag=2 bytes=\"k\"} tag=2 varint=300 tag=3 bytes=\"ab\" "
            "tag=4 fixed64=0x0000000000000001 tag=5 fixed32=0xffffffff");
}

TEST(RawText, BytesAreEscaped) {
  EXPECT_EQ(Text("0a04"
                 "00ff225c",
                 true),
            "tag=1 bytes=\"\\x00\\xff\\\"\\\\\"");
  EXPECT_EQ(Text("0a00", true), "tag=1 bytes=\"\"");
}

TEST(RawText, DamageIsShownAndNotHidden) {
  EXPECT_EQ(Text("08070a05"
                 "6162",
                 true),
            "tag=1 varint=7 damaged=\"\\x0a\\x05ab\"");
  EXPECT_EQ(Text("00", true), "damaged=\"\\x00\"");
  EXPECT_EQ(Text("", true), "");
}

TEST(RawText, AnyBytes) {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> bytes(random() % 50);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random() % (i % 2 == 0 ? 256 : 32));
    const std::string text = RawText(bytes, true);
    EXPECT_EQ(text.empty(), bytes.empty());
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
  std::string deep;
  for (int i = 0; i < 100; ++i) deep = "\x0a" + std::string(1, static_cast<char>(deep.size())) + deep;
  EXPECT_FALSE(RawText(AsBytes(deep), false).empty());
}

}  // namespace
}  // namespace keytrail
