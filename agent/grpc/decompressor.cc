#include "agent/grpc/decompressor.h"

#include <zlib.h>

#include <algorithm>
#include <vector>

#include "common/limits.h"

namespace keytrail::grpc {

namespace {

// Window bits of zlib's inflateInit2: 15 is the largest window, +16 means a gzip header.
constexpr int kGzipWindow = 15 + 16;
constexpr int kZlibWindow = 15;
// Output that is kept from message to message; one larger is freed.
constexpr size_t kKeptBytes = 1u << 20;

Encoding Sniff(Bytes b) {
  if (b.size() >= 18 && b[0] == 0x1F && b[1] == 0x8B && b[2] == 8) return Encoding::kGzip;
  // RFC 1950: method 8, window at most 32 KiB, no dictionary, the header is a multiple of 31.
  if (b.size() >= 8 && (b[0] & 0x0F) == 8 && (b[0] >> 4) <= 7 && (b[1] & 0x20) == 0 &&
      (b[0] * 256 + b[1]) % 31 == 0) {
    return Encoding::kDeflate;
  }
  return Encoding::kOther;
}

}  // namespace

Encoding EncodingByName(std::string_view name) {
  if (name.empty() || name == "identity") return Encoding::kIdentity;
  if (name == "gzip") return Encoding::kGzip;
  if (name == "deflate") return Encoding::kDeflate;
  return Encoding::kOther;
}

struct Decompressor::State {
  z_stream stream{};
  bool ready = false;
  std::vector<uint8_t> plain;
};

Decompressor::Decompressor() : state_(std::make_unique<State>()) {}

Decompressor::~Decompressor() {
  if (state_->ready) inflateEnd(&state_->stream);
}

Decompressor::Outcome Decompressor::Inflate(Encoding encoding, Bytes compressed, Bytes& plain) {
  if (encoding == Encoding::kUnknown) encoding = Sniff(compressed);
  if (encoding != Encoding::kGzip && encoding != Encoding::kDeflate) return Outcome::kUnreadable;
  const int window = encoding == Encoding::kGzip ? kGzipWindow : kZlibWindow;
  z_stream& z = state_->stream;
  const int begun = state_->ready ? inflateReset2(&z, window) : inflateInit2(&z, window);
  if (begun != Z_OK) return Outcome::kUnreadable;  // no memory
  state_->ready = true;

  std::vector<uint8_t>& out = state_->plain;
  if (out.capacity() > kKeptBytes) std::vector<uint8_t>().swap(out);
  out.resize(std::clamp<size_t>(compressed.size() * 4, 4096, kKeptBytes));
  z.next_in = const_cast<Bytef*>(compressed.data());
  z.avail_in = static_cast<uInt>(compressed.size());
  size_t made = 0;
  for (;;) {
    if (made == out.size()) {
      if (out.size() >= limits::kMaxInflatedBytes) return Outcome::kTooLarge;
      out.resize(std::min(out.size() * 2, limits::kMaxInflatedBytes));
    }
    z.next_out = out.data() + made;
    z.avail_out = static_cast<uInt>(out.size() - made);
    const int step = inflate(&z, Z_NO_FLUSH);
    made = out.size() - z.avail_out;
    if (step == Z_STREAM_END) break;
    if (step != Z_OK) return Outcome::kDamaged;  // Z_BUF_ERROR: it ends too early
  }
  if (z.avail_in != 0) return Outcome::kDamaged;
  plain = Bytes(out.data(), made);
  return Outcome::kDone;
}

}  // namespace keytrail::grpc
