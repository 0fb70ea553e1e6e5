#include "collector/correlate/pairing.h"

#include <algorithm>
#include <tuple>

namespace keytrail::correlate {
namespace {

// Two views of one call lie closer than this after correction: a request waits in a socket buffer, hardly
// longer. A port is not used again so soon (TIME_WAIT is 60 s).
constexpr int64_t kPairWithinNs = 5'000'000'000;
// For messages without an id, where neighbours look alike.
constexpr int64_t kMessagePairWithinNs = 200'000'000;
// Neighbours looked at before a view is said to be alone.
constexpr size_t kMostCandidates = 64;

auto KeyOf(const Observation& o) {
  // A stream's messages go one way each, and the two ways overtake each other.
  const bool request = o.kind == CallKind::kMessage && o.req_first != kNoTime;
  return std::tuple(o.connection, o.stream, static_cast<uint8_t>(o.kind), o.flags & kHasRequestId,
                    o.request_id, request);
}

bool SizesAgree(const Observation& a, const Observation& b) {
  if (a.kind == CallKind::kMessage) return a.req_bytes == b.req_bytes && a.resp_bytes == b.resp_bytes;
  const bool request = a.req_bytes == b.req_bytes || a.req_bytes == 0 || b.req_bytes == 0;
  const bool response = a.resp_bytes == b.resp_bytes || a.resp_bytes == 0 || b.resp_bytes == 0;
  return request && response;
}

}  // namespace

Pairing::Pairing(CallLog& log, const HostTable& hosts, ClockGraph& clocks, Clocks how)
    : log_(log), hosts_(hosts), clocks_(clocks) {
  clocks_.Grow(static_cast<uint32_t>(hosts.hosts().size()));
  SortGroups();
  FeedClocks();
  SpreadClocks(how);
  Assign();
}

void Pairing::SortGroups() {
  // Most of the key lies in one place beside the index; the observations are looked at only where that is
  // equal.
  struct Item {
    uint64_t stream;
    uint64_t request_id;
    uint32_t index;
  };
  std::vector<Item> items(log_.observations().size());
  for (uint32_t i = 0; i < items.size(); ++i) {
    items[i] = {uint64_t{log_[i].connection} << 32 | log_[i].stream, log_[i].request_id, i};
  }
  std::sort(items.begin(), items.end(), [&](const Item& x, const Item& y) {
    if (x.stream != y.stream) return x.stream < y.stream;
    if (x.request_id != y.request_id) return x.request_id < y.request_id;
    const Observation& a = log_[x.index];
    const Observation& b = log_[y.index];
    const auto ka = KeyOf(a);
    const auto kb = KeyOf(b);
    if (ka != kb) return ka < kb;
    return std::tuple(a.agent, a.first(), a.call_id) < std::tuple(b.agent, b.first(), b.call_id);
  });
  order_.resize(items.size());
  for (uint32_t i = 0; i < order_.size(); ++i) order_[i] = items[i].index;
  for (uint32_t begin = 0; begin < order_.size();) {
    uint32_t end = begin + 1;
    while (end < order_.size() && KeyOf(log_[order_[end]]) == KeyOf(log_[order_[begin]])) ++end;
    groups_.push_back({begin, end});
    begin = end;
  }
}

void Pairing::FeedClocks() {
  for (const Group& g : groups_) {
    const size_t n = g.end - g.begin;
    if (n < 2 || n > log_.agents().size()) continue;
    uint32_t client_view = kNone;
    uint32_t server_view = kNone;
    bool simple = true;
    // Of two captures of one machine the one that saw the call first, for any order of input.
    const auto earlier = [&](const Observation& a, uint32_t than) {
      if (than == kNone) return true;
      const Observation& b = log_[than];
      return std::tuple(a.req_first, a.resp_first, a.call_id) <
             std::tuple(b.req_first, b.resp_first, b.call_id);
    };
    for (uint32_t i = g.begin; i < g.end; ++i) {
      const Observation& o = log_[order_[i]];
      if ((i > g.begin && log_[order_[i - 1]].agent == o.agent) || (o.flags & kFedClocks) != 0)
        simple = false;
      const SeenConnection& c = log_.connection_of(o);
      const uint32_t host = hosts_.OfAgent(o.agent);
      if (host == kNone) continue;
      if (host == hosts_.OfEndpoint(c.client) && earlier(o, client_view)) client_view = order_[i];
      if (host == hosts_.OfEndpoint(c.server) && earlier(o, server_view)) server_view = order_[i];
    }
    if (!simple || client_view == kNone || server_view == kNone) continue;
    const Observation& client = log_[client_view];
    const Observation& server = log_[server_view];
    const uint32_t from = hosts_.OfAgent(client.agent);
    const uint32_t to = hosts_.OfAgent(server.agent);
    if (from == to || (client.flags & server.flags & kStampsWhole) == 0 || !SizesAgree(client, server)) {
      continue;
    }
    if (client.req_first == kNoTime || server.req_first == kNoTime || client.resp_first == kNoTime ||
        server.resp_first == kNoTime) {
      continue;
    }
    clocks_.Add(from, to, {client.req_first, server.req_first, server.resp_first, client.resp_first});
    // One is enough: the group is passed over from now on. Both, in case that only one of them is kept.
    log_.FedClocks(client_view);
    log_.FedClocks(server_view);
  }
}

void Pairing::SpreadClocks(Clocks how) {
  // The reference: a captured PD, else the captured host with the most pairs; the lower address of equals.
  const auto hosts = static_cast<uint32_t>(hosts_.hosts().size());
  std::vector<uint32_t> by_address(hosts);
  for (uint32_t h = 0; h < hosts; ++h) by_address[h] = h;
  std::sort(by_address.begin(), by_address.end(),
            [&](uint32_t a, uint32_t b) { return hosts_[a].address < hosts_[b].address; });
  std::vector<uint32_t> rank(hosts);
  for (uint32_t n = 0; n < hosts; ++n) rank[by_address[n]] = n;
  const auto preference = [&](uint32_t h) {
    return std::tuple(hosts_[h].role != "pd", ~clocks_.Calls(h), rank[h]);
  };
  for (uint32_t h : by_address) {
    if (!hosts_.Captured(h)) continue;
    if (reference_host_ == kNone || preference(h) < preference(reference_host_)) reference_host_ = h;
  }
  if (reference_host_ == kNone) return;
  if (how == Clocks::kExact) {
    clocks_.Spread(reference_host_, rank);
  } else {
    clocks_.SpreadIfGrown(reference_host_, rank);
  }
}

std::optional<OffsetClaim> Pairing::Clock(uint16_t agent, int64_t t) const {
  const uint32_t host = hosts_.OfAgent(agent);
  if (host == kNone || reference_host_ == kNone || t == kNoTime) return std::nullopt;
  return clocks_.ToReference(host, t);
}

int64_t Pairing::ToReference(uint16_t agent, int64_t t) const {
  if (t == kNoTime) return t;
  const auto clock = Clock(agent, t);
  return std::clamp(t + (clock ? clock->value : 0), int64_t{0}, kTimeEnd - 1);
}

void Pairing::Assign() {
  logical_.assign(log_.observations().size(), kNone);
  corrected_.resize(log_.observations().size());
  for (uint32_t i = 0; i < corrected_.size(); ++i) {
    const Observation& o = log_[i];
    const auto clock = Clock(o.agent, o.first());
    corrected_[i] = {o.first(), -1};
    if (clock)
      corrected_[i] = {std::clamp(o.first() + clock->value, int64_t{0}, kTimeEnd - 1), clock->error()};
  }
  for (const Group& g : groups_) AssignGroup({order_.data() + g.begin, order_.data() + g.end});
  first_member_.assign(count_ + 1, 0);
  for (uint32_t l : logical_) ++first_member_[l + 1];
  for (uint32_t l = 0; l < count_; ++l) first_member_[l + 1] += first_member_[l];
  members_.resize(logical_.size());
  std::vector<uint32_t> next(first_member_.begin(), first_member_.end() - 1);
  for (uint32_t i : order_) members_[next[logical_[i]]++] = i;
}

void Pairing::AssignGroup(std::span<const uint32_t> group) {
  // Calls so far, in time order, with a member for the clock and one for the sizes.
  std::vector<uint32_t> calls;  // representative observations
  const bool has_id = (log_[group[0]].flags & kHasRequestId) != 0 || log_[group[0]].kind == CallKind::kUnary;
  const int64_t within = has_id ? kPairWithinNs : kMessagePairWithinNs;
  const auto time = [&](uint32_t i) { return corrected_[i].t; };
  // Its time says something: the clock is known well enough.
  const auto timed = [&](uint32_t i) { return corrected_[i].error >= 0 && corrected_[i].error < within / 2; };
  for (size_t begin = 0; begin < group.size();) {
    size_t end = begin + 1;
    while (end < group.size() && log_[group[end]].agent == log_[group[begin]].agent) ++end;
    size_t next = 0;
    std::vector<uint32_t> fresh;
    for (size_t i = begin; i < end; ++i) {
      const uint32_t o = group[i];
      // Without a common clock only the order is left.
      const bool clocks_related = !calls.empty() && timed(o);
      // What lies too far back for this one does for all that follow.
      while (clocks_related && next < calls.size() && timed(calls[next]) &&
             time(o) - time(calls[next]) >= within) {
        ++next;
      }
      size_t at = next;
      const size_t give_up = std::min(calls.size(), next + kMostCandidates);
      while (at < calls.size()) {
        if (at == give_up) {
          at = calls.size();
          break;
        }
        const bool related = clocks_related && timed(calls[at]);
        const int64_t behind = time(o) - time(calls[at]);
        const bool near = !related || (behind < within && behind > -within);
        if (near && SizesAgree(log_[o], log_[calls[at]])) break;
        if (related && behind <= -within) {
          at = calls.size();
          break;
        }
        ++at;
      }
      if (at < calls.size()) {
        logical_[o] = logical_[calls[at]];
        next = at + 1;
      } else {
        logical_[o] = count_++;
        fresh.push_back(o);
      }
    }
    calls.insert(calls.end(), fresh.begin(), fresh.end());
    std::sort(calls.begin(), calls.end(), [&](uint32_t x, uint32_t y) {
      return std::tuple(time(x), log_[x].call_id) < std::tuple(time(y), log_[y].call_id);
    });
    begin = end;
  }
}

}  // namespace keytrail::correlate
