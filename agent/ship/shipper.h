// Shipper: call records to a collector over ZeroMQ, each stored there exactly once
// (proto/keytrail/record.proto).
//
// Thread contract: Submit(), SubmitLoss() and Finish() belong to one thread (the decoding one). A thread of
// the Shipper's own compresses, sends, and waits for acknowledgements; between the two is a bounded queue of
// encoded batches. When it is full, Submit() waits (file input), or drops the batch, counts it, and ships a
// loss record "ship_queue_full" (live capture). Records are copied; no span outlives a call.
//
// A collector that is away is not an error for a live capture: the Shipper goes on trying. For file input it
// is one after `connect_timeout_ns`. Message bytes are not shipped unless asked for. Nothing is thrown.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/grpc/call_events.h"
#include "common/call_record.h"
#include "common/counters.h"
#include "common/curve_key.h"
#include "common/limits.h"
#include "common/record_codec.h"
#include "common/redaction.h"
#include "common/result.h"

namespace keytrail {

struct ShipperOptions {
  std::string address;           // tcp://HOST:PORT, ipc://PATH, inproc://NAME, or plain HOST:PORT
  std::string agent_key;         // the agent's name on the wire; empty: agent_name, else the host's name
  std::string agent_name;        // the host's name as the user gives it, or empty
  std::string role;              // "tidb", "pd", "tikv", or empty: found from the traffic
  std::string input;             // device or file, for people
  Redaction redaction;           // how the records have their keys; the Shipper itself changes none
  bool block_when_full = false;  // file input: wait for the collector instead of dropping
  bool ship_messages = false;    // message bytes too (keys and VALUES leave the host)

  // Without them the collector must be on this host.
  std::optional<AgentKeys> keys;

  // Not empty: batches are kept in this folder until they are stored (agent/ship/spool.h), those of an agent
  // that was killed as well.
  std::string spool;
  uint64_t spool_bytes = limits::kDefaultSpoolBytes;
  bool drain = false;  // ship what the spool has; nothing may be submitted
  // What a person should know, from any thread, while it goes on; may be null.
  std::function<void(const std::string&)> tell;

  // For inproc://: what Receiver::zmq_context() gave (a zmq::context_t); must outlive the Shipper.
  void* zmq_context = nullptr;
  uint64_t epoch = 0;                           // 0: random
  int64_t connect_timeout_ns = 10'000'000'000;  // without any answer; file input and Finish()
  int64_t finish_timeout_ns = 60'000'000'000;   // without progress; file input and Finish()
  size_t queue_bytes = limits::kMaxShipQueueBytes;
  size_t batch_records = limits::kMaxBatchRecords;
};

struct ShipperStats {
  uint64_t records = 0;          // given to Submit()
  uint64_t records_dropped = 0;  // of these: lost to a full queue, a failure, or refused for good
  uint64_t batches_sent = 0;     // resends included
  uint64_t batches_acknowledged = 0;
  uint64_t records_acknowledged = 0;  // in these; with a spool also records of earlier starts
  uint64_t payload_bytes = 0;         // of distinct batches, before zstd
  uint64_t wire_bytes = 0;            // of distinct batches, as sent
  uint64_t hellos = 0;                // 1 if nothing ever went wrong
  // With a spool.
  uint64_t spool_records_lost = 0;  // shed, or damaged on disk
  uint64_t spool_torn_tails = 0;
  uint64_t spool_disk_failures = 0;
  uint64_t spool_batches_written = 0;
  uint64_t spool_batches_read = 0;
  uint64_t spool_batches_damaged = 0;
  uint64_t spool_records_shed = 0;
  uint64_t spool_bytes = 0;  // on disk now
  uint64_t spool_segments = 0;
  uint64_t spool_records_left = 0;  // after Finish(): kept for a later start
};

class Shipper {
 public:
  // Error: the address is no address, its host has no name service entry, or no socket can be made. Does not
  // wait for the collector.
  static Result<std::unique_ptr<Shipper>> Start(const ShipperOptions& options);
  // Without Finish() what is not sent yet is dropped.
  ~Shipper();

  void Submit(const CallRecord& call);
  void SubmitLoss(const LossRecord& loss);
  // Seals what is left, waits until all is acknowledged and says goodbye. Error: names the address, the
  // reason and what was not stored. Nothing may be submitted after. With a spool what could not be shipped is
  // not lost: no Error then, but kept() is not empty. With `wait` false it does not wait for a collector that
  // takes nothing now.
  Status Finish(bool wait = true);
  // After Finish(): what the spool keeps, why, and what to do; empty: nothing.
  const std::string& kept() const;

  // Not empty: the Shipper has given up, and why; further records are dropped and counted.
  std::string failure() const;
  // Not empty: there is no connection, and why as far as it is known; it goes on trying.
  std::string trouble() const;
  // Empty: the collector takes batches. Else why it does not, or not yet.
  std::string not_taken() const;
  // Empty: the spool takes what it is given, or there is none. Else it fails, is full, or has just shed.
  std::string spool_problem() const;
  ShipperStats stats() const;

 private:
  friend void ShipLosses(const Counters& counters, Shipper& shipper, int64_t since_ns, int64_t until_ns);
  Shipper();
  struct State;
  std::unique_ptr<State> state_;
};

// Ships what the counters say was lost (drops, gaps, cuts, caps) since the last time it was called for this
// shipper. The times are those of that span, for drops; when a hole came about, or what hit a cap, is not
// known. 0: not known of drops either.
void ShipLosses(const Counters& counters, Shipper& shipper, int64_t since_ns = 0, int64_t until_ns = 0);

// The end of a pipeline: each call goes to the shipper, which must outlive the sink.
class ShipperSink final : public CallSink {
 public:
  explicit ShipperSink(Shipper& shipper) : shipper_(shipper) {}
  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord& call, MessageType, MessageType) override { shipper_.Submit(call); }

 private:
  Shipper& shipper_;
};

}  // namespace keytrail
