// BatchQueue: records in on the decoding thread, sealed batches out on the shipping thread, bounded in
// between.
//
// Put() and Close() on one thread, Take() on another, the rest on any. A mutex guards all of it: uncontended
// but for the moment a batch is taken.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "common/record_codec.h"

namespace keytrail {

struct SealedBatch {
  std::string payload;
  uint32_t records = 0;
  int64_t first_ns = 0;  // of its records' times; 0: not known
  int64_t last_ns = 0;
};

class BatchQueue {
 public:
  // on_sealed is called after a batch became available, on the putting thread.
  BatchQueue(size_t queue_bytes, size_t batch_records, bool block_when_full, std::function<void()> on_sealed);

  void Put(const CallRecord& call);
  void PutLoss(const LossRecord& loss);
  // Seals the rest. Nothing may be put after.
  void Close();

  // False if no batch is ready. A batch that is not full is taken when it is limits::kMaxBatchAgeNs old, or
  // after Close(). now_ns: any steady clock.
  bool Take(int64_t now_ns, SealedBatch& batch);
  // Closed, and everything taken.
  bool drained() const;
  // No sealed batch waits.
  bool idle() const;
  // From now on everything put is dropped, nobody waits, and what is queued is dropped too.
  void Abandon();

  uint64_t records() const;
  uint64_t records_dropped() const;

 private:
  void Seal(std::unique_lock<std::mutex>& lock);
  void DropCurrent();
  bool has_current() const;

  const size_t queue_bytes_;
  const size_t batch_records_;
  const bool block_when_full_;
  const std::function<void()> on_sealed_;

  mutable std::mutex mutex_;
  std::condition_variable room_;
  BatchEncoder encoder_;
  // Outside the encoder, so that they survive a batch that is dropped.
  std::vector<LossRecord> losses_;
  LossRecord queue_full_;
  int64_t first_ns_ = 0;
  int64_t last_ns_ = 0;
  int64_t encoder_since_ns_ = 0;  // by the clock of Take(); 0: not looked at yet
  std::deque<SealedBatch> sealed_;
  size_t sealed_bytes_ = 0;
  bool sealing_ = false;  // a full batch in the encoder waits for room
  bool closed_ = false;
  bool abandoned_ = false;
  uint64_t records_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace keytrail
