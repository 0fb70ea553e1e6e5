// Two clocks, all kinds of delays, drift, slews and steps: the true offset is always within the bound that is
// told.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/correlate/clock_world.h"

namespace keytrail::correlate {
namespace {

using testing::kBegin;
using testing::kSecond;
using testing::Network;
using testing::SimulatedClock;
using testing::Traffic;

constexpr int64_t kMinute = 60 * kSecond;

struct Case {
  const char* name;
  SimulatedClock client;
  SimulatedClock server;
  Network network;
  int64_t every_ns;        // mean time between calls
  int64_t usual_error_ns;  // half of all moments are known better than this
  size_t steps = 0;
  int64_t seconds = 120;
};

SimulatedClock With(SimulatedClock clock, auto change) {
  change(clock);
  return clock;
}

std::vector<Case> Cases() {
  const Network lan;
  Network lopsided;
  lopsided.forth_ns = 900'000;
  lopsided.back_ns = 40'000;
  Network stalling;
  stalling.stalled = 0.6;
  Network loopback{2'000, 2'000, 500, 0, 5'000};
  const Network none{0, 0, 0, 0, 0};  // what is left is how pcap cuts stamps
  const int64_t half = kBegin + 60 * kSecond;
  const int64_t ms = 1'000'000;
  return {
      {"equal clocks", SimulatedClock(), SimulatedClock(), lan, 5 * ms, 70'000},
      {"ten minutes apart", SimulatedClock(-10 * kMinute), SimulatedClock(7), lan, 5 * ms, 70'000},
      {"drift apart", SimulatedClock(kMinute, 200), SimulatedClock(-kMinute, -200), lan, 5 * ms, 70'000},
      {"drift together", SimulatedClock(0, 200), SimulatedClock(5 * ms, 200), lan, 5 * ms, 70'000},
      {"lopsided delay", SimulatedClock(), SimulatedClock(3 * ms, 150), lopsided, 5 * ms, 600'000},
      {"stalls", SimulatedClock(), SimulatedClock(-3 * ms, -100), stalling, 5 * ms, 150'000},
      {"very near", SimulatedClock(kSecond, -30), SimulatedClock(0, 30), loopback, 1 * ms, 7'000},
      {"no delay at all", SimulatedClock(kSecond + 777, -30), SimulatedClock(-333, 30), none, 1 * ms, 6'000},
      {"rare calls", SimulatedClock(0, 200), SimulatedClock(kSecond, -200), lan, 2 * kSecond, 1'200'000},
      {"slew of the server", SimulatedClock(0, -200),
       With(SimulatedClock(0, 200), [&](auto& c) { c.Slew(half, 20 * ms, 500); }), lan, 5 * ms, 100'000},
      {"slews there and back", With(SimulatedClock(9), [&](auto& c) { c.Slew(half, -10 * ms, 500); }),
       With(SimulatedClock(0, 50), [&](auto& c) { c.Slew(half - 20 * kSecond, 5 * ms, 400); }), lan, 5 * ms,
       100'000},
      {"server set forward", SimulatedClock(0, 100),
       With(SimulatedClock(), [&](auto& c) { c.Set(half, 1 * kSecond); }), lan, 5 * ms, 70'000, 1},
      {"server set back", SimulatedClock(),
       With(SimulatedClock(0, -100), [&](auto& c) { c.Set(half, -400 * ms); }), lan, 5 * ms, 70'000, 1},
      {"client set forward", With(SimulatedClock(0, 20), [&](auto& c) { c.Set(half, 9 * kSecond); }),
       SimulatedClock(), lan, 5 * ms, 70'000, 1},
      {"client set back a little", With(SimulatedClock(), [&](auto& c) { c.Set(half, -30 * ms); }),
       SimulatedClock(), lan, 5 * ms, 70'000, 1},
      {"client set back much", With(SimulatedClock(), [&](auto& c) { c.Set(half, -20 * kSecond); }),
       SimulatedClock(), lan, 5 * ms, 70'000, 1},
      {"set twice", SimulatedClock(0, 10),
       With(SimulatedClock(),
            [&](auto& c) {
              c.Set(half, 500 * ms);
              c.Set(half + 20 * kSecond, -700 * ms);
            }),
       lan, 5 * ms, 70'000, 2},
      {"set while rare calls", SimulatedClock(),
       With(SimulatedClock(), [&](auto& c) { c.Set(half, kSecond); }), lan, 2 * kSecond, 1'200'000, 1},
      {"an hour", SimulatedClock(0, 180), SimulatedClock(0, -180), lan, 100 * ms, 130'000, 0, 3600},
  };
}

class ClockPairs : public ::testing::TestWithParam<Case> {
 protected:
  void Run(uint32_t seed, ClockPair& pair) const {
    const Case& c = GetParam();
    Traffic traffic(seed);
    for (int64_t at = kBegin; at < kBegin + c.seconds * kSecond; at += traffic.Exponential(c.every_ns)) {
      pair.Add(true, traffic.Call(c.client, c.server, c.network, at));
    }
    pair.Settle();
  }
};

TEST_P(ClockPairs, TheTruthIsWithinTheBoundAtAnyTime) {
  const Case& c = GetParam();
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    ClockPair pair;
    Run(seed, pair);
    Traffic probe(seed + 1000);
    std::vector<int64_t> errors;
    for (int i = 0; i < 20'000; ++i) {
      const int64_t at = kBegin + probe.Between(0, c.seconds * kSecond);
      const int64_t truth = c.server.ErrorAt(at) - c.client.ErrorAt(at);
      for (bool forth : {true, false}) {
        const OffsetCurve& curve = forth ? pair.a_to_b() : pair.b_to_a();
        const auto claim = curve.At(forth ? c.client.Reading(at) : c.server.Reading(at));
        ASSERT_TRUE(claim) << "seed " << seed << " at " << (at - kBegin);
        ASSERT_LE(claim->low, forth ? truth : -truth) << "seed " << seed << " at " << (at - kBegin);
        ASSERT_GE(claim->high, forth ? truth : -truth) << "seed " << seed << " at " << (at - kBegin);
        ASSERT_LE(claim->low, claim->value);
        ASSERT_GE(claim->high, claim->value);
        errors.push_back(claim->error());
      }
    }
    std::nth_element(errors.begin(), errors.begin() + static_cast<long>(errors.size() / 2), errors.end());
    EXPECT_LE(errors[errors.size() / 2], c.usual_error_ns) << "seed " << seed;
  }
}

TEST_P(ClockPairs, LinesHoldTheTruthAndStepsAreTold) {
  const Case& c = GetParam();
  ClockPair pair;
  Run(3, pair);
  for (bool forth : {true, false}) {
    const auto pieces = (forth ? pair.a_to_b() : pair.b_to_a()).pieces();
    ASSERT_FALSE(pieces.empty());
    size_t steps = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      steps += pieces[i].stepped ? 1 : 0;
      ASSERT_LE(pieces[i].from, pieces[i].to);
      if (i > 0) {
        ASSERT_EQ(pieces[i - 1].to, pieces[i].from);
      }
    }
    EXPECT_EQ(steps, c.steps);
    for (int64_t at = kBegin; at < kBegin + c.seconds * kSecond; at += 7'654'321) {
      const int64_t truth = c.server.ErrorAt(at) - c.client.ErrorAt(at);
      const int64_t t = forth ? c.client.Reading(at) : c.server.Reading(at);
      for (const OffsetCurve::Piece& p : pieces) {
        if (t < p.from || t > p.to) continue;
        // A clock that was set back shows a time twice: one of its lines must hold.
        const bool held = std::abs(p.At(t) - (forth ? truth : -truth)) <= p.error;
        const bool boundary = t == p.from || t == p.to;
        ASSERT_TRUE(held || boundary) << at - kBegin << " off by " << p.At(t) - truth << " of " << p.error;
      }
    }
    const int64_t stepped = (forth ? pair.a_to_b() : pair.b_to_a()).SteppedBetween(0, int64_t{1} << 61);
    EXPECT_EQ(stepped != 0, c.steps != 0);
  }
}

TEST_P(ClockPairs, OrderOfCallsChangesNothing) {
  const Case& c = GetParam();
  Traffic traffic(9);
  std::vector<FourStamps> calls;
  for (int64_t at = kBegin; at < kBegin + c.seconds * kSecond; at += traffic.Exponential(c.every_ns)) {
    calls.push_back(traffic.Call(c.client, c.server, c.network, at));
  }
  std::vector<std::optional<int64_t>> expected;
  for (int order = 0; order < 3; ++order) {
    ClockPair pair;
    for (size_t i = 0; i < calls.size(); ++i) {
      pair.Add(true, calls[i]);
      if (order == 2 && i == calls.size() / 2) pair.Settle();  // judged in between, more comes later
    }
    pair.Settle();
    std::vector<std::optional<int64_t>> got;
    for (int64_t at = kBegin; at < kBegin + c.seconds * kSecond; at += kSecond / 3) {
      const auto claim = pair.a_to_b().At(c.client.Reading(at));
      got.push_back(claim ? std::optional(claim->low * 31 + claim->high * 7 + claim->value) : std::nullopt);
    }
    if (order == 0) expected = got;
    EXPECT_EQ(got, expected) << order;
    std::shuffle(calls.begin(), calls.end(), traffic.random());
  }
}

INSTANTIATE_TEST_SUITE_P(All, ClockPairs, ::testing::ValuesIn(Cases()), [](const auto& tested) {
  std::string name = tested.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

// A call that was paired wrongly, or whose first copy the sender's capture missed: refused where it
// contradicts itself, else both are held possible around it, and there is no step.
TEST(ClockPair, FalseCallsDoNoHarm) {
  const SimulatedClock client(0, 50);
  const SimulatedClock server(kSecond, -50);
  Traffic traffic(4);
  ClockPair pair;
  for (int64_t at = kBegin; at < kBegin + 60 * kSecond; at += traffic.Exponential(5'000'000)) {
    pair.Add(true, traffic.Call(client, server, {}, at));
  }
  const uint64_t good = pair.calls();
  FourStamps late = traffic.Call(client, server, {}, kBegin + 20 * kSecond);
  late.client_sent += 200'000;  // after the arrival, and before the answer
  pair.Add(true, late);
  EXPECT_EQ(pair.refused() + pair.calls(), good + 1);
  FourStamps wrong = traffic.Call(client, server, {}, kBegin + 30 * kSecond);
  wrong.server_received += 5 * kSecond;
  wrong.server_sent += 5 * kSecond;
  pair.Add(true, wrong);
  FourStamps inverted = traffic.Call(client, server, {}, kBegin + 40 * kSecond);
  std::swap(inverted.server_received, inverted.server_sent);
  pair.Add(true, inverted);
  EXPECT_GE(pair.refused(), 1u);
  pair.Settle();
  EXPECT_EQ(pair.a_to_b().SteppedBetween(0, int64_t{1} << 61), 0);
  size_t wide = 0;
  for (int64_t at = kBegin; at < kBegin + 60 * kSecond; at += 1'000'000) {
    const int64_t truth = server.ErrorAt(at) - client.ErrorAt(at);
    const auto claim = pair.a_to_b().At(client.Reading(at));
    ASSERT_TRUE(claim);
    ASSERT_LE(claim->low, truth);
    ASSERT_GE(claim->high, truth);
    wide += claim->error() > 1'000'000 ? 1 : 0;
  }
  EXPECT_LE(wide, 100u);  // a tenth of a second around them
}

// A lone call that contradicts many others is not believed, nor are the others: both are possible there.
TEST(ClockPair, ALoneContradictionIsHeldPossible) {
  ClockPair pair;
  const SimulatedClock clock;
  const SimulatedClock other(3 * kSecond);
  Traffic traffic(5);
  for (int i = 0; i < 100; ++i) {
    pair.Add(true, traffic.Call(clock, i == 50 ? other : clock, {}, kBegin + i * kSecond));
  }
  pair.Settle();
  const auto at = pair.a_to_b().At(kBegin + 50 * kSecond);
  ASSERT_TRUE(at);
  EXPECT_LE(at->low, 0);
  EXPECT_GE(at->high, 3 * kSecond);
  EXPECT_LE(pair.a_to_b().At(kBegin + 52 * kSecond)->error(), 200'000);
  EXPECT_EQ(pair.a_to_b().SteppedBetween(kBegin, kBegin + 100 * kSecond), 0);
}

// The same at the very end, where nobody can tell whether it is false or the first after a step.
TEST(ClockPair, ALoneContradictionAtTheEnd) {
  for (int64_t off : {3 * kSecond, -3 * kSecond}) {
    ClockPair pair;
    const SimulatedClock clock;
    const SimulatedClock other(off);
    Traffic traffic(5);
    for (int i = 0; i < 100; ++i) {
      pair.Add(true, traffic.Call(clock, i == 99 ? other : clock, {}, kBegin + i * kSecond));
    }
    pair.Settle();
    for (int64_t ms : {-500, 0, 1, 500}) {
      const auto at = pair.a_to_b().At(kBegin + 99 * kSecond + ms * 1'000'000);
      ASSERT_TRUE(at);
      EXPECT_LE(at->low, std::min<int64_t>(off, 0)) << off << " " << ms;
      EXPECT_GE(at->high, std::max<int64_t>(off, 0)) << off << " " << ms;
    }
  }
}

// After a step of a second came an upper bound that fits the old course, too, and only then a lower one that
// does not: in between nobody knows.
TEST(ClockPair, ALooseBoundAfterAStepIsNoProofOfTheOldCourse) {
  constexpr int64_t ms = 1'000'000;
  OffsetCurve curve;
  for (int i = 0; i < 40; ++i) {
    const int64_t t = kBegin + i * 20 * ms;
    const int64_t course = i < 10 ? 0 : kSecond;
    curve.AddAtMost(t, course + 50'000);
    if (i != 10) curve.AddAtLeast(t + 1000, course - 50'000);
  }
  curve.Settle();
  const auto step = curve.At(kBegin + 195 * ms);
  const auto loose = curve.At(kBegin + 200 * ms);
  ASSERT_TRUE(step && loose);
  EXPECT_GE(step->high, kSecond);
  EXPECT_GE(loose->high, kSecond);
  EXPECT_LE(loose->low, 0);
  EXPECT_LE(curve.At(kBegin + 170 * ms)->high, 100'000);
  EXPECT_GE(curve.At(kBegin + 230 * ms)->low, kSecond - 100'000);
}

// What no capture holds: stamps of all sizes. Nothing is promised but an end without harm.
TEST(ClockPair, AnyStamps) {
  Traffic traffic(6);
  ClockPair pair;
  const auto any = [&] { return traffic.Between(0, (int64_t{1} << traffic.Between(1, 62)) - 1); };
  for (int i = 0; i < 20'000; ++i) {
    FourStamps s{any(), any(), any(), any()};
    if (i % 2 == 0) {
      s.client_received = std::max(s.client_sent, s.client_received);
      s.server_sent = std::max(s.server_received, s.server_sent);
    }
    pair.Add(i % 3 == 0, s);
    if (i % 5000 == 0) pair.Settle();
  }
  pair.Settle();
  for (int i = 0; i < 1000; ++i) {
    const auto claim = pair.a_to_b().At(any());
    if (claim) {
      EXPECT_LE(claim->low, claim->high);
    }
    pair.b_to_a().SteppedBetween(any(), any());
  }
}

TEST(ClockPair, CallsOneWayOnlyBoundNothingButTheirSide) {
  OffsetCurve curve;
  curve.AddAtMost(kBegin, 500);
  curve.Settle();
  EXPECT_FALSE(curve.At(kBegin));
  curve.AddAtLeast(kBegin + 1000, 300);
  curve.Settle();
  ASSERT_TRUE(curve.At(kBegin));
  EXPECT_LE(curve.At(kBegin)->low, 300);
  EXPECT_GE(curve.At(kBegin)->high, 500);
  EXPECT_LE(curve.At(kBegin)->error(), 110);
}

}  // namespace
}  // namespace keytrail::correlate
