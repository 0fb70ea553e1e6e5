// The caps that all connections share, and those of the facts of one message; caps_test.cc has the others.
// docs/limits.md lists them.
#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kGet = "/tikvpb.Tikv/KvGet";
constexpr std::string_view kBatchGet = "/tikvpb.Tikv/KvBatchGet";
constexpr std::string_view kBatch = "/tikvpb.Tikv/BatchCommands";

void ExpectAlive(CallHarness& h, uint32_t stream) {
  h.UnaryCall(stream, kGet, GetRequest(16, "alive"), GetResponse("v"));
  EXPECT_EQ(h.log.calls.back().first_key, "alive");
  EXPECT_EQ(h.log.calls.back().incomplete, 0u);
}

// Another connection of the same decoder.
void NextConnection(CallHarness& h) {
  ++h.connection.slot;
  ++h.connection.serial;
  h.decoder.OnHttp2(h.connection, Protocol::kHttp2Start, h.client, TimeNs{h.now});
}

TEST(TotalCaps, StreamsOfAllConnections) {
  CallHarness h;
  const uint32_t connections = limits::kMaxStreams / limits::kMaxStreamsPerConnection;
  for (uint32_t c = 0; c < connections; ++c) {
    if (c != 0) NextConnection(h);
    for (uint32_t i = 0; i < limits::kMaxStreamsPerConnection; ++i) h.Request(2 * i + 1, kGet);
  }
  EXPECT_EQ(h.counters.Get(Counter::kCapStreams), 0u);
  // A connection that comes now has one stream at a time, so that its calls are told.
  NextConnection(h);
  for (uint32_t i = 0; i < 5; ++i) h.Request(2 * i + 1, kGet);
  EXPECT_EQ(h.counters.Get(Counter::kCapStreams), 4u);
  ASSERT_EQ(h.log.calls.size(), 4u);
  EXPECT_EQ(h.log.calls[3].stream, 7u);
  EXPECT_EQ(h.log.calls[3].incomplete & kOverCap, kOverCap);
  h.Reset(true, 9);
  ExpectAlive(h, 11);
}

TEST(TotalCaps, RequestsThatWaitOnAllStreams) {
  CallHarness h;
  const auto streams =
      static_cast<uint32_t>(limits::kMaxPendingRequests / limits::kMaxPendingRequestsPerStream);
  std::vector<Command> commands;
  for (uint64_t id = 1; id <= 1024; ++id) commands.push_back({id, 255, ""});
  for (uint32_t s = 0; s <= streams; ++s) {
    h.Request(2 * s + 1, kBatch);
    h.Response(2 * s + 1);
    if (s == streams) break;
    for (uint64_t sent = 0; sent < limits::kMaxPendingRequestsPerStream; sent += commands.size()) {
      h.Data(true, 2 * s + 1, Framed(Batch(commands)));
      for (Command& command : commands) command.id += commands.size();
    }
  }
  EXPECT_EQ(h.counters.Get(Counter::kCapPendingRequests), 0u);
  const uint32_t last = 2 * streams + 1;
  h.Data(true, last, Framed(Batch({{1, 255, ""}, {2, 255, ""}, {3, 255, ""}})));
  EXPECT_EQ(h.counters.Get(Counter::kCapPendingRequests), 2u);
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[1].id, 2u);
  EXPECT_EQ(h.log.calls[1].incomplete & kOverCap, kOverCap);
  // The youngest of each stream is still there.
  h.Data(false, last, Framed(Batch({{3, 255, ""}})));
  EXPECT_EQ(h.log.calls[2].incomplete, 0u);
  ExpectAlive(h, last + 2);
}

TEST(TotalCaps, FactsThatWait) {
  CallHarness h;
  h.Request(1, kBatch);
  h.Response(1);
  Proto request;
  const std::string key(1u << 20, 'k');
  for (int i = 0; i < 7; ++i) request.Text(2, key);
  const uint64_t fit = limits::kMaxHeldFactBytes / (7u << 20);
  uint64_t id = 0;
  while (id < fit + 4) {
    ++id;
    h.Data(true, 1, Framed(Batch({{id, 7, request.bytes()}})));
  }
  const uint64_t dropped = h.counters.Get(Counter::kCapFacts);
  EXPECT_GE(dropped, 3u);
  EXPECT_LE(dropped, 12u);
  // The first kept its facts, the last lost them; both are told with their bytes.
  Proto response;
  h.Data(false, 1, Framed(Batch({{1, 7, response.bytes()}, {id, 7, response.bytes()}})));
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[0].first_key.size(), key.size());
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
  EXPECT_EQ(h.log.calls[1].first_key, "");
  EXPECT_EQ(h.log.calls[1].incomplete, kOverCap);
  EXPECT_EQ(h.log.calls[1].req_bytes, request.bytes().size());
  h.Reset(true, 1);
  ExpectAlive(h, 3);
}

// What does not fit the facts of one message is counted once and told in its record.
TEST(TotalCaps, FactsOfAMessage) {
  CallHarness h;
  Proto keys;
  for (size_t i = 0; i < limits::kMaxKeysPerMessage + 1; ++i) keys.Text(2, "k");
  Proto bytes;
  for (size_t i = 0; i < limits::kMaxFactBytesPerMessage / (1u << 20) + 1; ++i) {
    bytes.Text(2, std::string(1u << 20, 'k'));
  }
  uint64_t counted = 0;
  uint32_t stream = 1;
  for (const Proto& request : {keys, bytes}) {
    h.UnaryCall(stream, kBatchGet, request.bytes(), "");
    EXPECT_EQ(h.counters.Get(Counter::kCapFacts), ++counted);
    EXPECT_EQ(h.log.calls.back().incomplete, kOverCap);
    EXPECT_TRUE(h.log.calls.back().has_request);
    stream += 2;
  }
  ExpectAlive(h, stream);
}

// Names of methods are kept for the whole run: their bytes are bounded too.
TEST(TotalCaps, BytesOfForeignNames) {
  CallHarness h;
  const std::string tail(60000, 'm');
  const auto fit = static_cast<uint32_t>(limits::kMaxForeignMethodBytes / (tail.size() + 20));
  uint32_t stream = 1;
  for (uint32_t i = 0; i < fit + 5; ++i, stream += 2) {
    h.UnaryCall(stream, "/foreign/" + std::to_string(i) + tail, "a", "b");
  }
  EXPECT_GE(h.decoder.counts_from_start().size(), fit);
  EXPECT_LT(h.decoder.counts_from_start().size(), fit + 3);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
  EXPECT_EQ(h.log.calls.back().method, "");
  EXPECT_EQ(h.log.calls.back().incomplete, kOverCap);
  ExpectAlive(h, stream);
}

}  // namespace
}  // namespace keytrail::testing
