#include "agent/attention_ticker.h"

#include <pthread.h>

#include <chrono>
#include <csignal>

namespace keytrail {

AttentionTicker::AttentionTicker(AgentPipeline& pipeline) {
  // Signals are for the thread that captures.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this, &pipeline] {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stop_.wait_for(lock, std::chrono::nanoseconds(kAttentionEveryNs), [this] { return stopping_; })) {
      pipeline.RequestStatistics();
    }
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

AttentionTicker::~AttentionTicker() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  thread_.join();
}

}  // namespace keytrail
