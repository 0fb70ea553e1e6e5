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

}  // namespace

void OffsetCurve::Add(int64_t t, int64_t offset, bool at_most) {
  if (t < 0 || t >= kLastTime || offset > kMostOffset || offset < -kMostOffset) return;
  Bucket fresh;
  const Bound bound{t, offset};
  (at_most ? fresh.at_most : fresh.at_least) = {bound, bound};
  (at_most ? fresh.at_most_count : fresh.at_least_count) = 1;
  fresh.lowest = fresh.highest = offset;
  fresh.first = fresh.last = t;
  Merge(buckets_[t >> shift_], fresh);
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

void OffsetCurve::Gap::Take(const Bucket& bucket) {
  const Bounded b{bucket.at_least_count > 0 ? bucket.lowest : -kFar,
                  bucket.at_most_count > 0 ? bucket.highest : kFar};
  loose = loose ? Bounded{std::min(loose->low, b.low), std::max(loose->high, b.high)} : b;
  first = std::min(first, bucket.first);
  last = std::max(last, bucket.last);
  bounds += bucket.at_least_count + bucket.at_most_count;
}

void OffsetCurve::Gap::Take(const Gap& other) {
  if (!other.loose) return;
  loose = loose ? Bounded{std::min(loose->low, other.loose->low), std::max(loose->high, other.loose->high)}
                : other.loose;
  first = std::min(first, other.first);
  last = std::max(last, other.last);
  bounds += other.bounds;
}

void OffsetCurve::FindTunnels() {
  tunnels_.clear();
  gaps_.assign(1, {});
  bool open = false;
  for (const auto& [index, bucket] : buckets_) {
    if (!Agrees(bucket)) {
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

void OffsetCurve::DropWeakTunnels() {
  if (tunnels_.size() < 2) return;
  std::vector<Tunnel> strong;
  std::vector<Gap> gaps(1, gaps_[0]);
  for (size_t i = 0; i < tunnels_.size(); ++i) {
    if (tunnels_[i].all.bounds < kFewBounds) {
      gaps.back().Take(tunnels_[i].all);
      gaps.back().Take(gaps_[i + 1]);
    } else {
      strong.push_back(std::move(tunnels_[i]));
      gaps.push_back(gaps_[i + 1]);
    }
  }
  tunnels_ = std::move(strong);
  gaps_ = std::move(gaps);
}

void OffsetCurve::Settle() {
  FindTunnels();
  DropWeakTunnels();
  for (Tunnel& tunnel : tunnels_) {
    Close(tunnel);
    DrawLines(tunnel);
  }
  pieces_.clear();
  for (size_t i = 0; i < tunnels_.size(); ++i) {
    if (i > 0) DrawGap(i);
    pieces_.insert(pieces_.end(), tunnels_[i].lines.begin(), tunnels_[i].lines.end());
  }
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
