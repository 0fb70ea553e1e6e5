// TcpTracker on whole captures of many connections: what is told must not depend on the order in which
// packets were captured, on quiet connections, or on how much is lost. The oracles are the streams that were
// cut up, and the same tracker on the undisturbed capture.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <new>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "agent/tcp/tcp_tracker.h"
#include "common/limits.h"

namespace {
uint64_t allocations = 0;
}  // namespace

// All forms, so that a sanitizer's own never meet these; not inlined, so that the compiler does not see
// free() meet operator new and warn.
#define KEYTRAIL_NOINLINE __attribute__((noinline))
KEYTRAIL_NOINLINE void* operator new(size_t n, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(n);
}
KEYTRAIL_NOINLINE void* operator new(size_t n) {
  if (void* p = operator new(n, std::nothrow)) return p;
  throw std::bad_alloc();
}
KEYTRAIL_NOINLINE void* operator new[](size_t n) {
  return operator new(n);
}
KEYTRAIL_NOINLINE void* operator new[](size_t n, const std::nothrow_t&) noexcept {
  return operator new(n, std::nothrow);
}
KEYTRAIL_NOINLINE void operator delete(void* p) noexcept {
  std::free(p);
}
KEYTRAIL_NOINLINE void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
KEYTRAIL_NOINLINE void operator delete[](void* p) noexcept {
  std::free(p);
}
KEYTRAIL_NOINLINE void operator delete[](void* p, size_t) noexcept {
  std::free(p);
}

namespace keytrail {
namespace {

struct Packet {
  Segment segment;
  std::string payload;
};

struct Side {
  Endpoint endpoint;
  uint32_t next = 0;
  uint32_t peer_next = 0;  // what it acknowledges
};

Endpoint At(uint8_t host, uint16_t port) {
  return {{{10, 0, 0, host}, 4}, port};
}

Packet Make(const Side& from, const Side& to, uint8_t flags, std::string payload, int64_t ns) {
  Packet p;
  p.payload = std::move(payload);
  p.segment.time = TimeNs{ns};
  p.segment.source = from.endpoint;
  p.segment.destination = to.endpoint;
  p.segment.sequence = from.next;
  p.segment.acknowledgement = (flags & tcp_flag::kAck) ? from.peer_next : 0;
  p.segment.flags = flags;
  p.segment.payload_length = static_cast<uint32_t>(p.payload.size());
  return p;
}

// Sends: advances `from`; the peer knows of it at once.
Packet Send(Side& from, Side& to, uint8_t flags, std::string payload, int64_t ns) {
  Packet p = Make(from, to, flags, std::move(payload), ns);
  from.next += p.segment.payload_length;
  if (flags & (tcp_flag::kSyn | tcp_flag::kFin)) ++from.next;
  to.peer_next = from.next;
  return p;
}

void Feed(TcpTracker& tracker, const Packet& p) {
  Segment segment = p.segment;
  segment.payload = AsBytes(p.payload);
  tracker.OnSegment(segment);
}

// All that is told of each connection, in a form that does not depend on how bytes were cut: by address pair
// and by number of the connection on that pair.
class Story final : public ByteSink {
 public:
  struct Told {
    std::string head;
    std::string tail;
    std::string bytes[2];                                // gaps as '\0'
    std::vector<std::pair<uint64_t, int64_t>> times[2];  // (offset, time) where the time changes
    std::vector<std::pair<uint64_t, uint64_t>> seen_of_other[2];
    uint64_t at[2] = {0, 0};
    bool closed = false;
  };

  void OnOpen(const ConnectionRef& c, TimeNs time) override {
    Told& t = told[c.serial];
    EXPECT_TRUE(t.head.empty());
    EXPECT_TRUE(open_slots.insert(c.slot).second) << "slot in use";
    highest_slot = std::max(highest_slot, c.slot);
    t.head = FormatEndpoint(c.key->a) + " " + FormatEndpoint(c.key->b) + " opened by " +
             std::to_string(c.opened_by) + " at " + std::to_string(time.ns);
  }
  void OnBytes(const ConnectionRef& c, int d, TimeNs time, uint64_t offset, Bytes bytes) override {
    Told& t = told[c.serial];
    EXPECT_FALSE(t.head.empty());
    EXPECT_FALSE(t.closed);
    EXPECT_FALSE(bytes.empty());
    EXPECT_EQ(offset, t.at[d]);
    if (t.times[d].empty() || t.times[d].back().second != time.ns) t.times[d].push_back({offset, time.ns});
    t.seen_of_other[d].push_back({offset, t.at[1 - d]});
    t.at[d] += bytes.size();
    t.bytes[d].append(AsText(bytes));
    latest = std::max(latest, time.ns);
  }
  void OnGap(const ConnectionRef& c, int d, TimeNs, uint64_t offset, uint64_t length) override {
    Told& t = told[c.serial];
    EXPECT_FALSE(t.closed);
    EXPECT_EQ(offset, t.at[d]);
    EXPECT_GT(length, 0u);
    EXPECT_LE(length, uint64_t{1} << 30);
    t.at[d] += length;
    gap_bytes[d] += length;
    if (length < 1 << 20) t.bytes[d].append(length, '\0');
  }
  void OnClose(const ConnectionRef& c, TimeNs time, CloseReason reason) override {
    Told& t = told[c.serial];
    EXPECT_FALSE(t.closed);
    t.closed = true;
    t.tail = "closed by " + std::to_string(static_cast<int>(reason)) + " at " + std::to_string(time.ns);
    EXPECT_EQ(open_slots.erase(c.slot), 1u);
    last_reason = reason;
  }

  // `times`: false leaves them out.
  std::string Normal(bool times = true) const {
    std::multiset<std::string> stories;
    for (const auto& [serial, t] : told) {
      std::string s = times ? t.head + "\n" : t.head.substr(0, t.head.find(" at ")) + "\n";
      for (int d = 0; d < 2; ++d) {
        s += t.bytes[d] + "\n";
        if (!times) continue;
        for (const auto& [offset, ns] : t.times[d])
          s += std::to_string(offset) + "@" + std::to_string(ns) + " ";
        s += "\n";
      }
      stories.insert(s + (times ? t.tail : t.tail.substr(0, t.tail.find(" at "))) + "\n");
    }
    std::string all;
    for (const std::string& s : stories) all += s;
    return all;
  }

  std::map<uint64_t, Told> told;
  std::set<uint32_t> open_slots;
  uint32_t highest_slot = 0;
  uint64_t gap_bytes[2] = {0, 0};
  int64_t latest = 0;
  CloseReason last_reason = CloseReason::kFin;
};

std::string Text(std::mt19937& random, size_t n) {
  std::string text(n, 0);
  for (char& c : text) c = static_cast<char>('!' + random() % 90);
  return text;
}

// `count` conversations side by side, each with a handshake, questions and answers, and an end: both FINs, a
// reset, or none.
std::vector<Packet> Capture(uint32_t seed, int count, int turns) {
  std::mt19937 random(seed);
  struct Conversation {
    Side client, server;
    int turn = -1;
    bool over = false;
  };
  std::vector<Conversation> all(static_cast<size_t>(count));
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].client.endpoint = At(static_cast<uint8_t>(1 + i % 3), static_cast<uint16_t>(40000 + i));
    all[i].server.endpoint = At(2, 20160);
    all[i].client.next = i % 2 != 0 ? static_cast<uint32_t>(random()) : 0xFFFFFC00u;
    all[i].server.next = i % 3 != 0 ? static_cast<uint32_t>(random()) : 0xFFFFFFF0u;
  }
  std::vector<Packet> packets;
  int64_t t = 1'700'000'000'000'000'000;
  const auto add = [&](Side& from, Side& to, uint8_t flags, std::string payload) {
    packets.push_back(
        Send(from, to, flags, std::move(payload), t += 1 + static_cast<int64_t>(random() % 50000)));
  };
  for (size_t left = all.size(); left != 0;) {
    Conversation& c = all[random() % all.size()];
    if (c.over) continue;
    if (c.turn++ < 0) {
      add(c.client, c.server, tcp_flag::kSyn, "");
      add(c.server, c.client, tcp_flag::kSyn | tcp_flag::kAck, "");
      add(c.client, c.server, tcp_flag::kAck, "");
      continue;
    }
    if (c.turn < turns) {
      for (uint32_t n = random() % 4; n != 0; --n)
        add(c.client, c.server, tcp_flag::kAck, Text(random, 1 + random() % 300));
      if (random() % 2) add(c.server, c.client, tcp_flag::kAck, "");
      for (uint32_t n = random() % 4; n != 0; --n)
        add(c.server, c.client, tcp_flag::kAck, Text(random, 1 + random() % 300));
      if (random() % 2) add(c.client, c.server, tcp_flag::kAck, "");
      continue;
    }
    switch (random() % 3) {
      case 0:
        add(c.client, c.server, tcp_flag::kAck | tcp_flag::kFin, Text(random, random() % 20));
        add(c.server, c.client, tcp_flag::kAck, Text(random, 30));
        add(c.server, c.client, tcp_flag::kAck | tcp_flag::kFin, "");
        add(c.client, c.server, tcp_flag::kAck, "");
        break;
      case 1:
        add(c.client, c.server, tcp_flag::kAck, Text(random, 10));
        add(c.server, c.client, tcp_flag::kAck | tcp_flag::kRst, "");
        break;
      default:
        break;
    }
    c.over = true;
    --left;
  }
  return packets;
}

// Nobody is overtaken by a packet that comes k or more places behind it.
std::vector<Packet> Shuffled(const std::vector<Packet>& packets, size_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < packets.size(); ++i) {
    order.emplace_back(static_cast<double>(i) + static_cast<double>(random() % (k * 1000)) / 1000.0, i);
  }
  std::stable_sort(order.begin(), order.end());
  std::vector<Packet> shuffled;
  for (const auto& [rank, i] : order) shuffled.push_back(packets[i]);
  return shuffled;
}

// A capture that was written by several threads: the packets out of order, the stamps in order.
std::vector<Packet> WithStampsInOrder(std::vector<Packet> packets) {
  std::vector<TimeNs> times;
  for (const Packet& p : packets) times.push_back(p.segment.time);
  std::sort(times.begin(), times.end());
  for (size_t i = 0; i < packets.size(); ++i) packets[i].segment.time = times[i];
  return packets;
}

void Play(const std::vector<Packet>& packets, Story& story, Counters& counters) {
  TcpTracker tracker(story, counters);
  for (const Packet& p : packets) Feed(tracker, p);
  tracker.Finish();
}

TEST(TcpOrder, ShufflingChangesNothingAtAll) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    const std::vector<Packet> packets = Capture(seed, 1 + static_cast<int>(seed % 12), 25);
    Story straight;
    Counters counters;
    Play(packets, straight, counters);
    ASSERT_EQ(counters.Get(Counter::kGaps), 0u) << seed;
    for (const size_t k : {5u, 50u}) {
      Story shuffled;
      Play(Shuffled(packets, k, seed + 1000), shuffled, counters);
      ASSERT_EQ(shuffled.Normal(), straight.Normal()) << "seed " << seed << " k " << k;
      Story stamped;
      Play(WithStampsInOrder(Shuffled(packets, k, seed + 2000)), stamped, counters);
      ASSERT_EQ(stamped.Normal(false), straight.Normal(false))
          << "stamps in order, seed " << seed << " k " << k;
    }
  }
}

// The same for captures that begin in the middle of all connections.
TEST(TcpOrder, ShufflingChangesNothingForLateJoins) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    std::vector<Packet> packets = Capture(seed, 1 + static_cast<int>(seed % 8), 40);
    std::mt19937 random(seed);
    packets.erase(packets.begin(), packets.begin() + static_cast<ptrdiff_t>(random() % (packets.size() / 2)));
    Story straight;
    Counters counters;
    Play(packets, straight, counters);
    for (const size_t k : {5u, 50u}) {
      Story shuffled;
      Play(Shuffled(packets, k, seed + 1000), shuffled, counters);
      ASSERT_EQ(shuffled.Normal(), straight.Normal()) << "seed " << seed << " k " << k;
      Story stamped;
      Play(WithStampsInOrder(Shuffled(packets, k, seed + 2000)), stamped, counters);
      ASSERT_EQ(stamped.Normal(false), straight.Normal(false))
          << "stamps in order, seed " << seed << " k " << k;
    }
  }
}

// Each piece comes after the bytes that its segment acknowledges, whatever the order of capture.
TEST(TcpOrder, AnswersNeverPrecedeWhatTheyAcknowledge) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
    std::mt19937 random(seed);
    std::vector<Packet> packets;
    std::vector<std::pair<uint64_t, uint64_t>> needs[2];  // (offset, bytes of the other side before it)
    int64_t t = 1'000'000'000;
    packets.push_back(Send(client, server, tcp_flag::kSyn, "", t++));
    packets.push_back(Send(server, client, tcp_flag::kSyn | tcp_flag::kAck, "", t++));
    for (int i = 0; i < 400; ++i) {
      const bool from_client = random() % 2;
      Side& from = from_client ? client : server;
      Side& to = from_client ? server : client;
      needs[from_client ? 0 : 1].push_back(
          {from.next - (from_client ? 1001 : 5001), from.peer_next - (from_client ? 5001 : 1001)});
      packets.push_back(Send(from, to, tcp_flag::kAck, Text(random, 1 + random() % 50), t += 1000));
    }
    Story story;
    Counters counters;
    Play(Shuffled(packets, 50, seed), story, counters);
    ASSERT_EQ(story.told.size(), 1u);
    const Story::Told& told = story.told.begin()->second;
    for (int d = 0; d < 2; ++d) {
      ASSERT_EQ(told.seen_of_other[d].size(), needs[d].size());
      for (size_t i = 0; i < needs[d].size(); ++i) {
        ASSERT_EQ(told.seen_of_other[d][i].first, needs[d][i].first);
        ASSERT_GE(told.seen_of_other[d][i].second, needs[d][i].second) << "seed " << seed << " piece " << i;
      }
    }
  }
}

// Under steady loss a hole is given up 256 segments after it was noticed, not 256 after the hole before it:
// the backlog stays where it is.
TEST(TcpOrder, SteadyLossDoesNotPileUp) {
  for (const uint32_t percent : {1u, 5u}) {
    Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
    std::mt19937 random(percent);
    Story story;
    Counters counters;
    TcpTracker tracker(story, counters);
    int64_t t = 1'000'000'000;
    Feed(tracker, Send(client, server, tcp_flag::kSyn, "", t++));
    Feed(tracker, Send(server, client, tcp_flag::kSyn | tcp_flag::kAck, "", t++));
    uint64_t lost = 0, sent = 0;
    uint64_t furthest_behind = 0;
    for (int i = 0; i < 20000; ++i) {
      const Packet p = Send(client, server, tcp_flag::kAck, std::string(1000, 'x'), t += 1000);
      sent += 1000;
      if (random() % 100 < percent) {
        lost += 1000;
      } else {
        Feed(tracker, p);
      }
      Feed(tracker, Send(server, client, tcp_flag::kAck, "", t += 1000));
      const uint64_t told = story.told.empty() ? 0 : story.told.begin()->second.at[0];
      furthest_behind = std::max(furthest_behind, sent - told);
    }
    tracker.Finish();
    EXPECT_EQ(counters.Get(Counter::kCapHeldBytes), 0u) << percent;
    EXPECT_LE(furthest_behind, uint64_t{limits::kGapAfterSegments} * 1000) << percent;
    EXPECT_EQ(story.told.begin()->second.at[0], sent);
    EXPECT_EQ(counters.Get(Counter::kGapBytes), lost);
  }
}

// A connection that says little is told while others talk, not when its own next packet comes.
TEST(TcpOrder, QuietLateJoinIsToldWhileOthersTalk) {
  Story story;
  Counters counters;
  TcpTracker tracker(story, counters);
  Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
  Feed(tracker, Send(client, server, tcp_flag::kAck, "question", 1000));
  Feed(tracker, Send(server, client, tcp_flag::kAck, "answer", 2000));
  Side other{At(3, 40000), 1, 1}, peer{At(2, 20160), 1, 1};
  for (int i = 0; i < 200; ++i) Feed(tracker, Send(other, peer, tcp_flag::kAck, "x", 3000 + i));
  const auto quiet = std::find_if(story.told.begin(), story.told.end(), [](const auto& t) {
    return t.second.bytes[0] == "question" && t.second.bytes[1] == "answer";
  });
  EXPECT_TRUE(quiet != story.told.end());
}

TEST(TcpOrder, HoleOfAQuietConnectionIsGivenUpInTime) {
  Story story;
  Counters counters;
  TcpTracker tracker(story, counters);
  Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
  Feed(tracker, Send(client, server, tcp_flag::kSyn, "", 1));
  Feed(tracker, Send(server, client, tcp_flag::kSyn | tcp_flag::kAck, "", 2));
  (void)Send(client, server, tcp_flag::kAck, "lost", 3);
  Feed(tracker, Send(client, server, tcp_flag::kAck, "kept", 4));
  Side other{At(3, 40000), 1, 1}, peer{At(2, 20160), 1, 1};
  for (int i = 0; i < 30; ++i) {
    Feed(tracker, Send(other, peer, tcp_flag::kAck, "x", i * int64_t{1'000'000'000}));
  }
  EXPECT_EQ(story.told.begin()->second.bytes[0], std::string(4, '\0') + "kept");
  EXPECT_EQ(counters.Get(Counter::kGapBytes), 4u);
}

// With the SYN-ACK of one side alone, nothing is claimed of the bytes of the side that is not captured.
TEST(TcpOrder, OneDirectionAloneHasNoGaps) {
  for (const bool client_only : {true, false}) {
    std::vector<Packet> packets = Capture(7, 3, 60);
    std::erase_if(packets,
                  [&](const Packet& p) { return (p.segment.destination.port == 20160) != client_only; });
    Story story;
    Counters counters;
    Play(packets, story, counters);
    EXPECT_EQ(counters.Get(Counter::kGaps), 0u) << client_only;
    uint64_t bytes = 0, told = 0;
    for (const Packet& p : packets) bytes += p.payload.size();
    for (const auto& [serial, t] : story.told) told += t.at[0] + t.at[1];
    EXPECT_EQ(told, bytes);
  }
}

// A keep-alive may carry one byte of before (RFC 9293 section 3.8.4); as the first thing seen of a late join
// it must not become a byte of the stream.
TEST(TcpOrder, KeepAliveByteIsNoData) {
  Story story;
  Counters counters;
  TcpTracker tracker(story, counters);
  Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
  Feed(tracker, Send(server, client, tcp_flag::kAck, "push", 1000));  // acknowledges all up to 1000
  Side probe = client;
  probe.next = 999;
  Feed(tracker, Make(probe, server, tcp_flag::kAck, "?", 2000));
  Feed(tracker, Make(probe, server, tcp_flag::kAck, "", 3000));
  Feed(tracker, Send(client, server, tcp_flag::kAck, "data", 4000));
  // Also on a direction that is open.
  tracker.Finish();
  ASSERT_EQ(story.told.size(), 1u);
  EXPECT_EQ(story.told.begin()->second.bytes[0], "data");
  EXPECT_EQ(story.told.begin()->second.bytes[1], "push");
}

TEST(TcpOrder, ForeignSequenceNumbersMakeNoGapAndThenANewConnection) {
  Story story;
  Counters counters;
  TcpTracker tracker(story, counters);
  Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
  Feed(tracker, Send(client, server, tcp_flag::kSyn, "", 1));
  Feed(tracker, Send(server, client, tcp_flag::kSyn | tcp_flag::kAck, "", 2));
  Feed(tracker, Send(client, server, tcp_flag::kAck, "first", 3));
  // One segment of nowhere changes nothing.
  Side stray = client;
  stray.next += 0x60000000;
  Feed(tracker, Make(stray, server, tcp_flag::kAck, "stray", 4));
  Feed(tracker, Send(client, server, tcp_flag::kAck, " and more", 5));
  ASSERT_EQ(story.told.size(), 1u);
  EXPECT_EQ(story.told.begin()->second.bytes[0], "first and more");
  // Many that follow each other are a connection whose handshake was lost.
  Side client2{At(1, 40000), 0x70000000, 0xA0000000}, server2{At(2, 20160), 0xA0000000, 0x70000000};
  std::string sent;
  for (int i = 0; i < 200; ++i) {
    Feed(tracker, Send(client2, server2, tcp_flag::kAck, "again", 10 + i));
    sent += "again";
  }
  tracker.Finish();
  ASSERT_EQ(story.told.size(), 2u);
  EXPECT_EQ(counters.Get(Counter::kGaps), 0u);
  const Story::Told& second = std::next(story.told.begin())->second;
  EXPECT_GE(second.bytes[0].size(), sent.size() - 16 * 5);
  EXPECT_EQ(sent.compare(sent.size() - second.bytes[0].size(), std::string::npos, second.bytes[0]), 0);
}

TEST(TcpOrder, SlotsStayDense) {
  Story story;
  Counters counters;
  TcpTracker tracker(story, counters);
  int64_t t = 1;
  for (uint32_t i = 0; i < 20000; ++i) {
    Side client{At(static_cast<uint8_t>(i % 200), static_cast<uint16_t>(1024 + i / 200)), i, 7 * i};
    Side server{At(250, 20160), 7 * i, i};
    Feed(tracker, Send(client, server, tcp_flag::kSyn, "", t++));
    Feed(tracker, Send(server, client, tcp_flag::kSyn | tcp_flag::kAck, "", t++));
    Feed(tracker, Send(client, server, tcp_flag::kAck | tcp_flag::kFin, "q", t++));
    Feed(tracker, Send(server, client, tcp_flag::kAck | tcp_flag::kFin, "a", t++));
    Feed(tracker, Send(client, server, tcp_flag::kAck, "", t++));
  }
  tracker.Finish();
  EXPECT_EQ(story.told.size(), 20000u);
  EXPECT_LT(story.highest_slot, 4u);
}

TEST(TcpOrder, TheLongestIdleConnectionGivesWay) {
  Story story;
  Counters counters;
  TcpTracker tracker(story, counters);
  constexpr int64_t kSecond = 1'000'000'000;
  const auto side = [](size_t i) {
    return At(static_cast<uint8_t>(1 + i / 60000), static_cast<uint16_t>(i % 60000));
  };
  Side server{At(250, 20160), 1, 1};
  for (size_t i = 0; i < limits::kMaxConnections; ++i) {
    Side client{side(i), 1, 1};
    Feed(tracker, Send(client, server, tcp_flag::kSyn, "", kSecond));
  }
  // All but the connection 77 say something later.
  for (size_t i = 0; i < limits::kMaxConnections; ++i) {
    if (i == 77) continue;
    Side client{side(i), 2, 1};
    Feed(tracker, Make(client, server, tcp_flag::kAck, "x", 5 * kSecond));
  }
  Side one_more{At(200, 1), 1, 1};
  Feed(tracker, Send(one_more, server, tcp_flag::kSyn, "", 6 * kSecond));
  EXPECT_EQ(counters.Get(Counter::kCapConnections), 1u);
  size_t ended = 0;
  for (const auto& [serial, t] : story.told) {
    if (!t.closed) continue;
    ++ended;
    EXPECT_NE(t.head.find(FormatEndpoint(side(77))), std::string::npos) << t.head;
  }
  EXPECT_EQ(ended, 1u);
}

TEST(TcpOrder, IdleConnectionsEnd) {
  Story story;
  Counters counters;
  TcpTracker tracker(story, counters);
  Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
  Feed(tracker, Send(client, server, tcp_flag::kSyn, "", 1));
  Side other{At(3, 40000), 1, 1}, peer{At(2, 20160), 1, 1};
  for (int64_t t = 1; t < 2 * limits::kIdleConnectionNs; t += limits::kIdleConnectionNs / 20) {
    Feed(tracker, Send(other, peer, tcp_flag::kAck, "x", t));
  }
  ASSERT_FALSE(story.told.empty());
  EXPECT_TRUE(story.told.begin()->second.closed);
  EXPECT_EQ(story.last_reason, CloseReason::kIdle);
}

// A sink that allocates nothing itself.
class Counting final : public ByteSink {
 public:
  void OnOpen(const ConnectionRef&, TimeNs) override {}
  void OnBytes(const ConnectionRef&, int, TimeNs, uint64_t, Bytes b) override { bytes += b.size(); }
  void OnGap(const ConnectionRef&, int, TimeNs, uint64_t, uint64_t) override {}
  void OnClose(const ConnectionRef&, TimeNs, CloseReason) override {}
  uint64_t bytes = 0;
};

TEST(TcpOrder, NoAllocationPerSegment) {
  for (const size_t k : {1u, 20u}) {
    Side client{At(1, 40000), 1000, 5000}, server{At(2, 20160), 5000, 1000};
    std::vector<Packet> packets;
    int64_t t = 1;
    packets.push_back(Send(client, server, tcp_flag::kSyn, "", t++));
    packets.push_back(Send(server, client, tcp_flag::kSyn | tcp_flag::kAck, "", t++));
    for (int i = 0; i < 20000; ++i) {
      packets.push_back(Send(client, server, tcp_flag::kAck, std::string(700, 'q'), t++));
      packets.push_back(Send(server, client, tcp_flag::kAck, std::string(900, 'a'), t++));
    }
    packets = Shuffled(packets, k, 1);
    Counting sink;
    Counters counters;
    TcpTracker tracker(sink, counters);
    size_t i = 0;
    for (; i < 2000; ++i) Feed(tracker, packets[i]);
    const uint64_t before = allocations;
    for (; i < packets.size(); ++i) Feed(tracker, packets[i]);
    const uint64_t allocated = allocations - before;
    tracker.Finish();
    EXPECT_EQ(sink.bytes, 20000u * 1600);
    EXPECT_LE(allocated, k == 1 ? 0u : 40u) << "k " << k;
  }
}

}  // namespace
}  // namespace keytrail
