// The caps of what waits for a name, hit: told, counted, and the next one is named. docs/limits.md lists
// them.
#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

constexpr uint64_t kTs = 470661668192388056;

std::string Get(std::string_view key) {
  return Proto().Message(1, Context(16)).Text(2, key).Varint(3, kTs).bytes();
}
// Fits several methods, so it is never proved.
std::string Ambiguous(std::string_view key) {
  return Proto().Message(1, Context(16)).Text(2, key).bytes();
}

void HiddenCall(CallHarness& h, uint32_t stream, uint32_t slot, std::string_view request,
                std::string_view response) {
  h.HiddenRequest(stream, slot);
  h.Data(true, stream, Framed(request), true);
  h.Response(stream);
  h.Data(false, stream, Framed(response));
  h.Trailers(stream);
}

// Calls of a slot that nobody has used are named still.
void ExpectNamed(CallHarness& h, uint32_t stream, uint32_t slot) {
  for (uint32_t i = 0; i < 3; ++i) HiddenCall(h, stream + 2 * i, slot, Get("alive"), GetResponse("v"));
  EXPECT_EQ(h.log.calls.back().method, "/tikvpb.Tikv/KvGet");
  EXPECT_EQ(h.log.calls.back().first_key, "alive");
  EXPECT_EQ(h.log.calls.back().incomplete, 0u);
}

TEST(NamelessCaps, BytesThatWait) {
  CallHarness h({}, Protocol::kHttp2Late);
  const std::string request = Ambiguous(std::string(limits::kMaxWaitingBytes / 4, 'k'));
  for (uint32_t i = 0; i < 3; ++i) HiddenCall(h, 21 + 2 * i, 70, request, "");
  EXPECT_EQ(h.counters.Get(Counter::kCapWaiting), 0u);
  EXPECT_EQ(h.log.calls.size(), 0u);
  HiddenCall(h, 27, 70, request, "");
  EXPECT_EQ(h.counters.Get(Counter::kCapWaiting), 1u);
  ASSERT_EQ(h.log.calls.size(), 4u);
  EXPECT_EQ(h.log.calls[0].method, "");
  EXPECT_EQ(h.log.calls[0].req_bytes, request.size());
  ExpectNamed(h, 31, 80);
}

TEST(NamelessCaps, SlotsOfATable) {
  CallHarness h({}, Protocol::kHttp2Late);
  const auto n = static_cast<uint32_t>(limits::kMaxNamedSlots);
  for (uint32_t i = 0; i < n; ++i) HiddenCall(h, 21 + 2 * i, 70 + i, Ambiguous("k"), "");
  EXPECT_EQ(h.counters.Get(Counter::kCapWaiting), 0u);
  EXPECT_EQ(h.log.calls.size(), 0u);
  // The call of one slot more is told at once, without a name; the slots that are known go on.
  HiddenCall(h, 21 + 2 * n, 70 + n, Get("k"), GetResponse("v"));
  EXPECT_GT(h.counters.Get(Counter::kCapWaiting), 0u);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].method, "");
  h.UnaryCall(23 + 2 * n, "/tikvpb.Tikv/KvGet", Get("alive"), GetResponse("v"));
  EXPECT_EQ(h.log.calls.back().first_key, "alive");
}

TEST(NamelessCaps, SlotsThatAreIdleMakeRoom) {
  CallHarness h({}, Protocol::kHttp2Late);
  const auto n = static_cast<uint32_t>(limits::kMaxNamedSlots);
  // As after many losses, each of which brought new numbers.
  for (uint32_t i = 0; i < 3 * n; ++i) {
    const uint32_t stream = 21 + 6 * i;
    for (uint32_t call = 0; call < 3; ++call) {
      HiddenCall(h, stream + 2 * call, 70 + i, Get("k"), GetResponse("v"));
      EXPECT_EQ(h.log.calls.size(), call == 0 ? 3 * i : 3 * i + call + 1);
    }
  }
  EXPECT_EQ(h.counters.Get(Counter::kCapWaiting), 0u);
  for (const SeenCall& call : h.log.calls) EXPECT_EQ(call.method, "/tikvpb.Tikv/KvGet");
}

TEST(NamelessCaps, CallsThatAreListenedTo) {
  CallHarness h({}, Protocol::kHttp2Late);
  const uint32_t n = limits::kMaxObserved + limits::kMaxAmended + 10;
  for (uint32_t i = 0; i < n; ++i) HiddenCall(h, 21 + 2 * i, 70, Ambiguous("k"), "");
  EXPECT_EQ(h.log.calls.size(), n);
  EXPECT_EQ(h.counters.Get(Counter::kCallsUnknown), n);
  // Given up: even what would prove a name is not heard.
  for (uint32_t i = 0; i < 3; ++i) HiddenCall(h, 21 + 2 * (n + i), 70, Get("late"), GetResponse("v"));
  EXPECT_EQ(h.log.calls.back().method, "");
  EXPECT_EQ(h.counters.Get(Counter::kAmendments), 0u);
  ExpectNamed(h, 31 + 2 * n, 80);
}

TEST(NamelessCaps, Servers) {
  CallHarness h;
  for (uint32_t i = 0; i < limits::kMaxServers + 5; ++i) {
    // The name of a server is in its address.
    h.key.b.address.bytes[1] = static_cast<uint8_t>(i >> 16);
    h.key.b.address.bytes[2] = static_cast<uint8_t>(i >> 8);
    h.key.b.address.bytes[3] = static_cast<uint8_t>(i);
    h.decoder.OnHttp2(h.connection, Protocol::kHttp2Start, h.client, TimeNs{h.now});
    h.UnaryCall(1, "/tikvpb.Tikv/KvGet", Get("k"), GetResponse("v"));
    h.End();
  }
  EXPECT_EQ(h.log.calls.size(), limits::kMaxServers + 5);
  EXPECT_EQ(h.log.calls.back().first_key, "k");
  h.decoder.OnHttp2(h.connection, Protocol::kHttp2Late, h.client, TimeNs{h.now});
  ExpectNamed(h, 21, 70);
}

}  // namespace
}  // namespace keytrail::testing
