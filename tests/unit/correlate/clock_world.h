// Machines with clocks of known error, and calls between them, for tests of the clocks.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "collector/correlate/clock_pair.h"

namespace keytrail::testing {

inline constexpr int64_t kSecond = 1'000'000'000;
inline constexpr int64_t kBegin = 1'795'451'400 * kSecond;

// A clock as a list of changes: from each moment of true time on it runs at another rate, and may be set.
class SimulatedClock {
 public:
  explicit SimulatedClock(int64_t shift_ns = 0, double ppm = 0) {
    courses_.push_back({kBegin - 3600 * kSecond, shift_ns, ppm});
  }
  void Set(int64_t at, int64_t by_ns) { courses_.push_back({at, ErrorAt(at) + by_ns, courses_.back().ppm}); }
  void Rate(int64_t at, double ppm) { courses_.push_back({at, ErrorAt(at), ppm}); }
  // Runs `extra_ppm` too fast until it has gained `by_ns`, as NTP slews do.
  void Slew(int64_t at, int64_t by_ns, double extra_ppm) {
    const double ppm = courses_.back().ppm;
    const double rate = by_ns < 0 ? -extra_ppm : extra_ppm;
    Rate(at, ppm + rate);
    Rate(at + static_cast<int64_t>(static_cast<double>(by_ns) / rate * 1e6), ppm);
  }

  // What it shows at a moment of true time, minus that moment.
  int64_t ErrorAt(int64_t at) const {
    const Course* c = &courses_.front();
    for (const Course& next : courses_) {
      if (next.at <= at) c = &next;
    }
    return c->error + static_cast<int64_t>(static_cast<double>(at - c->at) * c->ppm / 1e6);
  }
  int64_t Reading(int64_t at) const { return at + ErrorAt(at); }
  // As classic pcap writes it.
  int64_t Stamp(int64_t at) const { return Reading(at) / 1000 * 1000; }

 private:
  struct Course {
    int64_t at;
    int64_t error;
    double ppm;
  };
  std::vector<Course> courses_;
};

struct Network {
  int64_t forth_ns = 50'000;  // the least delay each way
  int64_t back_ns = 50'000;
  int64_t jitter_ns = 20'000;  // mean of what comes on top, exponential
  double stalled = 0.02;       // share of messages that are held up by some 10 ms more
  int64_t server_ns = 300'000;
};

class Traffic {
 public:
  explicit Traffic(uint32_t seed) : random_(seed) {}

  correlate::FourStamps Call(const SimulatedClock& client, const SimulatedClock& server,
                             const Network& network, int64_t at) {
    const int64_t sent = at;
    const int64_t received = sent + Delay(network.forth_ns, network);
    const int64_t answered = received + network.server_ns / 2 + Exponential(network.server_ns / 2);
    const int64_t back = answered + Delay(network.back_ns, network);
    return {client.Stamp(sent), server.Stamp(received), server.Stamp(answered), client.Stamp(back)};
  }
  int64_t Exponential(int64_t mean) {
    return static_cast<int64_t>(std::exponential_distribution<double>()(random_) * static_cast<double>(mean));
  }
  int64_t Between(int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(random_);
  }
  std::mt19937& random() { return random_; }

 private:
  int64_t Delay(int64_t least, const Network& network) {
    const bool stalled = std::uniform_real_distribution<double>(0, 1)(random_) < network.stalled;
    return least + Exponential(network.jitter_ns) + (stalled ? Exponential(10'000'000) : 0);
  }

  std::mt19937 random_;
};

}  // namespace keytrail::testing
