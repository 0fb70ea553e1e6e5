#include "common/plain_text.h"

#include <gtest/gtest.h>

namespace keytrail {
namespace {

// Well-formed sequences are those of RFC 3629, section 4, made from the code point here.
std::string Utf8(uint32_t c) {
  std::string s;
  if (c < 0x80) {
    s += static_cast<char>(c);
  } else if (c < 0x800) {
    s += static_cast<char>(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    s += static_cast<char>(0xE0 | c >> 12);
    s += static_cast<char>(0x80 | (c >> 6 & 0x3F));
  } else {
    s += static_cast<char>(0xF0 | c >> 18);
    s += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    s += static_cast<char>(0x80 | (c >> 6 & 0x3F));
  }
  if (c >= 0x80) s += static_cast<char>(0x80 | (c & 0x3F));
  return s;
}

TEST(PlainText, EveryCodePoint) {
  for (uint32_t c = 0; c < 0x11FFFF; ++c) {
    const bool obeyed = (c >= 0x7F && c < 0xA0) || c == 0x61C || c == 0x200E || c == 0x200F ||
                        (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
    const bool good = c >= 0x20 && !obeyed && !(c >= 0xD800 && c < 0xE000) && c < 0x110000;
    ASSERT_EQ(IsPlainText("a" + Utf8(c) + "b"), good) << c;
  }
}

TEST(PlainText, BrokenSequences) {
  for (const std::string& s :
       {std::string("\x80"), std::string("\xC0\xAF"), std::string("\xC1\x81"), std::string("\xE0\x80\xAF"),
        std::string("\xF0\x80\x80\xAF"), std::string("\xC3"), std::string("\xE2\x82"),
        std::string("\xF0\x9F\x98"), std::string("\xFF"), std::string("\xC3\x28"), std::string("a\0b", 3),
        std::string("\xF5\x80\x80\x80")}) {
    EXPECT_FALSE(IsPlainText(s));
    const std::string made = PlainText("x" + s);
    EXPECT_TRUE(IsPlainText(made));
    EXPECT_EQ(made.size(), s.size() + 1);
    EXPECT_EQ(made[0], 'x');
  }
  EXPECT_EQ(PlainText("naïve"), "naïve");
  EXPECT_EQ(PlainText("a\tb\xFF\x1B\x7F\n"), "a b??? ");
}

}  // namespace
}  // namespace keytrail
