// The bytes of a capture file, zstd taken off. Inside this room only; one thread.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"

namespace keytrail {

inline constexpr size_t kFileBufferBytes = 256u << 10;

// The bytes of a capture as a stdio stream: a plain file as it is, anything else (zstd, standard
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

  // The first four bytes of the capture itself (0 where it is shorter); the stream still begins with them.
  uint32_t Peek() {
    if (decoder_ == nullptr) {
      std::memcpy(peeked_, in_.data(), std::min<size_t>(have_, sizeof peeked_));
    } else {
      while (peeked_bytes_ < sizeof peeked_) {
        const ssize_t got = Read(peeked_ + peeked_bytes_, sizeof peeked_ - peeked_bytes_);
        if (got <= 0) break;
        peeked_bytes_ += static_cast<size_t>(got);
      }
    }
    return LoadBe32(reinterpret_cast<const uint8_t*>(peeked_));
  }

  // The stream, to be closed by its reader before this object goes. Call once.
  std::FILE* Release() {
    std::FILE* stream = nullptr;
    if (plain_file_) {
      stream = fdopen(fd_, "rb");
      if (stream != nullptr) fd_ = -1;
    } else {
      cookie_io_functions_t functions{};
      functions.read = [](void* self, char* to, size_t n) {
        return static_cast<InputStream*>(self)->ReadFromStart(to, n);
      };
      stream = fopencookie(this, "rb", functions);
    }
    if (stream == nullptr) return nullptr;
    // A buffer of its own: glibc takes no notice of the size without one, and 4 KiB at a time cost a tenth.
    buffer_.resize(kFileBufferBytes);
    std::setvbuf(stream, buffer_.data(), _IOFBF, buffer_.size());
    return stream;
  }

 private:
  std::vector<char> buffer_;  // of the stream

  ssize_t ReadFromStart(char* to, size_t n) {
    if (peeked_at_ == peeked_bytes_) return Read(to, n);
    const size_t taken = std::min(n, peeked_bytes_ - peeked_at_);
    std::memcpy(to, peeked_ + peeked_at_, taken);
    peeked_at_ += taken;
    return static_cast<ssize_t>(taken);
  }

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
  char peeked_[4] = {};
  size_t peeked_bytes_ = 0;  // decompressed before the stream was released
  size_t peeked_at_ = 0;
  bool plain_file_ = false;
  bool frame_open_ = false;
  std::string problem_;
};

}  // namespace keytrail
