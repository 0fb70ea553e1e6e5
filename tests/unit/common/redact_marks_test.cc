#include "common/redact_marks.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace keytrail {
namespace {

std::string Marked(std::string_view text) {
  std::string out;
  AppendMarked(text, out);
  return out;
}

std::string Strip(std::string_view text, MarkStripper::Leave leave, bool& whole,
                  const std::vector<size_t>& cuts) {
  MarkStripper stripper(leave);
  std::string out;
  size_t from = 0;
  for (const size_t cut : cuts) {
    stripper.Feed(text.substr(from, cut - from), out);
    from = cut;
  }
  stripper.Feed(text.substr(from), out);
  whole = stripper.Finish(out);
  return out;
}

std::string Strip(std::string_view text) {
  bool whole = false;
  return Strip(text, MarkStripper::Leave::kPlaceholder, whole, {});
}

// The forms that TiDB gives (pingcap/tidb issue 51306: marks inside are doubled).
TEST(RedactMarks, AreThoseOfTiDB) {
  EXPECT_EQ(Marked("1"), "‹1›");
  EXPECT_EQ(Marked("a‹b›c"), "‹a‹‹b››c›");
  EXPECT_EQ(Marked(""), "‹›");
  EXPECT_TRUE(HasMark("x›"));
  EXPECT_FALSE(HasMark("x\xE2\x80"));
  std::string lines;
  AppendMarkedLines("one\n\ntwo\nthree", lines);
  EXPECT_EQ(lines, "‹one›\n\n‹two›\n‹three›");
}

TEST(RedactMarks, AreTakenOut) {
  EXPECT_EQ(Strip("key=‹t53_r8012› [‹a›,‹b›)"), "key=? [?,?)");
  EXPECT_EQ(Strip("‹a›‹b›"), "??");
  EXPECT_EQ(Strip("a \xE2\x80\xA6 b"), "a \xE2\x80\xA6 b");  // the same first two bytes
  EXPECT_EQ(Strip("closed › before ‹x›"), "closed › before ?");
}

TEST(RedactMarks, ACutTextHidesItsRest) {
  bool whole = true;
  EXPECT_EQ(Strip("a ‹secret", MarkStripper::Leave::kPlaceholder, whole, {}), "a ?");
  EXPECT_FALSE(whole);
  EXPECT_EQ(Strip("a ‹secret››", MarkStripper::Leave::kPlaceholder, whole, {}), "a ?");
  EXPECT_FALSE(whole);
}

// Whatever stands inside marks is taken out, and comes back with kText: at every split.
TEST(RedactMarks, AnyTextAtAnySplit) {
  std::mt19937 random(7);
  const std::string parts[] = {"‹", "›", "s", "\xE2", "\x80", "\xE2\x80", "\xBA", "‹‹", "››"};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    std::string plain;
    std::string stripped;
    for (int n = 0; n < 3; ++n) {
      std::string secret;
      for (size_t k = random() % 6; k > 0; --k) secret += parts[random() % std::size(parts)];
      text += "|" + Marked(secret) + "|";
      plain += "|" + secret + "|";
      stripped += "|?|";
    }
    for (size_t cut = 0; cut <= text.size(); ++cut) {
      const std::vector<size_t> cuts = {cut / 2, cut};
      bool whole = false;
      ASSERT_EQ(Strip(text, MarkStripper::Leave::kPlaceholder, whole, cuts), stripped)
          << text << " at " << cut;
      ASSERT_TRUE(whole);
      ASSERT_EQ(Strip(text, MarkStripper::Leave::kText, whole, cuts), plain) << text << " at " << cut;
    }
  }
}

}  // namespace
}  // namespace keytrail
