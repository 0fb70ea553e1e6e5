// TcpTracker against random byte streams that were cut, shuffled, repeated, overlapped and thinned out. The
// oracle is the stream itself.

#include "agent/tcp/tcp_tracker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "common/limits.h"

namespace keytrail {
namespace {

struct Event {
  char kind = 0;  // 'o'pen, 'b'ytes, 'g'ap, 'c'lose
  int direction = -1;
  uint64_t offset = 0;
  uint64_t length = 0;
  TimeNs time;
  CloseReason reason = CloseReason::kFin;
  int8_t opened_by = -1;
};

class RecordingSink final : public ByteSink {
 public:
  void OnOpen(const ConnectionRef& c, TimeNs time) override {
    events.push_back({'o', -1, 0, 0, time, CloseReason::kFin, c.opened_by});
  }
  void OnBytes(const ConnectionRef&, int direction, TimeNs time, uint64_t offset, Bytes bytes) override {
    EXPECT_FALSE(bytes.empty());
    EXPECT_EQ(offset, seen[direction]);
    seen[direction] += bytes.size();
    // A gap stands as one mark per byte, so that positions stay comparable.
    text[direction].append(AsText(bytes));
    events.push_back({'b', direction, offset, bytes.size(), time, CloseReason::kFin, -1});
  }
  void OnGap(const ConnectionRef&, int direction, TimeNs time, uint64_t offset, uint64_t length) override {
    EXPECT_EQ(offset, seen[direction]);
    seen[direction] += length;
    gap_bytes[direction] += length;
    text[direction].append(length < 1 << 20 ? length : 0, '\0');
    events.push_back({'g', direction, offset, length, time, CloseReason::kFin, -1});
  }
  void OnClose(const ConnectionRef&, TimeNs time, CloseReason reason) override {
    events.push_back({'c', -1, 0, 0, time, reason, -1});
  }
  size_t Count(char kind) const {
    return static_cast<size_t>(
        std::count_if(events.begin(), events.end(), [&](auto& e) { return e.kind == kind; }));
  }

  std::vector<Event> events;
  std::string text[2];
  uint64_t seen[2] = {0, 0};
  uint64_t gap_bytes[2] = {0, 0};
};

struct Packet {
  Segment segment;
  std::string payload;
};

Endpoint Client() {
  return {{{10, 0, 0, 1}, 4}, 40000};
}
Endpoint Server() {
  return {{{10, 0, 0, 2}, 4}, 20160};
}

Packet Make(bool from_client, uint32_t sequence, uint32_t acknowledgement, uint8_t flags, std::string payload,
            int64_t time_ns) {
  Packet p;
  p.payload = std::move(payload);
  p.segment.time = TimeNs{time_ns};
  p.segment.source = from_client ? Client() : Server();
  p.segment.destination = from_client ? Server() : Client();
  p.segment.sequence = sequence;
  p.segment.acknowledgement = acknowledgement;
  p.segment.flags = flags;
  p.segment.payload_length = static_cast<uint32_t>(p.payload.size());
  return p;
}

void Feed(TcpTracker& tracker, const Packet& p) {
  Segment segment = p.segment;
  segment.payload = AsBytes(p.payload).first(std::min(p.payload.size(), size_t{segment.payload_length}));
  tracker.OnSegment(segment);
}

void FeedAll(TcpTracker& tracker, const std::vector<Packet>& packets) {
  for (const Packet& p : packets) Feed(tracker, p);
  tracker.Finish();
}

// Printable, never '\0' (which marks gaps).
std::string RandomText(std::mt19937& random, size_t n) {
  std::string text(n, 0);
  for (char& c : text) c = static_cast<char>('!' + random() % 90);
  return text;
}

struct Session {
  std::vector<Packet> packets;
  std::string text[2];
};

// A request/response conversation: each piece of a side acknowledges all that the other has sent.
Session Converse(uint32_t seed, uint32_t client_isn, uint32_t server_isn, bool with_syn, int turns,
                 size_t longest) {
  std::mt19937 random(seed);
  Session s;
  int64_t t = 1'000'000'000;
  uint32_t next[2] = {client_isn + 1, server_isn + 1};
  if (with_syn) {
    s.packets.push_back(Make(true, client_isn, 0, tcp_flag::kSyn, "", t));
    s.packets.push_back(Make(false, server_isn, next[0], tcp_flag::kSyn | tcp_flag::kAck, "", t += 1000));
    s.packets.push_back(Make(true, next[0], next[1], tcp_flag::kAck, "", t += 1000));
  }
  for (int turn = 0; turn < turns; ++turn) {
    for (int side = 0; side < 2; ++side) {
      const int pieces = 1 + static_cast<int>(random() % 4);
      for (int i = 0; i < pieces; ++i) {
        std::string payload = RandomText(random, 1 + random() % longest);
        s.text[side] += payload;
        const auto n = static_cast<uint32_t>(payload.size());
        s.packets.push_back(
            Make(side == 0, next[side], next[1 - side], tcp_flag::kAck, std::move(payload), t += 1000));
        next[side] += n;
      }
      s.packets.push_back(Make(side != 0, next[1 - side], next[side], tcp_flag::kAck, "", t += 500));
    }
  }
  return s;
}

// Nobody moves more than k places away from where it was.
void ShuffleWithin(std::vector<Packet>& packets, size_t k, std::mt19937& random) {
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < packets.size(); ++i) {
    order.emplace_back(static_cast<double>(i) + static_cast<double>(random() % (k * 1000)) / 1000.0, i);
  }
  std::stable_sort(order.begin(), order.end());
  std::vector<Packet> shuffled;
  for (const auto& [rank, i] : order) shuffled.push_back(packets[i]);
  packets = std::move(shuffled);
}

// The order in which single bytes of both directions were delivered, with their times.
std::vector<std::tuple<int, uint64_t, int64_t>> ByteOrder(const RecordingSink& sink) {
  std::vector<std::tuple<int, uint64_t, int64_t>> order;
  for (const Event& e : sink.events) {
    if (e.kind != 'b') continue;
    order.emplace_back(e.direction, e.offset, e.time.ns);
  }
  return order;
}

TEST(TcpTracker, InOrderSessionIsDeliveredByteForByte) {
  const Session s = Converse(1, 100, 900, true, 20, 300);
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  FeedAll(tracker, s.packets);
  EXPECT_EQ(sink.text[0], s.text[0]);
  EXPECT_EQ(sink.text[1], s.text[1]);
  EXPECT_EQ(sink.Count('o'), 1u);
  EXPECT_EQ(sink.Count('c'), 1u);
  EXPECT_EQ(sink.events.front().opened_by, 0);
  EXPECT_EQ(counters.Get(Counter::kGaps), 0u);
}

// A pause in the middle: before it all that came, held bytes behind a hole too; after it a connection that
// was joined late, whatever the sequence numbers say.
TEST(TcpTracker, ForgottenConnectionsAreJoinedLate) {
  const Session s = Converse(7, 100, 900, true, 40, 300);
  const size_t half = s.packets.size() / 2;
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  for (size_t i = 0; i < half; ++i) {
    if (i != half - 4) Feed(tracker, s.packets[i]);  // a hole that is still waited for
  }
  tracker.Forget();
  ASSERT_EQ(sink.Count('o'), 1u);
  ASSERT_EQ(sink.Count('c'), 1u);
  EXPECT_EQ(sink.events.back().kind, 'c');
  EXPECT_EQ(sink.events.back().reason, CloseReason::kForgotten);
  const std::string before[2] = {sink.text[0], sink.text[1]};
  for (int d = 0; d < 2; ++d) {
    ASSERT_LE(before[d].size(), s.text[d].size());
    for (size_t i = 0; i < before[d].size(); ++i) {
      if (before[d][i] != '\0') {
        ASSERT_EQ(before[d][i], s.text[d][i]) << d << " " << i;
      }
    }
    sink.text[d].clear();
    sink.seen[d] = 0;
  }
  tracker.Forget();  // nothing is open: nothing happens
  ASSERT_EQ(sink.Count('c'), 1u);
  sink.events.clear();
  for (size_t i = half; i < s.packets.size(); ++i) Feed(tracker, s.packets[i]);
  tracker.Finish();
  ASSERT_EQ(sink.Count('o'), 1u);
  EXPECT_EQ(sink.events.front().opened_by, -1);
  for (int d = 0; d < 2; ++d) {
    EXPECT_FALSE(sink.text[d].empty());
    EXPECT_TRUE(s.text[d].ends_with(sink.text[d])) << d;
    EXPECT_LE(before[d].size() + sink.text[d].size(), s.text[d].size()) << "delivered twice";
  }
}

TEST(TcpTracker, ShuffledPacketsChangeNothing) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    for (const bool with_syn : {true, false}) {
      // Sequence numbers close to 2^32 wrap within the session.
      const Session s = Converse(seed, 0xFFFFF000u + seed, 0xFFFFFF00u - seed, with_syn, 60, 200);
      RecordingSink straight;
      Counters counters;
      TcpTracker first(straight, counters);
      FeedAll(first, s.packets);
      ASSERT_EQ(straight.text[0], s.text[0]);
      for (const size_t k : {5u, 50u}) {
        std::mt19937 random(seed * 7 + static_cast<uint32_t>(k));
        std::vector<Packet> packets = s.packets;
        ShuffleWithin(packets, k, random);
        RecordingSink sink;
        TcpTracker tracker(sink, counters);
        FeedAll(tracker, packets);
        ASSERT_EQ(sink.text[0], s.text[0]) << "seed " << seed << " k " << k << " syn " << with_syn;
        ASSERT_EQ(sink.text[1], s.text[1]) << "seed " << seed << " k " << k << " syn " << with_syn;
        ASSERT_EQ(sink.gap_bytes[0] + sink.gap_bytes[1], 0u);
        // The same bytes with the same times in the same order, both directions together.
        ASSERT_EQ(ByteOrder(sink), ByteOrder(straight))
            << "seed " << seed << " k " << k << " syn " << with_syn;
      }
    }
  }
}

TEST(TcpTracker, RepeatedAndOverlappingSegmentsAreDeliveredOnce) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    const Session s = Converse(seed, 5, 7, true, 30, 200);
    std::mt19937 random(seed);
    std::vector<Packet> packets;
    uint32_t base[2] = {6, 8};
    for (const Packet& p : s.packets) {
      packets.push_back(p);
      const int side = p.segment.source == Client() ? 0 : 1;
      if (p.payload.empty() || random() % 3 != 0) continue;
      // Again, with up to 100 bytes of what came before.
      Packet again = p;
      const uint32_t at = p.segment.sequence - base[side];
      const uint32_t more = std::min(at, static_cast<uint32_t>(random() % 100));
      again.payload = s.text[side].substr(at - more, more + p.payload.size());
      again.segment.sequence -= more;
      again.segment.payload_length = static_cast<uint32_t>(again.payload.size());
      packets.push_back(again);
    }
    ShuffleWithin(packets, 3, random);
    RecordingSink sink;
    Counters counters;
    TcpTracker tracker(sink, counters);
    FeedAll(tracker, packets);
    ASSERT_EQ(sink.text[0], s.text[0]) << seed;
    ASSERT_EQ(sink.text[1], s.text[1]) << seed;
    ASSERT_GT(counters.Get(Counter::kSegmentsRetransmitted) + counters.Get(Counter::kSegmentsOverlapping),
              0u);
  }
}

TEST(TcpTracker, LostSegmentsAreGapsOfExactlyTheirBytes) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    const Session s = Converse(seed, 0xFFFFFE00u, 1000, true, 400, 100);
    std::mt19937 random(seed);
    std::string expected[2] = {s.text[0], s.text[1]};
    std::vector<Packet> packets;
    const uint32_t base[2] = {0xFFFFFE01u, 1001};
    uint64_t lost = 0;
    size_t last_of[2] = {0, 0};
    for (size_t i = 0; i < s.packets.size(); ++i) {
      if (!s.packets[i].payload.empty()) last_of[s.packets[i].segment.source == Client() ? 0 : 1] = i;
    }
    for (size_t i = 0; i < s.packets.size(); ++i) {
      const Packet& p = s.packets[i];
      const int side = p.segment.source == Client() ? 0 : 1;
      // The last segment of a side leaves no trace when it is lost.
      if (!p.payload.empty() && i != last_of[side] && random() % 20 == 0) {
        const uint32_t at = p.segment.sequence - base[side];
        std::fill_n(expected[side].begin() + at, p.payload.size(), '\0');
        lost += p.payload.size();
        continue;
      }
      packets.push_back(p);
    }
    RecordingSink sink;
    Counters counters;
    TcpTracker tracker(sink, counters);
    FeedAll(tracker, packets);
    ASSERT_EQ(sink.text[0], expected[0]) << seed;
    ASSERT_EQ(sink.text[1], expected[1]) << seed;
    EXPECT_EQ(counters.Get(Counter::kGapBytes), lost);
    EXPECT_EQ(sink.gap_bytes[0] + sink.gap_bytes[1], lost);
  }
}

TEST(TcpTracker, SnapshotLengthCutsAreGaps) {
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  Feed(tracker, Make(true, 10, 0, tcp_flag::kSyn, "", 1));
  Feed(tracker, Make(false, 20, 11, tcp_flag::kSyn | tcp_flag::kAck, "", 2));
  Packet cut = Make(true, 11, 21, tcp_flag::kAck, "abc", 3);
  cut.segment.payload_length = 10;
  Segment segment = cut.segment;
  segment.payload = AsBytes(cut.payload);
  tracker.OnSegment(segment);
  Feed(tracker, Make(true, 21, 21, tcp_flag::kAck, "xyz", 4));
  tracker.Finish();
  EXPECT_EQ(sink.text[0], std::string("abc") + std::string(7, '\0') + "xyz");
}

TEST(TcpTracker, OneDirectionAlone) {
  for (const bool with_syn : {true, false}) {
    const Session s = Converse(3, 100, 200, with_syn, 100, 100);
    for (int side = 0; side < 2; ++side) {
      std::vector<Packet> packets;
      for (const Packet& p : s.packets) {
        if ((p.segment.source == Client() ? 0 : 1) == side) packets.push_back(p);
      }
      RecordingSink sink;
      Counters counters;
      TcpTracker tracker(sink, counters);
      FeedAll(tracker, packets);
      EXPECT_EQ(sink.text[side], s.text[side]);
      // After a SYN-ACK the other side's first number is known, and so its bytes are known to be missing.
      if (!with_syn) {
        EXPECT_EQ(sink.gap_bytes[1 - side], 0u);
      }
      EXPECT_EQ(sink.gap_bytes[side], 0u);
    }
  }
}

TEST(TcpTracker, ReusedPortsAreANewConnection) {
  const Session first = Converse(1, 1000, 5000, true, 5, 50);
  const Session second = Converse(2, 900000, 700000, true, 5, 50);
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  for (const Packet& p : first.packets) Feed(tracker, p);
  const uint64_t seen[2] = {sink.seen[0], sink.seen[1]};
  EXPECT_EQ(seen[0], first.text[0].size());
  sink.seen[0] = sink.seen[1] = 0;  // offsets of the second connection begin at 0 again
  FeedAll(tracker, second.packets);
  EXPECT_EQ(sink.text[0], first.text[0] + second.text[0]);
  EXPECT_EQ(sink.text[1], first.text[1] + second.text[1]);
  EXPECT_EQ(sink.Count('o'), 2u);
  ASSERT_EQ(sink.Count('c'), 2u);
  const auto close =
      std::find_if(sink.events.begin(), sink.events.end(), [](auto& e) { return e.kind == 'c'; });
  EXPECT_EQ(close->reason, CloseReason::kReplaced);
}

TEST(TcpTracker, FinOfBothSidesEndsIt) {
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  Feed(tracker, Make(true, 10, 0, tcp_flag::kSyn, "", 1));
  Feed(tracker, Make(false, 20, 11, tcp_flag::kSyn | tcp_flag::kAck, "", 2));
  Feed(tracker, Make(true, 11, 21, tcp_flag::kAck | tcp_flag::kFin, "hello", 3));
  Feed(tracker, Make(false, 21, 17, tcp_flag::kAck, "world", 4));
  EXPECT_EQ(sink.Count('c'), 0u);
  Feed(tracker, Make(false, 26, 17, tcp_flag::kAck | tcp_flag::kFin, "", 5));
  ASSERT_EQ(sink.Count('c'), 1u);
  EXPECT_EQ(sink.events.back().reason, CloseReason::kFin);
  // Stragglers are no new connection.
  Feed(tracker, Make(true, 17, 27, tcp_flag::kAck, "", 6));
  Feed(tracker, Make(false, 21, 17, tcp_flag::kAck, "world", 7));
  tracker.Finish();
  EXPECT_EQ(sink.Count('o'), 1u);
  EXPECT_EQ(sink.text[1], "world");
}

TEST(TcpTracker, ResetDeliversWhatCameBeforeIt) {
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  Feed(tracker, Make(true, 10, 0, tcp_flag::kSyn, "", 1));
  Feed(tracker, Make(false, 20, 11, tcp_flag::kSyn | tcp_flag::kAck, "", 2));
  Feed(tracker, Make(false, 26, 16, tcp_flag::kAck | tcp_flag::kRst, "", 5));
  Feed(tracker, Make(false, 21, 16, tcp_flag::kAck, "reply", 4));
  Feed(tracker, Make(true, 11, 21, tcp_flag::kAck, "hello", 3));
  tracker.Finish();
  EXPECT_EQ(sink.text[0], "hello");
  EXPECT_EQ(sink.text[1], "reply");
  ASSERT_EQ(sink.Count('c'), 1u);
  EXPECT_EQ(sink.events.back().reason, CloseReason::kReset);
}

TEST(TcpTracker, KeepAlivesAndBareAcknowledgementsTellNothing) {
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  Feed(tracker, Make(true, 500, 600, tcp_flag::kAck, "", 1));
  Feed(tracker, Make(false, 600, 500, tcp_flag::kAck | tcp_flag::kFin, "", 2));
  tracker.Finish();
  EXPECT_TRUE(sink.events.empty());
}

TEST(TcpTracker, HeldBytesAreBounded) {
  // A hole that is never acknowledged and never filled, with far more behind it than may be held.
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  Feed(tracker, Make(true, 0, 0, tcp_flag::kSyn, "", 1));
  Feed(tracker, Make(false, 100, 1, tcp_flag::kSyn | tcp_flag::kAck, "", 2));
  const std::string block(60000, 'x');
  uint32_t sequence = 1 + 1000;
  uint64_t sent = 0;
  for (int64_t i = 0; sent < limits::kMaxHeldBytesPerDirection + 600000; ++i) {
    Feed(tracker, Make(true, sequence, 101, tcp_flag::kAck, block, 3 + i));
    sequence += static_cast<uint32_t>(block.size());
    sent += block.size();
  }
  EXPECT_GE(counters.Get(Counter::kCapHeldBytes), 1u);
  EXPECT_EQ(sink.gap_bytes[0], 1000u);
  tracker.Finish();
  EXPECT_EQ(sink.seen[0], sent + 1000);
}

TEST(TcpTracker, ConnectionsAreBounded) {
  RecordingSink sink;
  Counters counters;
  TcpTracker tracker(sink, counters);
  const size_t n = limits::kMaxConnections + 100;
  for (size_t i = 0; i < n; ++i) {
    Packet p = Make(true, 0, 0, tcp_flag::kSyn, "", static_cast<int64_t>(i));
    p.segment.source.port = static_cast<uint16_t>(i);
    p.segment.source.address.bytes[3] = static_cast<uint8_t>(i >> 16);
    Feed(tracker, p);
  }
  EXPECT_GE(counters.Get(Counter::kCapConnections), 1u);
  tracker.Finish();
  EXPECT_EQ(sink.Count('o'), n);
  EXPECT_EQ(sink.Count('c'), n);
}

TEST(TcpTracker, RandomSegmentsNeverBreakTheOrderOfOffsets) {
  // Garbage: RecordingSink checks that offsets never go back or jump without a gap.
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    RecordingSink sink;
    class Checker final : public ByteSink {
     public:
      void OnOpen(const ConnectionRef&, TimeNs) override { at[0] = at[1] = 0; }
      void OnBytes(const ConnectionRef&, int d, TimeNs, uint64_t offset, Bytes b) override {
        EXPECT_EQ(offset, at[d]);
        at[d] += b.size();
      }
      void OnGap(const ConnectionRef&, int d, TimeNs, uint64_t offset, uint64_t n) override {
        EXPECT_EQ(offset, at[d]);
        EXPECT_LE(n, 1u << 30);
        at[d] += n;
      }
      void OnClose(const ConnectionRef&, TimeNs, CloseReason) override {}
      uint64_t at[2] = {0, 0};
    } checker;
    Counters counters;
    TcpTracker tracker(checker, counters);
    for (int i = 0; i < 5000; ++i) {
      const uint32_t near =
          random() % 4 == 0 ? static_cast<uint32_t>(random()) : static_cast<uint32_t>(random() % 5000);
      const uint8_t flags = random() % 50 == 0 ? static_cast<uint8_t>(random()) : uint8_t{tcp_flag::kAck};
      Feed(tracker, Make(random() % 2 == 0, near, static_cast<uint32_t>(random() % 5000), flags,
                         std::string(random() % 300, 'x'), i * int64_t{1000000}));
    }
    tracker.Finish();
  }
}

}  // namespace
}  // namespace keytrail
