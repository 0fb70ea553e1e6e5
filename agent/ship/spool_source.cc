#include "agent/ship/spool_source.h"

#include <pthread.h>

#include <chrono>
#include <csignal>

#include "common/clock.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// The age of a batch, syncing and retries are met with this precision.
constexpr std::chrono::milliseconds kTick{20};
// A whole segment goes at a time, so a spool that sheds does it now and then: so long it counts as shedding.
constexpr int64_t kShedsNs = 60'000'000'000;

}  // namespace

SpoolSource::SpoolSource(Options options, ShipIdentity identity, BatchQueue& queue,
                         std::function<void()> wake_shipper)
    : options_(std::move(options)),
      current_(std::move(identity)),
      queue_(queue),
      wake_shipper_(std::move(wake_shipper)) {}

Result<std::unique_ptr<SpoolSource>> SpoolSource::Start(Options options, ShipIdentity identity,
                                                        BatchQueue& queue,
                                                        std::function<void()> wake_shipper) {
  std::unique_ptr<SpoolSource> source(
      new SpoolSource(std::move(options), std::move(identity), queue, std::move(wake_shipper)));
  bool may_recover = false;
  Result<std::unique_ptr<Spool>> spool = Spool::Open(source->options_.spool, source->current_, may_recover);
  if (!spool && (!may_recover || source->options_.drain)) return Error{spool.error()};
  source->epochs_.push_back(source->current_);
  if (spool) {
    source->spool_ = std::move(*spool);
    source->TakeOver();
  } else {
    source->Trouble(spool.error(), SteadyNs());
  }
  // Signals are for the thread that captures.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  source->keeper_ = std::thread([s = source.get()] { s->Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return source;
}

SpoolSource::~SpoolSource() {
  Stop();
}

// The epochs that were found: before the current one, or behind it if that is under way already.
void SpoolSource::TakeOver() {
  const std::vector<ShipIdentity> old = spool_->OldEpochs();
  const std::lock_guard lock(mutex_);
  const bool begun = welcomed_ || last_sequence_ != 0;
  epochs_.insert(begun ? epochs_.end() : epochs_.begin(), old.begin(), old.end());
  if (!begun && !old.empty()) ++active_;
}

// ---------------------------------------------------------------------------------------------------------
// The shipping thread's side

void SpoolSource::Wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_one();
}

uint64_t SpoolSource::active() const {
  const std::lock_guard lock(mutex_);
  return epochs_.empty() ? 0 : active_;
}

ShipIdentity SpoolSource::identity() const {
  const std::lock_guard lock(mutex_);
  return epochs_.empty() ? current_ : epochs_.front();
}

void SpoolSource::EpochDone() {
  {
    const std::lock_guard lock(mutex_);
    epoch_done_ = true;
  }
  Wake();
}

bool SpoolSource::stuck() const {
  const std::lock_guard lock(mutex_);
  return stuck_;
}

bool SpoolSource::Next(int64_t, NumberedBatch& batch) {
  {
    const std::lock_guard lock(mutex_);
    if (ready_.empty()) return false;
    batch = std::move(ready_.front());
    ready_.pop_front();
    ready_bytes_ -= batch.message.size();
  }
  Wake();
  return true;
}

bool SpoolSource::idle() const {
  const std::lock_guard lock(mutex_);
  return ready_.empty() && !more_;
}

bool SpoolSource::drained() const {
  const std::lock_guard lock(mutex_);
  return ready_.empty() && all_given_;
}

void SpoolSource::Acknowledged(uint64_t sequence) {
  {
    const std::lock_guard lock(mutex_);
    welcomed_ = true;
    acknowledged_ = std::max(acknowledged_, sequence);
  }
  Wake();
}

void SpoolSource::Lost(const LossRecord& loss) {
  queue_.PutLoss(loss);
  const std::lock_guard lock(mutex_);
  all_given_ = false;
}

void SpoolSource::ShippingEnded() {
  {
    const std::lock_guard lock(mutex_);
    shipping_ended_ = true;
  }
  Wake();
}

void SpoolSource::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  Wake();
  if (keeper_.joinable()) keeper_.join();
}

std::string SpoolSource::problem() const {
  const std::string spool = "spool '" + options_.spool.folder + "'";
  const std::lock_guard lock(mutex_);
  if (!failing_.empty()) return failing_;
  if (stuck_) return spool + " is full, and waits for the collector";
  if (shed_ns_ == 0 || SteadyNs() - shed_ns_ >= kShedsNs) return {};
  return spool + " is full and sheds its oldest records: " + std::to_string(stats_.spool.records_shed) +
         " so far";
}

SpoolSourceStats SpoolSource::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

// ---------------------------------------------------------------------------------------------------------
// The keeper's side

void SpoolSource::Run() {
  for (;;) {
    const int64_t now = SteadyNs();
    OpenAgain(now);
    SettleEpoch();
    DropAcknowledged();
    WriteWaiting(now);
    bool worked = TakeFresh(now);
    worked = Refill(now) || worked;
    if (spool_ != nullptr) {
      const Status synced = spool_->Sync(now, false);
      if (!synced.ok()) Trouble(synced.error(), now);
      for (const LossRecord& loss : spool_->TakeLosses()) Lost(loss);
      for (const std::string& notice : spool_->TakeNotices()) Tell(notice);
    }
    Publish();
    std::unique_lock lock(mutex_);
    // At the end the queue is closed: what it holds is written first, as far as there is room.
    if (stop_ && !worked && (queue_.drained() || stuck_)) break;
    if (!worked) wake_.wait_for(lock, kTick, [&] { return woken_; });
    woken_ = false;
  }
  Close();
}

void SpoolSource::Trouble(const std::string& what, int64_t now_ns) {
  retry_ns_ = now_ns + limits::kSpoolRetryNs;
  if (trouble_) return;
  trouble_ = true;
  {
    const std::lock_guard lock(mutex_);
    ++stats_.disk_failures;
    failing_ = what;
  }
  Tell(what + "; shipping goes on from memory until it can be written");
}

void SpoolSource::OpenAgain(int64_t now_ns) {
  if (spool_ != nullptr || now_ns < retry_ns_) return;
  bool may_recover = false;
  Result<std::unique_ptr<Spool>> spool = Spool::Open(options_.spool, current_, may_recover);
  if (!spool) return Trouble(spool.error(), now_ns);
  spool_ = std::move(*spool);
  TakeOver();
  if (waiting_.empty()) {
    trouble_ = false;
    Tell("spool '" + options_.spool.folder + "' can be used again");
  }
}

// What the collector said since the last time; the next epoch, if this one is done.
void SpoolSource::SettleEpoch() {
  std::unique_lock lock(mutex_);
  if (epochs_.empty()) return;
  const ShipIdentity active = epochs_.front();
  const uint64_t acknowledged = acknowledged_;
  const bool done = epoch_done_;
  lock.unlock();
  if (active.epoch == current_.epoch) stored_ = acknowledged;
  if (spool_ != nullptr) {
    spool_->Acknowledge(active.epoch, acknowledged);
    if (done) spool_->Complete(active.epoch);
    for (const LossRecord& loss : spool_->TakeLosses()) queue_.PutLoss(loss);
  }
  if (!done) return;
  lock.lock();
  epoch_done_ = false;
  // Losses of it may still want the current epoch.
  epochs_.pop_front();
  ready_.clear();
  ready_bytes_ = 0;
  acknowledged_ = 0;
  welcomed_ = all_given_ = more_ = false;
  ++active_;
  lock.unlock();
  wake_shipper_();
}

void SpoolSource::DropAcknowledged() {
  while (!waiting_.empty() && waiting_.front().sequence <= stored_) {
    waiting_bytes_ -= waiting_.front().message.size();
    waiting_.pop_front();
  }
}

void SpoolSource::WriteWaiting(int64_t now_ns) {
  if (spool_ == nullptr || (trouble_ && now_ns < retry_ns_)) return;
  while (!waiting_.empty()) {
    const NumberedBatch& batch = waiting_.front();
    const Status written = spool_->Append(batch, batch.sequence <= given_);
    if (!written.ok()) {
      // A full spool that must not shed is no trouble: it waits for the collector.
      if (options_.spool.shed_when_full || spool_->stats().bytes < options_.spool.max_bytes / 2) {
        Trouble(written.error(), now_ns);
      }
      return;
    }
    waiting_bytes_ -= batch.message.size();
    waiting_.pop_front();
    if (trouble_) Tell("spool '" + options_.spool.folder + "' is written again");
    trouble_ = false;
  }
}

// Numbers what the queue has, hands it over at once if the shipper has all before it, and writes it.
bool SpoolSource::TakeFresh(int64_t now_ns) {
  bool worked = false;
  SealedBatch sealed;
  // Not without end: a host that is faster than the disk would be all that is attended to.
  for (uint32_t n = 0; n < limits::kCreditBatches && waiting_bytes_ < limits::kMaxUnspooledBytes; ++n) {
    if (!queue_.Take(now_ns, sealed)) break;
    worked = true;
    waiting_.push_back(NumberBatch(sealed, ++last_sequence_));
    waiting_bytes_ += waiting_.back().message.size();
    Refill(now_ns);
    WriteWaiting(now_ns);
  }
  const bool stuck = waiting_bytes_ >= limits::kMaxUnspooledBytes;
  bool ended = false;
  {
    const std::lock_guard lock(mutex_);
    stuck_ = stuck;
    ended = shipping_ended_;
  }
  // Nothing will ever make room: who waits for it must not.
  if (stuck && ended && !options_.spool.shed_when_full) queue_.Abandon();
  return worked;
}

// The current epoch's next batch, from the disk or from memory.
bool SpoolSource::NextForShipper(NumberedBatch& batch, uint64_t after) {
  if (spool_ != nullptr && spool_->HasUnread(current_.epoch) && spool_->Read(current_.epoch, after, batch))
    return true;
  for (const NumberedBatch& waiting : waiting_) {
    if (waiting.sequence <= after) continue;
    batch = waiting;
    return true;
  }
  return false;
}

// Fills what the shipping thread takes from. True if anything was given.
bool SpoolSource::Refill(int64_t) {
  bool gave = false;
  for (;;) {
    std::unique_lock lock(mutex_);
    if (epochs_.empty() || shipping_ended_) break;
    if (ready_.size() >= limits::kCreditBatches || ready_bytes_ >= limits::kMaxReadyBytes) {
      more_ = true;
      break;
    }
    const ShipIdentity active = epochs_.front();
    const uint64_t acknowledged = acknowledged_;
    const bool welcomed = welcomed_;
    const bool is_current = active.epoch == current_.epoch;
    lock.unlock();
    NumberedBatch batch;
    bool found = false;
    bool all = false;
    if (is_current) {
      // Losses may become a batch: the queue is asked before the rest.
      const bool queue_drained = queue_.drained();
      found = NextForShipper(batch, std::max(given_, acknowledged));
      all = !found && queue_drained && given_ >= last_sequence_;
      if (!found && queue_drained) all = true;
    } else {
      // What the collector has already need not be read.
      if (!welcomed) break;
      found = spool_ != nullptr && spool_->Read(active.epoch, acknowledged, batch);
      all = !found;
    }
    lock.lock();
    more_ = found;
    if (found) {
      if (is_current) given_ = batch.sequence;
      ready_bytes_ += batch.message.size();
      ready_.push_back(std::move(batch));
      gave = true;
      continue;
    }
    // Draining, and no loss came up: there is no epoch of this start.
    const bool nothing = all && is_current && options_.drain && last_sequence_ == 0;
    if (nothing) epochs_.pop_front();
    const bool news = nothing || (all && !all_given_);
    all_given_ = all;
    lock.unlock();
    if (news) wake_shipper_();
    break;
  }
  if (gave) wake_shipper_();
  return gave;
}

void SpoolSource::Publish() {
  const SpoolStats spool = spool_ != nullptr ? spool_->stats() : SpoolStats();
  const std::lock_guard lock(mutex_);
  if (spool.records_shed != stats_.spool.records_shed) shed_ns_ = SteadyNs();
  stats_.spool = spool;
  if (!trouble_) failing_.clear();
}

void SpoolSource::Close() {
  SettleEpoch();
  DropAcknowledged();
  WriteWaiting(retry_ns_);
  uint64_t lost = 0;
  for (const NumberedBatch& batch : waiting_) lost += batch.records;
  uint64_t left = 0;
  if (spool_ != nullptr) {
    const Status synced = spool_->Sync(0, true);
    if (!synced.ok()) Tell(synced.error());
    left = spool_->RecordsLeft();
    if (stored_ == last_sequence_) spool_->Complete(current_.epoch);
    for (const std::string& notice : spool_->TakeNotices()) Tell(notice);
  }
  Publish();
  spool_.reset();
  const std::lock_guard lock(mutex_);
  stats_.records_left = left;
  stats_.records_lost = lost;
}

}  // namespace keytrail
