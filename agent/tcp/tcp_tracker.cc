#include "agent/tcp/tcp_tracker.h"

#include "agent/tcp/tracker_state.h"

namespace keytrail {
namespace {

constexpr int64_t kTickNs = 1'000'000'000;

}  // namespace

TcpTracker::TcpTracker(ByteSink& sink, Counters& counters)
    : state_(std::make_unique<State>(sink, counters)) {}
TcpTracker::~TcpTracker() = default;
void TcpTracker::OnSegment(const Segment& segment) {
  state_->OnSegment(segment);
}
void TcpTracker::Advance(TimeNs now) {
  if (now.known()) state_->Advance(now.ns);
}
void TcpTracker::Disregard(const FlowKey& key) {
  state_->Disregard(key);
}
void TcpTracker::TakeUnread(std::vector<UnreadConnection>& connections) {
  connections.clear();
  for (Connection* c = state_->foreign.front(); c != nullptr; c = c->foreign.next) {
    connections.push_back({c->key, c->ref.opened_by, c->unread_segments});
    c->unread_segments = 0;
  }
}
void TcpTracker::Finish() {
  state_->Finish(CloseReason::kInputEnd);
}
void TcpTracker::Forget() {
  state_->Finish(CloseReason::kForgotten);
}

TcpTracker::State::~State() {
  while (stuck.front() != nullptr) {
    Connection& c = *stuck.front();
    for (Half& x : c.half) x.held.Clear(pool);
    stuck.Remove(c);
  }
}

void TcpTracker::State::OnSegment(const Segment& s) {
  counters.Add(Counter::kSegments);
  ++segments;
  Advance(s.time.ns);
  const FlowView flow(s);
  Connection* c = table.Find(flow);
  constexpr uint8_t kKinds = tcp_flag::kSyn | tcp_flag::kFin | tcp_flag::kRst | tcp_flag::kAck;
  if (c != nullptr && c->fast && (s.flags & kKinds) == tcp_flag::kAck) {
    Half& x = c->half[flow.direction];
    Half& y = c->half[1 - flow.direction];
    if (s.sequence == x.next && Distance(s.acknowledgement, y.next) <= 0) {
      Touch(*c);
      if (Distance(s.acknowledgement, y.acked) > 0) y.acked = s.acknowledgement;
      if (s.payload_length != 0) Deliver(*c, flow.direction, s.time, s.payload, s.payload_length);
      return;
    }
  }
  OnSlowSegment(c, flow, s);
}

void TcpTracker::State::Advance(int64_t ns) {
  if (ns > now) {
    now = ns;
  } else if (static_cast<uint64_t>(now) - static_cast<uint64_t>(ns) >
             static_cast<uint64_t>(limits::kIdleConnectionNs)) {
    // The clock was set back, or one stamp was garbage: go on from here.
    now = next_tick = ns;
  }
  if (now >= next_tick) Tick();
  if (!due.empty() && (due.front().segments <= segments || due.front().ns <= now)) RunDeadlines();
}

// Once a second of capture time: all that depends on time alone.
void TcpTracker::State::Tick() {
  next_tick = now > std::numeric_limits<int64_t>::max() - kTickNs ? now : now + kTickNs;
  ++tick;
  for (Connection* c = stuck.front(); c != nullptr;) {
    Connection* next = c->stuck.next;
    if (c->settled) {
      GiveUpExpired(*c);
      if (!c->closed) UpdateFast(*c);
      UpdateStuck(*c);
    }
    c = next;
  }
  while (live.front() != nullptr && now - live.front()->last_ns >= limits::kIdleConnectionNs) {
    Connection& c = *live.front();
    counters.Add(Counter::kConnectionsIdle);
    End(c, TimeNs{c.last_ns}, CloseReason::kIdle);
    Remove(c);
  }
  while (closed.front() != nullptr && now - closed.front()->last_ns >= limits::kClosedConnectionNs) {
    Remove(*closed.front());
  }
}

void TcpTracker::State::Schedule(Connection& c, Deadline what) {
  due.push_back({&c, c.generation, segments + limits::kSettleSegments, now + limits::kSettleNs, what});
}

bool TcpTracker::State::IsDue(const Due& d) const {
  if (d.segments <= segments || d.ns + limits::kSettleQuietNs - limits::kSettleNs <= now) return true;
  return d.ns <= now && d.segments <= segments + limits::kSettleSegments - limits::kSettleFewSegments;
}

void TcpTracker::State::RunDeadlines() {
  while (!due.empty() && IsDue(due.front())) {
    const Due next = due.front();
    due.pop_front();
    Connection& c = *next.connection;
    if (c.generation != next.generation || c.closed) continue;
    if (next.what == Deadline::kSettle) {
      if (!c.settled) Settle(c);
      if (!c.closed) GiveUpExpired(c);
    } else if (c.close_reason == CloseReason::kFin && c.half[0].seen && c.half[1].seen) {
      c.closing = false;  // the other direction turned up: its FIN decides
    } else {
      End(c, c.close_time, c.close_reason);
    }
    UpdateStuck(c);
    if (!c.closed) UpdateFast(c);
  }
}

Connection& TcpTracker::State::Create(const FlowView& flow, const Segment& s) {
  if (live.size() >= limits::kMaxConnections) {
    counters.Add(Counter::kCapConnections);
    Connection& oldest = *live.front();
    End(oldest, s.time, CloseReason::kCap);
    Remove(oldest);
  }
  Connection& c = table.Insert(flow);
  c.open_time = s.time;
  c.last_ns = now;
  c.tick = tick;
  live.PushBack(c);
  Schedule(c, Deadline::kSettle);
  return c;
}

void TcpTracker::State::Touch(Connection& c) {
  c.last_ns = now;
  // The list is in order to a tick: moving within it for each packet would cost three cache lines.
  if (c.tick == tick) return;
  c.tick = tick;
  live.Remove(c);
  live.PushBack(c);
}

void TcpTracker::State::Disregard(const FlowKey& key) {
  Segment like;
  like.source = key.a;
  like.destination = key.b;
  Connection* const c = table.Find(FlowView(like));
  if (c == nullptr || c->closed || c->unread) return;
  c->unread = true;
  c->fast = false;
  for (Half& x : c->half) x.held.Clear(pool);
  UpdateStuck(*c);
  foreign.PushBack(*c);
}

void TcpTracker::State::UpdateFast(Connection& c) {
  const Half& x = c.half[0];
  const Half& y = c.half[1];
  c.fast = c.settled && !c.unread && !c.closing && !c.closed && !c.in_stuck &&
           x.state == Half::State::kOpen && y.state == Half::State::kOpen && x.seen && y.seen &&
           !x.finished && !y.finished && x.foreign_run == 0 && y.foreign_run == 0;
}

void TcpTracker::State::TellOpen(Connection& c) {
  if (c.told) return;
  c.told = true;
  if (free_slots.empty()) {
    c.ref.slot = slots++;
  } else {
    c.ref.slot = free_slots.back();
    free_slots.pop_back();
  }
  c.ref.serial = ++serials;
  counters.Add(Counter::kConnections);
  sink.OnOpen(c.ref, c.open_time);
}

void TcpTracker::State::End(Connection& c, TimeNs time, CloseReason reason) {
  if (c.closed) return;
  if (c.closing) {
    time = c.close_time;
    reason = c.close_reason;
  }
  if (!c.settled) Settle(c);
  while (!c.closed && c.holds()) {
    GiveUp(c, OlderHead(c), false);
    Drain(c);
  }
  if (c.closed) return;
  for (int d = 0; d < 2 && !c.unread; ++d) {
    // Acknowledged but never captured. One number alone may have been a FIN.
    const Half& x = c.half[d];
    if (x.state != Half::State::kOpen || !x.seen || x.finished || !x.acked_known) continue;
    const int32_t missing = Distance(x.acked, x.next);
    if (missing > 1 && missing <= limits::kSequenceWindow) {
      EmitGap(c, d, time, static_cast<uint32_t>(missing));
    }
  }
  Close(c, time, reason);
}

void TcpTracker::State::Close(Connection& c, TimeNs time, CloseReason reason) {
  TellOpen(c);
  for (Half& x : c.half) x.held.Clear(pool);
  UpdateStuck(c);
  c.closed = true;
  c.fast = false;
  if (c.unread) foreign.Remove(c);
  sink.OnClose(c.ref, time, reason);
  free_slots.push_back(c.ref.slot);
  live.Remove(c);
  c.last_ns = now;
  closed.PushBack(c);
  if (closed.size() > limits::kMaxClosedConnections) {
    counters.Add(Counter::kConnectionsForgotten);
    Remove(*closed.front());
  }
}

void TcpTracker::State::Remove(Connection& c) {
  closed.Remove(c);
  table.Erase(c);
}

void TcpTracker::State::Finish(CloseReason reason) {
  while (live.front() != nullptr) End(*live.front(), TimeNs{now}, reason);
  while (closed.front() != nullptr) Remove(*closed.front());
  due.clear();
}

}  // namespace keytrail
