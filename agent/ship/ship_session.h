// ShipSession: the agent's half of the protocol (proto/keytrail/record.proto), without socket, thread or
// clock.
//
// Envelopes as bytes in and out; time comes in as nanoseconds of any steady clock. Whenever the session is in
// doubt it says Hello again, and the collector's Welcome tells where to go on: what is sealed is sent until
// it is acknowledged. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "agent/ship/batch_source.h"
#include "common/bytes.h"

namespace keytrail {

inline constexpr uint32_t kProtocolVersion = 1;

class ShipSession {
 public:
  // `source` must outlive the session. One session an epoch.
  ShipSession(ShipIdentity identity, BatchSource& source);

  // The next envelope to send, if one is due. Call again until false. What it gives must be sent, or the
  // session will say Hello again after a while.
  bool Next(int64_t now_ns, std::string& message);
  // An envelope from the collector. Damaged ones are ignored.
  void OnMessage(int64_t now_ns, Bytes message);

  bool done() const { return state_ == State::kDone; }
  // The collector takes batches now, as far as is known: it answered the latest Hello with a Welcome.
  bool open() const { return state_ == State::kOpen || state_ == State::kBye || state_ == State::kDone; }
  // What the collector said when it last took nothing, until it does again.
  const std::string& turned_away() const { return turned_away_; }
  // Not empty: refused for good, and why.
  const std::string& failure() const { return failure_; }
  bool welcomed() const { return welcomed_; }
  // When the collector last acknowledged something new or welcomed us, or there was nothing to wait for; the
  // time of the first Next() if never.
  int64_t progress_ns() const { return progress_ns_; }

  size_t unacknowledged_records() const;
  uint64_t batches_sent() const { return batches_sent_; }
  uint64_t batches_acknowledged() const { return batches_acknowledged_; }
  uint64_t records_acknowledged() const { return records_acknowledged_; }
  uint64_t payload_bytes() const { return payload_bytes_; }
  uint64_t wire_bytes() const { return wire_bytes_; }
  uint64_t hellos() const { return hellos_; }
  uint64_t records_refused() const { return records_refused_; }

 private:
  enum class State : uint8_t { kHello, kOpen, kBye, kDone, kFailed };

  struct InFlight {
    uint64_t sequence = 0;
    uint32_t records = 0;
    int64_t first_ns = 0;
    int64_t last_ns = 0;
    std::string message;  // the envelope
    int refused = 0;      // times that it was called damaged
  };

  std::string Hello();
  bool TakeNext(int64_t now_ns);
  bool MayGo(int64_t now_ns);
  void AcknowledgeUpTo(int64_t now_ns, uint64_t sequence);
  void SayHelloAt(int64_t when_ns);
  void DropRefused(uint64_t sequence);

  const ShipIdentity identity_;
  BatchSource& source_;
  State state_ = State::kHello;
  std::string failure_;
  std::string turned_away_;
  bool started_ = false;
  bool welcomed_ = false;
  int64_t hello_due_ns_ = 0;
  int64_t hello_wait_ns_ = 0;
  int64_t heard_ns_ = 0;
  int64_t sent_ns_ = 0;
  int64_t progress_ns_ = 0;
  int64_t acknowledged_ns_ = 0;
  int64_t bye_due_ns_ = 0;
  int64_t bye_since_ns_ = 0;

  std::deque<InFlight> in_flight_;  // sealed and not acknowledged, in order
  size_t next_to_send_ = 0;         // index into in_flight_
  uint64_t last_sequence_ = 0;      // of the newest one that was taken
  uint64_t expected_ = 1;           // what the collector wants next
  uint64_t offered_ = 0;            // first_available of the latest Hello
  uint64_t committed_ = 0;          // what the collector said that it has
  uint32_t credit_ = 0;

  uint64_t batches_sent_ = 0;
  uint64_t batches_acknowledged_ = 0;
  uint64_t records_acknowledged_ = 0;
  uint64_t payload_bytes_ = 0;
  uint64_t wire_bytes_ = 0;
  uint64_t hellos_ = 0;
  uint64_t records_refused_ = 0;
};

}  // namespace keytrail
