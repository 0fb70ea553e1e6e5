// Segments that wait: for bytes before them, or for the bytes of the other direction that they acknowledge.
//
// HeldPool hands out buffers and takes them back; HeldQueue keeps the held segments of one direction in
// sequence order without overlaps. Inside agent/tcp only; one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "agent/tcp/sequence.h"
#include "common/bytes.h"
#include "common/time.h"

namespace keytrail {

// The payload lies behind the struct in the same buffer.
struct HeldSegment {
  HeldSegment* next = nullptr;
  HeldSegment* previous = nullptr;
  TimeNs time;
  int64_t arrived_ns = 0;         // the tracker's clock
  uint64_t arrived_segments = 0;  // the connection's count of segments
  uint32_t sequence = 0;
  uint32_t acknowledgement = 0;
  uint32_t length = 0;    // payload bytes on the wire
  uint32_t captured = 0;  // of them here, from the first one on
  bool has_ack = false;
  bool fin = false;       // the FIN itself (length 0, one sequence number), not the payload before it
  bool doubtful = false;  // one byte that the peer seems to have had before: a keep-alive, if it is the first
  uint8_t size_class = 0;

  uint32_t end() const { return sequence + length; }
  uint8_t* storage() { return reinterpret_cast<uint8_t*>(this + 1); }
  Bytes bytes() const { return {reinterpret_cast<const uint8_t*>(this + 1), captured}; }
};

class HeldPool {
 public:
  HeldPool() = default;
  ~HeldPool();
  HeldPool(const HeldPool&) = delete;
  HeldPool& operator=(const HeldPool&) = delete;

  // A segment with room for `bytes`; fields as constructed.
  HeldSegment* Take(size_t bytes);
  void Return(HeldSegment* segment);

  // Memory of the segments handed out, as allocated: what the caps of common/limits.h are held against.
  size_t bytes_in_use() const { return in_use_; }
  static size_t SizeOf(const HeldSegment& segment) { return kSmallest << segment.size_class; }

 private:
  static constexpr size_t kSmallest = 256;
  static constexpr size_t kClasses = 24;
  // Kept for the next hole; what a burst took beyond it goes back to the system.
  static constexpr size_t kKeepBytes = 4u << 20;

  std::array<HeldSegment*, kClasses> free_{};
  size_t free_bytes_ = 0;
  size_t in_use_ = 0;
};

class HeldQueue {
 public:
  // What came of an insertion.
  struct Inserted {
    bool added = false;     // some bytes are new
    bool overlaps = false;  // some bytes were here already
  };

  bool empty() const { return head_ == nullptr; }
  HeldSegment* front() const { return head_; }
  size_t bytes() const { return bytes_; }
  size_t segments() const { return segments_; }

  // Takes the bytes of `like` (all fields but the links, `captured`, `fin` and
  // `size_class` are used) that no held segment
  // has; the first copy of a byte stays. A copy that an earlier packet carried as a whole lends its time and
  // acknowledgement, so that the order of arrival does not matter.
  Inserted Insert(HeldPool& pool, const HeldSegment& like, Bytes payload);
  // `like.sequence` is the FIN's own number.
  void InsertFin(HeldPool& pool, const HeldSegment& like);
  // The caller returns the segment to the pool.
  HeldSegment* PopFront();
  void Clear(HeldPool& pool);

 private:
  HeldSegment* LastNotAfter(uint32_t sequence) const;
  HeldSegment* LinkAfter(HeldSegment* before, HeldSegment* segment);
  static void Refresh(HeldSegment& held, const HeldSegment& copy);

  HeldSegment* head_ = nullptr;
  HeldSegment* tail_ = nullptr;
  size_t bytes_ = 0;
  size_t segments_ = 0;
};

}  // namespace keytrail
