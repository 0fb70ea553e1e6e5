#include "collector/store/timeline_pairs.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <tuple>

#include "common/call_record.h"

namespace keytrail {

namespace {

// As in collector/correlate/pairing.cc: two views of one call lie closer than this; messages without an id,
// where neighbours look alike, much closer.
constexpr int64_t kPairWithinNs = 5'000'000'000;
constexpr int64_t kMessagePairWithinNs = 200'000'000;
// Neighbours looked at before a view is said to be alone.
constexpr size_t kMostCandidates = 256;

bool IsMessage(const TimelineObservation& o) {
  return o.kind == static_cast<uint64_t>(CallKind::kMessage);
}

auto KeyOf(const TimelineObservation& o) {
  return std::tuple(o.client, o.server, o.loopback ? o.agent : 0, o.stream, o.kind, o.request_id.has_value(),
                    o.request_id.value_or(0), IsMessage(o) && o.request_seen);
}

bool SizesAgree(const TimelineObservation& a, const TimelineObservation& b) {
  if (IsMessage(a)) return a.req_bytes == b.req_bytes && a.resp_bytes == b.resp_bytes;
  return (a.req_bytes == b.req_bytes || a.req_bytes == 0 || b.req_bytes == 0) &&
         (a.resp_bytes == b.resp_bytes || a.resp_bytes == 0 || b.resp_bytes == 0);
}

int64_t Within(const TimelineObservation& o) {
  return IsMessage(o) ? kMessagePairWithinNs : kPairWithinNs;
}

// How far apart two views are; nothing: they are not of one call. Clocks that are not related cannot part
// them.
std::optional<int64_t> Apart(const TimelineObservation& a, const TimelineObservation& b) {
  if (!SizesAgree(a, b)) return std::nullopt;
  if (!a.on_reference || !b.on_reference || !a.first_ns || !b.first_ns) return kPairWithinNs;
  const int64_t apart = std::abs(*a.first_ns - *b.first_ns);
  if (apart >= Within(a)) return std::nullopt;
  return apart;
}

// A view joins the nearest call of another agent's. `group` is sorted by agent and time.
void PairGroup(const std::vector<TimelineObservation>& observations, const std::vector<size_t>& group,
               std::vector<std::vector<size_t>>& calls) {
  const size_t begin = calls.size();
  const auto first_of = [&](size_t c) -> const TimelineObservation& {
    return observations[calls[c].front()];
  };
  for (size_t at = 0; at < group.size();) {
    const uint32_t agent = observations[group[at]].agent;
    const size_t end = calls.size();
    std::sort(calls.begin() + static_cast<ptrdiff_t>(begin), calls.end(), [&](const auto& a, const auto& b) {
      return observations[a.front()].first_ns < observations[b.front()].first_ns;
    });
    std::vector<bool> taken(end - begin);
    size_t low = begin;
    for (; at < group.size() && observations[group[at]].agent == agent; ++at) {
      const TimelineObservation& o = observations[group[at]];
      // What lies too far back for this one does for all that follow of this agent.
      while (low < end && o.on_reference && first_of(low).on_reference && o.first_ns &&
             first_of(low).first_ns && *o.first_ns - *first_of(low).first_ns >= Within(o)) {
        ++low;
      }
      std::optional<size_t> best;
      int64_t best_apart = 0;
      bool tie = false;
      for (size_t c = low; c < std::min(end, low + kMostCandidates); ++c) {
        if (taken[c - begin]) continue;
        const std::optional<int64_t> apart = Apart(first_of(c), o);
        if (!apart) continue;
        tie = tie || (best && *apart == kPairWithinNs && best_apart == kPairWithinNs);
        if (best && *apart >= best_apart) continue;
        best = c;
        best_apart = *apart;
      }
      // Two that fit equally, and no clock to part them: neither is claimed.
      if (best && !tie) {
        calls[*best].push_back(group[at]);
        taken[*best - begin] = true;
      } else {
        calls.push_back({group[at]});
      }
    }
  }
}

}  // namespace

std::vector<std::vector<size_t>> PairViews(const std::vector<TimelineObservation>& observations) {
  std::map<decltype(KeyOf(observations[0])), std::vector<size_t>> groups;
  for (size_t i = 0; i < observations.size(); ++i) groups[KeyOf(observations[i])].push_back(i);
  std::vector<std::vector<size_t>> calls;
  for (auto& [key, group] : groups) {
    std::sort(group.begin(), group.end(), [&](size_t a, size_t b) {
      const TimelineObservation& x = observations[a];
      const TimelineObservation& y = observations[b];
      return std::tuple(x.agent, x.first_ns.value_or(0), x.call_id) <
             std::tuple(y.agent, y.first_ns.value_or(0), y.call_id);
    });
    PairGroup(observations, group, calls);
  }
  return calls;
}

}  // namespace keytrail
