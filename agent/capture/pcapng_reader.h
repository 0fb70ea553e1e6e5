// pcapng files (draft-ietf-opsawg-pcapng), block by block.
//
// libpcap reads one link type and one snapshot length a file; what `dumpcap -i eth0 -i tun0` and mergecap
// write has several. Inside this room only; one thread. Damage is an Error without path and place, which the
// caller knows.
#pragma once

#include <pcap/pcap.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "agent/capture/packet_source.h"
#include "common/result.h"

namespace keytrail {

class PcapngReader {
 public:
  static constexpr uint32_t kMagic = 0x0A0D0D0A;  // the same in either byte order

  // `stream` stands at the first block; it is closed with the reader. An empty filter is none.
  PcapngReader(std::FILE* stream, const std::string& filter) : stream_(stream), filter_text_(filter) {}
  ~PcapngReader();
  PcapngReader(const PcapngReader&) = delete;
  PcapngReader& operator=(const PcapngReader&) = delete;

  // Reads up to the first interface, so that a filter that cannot be is known before the first packet.
  Status Open();
  // False at the end. The bytes of the packet live until the next call.
  Result<bool> Read(RawPacket& packet);

  // Interfaces beyond limits::kMaxCaptureInterfaces since the last call; their packets have link type -1.
  uint64_t TakeInterfacesOverCap();

 private:
  struct Interface {
    int link_type = 0;
    uint32_t snap_length = 0;  // 0: none
    uint64_t units_per_second = 1'000'000;
    int64_t offset_seconds = 0;
  };
  struct Program {
    int link_type = 0;
    bpf_program code{};
  };

  // False at the end of the file.
  Result<bool> ReadBlock();
  Status ReadSectionHeader();
  Status ReadInterface();
  Status ReadInterfaceOption(Interface& interface, uint16_t code, Bytes value);
  Result<bool> ReadPacket(RawPacket& packet);
  TimeNs Time(const Interface& interface, uint64_t units) const;
  bool Wanted(const RawPacket& packet) const;
  Status CompileFilter(int link_type);

  uint16_t U16(size_t at) const;
  uint32_t U32(size_t at) const;
  uint64_t U64(size_t at) const;

  std::FILE* stream_;
  const std::string filter_text_;
  bool swapped_ = false;
  bool in_section_ = false;
  uint32_t type_ = 0;          // of the block that was read last
  std::vector<uint8_t> body_;  // its body, without type and lengths
  std::vector<Interface> interfaces_;
  uint64_t section_over_cap_ = 0;
  uint64_t interfaces_over_cap_ = 0;
  std::vector<Program> programs_;
};

}  // namespace keytrail
