// Order and causality; when a wait is given up.

#include <algorithm>

#include "agent/tcp/tracker_state.h"

namespace keytrail {

// Decides where the directions that have held segments begin, and lets them go.
void TcpTracker::State::Settle(Connection& c) {
  c.settled = true;
  for (int d = 0; d < 2; ++d) {
    Half& x = c.half[d];
    if (x.state == Half::State::kOpen) continue;
    const auto begins_before = [&](uint32_t start, uint32_t other) {
      const int32_t distance = Distance(start, other);
      return distance > 0 && distance <= limits::kSequenceWindow;
    };
    if (x.state == Half::State::kOpening && x.held.front()->doubtful && !x.told && c.ref.opened_by < 0) {
      HeldSegment* keep_alive = x.held.PopFront();
      x.probed = true;
      x.probe = keep_alive->end();
      pool.Return(keep_alive);
      if (x.held.empty()) x.state = Half::State::kUnseen;
    }
    if (x.state == Half::State::kOpening) {
      uint32_t start = x.held.front()->sequence;
      // The handshake tells the true beginning also when the first data segments are lost: the SYN-ACK
      // does, and so does the opener's first acknowledgement.
      if (x.told && begins_before(start, x.told_start)) {
        start = x.told_start;
      } else if (c.ref.opened_by == 1 - d && x.lowest_ack_known && begins_before(start, x.lowest_ack)) {
        start = x.lowest_ack;
      }
      x.start = start;
    } else if (x.told) {
      x.start = x.told_start;
    } else {
      continue;
    }
    x.state = Half::State::kOpen;
    x.next = x.start;
    const int32_t acked = Distance(x.acked, x.start);
    if (!x.acked_known || acked > limits::kSequenceWindow || acked < 0) x.acked = x.start;
    x.acked_known = true;
  }
  TellOpen(c);
  Drain(c);
}

// Causality: a segment may not pass before the bytes that it acknowledges, as far as they are expected.
bool TcpTracker::State::MayFollow(const Connection& c, int d, bool has_ack, uint32_t acknowledgement) const {
  const Half& y = c.half[1 - d];
  if (!has_ack || !y.seen || y.finished) return true;
  if (y.state == Half::State::kOpen) {
    const int32_t beyond = Distance(acknowledgement, y.next);
    if (beyond <= 0 || beyond > limits::kSequenceWindow) return true;
    return y.waived && Distance(acknowledgement, y.waived_to) <= 0;
  }
  // Only empty segments of the peer were seen, a keep-alive (one number behind) perhaps among them.
  const int32_t beyond = y.probed ? Distance(acknowledgement, y.probe) : 0;
  return beyond <= 1 || beyond > limits::kSequenceWindow;
}

void TcpTracker::State::Drain(Connection& c) {
  while (!c.closed) {
    int pick = -1;
    for (int d = 0; d < 2; ++d) {
      const HeldSegment* head = c.half[d].held.front();
      if (head == nullptr || Distance(head->sequence, c.half[d].next) > 0) continue;
      if (!MayFollow(c, d, head->has_ack, head->acknowledgement)) continue;
      if (pick < 0 || head->time < c.half[pick].held.front()->time) pick = d;
    }
    if (pick < 0) return;
    HeldSegment* held = c.half[pick].held.PopFront();
    DeliverHeld(c, pick, *held);
    pool.Return(held);
  }
}

void TcpTracker::State::DeliverHeld(Connection& c, int d, const HeldSegment& held) {
  Half& x = c.half[d];
  const auto behind = static_cast<uint32_t>(-Distance(held.sequence, x.next));
  if (held.fin) {
    if (behind == 0) FinishHalf(c, d, held.time);
    return;
  }
  if (behind >= held.length) return;
  const Bytes bytes = held.bytes().subspan(std::min<size_t>(behind, held.captured));
  Deliver(c, d, held.time, bytes, held.length - behind);
}

void TcpTracker::State::Deliver(Connection& c, int d, TimeNs time, Bytes bytes, uint32_t length) {
  Half& x = c.half[d];
  if (!bytes.empty()) {
    const uint64_t offset = x.offset;
    x.next += static_cast<uint32_t>(bytes.size());
    x.offset += bytes.size();
    sink.OnBytes(c.ref, d, time, offset, bytes);
  }
  if (bytes.size() < length) EmitGap(c, d, time, length - static_cast<uint32_t>(bytes.size()));
}

void TcpTracker::State::EmitGap(Connection& c, int d, TimeNs time, uint32_t length) {
  Half& x = c.half[d];
  const uint64_t offset = x.offset;
  x.next += length;
  x.offset += length;
  counters.Add(Counter::kGaps);
  counters.Add(Counter::kGapBytes, length);
  sink.OnGap(c.ref, d, time, offset, length);
}

void TcpTracker::State::FinishHalf(Connection& c, int d, TimeNs time) {
  Half& x = c.half[d];
  Half& y = c.half[1 - d];
  x.finished = true;
  ++x.next;
  x.held.Clear(pool);  // nothing follows a FIN
  c.fin_time = c.fin_time.known() ? std::max(c.fin_time, time) : time;
  if (y.finished) {
    Close(c, c.fin_time, CloseReason::kFin);
  } else if (!y.seen && !c.closing) {
    // One direction alone is captured: this is all there will be, unless the other one is only late.
    c.closing = true;
    c.close_reason = CloseReason::kFin;
    c.close_time = time;
    Schedule(c, Deadline::kClose);
  }
}

// The direction whose first held segment is the older one; something is held.
int TcpTracker::State::OlderHead(const Connection& c) const {
  const HeldSegment* a = c.half[0].held.front();
  const HeldSegment* b = c.half[1].held.front();
  if (a == nullptr) return 1;
  return b != nullptr && b->time < a->time ? 1 : 0;
}

// Ends what the first held segment of direction d waits for. `acknowledged_only`: of a hole, only the part
// that the peer has acknowledged.
void TcpTracker::State::GiveUp(Connection& c, int d, bool acknowledged_only) {
  Half& x = c.half[d];
  Half& y = c.half[1 - d];
  HeldSegment& head = *x.held.front();
  const int32_t hole = Distance(head.sequence, x.next);
  if (hole > 0) {
    const int32_t length = acknowledged_only ? std::min(hole, Distance(x.acked, x.next)) : hole;
    EmitGap(c, d, head.time, static_cast<uint32_t>(length));
    return;
  }
  if (y.state != Half::State::kOpen) {
    y.probe = head.acknowledgement;
    return;
  }
  const int32_t missing = Distance(head.acknowledgement, y.next);
  if (const HeldSegment* other = y.held.front(); other != nullptr) {
    const int32_t other_hole = Distance(other->sequence, y.next);
    if (other_hole > 0) {
      EmitGap(c, 1 - d, head.time, static_cast<uint32_t>(std::min(missing, other_hole)));
    } else {
      // Both heads acknowledge each other (bytes sent again with a newer acknowledgement): the older first.
      c.half[OlderHead(c)].held.front()->has_ack = false;
    }
    return;
  }
  if (missing == 1) {  // a lost FIN, as likely as a lost byte: wait no longer, tell nothing
    y.waived = true;
    y.waived_to = head.acknowledgement;
    return;
  }
  EmitGap(c, 1 - d, head.time, static_cast<uint32_t>(missing));
}

// The rule for holes, for everything that blocks a settled connection (common/limits.h, kGapAfter*).
void TcpTracker::State::GiveUpExpired(Connection& c) {
  while (!c.closed && c.settled && c.holds()) {
    bool progress = false;
    for (int d = 0; d < 2 && !progress; ++d) {
      const Half& x = c.half[d];
      const HeldSegment* head = x.held.front();
      if (head == nullptr) continue;
      const bool late = now - head->arrived_ns >= limits::kGapAfterNs;
      // What an acknowledgement waits for was received by the peer; of a hole only its `acked` tells.
      const bool hole = Distance(head->sequence, x.next) > 0;
      const bool acknowledged = !hole || Distance(x.acked, x.next) > 0;
      const bool passed = acknowledged && c.segments - head->arrived_segments >= limits::kGapAfterSegments;
      if (!late && !passed) continue;
      GiveUp(c, d, !late);
      progress = true;
    }
    if (!progress) return;
    Drain(c);
  }
}

void TcpTracker::State::EnforceCaps(Connection& c) {
  for (int d = 0; d < 2; ++d) {
    const HeldQueue& held = c.half[d].held;
    while (!c.closed && held.bytes() > limits::kMaxHeldBytesPerDirection)
      Relieve(c, d, Counter::kCapHeldBytes);
    while (!c.closed && held.segments() > limits::kMaxHeldSegmentsPerDirection) {
      Relieve(c, d, Counter::kCapHeldSegments);
    }
  }
  while (pool.bytes_in_use() > limits::kMaxHeldBytes && stuck.front() != nullptr) {
    Connection& longest = *stuck.front();
    Relieve(longest, OlderHead(longest), Counter::kCapHeldBytes);
    if (&longest != &c && !longest.closed) UpdateFast(longest);
  }
}

void TcpTracker::State::Relieve(Connection& c, int d, Counter cap) {
  counters.Add(cap);
  if (!c.settled) {
    Settle(c);
  } else {
    GiveUp(c, d, false);
    Drain(c);
  }
  UpdateStuck(c);
}

void TcpTracker::State::UpdateStuck(Connection& c) {
  const bool holds = c.holds();
  if (holds == c.in_stuck) return;
  c.in_stuck = holds;
  if (holds) {
    stuck.PushBack(c);
  } else {
    stuck.Remove(c);
  }
}

}  // namespace keytrail
