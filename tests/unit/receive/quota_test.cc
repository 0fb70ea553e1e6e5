#include "collector/receive/quota.h"

#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "common/limits.h"

namespace keytrail {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kMillisecond = 1'000'000;

// Sends in batches whenever it may, asked every `step_ns`; calls stored in `seconds`.
uint64_t StoredIn(Quota& quota, int64_t seconds, int64_t step_ns, uint64_t batch) {
  uint64_t stored = 0;
  for (int64_t now = kSecond; now < kSecond + seconds * kSecond; now += step_ns) {
    if (!quota.Within("a", now)) continue;
    quota.Spend("a", batch, now);
    stored += batch;
  }
  return stored;
}

TEST(QuotaTest, HoldsTheRateHoweverOftenItIsAsked) {
  for (const int64_t step : {kMillisecond / 7, kMillisecond, 17 * kMillisecond}) {
    for (const uint64_t batch : {1ULL, 100ULL, 2048ULL}) {
      Quota quota(100'000);
      // Two seconds' worth is there at the start, and the last batch may go beyond by its own size.
      const uint64_t most = 100'000 * 12 + batch;
      const uint64_t stored = StoredIn(quota, 10, step, batch);
      EXPECT_LE(stored, most) << step << " " << batch;
      // Who asks too seldom for its batches gets less.
      const uint64_t asked = static_cast<uint64_t>(10 * kSecond / step) * batch;
      EXPECT_GE(stored + batch + 100, std::min<uint64_t>(100'000 * 12, asked)) << step << " " << batch;
    }
  }
}

TEST(QuotaTest, AnAgentBeyondItsQuotaWaitsAndHarmsNoOther) {
  Quota quota(1000);
  quota.Spend("a", 32'768, kSecond);
  EXPECT_FALSE(quota.Within("a", kSecond));
  EXPECT_TRUE(quota.Within("b", kSecond));
  // 2,000 were there: 30,768 are to be earned.
  EXPECT_FALSE(quota.Within("a", kSecond + 30'768 * kMillisecond));
  EXPECT_TRUE(quota.Within("a", kSecond + 30'769 * kMillisecond));
}

TEST(QuotaTest, NoneMeansAll) {
  Quota quota(0);
  quota.Spend("a", ~uint64_t{0} / 4, kSecond);
  EXPECT_TRUE(quota.Within("a", kSecond));
  EXPECT_EQ(quota.agents(), 0U);
}

TEST(QuotaTest, ExtremesDoNotOverflow) {
  Quota quota(limits::kMaxAgentQuota);
  quota.Spend("a", limits::kMaxAgentQuota * 100, kSecond);
  EXPECT_FALSE(quota.Within("a", kSecond));
  EXPECT_TRUE(quota.Within("a", int64_t{9} * 1'000'000'000 * kSecond));  // 285 years later
}

TEST(QuotaTest, NamesThatOweNothingAreForgotten) {
  Quota quota(1000);
  for (size_t i = 0; i < limits::kMaxSessions; ++i) quota.Spend("agent" + std::to_string(i), 1, kSecond);
  EXPECT_EQ(quota.agents(), limits::kMaxSessions);
  quota.Spend("agent0", 5000, 2 * kSecond);
  quota.Spend("one more", 1, 2 * kSecond);
  EXPECT_EQ(quota.agents(), 2U);
  EXPECT_FALSE(quota.Within("agent0", 2 * kSecond));
}

}  // namespace
}  // namespace keytrail
