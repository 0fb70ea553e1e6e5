// Call records on the wire between agent and collector (proto/keytrail/record.proto).
//
// BatchEncoder turns CallRecords into the payload of a BATCH, BatchReader the payload back into records.
// Not thread-safe; one instance a thread. Everything is copied: no span of the input outlives a call.
// No protobuf type appears in this header.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/call_record.h"
#include "common/result.h"

namespace keytrail {

class BatchEncoder {
 public:
  BatchEncoder();
  ~BatchEncoder();

  void Add(const CallRecord& call);
  size_t records() const;
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

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
