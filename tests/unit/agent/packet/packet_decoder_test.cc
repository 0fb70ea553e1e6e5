// PacketDecoder (but for IP fragments: fragment_test.cc) on packets that are built byte by byte as the RFCs
// say, on every way of cutting them, and against tshark on the shared captures.

#include "agent/packet/packet_decoder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "agent/capture/packet_source.h"
#include "common/limits.h"
#include "tests/support/packet_builder.h"

namespace keytrail {
namespace {

using namespace keytrail::testing;  // NOLINT: the builders read as sentences without it

constexpr int kEthernet = 1;

class Recorder final : public SegmentSink {
 public:
  void OnSegment(const Segment& s) override {
    segments.push_back(s);
    payloads.push_back(ToString(s.payload));
  }
  std::vector<Segment> segments;  // payload is not valid any more
  std::vector<std::string> payloads;
};

struct Outcome {
  Recorder sink;
  Counters counters;
};

// `wire_length` 0: as long as captured.
Outcome Decode(int link_type, const std::string& bytes, uint32_t wire_length = 0) {
  Outcome outcome;
  RawPacket packet;
  packet.time = TimeNs{123};
  packet.bytes = AsBytes(bytes);
  packet.wire_length = wire_length != 0 ? wire_length : static_cast<uint32_t>(bytes.size());
  packet.link_type = link_type;
  PacketDecoder(outcome.counters).Feed(packet, outcome.sink);
  return outcome;
}

const TcpFields kTcp{
    .source_port = 40312, .destination_port = 20160, .sequence = 0xFFFFFFF0, .acknowledgement = 7};

// Exactly one segment: kTcp with this payload, between these addresses.
void ExpectSegment(const Outcome& outcome, const std::string& payload,
                   const std::string& source = "10.0.0.1:40312",
                   const std::string& destination = "10.0.0.2:20160") {
  ASSERT_EQ(outcome.sink.segments.size(), 1u);
  const Segment& s = outcome.sink.segments[0];
  EXPECT_EQ(s.time.ns, 123);
  EXPECT_EQ(FormatEndpoint(s.source), source);
  EXPECT_EQ(FormatEndpoint(s.destination), destination);
  EXPECT_EQ(s.sequence, kTcp.sequence);
  EXPECT_EQ(s.acknowledgement, kTcp.acknowledgement);
  EXPECT_EQ(s.flags, kTcp.flags);
  EXPECT_EQ(outcome.sink.payloads[0], payload);
  EXPECT_EQ(s.payload_length, payload.size());
  EXPECT_EQ(outcome.counters.Get(Counter::kPacketsMalformed), 0u);
  EXPECT_EQ(outcome.counters.Get(Counter::kPacketsCut), 0u);
  EXPECT_EQ(outcome.counters.Get(Counter::kPacketsNotTcp), 0u);
}

void ExpectOnly(const Outcome& outcome, Counter counter) {
  EXPECT_TRUE(outcome.sink.segments.empty());
  for (Counter c : {Counter::kPacketsNotTcp, Counter::kPacketsMalformed, Counter::kPacketsUnknownLink,
                    Counter::kPacketsCut, Counter::kIpFragments, Counter::kCapEncapsulations}) {
    EXPECT_EQ(outcome.counters.Get(c), c == counter ? 1u : 0u) << CounterName(c);
  }
}

std::string Packet4(const std::string& payload = "hello") {
  return Ipv4({}, Tcp(kTcp, payload));
}
std::string Packet6(const std::string& payload = "hello") {
  return Ipv6({}, Tcp(kTcp, payload));
}

TEST(PacketDecoder, LinkTypes) {
  ExpectSegment(Decode(kEthernet, Ethernet(0x0800, Packet4())), "hello");
  ExpectSegment(Decode(113, LinuxSll(0x0800, Packet4())), "hello");
  ExpectSegment(Decode(276, LinuxSll2(0x0800, Packet4())), "hello");
  for (int raw : {12, 14, 101, 228}) ExpectSegment(Decode(raw, Packet4()), "hello");
  // NULL: the family in either byte order; LOOP: big-endian.
  ExpectSegment(Decode(0, Number(2, 4, false) + Packet4()), "hello");
  ExpectSegment(Decode(0, Number(2, 4, true) + Packet4()), "hello");
  ExpectSegment(Decode(108, Number(2, 4, true) + Packet4()), "hello");
  const std::string from = "[fd00::1]:40312", to = "[fd00::2]:20160";
  ExpectSegment(Decode(kEthernet, Ethernet(0x86DD, Packet6())), "hello", from, to);
  ExpectSegment(Decode(113, LinuxSll(0x86DD, Packet6())), "hello", from, to);
  ExpectSegment(Decode(276, LinuxSll2(0x86DD, Packet6())), "hello", from, to);
  for (int raw : {12, 14, 101, 229}) ExpectSegment(Decode(raw, Packet6()), "hello", from, to);
  for (uint64_t family : {10u, 24u, 28u, 30u}) {
    ExpectSegment(Decode(0, Number(family, 4, false) + Packet6()), "hello", from, to);
  }
  ExpectOnly(Decode(9999, Packet4()), Counter::kPacketsUnknownLink);
}

TEST(PacketDecoder, VlanTags) {
  const std::string one = VlanTag(5, 0x0800, Packet4());
  ExpectSegment(Decode(kEthernet, Ethernet(0x8100, one)), "hello");
  ExpectSegment(Decode(kEthernet, Ethernet(0x88A8, VlanTag(9, 0x8100, one))), "hello");
  ExpectSegment(Decode(kEthernet, Ethernet(0x9100, VlanTag(9, 0x8100, one))), "hello");
  ExpectSegment(Decode(113, LinuxSll(0x8100, one)), "hello");
  std::string deep = Packet4();
  uint16_t type = 0x0800;
  for (int i = 0; i < limits::kMaxEncapsulations; ++i, type = 0x8100) deep = VlanTag(1, type, deep);
  ExpectSegment(Decode(kEthernet, Ethernet(0x8100, deep)), "hello");
  ExpectOnly(Decode(kEthernet, Ethernet(0x8100, VlanTag(1, 0x8100, deep))), Counter::kCapEncapsulations);
}

TEST(PacketDecoder, Ipv4Details) {
  ExpectSegment(Decode(kEthernet, Ethernet(0x0800, Ipv4({.options = Zeros(40)}, Tcp(kTcp, "hello")))),
                "hello");
  TcpFields options = kTcp;
  options.options = Zeros(40);
  ExpectSegment(Decode(kEthernet, Ethernet(0x0800, Ipv4({}, Tcp(options, "hello")))), "hello");
  // Ethernet pads to 60 bytes; the IP length says what belongs to the packet.
  ExpectSegment(Decode(kEthernet, Ethernet(0x0800, Packet4("")) + Zeros(6)), "");
  ExpectSegment(Decode(kEthernet, Ethernet(0x0800, Packet4("hi")) + Zeros(4)), "hi");
  // Offload: a total length of 0, and more than 64 KiB behind it.
  const std::string big(100000, 'x');
  ExpectSegment(Decode(kEthernet, Ethernet(0x0800, Ipv4({.total_length = 0}, Tcp(kTcp, big)))), big);
  // The largest that says its length.
  const std::string full(65535 - 40, 'y');
  ExpectSegment(Decode(kEthernet, Ethernet(0x0800, Packet4(full))), full);
}

TEST(PacketDecoder, Ipv6Details) {
  const std::string from = "[fd00::1]:40312", to = "[fd00::2]:20160";
  const std::string tcp = Tcp(kTcp, "hello");
  const auto decode = [](uint8_t next, const std::string& rest) {
    return Decode(kEthernet, Ethernet(0x86DD, Ipv6({.next_header = next}, rest)));
  };
  for (uint8_t header : {0, 43, 60, 135}) {
    for (uint8_t units : {0, 1, 5})
      ExpectSegment(decode(header, Ipv6Extension(6, units, tcp)), "hello", from, to);
  }
  for (uint8_t words : {0, 3, 8})
    ExpectSegment(decode(51, AuthenticationHeader(6, words, tcp)), "hello", from, to);
  // A whole packet behind a fragment header (RFC 6946).
  ExpectSegment(decode(44, Ipv6Fragment(6, 0, false, tcp)), "hello", from, to);
  ExpectSegment(decode(0, Ipv6Extension(43, 2, Ipv6Extension(51, 0, AuthenticationHeader(6, 4, tcp)))),
                "hello", from, to);
  ExpectSegment(Decode(kEthernet, Ethernet(0x86DD, Packet6("hi")) + Zeros(9)), "hi", from, to);
  const std::string big(100000, 'x');
  ExpectSegment(Decode(kEthernet, Ethernet(0x86DD, Ipv6({.payload_length = 0}, Tcp(kTcp, big)))), big, from,
                to);
  // Linux's BIG TCP says the length in a jumbo payload option (RFC 2675).
  const std::string jumbo = std::string("\x06\x00\xC2\x04", 4) + Be32(static_cast<uint32_t>(big.size() + 28));
  ExpectSegment(Decode(kEthernet, Ethernet(0x86DD, Ipv6({.next_header = 0, .payload_length = 0},
                                                        jumbo + Tcp(kTcp, big)))),
                big, from, to);
  std::string deep = tcp;
  for (int i = 0; i <= limits::kMaxEncapsulations; ++i) deep = Ipv6Extension(i == 0 ? 6 : 60, 0, deep);
  ExpectOnly(decode(60, deep), Counter::kCapEncapsulations);
}

TEST(PacketDecoder, Tunnels) {
  const std::string frame = Ethernet(0x0800, Packet4());
  const auto outer4 = [](uint8_t protocol, const std::string& rest) {
    return Decode(
        kEthernet,
        Ethernet(0x0800,
                 Ipv4({.source = {1, 1, 1, 1}, .destination = {2, 2, 2, 2}, .protocol = protocol}, rest)));
  };
  const auto outer6 = [](uint8_t next, const std::string& rest) {
    return Decode(kEthernet, Ethernet(0x86DD, Ipv6({.next_header = next}, rest)));
  };
  // The inner addresses are told, also an IPv4 packet in an IPv6 one (no bytes of the outer address remain).
  ExpectSegment(outer4(17, Udp(4789, Vxlan(77, frame))), "hello");
  ExpectSegment(outer6(17, Udp(4789, Vxlan(77, frame))), "hello");
  ExpectSegment(outer4(17, Udp(8472, Vxlan(77, frame))), "hello");
  const Outcome inner4 = outer6(17, Udp(4789, Vxlan(77, frame)));
  ASSERT_EQ(inner4.sink.segments.size(), 1u);
  for (size_t i = 4; i < 16; ++i) EXPECT_EQ(inner4.sink.segments[0].source.address.bytes[i], 0);
  ExpectSegment(outer4(17, Udp(6081, Geneve(0x6558, "", frame))), "hello");
  ExpectSegment(outer4(17, Udp(6081, Geneve(0x6558, Zeros(252), frame))), "hello");
  ExpectSegment(outer4(17, Udp(6081, Geneve(0x0800, Zeros(8), Packet4()))), "hello");
  for (uint16_t flags : {0x0000, 0x8000, 0x2000, 0x1000, 0xB000}) {
    ExpectSegment(outer4(47, Gre(flags, 0x0800, Packet4())), "hello");
    ExpectSegment(outer4(47, Gre(flags, 0x6558, frame)), "hello");
  }
  ExpectSegment(outer4(4, Packet4()), "hello");
  ExpectSegment(outer4(41, Packet6()), "hello", "[fd00::1]:40312", "[fd00::2]:20160");
  ExpectSegment(outer4(17, Udp(4789, Vxlan(1, Ethernet(0x8100, VlanTag(3, 0x0800, Packet4()))))), "hello");
  ExpectOnly(outer4(47, Gre(0x0001, 0x880B, Packet4())), Counter::kPacketsNotTcp);  // PPTP
  ExpectOnly(outer4(47, Gre(0x4000, 0x0800, Packet4())), Counter::kPacketsNotTcp);  // source routes
  // A group policy beside the VXLAN number.
  ExpectSegment(outer4(17, Udp(4789, Be32(0x88000017) + Be32(77 << 8) + frame)), "hello");
  // Something else on the port.
  ExpectOnly(outer4(17, Udp(4789, "short")), Counter::kPacketsNotTcp);
  ExpectOnly(outer4(17, Udp(4789, "GET / HTTP/1.1" + frame)), Counter::kPacketsNotTcp);
  ExpectOnly(outer4(17, Udp(53, frame)), Counter::kPacketsNotTcp);
  std::string deep = frame;
  for (int i = 0; i <= limits::kMaxEncapsulations; ++i) {
    deep = Ethernet(0x0800, Ipv4({.protocol = 17}, Udp(4789, Vxlan(1, deep))));
  }
  ExpectOnly(Decode(kEthernet, deep), Counter::kCapEncapsulations);
}

TEST(PacketDecoder, OtherProtocolsAndDamage) {
  ExpectOnly(Decode(kEthernet, Ethernet(0x0806, Zeros(28))), Counter::kPacketsNotTcp);  // ARP
  ExpectOnly(Decode(kEthernet, Ethernet(0x0800, Ipv4({.protocol = 1}, Zeros(8)))), Counter::kPacketsNotTcp);
  ExpectOnly(Decode(kEthernet, Ethernet(40, Zeros(40))), Counter::kPacketsNotTcp);  // an 802.3 length
  ExpectOnly(Decode(kEthernet, "short"), Counter::kPacketsMalformed);
  ExpectOnly(Decode(kEthernet, ""), Counter::kPacketsMalformed);
  ExpectOnly(Decode(12, std::string("\x50") + Zeros(39)), Counter::kPacketsMalformed);  // IP version 5
  std::string bad = Packet4();
  bad[0] = 0x44;  // a header of 16 bytes
  ExpectOnly(Decode(12, bad), Counter::kPacketsMalformed);
  ExpectOnly(Decode(12, Ipv4({.total_length = 19}, Tcp(kTcp, "hello"))), Counter::kPacketsMalformed);
  std::string offset = Tcp(kTcp, "hello");
  offset[12] = 0x40;  // a data offset of 16 bytes
  ExpectOnly(Decode(12, Ipv4({}, offset)), Counter::kPacketsMalformed);
  offset[12] = static_cast<char>(0xF0);  // a header longer than the packet
  ExpectOnly(Decode(12, Ipv4({}, offset)), Counter::kPacketsMalformed);
}

// Every snapshot length of a whole packet: never more than what was captured, never a wrong length, and the
// headers decide alone whether there is a segment.
TEST(PacketDecoder, EverySnapshotLength) {
  const std::string payload = "0123456789";
  const std::string packet = Packet4(payload);
  const std::string frame = Ethernet(0x0800, packet);
  const auto on = [](uint8_t protocol, const std::string& rest) {
    return Ethernet(0x0800, Ipv4({.protocol = protocol}, rest));
  };
  const std::vector<std::pair<int, std::string>> packets = {
      {kEthernet, Ethernet(0x0800, Ipv4({.options = Zeros(8)}, Tcp(kTcp, payload)))},
      {kEthernet, Ethernet(0x86DD, Ipv6({.next_header = 0}, Ipv6Extension(6, 1, Tcp(kTcp, payload))))},
      {kEthernet,
       Ethernet(0x86DD, Ipv6({.next_header = 51},
                             AuthenticationHeader(44, 3, Ipv6Fragment(6, 0, false, Tcp(kTcp, payload)))))},
      {kEthernet, Ethernet(0x88A8, VlanTag(9, 0x8100, VlanTag(5, 0x0800, packet)))},
      {113, LinuxSll(0x0800, packet)},
      {276, LinuxSll2(0x86DD, Packet6(payload))},
      {0, Number(2, 4, false) + packet},
      {108, Number(24, 4, true) + Packet6(payload)},
      {101, packet},
      {229, Packet6(payload)},
      {kEthernet, on(17, Udp(4789, Vxlan(1, frame)))},
      {kEthernet, on(17, Udp(6081, Geneve(0x6558, Zeros(12), frame)))},
      {kEthernet, on(17, Udp(6081, Geneve(0x0800, "", packet)))},
      {kEthernet, on(47, Gre(0xB000, 0x6558, frame))},
      {kEthernet, on(47, Gre(0, 0x86DD, Packet6(payload)))},
      {kEthernet, on(4, packet)}};
  for (const auto& [link_type, whole] : packets) {
    const size_t headers = whole.size() - payload.size();
    for (size_t n = 0; n < whole.size(); ++n) {
      const Outcome outcome = Decode(link_type, whole.substr(0, n), static_cast<uint32_t>(whole.size()));
      EXPECT_EQ(outcome.counters.Get(Counter::kPacketsCut), 1u) << link_type << " " << n;
      EXPECT_EQ(outcome.counters.Get(Counter::kPacketsMalformed), 0u) << n;
      ASSERT_EQ(outcome.sink.segments.size(), n >= headers ? 1u : 0u) << n;
      if (n < headers) continue;
      EXPECT_EQ(outcome.sink.segments[0].payload_length, payload.size());
      EXPECT_EQ(outcome.sink.payloads[0], payload.substr(0, n - headers));
    }
  }
}

// Flipped bytes of real packets never read outside (the sanitizers watch) and never yield more payload than
// was captured.
TEST(PacketDecoder, DamagedPacketsStayInside) {
  std::mt19937 random(1);
  const std::vector<std::pair<int, std::string>> seeds = {
      {kEthernet, Ethernet(0x8100, VlanTag(1, 0x0800, Packet4()))},
      {kEthernet, Ethernet(0x86DD, Ipv6({.next_header = 0},
                                        Ipv6Extension(51, 1, AuthenticationHeader(6, 2, Tcp(kTcp, "x")))))},
      {kEthernet, Ethernet(0x0800, Ipv4({.protocol = 17},
                                        Udp(6081, Geneve(0x6558, Zeros(8), Ethernet(0x0800, Packet4())))))},
      {276, LinuxSll2(0x0800, Ipv4({.protocol = 47}, Gre(0x3000, 0x86DD, Packet6())))},
      {0, Number(2, 4, false) + Packet4()}};
  for (int round = 0; round < 200000; ++round) {
    const auto& [link_type, seed] = seeds[random() % seeds.size()];
    std::string bytes = seed;
    for (uint32_t n = 1 + random() % 4; n != 0; --n)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 3 == 0) bytes.resize(random() % (bytes.size() + 1));
    // An allocation of the exact size, so that a read beyond it is seen.
    const std::vector<char> exact(bytes.begin(), bytes.end());
    RawPacket packet;
    packet.bytes = {reinterpret_cast<const uint8_t*>(exact.data()), exact.size()};
    packet.wire_length = static_cast<uint32_t>(random() % 4 == 0 ? random() : exact.size());
    packet.link_type = link_type;
    class Inside final : public SegmentSink {
     public:
      void OnSegment(const Segment& s) override {
        ASSERT_LE(s.payload.size(), s.payload_length);
        if (s.payload.empty()) return;
        ASSERT_GE(s.payload.data(), whole.data());
        ASSERT_LE(s.payload.data() + s.payload.size(), whole.data() + whole.size());
      }
      Bytes whole;
    } sink;
    sink.whole = packet.bytes;
    Counters counters;
    PacketDecoder(counters).Feed(packet, sink);
  }
}

// Per (source, destination): packets and payload bytes.
using Conversations = std::map<std::pair<std::string, std::string>, std::pair<uint64_t, uint64_t>>;

TEST(PacketDecoder, AgreesWithTshark) {
  const char* given = std::getenv("KEYTRAIL_SHARED_DATA");
  const std::string shared = given != nullptr ? given : KEYTRAIL_SHARED_DATA_DEFAULT;
  if (std::system("command -v tshark >/dev/null 2>&1") != 0) GTEST_SKIP() << "tshark is not installed";
  for (const char* name : {"cluster/modern_boot/pd1", "cluster/healthy/tidb1", "generated/go_unary_20m"}) {
    const std::string packed = shared + "/" + name + ".pcap.zst";
    if (!std::filesystem::exists(packed)) GTEST_SKIP() << "the shared captures are absent: " << packed;
    Conversations ours;
    class Adder final : public SegmentSink {
     public:
      void OnSegment(const Segment& s) override {
        auto& [packets, bytes] = (*all)[{FormatEndpoint(s.source), FormatEndpoint(s.destination)}];
        ++packets;
        bytes += s.payload_length;
      }
      Conversations* all;
    } sink;
    sink.all = &ours;
    Counters counters;
    PacketDecoder decoder(counters);
    Result<std::unique_ptr<PacketSource>> source = OpenFile({packed, ""});
    ASSERT_TRUE(source.ok()) << source.error();
    for (;;) {
      RawPacket packet;
      const Result<PacketSource::Next> next = (*source)->Read(packet);
      ASSERT_TRUE(next.ok()) << next.error();
      if (*next == PacketSource::Next::kEnd) break;
      decoder.Feed(packet, sink);
    }
    Conversations theirs;
    const std::string command =
        "zstd -dc '" + packed +
        "' | tshark -r - -Y tcp -o tcp.desegment_tcp_streams:false -T fields -e ip.src -e "
        "tcp.srcport -e ip.dst -e tcp.dstport -e tcp.len 2>/dev/null";
    std::FILE* out = popen(command.c_str(), "r");
    ASSERT_NE(out, nullptr);
    char from[64], to[64];
    unsigned from_port, to_port, length;
    while (std::fscanf(out, "%63s %u %63s %u %u", from, &from_port, to, &to_port, &length) == 5) {
      auto& [packets, bytes] = theirs[{std::string(from) + ":" + std::to_string(from_port),
                                       std::string(to) + ":" + std::to_string(to_port)}];
      ++packets;
      bytes += length;
    }
    pclose(out);
    ASSERT_FALSE(theirs.empty()) << name;
    EXPECT_EQ(ours, theirs) << name;
  }
}

}  // namespace
}  // namespace keytrail
