// Every cap and threshold of the TCP room, hit on both sides of its edge: a counter, an honest event, and a
// tracker that goes on. docs/limits.md lists them.

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "agent/tcp/tcp_tracker.h"
#include "common/limits.h"

namespace keytrail {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kStart = 1000 * kSecond;

// Counts what is told, and that offsets have no hole that was not told.
class Tally final : public ByteSink {
 public:
  struct Connection {
    uint64_t at[2] = {0, 0};
    uint64_t bytes = 0;
    uint64_t gap_bytes = 0;
    bool closed = false;
    CloseReason reason = CloseReason::kFin;
  };
  void OnOpen(const ConnectionRef& c, TimeNs) override { told[c.serial]; }
  void OnBytes(const ConnectionRef& c, int d, TimeNs, uint64_t offset, Bytes b) override {
    EXPECT_EQ(offset, told[c.serial].at[d]);
    told[c.serial].at[d] += b.size();
    told[c.serial].bytes += b.size();
    newest = ToString(b);
  }
  void OnGap(const ConnectionRef& c, int d, TimeNs, uint64_t offset, uint64_t n) override {
    EXPECT_EQ(offset, told[c.serial].at[d]);
    told[c.serial].at[d] += n;
    told[c.serial].gap_bytes += n;
  }
  void OnClose(const ConnectionRef& c, TimeNs, CloseReason reason) override {
    told[c.serial].closed = true;
    told[c.serial].reason = reason;
  }
  std::map<uint64_t, Connection> told;
  std::string newest;
};

class TcpCaps : public ::testing::Test {
 protected:
  void Send(uint32_t connection, bool from_client, uint32_t sequence, uint32_t acknowledgement, uint8_t flags,
            const std::string& payload, int64_t ns = kStart) {
    Segment s;
    s.time = TimeNs{ns};
    s.source = {{{10, 0, static_cast<uint8_t>(connection >> 16), 1}, 4}, static_cast<uint16_t>(connection)};
    s.destination = {{{10, 9, 9, 9}, 4}, 20160};
    if (!from_client) std::swap(s.source, s.destination);
    s.sequence = sequence;
    s.acknowledgement = acknowledgement;
    s.flags = flags;
    s.payload = AsBytes(payload);
    s.payload_length = static_cast<uint32_t>(payload.size());
    tracker.OnSegment(s);
  }
  // Both SYNs: the next numbers are 1 and 101.
  void Open(uint32_t connection, int64_t ns = kStart) {
    Send(connection, true, 0, 0, tcp_flag::kSyn, "", ns);
    Send(connection, false, 100, 1, tcp_flag::kSyn | tcp_flag::kAck, "", ns);
  }
  void Data(uint32_t connection, uint32_t sequence, const std::string& payload, int64_t ns = kStart) {
    Send(connection, true, sequence, 101, tcp_flag::kAck, payload, ns);
  }
  void Close(uint32_t connection, int64_t ns = kStart) {
    Send(connection, true, 1, 101, tcp_flag::kFin | tcp_flag::kAck, "", ns);
    Send(connection, false, 101, 2, tcp_flag::kFin | tcp_flag::kAck, "", ns);
  }
  void ExpectAlive() {
    Open(0xABCDE, now_);
    Data(0xABCDE, 1, "alive", now_);
    EXPECT_EQ(sink.newest, "alive");
  }

  int64_t now_ = kStart;
  Tally sink;
  Counters counters;
  TcpTracker tracker{sink, counters};
};

TEST_F(TcpCaps, HeldSegmentsOfADirection) {
  // One byte, one hole, one byte, … upwards, and downwards on a second connection.
  Open(1);
  Open(2);
  const uint32_t n = limits::kMaxHeldSegmentsPerDirection + 100;
  for (uint32_t i = 0; i < n; ++i) Data(1, 3 + 2 * i, "x");
  EXPECT_EQ(counters.Get(Counter::kCapHeldSegments), 100u);
  EXPECT_EQ(counters.Get(Counter::kCapHeldBytes), 0u);
  EXPECT_EQ(counters.Get(Counter::kGaps), 100u);
  for (uint32_t i = 0; i < n; ++i) Data(2, 3 + 2 * (n - i), "x");
  EXPECT_GT(counters.Get(Counter::kCapHeldSegments), 100u);
  ExpectAlive();
  tracker.Finish();
  EXPECT_EQ(sink.told.begin()->second.bytes, n);
  // 2 is the first number that is missing; the last byte lies at 3 + 2 * (n - 1).
  EXPECT_EQ(sink.told.begin()->second.gap_bytes, n + 1);
}

TEST_F(TcpCaps, HeldBytesOfAllConnections) {
  const std::string block(60000, 'x');
  const uint32_t blocks = 56;  // 3.5 MiB as allocated, below the cap of a direction
  const uint32_t n = 24;
  for (uint32_t c = 1; c <= n; ++c) {
    Open(c);
    for (uint32_t i = 0; i < blocks; ++i) Data(c, 1001 + i * 60000, block);
  }
  EXPECT_GT(counters.Get(Counter::kCapHeldBytes), 0u);
  EXPECT_EQ(counters.Get(Counter::kCapHeldSegments), 0u);
  // Those that have waited longest gave way, the youngest wait on.
  EXPECT_EQ(sink.told.begin()->second.gap_bytes, 1000u);
  EXPECT_EQ(std::prev(sink.told.end())->second.gap_bytes, 0u);
  ExpectAlive();
  tracker.Finish();
  EXPECT_EQ(sink.told.size(), n + 1);
  for (const auto& [serial, c] : sink.told) {
    EXPECT_EQ(c.bytes, serial == std::prev(sink.told.end())->first ? 5 : uint64_t{blocks} * 60000);
  }
}

TEST_F(TcpCaps, Connections) {
  const uint32_t n = limits::kMaxConnections + 7;
  for (uint32_t c = 1; c <= n; ++c) Open(c);
  EXPECT_EQ(counters.Get(Counter::kCapConnections), 7u);
  EXPECT_EQ(sink.told.begin()->second.reason, CloseReason::kCap);
  ExpectAlive();
}

TEST_F(TcpCaps, ClosedConnectionsThatAreRemembered) {
  const uint32_t n = limits::kMaxClosedConnections + 10;
  for (uint32_t c = 1; c <= n; ++c) {
    Open(c);
    Close(c);
  }
  EXPECT_EQ(counters.Get(Counter::kConnectionsForgotten), 10u);
  // A segment that comes late belongs to a connection that is over; of a forgotten one it looks like a new
  // one.
  Data(n, 1, "late");
  Data(1, 1, "late");
  tracker.Finish();
  EXPECT_EQ(sink.told.size(), n + 1);
  ExpectAlive();
}

TEST_F(TcpCaps, ClosedConnectionsAreForgottenInTime) {
  for (const bool late : {false, true}) {
    const uint32_t c = late ? 2 : 1;
    Open(c, now_);
    Close(c, now_);
    now_ += limits::kClosedConnectionNs + (late ? 1 : -2) * kSecond;
    Open(3, now_);  // the clock goes on
    Data(c, 1, "late", now_);
  }
  tracker.Finish();
  EXPECT_EQ(sink.told.size(), 3u + 1u);  // the second straggler looks like a connection
  EXPECT_EQ(counters.Get(Counter::kConnectionsForgotten), 0u);
}

TEST_F(TcpCaps, IdleConnections) {
  Open(1);
  Data(1, 1, "x");
  Open(2, kStart + limits::kIdleConnectionNs - 2 * kSecond);
  EXPECT_EQ(counters.Get(Counter::kConnectionsIdle), 0u);
  now_ = kStart + limits::kIdleConnectionNs + kSecond;
  Open(3, now_);
  EXPECT_EQ(counters.Get(Counter::kConnectionsIdle), 1u);
  EXPECT_EQ(sink.told.begin()->second.reason, CloseReason::kIdle);
  ExpectAlive();
}

// What is lost to the capture alone is given up after a time, or after a number of segments.
// Of a connection that nobody reads neither holes nor bytes are told, only its end; and then its ports are
// free.
TEST_F(TcpCaps, AConnectionThatIsNotRead) {
  const FlowKey key{{{{10, 0, 0, 1}, 4}, 7}, {{{10, 9, 9, 9}, 4}, 20160}};
  Open(7);
  Data(7, 1, "before");
  Data(7, 100, "held");
  tracker.Disregard(key);
  Data(7, 500, "after");
  Send(7, true, 90'000'000, 80'000'000, tcp_flag::kAck, "far on");
  std::vector<UnreadConnection> unread;
  tracker.TakeUnread(unread);
  ASSERT_EQ(unread.size(), 1u);
  EXPECT_EQ(unread[0].key, key);
  EXPECT_EQ(unread[0].opened_by, 0);
  EXPECT_EQ(unread[0].segments, 2u);
  tracker.TakeUnread(unread);
  EXPECT_EQ(unread[0].segments, 0u);
  Send(7, true, 99'000'000, 90'000'000, tcp_flag::kFin | tcp_flag::kAck, "");
  EXPECT_FALSE(sink.told[1].closed);
  Send(7, false, 90'000'000, 99'000'001, tcp_flag::kFin | tcp_flag::kAck, "");
  EXPECT_TRUE(sink.told[1].closed);
  EXPECT_EQ(sink.told[1].reason, CloseReason::kFin);
  EXPECT_EQ(sink.told[1].bytes, 6u);
  EXPECT_EQ(counters.Get(Counter::kGaps), 0u);
  tracker.TakeUnread(unread);
  EXPECT_TRUE(unread.empty());

  // Ports used again without a FIN: the SYN is enough.
  Open(8);
  Data(8, 1, "x");
  tracker.Disregard({{{{10, 0, 0, 1}, 4}, 8}, {{{10, 9, 9, 9}, 4}, 20160}});
  Send(8, true, 70'000, 0, tcp_flag::kSyn, "");
  Send(8, false, 60'000, 70'001, tcp_flag::kSyn | tcp_flag::kAck, "");
  EXPECT_EQ(sink.told[2].reason, CloseReason::kReplaced);
  Send(8, true, 70'001, 60'001, tcp_flag::kAck, "read again");
  EXPECT_EQ(sink.newest, "read again");

  // Or by a RST; or nothing for long.
  tracker.Disregard({{{{10, 0, 0, 1}, 4}, 8}, {{{10, 9, 9, 9}, 4}, 20160}});
  Send(8, true, 70'500, 60'001, tcp_flag::kRst | tcp_flag::kAck, "");
  EXPECT_EQ(sink.told[3].reason, CloseReason::kReset);
  Open(9);
  Data(9, 1, "x");
  tracker.Disregard({{{{10, 0, 0, 1}, 4}, 9}, {{{10, 9, 9, 9}, 4}, 20160}});
  tracker.Advance(TimeNs{kStart + 2 * limits::kIdleConnectionNs});
  EXPECT_EQ(sink.told[4].reason, CloseReason::kIdle);
  EXPECT_EQ(counters.Get(Counter::kGaps), 0u);
  tracker.TakeUnread(unread);
  EXPECT_TRUE(unread.empty());
}

TEST_F(TcpCaps, HolesInTimeAndInSegments) {
  Open(1);
  Data(1, 5, "kept");
  Send(1, false, 101, 9, tcp_flag::kAck, "");
  for (int64_t i = 1; i < limits::kGapAfterNs / kSecond; ++i) Data(2, 1, "", kStart + i * kSecond);
  EXPECT_EQ(counters.Get(Counter::kGaps), 0u);
  now_ = kStart + limits::kGapAfterNs + 2 * kSecond;
  Data(2, 1, "", now_);
  EXPECT_EQ(counters.Get(Counter::kGaps), 1u);
  EXPECT_EQ(counters.Get(Counter::kGapBytes), 4u);

  Open(3, now_);
  for (uint32_t i = 0; i < limits::kSettleSegments + 1; ++i) Data(2, 1, "", now_);
  Data(3, 5, "kept", now_);
  for (uint32_t i = 0; i < limits::kGapAfterSegments - 2; ++i) {
    Send(3, false, 101, 9, tcp_flag::kAck, "", now_);
  }
  EXPECT_EQ(counters.Get(Counter::kGaps), 1u);
  for (int i = 0; i < 4; ++i) Send(3, false, 101, 9, tcp_flag::kAck, "", now_);
  EXPECT_EQ(counters.Get(Counter::kGaps), 2u);
  ExpectAlive();
}

TEST_F(TcpCaps, WhereALateJoinBegins) {
  // In segments of all connections …
  Data(1, 1000, "first");
  for (uint64_t i = 2; i < limits::kSettleSegments; ++i) Data(2, 1, "");
  EXPECT_TRUE(sink.newest.empty());
  for (int i = 0; i < 3; ++i) Data(2, 1, "");
  EXPECT_EQ(sink.newest, "first");
  // … or in capture time, if some segments have passed,
  Data(3, 1000, "second");
  for (uint64_t i = 0; i < limits::kSettleFewSegments; ++i) Data(2, 1, "");
  tracker.Advance(TimeNs{kStart + limits::kSettleNs - 1});
  EXPECT_EQ(sink.newest, "first");
  tracker.Advance(TimeNs{kStart + limits::kSettleNs});
  EXPECT_EQ(sink.newest, "second");
  // … or after a longer time.
  Data(4, 1000, "third", kStart + limits::kSettleNs);
  const int64_t quiet = kStart + limits::kSettleNs + limits::kSettleQuietNs;
  tracker.Advance(TimeNs{quiet - 1});
  EXPECT_EQ(sink.newest, "second");
  tracker.Advance(TimeNs{quiet});
  EXPECT_EQ(sink.newest, "third");
}

TEST_F(TcpCaps, SequenceNumbersOutsideTheWindow) {
  const auto window = static_cast<uint32_t>(limits::kSequenceWindow);
  Open(1);
  Data(1, 1, "a");
  Data(1, 2 + window + 1, "foreign");
  EXPECT_EQ(counters.Get(Counter::kSegmentsForeign), 1u);
  Data(1, 2, "b");
  Data(1, 3 + window, "within");
  EXPECT_EQ(counters.Get(Counter::kSegmentsForeign), 1u);
  Data(1, 3, "c");
  EXPECT_EQ(sink.newest, "c");
  // A run of foreign ones is a new connection, not before.
  Open(2);
  Data(2, 1, "a");
  uint32_t at = 0x70000000;
  for (int i = 1; i < limits::kForeignSegments; ++i, at += 1) Data(2, at, "y");
  EXPECT_FALSE(std::prev(sink.told.end())->second.closed);
  for (int i = 0; i < 3; ++i, at += 1) Data(2, at, "y");
  EXPECT_TRUE(std::prev(sink.told.end())->second.closed);
  EXPECT_EQ(std::prev(sink.told.end())->second.reason, CloseReason::kReplaced);
  tracker.Finish();
  EXPECT_EQ(sink.told.size(), 3u);
}

}  // namespace
}  // namespace keytrail
