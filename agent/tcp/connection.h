// What the tracker knows of one connection. Inside agent/tcp only.
#pragma once

#include <cstdint>

#include "agent/tcp/byte_events.h"
#include "agent/tcp/held_segments.h"
#include "common/flow_key.h"
#include "common/time.h"

namespace keytrail {

// One direction. Bytes, acknowledgements and FIN named here are those of this direction.
struct Half {
  enum class State : uint8_t {
    kUnseen,   // no byte of it is known
    kOpening,  // segments are held until it is settled which one is the first
    kOpen,     // `next` is known
  };

  uint32_t next = 0;    // sequence number of the next byte to deliver
  uint32_t acked = 0;   // highest acknowledgement of it by the peer
  uint64_t offset = 0;  // of `next`
  State state = State::kUnseen;
  bool seen = false;         // any segment of it was captured, so more are expected
  bool acked_known = false;  //
  bool start_from_syn = false;
  bool told = false;      // the peer's SYN-ACK says where it starts: `told_start`
  bool probed = false;    // unseen, but empty segments say where it stands: `probe`
  bool waived = false;    // nobody waits for numbers up to `waived_to`
  bool finished = false;  // the FIN was delivered
  bool lowest_ack_known = false;
  uint8_t foreign_run = 0;  // segments far outside the window, one following the other
  uint32_t start = 0;       // sequence number of offset 0
  uint32_t told_start = 0;
  uint32_t probe = 0;
  uint32_t waived_to = 0;
  uint32_t lowest_ack = 0;  // while opening
  uint32_t foreign_next = 0;
  TimeNs acked_time;  // of the packet that raised `acked`
  HeldQueue held;
};

struct Connection {
  struct Links {
    Connection* previous = nullptr;
    Connection* next = nullptr;
  };

  FlowKey key;
  bool fast = false;     // open, both directions seen, nothing held: in-order segments pass straight through
  bool settled = false;  // both starts are decided as far as they can be
  bool told = false;     // OnOpen was called
  bool closing = false;  // OnClose follows at close_time's deadline
  bool closed = false;   // OnClose was called; kept to know stragglers
  bool unread = false;   // nobody wants its bytes: TcpTracker::Disregard()
  CloseReason close_reason = CloseReason::kFin;
  uint32_t index = 0;       // in the table's storage
  uint32_t tick = 0;        // of the last move within the idle list
  uint64_t generation = 0;  // differs for every use of this storage; 0: free
  uint64_t segments = 0;    // counted while something is held or unsettled
  int64_t last_ns = 0;      // the tracker's clock at the last segment
  Half half[2];
  ConnectionRef ref;
  TimeNs open_time;
  TimeNs close_time;
  TimeNs fin_time;
  Links idle;                    // live connections, or closed ones, longest idle first
  Links stuck;                   // connections that hold segments, longest first
  Links foreign;                 // those that are unread
  uint64_t unread_segments = 0;  // since the last look
  bool in_stuck = false;

  bool holds() const { return !half[0].held.empty() || !half[1].held.empty(); }
};

// A doubly linked list through one Links member of Connection.
template <Connection::Links Connection::*kLinks>
class ConnectionList {
 public:
  Connection* front() const { return head_; }
  size_t size() const { return size_; }

  void PushBack(Connection& c) {
    (c.*kLinks).previous = tail_;
    (c.*kLinks).next = nullptr;
    (tail_ != nullptr ? (tail_->*kLinks).next : head_) = &c;
    tail_ = &c;
    ++size_;
  }

  void Remove(Connection& c) {
    Connection::Links& at = c.*kLinks;
    (at.previous != nullptr ? (at.previous->*kLinks).next : head_) = at.next;
    (at.next != nullptr ? (at.next->*kLinks).previous : tail_) = at.previous;
    at = {};
    --size_;
  }

 private:
  Connection* head_ = nullptr;
  Connection* tail_ = nullptr;
  size_t size_ = 0;
};

}  // namespace keytrail
