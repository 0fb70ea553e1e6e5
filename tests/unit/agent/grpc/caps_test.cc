// Every cap: hit it, and find a counter, an honest record and a living decoder.
#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/unit/agent/grpc/call_harness.h"
#include "tests/unit/agent/grpc/zlib_writer.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kGet = "/tikvpb.Tikv/KvGet";
constexpr std::string_view kBatch = "/tikvpb.Tikv/BatchCommands";

void ExpectAlive(CallHarness& h, uint32_t stream) {
  h.UnaryCall(stream, kGet, GetRequest(16, "alive"), GetResponse("v"));
  EXPECT_EQ(h.log.calls.back().first_key, "alive");
  EXPECT_EQ(h.log.calls.back().incomplete, 0u);
}

TEST(Caps, StreamsOfAConnection) {
  CallHarness h;
  const uint32_t n = limits::kMaxStreamsPerConnection + 3;
  for (uint32_t i = 0; i < n; ++i) h.Request(2 * i + 1, kGet, true);
  ASSERT_EQ(h.log.calls.size(), 3u);
  EXPECT_EQ(h.log.calls[0].stream, 1u);
  EXPECT_EQ(h.log.calls[0].incomplete & kOverCap, kOverCap);
  EXPECT_EQ(h.counters.Get(Counter::kCapStreams), 3u);
  ExpectAlive(h, 2 * n + 1);
}

TEST(Caps, AMessageThatIsTooLarge) {
  CallHarness h;
  h.Request(1, kGet);
  const uint32_t size = limits::kMaxMessageBytes + 1;
  std::string prefix(5, '\0');
  for (int i = 0; i < 4; ++i) prefix[1 + i] = static_cast<char>(size >> (24 - 8 * i));
  h.Data(true, 1, prefix);
  const std::string part(1u << 20, 'x');
  for (uint32_t sent = 0; sent < size;) {
    const uint32_t n = std::min<uint32_t>(part.size(), size - sent);
    sent += n;
    h.Data(true, 1, std::string_view(part).substr(0, n), sent == size);
  }
  h.TrailersOnly(1, 8);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kOverCap);
  EXPECT_EQ(h.log.calls[0].req_bytes, size);
  EXPECT_FALSE(h.log.calls[0].has_request);
  EXPECT_EQ(h.counters.Get(Counter::kCapMessageBytes), 1u);
  ExpectAlive(h, 3);
}

TEST(Caps, PartialMessagesOfAllStreams) {
  CallHarness h;
  const std::string half(limits::kMaxMessageBytes / 2, 'x');
  std::string prefix(5, '\0');
  for (int i = 0; i < 4; ++i) prefix[1 + i] = static_cast<char>(limits::kMaxMessageBytes >> (24 - 8 * i));
  const uint32_t fit = limits::kMaxPartialBytes / half.size();
  for (uint32_t i = 0; i < fit + 1; ++i) {
    h.Request(2 * i + 1, kGet);
    h.Data(true, 2 * i + 1, prefix + half);
  }
  EXPECT_EQ(h.counters.Get(Counter::kCapPartialBytes), 1u);
  h.Data(true, 2 * fit + 1, half, true);
  h.TrailersOnly(2 * fit + 1, 0);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kOverCap);
  for (uint32_t i = 0; i < fit; ++i) h.Reset(true, 2 * i + 1);
  ExpectAlive(h, 2 * fit + 3);
}

TEST(Caps, ABomb) {
  CallHarness h;
  h.Request(1, kGet, false, "application/grpc", "gzip");
  h.Data(true, 1, Framed(Deflate(std::string(limits::kMaxInflatedBytes + 1, '\0'), true), true), true);
  h.TrailersOnly(1, 8);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kOverCap);
  EXPECT_EQ(h.counters.Get(Counter::kCapInflatedBytes), 1u);
  ExpectAlive(h, 3);
}

TEST(Caps, RequestsThatWaitOnAStream) {
  CallHarness h;
  h.Request(1, kBatch);
  h.Response(1);
  const uint64_t n = limits::kMaxPendingRequestsPerStream + 5;
  for (uint64_t id = 1; id <= n;) {
    std::vector<Command> commands;
    for (int i = 0; i < 128 && id <= n; ++i, ++id) commands.push_back({id, 255, ""});
    h.Data(true, 1, Framed(Batch(commands)));
  }
  ASSERT_EQ(h.log.calls.size(), 5u);
  EXPECT_EQ(h.log.calls[0].id, 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kResponseNotSeen | kOverCap);
  EXPECT_EQ(h.counters.Get(Counter::kCapPendingRequests), 5u);
  // The youngest is still there, the oldest is not.
  h.Data(false, 1, Framed(Batch({{n, 255, ""}, {1, 255, ""}})));
  EXPECT_EQ(h.log.calls[5].incomplete, 0u);
  EXPECT_EQ(h.log.calls[6].incomplete, kRequestNotSeen);
  ExpectAlive(h, 3);
}

TEST(Caps, NamesThatNoSchemaHas) {
  CallHarness h;
  const uint32_t n = limits::kMaxForeignMethods + 2;
  for (uint32_t i = 0; i < n; ++i) h.UnaryCall(2 * i + 1, "/foreign/m" + std::to_string(i), "a", "b");
  EXPECT_EQ(h.decoder.counts_from_start().size(), limits::kMaxForeignMethods);
  EXPECT_EQ(h.log.calls[n - 1].method, "");
  EXPECT_EQ(h.log.calls[n - 1].from, MethodFrom::kUnknown);
  EXPECT_EQ(h.log.calls[n - 1].incomplete, kOverCap);
  ExpectAlive(h, 2 * n + 1);
}

TEST(Caps, TheSearchForAMessage) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.Data(true, 1, std::string("\0\0\x40\0\0", 5));
  const std::string filler(16384, '\x7F');
  for (size_t i = 0; i < limits::kMaxSearchedMessageBytes / filler.size() + 2; ++i) h.Data(true, 1, filler);
  EXPECT_EQ(h.counters.Get(Counter::kCapPartialBytes), 1u);
  h.Data(true, 1, Framed(GetRequest(1, "k")));
  h.End();
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].req_messages, 1u);
}

}  // namespace
}  // namespace keytrail::testing
