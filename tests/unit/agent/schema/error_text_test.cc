#include "agent/schema/error_text.h"

#include <gtest/gtest.h>

#include <random>

#include "common/key_codec.h"

namespace keytrail {
namespace {

// Keys of a table 59, encoded; the first is TiDB's documentation's own example.
constexpr const char* kKeyHex = "7480000000000000FF3B5F728000000000FF1DE3F10000000000FA";
constexpr const char* kStartHex = "7480000000000000FF3B5F728000000000FF1000000000000000FA";
constexpr const char* kEndHex = "7480000000000000FF3B5F728000000000FF2000000000000000FA";

struct Parsed {
  bool found = false;
  ErrorFact error;
  ByteArena arena;
  std::string key() const { return HexUpper(error.key); }
  std::string start() const { return HexUpper(error.start); }
  std::string end() const { return HexUpper(error.end); }
  std::string range_start() const { return HexUpper(error.range_start); }
  std::string range_end() const { return HexUpper(error.range_end); }
};

Parsed Parse(std::string_view text) {
  Parsed p;
  p.found = ParseErrorText(AsBytes(text), p.arena, p.error);
  return p;
}

std::string Lower(std::string s) {
  for (char& c : s) c = static_cast<char>(std::tolower(c));
  return s;
}

std::string Decimal(const std::string& hex) {
  std::string out = "[";
  const std::string bytes = FromHex(hex).value();
  for (const unsigned char c : bytes) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(c);
  }
  return out + "]";
}

// tikv_util::escape.
std::string Escape(const std::string& hex, const std::string& backslash = "\\") {
  std::string out;
  const std::string bytes = FromHex(hex).value();
  for (const unsigned char c : bytes) {
    if (c == '\n') {
      out += backslash + "n";
    } else if (c == '\r') {
      out += backslash + "r";
    } else if (c == '\t') {
      out += backslash + "t";
    } else if (c >= 0x20 && c < 0x7F) {
      out += static_cast<char>(c);
    } else {
      char octal[4];
      std::snprintf(octal, sizeof octal, "%03o", c);
      out += backslash + octal;
    }
  }
  return out;
}

const std::string kOutOfRegion =
    std::string("Key ") + kKeyHex + " is out of [region 16] [" + kStartHex + ", " + kEndHex + ")";

void ExpectOutOfRegion(const Parsed& p) {
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.kind, ErrorKind::kKeyOutOfRegion);
  EXPECT_TRUE(p.error.from_text);
  EXPECT_EQ(p.error.region_id, 16u);
  EXPECT_TRUE(p.error.has_key);
  EXPECT_TRUE(p.error.has_bounds);
  EXPECT_FALSE(p.error.has_range);
  EXPECT_EQ(p.error.key_form, KeyForm::kEncoded);
  EXPECT_EQ(p.key(), kKeyHex);
  EXPECT_EQ(p.start(), kStartHex);
  EXPECT_EQ(p.end(), kEndHex);
}

TEST(ErrorText, PointOutsideItsRegionAsAbort) {
  ExpectOutOfRegion(
      Parse(R"(Error(Txn(Error(Mvcc(Error(Kv(Error(Other("[components/tikv_kv/src/raftstore_impls.rs:35]: )"
            R"(\"[components/raftstore/src/store/region_snapshot.rs:215]: )" +
            kOutOfRegion + R"(\""))))))))"));
  // 5.0: Engine in place of Kv.
  ExpectOutOfRegion(Parse(R"(Error(Txn(Error(Mvcc(Error(Engine(Error(Other("[src/x.rs:1]: \"[src/y.rs:2]: )" +
                          kOutOfRegion + R"(\""))))))))"));
  // In coprocessor point ranges: other_error.
  ExpectOutOfRegion(Parse(R"(unknown error "[components/tikv_kv/src/raftstore_impls.rs:35]: \"[a.rs:1]: )" +
                          kOutOfRegion + R"(\"")"));
  ExpectOutOfRegion(Parse(kOutOfRegion));
  ExpectOutOfRegion(Parse(std::string("Key ") + Lower(kKeyHex) + " is out of [region 16] [" +
                          Lower(kStartHex) + ", " + Lower(kEndHex) + ")"));
}

TEST(ErrorText, PointOutsideItsRegionOfOldReleases) {
  // Escaped keys, plain and inside one and two debug prints.
  for (const std::string backslash : {"\\", "\\\\", "\\\\\\\\"}) {
    ExpectOutOfRegion(Parse("key " + Escape(kKeyHex, backslash) + " is out of [region 16] [" +
                            Escape(kStartHex, backslash) + ", " + Escape(kEndHex, backslash) + ")"));
  }
}

TEST(ErrorText, MarkersAroundKeys) {
  const auto marked = [](const std::string& hex) { return "\xE2\x80\xB9" + hex + "\xE2\x80\xBA"; };
  ExpectOutOfRegion(Parse("Key " + marked(kKeyHex) + " is out of [region 16] [" + marked(kStartHex) + ", " +
                          marked(kEndHex) + ")"));
  const Parsed p = Parse("Request range exceeds bound, request range:[" + marked(kStartHex) +
                         ", end:" + marked(kEndHex) + "), physical bound:[" + marked("") + ", (none))");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.range_end(), kEndHex);
  EXPECT_EQ(p.start(), "");
}

TEST(ErrorText, OpenBounds) {
  Parsed p = Parse(std::string("Key ") + kKeyHex + " is out of [region 16] [, " + kEndHex + ")");
  ASSERT_TRUE(p.found);
  EXPECT_TRUE(p.error.has_bounds);
  EXPECT_EQ(p.start(), "");
  EXPECT_EQ(p.end(), kEndHex);
  p = Parse(std::string("Key ") + kKeyHex + " is out of [region 16] [" + kStartHex + ", )");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.end(), "");
  EXPECT_EQ(p.start(), kStartHex);
}

TEST(ErrorText, TheTimestampBehindTheKeyIsCutOff) {
  ExpectOutOfRegion(Parse(std::string("Key ") + kKeyHex + "F99478E0837FFFFF is out of [region 16] [" +
                          kStartHex + ", " + kEndHex + ")"));
}

TEST(ErrorText, KeyNotInRegionAsTextOnly) {
  const Parsed p = Parse(std::string("key ") + kKeyHex + " is not in region key range [" + kStartHex + ", " +
                         kEndHex + ") for region 16");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.kind, ErrorKind::kKeyNotInRegion);
  EXPECT_TRUE(p.error.from_text);
  EXPECT_EQ(p.error.region_id, 16u);
  EXPECT_EQ(p.key(), kKeyHex);
  EXPECT_EQ(p.start(), kStartHex);
  EXPECT_EQ(p.end(), kEndHex);
  // 2.x names nothing at all.
  EXPECT_FALSE(Parse("key is not in region").found);
}

void ExpectRange(const Parsed& p) {
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.kind, ErrorKind::kRangeExceedsBound);
  EXPECT_TRUE(p.error.from_text);
  EXPECT_TRUE(p.error.has_range);
  EXPECT_TRUE(p.error.has_bounds);
  EXPECT_FALSE(p.error.has_key);
  EXPECT_EQ(p.error.key_form, KeyForm::kEncoded);
  EXPECT_EQ(p.error.region_id, 0u);
  EXPECT_EQ(p.range_start(), kStartHex);
  EXPECT_EQ(p.range_end(), kEndHex);
  EXPECT_EQ(p.start(), kKeyHex);
  EXPECT_EQ(p.end(), "");
}

TEST(ErrorText, RangeExceedsBound) {
  ExpectRange(Parse(std::string("Request range exceeds bound, request range:[") + kStartHex + ", " + kEndHex +
                    "), physical bound:[" + kKeyHex + ", (none))"));
  ExpectRange(Parse(std::string("[src/coprocessor/x.rs:1]: Request range exceeds bound, request range:[") +
                    kStartHex + ", end:" + kEndHex + "), physical bound:[" + kKeyHex + ", )"));
  // 3.0 alpha: escaped strings in debug prints.
  for (const std::string b : {"\\", "\\\\"}) {
    ExpectRange(Parse("Request range exceeds bound, request range:[Some(\"" + Escape(kStartHex, b) +
                      "\"), end:Some(\"" + Escape(kEndHex, b) + "\")), physical bound:[Some(\"" +
                      Escape(kKeyHex, b) + "\"), None)"));
  }
  const Parsed open =
      Parse(std::string("Request range exceeds bound, request range:[(none), (none)), physical "
                        "bound:[") +
            kStartHex + ", " + kEndHex + ")");
  ASSERT_TRUE(open.found);
  EXPECT_TRUE(open.error.has_range);
  EXPECT_EQ(open.range_start(), "");
  EXPECT_EQ(open.range_end(), "");
  EXPECT_EQ(open.end(), kEndHex);
}

TEST(ErrorText, RangeExceedsBoundInDecimalBytes) {
  const std::string text = "Error(Txn(Error(InvalidReqRange { start: Some(" + Decimal(kStartHex) +
                           "), end: Some(" + Decimal(kEndHex) + "), lower_bound: Some(" + Decimal(kKeyHex) +
                           "), upper_bound: None })))";
  ExpectRange(Parse(text));
  ExpectRange(Parse("Error(Txn(Error(InvalidReqRange { start: Some(" + Decimal(kStartHex) + "), end: Some(" +
                    Decimal(kEndHex) + "), lower_bound: Some(" + Decimal(kKeyHex) +
                    "), upper_bound: Some([]) })))"));
}

// tikv#19215: the end of the complained range is an encoding of an encoded key, and is given as it stands.
TEST(ErrorText, ADoublyEncodedEndIsNotTouched) {
  const std::string twice = HexUpper(AsBytes(EncodeKey(AsBytes(FromHex(kEndHex).value()))));
  const Parsed p = Parse(std::string("Request range exceeds bound, request range:[") + kStartHex + ", " +
                         twice + "), physical bound:[" + kStartHex + ", " + kEndHex + ")");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.range_end(), twice);
}

TEST(ErrorText, InvertedRangeIsRaw) {
  const Parsed p = Parse(
      "invalid range,range.start should be smaller than range.end, but got [[116, 128, 0, 2],[116,128, 0, "
      "1])");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.kind, ErrorKind::kInvertedRange);
  EXPECT_EQ(p.error.key_form, KeyForm::kRaw);
  EXPECT_TRUE(p.error.has_range);
  EXPECT_FALSE(p.error.has_bounds);
  EXPECT_EQ(p.range_start(), "74800002");
  EXPECT_EQ(p.range_end(), "74800001");
}

TEST(ErrorText, Redacted) {
  for (const char* text :
       {"Key ? is out of [region 16] [?, ?)", "key ? is not in region key range [?, ?) for region 16"}) {
    const Parsed p = Parse(text);
    ASSERT_TRUE(p.found) << text;
    EXPECT_EQ(p.error.kind, ErrorKind::kRedacted);
    EXPECT_EQ(p.error.region_id, 16u);
    EXPECT_FALSE(p.error.has_key || p.error.has_bounds || p.error.has_range);
  }
  const Parsed p = Parse("Request range exceeds bound, request range:[?, ?), physical bound:[?, (none))");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.kind, ErrorKind::kRedacted);
  EXPECT_FALSE(p.error.has_range || p.error.has_bounds);
  EXPECT_EQ(Parse("invalid range,range.start should be smaller than range.end, but got [?,?)").error.kind,
            ErrorKind::kRedacted);
}

TEST(ErrorText, ApiVersions) {
  for (const char* text : {"Api version in request does not match with TiKV storage, cmd: raw_get",
                           "Key mode mismatched with the request mode, cmd: get",
                           "Error(ApiVersionNotMatched { cmd: raw_put, storage_api_version: V1 })"}) {
    const Parsed p = Parse(text);
    ASSERT_TRUE(p.found) << text;
    EXPECT_EQ(p.error.kind, ErrorKind::kApiVersionMismatch);
  }
}

TEST(ErrorText, EpochText) {
  Parsed p = Parse(
      "EpochNotMatch current epoch of region 42 is conf_ver: 5 version: 18, but you sent conf_ver: 5 "
      "version: 17");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.kind, ErrorKind::kEpochText);
  EXPECT_EQ(p.error.region_id, 42u);
  EXPECT_EQ(p.error.current_conf_ver, 5u);
  EXPECT_EQ(p.error.current_version, 18u);
  p = Parse(
      "[a.rs:1]: \\\"EpochNotMatch current epoch of region 42 is version: 18, but you sent version: 17\\\"");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.current_conf_ver, 0u);
  EXPECT_EQ(p.error.current_version, 18u);
}

TEST(ErrorText, TiFlash) {
  Parsed p = Parse("Region epoch not match after retries: Region {2103,5,1822} not in region cache.");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.region_id, 2103u);
  EXPECT_EQ(p.error.current_version, 0u);  // the numbers are the request's
  p = Parse("contain duplicate region 77");
  ASSERT_TRUE(p.found);
  EXPECT_EQ(p.error.region_id, 77u);
}

TEST(ErrorText, NothingIsMadeUp) {
  for (const std::string& text :
       {std::string(""), std::string("write conflict"), std::string("TxnLockNotFound { start_ts: 7 }"),
        std::string("Key 748 is out of [region 16] [00, 01)"),   // an odd number of digits
        std::string("Key 74zz is out of [region 16] [00, 01)"),  // no hex
        std::string("Key 74 is out of [region 16] [00, 01"),     // cut
        std::string("Key 74 is out of [region 16] [00"),         //
        std::string("Key 74 is out of [region ] [00, 01)"),      //
        std::string("Key 74 is out of [region 99999999999999999999999] [00, 01)"),
        std::string("Request range exceeds bound, request range:[00, 01), physical bound:[00"),
        std::string("Request range exceeds bound"),
        std::string(
            "InvalidReqRange { start: Some([1, 2, 300]), end: None, lower_bound: None, upper_bound: None }"),
        std::string("current epoch of region 5 is unknown"),
        // Runs of backslashes of different length: nobody can say what was escaped how often.
        std::string("Key t\\\\200\\377 is out of [region 16] [00, 01)")}) {
    Parsed p = Parse(text);
    EXPECT_FALSE(p.found) << text;
    EXPECT_EQ(p.error.kind, ErrorKind::kNone) << text;
    EXPECT_FALSE(p.error.has_key || p.error.has_bounds || p.error.has_range || p.error.from_text) << text;
    EXPECT_EQ(p.error.region_id, 0u) << text;
  }
}

// Every cut of a right text must give the right keys or none.
TEST(ErrorText, ACutTextGivesTheSameKeysOrNone) {
  const std::string texts[] = {kOutOfRegion,
                               std::string("Request range exceeds bound, request range:[") + kStartHex +
                                   ", " + kEndHex + "), physical bound:[" + kKeyHex + ", (none))",
                               "InvalidReqRange { start: Some(" + Decimal(kStartHex) + "), end: Some(" +
                                   Decimal(kEndHex) + "), lower_bound: Some(" + Decimal(kKeyHex) +
                                   "), upper_bound: None }"};
  for (const std::string& text : texts) {
    const Parsed whole = Parse(text);
    ASSERT_TRUE(whole.found);
    for (size_t n = 0; n < text.size(); ++n) {
      const std::vector<char> cut(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(n));
      const Parsed p = Parse({cut.data(), cut.size()});
      if (!p.found) continue;
      EXPECT_EQ(p.key(), whole.key()) << n;
      EXPECT_EQ(p.start(), whole.start()) << n;
      EXPECT_EQ(p.end(), whole.end()) << n;
      EXPECT_EQ(p.range_start(), whole.range_start()) << n;
      EXPECT_EQ(p.range_end(), whole.range_end()) << n;
    }
  }
}

TEST(ErrorText, ChangedTextsNeverCrash) {
  std::mt19937 random(7);
  const std::string seeds[] = {kOutOfRegion,
                               "InvalidReqRange { start: Some(" + Decimal(kStartHex) + "), end: Some(" +
                                   Decimal(kEndHex) + "), lower_bound: None, upper_bound: None }",
                               "Request range exceeds bound, request range:[Some(\"" + Escape(kStartHex) +
                                   "\"), end:None), physical bound:[?, ?)"};
  static constexpr char kBytes[] = "[](){}\\\",?:Some(none)0123ABCxyz \x80\xE2";
  for (int round = 0; round < 30000; ++round) {
    std::string text = seeds[random() % std::size(seeds)];
    for (int i = random() % 4; i >= 0; --i) {
      const size_t at = random() % text.size();
      if (random() % 3 == 0) {
        text.erase(at, random() % 8);
      } else {
        text[at] = kBytes[random() % (sizeof kBytes - 1)];
      }
      if (text.empty()) text = "K";
    }
    const std::vector<char> exact(text.begin(), text.end());
    Parse({exact.data(), exact.size()});
  }
}

}  // namespace
}  // namespace keytrail
