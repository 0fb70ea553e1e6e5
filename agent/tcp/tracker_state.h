// The inside of TcpTracker, shared by its three source files: tcp_tracker.cc (connections from open to close,
// the fast path), intake.cc (what one segment says), waiting.cc (order, holes, caps).
#pragma once

#include <deque>
#include <limits>
#include <vector>

#include "agent/tcp/connection.h"
#include "agent/tcp/connection_table.h"
#include "agent/tcp/held_segments.h"
#include "agent/tcp/tcp_tracker.h"
#include "common/counters.h"
#include "common/limits.h"

namespace keytrail {

struct TcpTracker::State {
  State(ByteSink& s, Counters& c) : sink(s), counters(c) {}
  ~State();

  // tcp_tracker.cc
  void OnSegment(const Segment& s);
  void Advance(int64_t ns);
  void Finish(CloseReason reason);
  Connection& Create(const FlowView& flow, const Segment& s);
  void TellOpen(Connection& c);
  // Delivers or gives up all that is held, then closes; a reset or FIN that was seen before wins over
  // `reason`.
  void End(Connection& c, TimeNs time, CloseReason reason);
  void Close(Connection& c, TimeNs time, CloseReason reason);
  // Out of the table. The connection is closed.
  void Remove(Connection& c);
  void Touch(Connection& c);
  void Tick();
  void RunDeadlines();
  enum class Deadline : uint8_t { kSettle, kClose };
  void Schedule(Connection& c, Deadline what);
  void UpdateFast(Connection& c);
  void Disregard(const FlowKey& key);

  // intake.cc
  void OnSlowSegment(Connection* c, const FlowView& flow, const Segment& s);
  void PassOver(Connection& c, int d, const Segment& s);
  bool StartsAgain(const Connection& c, int d, const Segment& s) const;
  bool IsAnotherSyn(const Connection& c, int d, const Segment& s) const;
  void NoteSyn(Connection& c, int d, const Segment& s);
  void NoteReset(Connection& c, int d, const Segment& s);
  void NoteAck(Connection& c, int d, const Segment& s);
  // False: the segment is foreign and shows that a new connection has taken the place of this one.
  bool Take(Connection& c, int d, const Segment& s);
  bool TakeForeign(Half& x, uint32_t sequence, uint32_t length);
  void TakeOpen(Connection& c, int d, const Segment& s, uint32_t sequence);
  void Hold(Connection& c, int d, const Segment& s, uint32_t sequence, Bytes payload, uint32_t length,
            bool fin);

  // waiting.cc
  void Settle(Connection& c);
  void Drain(Connection& c);
  void Deliver(Connection& c, int d, TimeNs time, Bytes bytes, uint32_t length);
  void DeliverHeld(Connection& c, int d, const HeldSegment& held);
  void FinishHalf(Connection& c, int d, TimeNs time);
  void EmitGap(Connection& c, int d, TimeNs time, uint32_t length);
  bool MayFollow(const Connection& c, int d, bool has_ack, uint32_t acknowledgement) const;
  int OlderHead(const Connection& c) const;
  void GiveUp(Connection& c, int d, bool acknowledged_only);
  void GiveUpExpired(Connection& c);
  void EnforceCaps(Connection& c);
  void Relieve(Connection& c, int d, Counter cap);
  // After anything that may have changed what is held.
  void UpdateStuck(Connection& c);

  ByteSink& sink;
  Counters& counters;
  ConnectionTable table;
  HeldPool pool;
  ConnectionList<&Connection::idle> live;
  ConnectionList<&Connection::idle> closed;
  ConnectionList<&Connection::stuck> stuck;
  ConnectionList<&Connection::foreign> foreign;

  struct Due {
    Connection* connection;
    uint64_t generation;
    uint64_t segments;
    int64_t ns;
    Deadline what;
  };
  std::deque<Due> due;
  bool IsDue(const Due& d) const;

  std::vector<uint32_t> free_slots;
  uint32_t slots = 0;
  uint64_t serials = 0;
  uint64_t segments = 0;
  // The highest time seen (packets may be out of order), and when Tick() runs next.
  int64_t now = std::numeric_limits<int64_t>::min();
  int64_t next_tick = std::numeric_limits<int64_t>::min();
  uint32_t tick = 1;
};

}  // namespace keytrail
