// Many clocks on one: bounds add along paths, unrelated machines stay unrelated, and an order that is told is
// true.
#include "collector/correlate/clock_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/unit/correlate/clock_world.h"

namespace keytrail::correlate {
namespace {

using testing::kBegin;
using testing::kSecond;
using testing::Network;
using testing::SimulatedClock;
using testing::Traffic;

constexpr int64_t kMinute = 60 * kSecond;

std::vector<uint32_t> Ranks(uint32_t hosts) {
  std::vector<uint32_t> ranks(hosts);
  std::iota(ranks.begin(), ranks.end(), 0u);
  return ranks;
}

struct World {
  std::vector<SimulatedClock> clocks;
  int64_t seconds = 30;

  void Talk(ClockGraph& graph, Traffic& traffic, uint32_t client, uint32_t server, int64_t every_ns,
            const Network& network = {}) const {
    for (int64_t at = kBegin; at < kBegin + seconds * kSecond; at += traffic.Exponential(every_ns)) {
      graph.Add(client, server, traffic.Call(clocks[client], clocks[server], network, at));
    }
  }
  int64_t Truth(uint32_t host, uint32_t reference, int64_t at) const {
    return clocks[reference].ErrorAt(at) - clocks[host].ErrorAt(at);
  }
};

// Host i has called host i + 1 only; each clock is minutes off and drifts its own way.
World Chain(uint32_t hosts, Traffic& traffic) {
  World world;
  for (uint32_t i = 0; i < hosts; ++i) {
    world.clocks.emplace_back(traffic.Between(-10 * kMinute, 10 * kMinute),
                              static_cast<double>(traffic.Between(-200, 200)));
  }
  return world;
}

TEST(ClockGraph, AChainOfTwenty) {
  Traffic traffic(1);
  const World world = Chain(20, traffic);
  ClockGraph graph(21);
  for (uint32_t i = 0; i + 1 < 20; ++i) world.Talk(graph, traffic, i, i + 1, 10'000'000);
  graph.Spread(0, Ranks(21));
  for (uint32_t h = 0; h < 20; ++h) {
    ASSERT_TRUE(graph.Related(h));
    if (h > 0) {
      EXPECT_EQ(graph.Parent(h), h - 1);
    }
    int64_t worst = 0;
    for (int64_t at = kBegin; at < kBegin + world.seconds * kSecond; at += 1'234'567) {
      const auto claim = graph.ToReference(h, world.clocks[h].Reading(at));
      ASSERT_TRUE(claim);
      ASSERT_LE(claim->low, world.Truth(h, 0, at)) << h;
      ASSERT_GE(claim->high, world.Truth(h, 0, at)) << h;
      worst = std::max(worst, claim->error());
    }
    EXPECT_LE(worst, h * 200'000) << h;
    const auto lines = graph.PathPieces(h);
    EXPECT_EQ(lines.empty(), h == 0);
    size_t inside = 0;
    for (int64_t at = kBegin; at < kBegin + world.seconds * kSecond; at += 1'234'567) {
      const int64_t t = world.clocks[h].Reading(at);
      for (const auto& p : lines) {
        if (t < p.from || t > p.to) continue;
        ++inside;
        ASSERT_LE(std::abs(p.At(t) - world.Truth(h, 0, at)), p.error) << h;
      }
    }
    if (h > 0) {
      EXPECT_GE(inside, 23'000u);
    }
    for (size_t most : {1u, 3u, 40u}) {
      const auto joined = JoinLines(lines, most);
      EXPECT_LE(joined.size(), most);
      for (int64_t at = kBegin + kSecond; at < kBegin + world.seconds * kSecond - kSecond; at += 12'345'678) {
        const int64_t t = world.clocks[h].Reading(at);
        for (const auto& p : joined) {
          if (t < p.from || t > p.to) continue;
          ASSERT_LE(std::abs(p.At(t) - world.Truth(h, 0, at)), p.error) << h;
        }
      }
    }
  }
  EXPECT_FALSE(graph.Related(20));
  EXPECT_FALSE(graph.ToReference(20, kBegin));
  EXPECT_EQ(graph.Compare({20, kBegin}, {0, kBegin + kMinute}), Order::kNotKnown);
  EXPECT_EQ(graph.Compare({20, kBegin}, {20, kBegin + 1000}), Order::kBefore);
}

// Whatever is told of two events is true, and it is told when they are further apart than the bounds.
TEST(ClockGraph, OrderThatIsToldIsTrue) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    Traffic traffic(seed);
    World world = Chain(6, traffic);
    world.clocks[2].Set(kBegin + 10 * kSecond, -800'000'000);
    world.clocks[3].Set(kBegin + 20 * kSecond, kSecond);
    if (seed % 2 == 0) world.clocks[0].Set(kBegin + 15 * kSecond, -kSecond);  // the reference
    world.clocks[4].Slew(kBegin + 5 * kSecond, 4'000'000, 500);
    ClockGraph graph(6);
    for (uint32_t i = 1; i < 6; ++i) {
      world.Talk(graph, traffic, i, 0, 20'000'000);
      world.Talk(graph, traffic, i, 1 + i % 5, 30'000'000);
    }
    graph.Spread(0, Ranks(6));
    size_t known = 0;
    size_t known_far = 0;
    size_t far = 0;
    for (int i = 0; i < 100'000; ++i) {
      const auto a = static_cast<uint32_t>(traffic.Between(0, 5));
      const auto b = static_cast<uint32_t>(traffic.Between(0, 5));
      const int64_t at = kBegin + traffic.Between(0, world.seconds * kSecond);
      const int64_t later = at + traffic.Exponential(traffic.Between(1'000, 500'000'000));
      const Moment x{a, world.clocks[a].Stamp(at)};
      const Moment y{b, world.clocks[b].Stamp(later)};
      const Order order = graph.Compare(x, y);
      ASSERT_NE(order, Order::kAfter)
          << "seed " << seed << ": " << a << " at " << at - kBegin << ", " << b << " after " << later - at;
      EXPECT_EQ(graph.Compare(y, x) == Order::kBefore, false);
      known += order == Order::kBefore ? 1 : 0;
      // Away from the steps: told.
      const int64_t to_step =
          std::min({std::abs(at - kBegin - 10 * kSecond), std::abs(at - kBegin - 20 * kSecond),
                    std::abs(at - kBegin - 15 * kSecond)});
      if (later - at > 5'000'000 && to_step > 3 * kSecond && later < kBegin + world.seconds * kSecond) {
        ++far;
        known_far += order == Order::kBefore ? 1 : 0;
      }
    }
    EXPECT_GT(known, 50'000u);
    EXPECT_GE(known_far, far * 99 / 100) << "seed " << seed;
  }
}

TEST(ClockGraph, ThePathOfLeastBoundIsTaken) {
  Traffic traffic(2);
  World world = Chain(4, traffic);
  ClockGraph graph(4);
  Network slow;
  slow.forth_ns = slow.back_ns = 5'000'000;
  world.Talk(graph, traffic, 1, 0, 10'000'000, slow);
  world.Talk(graph, traffic, 1, 2, 10'000'000);
  world.Talk(graph, traffic, 2, 0, 10'000'000);
  // Heard of for a moment only, at the beginning: near then, far for the rest.
  World moment = world;
  moment.seconds = 1;
  moment.Talk(graph, traffic, 3, 0, 10'000'000);
  world.Talk(graph, traffic, 3, 2, 10'000'000);
  graph.Spread(0, Ranks(4));
  EXPECT_EQ(graph.Parent(1), 2u);
  EXPECT_EQ(graph.Parent(2), 0u);
  EXPECT_EQ(graph.Parent(3), 2u);
  EXPECT_EQ(graph.Pairs().size(), 5u);
  EXPECT_FALSE(graph.PairPieces(1, 0).empty());
  EXPECT_TRUE(graph.PairPieces(1, 3).empty());
}

// Two machines whose clocks no path leads from to the reference still have an order of their own.
TEST(ClockGraph, PairsBesideTheReference) {
  Traffic traffic(3);
  const World world = Chain(4, traffic);
  ClockGraph graph(4);
  world.Talk(graph, traffic, 1, 0, 10'000'000);
  world.Talk(graph, traffic, 3, 2, 10'000'000);
  graph.Spread(0, Ranks(4));
  EXPECT_FALSE(graph.Related(2));
  EXPECT_FALSE(graph.Related(3));
  const int64_t at = kBegin + 10 * kSecond;
  EXPECT_EQ(graph.Compare({3, world.clocks[3].Stamp(at)}, {2, world.clocks[2].Stamp(at + 1'000'000)}),
            Order::kBefore);
  EXPECT_EQ(graph.Compare({3, world.clocks[3].Stamp(at)}, {1, world.clocks[1].Stamp(at + kMinute)}),
            Order::kNotKnown);
}

// With few buckets bounds grow; they hold all the same, memory stays, and order of arrival changes nothing.
TEST(ClockGraph, BucketsAreBounded) {
  for (size_t most : {8u, 64u, 1000u}) {
    std::vector<int64_t> expected;
    for (bool backwards : {false, true}) {
      Traffic traffic(4);
      World world = Chain(4, traffic);
      world.seconds = 300;
      struct Seen {
        uint32_t client, server;
        FourStamps stamps;
      };
      std::vector<Seen> calls;
      for (int64_t at = kBegin; at < kBegin + world.seconds * kSecond;
           at += traffic.Exponential(20'000'000)) {
        const auto c = static_cast<uint32_t>(traffic.Between(1, 3));
        calls.push_back({c, c - 1, traffic.Call(world.clocks[c], world.clocks[c - 1], {}, at)});
      }
      if (backwards) std::reverse(calls.begin(), calls.end());
      ClockGraph graph(4, most);
      for (const Seen& s : calls) graph.Add(s.client, s.server, s.stamps);
      EXPECT_LE(graph.bucket_count(), most);
      graph.Spread(0, Ranks(4));
      std::vector<int64_t> got;
      for (int64_t at = kBegin; at < kBegin + world.seconds * kSecond; at += 98'765'432) {
        const auto claim = graph.ToReference(3, world.clocks[3].Reading(at));
        ASSERT_TRUE(claim);
        ASSERT_LE(claim->low, world.Truth(3, 0, at));
        ASSERT_GE(claim->high, world.Truth(3, 0, at));
        got.push_back(claim->value);
      }
      if (!backwards) expected = got;
      EXPECT_EQ(got, expected);
    }
  }
}

}  // namespace
}  // namespace keytrail::correlate
