// IP fragments put together again (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722).
//
// Never invents bytes: a datagram comes out when every byte of it was captured, and fragments that say
// different bytes or lengths for one datagram cost that datagram. Memory is bounded by limits::kMaxFragment*,
// and nothing is allocated before the first fragment. Time comes with the fragments. Inside agent/packet
// only; one thread.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/bytes.h"
#include "common/counters.h"
#include "common/flow_key.h"
#include "common/limits.h"
#include "common/time.h"

namespace keytrail {

// What fragments of one datagram have in common.
struct FragmentKey {
  IpAddress source;
  IpAddress destination;
  uint32_t id = 0;
  uint8_t protocol = 0;  // IPv4 only; the next header of IPv6 fragments is no part of their identity

  friend bool operator==(const FragmentKey&, const FragmentKey&) = default;
};

struct Fragment {
  uint32_t offset = 0;  // in bytes, a multiple of 8
  bool more = false;    // the datagram goes on behind it
  uint8_t protocol = 0;
  Bytes bytes;  // all of it, not cut by the snapshot length; need not outlive Add()
};

struct FragmentCaps {
  size_t datagrams = limits::kMaxFragmentedDatagrams;
  size_t bytes = limits::kMaxFragmentBytes;
};

class FragmentTable {
 public:
  FragmentTable(Counters& counters, const FragmentCaps& caps) : counters_(counters), caps_(caps) {}

  struct Datagram {
    uint8_t protocol = 0;
    std::vector<uint8_t> bytes;
  };
  // The datagram, if this was the last fragment that it lacked.
  std::optional<Datagram> Add(TimeNs time, const FragmentKey& key, const Fragment& fragment);

  // The input has ended: what is incomplete is counted and forgotten.
  void Finish();

  size_t bytes() const { return bytes_; }
  size_t datagrams() const { return by_age_.size(); }

 private:
  struct Pending {
    enum class State : uint8_t {
      kOpen,         // waits for fragments
      kWhole,        // handed out: copies of its fragments are known by it
      kConflicting,  // dropped, and so is what else comes of it
    };
    FragmentKey key;
    State state = State::kOpen;
    bool first_seen = false;
    uint8_t protocol = 0;      // of the fragment with offset 0
    uint32_t length = 0;       // 0 until the last fragment is there
    uint32_t goes_beyond = 0;  // the highest end of a fragment that is not the last
    uint32_t have = 0;         // bytes that are there
    int64_t since_ns = 0;      // first fragment, or when it became whole
    std::vector<uint8_t> bytes;
    std::vector<uint64_t> units;  // one bit for each 8 bytes that are there
  };
  using Age = std::list<Pending>;
  struct KeyHash {
    size_t operator()(const FragmentKey& key) const;
  };

  Pending& FindOrStart(const FragmentKey& key);
  bool Expired(const Pending& pending) const;
  // False: it contradicts what is there.
  bool Merge(Pending& pending, const Fragment& fragment);
  bool MergeBytes(Pending& pending, const Fragment& fragment);
  void FreeBytes(Pending& pending);
  // Out of the table; counted if it was still waited for.
  void Drop(Age::iterator at, Counter why);

  static size_t CostOf(const Pending& p) { return p.bytes.capacity() + p.units.capacity() * 8; }

  Counters& counters_;
  const FragmentCaps caps_;
  Age by_age_;  // oldest first
  std::unordered_map<FragmentKey, Age::iterator, KeyHash> by_key_;
  size_t bytes_ = 0;
  int64_t now_ = INT64_MIN;  // the highest time seen
};

}  // namespace keytrail
