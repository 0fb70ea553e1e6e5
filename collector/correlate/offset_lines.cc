// Lines inside of the tunnels of an OffsetCurve, and what holds between tunnels.
#include <algorithm>

#include "collector/correlate/offset_curve.h"

namespace keytrail::correlate {
namespace {

// Those of a bucket.
constexpr size_t kFirstBounds = 4;
constexpr double kMostSlope = static_cast<double>(kMostDriftPpm) / 1e6;

}  // namespace

// `line` with its greatest distance from the tunnel's walls, and the bounds of times[begin, end).
OffsetCurve::Piece OffsetCurve::Line(const Tunnel& tunnel, const Piece& line, size_t begin, size_t end) {
  Piece p = line;
  const auto look = [&](int64_t t) {
    const Bounded b = tunnel.At(t);
    p.error = std::max({p.error, b.high - p.At(t), p.At(t) - b.low});
  };
  look(p.from);
  look(p.to);
  for (size_t k = begin; k < end; ++k) {
    look(std::clamp(tunnel.times[k], p.from, p.to));
    p.bounds += tunnel.bounds[k];
    if (k + 1 == tunnel.times.size()) break;
    // The walls are furthest out where the cones of both sides meet.
    for (int64_t reach : {(tunnel.high_before[k + 1] - tunnel.high_after[k]) / 2,
                          (tunnel.low_after[k] - tunnel.low_before[k + 1]) / 2}) {
      if (reach <= Reach(std::max(tunnel.times[k], p.from)) || reach > Reach(p.to)) continue;
      const int64_t t = reach * (1'000'000 / kMostDriftPpm);
      if (t < std::min(tunnel.times[k + 1], p.to)) look(t);
    }
  }
  p.error += kRounding;
  return p;
}

// A line goes on as long as one slope keeps it inside; where none does, the next one begins at its end.
void OffsetCurve::DrawLines(Tunnel& tunnel) {
  tunnel.lines.clear();
  const Bounded start = tunnel.At(tunnel.first);
  if (!Known(start.low, start.high)) return;
  Piece line;
  line.from = tunnel.first;
  // The walls at the very first bound are uneven: the one that comes from the answer has widened on its way
  // back.
  Bounded nearest = start;
  const auto first = static_cast<size_t>(
      std::lower_bound(tunnel.times.begin(), tunnel.times.end(), tunnel.first) - tunnel.times.begin());
  const auto last = static_cast<size_t>(
      std::upper_bound(tunnel.times.begin(), tunnel.times.end(), tunnel.last) - tunnel.times.begin());
  for (size_t k = first; k < std::min(first + kFirstBounds, last); ++k) {
    const Bounded b = tunnel.At(tunnel.times[k]);
    nearest = {std::max(nearest.low, b.low), std::min(nearest.high, b.high)};
  }
  line.offset = std::clamp(nearest.low + (nearest.high - nearest.low) / 2, start.low, start.high);
  double least = -kMostSlope;
  double most = kMostSlope;
  size_t begin = first;
  int64_t reached = tunnel.first;
  const auto finish = [&](int64_t to, size_t end) {
    line.to = to;
    line.slope = to == line.from ? 0 : (least + most) / 2;
    tunnel.lines.push_back(Line(tunnel, line, begin, end));
  };
  for (size_t k = first; k < last; ++k) {
    const int64_t t = tunnel.times[k];
    if (t == line.from) continue;
    const Bounded b = tunnel.At(t);
    for (int attempt = 0; attempt < 2; ++attempt) {
      const auto after = static_cast<double>(t - line.from);
      const double steep_from = std::max(least, static_cast<double>(b.low - line.offset) / after);
      const double steep_to = std::min(most, static_cast<double>(b.high - line.offset) / after);
      if (steep_from <= steep_to) {
        least = steep_from;
        most = steep_to;
        break;
      }
      if (reached == line.from) break;  // rounding: two bounds a few nanoseconds apart
      finish(reached, k);
      line.offset = tunnel.lines.back().At(reached);
      line.from = reached;
      least = -kMostSlope;
      most = kMostSlope;
      begin = k;
    }
    reached = t;
  }
  finish(tunnel.last, last);
}

// All that may hold at a moment outside of the tunnels.
std::optional<OffsetCurve::Bounded> OffsetCurve::Hull(size_t gap, int64_t t) const {
  const Gap& g = gaps_[gap];
  std::optional<Bounded> out;
  const auto add = [&](const Bounded& b) {
    out = out ? Bounded{std::min(out->low, b.low), std::max(out->high, b.high)} : b;
  };
  if (gap > 0) add(tunnels_[gap - 1].At(t));
  if (gap < tunnels_.size()) add(tunnels_[gap].At(t));
  if (g.loose) {
    const int64_t away = std::max(g.last - t, t - g.first);
    const int64_t reach = DriftWithin(std::max(away, g.last - g.first));
    add({g.loose->low - reach, g.loose->high + reach});
  }
  if (!out || !Known(out->low, out->high)) return std::nullopt;
  return out;
}

std::optional<OffsetClaim> OffsetCurve::InGap(size_t gap, int64_t t) const {
  const auto b = Hull(gap, t);
  if (!b) return std::nullopt;
  int64_t value = b->low + (b->high - b->low) / 2;
  const Piece* before =
      gap > 0 && !tunnels_[gap - 1].lines.empty() ? &tunnels_[gap - 1].lines.back() : nullptr;
  const Piece* after =
      gap < tunnels_.size() && !tunnels_[gap].lines.empty() ? &tunnels_[gap].lines.front() : nullptr;
  if (before != nullptr && after != nullptr && gaps_[gap].stepped == 0) {
    const int64_t from = before->At(before->to);
    const double share = static_cast<double>(t - before->to) / static_cast<double>(after->from - before->to);
    value = from + static_cast<int64_t>(share * static_cast<double>(after->offset - from));
  } else if ((before == nullptr) != (after == nullptr)) {
    value = before != nullptr ? before->At(t) : after->At(t);
  }
  return OffsetClaim{std::clamp(value, b->low, b->high), b->low, b->high};
}

// A line over what lies between two tunnels.
void OffsetCurve::DrawGap(size_t gap) {
  const Tunnel& before = tunnels_[gap - 1];
  const Tunnel& after = tunnels_[gap];
  const Gap& g = gaps_[gap];
  const auto from = InGap(gap, before.last);
  const auto to = InGap(gap, after.first);
  if (!from || !to) return;
  Piece p;
  p.from = before.last;
  p.to = after.first;
  p.offset = from->value;
  if (p.to > p.from) {
    p.slope = static_cast<double>(to->value - from->value) / static_cast<double>(p.to - p.from);
  }
  if (std::abs(p.slope) > 2 * kMostSlope || p.to == p.from) {
    // No course of a clock: level, in the middle of all that is possible.
    p.slope = 0;
    p.offset =
        std::min(from->low, to->low) + (std::max(from->high, to->high) - std::min(from->low, to->low)) / 2;
  }
  // Both walls are furthest out at one of the ends.
  for (int64_t t : {p.from, p.to}) {
    const auto hull = Hull(gap, t);
    p.error = std::max({p.error, hull->high - p.At(t) + kRounding, p.At(t) - hull->low + kRounding});
  }
  p.bounds = g.bounds;
  p.contradictory = true;
  p.stepped = g.stepped != 0;
  pieces_.push_back(p);
}

int64_t OffsetCurve::SteppedBetween(int64_t t, int64_t u) const {
  const int64_t from = std::min(t, u);
  const int64_t to = std::max(t, u);
  int64_t sum = 0;
  for (size_t gap = 0; gap < gaps_.size(); ++gap) {
    const Gap& g = gaps_[gap];
    if (tunnels_.empty()) {
      if (!g.loose || g.first > to || g.last < from) continue;
      sum += Known(g.loose->low, g.loose->high) ? std::max<int64_t>(g.loose->high - g.loose->low, 0) : kFar;
    } else if (gap > 0 && gap < tunnels_.size() && g.stepped != 0) {
      if (tunnels_[gap - 1].last <= to && tunnels_[gap].first >= from) sum += g.stepped;
    }
    sum = std::min(sum, kFar);
  }
  return sum;
}

}  // namespace keytrail::correlate
