// SpoolSource: batches for the shipping thread, kept in a spool on the way; first those of earlier starts of
// the agent, each epoch by itself, then those of this one.
//
// A thread of its own (the keeper) takes sealed batches from the queue, numbers them, hands them over if the
// shipping thread is near, and writes them. So neither the thread that decodes nor the one that ships ever
// waits for the disk. A disk that takes nothing is told once, and batches wait in memory until it does; when
// that is full the queue before it fills, and drops or waits as it does without a spool.
//
// Start(), Stop() and Abandon() on the owner's thread; BatchSource's functions, active(), identity() and
// EpochDone() on the shipping thread; stats() and problem() on any.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "agent/ship/batch_queue.h"
#include "agent/ship/batch_source.h"
#include "agent/ship/spool.h"

namespace keytrail {

struct SpoolSourceStats {
  SpoolStats spool;
  uint64_t disk_failures = 0;  // times that the disk stopped taking batches
  uint64_t records_left = 0;   // in the spool and not acknowledged; known after Stop()
  uint64_t records_lost = 0;   // neither in the spool nor acknowledged; known after Stop()
};

class SpoolSource final : public BatchSource {
 public:
  struct Options {
    SpoolOptions spool;
    // Only what is there already: no epoch of this start unless there is a loss to tell.
    bool drain = false;
    std::function<void(const std::string&)> tell;  // from the keeper's thread and from Start(); may be null
  };

  // The queue must outlive it. Opens the spool. Error: the folder cannot be used, and will not be later
  // either.
  static Result<std::unique_ptr<SpoolSource>> Start(Options options, ShipIdentity identity, BatchQueue& queue,
                                                    std::function<void()> wake_shipper);
  ~SpoolSource() override;

  // Something was sealed: from the queue's callback.
  void Wake();

  // Changes when another epoch is to be shipped; 0: all is done.
  uint64_t active() const;
  ShipIdentity identity() const;
  // The collector has all of the active epoch, and has said goodbye.
  void EpochDone();
  // No batch can be kept any more: neither disk nor memory has room.
  bool stuck() const;

  bool Next(int64_t now_ns, NumberedBatch& batch) override;
  bool idle() const override;
  bool drained() const override;
  void Acknowledged(uint64_t sequence) override;
  void Lost(const LossRecord& loss) override;

  // Nothing is shipped any more; what comes is still kept as long as there is room.
  void ShippingEnded();
  // Writes what the closed queue holds, as far as the disk takes it, and ends.
  void Stop();
  SpoolSourceStats stats() const;
  // Empty: what comes is kept. Else the disk takes nothing, there is no room, or something was shed not long
  // ago.
  std::string problem() const;

 private:
  SpoolSource(Options options, ShipIdentity identity, BatchQueue& queue, std::function<void()> wake_shipper);

  // The keeper's.
  void Run();
  void OpenAgain(int64_t now_ns);
  void TakeOver();
  void SettleEpoch();
  bool TakeFresh(int64_t now_ns);
  void WriteWaiting(int64_t now_ns);
  bool Refill(int64_t now_ns);
  bool NextForShipper(NumberedBatch& batch, uint64_t after);
  void Trouble(const std::string& what, int64_t now_ns);
  void DropAcknowledged();
  void Publish();
  void Close();
  void Tell(const std::string& what) const {
    if (options_.tell) options_.tell(what);
  }

  const Options options_;
  const ShipIdentity current_;
  BatchQueue& queue_;
  const std::function<void()> wake_shipper_;
  std::thread keeper_;

  // The keeper's alone.
  std::unique_ptr<Spool> spool_;       // null: cannot be opened now
  std::deque<NumberedBatch> waiting_;  // of the current epoch, not on disk
  size_t waiting_bytes_ = 0;
  uint64_t last_sequence_ = 0;  // of the current epoch
  uint64_t given_ = 0;          // of the current epoch: handed to the shipper
  uint64_t stored_ = 0;         // of the current epoch: acknowledged
  bool trouble_ = false;
  int64_t retry_ns_ = 0;
  std::string told_;

  mutable std::mutex mutex_;  // never held while the disk works; guards what follows
  std::condition_variable wake_;
  bool woken_ = false;
  bool stop_ = false;
  bool shipping_ended_ = false;
  bool stuck_ = false;
  std::deque<ShipIdentity> epochs_;  // to be shipped, the active one first
  uint64_t active_ = 1;
  bool epoch_done_ = false;
  bool welcomed_ = false;
  uint64_t acknowledged_ = 0;  // of the active epoch
  std::deque<NumberedBatch> ready_;
  size_t ready_bytes_ = 0;
  bool more_ = false;       // the keeper has more than is in ready_
  bool all_given_ = false;  // of the active epoch
  SpoolSourceStats stats_;
  std::string failing_;  // what the disk said
  int64_t shed_ns_ = 0;  // when something was shed last
};

}  // namespace keytrail
