#include "common/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace keytrail {
namespace {

// RFC 3720, appendix B.4; the CRC bytes there are in transmission order, least significant first.
TEST(Crc32c, VectorsOfRfc3720) {
  EXPECT_EQ(Crc32c(AsBytes(std::string(32, '\0'))), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(AsBytes(std::string(32, '\xFF'))), 0x62A8AB43u);
  std::string up;
  std::string down;
  for (int i = 0; i < 32; ++i) {
    up += static_cast<char>(i);
    down += static_cast<char>(31 - i);
  }
  EXPECT_EQ(Crc32c(AsBytes(up)), 0x46DD794Eu);
  EXPECT_EQ(Crc32c(AsBytes(down)), 0x113FDB5Cu);
  static constexpr uint8_t kIscsiRead[48] = {0x01, 0xC0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
                                             0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
                                             0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0};
  EXPECT_EQ(Crc32c(kIscsiRead), 0xD9963A56u);
  EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xE3069283u);
  EXPECT_EQ(Crc32c({}), 0u);
}

// The definition, a bit at a time.
uint32_t Slow(std::string_view s) {
  uint32_t crc = 0xFFFFFFFF;
  for (char c : s) {
    crc ^= static_cast<uint8_t>(c);
    for (int i = 0; i < 8; ++i) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78 : crc >> 1;
  }
  return ~crc;
}

TEST(Crc32c, AgreesWithTheDefinitionAtAnyLengthAndSplit) {
  std::mt19937 random(1);
  for (size_t length = 0; length < 70; ++length) {
    std::string s(length, '\0');
    for (char& c : s) c = static_cast<char>(random());
    const uint32_t whole = Slow(s);
    for (size_t cut = 0; cut <= length; ++cut) {
      const Bytes b = AsBytes(s);
      ASSERT_EQ(Crc32c(b.subspan(cut), Crc32c(b.first(cut))), whole) << length << " cut at " << cut;
    }
  }
}

}  // namespace
}  // namespace keytrail
