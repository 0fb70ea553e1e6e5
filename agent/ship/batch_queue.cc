#include "agent/ship/batch_queue.h"

#include <algorithm>

#include "common/limits.h"

namespace keytrail {

BatchQueue::BatchQueue(size_t queue_bytes, size_t batch_records, bool block_when_full,
                       std::function<void()> on_sealed)
    : queue_bytes_(queue_bytes),
      batch_records_(batch_records),
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
  if (!abandoned_) encoder_.AddLoss(loss);
}

void BatchQueue::Close() {
  std::unique_lock lock(mutex_);
  if (!encoder_.empty() && !abandoned_) Seal(lock);
  closed_ = true;
  lock.unlock();
  on_sealed_();
}

// Puts the current batch into the queue, or drops it. Waits for room if it may.
void BatchQueue::Seal(std::unique_lock<std::mutex>& lock) {
  SealedBatch batch;
  batch.records = static_cast<uint32_t>(encoder_.records());
  batch.payload = encoder_.Finish();
  batch.first_ns = first_ns_;
  batch.last_ns = last_ns_;
  first_ns_ = last_ns_ = 0;
  encoder_since_ns_ = 0;
  // One batch always fits, however large.
  const auto has_room = [&] {
    return abandoned_ || sealed_.empty() || sealed_bytes_ + batch.payload.size() <= queue_bytes_;
  };
  if (block_when_full_) {
    // The batch is taken out of the encoder already: Take() must not see half of it.
    room_.wait(lock, has_room);
  }
  if (abandoned_ || !has_room()) {
    dropped_ += batch.records;
    if (!abandoned_) {
      encoder_.AddLoss({"ship_queue_full", batch.records, batch.first_ns, batch.last_ns});
    }
    return;
  }
  sealed_bytes_ += batch.payload.size();
  sealed_.push_back(std::move(batch));
}

bool BatchQueue::Take(int64_t now_ns, SealedBatch& batch) {
  std::unique_lock lock(mutex_);
  if (sealed_.empty()) {
    if (encoder_.empty()) return false;
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
  return closed_ && sealed_.empty() && encoder_.empty();
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
