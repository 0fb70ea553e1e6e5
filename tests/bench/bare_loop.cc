// bare_loop FILE: reads every packet of a capture with libpcap and touches nothing more. What a decoder's
// time is measured against.

#include <pcap/pcap.h>

#include <cstdint>
#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: bare_loop FILE\n");
    return 2;
  }
  char reason[PCAP_ERRBUF_SIZE];
  pcap_t* in = pcap_open_offline(argv[1], reason);
  if (in == nullptr) {
    std::fprintf(stderr, "bare_loop: %s\n", reason);
    return 1;
  }
  uint64_t packets = 0;
  uint64_t bytes = 0;
  pcap_pkthdr* header = nullptr;
  const u_char* data = nullptr;
  while (pcap_next_ex(in, &header, &data) == 1) {
    ++packets;
    bytes += header->caplen;
  }
  pcap_close(in);
  std::printf("%llu packets, %llu bytes\n", static_cast<unsigned long long>(packets),
              static_cast<unsigned long long>(bytes));
  return 0;
}
