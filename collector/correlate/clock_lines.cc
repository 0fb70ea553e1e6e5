// The offset of a machine to the reference as lines, over all hops of its path.
#include <algorithm>

#include "collector/correlate/clock_graph.h"

namespace keytrail::correlate {
namespace {

using Piece = OffsetCurve::Piece;

// Ends of neighbours may be this far apart by rounding.
constexpr int64_t kNoHoleNs = 1000;

// What the curve says between two of its own readings, known within `reach` only, as pieces of their own.
// Where no piece of the curve reaches, its cones do.
std::vector<Piece> Between(const OffsetCurve& curve, int64_t from, int64_t to, int64_t reach) {
  std::vector<int64_t> stops = {from};
  for (const Piece& p : curve.pieces()) {
    for (int64_t t : {p.from, p.to}) {
      if (t > from && t < to) stops.push_back(t);
    }
  }
  stops.push_back(to);
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
  if (stops.size() == 1) stops.push_back(to);
  std::vector<Piece> out;
  for (size_t i = 1; i < stops.size(); ++i) {
    Piece line;
    line.from = stops[i - 1];
    line.to = stops[i];
    const auto start = curve.At(line.from);
    const auto end = curve.At(line.to);
    if (!start || !end) continue;
    line.offset = start->value;
    if (line.to > line.from) {
      line.slope = static_cast<double>(end->value - start->value) / static_cast<double>(line.to - line.from);
    }
    if (std::abs(line.slope) > 2e-6 * kMostDriftPpm) {
      line.slope = 0;
      line.offset = start->value + (end->value - start->value) / 2;
    }
    line.error = std::max({line.At(line.from) - start->low, start->high - line.At(line.from),
                           line.At(line.to) - end->low, end->high - line.At(line.to)});
    for (const Piece& p : curve.pieces()) {
      if (p.to < line.from - reach || p.from > line.to + reach) continue;
      // Between two stops both are lines: they are furthest apart at an end.
      const int64_t a = std::clamp(p.from, line.from, line.to);
      const int64_t b = std::clamp(p.to, line.from, line.to);
      const int64_t apart = std::max(std::abs(p.At(std::clamp(a, p.from, p.to)) - line.At(a)),
                                     std::abs(p.At(std::clamp(b, p.from, p.to)) - line.At(b)));
      line.error = std::max(line.error, p.error + apart);
      line.contradictory |= p.contradictory;
      line.stepped |= p.stepped;
    }
    line.error += reach == 0 ? 0 : DriftWithin(2 * reach);
    out.push_back(line);
  }
  return out;
}

}  // namespace

std::vector<Piece> ClockGraph::PathPieces(uint32_t host) const {
  std::vector<Piece> lines;
  if (host >= hops_.size() || host == reference_ || !Related(host)) return lines;
  const auto own = hops_[host].curve->pieces();
  lines.assign(own.begin(), own.end());
  for (uint32_t h = hops_[host].parent; h != reference_; h = hops_[h].parent) {
    std::vector<Piece> longer;
    for (const Piece& line : lines) {
      const double rate = 1 + line.slope;
      const int64_t base = line.from + line.offset;
      for (const Piece& next : Between(*hops_[h].curve, base, line.to + line.At(line.to), line.error)) {
        Piece sum = line;
        sum.from = line.from + static_cast<int64_t>(static_cast<double>(next.from - base) / rate);
        sum.to = line.from + static_cast<int64_t>(static_cast<double>(next.to - base) / rate);
        sum.from = std::clamp(sum.from, line.from, line.to);
        sum.to = std::clamp(sum.to, sum.from, line.to);
        sum.offset = line.At(sum.from) + next.offset;
        sum.slope = line.slope + rate * next.slope;
        sum.error = line.error + next.error + 3;  // roundings
        sum.contradictory |= next.contradictory;
        sum.stepped |= next.stepped;
        // A line's calls are told once.
        if (sum.from != line.from) sum.bounds = 0;
        longer.push_back(sum);
      }
    }
    lines = std::move(longer);
  }
  return lines;
}

std::vector<Piece> JoinLines(std::vector<Piece> lines, size_t most) {
  while (lines.size() > most) {
    std::vector<Piece> fewer;
    for (size_t i = 0; i < lines.size(); ++i) {
      const Piece& a = lines[i];
      if (i + 1 == lines.size() || lines[i + 1].from - a.to > kNoHoleNs) {
        fewer.push_back(a);
        continue;
      }
      const Piece& b = lines[++i];
      Piece both = a;
      both.to = b.to;
      if (both.to > both.from) {
        both.slope = static_cast<double>(b.At(b.to) - a.offset) / static_cast<double>(both.to - both.from);
      }
      both.error = std::max(a.error + std::abs(both.At(a.to) - a.At(a.to)),
                            b.error + std::abs(both.At(b.from) - b.offset)) +
                   1;
      both.bounds = a.bounds + b.bounds;
      both.contradictory = a.contradictory || b.contradictory;
      both.stepped = a.stepped || b.stepped;
      fewer.push_back(both);
    }
    if (fewer.size() == lines.size()) break;  // holes everywhere
    lines = std::move(fewer);
  }
  return lines;
}

}  // namespace keytrail::correlate
