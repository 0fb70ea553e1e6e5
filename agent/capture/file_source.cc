// Capture files: pcap and pcapng through libpcap, zstd around either.

#include <pcap/pcap.h>
#include <sys/stat.h>
#include <zstd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "agent/capture/filter.h"
#include "agent/capture/packet_source.h"

namespace keytrail {

namespace {

// The bytes of a capture as a stdio stream for libpcap: a plain file as it is, anything else (zstd, standard
// input) through a reader of our own.
class InputStream {
 public:
  ~InputStream() {
    if (decoder_ != nullptr) ZSTD_freeDStream(decoder_);
    if (file_ != nullptr && file_ != stdin) std::fclose(file_);
  }

  Status Open(const std::string& path) {
    path_ = path;
    file_ = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
    if (file_ == nullptr) return Error{path + ": " + std::strerror(errno)};
    struct stat about {};
    if (fstat(fileno(file_), &about) == 0 && S_ISDIR(about.st_mode)) {
      return Error{path + ": is a directory, not a capture file"};
    }
    in_.resize(1 << 16);
    have_ = std::fread(in_.data(), 1, 4, file_);
    if (std::ferror(file_)) return Error{path + ": " + std::strerror(errno)};
    static constexpr uint8_t kZstdMagic[4] = {0x28, 0xB5, 0x2F, 0xFD};
    if (have_ == 4 && std::memcmp(in_.data(), kZstdMagic, 4) == 0) decoder_ = ZSTD_createDStream();
    plain_file_ = decoder_ == nullptr && file_ != stdin && std::fseek(file_, 0, SEEK_SET) == 0;
    return Done{};
  }

  bool empty() const { return have_ == 0; }
  bool plain_file() const { return plain_file_; }
  // Damage of the compressed stream, found while reading.
  const std::string& problem() const { return problem_; }

  // The stream for libpcap, which closes it. Call once.
  std::FILE* Release() {
    if (plain_file_) {
      std::FILE* file = file_;
      file_ = nullptr;
      return file;
    }
    cookie_io_functions_t functions{};
    functions.read = [](void* self, char* to, size_t n) {
      return static_cast<InputStream*>(self)->Read(to, n);
    };
    std::FILE* stream = fopencookie(this, "rb", functions);
    if (stream != nullptr) std::setvbuf(stream, nullptr, _IOFBF, 1 << 18);
    return stream;
  }

 private:
  ssize_t Read(char* to, size_t n) {
    if (decoder_ == nullptr) {
      if (at_ == have_ && !Refill()) return 0;
      const size_t taken = std::min(n, have_ - at_);
      std::memcpy(to, in_.data() + at_, taken);
      at_ += taken;
      return static_cast<ssize_t>(taken);
    }
    ZSTD_outBuffer out{to, n, 0};
    while (out.pos == 0) {
      if (at_ == have_ && !Refill()) {
        if (frame_open_ && problem_.empty()) problem_ = "the zstd stream is truncated";
        return 0;
      }
      ZSTD_inBuffer in{in_.data(), have_, at_};
      const size_t left = ZSTD_decompressStream(decoder_, &out, &in);
      at_ = in.pos;
      if (ZSTD_isError(left)) {
        problem_ = std::string("damaged zstd stream: ") + ZSTD_getErrorName(left);
        return 0;
      }
      frame_open_ = left != 0;
    }
    return static_cast<ssize_t>(out.pos);
  }

  bool Refill() {
    at_ = 0;
    have_ = std::fread(in_.data(), 1, in_.size(), file_);
    return have_ != 0;
  }

  std::string path_;
  std::FILE* file_ = nullptr;
  ZSTD_DStream* decoder_ = nullptr;
  std::vector<uint8_t> in_;
  size_t have_ = 0;
  size_t at_ = 0;
  bool plain_file_ = false;
  bool frame_open_ = false;
  std::string problem_;
};

class FileSource final : public PacketSource {
 public:
  ~FileSource() override {
    if (pcap_ != nullptr) pcap_close(pcap_);
  }

  Status Open(const FileSourceOptions& options) {
    path_ = options.path == "-" ? "standard input" : options.path;
    const Status opened = input_.Open(options.path);
    if (!opened.ok()) return opened;
    if (input_.empty()) return Error{path_ + ": is empty, not a capture file"};
    std::FILE* stream = input_.Release();
    if (stream == nullptr) return Error{path_ + ": " + std::strerror(errno)};
    char problem[PCAP_ERRBUF_SIZE] = {};
    pcap_ = pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, problem);
    if (pcap_ == nullptr) {
      std::fclose(stream);
      return Error{path_ + ": " + (input_.problem().empty() ? problem : input_.problem()) +
                   "; a pcap or pcapng file is needed"};
    }
    if (input_.plain_file()) std::setvbuf(stream, nullptr, _IOFBF, 1 << 18);
    link_type_ = pcap_datalink(pcap_);
    return SetFilter(pcap_, options.filter);
  }

  Result<Next> Read(RawPacket& packet) override {
    if (interrupted_.load(std::memory_order_relaxed)) return Next::kEnd;
    pcap_pkthdr* header = nullptr;
    const u_char* bytes = nullptr;
    const int got = pcap_next_ex(pcap_, &header, &bytes);
    if (got == 1) {
      packet.time = TimeNs{int64_t{header->ts.tv_sec} * 1'000'000'000 + header->ts.tv_usec};
      packet.bytes = Bytes(bytes, header->caplen);
      packet.wire_length = header->len;
      packet.link_type = link_type_;
      ++packets_;
      return Next::kPacket;
    }
    if (!input_.problem().empty()) return Error{Where() + input_.problem()};
    if (got == PCAP_ERROR_BREAK) return Next::kEnd;
    return Error{Where() + pcap_geterr(pcap_)};
  }

  void Interrupt() override { interrupted_.store(true, std::memory_order_relaxed); }
  void ReadDrops(Counters&) override {}

 private:
  std::string Where() {
    std::string where = path_ + ": after " + std::to_string(packets_) + " packets";
    if (input_.plain_file()) where += ", at byte " + std::to_string(std::ftell(pcap_file(pcap_)));
    return where + ": ";
  }

  InputStream input_;
  std::string path_;
  pcap_t* pcap_ = nullptr;
  int link_type_ = 0;
  uint64_t packets_ = 0;
  std::atomic<bool> interrupted_ = false;
};

}  // namespace

Result<std::unique_ptr<PacketSource>> OpenFile(const FileSourceOptions& options) {
  auto source = std::make_unique<FileSource>();
  const Status opened = source->Open(options);
  if (!opened.ok()) return Error{opened.error()};
  return std::unique_ptr<PacketSource>(std::move(source));
}

}  // namespace keytrail
