#include "collector/correlate/clock_report.h"

#include <algorithm>
#include <tuple>

#include "common/limits.h"

namespace keytrail::correlate {
namespace {

using Piece = OffsetCurve::Piece;

int64_t Ppb(double slope) {
  return static_cast<int64_t>(slope * 1e9 + (slope < 0 ? -0.5 : 0.5));
}

// How far the true mean rate over a piece may be from the line's: both ends may be off.
std::optional<int64_t> RateError(const Piece& p) {
  if (p.to <= p.from) return std::nullopt;
  return std::min<int64_t>(Ppb(2.0 * static_cast<double>(p.error) / static_cast<double>(p.to - p.from)),
                           2'000 * kMostDriftPpm) +
         1;
}

// Pieces say "reference minus host" or, of a pair, the same with the pair's first end as host; a report says
// what to add to the reference.
void AddLines(std::vector<ClockReport>& out, const ClockReport& base, std::vector<Piece> pieces) {
  for (const Piece& p : JoinLines(std::move(pieces), limits::kMaxClockLines)) {
    ClockReport r = base;
    r.from_ns = p.from;
    r.to_ns = p.to;
    r.offset_ns = -p.offset;
    r.error_ns = p.error;
    if (p.to > p.from) r.drift_ppb = Ppb(-p.slope);
    r.drift_error_ppb = RateError(p);
    // Rounded to parts per billion the line is a little off at its end.
    r.error_ns = *r.error_ns + (p.to - p.from) / 1'000'000'000 + 1;
    r.calls = (p.bounds + 1) / 2;
    r.stepped = p.stepped;
    out.push_back(std::move(r));
  }
}

std::string Via(const Scene& scene, uint32_t host) {
  std::string via;
  const ClockGraph& clocks = scene.pairing.clocks();
  for (uint32_t h = clocks.Parent(host); h != clocks.reference(); h = clocks.Parent(h)) {
    via += (via.empty() ? "" : ", ") + scene.Label(h);
  }
  return via;
}

}  // namespace

void DescribeClock(const Scene& scene, uint32_t host, HostReport& report) {
  const uint32_t reference = scene.pairing.reference_host();
  if (reference == kNone) return;
  report.reference = scene.Label(reference);
  if (host == reference) {
    report.clock_offset_ns = report.offset_error_ns = 0;
    report.clock_drift_ppb = 0;
    return;
  }
  const std::vector<Piece> pieces = scene.pairing.clocks().PathPieces(host);
  const Piece* longest = nullptr;
  const auto rank = [](const Piece& p) { return std::tuple(p.contradictory, p.from - p.to, p.from); };
  for (const Piece& p : pieces) {
    if (longest == nullptr || rank(p) < rank(*longest)) longest = &p;
    report.clock_steps += p.stepped ? 1 : 0;
  }
  if (longest == nullptr) return;
  const int64_t middle = longest->from + (longest->to - longest->from) / 2;
  const auto claim = scene.pairing.clocks().ToReference(host, middle);
  if (!claim) return;
  report.clock_offset_ns = -claim->value;
  report.offset_error_ns = claim->error();
  report.clock_at_ns = middle;
  if (longest->to > longest->from) report.clock_drift_ppb = Ppb(-longest->slope);
}

std::optional<OffsetClaim> ClockAgainstReference(const Scene& scene, uint32_t host, int64_t ref_ns) {
  const ClockGraph& clocks = scene.pairing.clocks();
  // The host's reading at that moment is what is asked for: a few rounds find it, as clocks drift little.
  int64_t t = ref_ns;
  std::optional<OffsetClaim> claim;
  for (int round = 0; round < 4; ++round) {
    claim = clocks.ToReference(host, t);
    if (!claim) return std::nullopt;
    t = ref_ns - claim->value;
  }
  return OffsetClaim{-claim->value, -claim->high, -claim->low};
}

std::vector<ClockReport> ClockReports(const Scene& scene) {
  std::vector<ClockReport> out;
  const uint32_t reference = scene.pairing.reference_host();
  if (reference == kNone) return out;
  const ClockGraph& clocks = scene.pairing.clocks();
  std::vector<uint32_t> hosts;
  for (uint32_t h = 0; h < scene.hosts.hosts().size(); ++h) {
    if (scene.hosts.Captured(h)) hosts.push_back(h);
  }
  std::sort(hosts.begin(), hosts.end(),
            [&](uint32_t a, uint32_t b) { return scene.hosts[a].address < scene.hosts[b].address; });
  for (uint32_t h : hosts) {
    if (h == reference) continue;
    ClockReport base;
    base.host = scene.Label(h);
    base.reference = scene.Label(reference);
    base.relation = "unrelated";
    std::vector<Piece> pieces;
    if (clocks.Related(h)) pieces = clocks.PathPieces(h);
    if (pieces.empty()) {
      out.push_back(base);
      continue;
    }
    base.via = Via(scene, h);
    base.relation = base.via.empty() ? "direct" : "path";
    AddLines(out, base, std::move(pieces));
  }
  std::vector<std::pair<uint32_t, uint32_t>> pairs = clocks.Pairs();
  for (auto& [a, b] : pairs) {
    if (a == reference || scene.hosts[a].address > scene.hosts[b].address) std::swap(a, b);
    if (a == reference) std::swap(a, b);
  }
  std::sort(pairs.begin(), pairs.end(), [&](const auto& x, const auto& y) {
    return std::tie(scene.hosts[x.first].address, scene.hosts[x.second].address) <
           std::tie(scene.hosts[y.first].address, scene.hosts[y.second].address);
  });
  for (const auto& [a, b] : pairs) {
    // Told already, as the whole path to the reference.
    if (b == reference && clocks.Related(a) && clocks.Parent(a) == reference) continue;
    ClockReport base;
    base.host = scene.Label(a);
    base.reference = scene.Label(b);
    base.relation = "direct";
    const auto pieces = clocks.PairPieces(a, b);
    AddLines(out, base, {pieces.begin(), pieces.end()});
  }
  return out;
}

}  // namespace keytrail::correlate
