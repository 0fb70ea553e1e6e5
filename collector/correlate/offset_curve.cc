#include "collector/correlate/offset_curve.h"

#include <algorithm>
#include <utility>

namespace keytrail::correlate {
namespace {

constexpr int64_t kMostOffset = int64_t{1} << 60;  // 36 years
constexpr int64_t kLastTime = int64_t{1} << 62;
// A tunnel of fewer bounds than those of three calls is not believed against another one: it may be a call
// that was paired wrongly.
constexpr uint64_t kFewBounds = 6;
constexpr uint64_t kOneCall = 2;
// A clock that is set back while others speak to it shows a few turns for each second; more than these are
// told less precisely.
constexpr size_t kMostTunnelsCompared = 256;

}  // namespace

void OffsetCurve::Add(int64_t t, int64_t offset, bool at_most) {
  if (t < 0 || t >= kLastTime || offset > kMostOffset || offset < -kMostOffset) return;
  Bucket fresh;
  const Bound bound{t, offset};
  (at_most ? fresh.at_most : fresh.at_least) = {bound, bound};
  (at_most ? fresh.at_most_count : fresh.at_least_count) = 1;
  fresh.lowest = fresh.highest = offset;
  fresh.first = fresh.last = t;
  if (recent_ == nullptr || t >> shift_ != recent_index_) {
    recent_index_ = t >> shift_;
    recent_ = &buckets_[recent_index_];
  }
  Merge(*recent_, fresh);
}

// Keeps the one that is tightest for later moments, and the one for earlier moments; of equals the later and
// the earlier one, so that the order of offers does not matter.
void OffsetCurve::Offer(std::array<Bound, 2>& kept, bool fresh, const Bound& bound, bool at_most) {
  const int64_t sign = at_most ? 1 : -1;
  const auto later = [&](const Bound& b) { return std::pair(sign * b.offset - Reach(b.t), -b.t); };
  const auto earlier = [&](const Bound& b) { return std::pair(sign * b.offset + Reach(b.t), b.t); };
  if (fresh || later(bound) < later(kept[0])) kept[0] = bound;
  if (fresh || earlier(bound) < earlier(kept[1])) kept[1] = bound;
}

void OffsetCurve::Merge(Bucket& into, const Bucket& bucket) {
  if (bucket.at_most_count > 0) {
    for (const Bound& b : bucket.at_most) {
      Offer(into.at_most, into.at_most_count == 0 && &b == bucket.at_most.data(), b, true);
    }
    into.highest = into.at_most_count == 0 ? bucket.highest : std::max(into.highest, bucket.highest);
    into.at_most_count += bucket.at_most_count;
  }
  if (bucket.at_least_count > 0) {
    for (const Bound& b : bucket.at_least) {
      Offer(into.at_least, into.at_least_count == 0 && &b == bucket.at_least.data(), b, false);
    }
    into.lowest = into.at_least_count == 0 ? bucket.lowest : std::min(into.lowest, bucket.lowest);
    into.at_least_count += bucket.at_least_count;
  }
  into.first = std::min(into.first, bucket.first);
  into.last = std::max(into.last, bucket.last);
}

void OffsetCurve::Coarsen(int shift) {
  if (shift <= shift_) return;
  std::map<int64_t, Bucket> wider;
  for (const auto& [index, bucket] : buckets_) Merge(wider[index >> (shift - shift_)], bucket);
  buckets_ = std::move(wider);
  recent_ = nullptr;
  shift_ = shift;
}

bool OffsetCurve::Agrees(const Bucket& bucket) {
  if (bucket.at_most_count == 0 || bucket.at_least_count == 0) return true;
  for (const Bound& most : bucket.at_most) {
    for (const Bound& least : bucket.at_least) {
      if (least.offset - most.offset > std::abs(Reach(least.t) - Reach(most.t)) + kRounding) return false;
    }
  }
  return true;
}

bool OffsetCurve::Fits(const Tunnel& tunnel, const Bucket& bucket) {
  for (const Bound& b : bucket.at_most) {
    if (bucket.at_most_count > 0 && b.offset < tunnel.low_after.back() - Reach(b.t) - kRounding) return false;
  }
  for (const Bound& b : bucket.at_least) {
    if (bucket.at_least_count > 0 && b.offset > tunnel.high_after.back() + Reach(b.t) + kRounding)
      return false;
  }
  return true;
}

void OffsetCurve::Append(Tunnel& tunnel, const Bucket& bucket) {
  struct Entry {
    int64_t t;
    int64_t offset;
    bool at_most;
  };
  std::vector<Entry> entries;
  for (const Bound& b : bucket.at_most) {
    if (bucket.at_most_count > 0) entries.push_back({b.t, b.offset, true});
  }
  for (const Bound& b : bucket.at_least) {
    if (bucket.at_least_count > 0) entries.push_back({b.t, b.offset, false});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.t < b.t; });
  if (tunnel.times.empty()) tunnel.first = bucket.first;
  tunnel.last = bucket.last;
  uint64_t bounds = bucket.at_most_count + bucket.at_least_count;
  for (const Entry& e : entries) {
    int64_t high = tunnel.times.empty() ? kFar : tunnel.high_after.back();
    int64_t low = tunnel.times.empty() ? -kFar : tunnel.low_after.back();
    if (e.at_most) high = std::min(high, e.offset - Reach(e.t));
    if (!e.at_most) low = std::max(low, e.offset + Reach(e.t));
    tunnel.times.push_back(e.t);
    tunnel.offsets.push_back(e.offset);
    tunnel.at_most.push_back(e.at_most);
    tunnel.high_after.push_back(high);
    tunnel.low_after.push_back(low);
    // Its own alone for now: Close() adds those that follow.
    tunnel.high_before.push_back(e.at_most ? e.offset + Reach(e.t) : kFar);
    tunnel.low_before.push_back(e.at_most ? -kFar : e.offset - Reach(e.t));
    tunnel.bounds.push_back(std::exchange(bounds, 0));
  }
}

void OffsetCurve::Close(Tunnel& tunnel) {
  for (size_t k = tunnel.times.size(); k-- > 1;) {
    tunnel.high_before[k - 1] = std::min(tunnel.high_before[k - 1], tunnel.high_before[k]);
    tunnel.low_before[k - 1] = std::max(tunnel.low_before[k - 1], tunnel.low_before[k]);
  }
}

OffsetCurve::Bounded OffsetCurve::Tunnel::At(int64_t t) const {
  const auto next = static_cast<size_t>(std::upper_bound(times.begin(), times.end(), t) - times.begin());
  Bounded out{-kFar, kFar};
  if (next > 0) {
    out.high = high_after[next - 1] + Reach(t) + kRounding;
    out.low = low_after[next - 1] - Reach(t) - kRounding;
  }
  if (next < times.size()) {
    out.high = std::min(out.high, high_before[next] - Reach(t) + kRounding);
    out.low = std::max(out.low, low_before[next] + Reach(t) - kRounding);
  }
  return out;
}

// A side of which nothing was said widens nothing.
void OffsetCurve::Gap::Take(const Bucket& bucket) {
  Gap other;
  other.loose = Bounded{bucket.at_least_count > 0 ? bucket.lowest : kFar,
                        bucket.at_most_count > 0 ? bucket.highest : -kFar};
  other.first = bucket.first;
  other.last = bucket.last;
  other.bounds = bucket.at_least_count + bucket.at_most_count;
  Take(other);
}

void OffsetCurve::Gap::Take(const Gap& other) {
  if (!other.loose) return;
  loose = loose ? Bounded{std::min(loose->low, other.loose->low), std::max(loose->high, other.loose->high)}
                : other.loose;
  first = std::min(first, other.first);
  last = std::max(last, other.last);
  bounds += other.bounds;
}

bool OffsetCurve::Tunnel::Contradicts(size_t k, const Tunnel& other) const {
  const Bounded b = other.At(times[k]);
  return at_most[k] ? offsets[k] < b.low - kRounding : offsets[k] > b.high + kRounding;
}

// Between two tunnels all cones of the one meet all of the other at any moment alike.
bool OffsetCurve::Contradict(const Tunnel& a, const Tunnel& b) {
  const Bounded x = a.At(b.first);
  const Bounded y = b.At(b.first);
  return x.high + kRounding < y.low || y.high + kRounding < x.low;
}

void OffsetCurve::FindTunnels(std::span<const Stretch> doubtful) {
  tunnels_.clear();
  gaps_.assign(1, {});
  bool open = false;
  for (const auto& [index, bucket] : buckets_) {
    const bool in_doubt = std::any_of(doubtful.begin(), doubtful.end(), [&, &b = bucket](const Stretch& s) {
      return s.from <= b.last && s.to >= b.first;
    });
    if (in_doubt || !Agrees(bucket)) {
      if (open) gaps_.emplace_back();
      open = false;
      gaps_.back().Take(bucket);
      continue;
    }
    if (open && !Fits(tunnels_.back(), bucket)) {
      gaps_.emplace_back();
      open = false;
    }
    if (!open) tunnels_.emplace_back();
    open = true;
    Append(tunnels_.back(), bucket);
    tunnels_.back().all.Take(bucket);
  }
  if (open) gaps_.emplace_back();
}

// What a dropped tunnel said is held possible in the gap that takes its place.
void OffsetCurve::Drop(const std::vector<bool>& dropped) {
  std::vector<Tunnel> kept;
  std::vector<Gap> gaps(1, gaps_[0]);
  for (size_t i = 0; i < tunnels_.size(); ++i) {
    if (dropped[i]) {
      gaps.back().Take(tunnels_[i].all);
      gaps.back().Take(gaps_[i + 1]);
    } else {
      kept.push_back(std::move(tunnels_[i]));
      gaps.push_back(gaps_[i + 1]);
    }
  }
  tunnels_ = std::move(kept);
  gaps_ = std::move(gaps);
}

void OffsetCurve::DropWeakTunnels() {
  if (tunnels_.size() < 2) return;
  std::vector<bool> weak;
  for (const Tunnel& tunnel : tunnels_) weak.push_back(tunnel.all.bounds < kFewBounds);
  Drop(weak);
}

// A tunnel that contradicts one before and one behind it, while these two agree: the clocks were set and set
// back, or this one was set back and shows two courses of the same hour by turns. Which reading belongs to
// which is not known then.
void OffsetCurve::DropTwiceShownTunnels() {
  std::vector<bool> dropped(tunnels_.size());
  for (size_t i = 0; i + 2 < tunnels_.size(); ++i) {
    const size_t furthest = std::min(tunnels_.size() - 1, i + kMostTunnelsCompared);
    for (size_t k = furthest; k > i + 1; --k) {
      if (Contradict(tunnels_[i], tunnels_[k])) continue;
      for (size_t j = i + 1; j < k; ++j) {
        if (Contradict(tunnels_[i], tunnels_[j]) && Contradict(tunnels_[j], tunnels_[k])) dropped[j] = true;
      }
      break;
    }
  }
  Drop(dropped);
}

// How far each side of a step is sure: up to the last bound that the other side cannot have said, and from
// the first one. Bounds that are loose enough for both may be of either.
void OffsetCurve::FindSteps() {
  for (size_t i = 1; i < tunnels_.size(); ++i) {
    Tunnel& a = tunnels_[i - 1];
    Tunnel& b = tunnels_[i];
    if (!Contradict(a, b)) continue;
    size_t last = a.times.size() - 1;
    while (last > 0 && !a.Contradicts(last, b)) --last;
    size_t first = 0;
    while (first + 1 < b.times.size() && !b.Contradicts(first, a)) ++first;
    a.last = std::max(a.first, a.times[last]);
    b.first = std::min(b.last, b.times[first]);
    const Bounded x = a.At(b.first);
    const Bounded y = b.At(b.first);
    const Bounded z = a.At(a.last);
    gaps_[i].stepped = std::max({x.high, y.high, z.high}) - std::min({x.low, y.low, z.low});
  }
}

void OffsetCurve::Settle(std::span<const Stretch> doubtful) {
  FindTunnels(doubtful);
  DropWeakTunnels();
  for (Tunnel& tunnel : tunnels_) Close(tunnel);
  DropTwiceShownTunnels();
  FindSteps();
  pieces_.clear();
  for (Tunnel& tunnel : tunnels_) DrawLines(tunnel);
  for (size_t i = 0; i < tunnels_.size(); ++i) {
    if (i > 0) DrawGap(i);
    pieces_.insert(pieces_.end(), tunnels_[i].lines.begin(), tunnels_[i].lines.end());
  }
}

std::vector<OffsetCurve::Stretch> OffsetCurve::OtherClockTwice() const {
  std::vector<Stretch> out;
  const size_t n = tunnels_.size();
  if (n == 0) return out;
  for (size_t i = 1; i < n; ++i) {
    if (gaps_[i].stepped == 0) continue;
    // The other clock shows the new course from here at the earliest, the old one until there at the latest.
    const int64_t from = tunnels_[i - 1].last + tunnels_[i].At(tunnels_[i - 1].last).low;
    const int64_t to = tunnels_[i].first + tunnels_[i - 1].At(tunnels_[i].first).high;
    if (from <= to) out.push_back({from, to});
  }
  // A course of which little was seen, at the beginning or the end.
  const auto weak = [](const Gap& g) {
    return g.loose && g.bounds > kOneCall && Known(g.loose->low, g.loose->high);
  };
  if (weak(gaps_[0])) out.push_back({0, tunnels_[0].first + gaps_[0].loose->high});
  if (weak(gaps_[n])) out.push_back({tunnels_[n - 1].last + gaps_[n].loose->low, kLastTime});
  return out;
}

std::optional<OffsetClaim> OffsetCurve::At(int64_t t) const {
  const auto tunnel =
      std::partition_point(tunnels_.begin(), tunnels_.end(), [&](const Tunnel& x) { return x.last < t; });
  if (tunnel == tunnels_.end() || t < tunnel->first) {
    return InGap(static_cast<size_t>(tunnel - tunnels_.begin()), t);
  }
  const Bounded b = tunnel->At(t);
  if (!Known(b.low, b.high) || tunnel->lines.empty()) return std::nullopt;
  const auto line = std::partition_point(tunnel->lines.begin(), tunnel->lines.end() - 1,
                                         [&](const Piece& p) { return p.to < t; });
  return OffsetClaim{std::clamp(line->At(t), b.low, b.high), b.low, b.high};
}

}  // namespace keytrail::correlate
