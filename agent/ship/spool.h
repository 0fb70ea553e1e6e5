// Spool: numbered batches in a folder on disk, until the collector has committed them.
//
// Append-only segment files (spool_format.h), named <start>-<epoch>-<first sequence>.spool. Each start of an
// agent has an epoch of its own; epochs are shipped in the order of starts, and no clock is looked at. A
// segment is deleted as a whole: when all of it is acknowledged, or, if there is no room, oldest first, which
// makes a LossRecord "shed". What cannot be read is passed over and makes a LossRecord "spool_damaged"; what
// an agent that was killed had begun to write is cut off, and makes "spool_torn" if the collector does not
// have it.
//
// One thread at a time. Every call may wait for the disk. Nothing is thrown; no damage ends anything.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/ship/batch_source.h"
#include "agent/ship/spool_format.h"
#include "common/limits.h"
#include "common/record_codec.h"
#include "common/result.h"

namespace keytrail {

struct SpoolOptions {
  std::string folder;  // made if it is not there (its parent must be); nobody else may read it
  uint64_t max_bytes = limits::kDefaultSpoolBytes;
  uint64_t segment_bytes = 0;  // a segment ends when it is so long; 0: of max_bytes
  bool shed_when_full = true;  // else Append() fails
  bool one_redaction = true;   // refuse a folder with records whose keys are told in another way
  int64_t sync_interval_ns = limits::kSpoolSyncNs;
};

struct SpoolStats {
  uint64_t bytes = 0;  // of all segments
  uint64_t segments = 0;
  uint64_t batches_written = 0;
  uint64_t batches_read = 0;
  uint64_t torn_tails = 0;
  uint64_t damaged_batches = 0;
  uint64_t records_lost = 0;  // shed or damaged
  uint64_t records_shed = 0;
};

class Spool {
 public:
  // Locks the folder and looks at what is there. Error: the folder and the reason; `may_recover`: the disk is
  // full or read-only or failing, so that a later try may succeed.
  static Result<std::unique_ptr<Spool>> Open(const SpoolOptions& options, const ShipIdentity& identity,
                                             bool& may_recover);
  ~Spool();  // does not sync

  // Starts whose batches are here, the oldest first; without the current one.
  std::vector<ShipIdentity> OldEpochs() const;

  // Writes a batch of the current epoch; sequences grow. `given`: the reader has this one and all before it.
  // Error: full, or the errno text; nothing of the batch is in the spool then.
  Status Append(const NumberedBatch& batch, bool given);
  // To stable storage, if the interval is over (or `now`). Error: the errno text.
  Status Sync(int64_t now_ns, bool now);

  // The next batch of the epoch with a sequence above `after`, which must not fall. False: no more.
  bool Read(uint64_t epoch, uint64_t after, NumberedBatch& batch);
  // There may be something to read.
  bool HasUnread(uint64_t epoch) const;

  // The collector has all up to `sequence`: deletes what is not needed any more.
  void Acknowledge(uint64_t epoch, uint64_t sequence);
  // All that can be shipped of the epoch is shipped: deletes the rest of it.
  void Complete(uint64_t epoch);
  // Records that are not acknowledged; reads at most a segment an epoch.
  uint64_t RecordsLeft();

  // What was lost, and what a person should know, since the last call.
  std::vector<LossRecord> TakeLosses();
  std::vector<std::string> TakeNotices();
  SpoolStats stats() const;

 private:
  struct Segment {
    std::string name;
    uint64_t first_sequence = 0;
    uint64_t last_sequence = 0;  // an upper bound for those of earlier starts
    uint64_t records_before = 0;
    uint64_t records = 0;
    uint64_t header_bytes = 0;
    uint64_t bytes = 0;
  };
  struct Loaded {
    explicit Loaded(uint64_t epoch, std::string read)
        : data(std::move(read)), scanner(epoch, AsBytes(data)) {}
    std::string data;
    SpoolScanner scanner;
  };
  // An epoch, and how far it is read.
  struct Epoch {
    uint64_t start = 0;
    ShipIdentity identity;
    std::deque<Segment> segments;
    uint64_t acknowledged = 0;
    size_t read_segment = 0;   // index
    uint64_t read_offset = 0;  // in it; 0: not begun
    uint64_t read_sequence = 0;
    uint64_t read_records = 0;  // records_before that is expected next
    bool read_any = false;
    std::unique_ptr<Loaded> loaded;  // from read_offset on
    std::optional<LossRecord> torn;
    uint64_t torn_sequence = 0;
  };

  explicit Spool(const SpoolOptions& options) : options_(options) {}
  Status OpenFolder(bool& may_recover);
  Status Lock(bool& may_recover);
  Status FindSegments();
  void AddFile(const std::string& name);
  void SettleSegments(Epoch& epoch);
  void RepairTail(Epoch& epoch, Segment& segment);

  Epoch* Find(uint64_t epoch);
  const Epoch* Find(uint64_t epoch) const;
  Epoch& current() { return *epochs_.back(); }
  Result<std::string> Load(const Segment& segment, uint64_t from) const;
  Status OpenSegment(uint64_t sequence);
  void CloseSegment();
  Status MakeRoom(uint64_t bytes);
  void ShedOldest(Epoch& epoch);
  void DeleteFront(Epoch& epoch);
  void NextSegment(Epoch& epoch);
  void Damaged(const LossRecord& loss);
  void Notice(const std::string& text) { notices_.push_back("spool '" + options_.folder + "': " + text); }
  std::string Path(const std::string& name) const { return options_.folder + "/" + name; }

  SpoolOptions options_;
  int folder_fd_ = -1;
  int lock_fd_ = -1;
  std::vector<std::unique_ptr<Epoch>> epochs_;  // by start; the current one last
  uint64_t bytes_ = 0;
  size_t segments_ = 0;

  // The segment that is written, the current epoch's last; -1: none.
  int fd_ = -1;
  uint64_t records_written_ = 0;
  bool unsynced_ = false;
  bool new_name_ = false;
  int64_t synced_ns_ = 0;

  std::vector<LossRecord> losses_;
  std::vector<std::string> notices_;
  SpoolStats stats_;
};

}  // namespace keytrail
