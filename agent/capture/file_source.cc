// Capture files: pcap through libpcap, pcapng through PcapngReader, zstd around either.

#include <pcap/pcap.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "agent/capture/filter.h"
#include "agent/capture/input_stream.h"
#include "agent/capture/packet_source.h"
#include "agent/capture/pcapng_reader.h"

namespace keytrail {

namespace {

class FileSource final : public PacketSource {
 public:
  ~FileSource() override {
    if (pcap_ != nullptr) pcap_close(pcap_);
  }

  Status Open(const FileSourceOptions& options) {
    path_ = options.path == "-" ? "standard input" : options.path;
    const Status opened = input_.Open(options.path, path_);
    if (!opened.ok()) return opened;
    const bool pcapng = input_.Peek() == PcapngReader::kMagic;
    std::FILE* stream = input_.Release();
    if (stream == nullptr) return Error{path_ + ": " + std::strerror(errno)};
    stream_ = stream;
    if (pcapng) return OpenPcapng(options.filter);
    char problem[PCAP_ERRBUF_SIZE] = {};
    pcap_ = pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, problem);
    if (pcap_ == nullptr) {
      std::fclose(stream);
      return Error{path_ + ": " + (input_.problem().empty() ? problem : input_.problem()) +
                   "; a pcap or pcapng file is needed"};
    }
    link_type_ = pcap_datalink(pcap_);
    return SetFilter(pcap_, options.filter);
  }

  Result<Next> Read(RawPacket& packet) override {
    if (interrupted_.load(std::memory_order_relaxed)) return Next::kEnd;
    if (pcapng_) return ReadPcapng(packet);
    pcap_pkthdr* header = nullptr;
    const u_char* bytes = nullptr;
    const int got = pcap_next_ex(pcap_, &header, &bytes);
    if (got == 1) {
      // A pcapng stamp has 64 bits; garbage must not overflow (9.2e9 seconds are the year 2262).
      const int64_t seconds = std::clamp<int64_t>(header->ts.tv_sec, 0, 9'200'000'000);
      // A pcap stamp's fraction has 32 bits, signed to libpcap.
      const int64_t fraction_ns = std::clamp<int64_t>(header->ts.tv_usec, 0, 999'999'999);
      packet.time = TimeNs{seconds * 1'000'000'000 + fraction_ns};
      packet.bytes = Bytes(bytes, header->caplen);
      packet.wire_length = header->len;
      packet.link_type = link_type_;
      ++packets_;
      return Next::kPacket;
    }
    // An interrupted pipe looks like a truncated one to libpcap.
    if (interrupted_.load(std::memory_order_relaxed)) return Next::kEnd;
    if (!input_.problem().empty()) return Error{Where() + input_.problem()};
    if (got == PCAP_ERROR_BREAK) return Next::kEnd;
    return Error{Where() + pcap_geterr(pcap_)};
  }

  void Interrupt() override { interrupted_.store(true, std::memory_order_relaxed); }
  void ReadDrops(Counters& counters) override {
    if (pcapng_) counters.Add(Counter::kCapInterfaces, pcapng_->TakeInterfacesOverCap());
  }

 private:
  Status OpenPcapng(const std::string& filter) {
    pcapng_.emplace(stream_, filter);
    const Status begun = pcapng_->Open();
    if (begun.ok()) return begun;
    return Error{path_ + ": " + (input_.problem().empty() ? begun.error() : input_.problem())};
  }

  Result<Next> ReadPcapng(RawPacket& packet) {
    const Result<bool> got = pcapng_->Read(packet);
    if (got && *got) {
      ++packets_;
      return Next::kPacket;
    }
    if (interrupted_.load(std::memory_order_relaxed)) return Next::kEnd;
    if (!input_.problem().empty()) return Error{Where() + input_.problem()};
    if (got) return Next::kEnd;
    return Error{Where() + got.error()};
  }

  std::string Where() {
    std::string where = path_ + ": after " + std::to_string(packets_) + " packets";
    if (input_.plain_file()) where += ", at byte " + std::to_string(std::ftell(stream_));
    return where + ": ";
  }

  std::atomic<bool> interrupted_ = false;
  InputStream input_{interrupted_};
  std::string path_;
  std::FILE* stream_ = nullptr;  // belongs to its reader: pcap_ or pcapng_
  std::optional<PcapngReader> pcapng_;
  pcap_t* pcap_ = nullptr;
  int link_type_ = 0;
  uint64_t packets_ = 0;
};

}  // namespace

Result<std::unique_ptr<PacketSource>> OpenFile(const FileSourceOptions& options) {
  auto source = std::make_unique<FileSource>();
  const Status opened = source->Open(options);
  if (!opened.ok()) return Error{opened.error()};
  return std::unique_ptr<PacketSource>(std::move(source));
}

}  // namespace keytrail
