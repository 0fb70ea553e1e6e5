// All machines' clocks on the clock of one of them, and the order of events on different machines.
//
// Machines are numbers below `hosts`; pairs that share calls are edges. Each machine reaches the reference
// along the path whose bounds add up to least; one that has no path is unrelated, and nothing is said of its
// time. Memory is bounded: the pairs' buckets of time become wider when there are more than `most_buckets` of
// them, the same way in whatever order calls come. Pure, not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "collector/correlate/clock_pair.h"
#include "common/limits.h"

namespace keytrail::correlate {

// An event by the clock of the machine that stamped it.
struct Moment {
  uint32_t host = 0;
  int64_t t = 0;
};

enum class Order : uint8_t { kBefore, kAfter, kNotKnown };

class ClockGraph {
 public:
  explicit ClockGraph(uint32_t hosts, size_t most_buckets = limits::kMaxClockBuckets);

  // More machines than before; Spread() has to be called anew.
  void Grow(uint32_t hosts);

  // A call that was seen at both ends, on two different machines.
  void Add(uint32_t client, uint32_t server, const FourStamps& stamps);
  uint64_t Calls(uint32_t host) const;  // of all its pairs
  size_t bucket_count() const { return buckets_; }
  size_t most_buckets() const { return most_buckets_; }

  // Settles all pairs and finds the paths. `rank` gives each machine a place of its own that decides between
  // equal paths; the outcome then depends on neither the order of calls nor the numbers of machines. To be
  // called after the last Add and before all that follows.
  void Spread(uint32_t reference, std::span<const uint32_t> rank);
  // Spread(), unless hardly anything was added since the last time: what is said of the newest readings is
  // then wider than it could be.
  void SpreadIfGrown(uint32_t reference, std::span<const uint32_t> rank);
  uint32_t reference() const { return reference_; }
  bool Related(uint32_t host) const { return host == reference_ || hops_[host].curve != nullptr; }
  // The next machine on the way to the reference. The host must be related and not the reference.
  uint32_t Parent(uint32_t host) const { return hops_[host].parent; }

  // What to add to the machine's reading to get the reference's.
  std::optional<OffsetClaim> ToReference(uint32_t host, int64_t t) const;
  // The one place where times of machines are compared: the gap against the bound of both clocks, along the
  // paths to the reference and by the calls that the two share. Readings of one machine are compared as they
  // are, unless its clock was set in between; equal ones are not known.
  Order Compare(const Moment& a, const Moment& b) const;

  // Lines for the offset "reference minus host" by the host's reading, over all hops.
  std::vector<OffsetCurve::Piece> PathPieces(uint32_t host) const;
  // For the offset "b minus a" by a's reading, from their own calls; empty if they share none.
  std::span<const OffsetCurve::Piece> PairPieces(uint32_t a, uint32_t b) const;
  // Pairs (a, b), a below b, that share calls.
  std::vector<std::pair<uint32_t, uint32_t>> Pairs() const;

 private:
  struct Hop {
    uint32_t parent = 0;
    const OffsetCurve* curve = nullptr;  // null: unrelated, or the reference
  };
  const OffsetCurve* Curve(uint32_t from, uint32_t to) const;
  int64_t TypicalError(uint32_t from, const OffsetCurve& curve) const;
  // By how much the machine's own clock may have been set between two of its readings. A step that not all of
  // its neighbours saw was theirs.
  int64_t OwnStep(uint32_t host, int64_t t, int64_t u) const;
  Order CompareOn(uint32_t host, int64_t a, int64_t a_error, int64_t b, int64_t b_error) const;
  Order CompareByPair(const Moment& a, const Moment& b) const;

  std::map<std::pair<uint32_t, uint32_t>, ClockPair> pairs_;  // a below b
  std::vector<std::vector<uint32_t>> neighbours_;
  std::vector<Hop> hops_;
  uint32_t reference_ = 0;
  size_t most_buckets_;
  size_t buckets_ = 0;
  uint64_t calls_ = 0;         // that were added
  uint64_t calls_spread_ = 0;  // ... before the last Spread()
  int shift_ = OffsetCurve::kFirstShift;
};

// At most `most` lines, neighbours joined; their errors grow so that they still hold.
std::vector<OffsetCurve::Piece> JoinLines(std::vector<OffsetCurve::Piece> lines, size_t most);

}  // namespace keytrail::correlate
