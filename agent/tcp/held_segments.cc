#include "agent/tcp/held_segments.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <new>

namespace keytrail {

HeldPool::~HeldPool() {
  for (HeldSegment* list : free_) {
    while (list != nullptr) {
      HeldSegment* next = list->next;
      ::operator delete(list);
      list = next;
    }
  }
}

HeldSegment* HeldPool::Take(size_t bytes) {
  const size_t wanted = std::max(bytes + sizeof(HeldSegment), kSmallest);
  const auto size_class = static_cast<uint8_t>(std::bit_width(wanted - 1) - std::bit_width(kSmallest - 1));
  assert(size_class < kClasses);
  const size_t size = kSmallest << size_class;
  void* memory = free_[size_class];
  if (memory != nullptr) {
    free_[size_class] = free_[size_class]->next;
    free_bytes_ -= size;
  } else {
    memory = ::operator new(size);
  }
  in_use_ += size;
  HeldSegment* segment = new (memory) HeldSegment;
  segment->size_class = size_class;
  return segment;
}

void HeldPool::Return(HeldSegment* segment) {
  const size_t size = SizeOf(*segment);
  in_use_ -= size;
  if (free_bytes_ + size > kKeepBytes) {
    ::operator delete(segment);
    return;
  }
  segment->next = free_[segment->size_class];
  free_[segment->size_class] = segment;
  free_bytes_ += size;
}

// Held segments mostly come in order behind a hole, so the search begins at the end.
HeldSegment* HeldQueue::LastNotAfter(uint32_t sequence) const {
  HeldSegment* held = tail_;
  while (held != nullptr && Distance(held->sequence, sequence) > 0) held = held->previous;
  return held;
}

HeldSegment* HeldQueue::LinkAfter(HeldSegment* before, HeldSegment* segment) {
  segment->previous = before;
  segment->next = before != nullptr ? before->next : head_;
  (before != nullptr ? before->next : head_) = segment;
  (segment->next != nullptr ? segment->next->previous : tail_) = segment;
  bytes_ += HeldPool::SizeOf(*segment);
  ++segments_;
  return segment;
}

void HeldQueue::Refresh(HeldSegment& held, const HeldSegment& copy) {
  held.time = std::min(held.time, copy.time);
  held.doubtful = held.doubtful && copy.doubtful;
  if (copy.has_ack && held.has_ack && Distance(copy.acknowledgement, held.acknowledgement) < 0) {
    held.acknowledgement = copy.acknowledgement;
  }
}

HeldQueue::Inserted HeldQueue::Insert(HeldPool& pool, const HeldSegment& like, Bytes payload) {
  Inserted result;
  const uint32_t end = like.sequence + like.length;
  uint32_t from = like.sequence;
  HeldSegment* before = LastNotAfter(from);
  if (before != nullptr && before->fin) return result;  // nothing follows a FIN
  if (before != nullptr && Distance(before->end(), from) > 0) {
    result.overlaps = true;
    if (before->sequence == like.sequence && Distance(end, before->end()) >= 0) Refresh(*before, like);
    from = before->end();
  }
  while (Distance(end, from) > 0) {
    HeldSegment* after = before != nullptr ? before->next : head_;
    const bool reaches = after != nullptr && Distance(end, after->sequence) > 0;
    const uint32_t stop = reaches ? after->sequence : end;
    if (Distance(stop, from) > 0) {
      const uint32_t skip = from - like.sequence;
      const Bytes rest = payload.subspan(std::min<size_t>(skip, payload.size()));
      const Bytes piece = rest.first(std::min<size_t>(stop - from, rest.size()));
      HeldSegment* segment = pool.Take(piece.size());
      segment->time = like.time;
      segment->arrived_ns = like.arrived_ns;
      segment->arrived_segments = like.arrived_segments;
      segment->sequence = from;
      segment->acknowledgement = like.acknowledgement;
      segment->has_ack = like.has_ack;
      segment->doubtful = like.doubtful;
      segment->length = stop - from;
      segment->captured = static_cast<uint32_t>(piece.size());
      if (!piece.empty()) std::memcpy(segment->storage(), piece.data(), piece.size());
      before = LinkAfter(before, segment);
      result.added = true;
      from = stop;
    }
    if (!reaches || after->fin) break;
    result.overlaps = true;
    if (Distance(end, after->end()) >= 0) Refresh(*after, like);
    from = after->end();
    before = after;
  }
  return result;
}

void HeldQueue::InsertFin(HeldPool& pool, const HeldSegment& like) {
  for (HeldSegment* held = tail_; held != nullptr; held = held->previous) {
    if (!held->fin) continue;
    Refresh(*held, like);
    return;
  }
  HeldSegment* fin = pool.Take(0);
  fin->time = like.time;
  fin->arrived_ns = like.arrived_ns;
  fin->arrived_segments = like.arrived_segments;
  fin->sequence = like.sequence;
  fin->acknowledgement = like.acknowledgement;
  fin->has_ack = like.has_ack;
  fin->fin = true;
  LinkAfter(LastNotAfter(like.sequence), fin);
}

HeldSegment* HeldQueue::PopFront() {
  HeldSegment* held = head_;
  head_ = held->next;
  (head_ != nullptr ? head_->previous : tail_) = nullptr;
  bytes_ -= HeldPool::SizeOf(*held);
  --segments_;
  return held;
}

void HeldQueue::Clear(HeldPool& pool) {
  while (head_ != nullptr) pool.Return(PopFront());
}

}  // namespace keytrail
