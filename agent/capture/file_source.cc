// Capture files: pcap and pcapng through libpcap, zstd around either.

#include <fcntl.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
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
// input, pipes) through a reader of our own, which gives what is there and never waits for more.
class InputStream {
 public:
  explicit InputStream(const std::atomic<bool>& interrupted) : interrupted_(interrupted) {}
  ~InputStream() {
    if (decoder_ != nullptr) ZSTD_freeDStream(decoder_);
    if (fd_ > STDIN_FILENO) close(fd_);
  }

  // `path` "-" is standard input; `name` is what errors call it.
  Status Open(const std::string& path, const std::string& name) {
    fd_ = path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) return Error{name + ": " + std::strerror(errno)};
    struct stat about {};
    if (fstat(fd_, &about) == 0 && S_ISDIR(about.st_mode)) {
      return Error{name + ": is a directory, not a capture file"};
    }
    in_.resize(1 << 16);
    while (have_ < 4 && Refill()) {
    }
    if (!problem_.empty()) return Error{name + ": " + problem_};
    if (have_ == 0) return Error{name + ": is empty, not a capture file"};
    static constexpr uint8_t kZstdMagic[4] = {0x28, 0xB5, 0x2F, 0xFD};
    if (have_ >= 4 && std::memcmp(in_.data(), kZstdMagic, 4) == 0) decoder_ = ZSTD_createDStream();
    plain_file_ = decoder_ == nullptr && S_ISREG(about.st_mode) &&
                  lseek(fd_, -static_cast<off_t>(have_), SEEK_CUR) >= 0;
    return Done{};
  }

  bool plain_file() const { return plain_file_; }
  // A read error, or damage of the compressed stream, found while reading.
  const std::string& problem() const { return problem_; }

  // The stream for libpcap, which closes it. Call once.
  std::FILE* Release() {
    std::FILE* stream = nullptr;
    if (plain_file_) {
      stream = fdopen(fd_, "rb");
      if (stream != nullptr) fd_ = -1;
    } else {
      cookie_io_functions_t functions{};
      functions.read = [](void* self, char* to, size_t n) {
        return static_cast<InputStream*>(self)->Read(to, n);
      };
      stream = fopencookie(this, "rb", functions);
    }
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

  // More bytes behind those that were not taken yet; false at the end, on an error, or when interrupted.
  bool Refill() {
    if (at_ == have_) at_ = have_ = 0;
    for (;;) {
      // Only a pipe makes this wait.
      pollfd waiting{fd_, POLLIN, 0};
      const int ready = poll(&waiting, 1, kPollMs);
      if (interrupted_.load(std::memory_order_relaxed)) return false;
      if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
      const ssize_t got = read(fd_, in_.data() + have_, in_.size() - have_);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) problem_ = std::strerror(errno);
      if (got <= 0) return false;
      have_ += static_cast<size_t>(got);
      return true;
    }
  }

  static constexpr int kPollMs = 100;

  const std::atomic<bool>& interrupted_;
  int fd_ = -1;
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
    const Status opened = input_.Open(options.path, path_);
    if (!opened.ok()) return opened;
    std::FILE* stream = input_.Release();
    if (stream == nullptr) return Error{path_ + ": " + std::strerror(errno)};
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
  void ReadDrops(Counters&) override {}

 private:
  std::string Where() {
    std::string where = path_ + ": after " + std::to_string(packets_) + " packets";
    if (input_.plain_file()) where += ", at byte " + std::to_string(std::ftell(pcap_file(pcap_)));
    return where + ": ";
  }

  std::atomic<bool> interrupted_ = false;
  InputStream input_{interrupted_};
  std::string path_;
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
