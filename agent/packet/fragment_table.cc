#include "agent/packet/fragment_table.h"

#include <algorithm>
#include <cstring>

namespace keytrail {

namespace {

constexpr uint32_t kUnit = 8;  // offsets count in units of 8 bytes

}  // namespace

size_t FragmentTable::KeyHash::operator()(const FragmentKey& key) const {
  FlowKey ends{{key.source, static_cast<uint16_t>(key.id)}, {key.destination, key.protocol}};
  return FlowKeyHash()(ends) ^ key.id >> 16;
}

bool FragmentTable::Expired(const Pending& pending) const {
  const int64_t allowed =
      pending.state == Pending::State::kWhole ? limits::kFragmentCopiesNs : limits::kFragmentTimeoutNs;
  return now_ - pending.since_ns > allowed;
}

// Swapped, not assigned: an empty list assigned to a vector keeps its memory.
void FragmentTable::FreeBytes(Pending& pending) {
  bytes_ -= CostOf(pending);
  std::vector<uint8_t>().swap(pending.bytes);
  std::vector<uint64_t>().swap(pending.units);
}

void FragmentTable::Drop(Age::iterator at, Counter why) {
  if (at->state == Pending::State::kOpen) counters_.Add(why);
  FreeBytes(*at);
  by_key_.erase(at->key);
  by_age_.erase(at);
}

FragmentTable::Pending& FragmentTable::FindOrStart(const FragmentKey& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    if (!Expired(*found->second)) return *found->second;
    // The sender's numbers have come round, or the time is over: another datagram begins.
    Drop(found->second, Counter::kIpDatagramsIncomplete);
  }
  while (!by_age_.empty() && Expired(by_age_.front())) Drop(by_age_.begin(), Counter::kIpDatagramsIncomplete);
  while (by_age_.size() >= caps_.datagrams && !by_age_.empty()) {
    Drop(by_age_.begin(), Counter::kCapFragments);
  }
  Pending& started = by_age_.emplace_back();
  started.key = key;
  started.since_ns = now_;
  by_key_.emplace(key, std::prev(by_age_.end()));
  return started;
}

std::optional<FragmentTable::Datagram> FragmentTable::Add(TimeNs time, const FragmentKey& key,
                                                          const Fragment& fragment) {
  now_ = std::max(now_, time.ns);
  Pending& pending = FindOrStart(key);
  if (pending.state == Pending::State::kWhole) counters_.Add(Counter::kIpFragmentsRepeated);
  if (pending.state != Pending::State::kOpen) return std::nullopt;
  bytes_ -= CostOf(pending);
  const bool fits = Merge(pending, fragment);
  bytes_ += CostOf(pending);
  if (!fits) {
    counters_.Add(Counter::kIpDatagramsConflicting);
    pending.state = Pending::State::kConflicting;
    FreeBytes(pending);
    return std::nullopt;
  }
  if (pending.length == 0 || pending.have != pending.length) {
    while (bytes_ > caps_.bytes && !by_age_.empty()) Drop(by_age_.begin(), Counter::kCapFragments);
    return std::nullopt;
  }
  counters_.Add(Counter::kIpDatagramsReassembled);
  bytes_ -= pending.bytes.capacity();
  Datagram whole{pending.protocol, std::move(pending.bytes)};
  FreeBytes(pending);
  pending.state = Pending::State::kWhole;
  pending.since_ns = now_;
  return whole;
}

bool FragmentTable::Merge(Pending& pending, const Fragment& fragment) {
  const uint32_t end = fragment.offset + static_cast<uint32_t>(fragment.bytes.size());
  if (fragment.more) {
    if (pending.length != 0 && end >= pending.length) return false;
    pending.goes_beyond = std::max(pending.goes_beyond, end);
  } else {
    if (pending.length != 0 && end != pending.length) return false;
    if (pending.goes_beyond >= end) return false;
    pending.length = end;
  }
  if (fragment.offset == 0) {
    if (pending.first_seen && pending.protocol != fragment.protocol) return false;
    pending.first_seen = true;
    pending.protocol = fragment.protocol;
  }
  return MergeBytes(pending, fragment);
}

// Copies what is new, and compares what was there: overlaps are legal only between equal copies (a capture on
// several devices, a fragment sent again on another path).
bool FragmentTable::MergeBytes(Pending& pending, const Fragment& fragment) {
  const uint32_t end = fragment.offset + static_cast<uint32_t>(fragment.bytes.size());
  if (pending.bytes.size() < end) {
    // Once the length is known the buffer grows no more.
    if (pending.length != 0) pending.bytes.reserve(pending.length);
    pending.bytes.resize(end);
    pending.units.resize((end + kUnit * 64 - 1) / (kUnit * 64));
  }
  for (uint32_t at = fragment.offset; at < end; at += kUnit) {
    const uint32_t n = std::min(kUnit, end - at);
    const uint32_t unit = at / kUnit;
    uint64_t& word = pending.units[unit / 64];
    const uint64_t bit = uint64_t{1} << unit % 64;
    uint8_t* const ours = pending.bytes.data() + at;
    const uint8_t* const theirs = fragment.bytes.data() + (at - fragment.offset);
    if ((word & bit) != 0) {
      if (std::memcmp(ours, theirs, n) != 0) return false;
      continue;
    }
    word |= bit;
    std::memcpy(ours, theirs, n);
    pending.have += n;
  }
  return true;
}

void FragmentTable::Finish() {
  while (!by_age_.empty()) Drop(by_age_.begin(), Counter::kIpDatagramsIncomplete);
}

}  // namespace keytrail
