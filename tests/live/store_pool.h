// A client's connections to one store: four, as grpc-connection-count has it, each with a BatchCommands
// stream that is opened when it is first used, or with unary calls as max-batch-size = 0 has it. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/live/store_checks.h"

namespace keytrail::live {

class BatchStream;

class StorePool {
 public:
  StorePool(const std::string& address, bool batch);
  ~StorePool();  // whoever waits for an answer gets none

  // Nothing if the connection broke or the answer took too long.
  std::optional<Answer> Ask(const Question& question);

 private:
  struct Connection;
  const bool batch_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::atomic<uint64_t> turn_{0};
  std::atomic<uint64_t> last_request_id_{0};
};

}  // namespace keytrail::live
