// BatchSource: where a ShipSession gets numbered batches from, ready to be sent: from memory (QueueSource) or
// from a spool on disk (SpoolSource). And who ships.
#pragma once

#include <cstdint>
#include <string>

#include "common/record_codec.h"
#include "common/redaction.h"

namespace keytrail {

struct ShipIdentity {
  std::string agent_key;
  std::string name;
  std::string role;
  uint64_t epoch = 0;
  std::string hostname;
  std::string input;
  Redaction redaction = {};
};

struct NumberedBatch {
  uint64_t sequence = 0;
  uint32_t records = 0;
  int64_t first_ns = 0;  // of its records' times; 0: not known
  int64_t last_ns = 0;
  size_t payload_bytes = 0;  // before zstd; 0: not known
  std::string message;       // the envelope, as it is sent
};

// All calls come from the shipping thread.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The next batch, if one is ready. Sequences grow; one that is missing does not exist any more.
  virtual bool Next(int64_t now_ns, NumberedBatch& batch) = 0;
  // No batch waits.
  virtual bool idle() const = 0;
  // Everything was given, and nothing will follow.
  virtual bool drained() const = 0;
  // The collector has everything up to `sequence`. Called with each welcome (0: it has nothing) and
  // acknowledgement.
  virtual void Acknowledged(uint64_t sequence) = 0;
  // To be told in a later batch.
  virtual void Lost(const LossRecord& loss) = 0;
};

class BatchQueue;
struct SealedBatch;

// Compresses a sealed batch and wraps it as it is sent.
NumberedBatch NumberBatch(const SealedBatch& sealed, uint64_t sequence);

// Batches of a queue, in memory alone. The queue must outlive it.
class QueueSource final : public BatchSource {
 public:
  explicit QueueSource(BatchQueue& queue) : queue_(queue) {}
  bool Next(int64_t now_ns, NumberedBatch& batch) override;
  bool idle() const override;
  bool drained() const override;
  void Acknowledged(uint64_t) override {}
  void Lost(const LossRecord& loss) override;

 private:
  BatchQueue& queue_;
  uint64_t last_sequence_ = 0;
};

}  // namespace keytrail
