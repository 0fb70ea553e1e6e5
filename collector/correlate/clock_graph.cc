#include "collector/correlate/clock_graph.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>

namespace keytrail::correlate {
namespace {

// Places within a machine's time at which the bounds of its pairs are compared.
constexpr int kProbes = 33;
// For a probe at which nothing is known: worse than any bound, and sums of it do not overflow.
constexpr int64_t kNoError = int64_t{1} << 52;
// Buckets so wide (years) that no pair has a second one.
constexpr int kLastShift = 60;

}  // namespace

ClockGraph::ClockGraph(uint32_t hosts, size_t most_buckets)
    : neighbours_(hosts), hops_(hosts), most_buckets_(most_buckets) {}

void ClockGraph::Grow(uint32_t hosts) {
  if (hosts <= neighbours_.size()) return;
  neighbours_.resize(hosts);
  hops_.resize(hosts);
}

void ClockGraph::Add(uint32_t client, uint32_t server, const FourStamps& stamps) {
  const bool a_is_client = client < server;
  ClockPair& pair = pairs_[std::minmax(client, server)];
  const size_t before = pair.bucket_count();
  if (pair.calls() + pair.refused() == 0) pair.Coarsen(shift_);
  pair.Add(a_is_client, stamps);
  ++calls_;
  buckets_ += pair.bucket_count() - before;
  while (buckets_ > most_buckets_ && shift_ < kLastShift) {
    ++shift_;
    buckets_ = 0;
    for (auto& [ends, p] : pairs_) {
      p.Coarsen(shift_);
      buckets_ += p.bucket_count();
    }
  }
}

uint64_t ClockGraph::Calls(uint32_t host) const {
  uint64_t sum = 0;
  for (const auto& [ends, pair] : pairs_) {
    if (ends.first == host || ends.second == host) sum += pair.calls();
  }
  return sum;
}

const OffsetCurve* ClockGraph::Curve(uint32_t from, uint32_t to) const {
  const auto it = pairs_.find(std::minmax(from, to));
  if (it == pairs_.end()) return nullptr;
  return from < to ? &it->second.a_to_b() : &it->second.b_to_a();
}

// The mean over the time in which the machine was heard of by anybody, so that a neighbour of a moment does
// not win over one of always.
int64_t ClockGraph::TypicalError(uint32_t from, const OffsetCurve& curve) const {
  int64_t first = std::numeric_limits<int64_t>::max();
  int64_t last = std::numeric_limits<int64_t>::min();
  for (uint32_t n : neighbours_[from]) {
    const auto pieces = Curve(from, n)->pieces();
    if (pieces.empty()) continue;
    first = std::min(first, pieces.front().from);
    last = std::max(last, pieces.back().to);
  }
  if (first > last) return kNoError;
  int64_t sum = 0;
  for (int i = 0; i < kProbes; ++i) {
    const auto claim = curve.At(first + (last - first) / (kProbes - 1) * i);
    sum += (claim ? std::min(claim->error(), kNoError) : kNoError) / kProbes;
  }
  return std::max<int64_t>(sum, 1);
}

void ClockGraph::SpreadIfGrown(uint32_t reference, std::span<const uint32_t> rank) {
  if (reference != reference_ || calls_ - calls_spread_ > calls_spread_ / 4) Spread(reference, rank);
}

void ClockGraph::Spread(uint32_t reference, std::span<const uint32_t> rank) {
  reference_ = reference;
  calls_spread_ = calls_;
  for (auto& list : neighbours_) list.clear();
  for (auto& [ends, pair] : pairs_) {
    pair.Settle();
    if (pair.calls() == 0) continue;
    neighbours_[ends.first].push_back(ends.second);
    neighbours_[ends.second].push_back(ends.first);
  }
  for (auto& list : neighbours_) {
    std::sort(list.begin(), list.end(), [&](uint32_t a, uint32_t b) { return rank[a] < rank[b]; });
  }
  hops_.assign(hops_.size(), {});
  if (reference >= hops_.size()) return;
  // Dijkstra from the reference outwards; machines are few.
  constexpr int64_t kFar = std::numeric_limits<int64_t>::max();
  std::vector<int64_t> error(hops_.size(), kFar);
  std::vector<bool> done(hops_.size());
  error[reference] = 0;
  for (;;) {
    uint32_t next = reference;
    bool found = false;
    for (uint32_t h = 0; h < hops_.size(); ++h) {
      if (done[h] || error[h] == kFar) continue;
      if (!found || std::tuple(error[h], rank[h]) < std::tuple(error[next], rank[next])) next = h;
      found = true;
    }
    if (!found) return;
    done[next] = true;
    for (uint32_t h : neighbours_[next]) {
      if (done[h]) continue;
      const OffsetCurve* curve = Curve(h, next);
      if (curve->pieces().empty()) continue;
      const int64_t total = error[next] + TypicalError(h, *curve);
      if (total < error[h] || (total == error[h] && rank[next] < rank[hops_[h].parent])) {
        error[h] = total;
        hops_[h] = {next, curve};
      }
    }
  }
}

std::optional<OffsetClaim> ClockGraph::ToReference(uint32_t host, int64_t t) const {
  if (host >= hops_.size() || !Related(host)) return std::nullopt;
  OffsetClaim sum;
  for (uint32_t h = host; h != reference_; h = hops_[h].parent) {
    const OffsetCurve& curve = *hops_[h].curve;
    // The next machine's reading is known within a bound only, and so is the moment at which to ask it.
    const auto value = curve.At(t + sum.value);
    const auto from = curve.At(t + sum.low);
    const auto to = curve.At(t + sum.high);
    if (!value || !from || !to) return std::nullopt;
    const int64_t reach = sum.high == sum.low ? 0 : DriftWithin(sum.high - sum.low);
    sum.low += std::min({from->low, value->low, to->low}) - reach;
    sum.high += std::max({from->high, value->high, to->high}) + reach;
    sum.value += value->value;
  }
  return sum;
}

int64_t ClockGraph::OwnStep(uint32_t host, int64_t t, int64_t u) const {
  std::optional<int64_t> least;
  int64_t most = 0;
  for (uint32_t n : neighbours_[host]) {
    const OffsetCurve& curve = *Curve(host, n);
    const int64_t step = curve.SteppedBetween(t, u);
    most = std::max(most, step);
    if (curve.Covers(t) && curve.Covers(u)) least = std::min(least.value_or(step), step);
  }
  return least.value_or(most);
}

Order ClockGraph::CompareOn(uint32_t host, int64_t a, int64_t a_error, int64_t b, int64_t b_error) const {
  const int64_t error = a_error + b_error;
  if (std::abs(b - a) <= error) return Order::kNotKnown;
  const int64_t step = OwnStep(host, std::min(a - a_error, b - b_error), std::max(a + a_error, b + b_error));
  if (std::abs(b - a) <= error + step) return Order::kNotKnown;
  return a < b ? Order::kBefore : Order::kAfter;
}

Order ClockGraph::CompareByPair(const Moment& a, const Moment& b) const {
  const OffsetCurve* curve = Curve(a.host, b.host);
  const auto claim = curve == nullptr ? std::nullopt : curve->At(a.t);
  if (!claim) return Order::kNotKnown;
  return CompareOn(b.host, a.t + claim->value, claim->error() + kStampNs, b.t, 0);
}

Order ClockGraph::Compare(const Moment& a, const Moment& b) const {
  if (a.host >= hops_.size() || b.host >= hops_.size()) return Order::kNotKnown;
  if (a.host == b.host) return CompareOn(a.host, a.t, 0, b.t, 0);
  const Order by_pair = CompareByPair(a, b);
  Order by_path = Order::kNotKnown;
  const auto x = ToReference(a.host, a.t);
  const auto y = ToReference(b.host, b.t);
  if (x && y) {
    by_path = CompareOn(reference_, a.t + x->value, x->error() + kStampNs, b.t + y->value, y->error());
  }
  if (by_pair == Order::kNotKnown) return by_path;
  // Bounds cannot contradict each other, unless a clock did what no clock should.
  return by_path == Order::kNotKnown || by_path == by_pair ? by_pair : Order::kNotKnown;
}

std::span<const OffsetCurve::Piece> ClockGraph::PairPieces(uint32_t a, uint32_t b) const {
  const OffsetCurve* curve = Curve(a, b);
  return curve == nullptr ? std::span<const OffsetCurve::Piece>() : curve->pieces();
}

std::vector<std::pair<uint32_t, uint32_t>> ClockGraph::Pairs() const {
  std::vector<std::pair<uint32_t, uint32_t>> out;
  for (const auto& [ends, pair] : pairs_) {
    if (pair.calls() > 0) out.push_back(ends);
  }
  return out;
}

}  // namespace keytrail::correlate
