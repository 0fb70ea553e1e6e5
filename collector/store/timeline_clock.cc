#include "collector/store/timeline_clock.h"

#include <algorithm>
#include <limits>

namespace keytrail {

namespace {

constexpr int64_t kFar = std::numeric_limits<int64_t>::max() / 4;

// How far `t` lies outside of the stretch.
int64_t Outside(const ClockStretch& s, int64_t t) {
  if (s.from_ns && t < *s.from_ns) return *s.from_ns - t;
  if (s.to_ns && t > *s.to_ns) return t - *s.to_ns;
  return 0;
}

int64_t OffsetAt(const ClockStretch& s, int64_t t) {
  if (!s.from_ns || s.drift_ppb == 0) return s.offset_ns;
  const int64_t end = s.to_ns ? std::max(*s.from_ns, *s.to_ns) : kFar;
  const int64_t run = std::clamp(t, *s.from_ns, end) - *s.from_ns;
  return s.offset_ns + static_cast<int64_t>(static_cast<long double>(run) * s.drift_ppb / 1e9L);
}

void Forward(TimelineTimes& t) {
  int64_t at = std::numeric_limits<int64_t>::min();
  if (t.req_first) at = *t.req_first;
  for (std::optional<int64_t>* next : {&t.req_last, &t.resp_first}) {
    // An answer may begin before the last byte of its question, but not before the first.
    if (*next) **next = std::max(**next, at);
  }
  if (t.resp_first) at = std::max(at, *t.resp_first);
  if (t.resp_last) t.resp_last = std::max(*t.resp_last, at);
}

void Move(TimelineTimes& t, int64_t by) {
  for (std::optional<int64_t>* time : {&t.req_first, &t.req_last, &t.resp_first, &t.resp_last}) {
    if (*time) **time += by;
  }
}

}  // namespace

HostClocks::HostClocks(std::vector<ClockStretch> stretches) : stretches_(std::move(stretches)) {}

const ClockStretch* HostClocks::Find(const std::string& host, int64_t t_ns) const {
  const ClockStretch* best = nullptr;
  for (const ClockStretch& s : stretches_) {
    if (s.host == host && (best == nullptr || Outside(s, t_ns) < Outside(*best, t_ns))) best = &s;
  }
  return best;
}

std::optional<int64_t> HostClocks::ToReference(const std::string& host, int64_t t_ns) const {
  const ClockStretch* s = Find(host, t_ns);
  if (s == nullptr) return std::nullopt;
  return t_ns - OffsetAt(*s, t_ns);
}

std::optional<int64_t> HostClocks::FromReference(const std::string& host, int64_t t_ns) const {
  const ClockStretch* s = Find(host, t_ns);
  if (s == nullptr) return std::nullopt;
  // The offset changes by parts in a million: twice is exact to a nanosecond.
  int64_t own = t_ns + s->offset_ns;
  for (int i = 0; i < 2; ++i) {
    s = Find(host, own);
    own = t_ns + OffsetAt(*s, own);
  }
  return own;
}

int64_t HostClocks::ErrorNs(const std::string& host, int64_t t_ns) const {
  const ClockStretch* s = Find(host, t_ns);
  return s == nullptr ? 0 : s->error_ns;
}

void OrderViews(TimelineCall& call) {
  for (std::optional<TimelineView>* view : {&call.at_client, &call.at_server, &call.between}) {
    if (*view) Forward((*view)->times);
  }
  if (!call.at_client || !call.at_server) return;
  if (!call.at_client->on_reference || !call.at_server->on_reference) return;
  const TimelineTimes& c = call.at_client->times;
  TimelineTimes& s = call.at_server->times;
  int64_t least = -kFar;
  int64_t most = kFar;
  const auto not_before = [&](std::optional<int64_t> sent, std::optional<int64_t> arrived, bool request) {
    if (!sent || !arrived) return;
    if (request) {
      least = std::max(least, *sent - *arrived);
    } else {
      most = std::min(most, *arrived - *sent);
    }
  };
  not_before(c.req_first, s.req_first, true);
  not_before(c.req_last, s.req_last, true);
  not_before(s.resp_first, c.resp_first, false);
  not_before(s.resp_last, c.resp_last, false);
  // Stamps may be coarser than the way is long: then no shift fits both ways, and the middle is nearest.
  const int64_t by = least > most ? most + (least - most) / 2 : std::clamp(int64_t{0}, least, most);
  if (by == 0) return;
  Move(s, by);
  call.at_server->moved_ns = by;
}

}  // namespace keytrail
