#include "agent/tcp/tcp_tracker.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/limits.h"

namespace keytrail {

namespace {

// Serial number arithmetic (RFC 1982, RFC 9293 section 3.4): the distance from b to a, which are less than
// 2^31 apart.
int32_t Distance(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b);
}

// Nothing in flight is further away than a gigabyte (RFC 7323: windows end at 2^30).
constexpr int32_t kFarBytes = 1 << 30;

// A segment that waits for bytes before it, or for bytes of the other direction that it acknowledges.
struct HeldSegment {
  TimeNs time;
  uint32_t sequence = 0;
  uint32_t length = 0;  // on the wire; more than bytes.size() if the snapshot length cut it
  uint32_t acknowledgement = 0;
  uint8_t flags = 0;
  std::vector<uint8_t> bytes;
};

struct Half {
  bool anchored = false;  // `next` is meaningful
  bool finished = false;  // FIN was delivered
  bool acked_known = false;
  uint32_t next = 0;    // sequence number of the next byte to deliver
  uint32_t acked = 0;   // highest acknowledgement that the other side sent for this half
  uint64_t offset = 0;  // of `next`, counted from the first byte known
  uint64_t held_bytes = 0;
  std::vector<HeldSegment*> held;  // by sequence, then by arrival; they belong to State::pool
};

struct Connection {
  FlowKey key;
  ConnectionRef ref;
  TimeNs first_time;
  TimeNs last_time;
  std::array<Half, 2> half;
  uint32_t segments = 0;          // while priming
  uint32_t blocked_segments = 0;  // since something was delivered last, while something is held
  TimeNs blocked_since;
  bool in_use = false;
  bool opened = false;   // OnOpen was told
  bool priming = false;  // the first sequence numbers are not settled yet
  bool closed = false;   // ended; the entry stays so that stragglers do not look like a new connection
  bool reset = false;    // RST was seen: closed soon, see Closing
};

// A reset connection is closed a little later: packets that were captured out of order may still come.
struct Closing {
  uint32_t slot = 0;
  uint64_t serial = 0;
  TimeNs time;       // of the RST
  uint64_t due = 0;  // in segments of all connections
};
constexpr uint64_t kCloseAfterSegments = 256;
constexpr int64_t kCloseAfterNs = 1'000'000'000;

}  // namespace

struct TcpTracker::State {
  State(ByteSink& s, Counters& c) : sink(s), counters(c) { cache.fill(kNoSlot); }

  static constexpr uint32_t kNoSlot = 0xFFFFFFFF;
  static constexpr size_t kSpareBufferBytes = 2048;

  void OnSegment(const Segment& segment);
  void Finish();

  // Table
  Connection* Find(const Segment& segment, int& direction);
  Connection& Create(const Segment& segment, int& direction);
  void Forget(Connection& connection);
  void EvictOldest();
  void SweepIdle(TimeNs now);
  void CloseReset(TimeNs now, bool all);

  // One connection
  void Restart(Connection& c, TimeNs time);
  bool OnSyn(Connection*& c, const Segment& segment, int& direction);
  void Hold(Connection& c, int direction, const Segment& segment);
  void EndPriming(Connection& c);
  void Drain(Connection& c);
  void Deliver(Connection& c, int direction, const HeldSegment& held);
  void DeliverBytes(Connection& c, int direction, TimeNs time, Bytes bytes, uint32_t length);
  void EmitGap(Connection& c, int direction, TimeNs time, uint32_t length);
  void DropHead(Half& half);
  bool GiveUpOne(Connection& c);
  void CheckPatience(Connection& c, TimeNs now);
  void Flush(Connection& c);
  void Close(Connection& c, TimeNs time, CloseReason reason);
  void TellOpen(Connection& c);
  void Recycle(Half& half);
  void Release(HeldSegment* held);

  static size_t CacheIndex(const Segment& s) {
    // Symmetric in both directions.
    const uint32_t ports = uint32_t{s.source.port} * s.destination.port + s.source.port + s.destination.port;
    const uint32_t hosts = uint32_t{s.source.address.bytes[3]} + s.destination.address.bytes[3] +
                           s.source.address.bytes[15] + s.destination.address.bytes[15];
    return (ports * 2654435761u + hosts * 40503u) >> 22;
  }

  ByteSink& sink;
  Counters& counters;
  std::deque<Connection> connections;  // by slot; addresses stay
  std::vector<uint32_t> free_slots;
  std::unordered_map<FlowKey, uint32_t, FlowKeyHash> slots;
  std::array<uint32_t, 1024> cache;
  std::deque<HeldSegment> pool;  // addresses stay
  std::vector<HeldSegment*> spare;
  uint64_t held_bytes = 0;
  uint64_t next_serial = 1;
  TimeNs next_sweep;
  std::deque<Closing> closing;
  uint64_t segments = 0;
};

TcpTracker::TcpTracker(ByteSink& sink, Counters& counters)
    : state_(std::make_unique<State>(sink, counters)) {}
TcpTracker::~TcpTracker() = default;
void TcpTracker::OnSegment(const Segment& segment) {
  state_->OnSegment(segment);
}
void TcpTracker::Finish() {
  state_->Finish();
}

// --- table -----------------------------------------------------------------------------------------------

Connection* TcpTracker::State::Find(const Segment& segment, int& direction) {
  uint32_t& cached = cache[CacheIndex(segment)];
  if (cached != kNoSlot) {
    Connection& c = connections[cached];
    if (c.in_use) {
      if (c.key.a == segment.source && c.key.b == segment.destination) {
        direction = 0;
        return &c;
      }
      if (c.key.b == segment.source && c.key.a == segment.destination) {
        direction = 1;
        return &c;
      }
    }
  }
  direction = segment.source <= segment.destination ? 0 : 1;
  const FlowKey key = direction == 0 ? FlowKey{segment.source, segment.destination}
                                     : FlowKey{segment.destination, segment.source};
  const auto found = slots.find(key);
  if (found == slots.end()) return nullptr;
  cached = found->second;
  return &connections[found->second];
}

Connection& TcpTracker::State::Create(const Segment& segment, int& direction) {
  if (slots.size() >= limits::kMaxConnections) EvictOldest();
  direction = segment.source <= segment.destination ? 0 : 1;
  uint32_t slot;
  if (free_slots.empty()) {
    slot = static_cast<uint32_t>(connections.size());
    connections.emplace_back();
  } else {
    slot = free_slots.back();
    free_slots.pop_back();
  }
  Connection& c = connections[slot];
  c.key = direction == 0 ? FlowKey{segment.source, segment.destination}
                         : FlowKey{segment.destination, segment.source};
  c.in_use = true;
  c.ref.slot = slot;
  slots.emplace(c.key, slot);
  cache[CacheIndex(segment)] = slot;
  Restart(c, segment.time);
  return c;
}

void TcpTracker::State::Restart(Connection& c, TimeNs time) {
  const uint32_t slot = c.ref.slot;
  for (Half& half : c.half) {
    Recycle(half);
    std::vector<HeldSegment*> held = std::move(half.held);
    half = Half();
    half.held = std::move(held);
  }
  c.ref = ConnectionRef{slot, next_serial++, &c.key, -1};
  c.first_time = c.last_time = time;
  c.segments = c.blocked_segments = 0;
  c.blocked_since = kTimeUnknown;
  c.opened = c.closed = c.reset = false;
  c.priming = true;
}

void TcpTracker::State::Forget(Connection& c) {
  for (Half& half : c.half) Recycle(half);
  slots.erase(c.key);
  c.in_use = false;
  free_slots.push_back(c.ref.slot);
}

void TcpTracker::State::Release(HeldSegment* held) {
  // A buffer that grew beyond the usual segment is not kept.
  if (held->bytes.capacity() > kSpareBufferBytes) std::vector<uint8_t>().swap(held->bytes);
  held->bytes.clear();
  spare.push_back(held);
}

void TcpTracker::State::Recycle(Half& half) {
  for (HeldSegment* held : half.held) {
    if (held == nullptr) continue;  // delivered just now, see Drain()
    held_bytes -= held->bytes.size();
    Release(held);
  }
  half.held.clear();
  half.held_bytes = 0;
}

void TcpTracker::State::EvictOldest() {
  counters.Add(Counter::kCapConnections);
  // A sixteenth at once, so that a flood of new connections does not search the table each time.
  std::vector<std::pair<int64_t, uint32_t>> by_age;
  by_age.reserve(slots.size());
  for (const auto& [key, slot] : slots) by_age.emplace_back(connections[slot].last_time.ns, slot);
  const size_t n = std::max<size_t>(1, by_age.size() / 16);
  std::nth_element(by_age.begin(), by_age.begin() + static_cast<ptrdiff_t>(n - 1), by_age.end());
  for (size_t i = 0; i < n; ++i) {
    Connection& c = connections[by_age[i].second];
    Flush(c);
    Close(c, c.last_time, CloseReason::kCap);
    Forget(c);
  }
}

void TcpTracker::State::SweepIdle(TimeNs now) {
  next_sweep = TimeNs{now.ns + limits::kIdleConnectionNs / 16};
  std::vector<uint32_t> idle;
  for (const auto& [key, slot] : slots) {
    if (now - connections[slot].last_time >= limits::kIdleConnectionNs) idle.push_back(slot);
  }
  std::sort(idle.begin(), idle.end());
  for (uint32_t slot : idle) {
    Connection& c = connections[slot];
    Flush(c);
    Close(c, c.last_time, CloseReason::kIdle);
    Forget(c);
  }
}

void TcpTracker::State::CloseReset(TimeNs now, bool all) {
  while (!closing.empty()) {
    const Closing next = closing.front();
    if (!all && segments < next.due && now - next.time < kCloseAfterNs) return;
    closing.pop_front();
    Connection& c = connections[next.slot];
    if (!c.in_use || c.ref.serial != next.serial || c.closed) continue;
    Flush(c);
    Close(c, next.time, CloseReason::kReset);
  }
}

// --- segments --------------------------------------------------------------------------------------------

void TcpTracker::State::OnSegment(const Segment& segment) {
  counters.Add(Counter::kSegments);
  if (!next_sweep.known()) next_sweep = TimeNs{segment.time.ns + limits::kIdleConnectionNs / 16};
  if (segment.time > next_sweep) SweepIdle(segment.time);
  ++segments;
  if (!closing.empty()) CloseReset(segment.time, false);

  int direction = 0;
  Connection* found = Find(segment, direction);
  const bool syn = (segment.flags & tcp_flag::kSyn) != 0;
  if (found == nullptr) {
    // Without payload or SYN there is nothing to tell of it yet.
    if (segment.payload_length == 0 && !syn) return;
    if (segment.flags & tcp_flag::kRst) return;
    found = &Create(segment, direction);
  }
  if (syn && !OnSyn(found, segment, direction)) return;
  Connection& c = *found;
  Half& half = c.half[direction];
  Half& other = c.half[1 - direction];
  if (segment.time > c.last_time) c.last_time = segment.time;
  const bool acks = (segment.flags & tcp_flag::kAck) != 0;
  if (acks && (!other.acked_known || Distance(segment.acknowledgement, other.acked) > 0)) {
    other.acked = segment.acknowledgement;
    other.acked_known = true;
  }
  if (c.closed) {
    // Stragglers of an ended connection; but bytes from somewhere else are a new one whose SYN we missed.
    constexpr int32_t kElsewhereBytes = 1 << 22;
    const int32_t distance = Distance(segment.sequence, half.next);
    const bool far_away = !half.anchored || distance > kElsewhereBytes || distance < -kElsewhereBytes;
    if (segment.payload_length == 0 || !far_away || (segment.flags & tcp_flag::kRst)) return;
    Restart(c, segment.time);
  }

  const uint8_t ends = segment.flags & (tcp_flag::kFin | tcp_flag::kRst);
  if (!c.priming && ends == 0 && !syn && half.held.empty() && half.anchored) {
    if (segment.payload_length == 0) {
      if (!other.held.empty()) CheckPatience(c, segment.time);
      return;
    }
    const bool caused = !acks || !other.anchored || Distance(segment.acknowledgement, other.next) <= 0;
    if (segment.sequence == half.next && caused) {
      DeliverBytes(c, direction, segment.time, segment.payload, segment.payload_length);
      if (!other.held.empty()) {
        Drain(c);
        CheckPatience(c, segment.time);
      }
      return;
    }
  }
  if (c.priming) ++c.segments;
  if (segment.payload_length != 0 || ends != 0) Hold(c, direction, segment);
  if (c.priming) {
    // Both starts are exact after SYN and SYN-ACK. Else wait a little for reordered earlier segments.
    constexpr uint32_t kPrimeSegments = 64;
    constexpr int64_t kPrimeNs = 1'000'000'000;
    const bool exact = c.ref.opened_by >= 0 && c.half[0].anchored && c.half[1].anchored;
    if (!exact && c.segments < kPrimeSegments && segment.time - c.first_time < kPrimeNs) return;
    EndPriming(c);
  }
  Drain(c);
  if (c.in_use && !c.closed) CheckPatience(c, segment.time);
}

// False: the segment is dealt with. A SYN settles where its half begins; on a connection under way it means
// that the ports are used again.
bool TcpTracker::State::OnSyn(Connection*& c, const Segment& segment, int& direction) {
  Half* half = &c->half[direction];
  const uint32_t first = segment.sequence + 1;
  const bool has_ack = (segment.flags & tcp_flag::kAck) != 0;
  const bool fresh = !c->closed && c->priming;
  if (!fresh) {
    const bool repeated = !c->closed && half->anchored && c->ref.opened_by >= 0 &&
                          half->offset < (1u << 30) &&
                          static_cast<uint32_t>(half->next - static_cast<uint32_t>(half->offset)) == first;
    if (repeated) {
      counters.Add(Counter::kSegmentsRetransmitted);
      return false;
    }
    if (has_ack && !c->closed && !half->anchored) {  // a SYN-ACK after priming was given up
      half->anchored = true;
      half->next = first;
      return false;
    }
    if (!c->closed) {
      Flush(*c);
      Close(*c, segment.time, c->reset ? CloseReason::kReset : CloseReason::kReplaced);
    }
    Restart(*c, segment.time);
    half = &c->half[direction];
  } else if (half->anchored && half->next != first) {
    // Another attempt with another number before anything was delivered: the old one is void.
    Restart(*c, segment.time);
    half = &c->half[direction];
  }
  half->anchored = true;
  half->next = first;
  if (!has_ack) {
    c->ref.opened_by = static_cast<int8_t>(direction);
  } else if (c->ref.opened_by < 0) {
    c->ref.opened_by = static_cast<int8_t>(1 - direction);
    Half& other = c->half[1 - direction];
    if (!other.anchored) {
      other.anchored = true;
      other.next = segment.acknowledgement;
    }
  }
  return true;
}

void TcpTracker::State::Hold(Connection& c, int direction, const Segment& segment) {
  Half& half = c.half[direction];
  uint32_t sequence = segment.sequence;
  if (segment.flags & tcp_flag::kSyn) ++sequence;
  Bytes bytes = segment.payload;
  uint32_t length = segment.payload_length;
  if (half.anchored && !c.priming) {
    const int32_t ahead = Distance(sequence, half.next);
    if (ahead > kFarBytes || ahead < -kFarBytes) {
      counters.Add(Counter::kSegmentsOutOfOrder);
      return;
    }
    const bool ends = (segment.flags & (tcp_flag::kFin | tcp_flag::kRst)) != 0;
    if (ahead < 0) {
      if (static_cast<int64_t>(ahead) + length <= 0 && !ends) {
        counters.Add(Counter::kSegmentsRetransmitted);
        return;
      }
      counters.Add(length != 0 ? Counter::kSegmentsOverlapping : Counter::kSegmentsRetransmitted);
    } else if (ahead > 0) {
      counters.Add(Counter::kSegmentsOutOfOrder);
    }
  }
  // Sorted by sequence; equal ones by arrival, so that the first copy of a byte wins.
  const auto at =
      std::upper_bound(half.held.begin(), half.held.end(), sequence,
                       [](uint32_t s, const HeldSegment* h) { return Distance(h->sequence, s) > 0; });
  if (at != half.held.begin()) {
    const HeldSegment& before = **(at - 1);
    if (before.sequence == sequence && before.length >= length && before.bytes.size() >= bytes.size() &&
        before.flags == segment.flags) {
      counters.Add(Counter::kSegmentsRetransmitted);
      return;
    }
  }
  HeldSegment* held;
  if (spare.empty()) {
    held = &pool.emplace_back();
  } else {
    held = spare.back();
    spare.pop_back();
  }
  held->time = segment.time;
  held->sequence = sequence;
  held->length = length;
  held->acknowledgement = segment.acknowledgement;
  held->flags = segment.flags;
  held->bytes.assign(bytes.begin(), bytes.end());
  half.held_bytes += bytes.size();
  held_bytes += bytes.size();
  half.held.insert(at, held);
}

void TcpTracker::State::EndPriming(Connection& c) {
  c.priming = false;
  for (Half& half : c.half) {
    if (half.anchored || half.held.empty()) continue;
    half.anchored = true;
    half.next = half.held.front()->sequence;
  }
}

void TcpTracker::State::Drain(Connection& c) {
  for (bool progress = true; progress && !c.closed;) {
    progress = false;
    for (int direction = 0; direction < 2 && !c.closed; ++direction) {
      Half& half = c.half[direction];
      if (half.held.empty()) continue;
      if (!half.anchored) {
        half.anchored = true;
        half.next = half.held.front()->sequence;
      }
      size_t n = 0;
      for (; n < half.held.size() && !c.closed; ++n) {
        HeldSegment* head = half.held[n];
        const Half& other = c.half[1 - direction];
        const bool in_order = Distance(head->sequence, half.next) <= 0;
        const bool caused = (head->flags & tcp_flag::kAck) == 0 || !other.anchored ||
                            Distance(head->acknowledgement, other.next) <= 0;
        if (!in_order || !caused) break;
        Deliver(c, direction, *head);
        if (c.closed) return;  // Close() has recycled all that was held
        half.held_bytes -= head->bytes.size();
        held_bytes -= head->bytes.size();
        Release(head);
        half.held[n] = nullptr;
      }
      if (n != 0) {
        half.held.erase(half.held.begin(), half.held.begin() + static_cast<ptrdiff_t>(n));
        progress = true;
      }
    }
    if (progress) {
      c.blocked_segments = 0;
      c.blocked_since = kTimeUnknown;
    }
  }
}

void TcpTracker::State::Deliver(Connection& c, int direction, const HeldSegment& held) {
  Half& half = c.half[direction];
  const auto behind = static_cast<uint32_t>(-Distance(held.sequence, half.next));
  if (held.length > behind) {
    const Bytes all(held.bytes);
    const Bytes fresh = all.size() > behind ? all.subspan(behind) : Bytes();
    DeliverBytes(c, direction, held.time, fresh, held.length - behind);
  }
  if (held.flags & tcp_flag::kRst) {
    if (!c.reset) closing.push_back({c.ref.slot, c.ref.serial, held.time, segments + kCloseAfterSegments});
    c.reset = true;
    return;
  }
  if ((held.flags & tcp_flag::kFin) && !half.finished) {
    half.finished = true;
    ++half.next;
    if (c.half[1 - direction].finished) {
      TellOpen(c);
      Close(c, held.time, CloseReason::kFin);
    }
  }
}

void TcpTracker::State::DeliverBytes(Connection& c, int direction, TimeNs time, Bytes bytes,
                                     uint32_t length) {
  TellOpen(c);
  Half& half = c.half[direction];
  if (!bytes.empty()) {
    const uint64_t offset = half.offset;
    half.next += static_cast<uint32_t>(bytes.size());
    half.offset += bytes.size();
    sink.OnBytes(c.ref, direction, time, offset, bytes);
  }
  if (bytes.size() < length) EmitGap(c, direction, time, length - static_cast<uint32_t>(bytes.size()));
}

void TcpTracker::State::EmitGap(Connection& c, int direction, TimeNs time, uint32_t length) {
  TellOpen(c);
  Half& half = c.half[direction];
  const uint64_t offset = half.offset;
  half.next += length;
  half.offset += length;
  counters.Add(Counter::kGaps);
  counters.Add(Counter::kGapBytes, length);
  sink.OnGap(c.ref, direction, time, offset, length);
}

// Drops the first held segment of a half: it cannot belong to what flows.
void TcpTracker::State::DropHead(Half& half) {
  HeldSegment* head = half.held.front();
  half.held_bytes -= head->bytes.size();
  held_bytes -= head->bytes.size();
  Release(head);
  half.held.erase(half.held.begin());
}

// Stops waiting for the oldest thing that blocks: one gap. False if nothing is held.
bool TcpTracker::State::GiveUpOne(Connection& c) {
  int direction = -1;
  for (int d = 0; d < 2; ++d) {
    if (c.half[d].held.empty()) continue;
    if (direction < 0 || c.half[d].held.front()->time < c.half[direction].held.front()->time) direction = d;
  }
  if (direction < 0) return false;
  const HeldSegment& head = *c.half[direction].held.front();
  const int32_t hole = Distance(head.sequence, c.half[direction].next);
  if (hole > kFarBytes || hole < -kFarBytes) {
    DropHead(c.half[direction]);
    return true;
  }
  if (hole > 0) {
    EmitGap(c, direction, head.time, static_cast<uint32_t>(hole));
    return true;
  }
  // It waits for what it acknowledges: bytes that the other side sent and the capture does not have.
  const int waited = 1 - direction;
  Half& other = c.half[waited];
  int32_t missing = Distance(head.acknowledgement, other.next);
  if (missing <= 0) return true;
  if (!other.held.empty()) {
    const int32_t other_hole = Distance(other.held.front()->sequence, other.next);
    if (other_hole > kFarBytes || other_hole < -kFarBytes) {
      DropHead(other);
      return true;
    }
    if (other_hole > 0) missing = std::min(missing, other_hole);
    // The other head is in order but waits for us in turn: acknowledgements that cross cannot both be
    // right. Ignore this one.
    if (other_hole <= 0) {
      c.half[direction].held.front()->flags &= static_cast<uint8_t>(~tcp_flag::kAck);
      return true;
    }
  }
  // An acknowledgement far beyond anything sent is no evidence of bytes.
  if (missing > kFarBytes) {
    c.half[direction].held.front()->flags &= static_cast<uint8_t>(~tcp_flag::kAck);
    return true;
  }
  EmitGap(c, waited, head.time, static_cast<uint32_t>(missing));
  return true;
}

void TcpTracker::State::CheckPatience(Connection& c, TimeNs now) {
  Half& a = c.half[0];
  Half& b = c.half[1];
  while (a.held_bytes > limits::kMaxHeldBytesPerDirection ||
         b.held_bytes > limits::kMaxHeldBytesPerDirection ||
         (held_bytes > limits::kMaxHeldBytes && a.held_bytes + b.held_bytes > 0)) {
    counters.Add(Counter::kCapHeldBytes);
    if (!GiveUpOne(c)) break;
    Drain(c);
    if (c.closed) return;
  }
  if (a.held.empty() && b.held.empty()) {
    c.blocked_segments = 0;
    c.blocked_since = kTimeUnknown;
    return;
  }
  if (!c.blocked_since.known()) c.blocked_since = now;
  ++c.blocked_segments;
  bool give_up = now - c.blocked_since >= limits::kGapAfterNs;
  if (!give_up && c.blocked_segments >= limits::kGapAfterSegments) {
    // A hole that the receiver has not acknowledged will be sent again; one that it has is the capture's.
    for (const Half& half : c.half) {
      if (half.held.empty()) continue;
      const bool hole = Distance(half.held.front()->sequence, half.next) > 0;
      give_up = give_up || !hole || !half.acked_known || Distance(half.acked, half.next) > 0;
    }
  }
  if (!give_up) return;
  if (GiveUpOne(c)) Drain(c);
  c.blocked_segments = 0;
  c.blocked_since = kTimeUnknown;
}

// Delivers all that is held; holes become gaps.
void TcpTracker::State::Flush(Connection& c) {
  if (c.closed) return;
  if (c.priming) EndPriming(c);
  Drain(c);
  while (!c.closed && GiveUpOne(c)) Drain(c);
}

void TcpTracker::State::TellOpen(Connection& c) {
  if (c.opened) return;
  c.opened = true;
  counters.Add(Counter::kConnections);
  sink.OnOpen(c.ref, c.first_time);
}

void TcpTracker::State::Close(Connection& c, TimeNs time, CloseReason reason) {
  if (c.closed) return;
  c.closed = true;
  for (Half& half : c.half) Recycle(half);
  if (!c.opened && c.ref.opened_by >= 0) TellOpen(c);
  if (c.opened) sink.OnClose(c.ref, time, reason);
}

void TcpTracker::State::Finish() {
  CloseReset(TimeNs{0}, true);
  for (Connection& c : connections) {
    if (!c.in_use) continue;
    Flush(c);
    Close(c, c.last_time, CloseReason::kInputEnd);
    Forget(c);
  }
}

}  // namespace keytrail
