// The kernel's filter, run by libpcap's own interpreter on packets of every form that the packet room reads.

#include <gtest/gtest.h>
#include <pcap/pcap.h>

#include <string>
#include <vector>

#include "agent/capture/kernel_filter.h"
#include "common/limits.h"
#include "tests/support/packet_builder.h"

namespace keytrail {
namespace {

using namespace keytrail::testing;  // NOLINT

const std::vector<PortRange> kPorts = {{2379, 2380}, {20160, 20170}};

std::vector<sock_filter> Base(const std::string& text) {
  pcap_t* const dead = pcap_open_dead(DLT_EN10MB, limits::kSnapLen);
  bpf_program code{};
  EXPECT_EQ(pcap_compile(dead, &code, text.c_str(), 1, PCAP_NETMASK_UNKNOWN), 0) << pcap_geterr(dead);
  std::vector<sock_filter> base(code.bf_len);
  for (size_t i = 0; i < base.size(); ++i) {
    const bpf_insn& in = code.bf_insns[i];
    base[i] = {in.code, in.jt, in.jf, in.k};
  }
  pcap_freecode(&code);
  pcap_close(dead);
  return base;
}

class KernelFilter : public ::testing::Test {
 protected:
  bool Passes(const std::string& packet) const {
    const std::vector<sock_filter> program = RefinedProgram(FilterLink::kEthernet, refinement_, base_);
    EXPECT_LE(program.size(), size_t{BPF_MAXINSNS});
    std::vector<bpf_insn> code;
    for (const sock_filter& in : program) code.push_back({in.code, in.jt, in.jf, in.k});
    EXPECT_TRUE(bpf_validate(code.data(), static_cast<int>(code.size())));
    const auto size = static_cast<u_int>(packet.size());
    return bpf_filter(code.data(), reinterpret_cast<const u_char*>(packet.data()), size, size) != 0;
  }
  static std::string V4(uint16_t from, uint16_t to, const std::string& payload = "", uint8_t flags = 0x10) {
    return Ethernet(0x0800,
                    Ipv4({}, Tcp({.source_port = from, .destination_port = to, .flags = flags}, payload)));
  }
  static std::string V6(uint16_t from, uint16_t to, const std::string& payload = "", uint8_t flags = 0x10) {
    return Ethernet(0x86DD,
                    Ipv6({}, Tcp({.source_port = from, .destination_port = to, .flags = flags}, payload)));
  }
  // As FlowKey orders them.
  static FlowKey Flow4(uint16_t a, uint16_t b) { return {{{{10, 0, 0, 1}, 4}, a}, {{{10, 0, 0, 2}, 4}, b}}; }
  static FlowKey Flow6(uint16_t a, uint16_t b) {
    return {{{Ipv6Address(1), 6}, a}, {{Ipv6Address(2), 6}, b}};
  }

  std::vector<sock_filter> base_;
  FilterRefinement refinement_;
};

TEST_F(KernelFilter, PortsInEveryClothing) {
  base_ = Base(PortFilterText(kPorts, true));
  for (const bool refined : {false, true}) {
    refinement_.find_http2 = refined;
    if (refined) refinement_.excluded = {Flow4(40000, 20160)};
    EXPECT_TRUE(Passes(V4(40001, 20160)));
    EXPECT_TRUE(Passes(V4(2379, 40001, "x")));
    EXPECT_TRUE(Passes(V6(40001, 20165)));
    EXPECT_FALSE(Passes(V4(40001, 4000, "\x05\x00\x00\x00\x03select")));
    EXPECT_FALSE(Passes(V4(40001, 4000)));
    EXPECT_FALSE(Passes(V6(40001, 22, "SSH-2.0")));
    EXPECT_FALSE(Passes(V4(40001, 20171)));
    EXPECT_FALSE(Passes(Ethernet(0x0806, Zeros(28))));
    EXPECT_FALSE(Passes(Ethernet(0x0800, Ipv4({.protocol = 17}, Udp(53, "x")))));
    const std::string ip = Ipv4({}, Tcp({.source_port = 40001, .destination_port = 20160}, "x"));
    const std::string other = Ipv4({}, Tcp({.source_port = 40001, .destination_port = 4000}, "x"));
    EXPECT_TRUE(Passes(Ethernet(0x8100, VlanTag(7, 0x0800, ip))));
    EXPECT_FALSE(Passes(Ethernet(0x8100, VlanTag(7, 0x0800, other))));
    EXPECT_TRUE(Passes(Ethernet(0x88A8, VlanTag(7, 0x8100, VlanTag(8, 0x0800, ip)))));
    EXPECT_TRUE(Passes(Ethernet(0x0800, Ipv4({.protocol = 17}, Udp(4789, Vxlan(1, Ethernet(0x0800, ip)))))));
    EXPECT_TRUE(Passes(Ethernet(0x0800, Ipv4({.protocol = 17}, Udp(6081, Geneve(0x0800, "", ip))))));
    EXPECT_TRUE(Passes(Ethernet(0x0800, Ipv4({.protocol = 47}, Gre(0, 0x0800, ip)))));
    EXPECT_TRUE(Passes(Ethernet(0x0800, Ipv4({.protocol = 4}, ip))));
    // The first fragment has the ports, the others have none.
    const std::string tcp = Tcp({.source_port = 40001, .destination_port = 20160}, std::string(64, 'x'));
    EXPECT_TRUE(Passes(Ethernet(0x0800, Ipv4({.fragment = 0x2000}, tcp.substr(0, 40)))));
    EXPECT_TRUE(Passes(Ethernet(0x0800, Ipv4({.fragment = 0x0005}, tcp.substr(40)))));
    EXPECT_TRUE(Passes(Ethernet(0x86DD, Ipv6({.next_header = 44}, Ipv6Fragment(6, 5, false, "x")))));
    EXPECT_TRUE(Passes(Ethernet(0x86DD, Ipv6({.next_header = 0}, Ipv6Extension(6, 0, tcp)))));
  }
}

TEST_F(KernelFilter, WhatLooksLikeHttp2ComesFromEveryPort) {
  base_ = Base(PortFilterText(kPorts, true));
  refinement_.find_http2 = true;
  const std::string ping(
      "\x00\x00\x08\x06\x00\x00\x00\x00\x00"
      "12345678",
      17);
  const std::string window("\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x01\x00\x00", 13);
  for (const std::string& payload : {std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ping, window}) {
    EXPECT_TRUE(Passes(V4(40001, 4000, payload)));
    EXPECT_TRUE(Passes(V6(40001, 4000, payload)));
  }
  for (const std::string& payload :
       {std::string(), std::string("PRI"), std::string("GET / HTTP/1.1"), ping.substr(1)}) {
    EXPECT_FALSE(Passes(V4(40001, 4000, payload)));
    // Too short to look at, but of a port that was asked for.
    EXPECT_TRUE(Passes(V4(40001, 20160, payload)));
    EXPECT_TRUE(Passes(V6(40001, 20160, payload)));
  }
  // Options move the payload.
  EXPECT_TRUE(Passes(Ethernet(
      0x0800, Ipv4({.options = std::string(8, '\1')},
                   Tcp({.source_port = 1, .destination_port = 2, .options = std::string(12, '\1')}, ping)))));
  refinement_.wanted_ports = {4000};
  EXPECT_FALSE(Passes(V4(4000, 40001))) << "a user's filter has the last word";
  refinement_.pass_wanted = true;
  EXPECT_TRUE(Passes(V4(4000, 40001)));
  EXPECT_TRUE(Passes(V6(40001, 4000, "x")));
}

TEST_F(KernelFilter, ExcludedConnectionsOnlyBeginAndEnd) {
  refinement_.excluded = {Flow4(40000, 20160), Flow6(40000, 20160), Flow4(40005, 20160)};
  for (const bool reverse : {false, true}) {
    for (const auto make : {&V4, &V6}) {
      const auto packet = [&](uint16_t a, uint16_t b, uint8_t flags) {
        std::string p = make(a, b, "data", flags);
        if (!reverse) return p;
        // The same connection, the other way: addresses and ports swapped.
        const size_t at = make == &V4 ? 26 : 22;
        const size_t n = make == &V4 ? 4 : 16;
        const std::string from = p.substr(at, n);
        p.replace(at, n, p.substr(at + n, n)).replace(at + n, n, from);
        const size_t tcp = at + 2 * n;
        const std::string port = p.substr(tcp, 2);
        p.replace(tcp, 2, p.substr(tcp + 2, 2)).replace(tcp + 2, 2, port);
        return p;
      };
      EXPECT_FALSE(Passes(packet(40000, 20160, 0x10)));
      for (const uint8_t flags : {0x02, 0x12, 0x11, 0x14, 0x04}) {
        EXPECT_TRUE(Passes(packet(40000, 20160, flags))) << int{flags};
      }
      EXPECT_TRUE(Passes(packet(40001, 20160, 0x10)));
      // The same ports the wrong way round: other ends.
      EXPECT_TRUE(Passes(packet(20160, 40000, 0x10)));
    }
  }
  EXPECT_FALSE(Passes(V4(40005, 20160)));
  EXPECT_TRUE(Passes(V6(40005, 20160)));
  refinement_.wanted_ports = {20160};
  EXPECT_TRUE(Passes(V4(40000, 20160)));
}

TEST_F(KernelFilter, ExcludedPortsStillShowHttp2) {
  base_ = Base("tcp");
  refinement_.excluded_ports = {3306, 4000};
  refinement_.wanted_ports = {20160};
  EXPECT_FALSE(Passes(V4(40001, 4000, "data")));
  EXPECT_FALSE(Passes(V6(4000, 40001, "data")));
  EXPECT_FALSE(Passes(V4(3306, 40001, "", 0x12)));
  EXPECT_TRUE(Passes(V4(40001, 4000, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")));
  EXPECT_TRUE(Passes(V4(40001, 4001, "data")));
  EXPECT_TRUE(Passes(V4(4000, 20160, "data"))) << "a client of TiKV that happens to have this port";
  // The user's own filter has the last word.
  base_ = Base("tcp port 20160");
  EXPECT_FALSE(Passes(V4(40001, 4000, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")));
}

TEST_F(KernelFilter, FitsTheKernelWithEverythingInIt) {
  std::vector<PortRange> ports;
  for (size_t i = 0; i < limits::kMaxPortRanges; ++i) {
    ports.push_back({static_cast<uint16_t>(1000 + 20 * i), static_cast<uint16_t>(1010 + 20 * i)});
  }
  base_ = Base(PortFilterText(ports, true));
  refinement_.find_http2 = true;
  for (size_t i = 0; i < limits::kMaxWantedPorts; ++i) {
    refinement_.wanted_ports.push_back(static_cast<uint16_t>(30000 + i));
  }
  for (size_t i = 0; i < limits::kMaxExcludedPorts; ++i) {
    refinement_.excluded_ports.push_back(static_cast<uint16_t>(40000 + i));
  }
  for (size_t i = 0; i < limits::kMaxExcludedConnections; ++i) {
    refinement_.excluded.push_back(Flow6(static_cast<uint16_t>(50000 + i), 1000));
  }
  EXPECT_FALSE(Passes(V6(50000, 1000)));
  EXPECT_TRUE(Passes(V6(50999, 1000)));
  EXPECT_FALSE(Passes(V4(40000, 1000)));
}

}  // namespace
}  // namespace keytrail
