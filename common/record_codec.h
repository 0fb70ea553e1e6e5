// Call records on the wire between agent and collector (proto/keytrail/record.proto).
//
// BatchEncoder turns CallRecords into the payload of a BATCH, BatchReader the payload back into records.
// Not thread-safe; one instance a thread. Everything is copied: no span of the input outlives a call.
// No protobuf type appears in this header.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/call_record.h"
#include "common/result.h"

namespace keytrail {

// Something that an agent should have told and could not (record.proto, Loss).
struct LossRecord {
  std::string kind;  // name of the counter, or a reason such as "ship_queue_full"
  uint64_t count = 0;
  int64_t first_ns = 0;  // by the capture's clock; 0: not known
  int64_t last_ns = 0;
};

class BatchEncoder {
 public:
  BatchEncoder();
  ~BatchEncoder();

  // A record larger than limits::kMaxRecordBytes goes without its facts and messages, with over_cap set.
  // The caller finishes the batch at limits::kMaxBatchBytes or kMaxBatchRecords.
  void Add(const CallRecord& call);
  // Beyond limits::kMaxBatchLosses in one batch, the count is added to one of the same kind, whose times are
  // not known then.
  void AddLoss(const LossRecord& loss);
  size_t records() const;
  bool empty() const;    // neither records nor losses
  size_t bytes() const;  // serialized so far, before compression
  // The serialized records; the encoder is empty afterwards.
  std::string Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A record that owns all it refers to. call.request points to `request` (or is null), likewise response.
// Not movable: `call` points into it. Reused by BatchReader::Next without allocation in the steady state.
struct OwnedRecord {
  CallRecord call;
  MessageFacts request;
  MessageFacts response;
  ByteArena strings;

  OwnedRecord() = default;
  OwnedRecord(const OwnedRecord&) = delete;
  OwnedRecord& operator=(const OwnedRecord&) = delete;
};

class BatchReader {
 public:
  // `payload` is what BatchEncoder::Finish gave; it must outlive the reader. Nothing in it is trusted.
  explicit BatchReader(Bytes payload);
  ~BatchReader();

  // True and `record` filled; false at the end; an Error with the offset if the payload is damaged.
  Result<bool> Next(OwnedRecord& record);
  // Those that were passed so far; all of them after Next() gave false.
  const std::vector<LossRecord>& losses() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// zstd, as `payload` of a BATCH stands on the wire. Compress cannot fail but for memory (then: empty).
std::string CompressBatch(const std::string& payload);
// Error if `compressed` is not one zstd frame of exactly payload_size bytes, or payload_size is larger than
// limits::kMaxPayloadBytes. `payload` is overwritten; its capacity is used again.
Status DecompressBatch(Bytes compressed, size_t payload_size, std::string& payload);

}  // namespace keytrail
