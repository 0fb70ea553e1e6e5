// FrameSearch alone: where a chain begins, what it needs, what it holds.
#include "agent/http2/frame_search.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/http2_builder.h"
#include "tests/support/segmenter.h"

namespace keytrail::testing {
namespace {

std::string Noise(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::string out(bytes, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

std::string Calls(uint32_t first_stream, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    const uint32_t stream = first_stream + 2 * static_cast<uint32_t>(i);
    out += HeadersFrame(stream, HpackIndexed(3) + HpackIndexed(62) + HpackLiteral(4, "/x/y")) +
           DataFrame(stream, GrpcMessage("call " + std::to_string(i)), true);
  }
  return out;
}

// Offset of the front after a successful Find, or -1.
int FindIn(const Pieces& pieces, const SearchContext& context) {
  FrameSearch search;
  uint64_t order = 0;
  for (const Bytes piece : pieces) {
    search.Append(TimeNs{0}, order++, piece);
    if (search.Find(context)) return static_cast<int>(search.TakeDropped());
  }
  return -1;
}

TEST(FrameSearch, FindsTheFirstFrameAfterNoiseOfAnyLength) {
  for (size_t noise = 0; noise < 600; ++noise) {
    const std::string bytes = Noise(noise, static_cast<uint32_t>(noise)) + Calls(1001, 4);
    EXPECT_EQ(FindIn({AsBytes(bytes)}, {}), static_cast<int>(noise));
  }
}

TEST(FrameSearch, DoesNotDependOnTheSegmentation) {
  const std::string bytes = Noise(500, 4) + Calls(71, 6) + WindowUpdateFrame(0, 12) + Calls(91, 3);
  ForEachSegmentation(AsBytes(bytes), [&](const Pieces& pieces, const std::string& label) {
    EXPECT_EQ(FindIn(pieces, {}), 500) << label;
  });
}

TEST(FrameSearch, ThreeFramesAreTheLeastForAnUnknownConnection) {
  const std::string two = PingFrame("abcdefgh") + WindowUpdateFrame(0, 77);
  EXPECT_EQ(FindIn({AsBytes(two)}, {}), -1);
  const std::string three = two + PingFrame("hgfedcba");
  EXPECT_EQ(FindIn({AsBytes(three)}, {}), 0);
}

TEST(FrameSearch, AKnownConnectionNeedsLessButNotNothing) {
  SearchContext known;
  known.is_http2 = true;
  known.newest_streams = {501, 0};
  const std::string near = HeadersFrame(503, HpackIndexed(3) + HpackIndexed(62));
  EXPECT_EQ(FindIn({AsBytes(near)}, known), 0);
  EXPECT_EQ(FindIn({AsBytes(near)}, {}), -1);
  // A stream far off, or a frame in the middle of the run, must be borne out by the next.
  const std::string far = HeadersFrame(900001, HpackIndexed(3));
  EXPECT_EQ(FindIn({AsBytes(far)}, known), -1);
  EXPECT_EQ(FindIn({AsBytes(DataFrame(501, "xyz"))}, known), -1);
  const std::string middle = Noise(20, 1) + near + DataFrame(503, GrpcMessage("x"));
  EXPECT_EQ(FindIn({AsBytes(middle)}, known), 20);
}

TEST(FrameSearch, HeldBytesKeepTheirPieces) {
  FrameSearch search;
  const std::string noise = Noise(100, 2);
  const std::string calls = Calls(1, 5);
  search.Append(TimeNs{10}, 7, AsBytes(noise));
  search.Append(TimeNs{20}, 9, AsBytes(calls));
  ASSERT_TRUE(search.Find({}));
  EXPECT_EQ(search.TakeDropped(), 100u);
  EXPECT_EQ(search.front_time(), TimeNs{20});
  EXPECT_EQ(search.front_order(), 9u);
  EXPECT_EQ(ToString(search.FrontPiece()), calls);
  search.Consume(20);
  search.GiveBack(9);
  EXPECT_EQ(ToString(search.bytes()), calls.substr(11));
}

TEST(FrameSearch, SlidingOverALongRunLosesNoChain) {
  // Large frames that say little, in a window of 64 KiB that moves on.
  FrameSearch search;
  std::string bytes = Noise(30000, 6);
  for (uint32_t i = 0; i < 40; ++i) bytes += DataFrame(5, Noise(9000 + 37 * i, i));
  uint64_t order = 0;
  bool found = false;
  for (size_t at = 0; at < bytes.size() && !found; at += 1448) {
    search.Append(TimeNs{0}, order++,
                  Bytes(AsBytes(bytes)).subspan(at, std::min<size_t>(1448, bytes.size() - at)));
    found = search.Find({});
    if (search.size() > 20000) search.Drop(search.size() - 10000);
  }
  ASSERT_TRUE(found);
  const size_t front = search.TakeDropped();
  EXPECT_EQ(bytes.substr(front, 1), std::string(1, '\0'));
  EXPECT_EQ(LoadBe32(reinterpret_cast<const uint8_t*>(bytes.data()) + front + 5), 5u);
}

}  // namespace
}  // namespace keytrail::testing
