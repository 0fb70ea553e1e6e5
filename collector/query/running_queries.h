// The queries that run just now, and who ends them: their clients went, their time is over, or the collector
// wants them out.
//
// Any thread. A query is told of with a Guard for as long as it runs.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>

#include <grpcpp/grpcpp.h>

namespace keytrail {

class RunningQueries {
 public:
  enum class Reason : uint8_t { kNone, kClientGone, kTime, kAborted };

  class Guard {
   public:
    // `all` and `client` must outlive the guard, and so must what `cancel` cancels. It may be called several
    // times, from another thread.
    Guard(RunningQueries& all, std::function<void()> cancel, grpc::ServerContext& client,
          std::chrono::steady_clock::time_point until);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    // Why it was ended from outside, if it was.
    Reason reason() const { return entry_->reason; }

   private:
    friend class RunningQueries;
    struct Entry {
      std::function<void()> cancel;
      grpc::ServerContext* client = nullptr;
      std::chrono::steady_clock::time_point until;
      std::atomic<Reason> reason = Reason::kNone;
    };
    RunningQueries& all_;
    std::list<Entry>::iterator entry_;
  };

  // To be called every now and then: ends queries whose client went or whose time is over. SQLite itself
  // looks at its clock, but not within a single long operation, and not while a client does not read.
  void EndOverdue(std::chrono::steady_clock::time_point now);
  void AbortAll();

 private:
  std::mutex mutex_;
  std::list<Guard::Entry> entries_;
};

}  // namespace keytrail
