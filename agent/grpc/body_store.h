// Buffers for messages that are not in one piece, with one cap over all of them.
//
// Not thread-safe. A buffer taken must be given back to the same store (or destroyed with it).
#pragma once

#include <memory>
#include <vector>

#include "agent/grpc/pool.h"
#include "common/bytes.h"
#include "common/limits.h"

namespace keytrail::grpc {

using Body = std::vector<uint8_t>;

class BodyStore {
 public:
  explicit BodyStore(size_t max_bytes = limits::kMaxPartialBytes) : max_bytes_(max_bytes) {}

  std::unique_ptr<Body> Take() {
    std::unique_ptr<Body> body = pool_.Take();
    body->clear();
    return body;
  }

  // False and nothing appended if all bodies together would pass the cap.
  bool Append(Body& body, Bytes bytes) {
    if (held_bytes_ + bytes.size() > max_bytes_) return false;
    held_bytes_ += bytes.size();
    body.insert(body.end(), bytes.begin(), bytes.end());
    return true;
  }

  void Clear(Body& body) {
    held_bytes_ -= body.size();
    body.clear();
  }

  void Give(std::unique_ptr<Body> body) {
    if (body == nullptr) return;
    Clear(*body);
    if (body->capacity() <= kKeptBytes) pool_.Give(std::move(body));
  }

  size_t held_bytes() const { return held_bytes_; }

 private:
  // Larger buffers are freed: a few huge messages must not stay for ever.
  static constexpr size_t kKeptBytes = 256u << 10;

  Pool<Body> pool_{64};
  size_t held_bytes_ = 0;
  size_t max_bytes_;
};

}  // namespace keytrail::grpc
