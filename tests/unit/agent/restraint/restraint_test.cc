// The steps of an agent that uses more than it may: tables of readings, a quarter of a second apart.
#include "agent/restraint/restraint.h"

#include <gtest/gtest.h>

#include <string>

namespace keytrail {
namespace {

constexpr int64_t kTickNs = 250'000'000;
constexpr uint64_t kMiB = 1 << 20;

class Host {
 public:
  explicit Host(const RestraintLimits& limits) : restraint(limits) {}

  // Uses this much for so long; the steps that were taken, as "1 2 1" (numbers of levels).
  std::string Use(double share, uint64_t memory_bytes, double seconds) {
    std::string steps;
    for (int64_t end = at_ns + static_cast<int64_t>(seconds * 1e9); at_ns < end;) {
      at_ns += kTickNs;
      cpu_ns += static_cast<int64_t>(share * kTickNs);
      if (const auto step = restraint.Observe({at_ns, cpu_ns, memory_bytes})) {
        EXPECT_EQ(step->to, restraint.level());
        EXPECT_EQ(std::abs(static_cast<int>(step->to) - static_cast<int>(step->from)), 1);
        steps += (steps.empty() ? "" : " ") + std::to_string(static_cast<int>(step->to));
        last = *step;
      }
    }
    return steps;
  }

  Restraint restraint;
  RestraintStep last;
  int64_t at_ns = 0;
  int64_t cpu_ns = 0;
};

TEST(Restraint, WithoutLimitsNothingIsLeftOut) {
  Host host({});
  EXPECT_EQ(host.Use(40, 1ull << 40, 600), "");
}

TEST(Restraint, BelowTheLimitNothingIsLeftOut) {
  Host host({0.5, 100 * kMiB});
  EXPECT_EQ(host.Use(0.49, 100 * kMiB, 600), "");
}

TEST(Restraint, EachStepTakesAWindow) {
  Host host({0.5, 0});
  EXPECT_EQ(host.Use(0.6, 0, 2), "");
  EXPECT_EQ(host.Use(0.6, 0, 0.25), "1");
  EXPECT_FALSE(host.last.by_memory);
  EXPECT_NEAR(host.last.cpu_share, 0.6, 1e-6);
  EXPECT_EQ(host.Use(0.6, 0, 1.75), "");
  EXPECT_EQ(host.Use(0.6, 0, 0.25), "2");
  EXPECT_EQ(host.Use(0.6, 0, 100), "3 4");
  EXPECT_TRUE(host.restraint.exhausted());
}

TEST(Restraint, ABurstIsNoReason) {
  Host host({0.5, 0});
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(host.Use(1.0, 0, 0.5), "");
    EXPECT_EQ(host.Use(0.1, 0, 3), "");
  }
}

TEST(Restraint, MemoryMustBeAboveAllTheTime) {
  Host host({0, 100 * kMiB});
  EXPECT_EQ(host.Use(0, 101 * kMiB, 1.75), "");
  EXPECT_EQ(host.Use(0, 99 * kMiB, 0.25), "");
  EXPECT_EQ(host.Use(0, 101 * kMiB, 2), "");
  EXPECT_EQ(host.Use(0, 101 * kMiB, 0.75), "1");
  EXPECT_TRUE(host.last.by_memory);
  EXPECT_EQ(host.last.memory_bytes, 101 * kMiB);
}

TEST(Restraint, DownOnlyWellBelowAndAfterAWhile) {
  Host host({0.5, 0});
  EXPECT_EQ(host.Use(0.6, 0, 2.25), "1");
  EXPECT_EQ(host.Use(0.45, 0, 600), "") << "between three quarters and the limit it stays";
  // The window that still has what was used before counts as not calm.
  EXPECT_EQ(host.Use(0.3, 0, 5), "");
  EXPECT_EQ(host.Use(0.3, 0, 2), "0");
  EXPECT_EQ(host.Use(0.3, 0, 600), "");
}

TEST(Restraint, AStepDownThatWasTooEarlyIsTriedLater) {
  Host host({0.5, 0});
  EXPECT_EQ(host.Use(0.6, 0, 2.25), "1");
  int64_t wait_ns = limits::kRestraintCalmNs;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(host.restraint.calm_ns(), wait_ns);
    EXPECT_EQ(host.Use(0.1, 0, static_cast<double>(wait_ns) / 1e9 + 2), "0");
    EXPECT_EQ(host.Use(0.9, 0, 2.25), "1");
    wait_ns = std::min(wait_ns * 2, limits::kRestraintMostCalmNs);
  }
  EXPECT_EQ(wait_ns, limits::kRestraintMostCalmNs);
  // One that holds ends the caution.
  EXPECT_EQ(host.Use(0.1, 0, 1000), "0");
  EXPECT_EQ(host.restraint.calm_ns(), limits::kRestraintCalmNs);
}

TEST(Restraint, ADifferentLimitKeepsItUp) {
  Host host({0.5, 100 * kMiB});
  EXPECT_EQ(host.Use(0.9, 10 * kMiB, 2.25), "1");
  EXPECT_EQ(host.Use(0.1, 80 * kMiB, 600), "");
  EXPECT_EQ(host.Use(0.1, 10 * kMiB, 8), "0");
}

}  // namespace
}  // namespace keytrail
