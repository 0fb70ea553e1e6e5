// What the nodes share: a log of what really happened, orders on standard input, chance. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <thread>

#include "metapb.pb.h"

namespace keytrail::live {

constexpr uint64_t kClusterId = 7300000000000000053;

// One JSON object a line on standard output, with `event` and `t_ns`; the test holds verdicts against it.
void Say(std::string_view event, nlohmann::json fields = nlohmann::json::object());

// Reads lines of words from standard input until it ends or says "quit". So a node never outlives its test.
void ObeyUntilEnd(const std::function<void(const std::vector<std::string>&)>& order);

// Random numbers of one node; the same seed gives the same row of them.
class Chance {
 public:
  explicit Chance(uint64_t seed) : engine_(seed) {}
  bool Hit(double share) {
    const std::lock_guard lock(mutex_);
    return std::uniform_real_distribution<>(0, 1)(engine_) < share;
  }
  // From first to last, both included.
  int64_t Of(int64_t first, int64_t last) {
    const std::lock_guard lock(mutex_);
    return std::uniform_int_distribution<int64_t>(first, last)(engine_);
  }

 private:
  std::mutex mutex_;
  std::mt19937_64 engine_;
};

// A thread that does something every so often until it is destroyed.
class Every {
 public:
  Every(std::chrono::milliseconds pause, std::function<void()> work);
  ~Every();

 private:
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// Sleeps; for backoffs.
void Pause(std::chrono::milliseconds time);

// The region's peer on that store, or null.
const metapb::Peer* PeerOn(const metapb::Region& region, uint64_t store_id);

// Same id, same version, same conf_ver: client-go's RegionVerID.
bool SameVersion(const metapb::Region& a, const metapb::Region& b);

// "10.0.0.1" of gRPC's "ipv4:10.0.0.1:4242".
std::string HostOf(const std::string& peer);

}  // namespace keytrail::live
