#include "collector/query/turnstile.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace keytrail {
namespace {

using Clock = std::chrono::steady_clock;
using Entry = Turnstile::Entry;

const auto kStays = [] { return false; };
Clock::time_point Later() {
  return Clock::now() + std::chrono::minutes(10);
}

TEST(Turnstile, PlacesLineAndNoMore) {
  Turnstile turnstile(1, 1);
  ASSERT_EQ(turnstile.Enter(Later(), kStays), Entry::kIn);
  std::thread second([&] {
    EXPECT_EQ(turnstile.Enter(Later(), kStays), Entry::kIn);
    turnstile.Leave();
  });
  while (turnstile.waiting() == 0) std::this_thread::yield();
  EXPECT_EQ(turnstile.Enter(Later(), kStays), Entry::kLineFull);
  EXPECT_EQ(turnstile.inside(), 1u);
  turnstile.Leave();
  second.join();
  EXPECT_EQ(turnstile.inside(), 0u);
  EXPECT_EQ(turnstile.waiting(), 0u);
}

TEST(Turnstile, WhoGoesOrComesTooLateLeavesTheLine) {
  Turnstile turnstile(1, 4);
  ASSERT_EQ(turnstile.Enter(Later(), kStays), Entry::kIn);
  EXPECT_EQ(turnstile.Enter(Later(), [] { return true; }), Entry::kGone);
  EXPECT_EQ(turnstile.Enter(Clock::now(), kStays), Entry::kTooLate);
  EXPECT_EQ(turnstile.waiting(), 0u);
  turnstile.Leave();
  EXPECT_EQ(turnstile.Enter(Later(), kStays), Entry::kIn);
  turnstile.Leave();
}

TEST(Turnstile, ClosedUntilOpened) {
  Turnstile turnstile(2, 4);
  ASSERT_EQ(turnstile.Enter(Later(), kStays), Entry::kIn);
  turnstile.Close();
  std::atomic<bool> in = false;
  std::thread waits([&] {
    EXPECT_EQ(turnstile.Enter(Later(), kStays), Entry::kIn);
    in = true;
    turnstile.Leave();
  });
  while (turnstile.waiting() == 0) std::this_thread::yield();
  turnstile.Leave();
  EXPECT_EQ(turnstile.inside(), 0u);
  EXPECT_FALSE(in);
  turnstile.Open();
  waits.join();
  EXPECT_TRUE(in);
}

TEST(Turnstile, NeverMoreInsideThanPlaces) {
  Turnstile turnstile(3, 100);
  std::atomic<int> inside = 0;
  std::atomic<int> most = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 20; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        ASSERT_EQ(turnstile.Enter(Later(), kStays), Entry::kIn);
        const int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        --inside;
        turnstile.Leave();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, 3);
}

}  // namespace
}  // namespace keytrail
