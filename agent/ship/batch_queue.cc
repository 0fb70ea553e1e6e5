#include "agent/ship/batch_queue.h"

#include <algorithm>

#include "common/limits.h"

namespace keytrail {

namespace {

// More than any cause makes between two batches; far below what one batch takes.
constexpr size_t kMaxWaitingLosses = limits::kMaxBatchLosses / 2;

}  // namespace

BatchQueue::BatchQueue(size_t queue_bytes, size_t batch_records, bool block_when_full,
                       std::function<void()> on_sealed)
    : queue_bytes_(queue_bytes),
      batch_records_(std::min(batch_records, limits::kMaxBatchRecords)),
      block_when_full_(block_when_full),
      on_sealed_(std::move(on_sealed)) {}

void BatchQueue::Put(const CallRecord& call) {
  std::unique_lock lock(mutex_);
  ++records_;
  if (abandoned_) {
    ++dropped_;
    return;
  }
  encoder_.Add(call);
  for (TimeNs t : {call.req_first, call.req_last, call.resp_first, call.resp_last}) {
    if (!t.known()) continue;
    if (first_ns_ == 0 || t.ns < first_ns_) first_ns_ = t.ns;
    last_ns_ = std::max(last_ns_, t.ns);
  }
  if (encoder_.records() < batch_records_ && encoder_.bytes() < limits::kMaxBatchBytes) return;
  Seal(lock);
  lock.unlock();
  on_sealed_();
}

void BatchQueue::PutLoss(const LossRecord& loss) {
  const std::lock_guard lock(mutex_);
  if (abandoned_) return;
  if (losses_.size() < kMaxWaitingLosses) {
    losses_.push_back(loss);
    return;
  }
  for (LossRecord& other : losses_) {
    if (other.kind != loss.kind) continue;
    other.count += loss.count;
    other.first_ns = other.last_ns = 0;
    return;
  }
}

void BatchQueue::Close() {
  std::unique_lock lock(mutex_);
  if (!encoder_.empty() && !abandoned_) Seal(lock);
  closed_ = true;
  lock.unlock();
  on_sealed_();
}

// No room: the records are lost, and a loss record will say so.
void BatchQueue::DropCurrent() {
  const uint64_t records = encoder_.records();
  (void)encoder_.Finish();
  dropped_ += records;
  if (abandoned_ || records == 0) return;
  queue_full_.kind = "ship_queue_full";
  queue_full_.count += records;
  if (queue_full_.first_ns == 0 || first_ns_ < queue_full_.first_ns) queue_full_.first_ns = first_ns_;
  queue_full_.last_ns = std::max(queue_full_.last_ns, last_ns_);
}

// Puts the current batch into the queue, or drops it. Waits for room if it may.
void BatchQueue::Seal(std::unique_lock<std::mutex>& lock) {
  // One batch always fits, however large.
  const auto has_room = [&] {
    return abandoned_ || sealed_.empty() || sealed_bytes_ + encoder_.bytes() <= queue_bytes_;
  };
  if (block_when_full_) {
    sealing_ = true;
    room_.wait(lock, has_room);
    sealing_ = false;
  }
  if (abandoned_ || !has_room()) {
    DropCurrent();
  } else {
    for (const LossRecord& loss : losses_) encoder_.AddLoss(loss);
    losses_.clear();
    if (queue_full_.count != 0) encoder_.AddLoss(queue_full_);
    queue_full_ = LossRecord{};
    SealedBatch batch;
    batch.records = static_cast<uint32_t>(encoder_.records());
    batch.payload = encoder_.Finish();
    batch.first_ns = first_ns_;
    batch.last_ns = last_ns_;
    sealed_bytes_ += batch.payload.size();
    sealed_.push_back(std::move(batch));
  }
  first_ns_ = last_ns_ = 0;
  encoder_since_ns_ = 0;
}

bool BatchQueue::has_current() const {
  return !encoder_.empty() || !losses_.empty() || queue_full_.count != 0;
}

bool BatchQueue::Take(int64_t now_ns, SealedBatch& batch) {
  std::unique_lock lock(mutex_);
  if (sealed_.empty()) {
    if (!has_current() || sealing_) return false;
    if (encoder_since_ns_ == 0) encoder_since_ns_ = now_ns;
    if (!closed_ && now_ns - encoder_since_ns_ < limits::kMaxBatchAgeNs) return false;
    Seal(lock);  // the queue is empty: there is room
  }
  batch = std::move(sealed_.front());
  sealed_.pop_front();
  sealed_bytes_ -= batch.payload.size();
  lock.unlock();
  room_.notify_one();
  return true;
}

bool BatchQueue::drained() const {
  const std::lock_guard lock(mutex_);
  return closed_ && sealed_.empty() && !has_current();
}

bool BatchQueue::idle() const {
  const std::lock_guard lock(mutex_);
  return sealed_.empty();
}

void BatchQueue::Abandon() {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    dropped_ += encoder_.records();
    (void)encoder_.Finish();
    losses_.clear();
    queue_full_ = LossRecord{};
    for (const SealedBatch& batch : sealed_) dropped_ += batch.records;
    sealed_.clear();
    sealed_bytes_ = 0;
  }
  room_.notify_all();
}

uint64_t BatchQueue::records() const {
  const std::lock_guard lock(mutex_);
  return records_;
}

uint64_t BatchQueue::records_dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

}  // namespace keytrail
