#include "agent/focus/focus.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/bytes.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// RFC 9113 section 3.4.
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// By chance two packets of one port do not begin with nine given bytes.
constexpr uint8_t kEnoughSightings = 2;
constexpr int64_t kUrgentNs = 100'000'000;

// A whole PING or WINDOW_UPDATE frame (RFC 9113 sections 6.7, 6.9) at the front.
bool BeginsControlFrame(Bytes b) {
  if (b.size() >= 17 && LoadBe32(b.data()) == 0x00000806) return b[4] <= 1 && LoadBe32(b.data() + 5) == 0;
  if (b.size() >= 13 && LoadBe32(b.data()) == 0x00000408) {
    const uint32_t increment = LoadBe32(b.data() + 9);
    return b[4] == 0 && LoadBe32(b.data() + 5) < 1u << 31 && increment != 0 && increment < 1u << 31;
  }
  return false;
}

}  // namespace

Focus::Focus(const FocusOptions& options, SegmentSink& next, Counters& counters, int64_t now_ns)
    : options_(options), next_(next), counters_(counters), started_ns_(now_ns) {
  for (const PortRange& range : options_.ports) {
    for (uint32_t port = range.first; port <= range.last; ++port) named_.set(port);
  }
  for (const uint16_t port : options_.not_ours) {
    if (!named_[port]) not_ours_.set(port);
  }
  if (options_.ports.empty()) named_.set();
  now_.pass_wanted = !options_.ports.empty();
  now_.find_http2 = now_.pass_wanted || options_.filtered;
  changed_ = now_.find_http2;
}

std::optional<uint16_t> Focus::Shows(const Segment& segment) {
  const uint16_t a = segment.source.port;
  const uint16_t b = segment.destination.port;
  // The preface is sent by the client.
  if (AsText(segment.payload).starts_with(kPreface)) return not_ours_[b] ? std::nullopt : std::optional(b);
  if (!BeginsControlFrame(segment.payload) || not_ours_[a] || not_ours_[b]) return std::nullopt;
  // The port that is left out, or the lower one.
  const uint16_t port = excluded_[a] ? a : excluded_[b] ? b : std::min(a, b);
  if (suspected_.size() >= limits::kMaxSuspectedPorts && !suspected_.contains(port)) {
    suspected_.erase(suspected_.begin());
  }
  if (++suspected_[port] < kEnoughSightings) return std::nullopt;
  suspected_.erase(port);
  return port;
}

void Focus::OnLeftOut(const Segment& segment) {
  if (const std::optional<uint16_t> port = Shows(segment)) {
    Want(*port, true, segment.time.ns);
    if (!LeftOut(segment)) return next_.OnSegment(segment);
  }
  counters_.Add(Counter::kSegmentsUnread);
}

void Focus::Notice(const Segment& segment) {
  if (noticed_[segment.source.port] || noticed_[segment.destination.port]) return;
  const std::optional<uint16_t> port = Shows(segment);
  if (!port) return;
  noticed_.set(*port);
  counters_.Add(Counter::kPortsFound);
  found_.push_back({*port, false, started_ns_, std::max(started_ns_, segment.time.ns)});
}

void Focus::Want(uint16_t port, bool found, int64_t now_ns) {
  if (wanted_[port]) return;
  if (now_.wanted_ports.size() >= limits::kMaxWantedPorts) {
    if (found) counters_.Add(Counter::kCapPorts);
    return;
  }
  wanted_.set(port);
  now_.wanted_ports.push_back(port);
  changed_ = true;
  if (!found) return;
  urgent_ = true;
  int64_t from_ns = started_ns_;
  if (const auto since = excluded_since_ns_.find(port); since != excluded_since_ns_.end()) {
    from_ns = since->second;
    excluded_since_ns_.erase(since);
    excluded_.reset(port);
    std::erase(now_.excluded_ports, port);
  }
  ports_[port].http2 = true;
  counters_.Add(Counter::kPortsFound);
  found_.push_back({port, true, from_ns, std::max(from_ns, now_ns)});
}

void Focus::OnHttp2(uint16_t server_port) {
  if (server_port == 0 || ports_[server_port].http2) return;
  ports_[server_port].http2 = true;
  Want(server_port, false, 0);
}

void Focus::OnForeign(uint16_t server_port) {
  if (server_port != 0) ++ports_[server_port].foreign;
}

void Focus::ChooseConnections(const std::vector<ForeignConnection>& foreign) {
  std::vector<FlowKey> next;
  std::vector<const ForeignConnection*> busy;
  for (const FlowKey& key : now_.excluded) {
    const bool open = std::any_of(foreign.begin(), foreign.end(), [&](const ForeignConnection& c) {
      return c.key == key && !excluded_[c.server_port];
    });
    if (open) next.push_back(key);
  }
  for (const ForeignConnection& c : foreign) {
    if (c.segments < limits::kPacketsWorthExcluding || excluded_[c.server_port]) continue;
    if (std::find(next.begin(), next.end(), c.key) == next.end()) busy.push_back(&c);
  }
  std::sort(busy.begin(), busy.end(),
            [](const ForeignConnection* x, const ForeignConnection* y) { return x->segments > y->segments; });
  for (const ForeignConnection* c : busy) {
    if (next.size() >= limits::kMaxExcludedConnections) {
      // Whoever was left out longest may be quiet by now; who is not comes back.
      if (c != busy.front()) break;
      next.erase(next.begin());
    }
    next.push_back(c->key);
    words_.push_back("the busy connection " + FormatEndpoint(c->key.a) + " - " + FormatEndpoint(c->key.b) +
                     " carries another protocol than gRPC and is left out");
    counters_.Add(Counter::kConnectionsExcluded);
  }
  if (next == now_.excluded) return;
  now_.excluded = std::move(next);
  changed_ = true;
}

void Focus::ChoosePorts(const std::vector<ForeignConnection>& foreign, int64_t now_ns) {
  std::unordered_map<uint16_t, uint64_t> busy;
  for (const ForeignConnection& c : foreign) busy[c.server_port] += c.segments;
  for (const auto& [port, segments] : busy) {
    if (port == 0 || segments < limits::kPacketsWorthExcluding || excluded_[port] || wanted_[port]) continue;
    const Port& about = ports_[port];
    if (about.http2 || about.foreign < limits::kForeignConnectionsOfAPort) continue;
    if (now_.excluded_ports.size() >= limits::kMaxExcludedPorts) return;
    excluded_.set(port);
    excluded_since_ns_[port] = now_ns;
    now_.excluded_ports.push_back(port);
    counters_.Add(Counter::kPortsExcluded);
    changed_ = true;
    words_.push_back("port " + std::to_string(port) + " carries other protocols than gRPC: " +
                     std::to_string(about.foreign) + " connections so far; it is left out");
  }
}

std::optional<FilterRefinement> Focus::Look(int64_t steady_ns, int64_t now_ns,
                                            const std::vector<ForeignConnection>& foreign) {
  const int64_t due_ns = next_change_ns_ - (urgent_ ? limits::kFilterEveryNs - kUrgentNs : 0);
  if (steady_ns < due_ns) return std::nullopt;
  if (options_.excludes) {
    ChoosePorts(foreign, now_ns);
    ChooseConnections(foreign);
  }
  next_change_ns_ = steady_ns + limits::kFilterEveryNs;
  if (!changed_) return std::nullopt;
  changed_ = urgent_ = false;
  counters_.Add(Counter::kFilterUpdates);
  return now_;
}

std::vector<FoundPort> Focus::TakeFound() {
  return std::exchange(found_, {});
}

std::vector<std::string> Focus::TakeWords() {
  return std::exchange(words_, {});
}

}  // namespace keytrail
