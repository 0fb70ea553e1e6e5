// Every cap of the HTTP/2 room, hit: a counter, an honest event, and a decoder that goes on. docs/limits.md
// lists them; a header block over its cap is in frames_test.cc, a search that ends in protocol_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/limits.h"
#include "tests/support/http2_builder.h"
#include "tests/support/http2_log.h"

namespace keytrail::testing {
namespace {

using ::testing::HasSubstr;

std::string Noise(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::string noise(n, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  return noise;
}

// What a search recognizes: frames one behind the other.
std::string ManyFrames() {
  std::string frames;
  for (uint32_t i = 0; i < 20; ++i) {
    frames += HeadersFrame(1 + 2 * i, HpackIndexed(3)) + DataFrame(1 + 2 * i, GrpcMessage("x"), true);
  }
  return frames;
}

TEST(Http2Caps, WindowOfADirection) {
  Session session(-1);
  const size_t noise = 5 * limits::kMaxDetectBytes;
  session.Send(0, Noise(noise, 1));
  session.Send(0, ManyFrames());
  session.Close();
  EXPECT_EQ(session.log.http2, 1);
  // All that was passed over is told, whether it was held or not.
  EXPECT_GE(session.Count(Counter::kBytesSkipped), noise);
  EXPECT_EQ(session.log.lost_bytes, session.Count(Counter::kBytesSkipped));
  EXPECT_EQ(session.Count(Counter::kCapDetectBytes), 0u);
}

TEST(Http2Caps, WindowsOfAllConnections) {
  Counters counters;
  EventLog log;
  Http2Decoder decoder(log, counters);
  FlowKey key;
  const std::string noise = Noise(limits::kMaxDetectBytes - 1000, 2);
  const uint32_t fit = limits::kMaxDetectBytesTotal / noise.size();
  ConnectionRef ref;
  ref.key = &key;
  const auto open = [&] {
    decoder.OnOpen(ref, TimeNs{0});
    decoder.OnBytes(ref, 0, TimeNs{0}, 0, AsBytes(noise));
  };
  for (ref.slot = 0; ref.slot < fit; ++ref.slot) open();
  EXPECT_EQ(counters.Get(Counter::kCapDetectBytes), 0u);
  for (; ref.slot < fit + 20; ++ref.slot) open();
  EXPECT_GT(counters.Get(Counter::kCapDetectBytes), 10u);
  // A small window finds small frames.
  EXPECT_EQ(log.http2, 0);
  open();
  const std::string frames = ManyFrames();
  ASSERT_LT(frames.size(), limits::kMinDetectBytes);
  decoder.OnBytes(ref, 0, TimeNs{0}, noise.size(), AsBytes(frames));
  EXPECT_EQ(log.http2, 1);
  for (const uint32_t last = ref.slot; ref.slot <= last; --ref.slot) {
    decoder.OnClose(ref, TimeNs{0}, CloseReason::kFin);
  }
  EXPECT_EQ(counters.Get(Counter::kConnectionsOther), fit + 20);
}

TEST(Http2Caps, HeaderListOfABlock) {
  const std::string value(4000, 'x');
  const size_t fit = limits::kMaxHeaderListBytes / (1 + value.size() + 32);
  Session session;
  session.log.log_fields = false;
  session.Send(0, kPreface + SettingsFrame({}) + HeadersFrame(1, HpackInsert("a", value)));
  std::string block;
  for (size_t i = 0; i < fit; ++i) block += HpackIndexed(62);
  session.Send(0, HeadersFrame(3, block));
  EXPECT_EQ(session.Count(Counter::kCapHeaderBlock), 0u);
  session.Send(0, HeadersFrame(5, block + HpackIndexed(62)));
  EXPECT_EQ(session.Count(Counter::kCapHeaderBlock), 1u);
  EXPECT_EQ(session.Count(Counter::kHeaderBlocksMalformed), 1u);
  session.Send(0, HeadersFrame(7, HpackIndexed(3)));
  EXPECT_THAT(session.Close(), ::testing::ElementsAre("http2 start client 0", ">1 headers", ">3 headers",
                                                      ">5 headers undecodable", ">7 headers", "end"));
}

// What is evicted from our table and not from theirs is unknown, not damage.
TEST(Http2Caps, HeaderTable) {
  const uint32_t huge = 64u << 20;
  Session session;
  session.Send(0, kPreface + SettingsFrame({}));
  session.Send(1, SettingsFrame({{1, huge}}));
  session.Send(0, HeadersFrame(1, HpackSizeUpdate(huge) + HpackInsert("a", "1")));
  const std::string value(4000, 'x');
  const auto entries = static_cast<uint32_t>(limits::kMaxHeaderTableBytes / (1 + value.size() + 32) + 2);
  for (uint32_t i = 0; i < entries; ++i) session.Send(0, HeadersFrame(3 + 2 * i, HpackInsert("b", value)));
  EXPECT_EQ(session.Count(Counter::kHeaderFieldsUnknown), 0u);
  const uint32_t last = 3 + 2 * entries;
  session.Send(0, HeadersFrame(last, HpackIndexed(62 + entries) + HpackIndexed(3)));
  EXPECT_EQ(session.Count(Counter::kHeaderFieldsUnknown), 1u);
  EXPECT_EQ(session.Count(Counter::kHeaderBlocksMalformed), 0u);
  session.Send(0, HeadersFrame(last + 2, HpackInsert("c", "2") + HpackIndexed(62)));
  EXPECT_THAT(session.log.lines.back(), HasSubstr("[c: 2] [c: 2]"));
}

// 24 bits say no more than the cap; a peer that announces more is believed up to it, one that announces
// nothing up to the default.
TEST(Http2Caps, Frames) {
  Session session;
  session.Send(0, kPreface + SettingsFrame({}));
  session.Send(1, SettingsFrame({{5, 0xFFFFFFFF}}));
  session.Send(0, HeadersFrame(1, HpackIndexed(3)));
  session.Send(0, DataFrame(1, std::string(limits::kMaxFrameBytes, 'x')));
  EXPECT_EQ(session.Count(Counter::kFramesMalformed), 0u);
  session.Send(1, HeadersFrame(1, HpackIndexed(8)));
  session.Send(1, DataFrame(1, std::string(16385, 'y')));
  EXPECT_EQ(session.Count(Counter::kFramesMalformed), 1u);
  session.Send(0, HeadersFrame(3, HpackIndexed(3)));
  EXPECT_THAT(session.log.lines.back(), HasSubstr(">3 headers"));
}

}  // namespace
}  // namespace keytrail::testing
