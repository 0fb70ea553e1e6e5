// repeat_capture IN.pcap OUT.pcap BYTES: the packets of IN again and again until OUT has at least BYTES, each
// round with client ports of its own and later times, so that every round is new connections to a decoder.
//
// Ethernet, IPv4, TCP, as the generated captures are. The client's port is the higher one. Checksums are
// left as they were, which the agent does not look at.

#include <pcap/pcap.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

namespace {

struct Packet {
  pcap_pkthdr header;
  std::vector<uint8_t> bytes;
  size_t client_port_at = 0;  // 0: no TCP
  uint16_t client_index = 0;
};

uint16_t Read16(const uint8_t* p) {
  return static_cast<uint16_t>(p[0] << 8 | p[1]);
}

constexpr uint16_t kFirstPort = 10000;
constexpr uint32_t kPorts = 55000;

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: repeat_capture IN.pcap OUT.pcap BYTES\n");
    return 2;
  }
  char reason[PCAP_ERRBUF_SIZE];
  pcap_t* in = pcap_open_offline(argv[1], reason);
  if (in == nullptr) {
    std::fprintf(stderr, "repeat_capture: %s\n", reason);
    return 1;
  }
  std::vector<Packet> packets;
  std::map<uint16_t, uint16_t> client_ports;
  pcap_pkthdr* header = nullptr;
  const u_char* bytes = nullptr;
  while (pcap_next_ex(in, &header, &bytes) == 1) {
    Packet& packet = packets.emplace_back();
    packet.header = *header;
    packet.bytes.assign(bytes, bytes + header->caplen);
    if (header->caplen < 54 || Read16(bytes + 12) != 0x0800 || bytes[23] != 6) continue;
    const size_t tcp = 14 + (bytes[14] & 15u) * 4;
    if (tcp + 4 > header->caplen) continue;
    packet.client_port_at = Read16(bytes + tcp) > Read16(bytes + tcp + 2) ? tcp : tcp + 2;
    const auto index = static_cast<uint16_t>(client_ports.size());
    packet.client_index = client_ports.emplace(Read16(bytes + packet.client_port_at), index).first->second;
  }
  if (packets.empty() || client_ports.empty()) {
    std::fprintf(stderr, "repeat_capture: %s: no TCP packet\n", argv[1]);
    return 1;
  }

  pcap_t* shape = pcap_open_dead(pcap_datalink(in), 262144);
  pcap_dumper_t* out = pcap_dump_open(shape, argv[2]);
  if (out == nullptr) {
    std::fprintf(stderr, "repeat_capture: %s\n", pcap_geterr(shape));
    return 1;
  }
  const uint64_t wanted = std::strtoull(argv[3], nullptr, 10);
  const long seconds = packets.back().header.ts.tv_sec - packets.front().header.ts.tv_sec + 1;
  uint64_t written = 0;
  uint32_t rounds = 0;
  for (; written < wanted; ++rounds) {
    if ((rounds + 1) * client_ports.size() > kPorts) {
      std::fprintf(stderr, "repeat_capture: %s: no client port is left after %u rounds\n", argv[1], rounds);
      return 1;
    }
    for (Packet& packet : packets) {
      if (packet.client_port_at != 0) {
        const auto port =
            static_cast<uint16_t>(kFirstPort + rounds * client_ports.size() + packet.client_index);
        packet.bytes[packet.client_port_at] = static_cast<uint8_t>(port >> 8);
        packet.bytes[packet.client_port_at + 1] = static_cast<uint8_t>(port);
      }
      pcap_pkthdr later = packet.header;
      later.ts.tv_sec += static_cast<long>(rounds) * seconds;
      pcap_dump(reinterpret_cast<u_char*>(out), &later, packet.bytes.data());
      written += 16 + packet.header.caplen;
    }
  }
  const bool ok = pcap_dump_flush(out) == 0;
  pcap_dump_close(out);
  pcap_close(shape);
  pcap_close(in);
  if (!ok) {
    std::fprintf(stderr, "repeat_capture: %s: cannot be written\n", argv[2]);
    return 1;
  }
  std::printf("%u rounds, %zu packets, %zu connections a round\n", rounds, packets.size(),
              client_ports.size());
  return 0;
}
