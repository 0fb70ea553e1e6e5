// What becomes of findings once the other views of their calls have come: they keep to their caps, and what
// can matter no more is only counted.
#include <algorithm>
#include <set>
#include <tuple>

#include "collector/correlate/findings.h"
#include "collector/correlate/pairing.h"
#include "common/limits.h"

namespace keytrail::correlate {
namespace {

// Whether something may come of it by repetition, or for the replay of a region cache.
bool MattersLater(const Setback& s) {
  switch (s.kind) {
    case ErrorKind::kEpochNotMatch:
    case ErrorKind::kEpochText:
    case ErrorKind::kRegionNotFound:
    case ErrorKind::kStoreNotMatch:
      return true;
    default:
      return false;
  }
}

// Both views of one error are one.
auto KeyOf(const Setback& s, const Pairing& pairing) {
  return std::tuple(pairing.Logical(s.observation), s.region.region_id, static_cast<uint8_t>(s.kind));
}

template <class Found>
uint64_t DropOldest(std::vector<Found>& found, size_t most) {
  if (found.size() <= most) return 0;
  const size_t surplus = found.size() - most / 4 * 3;
  found.erase(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(surplus));
  return surplus;
}

}  // namespace

std::string BenignName(const Setback& s) {
  if (s.kind != ErrorKind::kEpochNotMatch && s.kind != ErrorKind::kEpochText) {
    return std::string(ErrorKindName(s.kind));
  }
  return s.server_version != 0 && s.server_version < s.region.version ? "tikv_lag" : "stale_route";
}

void Findings::Settle(const CallLog& log, const Pairing& pairing, uint32_t young) {
  SettleSetbacks(pairing, young);
  SettleComplaints(log, pairing, young);
  others_over_cap_ += DropOldest(face_faults_, limits::kMaxFaceFaults);
  others_over_cap_ += DropOldest(odd_requests_, limits::kMaxOddRequests);
}

void Findings::SettleSetbacks(const Pairing& pairing, uint32_t young) {
  size_t surplus = static_cast<size_t>(std::count_if(setbacks_.begin(), setbacks_.end(), MattersLater));
  surplus = surplus > limits::kMaxSetbacks ? surplus - limits::kMaxSetbacks / 4 * 3 : 0;
  std::set<std::tuple<uint32_t, uint64_t, uint8_t>> counted;
  for (const Setback& s : setbacks_) {  // the oldest first
    if (s.observation >= young) continue;
    if (MattersLater(s)) {
      if (surplus == 0) continue;
      --surplus;
      ++others_over_cap_;
    }
    if (counted.insert(KeyOf(s, pairing)).second) ++benign_[BenignName(s)];
  }
  if (counted.empty()) return;
  std::erase_if(setbacks_, [&](const Setback& s) { return counted.contains(KeyOf(s, pairing)); });
}

void Findings::SettleComplaints(const CallLog& log, const Pairing& pairing, uint32_t young) {
  if (complaints_.size() <= most_complaints_ / 2) return;
  using Kind = std::tuple<RegionVersion, uint32_t, IpAddress, uint32_t>;
  const auto kind_of = [&](const Complaint& c) {
    const SeenConnection& connection = log.connection_of(log[c.observation]);
    return Kind{c.region, c.bounds, log.endpoints()[connection.client].endpoint.address, connection.server};
  };
  std::map<Kind, std::vector<uint32_t>> calls;  // in the order of arrival
  std::set<std::pair<uint32_t, Kind>> seen;
  for (const Complaint& c : complaints_) {
    const uint32_t logical = pairing.Logical(c.observation);
    const Kind kind = kind_of(c);
    if (seen.insert({logical, kind}).second) calls[kind].push_back(logical);
  }
  std::set<uint32_t> dropped;
  for (const auto& [kind, list] : calls) {
    constexpr size_t kHalf = limits::kComplaintsOfAKind / 2;
    for (size_t i = kHalf; i + kHalf < list.size(); ++i) dropped.insert(list[i]);
  }
  // A call whose other view may still come stays.
  for (const Complaint& c : complaints_) {
    if (c.observation >= young) dropped.erase(pairing.Logical(c.observation));
  }
  complaints_over_cap_ += dropped.size();
  std::erase_if(complaints_,
                [&](const Complaint& c) { return dropped.contains(pairing.Logical(c.observation)); });
}

void Findings::Mark(const Pairing& pairing, std::vector<bool>& kept) const {
  const auto mark = [&](uint32_t observation) {
    for (uint32_t view : pairing.Members(pairing.Logical(observation))) kept[view] = true;
  };
  for (const Complaint& c : complaints_) mark(c.observation);
  for (const FaceFault& f : face_faults_) mark(f.observation);
  for (const Setback& s : setbacks_) mark(s.observation);
  for (const OddRequest& o : odd_requests_) mark(o.observation);
  for (const StoreAsk& a : store_asks_) mark(a.observation);
  for (const ReadRange& r : reads_) mark(r.observation);
}

void Findings::MarkRanges(std::vector<bool>& used) const {
  for (const Complaint& c : complaints_) {
    if (c.bounds != kNone) used[c.bounds] = true;
  }
  for (const FaceFault& f : face_faults_) {
    used[f.range] = true;
    if (f.other_range != kNone) used[f.other_range] = true;
  }
}

void Findings::MarkRegions(std::unordered_set<RegionVersion, RegionVersionHash>& regions) const {
  for (const Complaint& c : complaints_) regions.insert(c.region);
  for (const FaceFault& f : face_faults_) regions.insert(f.region);
  for (const Setback& s : setbacks_) regions.insert(s.region);
}

void Findings::Renumber(const std::vector<uint32_t>& observations, const std::vector<uint32_t>& ranges) {
  const auto observation = [&](uint32_t& o) { o = observations[o]; };
  const auto range = [&](uint32_t& r) {
    if (!ranges.empty() && r != kNone) r = ranges[r];
  };
  for (Complaint& c : complaints_) {
    observation(c.observation);
    range(c.bounds);
  }
  for (FaceFault& f : face_faults_) {
    observation(f.observation);
    range(f.range);
    range(f.other_range);
  }
  for (Setback& s : setbacks_) observation(s.observation);
  for (OddRequest& o : odd_requests_) observation(o.observation);
  for (StoreAsk& a : store_asks_) observation(a.observation);
  for (ReadRange& r : reads_) observation(r.observation);
}

}  // namespace keytrail::correlate
