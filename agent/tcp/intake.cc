// What one segment says that did not pass straight through.

#include <algorithm>

#include "agent/tcp/tracker_state.h"

namespace keytrail {
namespace {

bool InWindow(int32_t distance) {
  return distance <= limits::kSequenceWindow && distance >= -limits::kSequenceWindow;
}

bool Has(const Segment& s, uint8_t flag) {
  return (s.flags & flag) != 0;
}

// A keep-alive may repeat one old byte (RFC 9293 section 3.8.4). On a direction whose place is not known yet
// it looks like data; but the peer has acknowledged it in an earlier packet.
bool MayBeKeepAlive(const Half& x, const Segment& s) {
  return s.payload_length == 1 && x.acked_known && x.acked_time < s.time &&
         Distance(x.acked, s.sequence + 1) >= 0;
}

}  // namespace

void TcpTracker::State::OnSlowSegment(Connection* c, const FlowView& flow, const Segment& s) {
  const int d = flow.direction;
  const bool syn = Has(s, tcp_flag::kSyn);
  if (c != nullptr && c->closed) {
    if (!StartsAgain(*c, d, s)) return;
    Remove(*c);
    c = nullptr;
  }
  if (c == nullptr) {
    // The last words of a connection that ended, or empty segments of one joined late: nothing to tell.
    if ((s.payload_length == 0 && !syn) || Has(s, tcp_flag::kRst)) return;
    c = &Create(flow, s);
  } else if (c->unread && !(syn && IsAnotherSyn(*c, d, s))) {
    PassOver(*c, d, s);
    return;
  } else if (syn && IsAnotherSyn(*c, d, s)) {
    End(*c, s.time, CloseReason::kReplaced);
    Remove(*c);
    c = &Create(flow, s);
  }
  Touch(*c);
  ++c->segments;
  c->half[d].seen = true;
  if (syn) NoteSyn(*c, d, s);
  if (Has(s, tcp_flag::kRst)) {
    NoteReset(*c, d, s);
  } else {
    if (Has(s, tcp_flag::kAck)) NoteAck(*c, d, s);
    if (!Take(*c, d, s)) {
      End(*c, s.time, CloseReason::kReplaced);
      Remove(*c);
      c = &Create(flow, s);
      c->half[d].seen = true;
      Take(*c, d, s);
    }
  }
  // Empty segments do not begin a connection, so they must not date it either.
  if (!c->told && (syn || s.payload_length != 0)) c->open_time = std::min(c->open_time, s.time);
  if (!c->closed && !c->settled && c->half[0].start_from_syn && c->half[1].start_from_syn) Settle(*c);
  if (!c->closed && c->settled) {
    Drain(*c);
    if (!c->closed) GiveUpExpired(*c);
  }
  UpdateStuck(*c);
  if (!c->closed) EnforceCaps(*c);
  if (!c->closed) UpdateFast(*c);
}

// Of a connection that is not read only the end matters.
void TcpTracker::State::PassOver(Connection& c, int d, const Segment& s) {
  ++c.unread_segments;
  counters.Add(Counter::kSegmentsUnread);
  Touch(c);
  if (Has(s, tcp_flag::kFin)) c.half[d].finished = true;
  if (Has(s, tcp_flag::kRst)) {
    End(c, s.time, CloseReason::kReset);
  } else if (c.half[0].finished && c.half[1].finished) {
    End(c, s.time, CloseReason::kFin);
  }
}

// Of a closed connection: does this segment belong to a new one on the same ports?
bool TcpTracker::State::StartsAgain(const Connection& c, int d, const Segment& s) const {
  const Half& x = c.half[d];
  if (Has(s, tcp_flag::kRst)) return false;
  if (Has(s, tcp_flag::kSyn)) return !(x.start_from_syn && x.start == s.sequence + 1);
  if (s.payload_length == 0) return false;
  if (x.state != Half::State::kOpen) return true;
  // Repeated bytes lie behind, what a reset cut off a little ahead.
  const int32_t distance = Distance(s.sequence, x.next);
  return distance > (1 << 20) || distance < -(1 << 24);
}

// Of a live connection: is this the SYN of a new one (ports used again)?
bool TcpTracker::State::IsAnotherSyn(const Connection& c, int d, const Segment& s) const {
  const Half& x = c.half[d];
  const uint32_t first = s.sequence + 1;
  if (x.state == Half::State::kOpen) return x.start != first;
  // Joined without any SYN, and settled: a SYN that was only captured late would have come by now.
  if (c.settled) return c.ref.opened_by < 0;
  if (x.state == Half::State::kUnseen) return false;
  // Times do not help: packets that were captured out of order often have stamps that are in order.
  const int32_t ahead = Distance(x.held.front()->sequence, first);
  return ahead < 0 || ahead > limits::kSequenceWindow;
}

void TcpTracker::State::NoteSyn(Connection& c, int d, const Segment& s) {
  Half& x = c.half[d];
  Half& y = c.half[1 - d];
  if (x.start_from_syn) {
    counters.Add(Counter::kSegmentsRetransmitted);
    return;
  }
  x.start_from_syn = true;
  if (x.state != Half::State::kOpen) {
    x.state = Half::State::kOpen;
    x.start = x.next = s.sequence + 1;
    if (!x.acked_known || !InWindow(Distance(x.acked, x.start))) x.acked = x.start;
    x.acked_known = true;
  }
  if (!Has(s, tcp_flag::kAck)) {
    c.ref.opened_by = static_cast<int8_t>(d);
    return;
  }
  if (c.ref.opened_by < 0) c.ref.opened_by = static_cast<int8_t>(1 - d);
  y.told = true;
  y.told_start = s.acknowledgement;
}

// The close waits a little: packets of before the reset may be captured after it (see kSettleSegments). Until
// then the connection goes on as if nothing had been.
void TcpTracker::State::NoteReset(Connection& c, int d, const Segment& s) {
  const Half& x = c.half[d];
  if (x.state == Half::State::kOpen && !InWindow(Distance(s.sequence, x.next))) {
    // An answer to a SYN carries 0 there unless it has a number to go by (RFC 9293 section 3.5.2).
    counters.Add(Counter::kSegmentsForeign);
    return;
  }
  if (c.closing && c.close_reason == CloseReason::kReset) {
    c.close_time = std::min(c.close_time, s.time);
    return;
  }
  c.closing = true;
  c.close_reason = CloseReason::kReset;
  c.close_time = s.time;
  Schedule(c, Deadline::kClose);
}

void TcpTracker::State::NoteAck(Connection& c, int d, const Segment& s) {
  Half& y = c.half[1 - d];
  const uint32_t ack = s.acknowledgement;
  if (y.state == Half::State::kOpen && !InWindow(Distance(ack, y.next))) return;
  if (!y.acked_known || Distance(ack, y.acked) > 0) {
    y.acked_known = true;
    y.acked = ack;
    y.acked_time = s.time;
  }
  if (!c.settled && (!y.lowest_ack_known || Distance(ack, y.lowest_ack) < 0)) {
    y.lowest_ack_known = true;
    y.lowest_ack = ack;
  }
}

bool TcpTracker::State::Take(Connection& c, int d, const Segment& s) {
  Half& x = c.half[d];
  const bool fin = Has(s, tcp_flag::kFin);
  const uint32_t sequence = s.sequence + (Has(s, tcp_flag::kSyn) ? 1 : 0);
  if (s.payload_length == 0 && !fin) {
    if (x.state == Half::State::kUnseen && (!x.probed || Distance(sequence, x.probe) > 0)) {
      x.probed = true;
      x.probe = sequence;
    }
    return true;
  }
  if (x.finished) {
    counters.Add(Counter::kSegmentsRetransmitted);
    return true;
  }
  switch (x.state) {
    case Half::State::kUnseen:
      x.state = Half::State::kOpening;
      if (c.settled) {
        c.settled = false;
        Schedule(c, Deadline::kSettle);
      }
      break;
    case Half::State::kOpening:
      if (!InWindow(Distance(sequence, x.held.front()->sequence))) {
        counters.Add(Counter::kSegmentsForeign);
        return true;
      }
      break;
    case Half::State::kOpen:
      if (!InWindow(Distance(sequence, x.next))) return !TakeForeign(x, sequence, s.payload_length);
      x.foreign_run = 0;
      TakeOpen(c, d, s, sequence);
      return true;
  }
  Hold(c, d, s, sequence, s.payload, s.payload_length, fin);
  return true;
}

// True: enough of them follow each other to be a connection of their own.
bool TcpTracker::State::TakeForeign(Half& x, uint32_t sequence, uint32_t length) {
  counters.Add(Counter::kSegmentsForeign);
  if (length == 0) return false;
  const int32_t step = Distance(sequence, x.foreign_next);
  const bool follows = x.foreign_run != 0 && step <= (1 << 20) && step >= -(1 << 20);
  x.foreign_run = follows ? static_cast<uint8_t>(x.foreign_run + 1) : uint8_t{1};
  x.foreign_next = sequence + length;
  return x.foreign_run >= limits::kForeignSegments;
}

void TcpTracker::State::TakeOpen(Connection& c, int d, const Segment& s, uint32_t sequence) {
  Half& x = c.half[d];
  Bytes payload = s.payload;
  uint32_t length = s.payload_length;
  const bool fin = Has(s, tcp_flag::kFin);
  const int32_t ahead = Distance(sequence, x.next);
  if (ahead < 0) {
    const auto behind = static_cast<uint32_t>(-ahead);
    if (behind >= length) {
      if (length > 1 || behind > 1) counters.Add(Counter::kSegmentsRetransmitted);  // else a keep-alive
      if (!fin || behind > length) return;
      length = 0;
      payload = {};
    } else {
      counters.Add(Counter::kSegmentsOverlapping);
      length -= behind;
      payload = payload.subspan(std::min<size_t>(behind, payload.size()));
    }
    sequence = x.next;
  }
  const bool straight = c.settled && sequence == x.next &&
                        MayFollow(c, d, Has(s, tcp_flag::kAck), s.acknowledgement) &&
                        (x.held.empty() || Distance(x.held.front()->sequence, sequence + length) >= 0);
  if (!straight) {
    if (c.settled && ahead > 0) counters.Add(Counter::kSegmentsOutOfOrder);
    Hold(c, d, s, sequence, payload, length, fin);
    return;
  }
  if (length != 0) Deliver(c, d, s.time, payload, length);
  if (fin) FinishHalf(c, d, s.time);
}

void TcpTracker::State::Hold(Connection& c, int d, const Segment& s, uint32_t sequence, Bytes payload,
                             uint32_t length, bool fin) {
  HeldSegment like;
  like.time = s.time;
  like.arrived_ns = now;
  like.arrived_segments = c.segments;
  like.sequence = sequence;
  like.acknowledgement = s.acknowledgement;
  like.has_ack = Has(s, tcp_flag::kAck);
  like.length = length;
  like.doubtful = c.half[d].state == Half::State::kOpening && MayBeKeepAlive(c.half[d], s);
  HeldQueue& held = c.half[d].held;
  if (length != 0) {
    const HeldQueue::Inserted inserted = held.Insert(pool, like, payload);
    if (inserted.overlaps) {
      counters.Add(inserted.added ? Counter::kSegmentsOverlapping : Counter::kSegmentsRetransmitted);
    }
  }
  if (fin) {
    like.sequence = sequence + length;
    like.length = 0;
    held.InsertFin(pool, like);
  }
}

}  // namespace keytrail
