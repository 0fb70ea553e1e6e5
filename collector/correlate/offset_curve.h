// How far one clock is ahead of another, as a function of the first one's reading, from bounds at single
// moments.
//
// A message that leaves at reading t of clock A and arrives at reading u of clock B says: B minus A is at
// most u - t, for no byte arrives before it is sent; one the other way says "at least". Each such bound holds
// at its own moment, and elsewhere as far as the two clocks can have drifted in between, kMostDriftPpm. So
// bounds widen like cones, all cones together leave a tunnel, and the tunnel holds the truth: there is no
// statistic in it. That messages of small delay count most follows by itself. A slew within kMostDriftPpm
// stays inside of the tunnel whatever its course.
//
// Two bounds that contradict each other mean that the clocks were set against each other in between, or that
// a bound is false (two views that were no pair). Either way the tunnel ends there and a new one begins; in
// the gap both, and all that was said within, are held possible, and bounds are never carried across. A clock
// that is set back shows times twice: the other clock's curve knows where (OtherClockTwice), and what was
// said there belongs to the gap, too. What cannot be told is a step smaller than the delay of the messages
// around it.
//
// Times and offsets are nanoseconds. What is kept is a few bounds for each bucket of time, the tightest ones
// for what follows and for what came before, so memory follows time and not traffic; ClockGraph widens the
// buckets when there are too many. The outcome does not depend on the order of Add calls. Pure values, not
// thread-safe. Nothing is checked but overflow: see ClockPair for what makes a call a good witness.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace keytrail::correlate {

// Two clocks that are each off by at most 500 ppm: the kernel's limit for a frequency set by NTP, and the
// rate at which adjtime() slews.
inline constexpr int64_t kMostDriftPpm = 1000;
// How far two such clocks come apart within `ns`, rounded up.
constexpr int64_t DriftWithin(int64_t ns) {
  return (ns < 0 ? -ns : ns) / (1'000'000 / kMostDriftPpm) + 1;
}

// The offset lies in [low, high]; `value` is the best single one.
struct OffsetClaim {
  int64_t value = 0;
  int64_t low = 0;
  int64_t high = 0;

  int64_t error() const { return high - value > value - low ? high - value : value - low; }
};

class OffsetCurve {
 public:
  // A line that stays inside of the tunnel from `from` to `to`: offset + (t - from) * slope.
  struct Piece {
    int64_t from = 0;
    int64_t to = 0;
    int64_t offset = 0;  // at `from`
    double slope = 0;
    int64_t error = 0;           // the truth is nowhere within this piece further away from the line
    uint64_t bounds = 0;         // that were added within it
    bool contradictory = false;  // between two tunnels: the line is a guess there, the error is not
    bool stepped = false;        // ... and these do not fit each other: the clocks were set

    int64_t At(int64_t t) const {
      return offset + static_cast<int64_t>(slope * static_cast<double>(t - from));
    }
  };

  // The buckets are 2^shift ns wide. 17 ms at first: within one the clocks drift apart by less than a
  // network's usual delay.
  static constexpr int kFirstShift = 24;

  OffsetCurve() = default;
  OffsetCurve(const OffsetCurve&) = delete;  // it remembers a place of its own
  OffsetCurve& operator=(const OffsetCurve&) = delete;

  // The offset at reading t is at most, at least this. Ignored if either is beyond a few decades.
  void AddAtMost(int64_t t, int64_t offset) { Add(t, offset, true); }
  void AddAtLeast(int64_t t, int64_t offset) { Add(t, offset, false); }
  size_t bucket_count() const { return buckets_.size(); }
  // Makes the buckets at least this wide.
  void Coarsen(int shift);

  // Readings, both ends included.
  struct Stretch {
    int64_t from = 0;
    int64_t to = 0;
  };
  // Works out tunnels and lines. To be called after the last Add and before all that follows; linear in the
  // buckets. What lies in `doubtful` is held possible, and carried nowhere.
  void Settle(std::span<const Stretch> doubtful = {});
  // Readings that the other clock may have shown twice, because it was set back, as far as this side can
  // tell.
  std::vector<Stretch> OtherClockTwice() const;
  // nullopt: not bounded from both sides by anything.
  std::optional<OffsetClaim> At(int64_t t) const;
  // In order of time; where nothing is known there is none.
  std::span<const Piece> pieces() const { return pieces_; }
  // By how much the clocks may have been set against each other, at most, between two readings.
  int64_t SteppedBetween(int64_t t, int64_t u) const;
  bool Covers(int64_t t) const {
    return !pieces_.empty() && pieces_.front().from <= t && t <= pieces_.back().to;
  }

 private:
  // A bound and its cones: what is compared for later and for earlier moments.
  struct Bound {
    int64_t t = 0;
    int64_t offset = 0;
  };
  struct Bucket {
    // [0] is the tightest for what follows, [1] for what came before; count tells whether there is one.
    std::array<Bound, 2> at_most;
    std::array<Bound, 2> at_least;
    uint64_t at_most_count = 0;
    uint64_t at_least_count = 0;
    // The loosest: what the bounds allow if they contradict each other.
    int64_t lowest = 0;
    int64_t highest = 0;
    int64_t first = std::numeric_limits<int64_t>::max();
    int64_t last = std::numeric_limits<int64_t>::min();
  };
  struct Bounded {
    int64_t low = 0;
    int64_t high = 0;
  };
  // Between two tunnels, or outside of the first or last one: what bounds that fit no tunnel allow.
  struct Gap {
    std::optional<Bounded> loose;
    int64_t first = std::numeric_limits<int64_t>::max();
    int64_t last = std::numeric_limits<int64_t>::min();
    uint64_t bounds = 0;
    // The tunnels on both sides do not fit each other: by how much the clocks were set, at most.
    int64_t stepped = 0;

    void Take(const Bucket& bucket);
    void Take(const Gap& other);
  };
  // Bounds that agree, in order of time, with the tightest cones up to and from each of them.
  struct Tunnel {
    int64_t first = 0;
    int64_t last = 0;
    std::vector<int64_t> times;
    std::vector<int64_t> offsets;  // of the bounds themselves
    std::vector<bool> at_most;
    std::vector<int64_t> high_after, low_after;    // of bounds up to this one, for later moments
    std::vector<int64_t> high_before, low_before;  // of bounds from this one on, for earlier moments
    std::vector<uint64_t> bounds;                  // how many were added, told at the first of a bucket
    Gap all;                                       // the loosest of them
    std::vector<Piece> lines;                      // empty: not bounded from both sides

    Bounded At(int64_t t) const;
    // The k-th bound cannot be of the same course of the clocks as those of `other`.
    bool Contradicts(size_t k, const Tunnel& other) const;
  };

  void Add(int64_t t, int64_t offset, bool at_most);
  static void Merge(Bucket& into, const Bucket& bucket);
  static void Offer(std::array<Bound, 2>& kept, bool fresh, const Bound& bound, bool at_most);
  static bool Agrees(const Bucket& bucket);
  static bool Fits(const Tunnel& tunnel, const Bucket& bucket);
  static void Append(Tunnel& tunnel, const Bucket& bucket);
  static void Close(Tunnel& tunnel);
  static bool Contradict(const Tunnel& a, const Tunnel& b);  // a before b
  void FindTunnels(std::span<const Stretch> doubtful);
  void Drop(const std::vector<bool>& dropped);
  void DropWeakTunnels();
  void DropTwiceShownTunnels();
  void FindSteps();
  static void DrawLines(Tunnel& tunnel);
  static Piece Line(const Tunnel& tunnel, const Piece& line, size_t begin, size_t end);
  void DrawGap(size_t gap);
  std::optional<Bounded> Hull(size_t gap, int64_t t) const;
  std::optional<OffsetClaim> InGap(size_t gap, int64_t t) const;

  // Stands for "not bounded"; sums of it with the reach of any cone do not overflow.
  static constexpr int64_t kFar = int64_t{1} << 61;
  // Cones are computed with floors: what that may cost.
  static constexpr int64_t kRounding = 2;
  // The height of a cone over the origin of time: cones are compared by where they would stand there.
  static constexpr int64_t Reach(int64_t t) { return t / (1'000'000 / kMostDriftPpm); }
  static bool Known(int64_t low, int64_t high) {
    return std::min(low, high) > -kFar + kFar / 4 && std::max(low, high) < kFar - kFar / 4;
  }

  int shift_ = kFirstShift;
  std::map<int64_t, Bucket> buckets_;
  // The bucket that was added to last: most bounds come in order of time.
  int64_t recent_index_ = -1;
  Bucket* recent_ = nullptr;
  std::vector<Tunnel> tunnels_;
  std::vector<Gap> gaps_;  // gaps_[i] lies before tunnels_[i], the last one behind all
  std::vector<Piece> pieces_;
};

}  // namespace keytrail::correlate
