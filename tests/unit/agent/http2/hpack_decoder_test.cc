// HpackDecoder: unknown tables, memo, limits. Exactness against the public suite is in hpack_suite_test.cc.
#include "agent/http2/hpack_decoder.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "common/limits.h"
#include "tests/support/http2_builder.h"

namespace keytrail::testing {
namespace {

class HpackDecoderTest : public ::testing::Test {
 protected:
  const HeaderBlock& Decode(const std::string& block, uint32_t limit = 4096) {
    return hpack.Decode(AsBytes(block), limit, scratch);
  }
  // "name: value" of each field, "?" for what is unknown, "#slot".
  std::string Text(const std::string& block, uint32_t limit = 4096) {
    const HeaderBlock& decoded = Decode(block, limit);
    if (decoded.undecodable) return "undecodable";
    std::string out;
    for (const HeaderField& f : decoded.fields) {
      if (!out.empty()) out += ", ";
      out += f.name.empty() ? "?" : std::string(f.name);
      out += ": ";
      out += f.unknown_value ? "?" : std::string(f.value);
      if (f.slot != 0) out += " #" + std::to_string(f.slot);
    }
    return out;
  }

  Counters counters;
  HeaderScratch scratch{counters};
  HpackDecoder hpack;
};

TEST_F(HpackDecoderTest, PicksWhatGrpcNeeds) {
  HpackEncoder encoder;
  auto fields = GrpcRequestHeaders("/tikvpb.Tikv/KvGet");
  fields.emplace_back("grpc-encoding", "gzip");
  const HeaderBlock& request = Decode(encoder.Encode(fields));
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/tikvpb.Tikv/KvGet");
  EXPECT_EQ(request.authority, "10.0.0.1:20160");
  EXPECT_EQ(request.content_type, "application/grpc");
  EXPECT_EQ(request.grpc_encoding, "gzip");
  EXPECT_EQ(request.http_status, -1);
  EXPECT_EQ(request.grpc_status, -1);
  EXPECT_FALSE(request.has_unknown);

  const HeaderBlock& trailers =
      Decode(encoder.Encode({{":status", "200"}, {"grpc-status", "14"}, {"grpc-message", "x%20y"}}));
  EXPECT_EQ(trailers.http_status, 200);
  EXPECT_EQ(trailers.grpc_status, 14);
  EXPECT_EQ(trailers.grpc_message, "x%20y");
}

TEST_F(HpackDecoderTest, AStatusThatIsNoNumberIsNotGuessed) {
  EXPECT_EQ(Decode(HpackLiteral("grpc-status", "-1")).grpc_status, -1);
  EXPECT_EQ(Decode(HpackLiteral("grpc-status", "0x")).grpc_status, -1);
  EXPECT_EQ(Decode(HpackLiteral("grpc-status", "")).grpc_status, -1);
  EXPECT_EQ(Decode(HpackLiteral("grpc-status", "16")).grpc_status, 16);
}

TEST_F(HpackDecoderTest, UnknownTableResolvesStaticAndNewEntries) {
  hpack.Forget();
  EXPECT_EQ(Text(HpackIndexed(3) + HpackIndexed(62) + HpackIndexed(65)), ":method: POST, ?: ? #1, ?: ? #4");
  // One insertion shifts the old entries by one; their slots stay.
  EXPECT_EQ(Text(HpackInsert("a", "1") + HpackIndexed(62) + HpackIndexed(63) + HpackIndexed(66)),
            "a: 1, a: 1, ?: ? #1, ?: ? #4");
  EXPECT_EQ(Text(HpackInsert(62, "2") + HpackIndexed(62) + HpackIndexed(63) + HpackIndexed(64)),
            "a: 2, a: 2, a: 1, ?: ? #1");
  EXPECT_EQ(counters.Get(Counter::kHeaderFieldsUnknown), 5u);
}

TEST_F(HpackDecoderTest, LiteralsUnderAnUnknownName) {
  hpack.Forget();
  EXPECT_EQ(Text(HpackLiteral(63, "v")), "?: v #2");
  // The entry made of it keeps its value, and the slot of its name.
  EXPECT_EQ(Text(HpackInsert(63, "w")), "?: w #2");
  EXPECT_EQ(Text(HpackIndexed(62) + HpackIndexed(64)), "?: w #2, ?: ? #2");
  EXPECT_EQ(Text(HpackInsert(62, "x") + HpackIndexed(62) + HpackIndexed(63)), "?: x #2, ?: x #2, ?: w #2");
  EXPECT_TRUE(Decode(HpackIndexed(62)).has_unknown);
}

TEST_F(HpackDecoderTest, SlotsAreNotReusedAfterASecondLoss) {
  hpack.Forget();
  EXPECT_EQ(Text(HpackIndexed(62) + HpackIndexed(70)), "?: ? #1, ?: ? #9");
  hpack.Forget();
  EXPECT_EQ(Text(HpackIndexed(62)), "?: ? #10");
}

TEST_F(HpackDecoderTest, AnEmptiedTableIsKnownAgain) {
  hpack.Forget();
  EXPECT_EQ(Text(HpackSizeUpdate(0) + HpackSizeUpdate(4096) + HpackInsert("a", "1")), "a: 1");
  EXPECT_TRUE(hpack.table_known());
  EXPECT_EQ(Text(HpackIndexed(62)), "a: 1");
  EXPECT_EQ(Text(HpackIndexed(63)), "undecodable");
}

TEST_F(HpackDecoderTest, AnEntryTooLargeForTheTableEndsAllSlots) {
  hpack.Forget();
  EXPECT_EQ(Text(HpackInsert("a", "1") + HpackIndexed(63)), "a: 1, ?: ? #1");
  Text(HpackInsert("big", std::string(5000, 'x')));
  // If the true table was larger, index 64 means what 63 meant before; if not, nobody asks.
  EXPECT_EQ(Text(HpackIndexed(64)), "?: ? #4");
}

TEST_F(HpackDecoderTest, ALargerTrueTableMakesLostEntriesUnknownNotWrong) {
  // The sender has 64 KiB by a SETTINGS that nobody saw.
  hpack.Forget();
  for (int i = 0; i < 200; ++i) Decode(HpackInsert("name", std::string(40, 'a') + std::to_string(i)));
  EXPECT_EQ(Decode(HpackIndexed(62)).fields[0].value, std::string(40, 'a') + "199");
  const std::string lost = Text(HpackIndexed(62 + 150));
  EXPECT_EQ(lost.substr(0, 7), "?: ? #2");  // 2^31 + its number
  Decode(HpackInsert("name", "one more"));
  EXPECT_EQ(Text(HpackIndexed(62 + 151)), lost);
}

TEST_F(HpackDecoderTest, SizeUpdatesBeyondTheAnnouncementAreRefused) {
  EXPECT_EQ(Text(HpackSizeUpdate(4097) + HpackIndexed(2)), "undecodable");
  EXPECT_FALSE(hpack.table_known());
  hpack.Restart();
  EXPECT_EQ(Text(HpackSizeUpdate(16384) + HpackIndexed(2), 16384), ":method: GET");
  EXPECT_EQ(Text(HpackIndexed(2) + HpackSizeUpdate(100)), "undecodable");
}

TEST_F(HpackDecoderTest, ATableBeyondOurCapIsFollowedAsFarAsItGoes) {
  const uint32_t huge = 64u << 20;
  EXPECT_EQ(Text(HpackInsert("a", "1")), "a: 1");
  EXPECT_EQ(Text(HpackSizeUpdate(huge) + HpackIndexed(62), huge), "a: 1");
  EXPECT_FALSE(hpack.table_known());
}

TEST_F(HpackDecoderTest, DamageIsCountedAndMakesTheTableUnknown) {
  for (const std::string& bad :
       {std::string("\x80"), HpackIndexed(62), std::string("\xff\xff\xff\xff\xff\xff"),
        HpackInsert("abc", "def").substr(0, 6), std::string("\x00\x05", 2), HpackSizeUpdate(100) + "\x40"}) {
    Counters fresh_counters;
    HeaderScratch fresh_scratch(fresh_counters);
    HpackDecoder fresh;
    const HeaderBlock& block = fresh.Decode(AsBytes(bad), 4096, fresh_scratch);
    EXPECT_TRUE(block.undecodable);
    EXPECT_TRUE(block.fields.empty());
    EXPECT_EQ(fresh_counters.Get(Counter::kHeaderBlocksMalformed), 1u);
    EXPECT_FALSE(fresh.table_known());
    // And it goes on.
    EXPECT_FALSE(fresh.Decode(AsBytes(HpackInsert("a", "1")), 4096, fresh_scratch).undecodable);
    EXPECT_EQ(fresh.Decode(AsBytes(HpackIndexed(62)), 4096, fresh_scratch).fields[0].value, "1");
  }
  // Huffman that ends in nothing: an error inside nghttp2, after which it must be made anew.
  EXPECT_EQ(Text(std::string("\x40\x01") + "a" + "\x82\xff\xff"), "undecodable");
  EXPECT_EQ(Text(HpackInsert("a", "1")), "a: 1");
}

TEST_F(HpackDecoderTest, ABombIsCapped) {
  Decode(HpackInsert("a", std::string(4000, 'x')));
  std::string bomb;
  for (int i = 0; i < 1000; ++i) bomb += HpackIndexed(62);
  EXPECT_EQ(Text(bomb), "undecodable");
  EXPECT_EQ(counters.Get(Counter::kCapHeaderBlock), 1u);
}

TEST_F(HpackDecoderTest, TheSameBlockOverTheSameTableHasOneIdentity) {
  Decode(HpackInsert("a", "1") + HpackInsert("b", "2"));
  const std::string block = HpackIndexed(62) + HpackIndexed(63) + HpackLiteral("c", "3");
  EXPECT_EQ(Decode(block).identity, 0u);
  EXPECT_EQ(Text(block), "b: 2, a: 1, c: 3");
  const uint64_t identity = Decode(block).identity;
  EXPECT_NE(identity, 0u);
  EXPECT_EQ(Text(block), "b: 2, a: 1, c: 3");
  EXPECT_EQ(Decode(block).identity, identity);
  // Another block, then the same one after the table has changed.
  const std::string other = HpackIndexed(62);
  Decode(other);
  Decode(other);
  EXPECT_NE(Decode(other).identity, identity);
  EXPECT_EQ(Decode(block).identity, identity);
  Decode(HpackInsert("d", "4"));
  EXPECT_NE(Decode(block).identity, identity);
  EXPECT_EQ(Text(block), "d: 4, b: 2, c: 3");
  Decode(block);
  EXPECT_NE(Decode(block).identity, identity);
  EXPECT_EQ(Text(block), "d: 4, b: 2, c: 3");
}

TEST_F(HpackDecoderTest, ALossEndsWhatWasRememberedOverTheTable) {
  Decode(HpackInsert("a", "1"));
  const std::string block = HpackIndexed(62);
  uint64_t identity = 0;
  for (int i = 0; i < 3; ++i) identity = Decode(block).identity;
  EXPECT_NE(identity, 0u);
  hpack.Forget();
  EXPECT_EQ(Text(block), "?: ? #1");
  EXPECT_NE(Decode(block).identity, identity);
  hpack.Forget();
  EXPECT_EQ(Text(block), "?: ? #2");
  hpack.Restart();
  EXPECT_EQ(Text(block), "undecodable");
}

TEST_F(HpackDecoderTest, UnknownFieldsAreCountedFromTheMemoToo) {
  hpack.Forget();
  for (int i = 0; i < 5; ++i) Decode(HpackIndexed(62) + HpackIndexed(2));
  EXPECT_EQ(counters.Get(Counter::kHeaderFieldsUnknown), 5u);
  EXPECT_EQ(counters.Get(Counter::kHeaderBlocks), 5u);
}

// nghttp2 encodes random field lists, indexed or not, over changing table sizes; what comes out must be what
// went in, whether the block is new, repeated or remembered. A second decoder joins in the middle.
TEST_F(HpackDecoderTest, AgreesWithNghttp2OnRandomTraffic) {
  std::mt19937 random(7);
  for (int round = 0; round < 30; ++round) {
    HpackEncoder encoder;
    HpackDecoder whole;
    HpackDecoder late;
    late.Forget();
    HeaderScratch late_scratch(counters);
    for (int i = 0; i < 300; ++i) {
      if (random() % 40 == 0) encoder.ChangeTableSize(random() % 5 * 1500);
      FieldList fields;
      const size_t count = 1 + random() % 8;
      for (size_t f = 0; f < count; ++f) {
        static const char* const kNames[] = {":path",        "grpc-status", "x",
                                             "grpc-timeout", "user-agent",  ":status"};
        fields.emplace_back(kNames[random() % 6],
                            std::string(random() % 3 == 0 ? random() % 300 : 3, 'a' + random() % 4));
      }
      const std::string block = encoder.Encode(fields, random() % 3 == 0);
      const HeaderBlock& got = whole.Decode(AsBytes(block), 16384, scratch);
      ASSERT_EQ(got.fields.size(), fields.size());
      for (size_t f = 0; f < fields.size(); ++f) {
        ASSERT_EQ(got.fields[f].name, fields[f].first);
        ASSERT_EQ(got.fields[f].value, fields[f].second);
      }
      if (i < 60) continue;
      const HeaderBlock& joined = late.Decode(AsBytes(block), UINT32_MAX, late_scratch);
      ASSERT_EQ(joined.fields.size(), fields.size());
      for (size_t f = 0; f < fields.size(); ++f) {
        const HeaderField& field = joined.fields[f];
        if (!field.name.empty()) {
          ASSERT_EQ(field.name, fields[f].first);
        }
        if (!field.unknown_value) {
          ASSERT_EQ(field.value, fields[f].second);
        }
      }
    }
  }
}

}  // namespace
}  // namespace keytrail::testing
