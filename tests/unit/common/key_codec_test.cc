#include "common/key_codec.h"

#include <gtest/gtest.h>

#include <random>

namespace keytrail {
namespace {

std::string Raw(std::string_view hex) {
  const std::optional<std::string> bytes = FromHex(hex);
  EXPECT_TRUE(bytes.has_value()) << hex;
  return bytes.value_or("");
}

std::string TextOfRaw(std::string_view hex) {
  return RawKeyText(AsBytes(Raw(hex)));
}
std::string TextOfEncoded(std::string_view hex) {
  return EncodedKeyText(AsBytes(Raw(hex)));
}

int Sign(int x) {
  return (x > 0) - (x < 0);
}

std::string RandomBytes(std::mt19937& random, size_t longest) {
  // Few different bytes, so that common prefixes and padding look-alikes are frequent.
  static constexpr char kBytes[] = {0, 0, 1, 'a', '\xF7', '\xFE', '\xFF'};
  std::string s(random() % (longest + 1), '\0');
  for (char& c : s) c = kBytes[random() % sizeof kBytes];
  return s;
}

TEST(KeyCodec, EncodesTheVectorsOfTheFormat) {
  EXPECT_EQ(HexUpper(AsBytes(EncodeKey({}))), "0000000000000000F7");
  EXPECT_EQ(HexUpper(AsBytes(EncodeKey(AsBytes(Raw("0102"))))), "0102000000000000F9");
  EXPECT_EQ(HexUpper(AsBytes(EncodeKey(AsBytes(Raw("010203"))))), "0102030000000000FA");
  EXPECT_EQ(HexUpper(AsBytes(EncodeKey(AsBytes(Raw("0102030405060708"))))),
            "0102030405060708FF0000000000000000F7");
}

// MyRocks' and TiDB's vectors, from the documentation of codec.EncodeBytes.
TEST(KeyCodec, EncodesGroupsAndPadding) {
  EXPECT_EQ(HexUpper(AsBytes(EncodeKey(AsBytes(Raw("010203"))))), "0102030000000000FA");
  EXPECT_EQ(HexUpper(AsBytes(EncodeKey(AsBytes(Raw("01020300"))))), "0102030000000000FB");
  EXPECT_EQ(HexUpper(AsBytes(EncodeKey(AsBytes(Raw("01020304050607"))))), "0102030405060700FE");
}

TEST(KeyCodec, DecodesWhatItEncodes) {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    const std::string raw = RandomBytes(random, 40);
    const std::string encoded = EncodeKey(AsBytes(raw));
    EXPECT_EQ(encoded.size(), (raw.size() / 8 + 1) * 9);
    ASSERT_EQ(DecodeKey(AsBytes(encoded)), raw);
  }
}

TEST(KeyCodec, KeepsTheOrder) {
  std::mt19937 random(2);
  for (int i = 0; i < 50000; ++i) {
    const std::string a = RandomBytes(random, 20);
    const std::string b = i % 3 == 0 ? a + RandomBytes(random, 9) : RandomBytes(random, 20);
    ASSERT_EQ(Sign(CompareBytes(AsBytes(a), AsBytes(b))),
              Sign(CompareBytes(AsBytes(EncodeKey(AsBytes(a))), AsBytes(EncodeKey(AsBytes(b))))))
        << HexUpper(AsBytes(a)) << " " << HexUpper(AsBytes(b));
  }
}

TEST(KeyCodec, RefusesWhatIsNoEncoding) {
  for (const char* hex :
       {"", "00", "01020300000000FA", "0102030000000001FA", "0102030000000000F6", "0102030405060708FF",
        "0102030000000000FA00", "0102030405060708FF00000000000000F7"}) {
    EXPECT_EQ(DecodeKey(AsBytes(Raw(hex))), std::nullopt) << hex;
  }
}

TEST(KeyCodec, EveryDecodedKeyEncodesBackToTheSame) {
  std::mt19937 random(3);
  int decoded = 0;
  for (int i = 0; i < 200000; ++i) {
    std::string bytes = RandomBytes(random, 8);
    bytes.resize(8, '\0');
    bytes += static_cast<char>(0xF7 + random() % 9);
    if (const auto raw = DecodeKey(AsBytes(bytes))) {
      ++decoded;
      ASSERT_EQ(EncodeKey(AsBytes(*raw)), bytes);
    }
  }
  EXPECT_GT(decoded, 1000);
}

TEST(KeyCodec, TakesTheMvccTimestampOff) {
  const std::string key = EncodeKey(AsBytes(Raw("7480000000000000355F728000000000001F4C")));
  const uint64_t ts = 0x0123456789ABCDEF;
  std::string with_ts = key;
  for (int i = 7; i >= 0; --i) with_ts += static_cast<char>(~ts >> (8 * i));
  std::optional<uint64_t> found;
  EXPECT_EQ(DecodeKey(AsBytes(with_ts)), std::nullopt);
  ASSERT_TRUE(DecodeKey(AsBytes(with_ts), &found).has_value());
  EXPECT_EQ(found, ts);
  ASSERT_TRUE(DecodeKey(AsBytes(key), &found).has_value());
  EXPECT_EQ(found, std::nullopt);
  EXPECT_EQ(ToString(WithoutMvccSuffix(AsBytes(with_ts))), key);
  EXPECT_EQ(ToString(WithoutMvccSuffix(AsBytes(key))), key);
  EXPECT_EQ(ToString(WithoutMvccSuffix(AsBytes("abc"))), "abc");
}

TEST(KeyCodec, RangesAreHalfOpenAndEmptyEndsAreInfinite) {
  const auto in = [](std::string_view k, std::string_view s, std::string_view e) {
    return InRange(AsBytes(k), AsBytes(s), AsBytes(e));
  };
  EXPECT_TRUE(in("b", "b", "c"));
  EXPECT_FALSE(in("c", "b", "c"));
  EXPECT_FALSE(in("a", "b", ""));
  EXPECT_TRUE(in("zzz", "b", ""));
  EXPECT_TRUE(in("", "", ""));
  EXPECT_TRUE(in("\xFF\xFF", "", ""));
  EXPECT_FALSE(in("b", "b", "b"));
}

TEST(KeyText, TableKeys) {
  EXPECT_EQ(TextOfRaw("7480000000000000355f72800000000000314c"), "t53_r12620");
  EXPECT_EQ(TextOfRaw("7480000000000000355f69800000000000000103800000000000032b0380000000000050bd"),
            "t53_i1_811_20669");
  EXPECT_EQ(TextOfRaw("7480000000000000355f698000000000000001038000000000000386"), "t53_i1_902");
  EXPECT_EQ(TextOfRaw("748000000000000035"), "t53");
  EXPECT_EQ(TextOfRaw("74"), "t");
  EXPECT_EQ(TextOfRaw("7480000000000000355f72"), "t53_r");
  EXPECT_EQ(TextOfRaw("7480000000000000355f69"), "t53_i");
  EXPECT_EQ(TextOfRaw("7480000000000000355f698000000000000002"), "t53_i2");
  EXPECT_EQ(TextOfRaw("7480000000000000355f727ffffffffffffffb"), "t53_r-5");
}

TEST(KeyText, WhatFollowsAKnownPartIsShownAsHex) {
  EXPECT_EQ(TextOfRaw("7480000000000000355f72800000000000314c00"), "t53_r12620+00");
  EXPECT_EQ(TextOfRaw("7480000000000000355f7280"), "t53_r+80");
  EXPECT_EQ(TextOfRaw("7480000000000000355f698000000000000001038000000000000386"
                      "00"),
            "t53_i1_902_NULL");
  EXPECT_EQ(TextOfRaw("7480000000000000355f698000000000000001038000000000000386"
                      "06fa"),
            "t53_i1_902+06FA");
  EXPECT_EQ(TextOfRaw("7480000000000000355f69800000000000000106fa"), "t53_i1+06FA");
  EXPECT_EQ(TextOfRaw("7480000000000000355f6b"), "t53+5F6B");
}

TEST(KeyText, Datums) {
  const std::string index = "7480000000000000355f698000000000000001";
  EXPECT_EQ(TextOfRaw(index + "01" + HexUpper(AsBytes(EncodeKey(AsBytes("ab"))))), "t53_i1_ab");
  // Text that would read as a number or as two parts is quoted.
  EXPECT_EQ(TextOfRaw(index + "01" + HexUpper(AsBytes(EncodeKey(AsBytes("902"))))), "t53_i1_\"902\"");
  EXPECT_EQ(TextOfRaw(index + "01" + HexUpper(AsBytes(EncodeKey(AsBytes("a_b"))))), "t53_i1_\"a_b\"");
  EXPECT_EQ(TextOfRaw(index + "01" + HexUpper(AsBytes(EncodeKey({})))), "t53_i1_\"\"");
  EXPECT_EQ(TextOfRaw(index + "01" + HexUpper(AsBytes(EncodeKey(AsBytes("\x01\xFE"))))), "t53_i1_0x01FE");
  EXPECT_EQ(TextOfRaw(index + "0400000000000000ff"), "t53_i1_255");
  EXPECT_EQ(TextOfRaw(index + "05bff8000000000000"), "t53_i1_1.5");
  EXPECT_EQ(TextOfRaw(index + "054007ffffffffffff"), "t53_i1_-1.5");
  EXPECT_EQ(TextOfRaw(index + "fa"), "t53_i1_MAX");
  EXPECT_EQ(TextOfRaw("7480000000000000355f72"
                      "038000000000000007"
                      "01" +
                      HexUpper(AsBytes(EncodeKey(AsBytes("ab"))))),
            "t53_r{7_ab}");
}

TEST(KeyText, MetaKeys) {
  const auto enc = [](std::string_view s) { return EncodeKey(AsBytes(s)); };
  const std::string hash = std::string(7, '\0') + 'h';
  const std::string string_type = std::string(7, '\0') + 's';
  EXPECT_EQ(RawKeyText(AsBytes("m" + enc("DB:1") + hash + enc("Table:5"))), "m_DB:1_Table:5");
  EXPECT_EQ(RawKeyText(AsBytes("m" + enc("NextGlobalID") + string_type)), "m_NextGlobalID");
  EXPECT_EQ(RawKeyText(AsBytes("m" + enc("DBs"))), "m_DBs");
  EXPECT_EQ(RawKeyText(AsBytes("m" + enc("DBs") + "\x01")), "m_DBs+01");
  EXPECT_EQ(RawKeyText(AsBytes("m")), "m");
  EXPECT_EQ(TextOfRaw("6d0001"), "6D0001");
}

TEST(KeyText, KeyspacesOfApiV2) {
  EXPECT_EQ(TextOfRaw("78000007"
                      "7480000000000000355f72800000000000314c"),
            "ks=7:t53_r12620");
  EXPECT_EQ(TextOfRaw("72000102"
                      "6162"),
            "ks=258:\"ab\"");
  EXPECT_EQ(TextOfRaw("78000007"), "ks=7:");
  EXPECT_EQ(TextOfRaw("7800000780"), "7800000780");
}

TEST(KeyText, OtherKeys) {
  EXPECT_EQ(TextOfRaw("746b765f303032303730"), "\"tkv_002070\"");
  EXPECT_EQ(RawKeyText(AsBytes("table_xyz")), "\"table_xyz\"");
  EXPECT_EQ(RawKeyText(AsBytes("a\"b\\c")), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(TextOfRaw("00ff"), "00FF");
  EXPECT_EQ(TextOfRaw("747fffffffffffffff"), "747FFFFFFFFFFFFFFF");  // a negative table id: none of TiDB's
  EXPECT_EQ(RawKeyText({}), "-inf");
  EXPECT_EQ(RawKeyText({}, Bound::kEnd), "+inf");
  EXPECT_EQ(EncodedKeyText({}), "-inf");
  EXPECT_EQ(EncodedKeyText({}, Bound::kEnd), "+inf");
}

TEST(KeyText, EncodedKeys) {
  EXPECT_EQ(TextOfEncoded("7480000000000000FF3B5F728000000000FF1DE3F10000000000FA"), "t59_r1958897");
  EXPECT_EQ(TextOfEncoded("748000FFFFFFFFFFFFF900000000000000F8"), "t281474976710649");
  EXPECT_EQ(TextOfEncoded("7400000000000000F8"), "t");
  EXPECT_EQ(TextOfEncoded("0000000000000000F7"), "\"\"");
  EXPECT_EQ(TextOfEncoded("746b765f303032303730"), "\"tkv_002070\"");  // RawKV V1: not encoded
  EXPECT_EQ(TextOfEncoded("7480000000000000"), "7480000000000000");
}

TEST(KeyText, NeverReadsBeyondTheKey) {
  std::mt19937 random(4);
  const std::string seeds[] = {
      Raw("7480000000000000355f69800000000000000103800000000000032b0380000000000050bd"),
      "m" + EncodeKey(AsBytes("DB:1")) + std::string(7, '\0') + "h" + EncodeKey(AsBytes("Table:5")),
      Raw("780000077480000000000000355f72800000000000314c")};
  for (const std::string& seed : seeds) {
    for (size_t n = 0; n <= seed.size(); ++n) {
      // Exactly sized on the heap, for AddressSanitizer.
      const std::vector<uint8_t> cut(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(n));
      EXPECT_FALSE(RawKeyText(cut).empty());
      EXPECT_FALSE(EncodedKeyText(cut).empty());
      for (int i = 0; i < 50 && n != 0; ++i) {
        std::vector<uint8_t> changed = cut;
        changed[random() % n] = static_cast<uint8_t>(random());
        EXPECT_FALSE(RawKeyText(changed).empty());
      }
    }
  }
}

TEST(Hex, BothCasesAndBack) {
  EXPECT_EQ(HexUpper(AsBytes(Raw("00aBfF"))), "00ABFF");
  EXPECT_EQ(HexLower(AsBytes(Raw("00AbFf"))), "00abff");
  EXPECT_EQ(FromHex("0"), std::nullopt);
  EXPECT_EQ(FromHex("0g"), std::nullopt);
  EXPECT_EQ(FromHex(""), "");
}

}  // namespace
}  // namespace keytrail
