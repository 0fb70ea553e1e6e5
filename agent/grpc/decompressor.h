// Compressed gRPC messages (grpc-encoding: gzip is RFC 1952, deflate is RFC 1950 in gRPC).
//
// The result lives until the next call. Never makes more than limits::kMaxInflatedBytes. Not thread-safe.
#pragma once

#include <memory>

#include "common/bytes.h"

namespace keytrail::grpc {

enum class Encoding : uint8_t {
  kIdentity,
  kGzip,
  kDeflate,
  kOther,    // told by name, and we cannot read it
  kUnknown,  // the header was not seen
};

// `name` is the value of grpc-encoding; empty means identity.
Encoding EncodingByName(std::string_view name);

class Decompressor {
 public:
  Decompressor();
  ~Decompressor();

  enum class Outcome : uint8_t { kDone, kDamaged, kTooLarge, kUnreadable };
  // kUnknown tries what the first bytes allow; both formats carry a checksum, so a wrong try fails.
  Outcome Inflate(Encoding encoding, Bytes compressed, Bytes& plain);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail::grpc
