#include "collector/query/running_queries.h"

#include <algorithm>
#include <utility>

namespace keytrail {

namespace {
// A client that has not read what it was sent by then is cut off.
constexpr std::chrono::milliseconds kGrace{1000};
}  // namespace

RunningQueries::Guard::Guard(RunningQueries& all, std::function<void()> cancel, grpc::ServerContext& client,
                             std::chrono::steady_clock::time_point until)
    : all_(all) {
  const std::lock_guard lock(all_.mutex_);
  entry_ = all_.entries_.emplace(all_.entries_.end());
  entry_->cancel = std::move(cancel);
  entry_->client = &client;
  entry_->until = until;
}

RunningQueries::Guard::~Guard() {
  const std::lock_guard lock(all_.mutex_);
  all_.entries_.erase(entry_);
}

void RunningQueries::EndOverdue(std::chrono::steady_clock::time_point now) {
  const std::lock_guard lock(mutex_);
  for (Guard::Entry& entry : entries_) {
    Reason none = Reason::kNone;
    if (entry.client->IsCancelled()) entry.reason.compare_exchange_strong(none, Reason::kClientGone);
    if (now >= entry.until) entry.reason.compare_exchange_strong(none, Reason::kTime);
    if (entry.reason != Reason::kNone) entry.cancel();
    if (entry.reason != Reason::kClientGone && now >= entry.until + kGrace) entry.client->TryCancel();
  }
}

void RunningQueries::AbortAll() {
  const std::lock_guard lock(mutex_);
  for (Guard::Entry& entry : entries_) {
    Reason none = Reason::kNone;
    entry.reason.compare_exchange_strong(none, Reason::kAborted);
    entry.cancel();
    // A client that does not read holds its query up in sending.
    entry.until = std::min(entry.until, std::chrono::steady_clock::now());
  }
}

}  // namespace keytrail
