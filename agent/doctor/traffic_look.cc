#include "agent/doctor/traffic_look.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "agent/focus/focus.h"
#include "agent/http2/http2_decoder.h"
#include "agent/packet/packet_decoder.h"
#include "agent/tcp/tcp_tracker.h"
#include "common/clock.h"

namespace keytrail {

namespace {

// Names of services and ports that one look remembers: more are of no use to a reader.
constexpr size_t kMostServices = 8;
constexpr size_t kMostPorts = 4096;

class Listener final : public ByteSink, private Http2Sink {
 public:
  explicit Listener(TrafficLook& look) : look_(look), http2_(*this, look.counters) {}

  void OnOpen(const ConnectionRef& connection, TimeNs time) override { http2_.OnOpen(connection, time); }
  void OnBytes(const ConnectionRef& connection, int direction, TimeNs time, uint64_t offset,
               Bytes bytes) override {
    http2_.OnBytes(connection, direction, time, offset, bytes);
  }
  void OnGap(const ConnectionRef& connection, int direction, TimeNs time, uint64_t offset,
             uint64_t length) override {
    http2_.OnGap(connection, direction, time, offset, length);
  }
  // A connection that is not HTTP/2 is counted when it ends: the counter that moves is its protocol.
  void OnClose(const ConnectionRef& connection, TimeNs time, CloseReason reason) override {
    const Counters before = look_.counters;
    http2_.OnClose(connection, time, reason);
    const auto moved = [&](Counter c) { return look_.counters.Get(c) != before.Get(c); };
    if (PortLook* port = PortOf(connection)) {
      if (moved(Counter::kConnectionsTls)) ++port->tls;
      if (moved(Counter::kConnectionsHttp1) || moved(Counter::kConnectionsOther)) ++port->unread;
    }
  }

 private:
  void OnHttp2(const ConnectionRef& connection, Protocol, int client_direction, TimeNs) override {
    if (client_direction >= 0) servers_[connection.serial] = ServerPort(connection, client_direction);
    if (PortLook* port = PortOf(connection)) ++port->http2;
  }
  void OnClientKnown(const ConnectionRef&, int) override {}
  void OnHeaders(const ConnectionRef& connection, int, uint32_t, TimeNs, TimeNs, const HeaderBlock& block,
                 bool) override {
    // "/tikvpb.Tikv/KvGet"
    const size_t slash = block.path.rfind('/');
    if (block.path.empty() || block.path[0] != '/' || slash == 0 || slash == std::string_view::npos) return;
    PortLook* port = PortOf(connection);
    if (port == nullptr) return;
    ++port->requests;
    if (port->services.size() < kMostServices) port->services.emplace(block.path.substr(1, slash - 1));
  }
  void OnData(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, Bytes, bool, bool) override {}
  void OnReset(const ConnectionRef&, int, uint32_t, TimeNs, uint32_t) override {}
  void OnGoaway(const ConnectionRef&, int, TimeNs, uint32_t, uint32_t) override {}
  void OnLoss(const ConnectionRef&, int, TimeNs, uint64_t, uint32_t) override {}
  void OnEnd(const ConnectionRef& connection, TimeNs, CloseReason) override {
    servers_.erase(connection.serial);
  }

  static uint16_t ServerPort(const ConnectionRef& connection, int client_direction) {
    return client_direction == 0 ? connection.key->b.port : connection.key->a.port;
  }

  PortLook* PortOf(const ConnectionRef& connection) {
    uint16_t port = std::min(connection.key->a.port, connection.key->b.port);
    if (connection.opened_by >= 0) port = ServerPort(connection, connection.opened_by);
    const auto known = servers_.find(connection.serial);
    if (known != servers_.end()) port = known->second;
    const auto found = look_.ports.find(port);
    if (found != look_.ports.end()) return &found->second;
    return look_.ports.size() < kMostPorts ? &look_.ports[port] : nullptr;
  }

  TrafficLook& look_;
  Http2Decoder http2_;
  std::unordered_map<uint64_t, uint16_t> servers_;  // by serial, of connections whose client is known
};

// Packets that came past the filter because they look like HTTP/2.
class Noticing final : public SegmentSink {
 public:
  explicit Noticing(SegmentSink& unused) : focus_({{}, true, false}, unused, uncounted_, 0) {}
  void Feed(const RawPacket& packet) { packets_.Feed(packet, *this); }
  void OnSegment(const Segment& segment) override { focus_.Notice(segment); }
  std::set<uint16_t> Ports() {
    std::set<uint16_t> ports;
    for (const FoundPort& found : focus_.TakeFound()) ports.insert(found.port);
    return ports;
  }

 private:
  Counters uncounted_;
  PacketDecoder packets_{uncounted_};
  Focus focus_;
};

}  // namespace

Result<TrafficLook> LookAtTraffic(PacketSource& source, int64_t look_ns) {
  TrafficLook look;
  Listener listener(look);
  TcpTracker tcp(listener, look.counters);
  PacketDecoder packets(look.counters);
  Noticing noticing(tcp);
  const int64_t began = SteadyNs();
  RawPacket packet;
  int64_t drops_read_ns = began;
  while (SteadyNs() - began < look_ns) {
    const Result<PacketSource::Next> next = source.Read(packet);
    if (!next) return Error{next.error()};
    if (*next == PacketSource::Next::kEnd) break;
    if (*next == PacketSource::Next::kTimeout) {
      tcp.Advance(TimeNs{WallClockNs()});
    } else if (packet.outside_filter) {
      noticing.Feed(packet);
    } else {
      look.counters.Add(Counter::kPackets);
      look.counters.Add(Counter::kBytes, packet.wire_length);
      packets.Feed(packet, tcp);
    }
    if (SteadyNs() - drops_read_ns >= 200'000'000) {
      drops_read_ns = SteadyNs();
      source.ReadDrops(look.counters);
    }
  }
  source.ReadDrops(look.counters);
  look.lasted_ns = SteadyNs() - began;
  packets.Finish();
  tcp.Finish();
  look.left_out = noticing.Ports();
  return look;
}

}  // namespace keytrail
