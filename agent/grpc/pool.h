// Pool<T>: objects that are used again, so that a call costs no allocation in the steady state.
//
// Objects come as they were given back: whoever takes one resets it. Idle objects beyond `max_idle` are
// freed. Not thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace keytrail::grpc {

template <typename T>
class Pool {
 public:
  explicit Pool(size_t max_idle = 8192) : max_idle_(max_idle) {}

  std::unique_ptr<T> Take() {
    if (idle_.empty()) return std::make_unique<T>();
    std::unique_ptr<T> object = std::move(idle_.back());
    idle_.pop_back();
    return object;
  }

  void Give(std::unique_ptr<T> object) {
    if (object != nullptr && idle_.size() < max_idle_) idle_.push_back(std::move(object));
  }

 private:
  std::vector<std::unique_ptr<T>> idle_;
  size_t max_idle_;
};

}  // namespace keytrail::grpc
