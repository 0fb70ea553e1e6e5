#include "collector/correlate/twins.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace keytrail::correlate {
namespace {

// Calls of different content that two connections must have in common. A client asks the same after each
// start, with the same stream ids; eight in a row within each other's time is no accident.
constexpr size_t kTwinCalls = 8;
// ... if it is known within so much how the two clocks stand: each call then lies at its partner.
constexpr size_t kTwinCallsByClock = 3;
constexpr int64_t kSureNs = 1'000'000;
// Pairs of connections that are looked at in this way. Where there are more, few agents see both ends of
// anything, and it is left to what the calls say.
constexpr size_t kMostPairs = 65536;
// Of the calls between the first and the last common one at least this share is common, as one in so many:
// both agents may have lost some.
constexpr size_t kTwinShare = 2;
// How far two clocks drift apart: as in offset_curve.cc.
constexpr int64_t kDriftPpm = 1000;

enum class Side : uint8_t { kNeither, kClient, kServer };

// Place of a call on its connection.
using Place = std::tuple<uint32_t, uint64_t, bool>;  // stream, request id, has one

Place PlaceOf(const Observation& o) {
  return {o.stream, o.request_id, (o.flags & kHasRequestId) != 0};
}

bool HasPlace(const Observation& o) {
  return o.kind == CallKind::kUnary || (o.kind == CallKind::kSub && (o.flags & kHasRequestId) != 0);
}

class TwinSearch {
 public:
  TwinSearch(const CallLog& log, const HostTable& hosts, const ClockGraph& clocks)
      : log_(log), hosts_(hosts), clocks_(clocks) {}

  std::vector<TwinConnections> Find();

 private:
  struct Asked {
    Place place;
    uint32_t content = 0;
    uint32_t connection = kNone;

    friend auto operator<=>(const Asked&, const Asked&) = default;
  };
  using Pair = std::pair<uint32_t, uint32_t>;  // client's side, server's side

  bool FindSides();
  Side SideOf(uint32_t connection) const;
  std::map<Pair, std::set<uint32_t>> CommonContents() const;
  // All between machines whose clocks are related.
  std::set<Pair> ByClocks() const;
  void GatherCalls(const std::set<Pair>& pairs);
  // How many calls of the two are the same; 0: they are not the same connection.
  size_t CommonCalls(const Pair& pair) const;
  bool WithinEachOther(const std::vector<std::pair<uint32_t, uint32_t>>& calls) const;
  bool WithinByClocks(const Pair& pair, const std::vector<std::pair<uint32_t, uint32_t>>& calls) const;

  const CallLog& log_;
  const HostTable& hosts_;
  const ClockGraph& clocks_;
  std::vector<Side> sides_;
  // Observations by place, of the connections that may be twins. Of a place that occurs twice the first.
  std::map<uint32_t, std::map<Place, uint32_t>> calls_;
};

Side TwinSearch::SideOf(uint32_t connection) const {
  const SeenConnection& c = log_.connections()[connection];
  if (log_.uses()[connection].ends_used_again || log_.uses()[connection].joined) return Side::kNeither;
  for (const uint32_t end : {c.client, c.server}) {
    if (log_.endpoints()[end].agent != kNone) return Side::kNeither;  // loopback: nothing lies between
  }
  const auto seen_from = [&](uint32_t end) {
    const std::vector<uint16_t>& agents = hosts_[hosts_.OfEndpoint(end)].agents;
    return std::any_of(agents.begin(), agents.end(), [&](uint16_t a) { return log_.Saw(a, connection); });
  };
  const bool client = seen_from(c.client);
  const bool server = seen_from(c.server);
  return client == server ? Side::kNeither : client ? Side::kClient : Side::kServer;
}

bool TwinSearch::FindSides() {
  sides_.resize(log_.connections().size());
  bool clients = false, servers = false;
  for (uint32_t c = 0; c < sides_.size(); ++c) {
    sides_[c] = SideOf(c);
    clients |= sides_[c] == Side::kClient;
    servers |= sides_[c] == Side::kServer;
  }
  return clients && servers;
}

std::map<TwinSearch::Pair, std::set<uint32_t>> TwinSearch::CommonContents() const {
  std::vector<Asked> asked;
  for (const Observation& o : log_.observations()) {
    if (sides_[o.connection] == Side::kNeither || o.content == 0 || !HasPlace(o)) continue;
    asked.push_back({PlaceOf(o), o.content, o.connection});
  }
  // Two agents on one machine see the same.
  std::sort(asked.begin(), asked.end());
  asked.erase(std::unique(asked.begin(), asked.end()), asked.end());
  std::map<Pair, std::set<uint32_t>> common;
  for (size_t begin = 0; begin < asked.size();) {
    size_t end = begin + 1;
    const auto same = [&](const Asked& other) {
      return other.place == asked[begin].place && other.content == asked[begin].content;
    };
    while (end < asked.size() && same(asked[end])) ++end;
    // More than two of them: nobody knows which ones belong together.
    if (end - begin == 2 && sides_[asked[begin].connection] != sides_[asked[begin + 1].connection]) {
      const uint32_t a = asked[begin].connection, b = asked[begin + 1].connection;
      common[sides_[a] == Side::kClient ? Pair{a, b} : Pair{b, a}].insert(asked[begin].content);
    }
    begin = end;
  }
  std::erase_if(common, [](const auto& entry) { return entry.second.size() < kTwinCalls; });
  return common;
}

std::set<TwinSearch::Pair> TwinSearch::ByClocks() const {
  std::set<Pair> pairs;
  if (log_.joined().empty()) return pairs;
  const auto related = [&](uint32_t end) { return clocks_.Related(hosts_.OfEndpoint(end)); };
  std::vector<uint32_t> client_sides, server_sides;
  for (uint32_t c = 0; c < sides_.size(); ++c) {
    const SeenConnection& connection = log_.connections()[c];
    if (sides_[c] == Side::kClient && related(connection.client)) client_sides.push_back(c);
    if (sides_[c] == Side::kServer && related(connection.server)) server_sides.push_back(c);
  }
  if (client_sides.size() * server_sides.size() > kMostPairs) return pairs;
  for (const uint32_t a : client_sides) {
    for (const uint32_t b : server_sides) pairs.insert({a, b});
  }
  return pairs;
}

void TwinSearch::GatherCalls(const std::set<Pair>& pairs) {
  for (const Pair& pair : pairs) {
    calls_.try_emplace(pair.first);
    calls_.try_emplace(pair.second);
  }
  for (uint32_t i = 0; i < log_.observations().size(); ++i) {
    const Observation& o = log_[i];
    if (!HasPlace(o)) continue;
    const auto it = calls_.find(o.connection);
    if (it != calls_.end()) it->second.try_emplace(PlaceOf(o), i);
  }
}

// Two observations that both tell what they speak of, and tell different things.
bool Differ(const Observation& a, const Observation& b) {
  const bool named = ((a.flags | b.flags) & kMethodUnknown) == 0;
  if (named && (a.method != b.method || a.command != b.command)) return true;
  if (a.content != 0 && b.content != 0 && a.content != b.content) return true;
  if ((a.flags & b.flags & kStampsWhole) == 0) return false;
  return a.req_bytes != b.req_bytes || a.resp_bytes != b.resp_bytes;
}

size_t TwinSearch::CommonCalls(const Pair& pair) const {
  const auto& client_calls = calls_.at(pair.first);
  const auto& server_calls = calls_.at(pair.second);
  std::vector<Place> common;
  std::vector<std::pair<uint32_t, uint32_t>> timed;
  std::set<uint32_t> contents;
  for (const auto& [place, i] : client_calls) {
    const auto it = server_calls.find(place);
    if (it == server_calls.end()) continue;
    const Observation& c = log_[i];
    const Observation& s = log_[it->second];
    if (Differ(c, s)) return 0;
    common.push_back(place);
    if ((c.flags & s.flags & kStampsWhole) == 0) continue;
    if (c.req_first == kNoTime || c.resp_first == kNoTime) continue;
    if (s.req_first == kNoTime || s.resp_first == kNoTime) continue;
    timed.push_back({i, it->second});
    if (c.content != 0 && s.content != 0) contents.insert(c.content);
  }
  const bool by_content = contents.size() >= kTwinCalls && WithinEachOther(timed);
  const bool by_clocks = timed.size() >= kTwinCallsByClock && WithinByClocks(pair, timed);
  if (!by_content && !by_clocks) return 0;
  for (const auto* calls : {&client_calls, &server_calls}) {
    const auto begin = calls->lower_bound(common.front()), end = calls->upper_bound(common.back());
    if (static_cast<size_t>(std::distance(begin, end)) > common.size() * kTwinShare) return 0;
  }
  return timed.size();
}

// Whether any distance of the two clocks explains all of the calls.
bool TwinSearch::WithinEachOther(const std::vector<std::pair<uint32_t, uint32_t>>& calls) const {
  int64_t low = -kTimeEnd, high = kTimeEnd, first = kTimeEnd, last = -kTimeEnd;
  for (const auto& [i, k] : calls) {
    const Observation& c = log_[i];
    const Observation& s = log_[k];
    low = std::max(low, s.resp_first - c.resp_first);
    high = std::min(high, s.req_first - c.req_first);
    first = std::min(first, c.req_first);
    last = std::max(last, c.req_first);
  }
  return low <= high + (last - first) / 1'000'000 * kDriftPpm + 2 * kStampNs;
}

// Whether the distance that is known does.
bool TwinSearch::WithinByClocks(const Pair& pair,
                                const std::vector<std::pair<uint32_t, uint32_t>>& calls) const {
  const uint32_t client = hosts_.OfEndpoint(log_.connections()[pair.first].client);
  const uint32_t server = hosts_.OfEndpoint(log_.connections()[pair.second].server);
  for (const auto& [i, k] : calls) {
    const Observation& c = log_[i];
    const Observation& s = log_[k];
    const auto at_client = clocks_.ToReference(client, c.req_first);
    const auto at_server = clocks_.ToReference(server, s.req_first);
    if (!at_client || !at_server || at_client->error() + at_server->error() > kSureNs) return false;
    if (clocks_.Compare({client, c.req_first}, {server, s.req_first}) == Order::kAfter) return false;
    if (clocks_.Compare({server, s.resp_first}, {client, c.resp_first}) == Order::kAfter) return false;
    // ... and not merely while the client waited: it may have waited for long.
    const int64_t behind = s.req_first + at_server->value - (c.req_first + at_client->value);
    if (behind > 2 * kSureNs) return false;
  }
  return true;
}

std::vector<TwinConnections> TwinSearch::Find() {
  if (!FindSides()) return {};
  std::set<Pair> pairs = ByClocks();
  for (const auto& [pair, contents] : CommonContents()) pairs.insert(pair);
  if (pairs.empty()) return {};
  GatherCalls(pairs);
  std::vector<TwinConnections> found;
  std::map<uint32_t, size_t> partners;
  for (const Pair& pair : pairs) {
    const size_t calls = CommonCalls(pair);
    if (calls == 0) continue;
    found.push_back({pair.first, pair.second, static_cast<uint32_t>(calls)});
    ++partners[pair.first];
    ++partners[pair.second];
  }
  std::erase_if(found, [&](const TwinConnections& t) {
    return partners[t.client_side] > 1 || partners[t.server_side] > 1;
  });
  return found;
}

}  // namespace

std::vector<TwinConnections> FindTwins(const CallLog& log, const HostTable& hosts, const ClockGraph& clocks) {
  return TwinSearch(log, hosts, clocks).Find();
}

}  // namespace keytrail::correlate
