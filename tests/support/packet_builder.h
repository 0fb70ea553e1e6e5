// Packets and capture files built in memory, header by header, for tests.
//
// A packet is written from the inside out: each function takes the bytes that it wraps.
//   Ethernet(0x0800, Ipv4({}, Tcp({.sequence = 1}, "payload")))
// Checksums are left 0 (the agent does not look at them). Numbers and layouts are those of the RFCs named.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace keytrail::testing {

inline std::string Be16(uint32_t v) {
  return {static_cast<char>(v >> 8), static_cast<char>(v)};
}
inline std::string Be32(uint32_t v) {
  return Be16(v >> 16) + Be16(v);
}
inline std::string Zeros(size_t n) {
  return std::string(n, '\0');
}

struct TcpFields {  // RFC 9293 section 3.1
  uint16_t source_port = 40000;
  uint16_t destination_port = 20160;
  uint32_t sequence = 1000;
  uint32_t acknowledgement = 2000;
  uint8_t flags = 0x18;      // PSH, ACK
  std::string options = {};  // a multiple of 4 bytes
};
inline std::string Tcp(const TcpFields& f, const std::string& payload) {
  const auto words = static_cast<uint32_t>(5 + f.options.size() / 4);
  return Be16(f.source_port) + Be16(f.destination_port) + Be32(f.sequence) + Be32(f.acknowledgement) +
         static_cast<char>(words << 4) + static_cast<char>(f.flags) + Be16(65535) + Be32(0) + f.options +
         payload;
}

inline std::string Udp(uint16_t destination_port, const std::string& payload) {  // RFC 768
  return Be16(50000) + Be16(destination_port) + Be16(static_cast<uint32_t>(8 + payload.size())) + Be16(0) +
         payload;
}

struct Ipv4Fields {  // RFC 791 section 3.1
  std::array<uint8_t, 4> source = {10, 0, 0, 1};
  std::array<uint8_t, 4> destination = {10, 0, 0, 2};
  uint8_t protocol = 6;
  std::string options = {};    // a multiple of 4 bytes
  uint16_t fragment = 0x4000;  // flags and offset: DF
  int total_length = -1;       // -1: the true one
  uint16_t id = 7;
};
inline std::string Ipv4(const Ipv4Fields& f, const std::string& payload) {
  const size_t header = 20 + f.options.size();
  const auto total = f.total_length >= 0 ? static_cast<uint32_t>(f.total_length)
                                         : static_cast<uint32_t>(header + payload.size());
  return std::string(1, static_cast<char>(0x40 | header / 4)) + '\0' + Be16(total) + Be16(f.id) +
         Be16(f.fragment) + static_cast<char>(64) + static_cast<char>(f.protocol) + Be16(0) +
         std::string(f.source.begin(), f.source.end()) +
         std::string(f.destination.begin(), f.destination.end()) + f.options + payload;
}

inline std::array<uint8_t, 16> Ipv6Address(uint8_t last) {
  return {0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last};
}
struct Ipv6Fields {  // RFC 8200 section 3
  std::array<uint8_t, 16> source = Ipv6Address(1);
  std::array<uint8_t, 16> destination = Ipv6Address(2);
  uint8_t next_header = 6;
  int payload_length = -1;  // -1: the true one
};
inline std::string Ipv6(const Ipv6Fields& f, const std::string& payload) {
  const auto length =
      f.payload_length >= 0 ? static_cast<uint32_t>(f.payload_length) : static_cast<uint32_t>(payload.size());
  return Be32(0x60000000) + Be16(length) + static_cast<char>(f.next_header) + static_cast<char>(64) +
         std::string(f.source.begin(), f.source.end()) +
         std::string(f.destination.begin(), f.destination.end()) + payload;
}
// Hop-by-hop, routing, destination options, mobility: RFC 8200 section 4. `units` of 8 bytes beyond the
// first.
inline std::string Ipv6Extension(uint8_t next_header, uint8_t units, const std::string& payload) {
  return std::string(1, static_cast<char>(next_header)) + static_cast<char>(units) +
         Zeros(6 + size_t{units} * 8) + payload;
}
// RFC 8200 section 4.5. `offset` in units of 8 bytes.
inline std::string Ipv6Fragment(uint8_t next_header, uint16_t offset, bool more, const std::string& payload,
                                uint32_t id = 99) {
  return std::string(1, static_cast<char>(next_header)) + '\0' +
         Be16(static_cast<uint32_t>(offset) << 3 | (more ? 1 : 0)) + Be32(id) + payload;
}
// RFC 4302 section 2: `words` of 4 bytes of integrity value.
inline std::string AuthenticationHeader(uint8_t next_header, uint8_t words, const std::string& payload) {
  return std::string(1, static_cast<char>(next_header)) + static_cast<char>(1 + words) + Zeros(10) +
         Zeros(size_t{words} * 4) + payload;
}

inline std::string Ethernet(uint16_t type, const std::string& payload) {
  return Zeros(5) + '\1' + Zeros(5) + '\2' + Be16(type) + payload;
}
// The tag's own EtherType stands before it; `type` is that of what follows (IEEE 802.1Q).
inline std::string VlanTag(uint16_t vlan, uint16_t type, const std::string& payload) {
  return Be16(vlan) + Be16(type) + payload;
}
inline std::string LinuxSll(uint16_t type, const std::string& payload) {
  return Be16(0) + Be16(1) + Be16(6) + Zeros(8) + Be16(type) + payload;
}
inline std::string LinuxSll2(uint16_t type, const std::string& payload) {
  return Be16(type) + Be16(0) + Be32(2) + Be16(1) + Zeros(2) + Zeros(8) + payload;
}

// RFC 7348 section 5: on UDP 4789.
inline std::string Vxlan(uint32_t vni, const std::string& ethernet) {
  return Be32(0x08000000) + Be32(vni << 8) + ethernet;
}
// RFC 8926 section 3.4: on UDP 6081. `options` a multiple of 4 bytes.
inline std::string Geneve(uint16_t type, const std::string& options, const std::string& payload) {
  return std::string(1, static_cast<char>(options.size() / 4)) + '\0' + Be16(type) + Be32(5 << 8) + options +
         payload;
}
// RFC 2784 and 2890: flags 0x8000 checksum, 0x2000 key, 0x1000 sequence.
inline std::string Gre(uint16_t flags, uint16_t type, const std::string& payload) {
  std::string header = Be16(flags) + Be16(type);
  for (uint16_t bit : {0x8000, 0x2000, 0x1000}) {
    if (flags & bit) header += Be32(0x01020304);
  }
  return header + payload;
}

// Capture files. Little-endian numbers unless `big_endian`.
struct FilePacket {
  int64_t ns = 0;
  std::string bytes;
  int64_t wire_length = -1;  // -1: as captured
};

inline std::string Number(uint64_t v, int bytes, bool big_endian) {
  std::string s;
  for (int i = 0; i < bytes; ++i) s += static_cast<char>(v >> 8 * (big_endian ? bytes - 1 - i : i));
  return s;
}

// The classic format (draft-ietf-opsawg-pcap).
inline std::string PcapFile(int link_type, const std::vector<FilePacket>& packets, bool nanoseconds = true,
                            bool big_endian = false, uint32_t snap_length = 262144) {
  const auto n32 = [&](uint64_t v) { return Number(v, 4, big_endian); };
  std::string file = n32(nanoseconds ? 0xA1B23C4D : 0xA1B2C3D4) + Number(2, 2, big_endian) +
                     Number(4, 2, big_endian) + n32(0) + n32(0) + n32(snap_length) +
                     n32(static_cast<uint64_t>(link_type));
  for (const FilePacket& p : packets) {
    const int64_t fraction = p.ns % 1'000'000'000;
    file += n32(static_cast<uint64_t>(p.ns / 1'000'000'000)) +
            n32(static_cast<uint64_t>(nanoseconds ? fraction : fraction / 1000)) + n32(p.bytes.size()) +
            n32(p.wire_length < 0 ? p.bytes.size() : static_cast<uint64_t>(p.wire_length)) + p.bytes;
  }
  return file;
}

// pcapng (draft-ietf-opsawg-pcapng): one section, one interface with nanosecond stamps, enhanced packet
// blocks.
inline std::string PcapngFile(int link_type, const std::vector<FilePacket>& packets) {
  const auto n16 = [](uint64_t v) { return Number(v, 2, false); };
  const auto n32 = [](uint64_t v) { return Number(v, 4, false); };
  const auto block = [&](uint32_t type, std::string body) {
    body += Zeros((4 - body.size() % 4) % 4);
    return n32(type) + n32(body.size() + 12) + body + n32(body.size() + 12);
  };
  const auto interface = [&](int type) {
    // if_tsresol (9), one byte: 10^-9; then the end of options.
    return block(1, n16(static_cast<uint64_t>(type)) + n16(0) + n32(262144) + n16(9) + n16(1) + '\x09' +
                        Zeros(3) + n32(0));
  };
  std::string file = block(0x0A0D0D0A, n32(0x1A2B3C4D) + n16(1) + n16(0) + Number(~uint64_t{0}, 8, false));
  file += interface(link_type);
  for (const FilePacket& p : packets) {
    const auto ns = static_cast<uint64_t>(p.ns);
    file += block(6, n32(0) + n32(ns >> 32) + n32(ns & 0xFFFFFFFF) + n32(p.bytes.size()) +
                         n32(p.wire_length < 0 ? p.bytes.size() : static_cast<uint64_t>(p.wire_length)) +
                         p.bytes);
  }
  return file;
}

}  // namespace keytrail::testing
