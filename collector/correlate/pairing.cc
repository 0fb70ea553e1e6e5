#include "collector/correlate/pairing.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace keytrail::correlate {
namespace {

// Two views of one call lie closer than this after correction: a request waits in a socket buffer, hardly
// longer. A port is not used again so soon (TIME_WAIT is 60 s).
constexpr int64_t kPairWithinNs = 5'000'000'000;
// For messages without an id, where neighbours look alike.
constexpr int64_t kMessagePairWithinNs = 200'000'000;
// A pair whose bounds lie further than this outside of the median is not a pair.
constexpr int64_t kOutlierNs = 10'000'000;

// Neighbours looked at before a view is said to be alone.
constexpr size_t kMostCandidates = 64;

struct Bounds {
  int64_t low = 0;
  int64_t high = 0;
};

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

Pairing::Pairing(const CallLog& log, const HostTable& hosts) : log_(log), hosts_(hosts) {
  SortGroups();
  clocks_.resize(log.agents().size());
  EstimateClocks();
  Assign();
}

void Pairing::SortGroups() {
  order_.resize(log_.observations().size());
  for (uint32_t i = 0; i < order_.size(); ++i) order_[i] = i;
  std::sort(order_.begin(), order_.end(), [&](uint32_t x, uint32_t y) {
    const Observation& a = log_[x];
    const Observation& b = log_[y];
    const auto ka = KeyOf(a);
    const auto kb = KeyOf(b);
    if (ka != kb) return ka < kb;
    return std::tuple(a.agent, a.first(), a.call_id) < std::tuple(b.agent, b.first(), b.call_id);
  });
  for (uint32_t begin = 0; begin < order_.size();) {
    uint32_t end = begin + 1;
    while (end < order_.size() && KeyOf(log_[order_[end]]) == KeyOf(log_[order_[begin]])) ++end;
    groups_.push_back({begin, end});
    begin = end;
  }
}

void Pairing::EstimateClocks() {
  std::map<std::pair<uint16_t, uint16_t>, std::vector<Bounds>> by_pair;
  for (const Group& g : groups_) {
    const size_t n = g.end - g.begin;
    if (n < 2 || n > log_.agents().size()) continue;
    const Observation* client = nullptr;
    const Observation* server = nullptr;
    bool simple = true;
    for (uint32_t i = g.begin; i < g.end; ++i) {
      const Observation& o = log_[order_[i]];
      if (i > g.begin && log_[order_[i - 1]].agent == o.agent) simple = false;
      const SeenConnection& c = log_.connection_of(o);
      const uint32_t host = hosts_.OfAgent(o.agent);
      if (host == kNone) continue;
      if (host == hosts_.OfEndpoint(c.client)) client = &o;
      if (host == hosts_.OfEndpoint(c.server)) server = &o;
    }
    if (!simple || client == nullptr || server == nullptr || client == server) continue;
    if (client->req_first == kNoTime || server->req_first == kNoTime || client->resp_last == kNoTime ||
        server->resp_first == kNoTime || client->resp_first == kNoTime) {
      continue;
    }
    by_pair[{client->agent, server->agent}].push_back(
        {server->resp_first - client->resp_first, server->req_first - client->req_first});
  }
  std::vector<Edge> edges;
  for (auto& [pair, bounds] : by_pair) {
    std::vector<int64_t> middles;
    middles.reserve(bounds.size());
    for (const Bounds& b : bounds) middles.push_back(b.low + (b.high - b.low) / 2);
    std::nth_element(middles.begin(), middles.begin() + middles.size() / 2, middles.end());
    const int64_t median = middles[middles.size() / 2];
    std::optional<Bounds> meet;
    std::optional<Bounds> narrowest;
    uint64_t used = 0;
    for (const Bounds& b : bounds) {
      if (b.low > b.high || median < b.low - kOutlierNs || median > b.high + kOutlierNs) continue;
      ++used;
      if (!narrowest ||
          std::pair(b.high - b.low, b.low) < std::pair(narrowest->high - narrowest->low, narrowest->low)) {
        narrowest = b;
      }
      meet = meet ? Bounds{std::max(meet->low, b.low), std::min(meet->high, b.high)} : b;
    }
    if (!meet) continue;
    // Bounds that do not meet mean that the clocks moved against each other; the best single pair then.
    const Bounds& use = meet->low <= meet->high ? *meet : *narrowest;
    const int64_t width = use.high - use.low;
    const int64_t apart = meet->low <= meet->high ? 0 : meet->low - meet->high;
    edges.push_back({pair.first, pair.second, use.low + width / 2, (width + 1) / 2 + apart, used});
  }
  SpreadClocks(edges);
}

void Pairing::SpreadClocks(const std::vector<Edge>& edges) {
  // The reference: a captured PD, else the captured host with the most pairs; the lower address of equals.
  std::vector<uint64_t> pairs(hosts_.hosts().size());
  for (const Edge& e : edges) {
    pairs[hosts_.OfAgent(e.client_agent)] += e.pairs;
    pairs[hosts_.OfAgent(e.server_agent)] += e.pairs;
  }
  for (uint32_t h = 0; h < hosts_.hosts().size(); ++h) {
    if (!hosts_.Captured(h)) continue;
    if (reference_host_ == kNone) {
      reference_host_ = h;
      continue;
    }
    const auto rank = [&](uint32_t x) {
      return std::tuple(hosts_[x].role != "pd", ~pairs[x], hosts_[x].address);
    };
    if (rank(h) < rank(reference_host_)) reference_host_ = h;
  }
  if (reference_host_ == kNone) return;
  for (uint16_t a : hosts_[reference_host_].agents) clocks_[a].offset_ns = 0;
  // Every other agent along the path of least error (Bellman-Ford; agents are few).
  for (size_t round = 0; round < clocks_.size(); ++round) {
    bool changed = false;
    const auto relax = [&](uint16_t from, uint16_t to, int64_t offset, int64_t error) {
      if (!clocks_[from].offset_ns) return;
      const int64_t total = clocks_[from].error_ns + error;
      const int64_t through = *clocks_[from].offset_ns + offset;
      if (clocks_[to].offset_ns &&
          std::pair(clocks_[to].error_ns, *clocks_[to].offset_ns) <= std::pair(total, through)) {
        return;
      }
      clocks_[to].offset_ns = through;
      clocks_[to].error_ns = total;
      changed = true;
    };
    for (const Edge& e : edges) {
      relax(e.client_agent, e.server_agent, e.offset, e.error);
      relax(e.server_agent, e.client_agent, -e.offset, e.error);
    }
    if (!changed) break;
  }
}

int64_t Pairing::ToReference(uint16_t agent, int64_t t) const {
  if (t == kNoTime) return t;
  return std::clamp(t - clocks_[agent].offset_ns.value_or(0), int64_t{0}, kTimeEnd - 1);
}

void Pairing::Assign() {
  logical_.assign(log_.observations().size(), kNone);
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
  const auto time = [&](uint32_t i) { return ToReference(log_[i].agent, log_[i].first()); };
  for (size_t begin = 0; begin < group.size();) {
    size_t end = begin + 1;
    while (end < group.size() && log_[group[end]].agent == log_[group[begin]].agent) ++end;
    size_t next = 0;
    std::vector<uint32_t> fresh;
    for (size_t i = begin; i < end; ++i) {
      const uint32_t o = group[i];
      // Without a common clock only the order is left.
      const bool clocks_related = !calls.empty() && clocks_[log_[o].agent].offset_ns.has_value();
      // What lies too far back for this one does for all that follow.
      while (clocks_related && next < calls.size() && clocks_[log_[calls[next]].agent].offset_ns &&
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
        const bool related = clocks_related && clocks_[log_[calls[at]].agent].offset_ns.has_value();
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
