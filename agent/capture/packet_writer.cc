// `-w`: packets into a pcap file with nanosecond stamps.

#include <pcap/pcap.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "agent/capture/packet_source.h"
#include "common/limits.h"

namespace keytrail {

namespace {

class PcapWriter final : public PacketWriter {
 public:
  explicit PcapWriter(std::string path) : path_(std::move(path)) {}
  ~PcapWriter() override { (void)Close(); }

  Status Open() {
    file_ = std::fopen(path_.c_str(), "wb");
    if (file_ == nullptr) return Error{path_ + ": " + std::strerror(errno)};
    return Done{};
  }

  Status Write(const RawPacket& packet) override {
    if (dumper_ == nullptr) {
      const Status begun = Begin(packet.link_type);
      if (!begun.ok()) return begun;
    }
    if (packet.link_type != link_type_) {
      return Error{path_ + ": a pcap file holds one link type; this packet has " +
                   std::to_string(packet.link_type) + ", the first had " + std::to_string(link_type_)};
    }
    pcap_pkthdr header{};
    header.ts.tv_sec = static_cast<time_t>(packet.time.ns / 1'000'000'000);
    header.ts.tv_usec = static_cast<suseconds_t>(packet.time.ns % 1'000'000'000);
    header.caplen = static_cast<bpf_u_int32>(packet.bytes.size());
    header.len = packet.wire_length;
    pcap_dump(reinterpret_cast<u_char*>(dumper_), &header, packet.bytes.data());
    if (std::ferror(pcap_dump_file(dumper_))) return Error{path_ + ": " + std::strerror(errno)};
    return Done{};
  }

  Status Close() override {
    if (closed_) return Done{};
    closed_ = true;
    Status status = Done{};
    if (dumper_ == nullptr && file_ != nullptr) status = Begin(DLT_EN10MB);  // a valid file without packets
    if (dumper_ != nullptr) {
      if (pcap_dump_flush(dumper_) != 0) status = Error{path_ + ": " + std::strerror(errno)};
      pcap_dump_close(dumper_);
    }
    if (pcap_ != nullptr) pcap_close(pcap_);
    return status;
  }

 private:
  Status Begin(int link_type) {
    link_type_ = link_type;
    pcap_ = pcap_open_dead_with_tstamp_precision(link_type, limits::kSnapLen, PCAP_TSTAMP_PRECISION_NANO);
    dumper_ = pcap_ == nullptr ? nullptr : pcap_dump_fopen(pcap_, file_);
    if (dumper_ != nullptr) return Done{};
    return Error{path_ + ": " + (pcap_ == nullptr ? "out of memory" : pcap_geterr(pcap_))};
  }

  std::string path_;
  std::FILE* file_ = nullptr;  // belongs to dumper_ once that is there
  pcap_t* pcap_ = nullptr;
  pcap_dumper_t* dumper_ = nullptr;
  int link_type_ = 0;
  bool closed_ = false;
};

}  // namespace

Result<std::unique_ptr<PacketWriter>> CreateCaptureFile(const std::string& path) {
  auto writer = std::make_unique<PcapWriter>(path);
  const Status opened = writer->Open();
  if (!opened.ok()) return Error{opened.error()};
  return std::unique_ptr<PacketWriter>(std::move(writer));
}

}  // namespace keytrail
