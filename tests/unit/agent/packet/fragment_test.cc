// IP fragments through PacketDecoder and FragmentTable: every order, copies, overlaps, time, caps.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "agent/packet/packet_decoder.h"
#include "tests/support/packet_builder.h"
#include "tests/unit/agent/schema/count_allocations.h"

namespace keytrail {
namespace {

using namespace keytrail::testing;  // NOLINT: the builders read as sentences without it

constexpr int kEthernet = 1;
constexpr int64_t kMs = 1'000'000;

// A decoder and all that came out of it.
class Feed final : public SegmentSink {
 public:
  void OnSegment(const Segment& s) override {
    payloads.push_back(ToString(s.payload));
    EXPECT_EQ(s.payload_length, s.payload.size());
    source = FormatEndpoint(s.source);
    time = s.time.ns;
  }
  void operator()(const std::string& frame, int64_t ns = 0, size_t cut = 0) {
    // An allocation of the exact size, so that a read beyond it is seen.
    const std::vector<uint8_t> exact(frame.begin(), frame.end() - static_cast<std::ptrdiff_t>(cut));
    RawPacket packet;
    packet.time = TimeNs{ns};
    packet.bytes = exact;
    packet.wire_length = static_cast<uint32_t>(frame.size());
    packet.link_type = kEthernet;
    decoder.Feed(packet, *this);
  }
  uint64_t operator[](Counter c) const { return counters.Get(c); }

  Counters counters;
  PacketDecoder decoder{counters};
  std::vector<std::string> payloads;
  std::string source;
  int64_t time = 0;
};

std::string Text(size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) text += static_cast<char>('a' + i * 7 % 26);
  return text;
}

struct Piece {
  size_t from;
  size_t to;
};

std::string Piece4(const std::string& datagram, Piece piece, uint16_t id = 7, uint8_t protocol = 6) {
  const uint32_t more = piece.to < datagram.size() ? 0x2000 : 0;
  return Ethernet(
      0x0800, Ipv4({.protocol = protocol, .fragment = static_cast<uint16_t>(more | piece.from / 8), .id = id},
                   datagram.substr(piece.from, piece.to - piece.from)));
}
std::string Piece6(const std::string& datagram, Piece piece, uint32_t id = 7, uint8_t next = 6) {
  const std::string part = datagram.substr(piece.from, piece.to - piece.from);
  return Ethernet(0x86DD, Ipv6({.next_header = 44}, Ipv6Fragment(next, static_cast<uint16_t>(piece.from / 8),
                                                                 piece.to < datagram.size(), part, id)));
}

const std::string kPayload = Text(101);
const std::string kDatagram = Tcp({}, kPayload);  // 121 bytes

TEST(Fragments, EveryOrder) {
  const std::vector<Piece> pieces = {{0, 32}, {32, 40}, {40, 104}, {104, kDatagram.size()}};
  std::vector<size_t> order = {0, 1, 2, 3};
  do {
    for (const bool six : {false, true}) {
      Feed feed;
      for (size_t i = 0; i < order.size(); ++i) {
        EXPECT_TRUE(feed.payloads.empty());
        const Piece piece = pieces[order[i]];
        feed(six ? Piece6(kDatagram, piece) : Piece4(kDatagram, piece), static_cast<int64_t>(i));
      }
      ASSERT_EQ(feed.payloads, std::vector<std::string>{kPayload});
      EXPECT_EQ(feed.source, six ? "[fd00::1]:40000" : "10.0.0.1:40000");
      EXPECT_EQ(feed.time, 3);
      EXPECT_EQ(feed[Counter::kIpFragments], 4u);
      EXPECT_EQ(feed[Counter::kIpDatagramsReassembled], 1u);
      feed.decoder.Finish();
      EXPECT_EQ(feed[Counter::kIpDatagramsIncomplete], 0u);
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Fragments, EverySplitAndEveryLoss) {
  for (size_t at = 8; at < kDatagram.size(); at += 8) {
    Feed feed;
    feed(Piece4(kDatagram, {at, kDatagram.size()}));
    feed(Piece4(kDatagram, {0, at}));
    EXPECT_EQ(feed.payloads, std::vector<std::string>{kPayload}) << at;
  }
  for (size_t lost = 0; lost < kDatagram.size(); lost += 8) {
    Feed feed;
    for (size_t at = 0; at < kDatagram.size(); at += 8) {
      if (at != lost) feed(Piece6(kDatagram, {at, std::min(at + 8, kDatagram.size())}));
    }
    EXPECT_TRUE(feed.payloads.empty());
    EXPECT_EQ(feed[Counter::kIpDatagramsIncomplete], 0u);
    feed.decoder.Finish();
    EXPECT_EQ(feed[Counter::kIpDatagramsIncomplete], 1u) << lost;
  }
}

// A capture on `any` sees each packet once for each device that it passes.
TEST(Fragments, CopiesAreNotTakenForTheNextDatagram) {
  const std::string first = Piece4(kDatagram, {0, 64}), last = Piece4(kDatagram, {64, 121});
  for (const std::vector<const std::string*>& order :
       {std::vector{&first, &first, &last, &last}, std::vector{&first, &last, &first, &last},
        std::vector{&last, &last, &first, &last, &first, &first}}) {
    Feed feed;
    for (const std::string* frame : order) feed(*frame);
    EXPECT_EQ(feed.payloads, std::vector<std::string>{kPayload});
    feed.decoder.Finish();
    EXPECT_EQ(feed[Counter::kIpDatagramsIncomplete], 0u);
    EXPECT_GT(feed[Counter::kIpFragmentsRepeated], 0u);
  }
  // The sender's number comes round.
  Feed feed;
  feed(first, 0);
  feed(last, 0);
  feed(last, 1 * kMs);
  const std::string other = Tcp({}, Text(90));
  feed(Piece4(other, {0, 64}), 0 + limits::kFragmentCopiesNs + 2 * kMs);
  feed(Piece4(other, {64, 110}), 0 + limits::kFragmentCopiesNs + 2 * kMs);
  EXPECT_EQ(feed.payloads, (std::vector<std::string>{kPayload, Text(90)}));
}

TEST(Fragments, DatagramsAreToldApart) {
  const std::string other = Tcp({}, Text(101).replace(0, 101, std::string(101, 'z')));
  Feed feed;
  feed(Piece4(kDatagram, {0, 64}, 1));
  feed(Piece4(other, {0, 64}, 2));                // another number
  feed(Piece6(other, {0, 64}, 1));                // another family
  feed(Piece4(other, {64, other.size()}, 1, 4));  // another protocol
  feed(Piece4(kDatagram, {64, 121}, 1));
  ASSERT_EQ(feed.payloads, std::vector<std::string>{kPayload});
  feed(Piece4(other, {64, other.size()}, 2));
  feed(Piece6(other, {64, other.size()}, 1));
  EXPECT_EQ(feed.payloads,
            (std::vector<std::string>{kPayload, std::string(101, 'z'), std::string(101, 'z')}));
}

TEST(Fragments, EqualOverlapsAreKeptOthersCostTheDatagram) {
  Feed same;
  same(Piece4(kDatagram, {0, 64}));
  same(Piece4(kDatagram, {32, 80}));
  same(Piece4(kDatagram, {72, 121}));
  EXPECT_EQ(same.payloads, std::vector<std::string>{kPayload});

  std::string forged = kDatagram;
  forged[70] = '!';
  const std::string honest[] = {Piece4(kDatagram, {0, 64}), Piece4(kDatagram, {64, 80}),
                                Piece4(kDatagram, {80, 121})};
  const std::vector<std::string> contradictions = {
      Piece4(forged, {64, 80}),
      Piece4(forged, {32, 72}),
      Piece4(kDatagram.substr(0, 112), {80, 112}),                  // it ends before
      Piece4(kDatagram + Zeros(8), {80, 120}),                      // equal bytes: no contradiction by itself
      Piece4(kDatagram + Text(64), {112, 160}),                     // it goes on behind its end
      Piece4(kDatagram + Text(64), {112, kDatagram.size() + 64})};  // another end
  for (size_t i = 0; i < contradictions.size(); ++i) {
    for (const bool forged_first : {false, true}) {
      Feed feed;
      if (forged_first) {
        feed(contradictions[i]);
        for (size_t n : {1, 2, 0}) feed(honest[n]);
      } else {
        feed(honest[1]);
        feed(honest[2]);
        feed(contradictions[i]);
        feed(honest[0]);
      }
      if (i == 3) {
        EXPECT_EQ(feed.payloads, std::vector<std::string>{kPayload});
        continue;
      }
      EXPECT_TRUE(feed.payloads.empty()) << i << forged_first;
      EXPECT_EQ(feed[Counter::kIpDatagramsConflicting], 1u) << i << forged_first;
      feed.decoder.Finish();
      EXPECT_EQ(feed[Counter::kIpDatagramsIncomplete], 0u);
    }
  }
}

TEST(Fragments, TimeOut) {
  Feed feed;
  feed(Piece4(kDatagram, {0, 64}), 1000);
  feed(Piece4(kDatagram, {64, 121}), 1000 + limits::kFragmentTimeoutNs);
  EXPECT_EQ(feed.payloads.size(), 1u);
  feed(Piece4(kDatagram, {0, 64}, 8), 0);  // the clock does not go back
  feed(Piece4(kDatagram, {64, 121}, 8), 1001 + limits::kFragmentTimeoutNs * 2);
  EXPECT_EQ(feed.payloads.size(), 1u);
  EXPECT_EQ(feed[Counter::kIpDatagramsIncomplete], 1u);
  feed(Piece4(kDatagram, {0, 64}, 8), 1001 + limits::kFragmentTimeoutNs * 2);
  EXPECT_EQ(feed.payloads.size(), 2u);
}

TEST(Fragments, DamagedCutAndForeign) {
  const auto alone = [](const std::string& frame, Counter counter, size_t cut = 0) {
    Feed feed;
    feed(frame, 0, cut);
    EXPECT_TRUE(feed.payloads.empty());
    EXPECT_EQ(feed[counter], 1u) << CounterName(counter);
    EXPECT_EQ(feed[Counter::kIpFragments], 1u);
    feed.decoder.Finish();
    EXPECT_EQ(feed[Counter::kIpDatagramsIncomplete], 0u);
  };
  const std::string bytes = Text(64);
  const auto with = [](uint16_t fragment, const std::string& payload, uint8_t protocol = 6) {
    return Ethernet(0x0800, Ipv4({.protocol = protocol, .fragment = fragment}, payload));
  };
  alone(with(0x2000, bytes.substr(0, 63)), Counter::kPacketsMalformed);  // more, but no multiple of 8
  alone(with(0x2004, ""), Counter::kPacketsMalformed);
  alone(with(0x0004, ""), Counter::kPacketsMalformed);
  alone(with(0x1FFF, bytes), Counter::kPacketsMalformed);  // ends beyond 64 KiB
  alone(with(0x2004, bytes), Counter::kPacketsCut, 1);
  alone(with(0x2004, bytes, 1), Counter::kPacketsNotTcp);  // ICMP
  alone(Piece6(kDatagram, {0, 63}), Counter::kPacketsMalformed);
  alone(Piece6(kDatagram, {64, 121}), Counter::kPacketsCut, 3);
  // Offload of a fragment's length: what the frame holds.
  Feed feed;
  feed(Piece4(kDatagram, {0, 64}));
  feed(Ethernet(0x0800, Ipv4({.fragment = 8, .total_length = 0}, kDatagram.substr(64))));
  EXPECT_EQ(feed.payloads, std::vector<std::string>{kPayload});
  // Ethernet's padding is no part of a fragment.
  Feed padded;
  padded(Piece4(kDatagram, {120, 121}) + Zeros(25));
  padded(Piece4(kDatagram, {0, 120}));
  EXPECT_EQ(padded.payloads, std::vector<std::string>{kPayload});
}

TEST(Fragments, LargestDatagram) {
  const std::string payload = Text(65515 - 20), datagram = Tcp({}, payload);
  Feed feed;
  for (size_t at = 0; at < datagram.size(); at += 1480) {
    feed(Piece4(datagram, {at, std::min(at + 1480, datagram.size())}));
  }
  EXPECT_EQ(feed.payloads, std::vector<std::string>{payload});
}

TEST(Fragments, Tunnels) {
  const std::string inner = Ethernet(0x0800, Ipv4({.source = {10, 9, 9, 9}}, kDatagram));
  const std::string udp = Udp(4789, Vxlan(5, inner));
  const std::string gre = Gre(0x2000, 0x6558, inner);
  Feed feed;
  feed(Piece4(udp, {0, 80}, 1, 17));
  feed(Piece4(udp, {80, udp.size()}, 1, 17));
  feed(Piece6(gre, {0, 16}, 1, 47));
  feed(Piece6(gre, {16, gre.size()}, 1, 47));
  EXPECT_EQ(feed.payloads, (std::vector<std::string>{kPayload, kPayload}));
  EXPECT_EQ(feed.source, "10.9.9.9:40000");
  // Fragments within a tunnel whose packets are fragments themselves.
  for (const Piece piece : {Piece{64, 121}, Piece{0, 64}}) {
    const std::string outer = Udp(4789, Vxlan(5, Piece4(kDatagram, piece)));
    const auto id = static_cast<uint16_t>(100 + piece.from);
    feed(Piece4(outer, {40, outer.size()}, id, 17));
    feed(Piece4(outer, {0, 40}, id, 17));
  }
  EXPECT_EQ(feed.payloads.size(), 3u);
  // Extension headers before and behind the fragment header.
  const std::string rest = Ipv6Extension(51, 0, AuthenticationHeader(6, 3, kDatagram));
  const auto six = [&](Piece piece) {
    return Ethernet(
        0x86DD,
        Ipv6({.next_header = 0},
             Ipv6Extension(44, 1,
                           Ipv6Fragment(60, static_cast<uint16_t>(piece.from / 8), piece.to < rest.size(),
                                        rest.substr(piece.from, piece.to - piece.from)))));
  };
  feed(six({0, 16}));
  feed(six({16, rest.size()}));
  EXPECT_EQ(feed.payloads.size(), 4u);
  EXPECT_EQ(feed.payloads.back(), kPayload);
}

// Random pieces of some datagrams, mixed, some forged: what comes out is a datagram that was sent, or, where
// nobody could tell, made of bytes that were sent at their places.
TEST(Fragments, RandomPieces) {
  std::mt19937 random(5);
  const auto below = [&](size_t n) { return random() % n; };
  for (int round = 0; round < 3000; ++round) {
    std::map<uint32_t, std::string> sent;
    std::vector<std::string> frames;
    std::vector<std::string> expected;
    bool forged = false;
    for (uint16_t id = 1; id <= 3; ++id) {
      const std::string payload = Text(100 + below(300)) + std::to_string(id);
      const std::string datagram = Tcp({}, payload);
      expected.push_back(payload);
      for (size_t at = 0; at < datagram.size();) {
        const size_t to = std::min(datagram.size(), at + 8 * (1 + below(8)));
        frames.push_back(Piece4(datagram, {at, to}, id));
        if (below(4) == 0) frames.push_back(frames.back());
        if (below(4) == 0) frames.push_back(Piece4(datagram, {at - at / 16 * 8, to}, id));
        at = to;
      }
      if (below(8) == 0) {
        std::string other = datagram;
        other[20 + below(datagram.size() - 20)] = '#';
        frames.push_back(Piece4(other, {0, datagram.size() / 8 * 8 - 8}, id));
        forged = true;
      }
    }
    std::shuffle(frames.begin(), frames.end(), random);
    Feed feed;
    for (const std::string& frame : frames) feed(frame);
    feed.decoder.Finish();
    if (!forged) {
      std::sort(feed.payloads.begin(), feed.payloads.end());
      std::sort(expected.begin(), expected.end());
      ASSERT_EQ(feed.payloads, expected);
    }
    ASSERT_EQ(
        feed.payloads.size() + feed[Counter::kIpDatagramsConflicting] + feed[Counter::kIpDatagramsIncomplete],
        3u);
  }
}

TEST(Fragments, Caps) {
  Counters counters;
  FragmentTable table(counters, FragmentCaps{});
  const std::vector<uint8_t> bytes(1480);
  FragmentKey key;
  const auto add = [&](uint32_t offset) {
    return table.Add(TimeNs{1}, key, {offset, true, 6, bytes}).has_value();
  };
  // More datagrams than may wait: the oldest go.
  for (key.id = 0; key.id < limits::kMaxFragmentedDatagrams + 100; ++key.id) {
    EXPECT_FALSE(add(0));
    ASSERT_LE(table.datagrams(), limits::kMaxFragmentedDatagrams);
    ASSERT_LE(table.bytes(), limits::kMaxFragmentBytes);
  }
  EXPECT_EQ(counters.Get(Counter::kCapFragments), 100u);
  table.Finish();
  EXPECT_EQ(counters.Get(Counter::kIpDatagramsIncomplete), limits::kMaxFragmentedDatagrams);
  EXPECT_EQ(table.bytes(), 0u);
  // More bytes than may wait: one fragment at the end of a datagram has room for what comes before it.
  for (key.id = 0; key.id < 1000; ++key.id) {
    EXPECT_FALSE(add(63992));
    ASSERT_LE(table.bytes(), limits::kMaxFragmentBytes);
  }
  EXPECT_GT(counters.Get(Counter::kCapFragments), 700u);
  // It goes on: a datagram that comes whole now is handed out, and nothing of it stays.
  const uint64_t hits = counters.Get(Counter::kCapFragments);
  table.Finish();
  for (key.id = 5000; key.id < 7000; ++key.id) {
    EXPECT_FALSE(add(0));
    EXPECT_TRUE(table.Add(TimeNs{1}, key, {1480, false, 6, bytes}).has_value());
    EXPECT_EQ(table.bytes(), 0u);
  }
  EXPECT_EQ(counters.Get(Counter::kCapFragments), hits);
  // Nobody's memory may be larger than the cap, whatever that is.
  for (const FragmentCaps caps : {FragmentCaps{1, 1}, FragmentCaps{0, 0}, FragmentCaps{2, 5000}}) {
    FragmentTable small(counters, caps);
    for (key.id = 0; key.id < 10; ++key.id) {
      (void)small.Add(TimeNs{1}, key, {0, true, 6, bytes});
      EXPECT_LE(small.bytes(), caps.bytes);
      EXPECT_LE(small.datagrams(), std::max<size_t>(caps.datagrams, 1));
    }
  }
}

TEST(Fragments, WholePacketsAllocateNothing) {
  const std::string frame = Ethernet(0x0800, Ipv4({}, kDatagram));
  class Count final : public SegmentSink {
   public:
    void OnSegment(const Segment&) override { ++segments; }
    int segments = 0;
  } sink;
  RawPacket packet;
  packet.bytes = AsBytes(frame);
  packet.wire_length = static_cast<uint32_t>(frame.size());
  packet.link_type = kEthernet;
  Counters counters;
  PacketDecoder decoder(counters);
  allocation_count = {true, 0};
  for (int i = 0; i < 1000; ++i) decoder.Feed(packet, sink);
  allocation_count.on = false;
  EXPECT_EQ(allocation_count.count, 0u);
  EXPECT_EQ(sink.segments, 1000);
}

}  // namespace
}  // namespace keytrail
