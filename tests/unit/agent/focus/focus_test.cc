// What is read of a host's packets, and what the kernel is asked to leave out.

#include "agent/focus/focus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/limits.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kSecond = 1'000'000'000;
const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const std::string kPing(
    "\x00\x00\x08\x06\x01\x00\x00\x00\x00"
    "12345678",
    17);
const std::string kWindow("\x00\x00\x04\x08\x00\x00\x00\x00\x05\x00\x01\x00\x00", 13);

struct Tally final : SegmentSink {
  void OnSegment(const Segment& s) override { ports.push_back(s.destination.port); }
  std::vector<uint16_t> ports;
};

Endpoint At(uint8_t host, uint16_t port) {
  return {{{10, 0, 0, host}, 4}, port};
}

class FocusTest : public ::testing::Test {
 protected:
  // True: it was read.
  bool Read(Focus& focus, uint16_t from, uint16_t to, const std::string& payload, int64_t ns = kSecond) {
    Segment s;
    s.time = TimeNs{ns};
    s.source = At(1, from);
    s.destination = At(2, to);
    s.payload = AsBytes(payload);
    s.payload_length = static_cast<uint32_t>(payload.size());
    const size_t before = tally_.ports.size();
    focus.OnSegment(s);
    return tally_.ports.size() != before;
  }
  static ForeignConnection Foreign(uint16_t client, uint16_t server, uint64_t segments) {
    return {{At(1, client), At(2, server)}, server, segments};
  }
  // Looks a second later.
  std::optional<FilterRefinement> Look(Focus& focus, const std::vector<ForeignConnection>& foreign) {
    steady_ns_ += limits::kFilterEveryNs;
    return focus.Look(steady_ns_, steady_ns_, foreign);
  }

  Tally tally_;
  Counters counters_;
  int64_t steady_ns_ = 0;
};

TEST_F(FocusTest, NamedPortsAlone) {
  Focus focus({{{2379, 2380}, {20160, 20160}}, false, true}, tally_, counters_, 0);
  EXPECT_TRUE(Read(focus, 40000, 20160, "x"));
  EXPECT_TRUE(Read(focus, 2380, 40000, "x"));
  EXPECT_FALSE(Read(focus, 40000, 4000, "x"));
  EXPECT_FALSE(Read(focus, 40000, 20161, ""));
  EXPECT_EQ(counters_.Get(Counter::kSegmentsUnread), 2u);
  const auto first = Look(focus, {});
  ASSERT_TRUE(first.has_value());
  EXPECT_TRUE(first->find_http2);
  EXPECT_FALSE(Look(focus, {}).has_value()) << "nothing has changed";
}

TEST_F(FocusTest, WithoutNamesEveryPort) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  EXPECT_TRUE(Read(focus, 40000, 4000, "x"));
  EXPECT_FALSE(Look(focus, {}).has_value());
}

TEST_F(FocusTest, APrefaceFindsItsPortAtOnce) {
  Focus focus({{{20160, 20160}}, false, true}, tally_, counters_, 5);
  (void)Look(focus, {});
  EXPECT_TRUE(Read(focus, 1234, 30000, kPreface, 7 * kSecond));
  EXPECT_TRUE(Read(focus, 30000, 1234, "x")) << "and it is the one that the client spoke to";
  EXPECT_FALSE(Read(focus, 1234, 30001, "x"));
  const std::vector<FoundPort> found = focus.TakeFound();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].port, 30000);
  EXPECT_EQ(found[0].missed_from_ns, 5);
  EXPECT_EQ(found[0].found_ns, 7 * kSecond);
  EXPECT_THAT(focus.TakeFound(), IsEmpty());
  // The kernel is told sooner than of anything else.
  const auto wanted = focus.Look(steady_ns_ + 100'000'000, 0, {});
  ASSERT_TRUE(wanted.has_value());
  EXPECT_THAT(wanted->wanted_ports, ElementsAre(30000));
  EXPECT_EQ(counters_.Get(Counter::kPortsFound), 1u);
}

// Questions to a collector on the same host are gRPC, and nothing that was missed.
TEST_F(FocusTest, PortsThatAreNotOursAreNotFound) {
  Focus focus({{{20160, 20160}}, false, true, {7451}}, tally_, counters_, 0);
  for (const std::string* payload : {&kPreface, &kPing, &kPing, &kWindow, &kWindow}) {
    EXPECT_FALSE(Read(focus, 40000, 7451, *payload));
    EXPECT_FALSE(Read(focus, 7451, 40000, *payload == kPreface ? kPing : *payload));
  }
  EXPECT_THAT(focus.TakeFound(), IsEmpty());
  EXPECT_TRUE(Read(focus, 40000, 7452, kPreface)) << "others are";
  Focus filtered({{}, true, true, {7451}}, tally_, counters_, 0);
  Segment s;
  s.source = At(1, 40000);
  s.destination = At(2, 7451);
  s.payload = AsBytes(kPreface);
  filtered.Notice(s);
  EXPECT_THAT(filtered.TakeFound(), IsEmpty());
  Focus named({{{7451, 7451}}, false, true, {7451}}, tally_, counters_, 0);
  EXPECT_TRUE(Read(named, 40000, 7451, "x")) << "who names it wants it";
}

// A user's filter has the last word; but that gRPC is spoken beside it is noticed, once a port.
TEST_F(FocusTest, WhatAFilterLeavesOutIsNoticed) {
  Focus focus({{}, true, true}, tally_, counters_, 5);
  const auto wanted = Look(focus, {});
  ASSERT_TRUE(wanted.has_value());
  EXPECT_TRUE(wanted->find_http2);
  EXPECT_FALSE(wanted->pass_wanted);
  for (int i = 0; i < 4; ++i) {
    Segment s;
    s.time = TimeNs{3 * kSecond};
    s.source = At(1, 41000);
    s.destination = At(2, 2379);
    s.payload = AsBytes(kPing);
    focus.Notice(s);
    EXPECT_THAT(tally_.ports, IsEmpty());
  }
  const std::vector<FoundPort> found = focus.TakeFound();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].port, 2379);
  EXPECT_FALSE(found[0].captured);
  EXPECT_EQ(found[0].missed_from_ns, 5);
  EXPECT_FALSE(Look(focus, {}).has_value());
}

TEST_F(FocusTest, FramesFindAPortWhenTheyAreTwo) {
  for (const std::string& frame : {kPing, kWindow}) {
    Focus focus({{{20160, 20160}}, false, true}, tally_, counters_, 0);
    EXPECT_FALSE(Read(focus, 51000, 30000, frame));
    EXPECT_TRUE(Read(focus, 30000, 51001, frame));
    EXPECT_TRUE(Read(focus, 30000, 51000, "x"));
  }
}

TEST_F(FocusTest, WhatOnlyBeginsLikeAFrameFindsNothing) {
  Focus focus({{{20160, 20160}}, false, true}, tally_, counters_, 0);
  std::string on_a_stream = kPing;
  on_a_stream[8] = 1;
  std::string odd_flags = kWindow;
  odd_flags[4] = 4;
  std::string nothing = kWindow;
  nothing.replace(9, 4, std::string(4, '\0'));
  for (const std::string& payload : {on_a_stream, odd_flags, nothing, kPing.substr(0, 16),
                                     kPreface.substr(0, 23), std::string("GET / HTTP/1.1")}) {
    for (int i = 0; i < 5; ++i) EXPECT_FALSE(Read(focus, 51000, 30000, payload));
  }
  EXPECT_THAT(focus.TakeFound(), IsEmpty());
}

TEST_F(FocusTest, BusyConnectionsAreExcludedWhileTheyAreOpen) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  const ForeignConnection busy = Foreign(40000, 3306, limits::kPacketsWorthExcluding);
  const ForeignConnection quiet = Foreign(40001, 3306, limits::kPacketsWorthExcluding - 1);
  auto now = Look(focus, {busy, quiet});
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded, ElementsAre(busy.key));
  EXPECT_THAT(focus.TakeWords(), SizeIs(1));
  // Nothing comes of it any more, but it is open.
  EXPECT_FALSE(Look(focus, {Foreign(40000, 3306, 0), quiet}).has_value());
  now = Look(focus, {quiet});
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded, IsEmpty());
}

TEST_F(FocusTest, NothingIsExcludedForWhoKeepsThePackets) {
  Focus focus({{}, false, false}, tally_, counters_, 0);
  EXPECT_FALSE(Look(focus, {Foreign(40000, 3306, 100'000)}).has_value());
}

TEST_F(FocusTest, TheBusiestHaveRoomAndTheOldestGivesWay) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  std::vector<ForeignConnection> all;
  for (uint16_t i = 0; i < limits::kMaxExcludedConnections + 2; ++i) {
    all.push_back(Foreign(static_cast<uint16_t>(40000 + i), 3306, 1000 + i));
  }
  auto now = Look(focus, all);
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded, SizeIs(limits::kMaxExcludedConnections));
  EXPECT_EQ(now->excluded.front().a.port, all.back().key.a.port);
  for (size_t i = 2; i < all.size(); ++i) all[i].segments = 0;
  now = Look(focus, all);
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded, SizeIs(limits::kMaxExcludedConnections));
  EXPECT_EQ(now->excluded.back(), all[1].key);
  EXPECT_EQ(counters_.Get(Counter::kConnectionsExcluded), limits::kMaxExcludedConnections + 1);
}

TEST_F(FocusTest, APortIsExcludedWhenItHasShownWhatItIsFor) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  for (uint32_t i = 1; i < limits::kForeignConnectionsOfAPort; ++i) focus.OnForeign(3306);
  auto now = Look(focus, {Foreign(40000, 3306, 500)});
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded_ports, IsEmpty());
  focus.OnForeign(3306);
  now = Look(focus, {Foreign(40000, 3306, 500)});
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded_ports, ElementsAre(3306));
  EXPECT_THAT(now->excluded, IsEmpty()) << "its connections are left out with it";
  EXPECT_FALSE(Read(focus, 40000, 3306, "x"));
  EXPECT_TRUE(Read(focus, 40000, 3307, "x"));
  // gRPC there after all: from when on it was not captured is known.
  EXPECT_TRUE(Read(focus, 40000, 3306, kPreface, 9 * kSecond));
  const std::vector<FoundPort> found = focus.TakeFound();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].missed_from_ns, 2 * kSecond);
  now = Look(focus, {});
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded_ports, IsEmpty());
  EXPECT_THAT(now->wanted_ports, ElementsAre(3306));
}

TEST_F(FocusTest, APortWithOneHttp2ConnectionIsNeverExcluded) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  focus.OnHttp2(10080);
  for (uint32_t i = 0; i < 100 * limits::kForeignConnectionsOfAPort; ++i) focus.OnForeign(10080);
  const auto now = Look(focus, {Foreign(40000, 10080, 500)});
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded_ports, IsEmpty());
  EXPECT_THAT(now->wanted_ports, ElementsAre(10080));
}

TEST_F(FocusTest, AClientWithAnExcludedPortIsRead) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  focus.OnHttp2(20160);
  for (uint32_t i = 0; i < limits::kForeignConnectionsOfAPort; ++i) focus.OnForeign(40000);
  (void)Look(focus, {Foreign(1, 40000, 500)});
  EXPECT_FALSE(Read(focus, 1, 40000, "x"));
  EXPECT_TRUE(Read(focus, 40000, 20160, "x"));
}

TEST_F(FocusTest, TheFilterIsChangedOnceASecond) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  ASSERT_TRUE(Look(focus, {Foreign(40000, 3306, 500)}).has_value());
  EXPECT_FALSE(
      focus.Look(steady_ns_ + limits::kFilterEveryNs - 1, 0, {Foreign(40001, 3306, 500)}).has_value());
  EXPECT_TRUE(Look(focus, {Foreign(40001, 3306, 500)}).has_value());
  EXPECT_EQ(counters_.Get(Counter::kFilterUpdates), 2u);
}

TEST_F(FocusTest, PortsAreBounded) {
  Focus focus({{}, false, true}, tally_, counters_, 0);
  std::vector<ForeignConnection> all;
  for (uint16_t port = 1000; port < 1000 + 2 * limits::kMaxExcludedPorts; ++port) {
    for (uint32_t i = 0; i < limits::kForeignConnectionsOfAPort; ++i) focus.OnForeign(port);
    all.push_back(Foreign(40000, port, 500));
  }
  const auto now = Look(focus, all);
  ASSERT_TRUE(now.has_value());
  EXPECT_THAT(now->excluded_ports, SizeIs(limits::kMaxExcludedPorts));

  Focus named({{{20160, 20160}}, false, true}, tally_, counters_, 0);
  for (uint16_t port = 5000; port < 5000 + limits::kMaxWantedPorts; ++port) {
    EXPECT_TRUE(Read(named, 60000, port, kPreface));
  }
  EXPECT_FALSE(Read(named, 60000, 9000, kPreface));
  EXPECT_EQ(counters_.Get(Counter::kCapPorts), 1u);
  for (uint32_t port = 10000; port < 10000 + 2 * limits::kMaxSuspectedPorts; ++port) {
    EXPECT_FALSE(Read(named, 60000, static_cast<uint16_t>(port), kPing));
  }
}

}  // namespace
}  // namespace keytrail
