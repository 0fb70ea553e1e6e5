// Writes the inputs that fuzzing begins with: the captures of tests/data in the form that each target reads,
// and a few made by hand for what no capture has. `fuzz_seeds OUT CAPTURE...` makes OUT/<target>/<name>.
// renew_corpus.sh picks the ones that are worth their bytes.
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/capture/packet_source.h"
#include "agent/http2/http2_decoder.h"
#include "agent/packet/packet_decoder.h"
#include "agent/ship/spool_format.h"
#include "agent/tcp/tcp_tracker.h"
#include "common/curve_key.h"
#include "proto/keytrail/record.pb.h"
#include "tests/fuzz/call_checks.h"
#include "tests/fuzz/input.h"
#include "tests/support/packet_builder.h"
#include "tests/unit/agent/schema/message_maker.h"

namespace keytrail::fuzz {
namespace {

namespace t = keytrail::testing;

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

std::string Two(size_t v) {
  return {static_cast<char>(v >> 8), static_cast<char>(v)};
}
std::string One(unsigned v) {
  return std::string(1, static_cast<char>(v));
}

class Folder {
 public:
  explicit Folder(std::filesystem::path out) : out_(std::move(out)) {}

  void Add(const std::string& target, const std::string& input) {
    const std::filesystem::path folder = out_ / target;
    std::filesystem::create_directories(folder);
    std::ofstream file(folder / ("seed" + std::to_string(++count_[target])), std::ios::binary);
    file << input;
    KEYTRAIL_REQUIRE(static_cast<bool>(file));
  }

 private:
  std::filesystem::path out_;
  std::map<std::string, int> count_;
};

// One connection of a capture, in the forms of the targets.
struct Seen {
  bool from_start = false;
  int client = 0;
  std::string pipeline;
  std::string http2[2];  // all bytes, for frames
  std::vector<std::pair<int, std::string>> pieces;
  std::string grpc;
  std::string grpc_hidden;  // the same with the paths in table entries that nobody saw
};

constexpr size_t kMaxSeed = 3000;

// Takes down what the rooms tell each other.
class Recorder final : public ByteSink, public Http2Sink, public CallSink {
 public:
  explicit Recorder(Folder& folder)
      : folder_(folder),
        grpc_(TheSchema(), GrpcOptions{true, true, true}, *this, counters_),
        http2_(grpc_tee(), counters_) {}

  // ByteSink
  void OnOpen(const ConnectionRef& c, TimeNs time) override {
    Seen& seen = seen_[c.serial];
    seen.from_start = c.opened_by >= 0;
    seen.client = c.opened_by == 1 ? 1 : 0;
    http2_.OnOpen(c, time);
  }
  void OnBytes(const ConnectionRef& c, int direction, TimeNs time, uint64_t offset, Bytes bytes) override {
    Seen& seen = seen_[c.serial];
    if (seen.http2[direction].size() < 4 * kMaxSeed) {
      seen.http2[direction] += AsText(bytes);
      seen.pieces.emplace_back(direction, ToString(bytes));
    }
    http2_.OnBytes(c, direction, time, offset, bytes);
  }
  void OnGap(const ConnectionRef& c, int direction, TimeNs time, uint64_t offset, uint64_t length) override {
    http2_.OnGap(c, direction, time, offset, length);
  }
  void OnClose(const ConnectionRef& c, TimeNs time, CloseReason reason) override {
    http2_.OnClose(c, time, reason);
    WriteHttp2(seen_[c.serial]);
    seen_.erase(c.serial);
  }

  // Http2Sink
  void OnHttp2(const ConnectionRef& c, Protocol protocol, int client, TimeNs time) override {
    const bool late = protocol == Protocol::kHttp2Late;
    seen_[c.serial].grpc =
        One((late ? 1u : 0u) | (client < 0 ? 2u : static_cast<unsigned>(client)) << 1 | 0x20);
    seen_[c.serial].grpc_hidden = One(1u | (client < 0 ? 2u : static_cast<unsigned>(client)) << 1);
    grpc_.OnHttp2(c, protocol, client, time);
  }
  void OnClientKnown(const ConnectionRef& c, int client) override {
    Event(c, 7, client, 0, false, One(2));
    grpc_.OnClientKnown(c, client);
  }
  void OnHeaders(const ConnectionRef& c, int direction, uint32_t stream, TimeNs first, TimeNs last,
                 const HeaderBlock& block, bool end_stream) override {
    if (!block.path.empty() || !block.method.empty()) {
      size_t number = 0;
      for (size_t i = 0; i < TheSchema().method_count(); ++i) {
        if (TheSchema().method(i).path == block.path) number = i;
      }
      const auto high = static_cast<unsigned>(number > 255 ? 8 : 0);
      const auto slot = static_cast<unsigned>(number % 8);
      Event(c, 0, direction, stream, end_stream,
            One(number & 255) + One(block.path.empty() ? 0x90 : high) + One(0x80),
            One(number & 255) + One(0x90 | slot) + One(0x83));
    } else {
      const unsigned forms = (block.http_status >= 0 ? 3u : 2u) | (block.content_type.empty() ? 0 : 4u) |
                             (block.grpc_status >= 0 ? 8u : 0) | (block.grpc_message.empty() ? 0 : 16u);
      Event(c, 1, direction, stream, end_stream,
            One(forms) + One(static_cast<unsigned>(std::max(0, block.grpc_status))));
    }
    grpc_.OnHeaders(c, direction, stream, first, last, block, end_stream);
  }
  void OnData(const ConnectionRef& c, int direction, uint32_t stream, TimeNs first, TimeNs last, Bytes data,
              bool frame_end, bool end_stream) override {
    Event(c, 2, direction, stream, end_stream, One(frame_end ? 0 : 0x40) + Two(data.size()) + ToString(data));
    grpc_.OnData(c, direction, stream, first, last, data, frame_end, end_stream);
  }
  void OnReset(const ConnectionRef& c, int direction, uint32_t stream, TimeNs time, uint32_t error) override {
    Event(c, 7, direction, stream, false, One(0));
    grpc_.OnReset(c, direction, stream, time, error);
  }
  void OnGoaway(const ConnectionRef& c, int direction, TimeNs time, uint32_t last, uint32_t error) override {
    grpc_.OnGoaway(c, direction, time, last, error);
  }
  void OnLoss(const ConnectionRef& c, int direction, TimeNs time, uint64_t bytes, uint32_t stream) override {
    Event(c, 6, direction, stream, stream != 0, Two(bytes));
    grpc_.OnLoss(c, direction, time, bytes, stream);
  }
  void OnEnd(const ConnectionRef& c, TimeNs time, CloseReason reason) override {
    grpc_.OnEnd(c, time, reason);
    Seen& seen = seen_[c.serial];
    folder_.Add("grpc", seen.grpc);
    folder_.Add("grpc", seen.grpc_hidden);
  }

  // CallSink
  void OnMessage(const MessageEvent& event) override {
    if (event.type == kNoType || event.message.size() > 400) return;
    const std::string name(TheSchema().MessageName(event.type));
    if (++messages_[name] <= 10) AddMessage(name, ToString(event.message));
    if (event.facts == nullptr) return;
    for (const ErrorFact& error : event.facts->errors) {
      if (error.from_text && ++texts_ <= 20) folder_.Add("error_text", ToString(error.text));
    }
  }
  void OnCall(const CallRecord& call, MessageType, MessageType) override {
    if (++calls_ % 40 == 0) AddOutput(call);
    encoder_.Add(call);
    if (encoder_.records() < 3) return;
    const std::string payload = encoder_.Finish();
    if (++batches_ % 20 != 0 || payload.size() > kMaxSeed) return;
    folder_.Add("records", One(0) + payload);
    const std::string packed = CompressBatch(payload);
    AddSegment(packed);
    if (batches_ % 100 == 0) {
      folder_.Add("receiver",
                  One(1) + Two(0) + One(2) + Two(payload.size()) + payload + One(3) + Two(4) + "abcd");
    }
    if (batches_ % 200 == 0) folder_.Add("records", One(1) + Two(payload.size()) + packed);
  }

  void AddSegment(const std::string& message) {
    SpoolHeader header;
    header.start = 3;
    header.identity = {"tidb1", "tidb1", "tidb", 7, "host", "eth0"};
    header.first_sequence = 1;
    std::string entries;
    for (uint64_t n = 1; n <= 2; ++n) {
      AppendSpoolEntry(7, {n, 3 * (n - 1), 3, 1, 2, AsBytes(message)}, entries);
    }
    folder_.Add("spool", EncodeSpoolHeader(header) + entries);
    folder_.Add("spool", entries.substr(0, entries.size() - 9));
  }

  void AddMessage(const std::string& name, const std::string& message) {
    const auto at = std::lower_bound(type_names().begin(), type_names().end(), name);
    if (at == type_names().end() || *at != name) return;
    folder_.Add("schema", Two(static_cast<size_t>(at - type_names().begin())) + One(0) + message);
  }

  // The order in which the schema target numbers them.
  const std::vector<std::string>& type_names() {
    if (!names_.empty()) return names_;
    for (const auto* type : maker_.AllTypes()) names_.push_back(type->full_name());
    std::sort(names_.begin(), names_.end());
    return names_;
  }
  t::MessageMaker& maker() { return maker_; }

 private:
  Http2Sink& grpc_tee() { return *this; }

  void Event(const ConnectionRef& c, unsigned kind, int direction, uint32_t stream, bool bit4,
             const std::string& rest, const std::string& hidden = {}) {
    const std::string head = One(kind | static_cast<unsigned>(direction) << 3 | (bit4 ? 16u : 0) | 1u << 5) +
                             One(stream >> 1 & 31);
    Seen& seen = seen_[c.serial];
    if (seen.grpc.size() + rest.size() < kMaxSeed) seen.grpc += head + rest;
    const std::string& other = hidden.empty() ? rest : hidden;
    if (seen.grpc_hidden.size() + other.size() < kMaxSeed) seen.grpc_hidden += head + other;
  }

  void AddOutput(const CallRecord& call) {
    if (call.request_message.size() + call.response_message.size() > 1000) return;
    size_t number = 0;
    for (size_t i = 0; i < TheSchema().method_count(); ++i) {
      if (TheSchema().method(i).path == call.method) number = i;
    }
    const auto text = [](std::string_view s) {
      return One(static_cast<unsigned>(s.size())) + std::string(s);
    };
    folder_.Add("output", One(static_cast<unsigned>(calls_ / 40) % 8) + One(call.incomplete & 3) + One(0) +
                              text(call.method) + One(1) + text(call.grpc_message) + Two(number) +
                              Two(call.request_message.size()) + ToString(call.request_message) +
                              Two(call.response_message.size()) + ToString(call.response_message));
  }

  void WriteHttp2(Seen& seen) {
    // Bytes as they came: the first ones, and some from the middle for a late join.
    std::string start = One(0);
    std::string late = One(7);
    size_t passed[2] = {};
    for (auto& [direction, bytes] : seen.pieces) {
      const int d = direction ^ seen.client;
      std::string_view text = bytes;
      if (d == 0 && passed[0] == 0 && text.starts_with(kPreface)) text.remove_prefix(kPreface.size());
      if (start.size() + text.size() < kMaxSeed)
        start += One(static_cast<unsigned>(d)) + Two(text.size()) + std::string(text);
      passed[d] += bytes.size();
      if (passed[0] + passed[1] > 2000 && late.size() + text.size() < kMaxSeed) {
        late += One(static_cast<unsigned>(d)) + Two(text.size()) + std::string(text);
      }
    }
    if (seen.from_start) folder_.Add("http2_start", start);
    folder_.Add("http2_late", late);
    // Frame by frame, so that a mutation leaves the lengths right.
    std::string frames = One(1);
    for (int d = 0; d < 2 && seen.from_start; ++d) {
      std::string_view rest = seen.http2[d ^ seen.client];
      if (rest.starts_with(kPreface)) rest.remove_prefix(kPreface.size());
      for (int n = 0; n < 20 && rest.size() >= 9; ++n) {
        const auto* p = reinterpret_cast<const uint8_t*>(rest.data());
        const size_t length = LoadBe24(p);
        if (length > 600 || rest.size() < 9 + length) break;
        frames += One(4u | static_cast<unsigned>(d)) + One(p[3]) + One(p[4]) + One(p[8]) + Two(length) +
                  std::string(rest.substr(9, length));
        rest.remove_prefix(9 + length);
      }
    }
    if (seen.from_start) folder_.Add("http2_start", frames);
    folder_.Add("http2_late", frames);
  }

  Folder& folder_;
  Counters counters_;
  std::map<uint64_t, Seen> seen_;
  std::map<std::string, int> messages_;
  int texts_ = 0;
  int batches_ = 0;
  int calls_ = 0;
  BatchEncoder encoder_;
  t::MessageMaker maker_{7};
  std::vector<std::string> names_;
  GrpcDecoder grpc_;
  Http2Decoder http2_;
};

// Packets of each connection from its first one on, for the targets that read packets.
class PacketSeeds final : public SegmentSink {
 public:
  explicit PacketSeeds(Folder& folder) : folder_(folder) {}

  void Add(const RawPacket& packet) {
    key_ = {};
    decoder_.Feed(packet, *this);
    std::string& pipeline = pipelines_[key_];
    const std::string bytes = ToString(packet.bytes);
    if (pipeline.empty()) pipeline = One(0) + One(0);
    if (pipeline.size() + bytes.size() < 2 * kMaxSeed)
      pipeline += One(1) + One(0) + Two(bytes.size()) + bytes;
    if (shapes_.insert(bytes.size() / 50).second && bytes.size() < 600) {
      packets_ += One(0) + Two(bytes.size()) + bytes;
    }
  }
  void OnSegment(const Segment& segment) override {
    key_ = std::min(segment.source, segment.destination).port * uint64_t{65536} +
           std::max(segment.source, segment.destination).port;
  }
  void Write() {
    folder_.Add("packet", One(0) + packets_);
    int n = 0;
    for (const auto& [key, input] : pipelines_) {
      if (++n <= 25) folder_.Add("pipeline", input);
    }
    pipelines_.clear();
    packets_.clear();
    shapes_.clear();
  }

 private:
  Folder& folder_;
  Counters counters_;
  PacketDecoder decoder_{counters_};
  uint64_t key_ = 0;
  std::map<uint64_t, std::string> pipelines_;
  std::string packets_;
  std::set<size_t> shapes_;
};

void AddPackets(Folder& folder) {
  const std::string tcp = t::Tcp({}, "payload");
  const std::string ipv4 = t::Ipv4({}, tcp);
  const std::string ipv6 = t::Ipv6({}, tcp);
  const std::string ethernet = t::Ethernet(0x0800, ipv4);
  const auto add = [&](unsigned link, const std::vector<std::string>& packets) {
    std::string input = One(link);
    for (const std::string& p : packets) input += One(0) + Two(p.size()) + p;
    folder.Add("packet", input);
  };
  const auto udp = [](uint16_t port, const std::string& inner) {
    return t::Ethernet(0x0800, t::Ipv4({.protocol = 17}, t::Udp(port, inner)));
  };
  add(0, {ethernet, t::Ethernet(0x86DD, ipv6)});
  add(0, {t::Ethernet(0x8100, t::VlanTag(5, 0x0800, ipv4)),
          t::Ethernet(0x88A8, t::VlanTag(5, 0x8100, t::VlanTag(6, 0x86DD, ipv6)))});
  add(0, {udp(4789, t::Vxlan(9, ethernet)), udp(8472, t::Vxlan(9, ethernet))});
  add(0, {udp(6081, t::Geneve(0x6558, t::Zeros(8), ethernet)), udp(6081, t::Geneve(0x0800, {}, ipv4))});
  add(0, {t::Ethernet(0x0800, t::Ipv4({.protocol = 47}, t::Gre(0xB000, 0x0800, ipv4))),
          t::Ethernet(0x0800, t::Ipv4({.protocol = 4}, ipv4)),
          t::Ethernet(0x0800, t::Ipv4({.protocol = 41}, ipv6))});
  add(0, {t::Ethernet(0x0800, t::Ipv4({.options = t::Zeros(8)}, tcp)),
          t::Ethernet(0x0800, t::Ipv4({.total_length = 0}, tcp))});
  const std::string half = tcp.substr(0, 16);
  add(0, {t::Ethernet(0x0800, t::Ipv4({.fragment = 0x2000}, half)),
          t::Ethernet(0x0800, t::Ipv4({.fragment = 0x0002}, tcp.substr(16)))});
  add(0, {t::Ethernet(0x86DD, t::Ipv6({.next_header = 44}, t::Ipv6Fragment(6, 0, true, half))),
          t::Ethernet(0x86DD, t::Ipv6({.next_header = 44}, t::Ipv6Fragment(6, 2, false, tcp.substr(16))))});
  add(0,
      {t::Ethernet(0x86DD, t::Ipv6({.next_header = 0}, t::Ipv6Extension(43, 1, t::Ipv6Extension(6, 0, tcp)))),
       t::Ethernet(0x86DD, t::Ipv6({.next_header = 51}, t::AuthenticationHeader(6, 3, tcp)))});
  add(1, {ipv4, ipv6});
  add(2, {t::LinuxSll(0x0800, ipv4)});
  add(3, {t::LinuxSll2(0x86DD, ipv6)});
  add(4, {std::string("\2\0\0\0", 4) + ipv4});
  add(5, {std::string("\0\0\0\2", 4) + ipv4});
  add(10, {ipv4});
}

// what, flags, step, length, distance of the sequence number, distance of the acknowledgement
std::string Seg(unsigned what, unsigned flags, unsigned step, unsigned length, int sequence = 0,
                int ack = 0) {
  return One(what) + One(flags) + One(step) + One(length) + Two(static_cast<uint16_t>(sequence)) +
         One(static_cast<uint8_t>(ack));
}

void AddTcp(Folder& folder) {
  const std::string head = One(0) + std::string("\0\0\x10\0\xFF\xFF\xFF\xF0", 8);
  const std::string shake = Seg(0, 2, 1, 0) + Seg(4, 18, 1, 0) + Seg(0, 16, 1, 0);
  const std::string talk = Seg(0, 24, 1, 40) + Seg(4, 24, 1, 100) + Seg(0, 24, 1, 7) + Seg(4, 16, 1, 0);
  const std::string fins = Seg(0, 17, 1, 0) + Seg(4, 17, 1, 0) + Seg(0, 16, 1, 0);
  folder.Add("tcp", head + shake + talk + fins);
  folder.Add("tcp", head + talk + talk + fins);
  // Sent again, overlapping, ahead with a hole that the peer acknowledges or that is filled.
  folder.Add("tcp", head + shake + talk + Seg(8, 24, 1, 40, -47) + Seg(8, 24, 1, 60, -20) + talk + fins);
  folder.Add("tcp",
             head + shake + Seg(8, 24, 1, 40, 30) + Seg(4, 24, 1, 20) + Seg(8, 24, 1, 30, -70) + talk + fins);
  folder.Add("tcp", head + shake + Seg(8, 24, 1, 40, 300) + Seg(4, 24, 1, 20) + Seg(0, 24, 7, 20) + talk +
                        Seg(0, 4, 1, 0));
  // Both directions late, resets, a port that is used again, a clock that runs on alone.
  folder.Add("tcp", head + shake + talk + Seg(0, 4, 1, 0) + shake + talk + Seg(0, 64, 11, 0) + talk);
  folder.Add("tcp", head + shake + talk + Seg(0x18, 24, 1, 40, 3000) + Seg(0, 24, 1, 40) + talk + fins);
  folder.Add("tcp", head + talk + Seg(0x80, 24, 1, 0x90) + talk + Seg(0, 64, 6, 0) + talk);
  // Two connections in turn.
  folder.Add("tcp", One(1) + std::string(16, '\x77') + Seg(0, 2, 1, 0) + Seg(1, 24, 1, 9) + Seg(4, 18, 1, 0) +
                        Seg(5, 24, 1, 9) + Seg(0, 24, 1, 9) + Seg(1, 24, 1, 0xFF) + Seg(5, 17, 1, 0) +
                        Seg(1, 17, 1, 0));
}

// The form of tcp_whole_target.cc.
void AddTcpWhole(Folder& folder) {
  const auto seg = [](unsigned what, unsigned step, unsigned length, int sequence = 0, int ack = 0) {
    return One(what) + One(step) + One(length) + One(static_cast<uint8_t>(sequence)) +
           One(static_cast<uint8_t>(ack));
  };
  const std::string head("\0\0\x10\0\xFF\xFF\xFF\xA0", 8);
  const std::string talk = seg(0, 2, 30) + seg(1, 2, 80) + seg(0, 2, 9) + seg(0x41, 2, 0);
  folder.Add("tcp_whole", head + talk + talk);
  // A hole that is filled, that is given up, bytes sent again in another cut, the other direction first.
  folder.Add("tcp_whole", head + talk + seg(2, 2, 12, 40) + seg(2, 2, 32, -60) + talk);
  folder.Add("tcp_whole",
             head + talk + seg(2, 2, 12, 40) + seg(0x41, 2, 0) + seg(0, 7, 20) + seg(2, 2, 10, -100) + talk);
  folder.Add("tcp_whole", head + talk + seg(2, 2, 100, -70) + seg(2, 2, 100, -120) + talk);
  folder.Add("tcp_whole", head + seg(9, 2, 60, 0, 50) + seg(0, 4, 42) + talk + seg(9, 6, 60, 0, 100) + talk);
}

void AddHttp2(Folder& folder) {
  const auto bytes = [](unsigned d, const std::string& text) { return One(d) + Two(text.size()) + text; };
  const std::string upgrade =
      "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
      "AAMAAABk\r\n\r\n";
  const std::string switches =
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
  const std::string settings("\0\0\0\4\0\0\0\0\0", 9);
  folder.Add("http2_late", One(0x80) + bytes(0, upgrade) + bytes(1, switches + settings) +
                               bytes(0, std::string(kPreface) + settings));
  folder.Add("http2_late", One(0x80) + bytes(0, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") +
                               bytes(1, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  folder.Add("http2_late", One(0x80) + bytes(0, std::string("\x16\3\1\0\5\1\0\0\1\0", 10)));
  folder.Add("http2_late", One(0x83) + bytes(1, settings) + bytes(0, std::string(kPreface) + settings));
}

void AddErrorTexts(Folder& folder) {
  const std::string key = "7480000000000000FF3B5F728000000000FF1DE3F10000000000FA";
  const std::string low = "7480000000000000FF3B5F728000000000FF1000000000000000FA";
  const std::string high = "7480000000000000FF3B5F728000000000FF2000000000000000FA";
  const std::string marked = "\xE2\x80\xB9" + key + "\xE2\x80\xBA";
  const std::string escaped = R"(t\200\000\000\000\000\000\000\377;_r\200)";
  const std::string list = "[116, 128, 0, 0, 0, 255]";
  for (const std::string& text : std::vector<std::string>{
           "Key " + key + " is out of [region 16] [" + low + ", " + high + ")",
           "key " + key + " is not in region key range [" + low + ", " + high + ") for region 16",
           "Key " + marked + " is out of [region 16] [" + marked + ", " + marked + ")",
           "key " + escaped + " is out of [region 16] [" + escaped + ", " + escaped + ")",
           "Key ? is out of [region 16] [?, ?)",
           "key ? is not in region key range [?, ?) for region 16",
           "Request range exceeds bound, request range:[" + low + ", end:" + high + "), physical bound:[" +
               key + ", (none))",
           "Request range exceeds bound, request range:[Some(\"" + escaped + "\"), end:Some(\"" + escaped +
               "\")), physical bound:[Some(\"" + escaped + "\"), None)",
           "Error(Txn(Error(InvalidReqRange { start: Some(" + list + "), end: Some(" + list +
               "), lower_bound: Some(" + list + "), upper_bound: None })))",
           "invalid range,range.start should be smaller than range.end, but got [[116, 128, 0, 2],[116,128, "
           "0, 1])",
           "Api version in request does not match with TiKV storage, cmd: raw_get",
           "EpochNotMatch current epoch of region 42 is conf_ver: 5 version: 18, but you sent conf_ver: 5 "
           "version: 17",
           "Region epoch not match after retries: Region {2103,5,1822} not in region cache.",
           "contain duplicate region 77",
       }) {
    folder.Add("error_text", text);
  }
}

void AddCaptures(Folder& folder) {
  const std::vector<t::FilePacket> packets = {
      {1'700'000'000'123'456'789, t::Ethernet(0x0800, t::Ipv4({}, t::Tcp({}, "one")))},
      {1'700'000'001'000'000'000, t::Ethernet(0x86DD, t::Ipv6({}, t::Tcp({}, "two"))), 2000}};
  for (const std::string& file :
       {t::PcapFile(1, packets), t::PcapFile(1, packets, false, true), t::PcapngFile(1, packets),
        t::PcapngFile(113, packets), t::PcapFile(113, {})}) {
    std::string packed(ZSTD_compressBound(file.size()), '\0');
    packed.resize(ZSTD_compress(packed.data(), packed.size(), file.data(), file.size(), 3));
    for (unsigned how = 0; how < 4; ++how) {
      folder.Add("capture", One(how) + file);
      folder.Add("capture", One(how) + packed);
    }
  }
}

// One or two of each type, as protobuf writes them.
void AddMessages(Recorder& recorder) {
  for (const auto* type : recorder.maker().AllTypes()) {
    for (int i = 0; i < 30; ++i) {
      const std::string message = recorder.maker().Random(type, i % 2 == 0 ? 0.3 : 0.7)->SerializeAsString();
      if (message.size() > 600) continue;
      recorder.AddMessage(type->full_name(), message);
      if (i >= 2) break;
    }
  }
}

// What does not come from captures.
void AddTransport(Folder& folder) {
  protocol::Envelope welcome, ack, refusal, bye;
  welcome.mutable_welcome()->set_protocol_version(1);
  welcome.mutable_welcome()->set_epoch(7);
  welcome.mutable_welcome()->set_credit(8);
  ack.mutable_ack()->set_sequence(1);
  ack.mutable_ack()->set_credit(8);
  refusal.mutable_refusal()->set_code(protocol::Refusal::OUT_OF_ORDER);
  refusal.mutable_refusal()->set_text("expected another");
  refusal.mutable_refusal()->set_expected(2);
  bye.mutable_bye()->set_last_sequence(3);
  std::string all;
  for (const protocol::Envelope& e : {welcome, ack, refusal, bye}) {
    const std::string bytes = e.SerializeAsString();
    all += One(1) + One(1) + One(0) + Two(bytes.size()) + bytes;
    folder.Add("answer", all);
    folder.Add("receiver", One(0) + Two(bytes.size()) + bytes);
  }
  for (const char* sql :
       {"select * from calls limit 3",
        "with recursive x(n) as (select 1 union all select n+1 from x) select n from x",
        "select method, count(*) from calls group by 1 order by 2 desc", "pragma table_info(calls)",
        "select tidb_key(x'7480000000000000355f72'), in_range(x'61', x'', x'62'), tso_time(1)",
        "attach 'x' as y", "select zeroblob(1000000000)", "insert into calls values (1)",
        "select a.id from calls a join calls b using (id) -- twice\n; select 1"}) {
    folder.Add("query", sql);
  }
  const PublicKey key{"tikv1", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"};
  folder.Add("config", One(0) + SecretKeyText({key, "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"}));
  folder.Add("config", One(1) + PublicKeyText(key));
  folder.Add("config", One(3) + PublicKeyText(key));
  for (const char* text : {"10.0.0.1:7450", "[2001:db8::1]:7450", "tcp://127.0.0.1:*", "ipc:///run/keytrail",
                           "tcp://[::]:7450", "127.0.0.1"}) {
    folder.Add("config", One(2) + text);
  }
}

int Main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: fuzz_seeds OUT CAPTURE...\n");
    return 2;
  }
  Folder folder(arguments[1]);
  Recorder recorder(folder);
  PacketSeeds packet_seeds(folder);
  for (int i = 2; i < count; ++i) {
    FileSourceOptions options;
    options.path = arguments[i];
    Result<std::unique_ptr<PacketSource>> source = OpenFile(options);
    if (!source) {
      std::fprintf(stderr, "%s\n", source.error().c_str());
      return 1;
    }
    Counters counters;
    PacketDecoder decoder(counters);
    TcpTracker tcp(recorder, counters);
    RawPacket packet;
    for (;;) {
      const Result<PacketSource::Next> next = (*source)->Read(packet);
      if (!next || *next != PacketSource::Next::kPacket) break;
      packet_seeds.Add(packet);
      decoder.Feed(packet, tcp);
    }
    tcp.Finish();
    packet_seeds.Write();
  }
  AddMessages(recorder);
  AddPackets(folder);
  AddTcp(folder);
  AddTcpWhole(folder);
  AddHttp2(folder);
  AddErrorTexts(folder);
  AddCaptures(folder);
  AddTransport(folder);
  return 0;
}

}  // namespace
}  // namespace keytrail::fuzz

int main(int argc, char** argv) {
  return keytrail::fuzz::Main(argc, argv);
}
