// Asks a pipeline for attention a few times in a second, so that what is done now and then on the decoding
// thread (self-restraint, metrics) is done under load, too, and costs nothing per packet.
//
// A thread of its own for as long as it lives; the pipeline must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "agent/pipeline.h"

namespace keytrail {

inline constexpr int64_t kAttentionEveryNs = 250'000'000;

class AttentionTicker {
 public:
  explicit AttentionTicker(AgentPipeline& pipeline);
  ~AttentionTicker();

 private:
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace keytrail
