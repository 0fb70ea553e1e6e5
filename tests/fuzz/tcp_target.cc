// Segments through the TCP room, and what byte_events.h promises of the bytes that come out.
//
// Input: 1 byte number of connections (1 to 4), for each of them and each direction 4 bytes initial sequence
// number; then segments of 7 bytes:
//   what     bits 0-1 connection, bit 2 direction, bits 3-4 what the sequence number is relative to, bits 5-6
//            the same for the acknowledgement, bit 7 the payload was cut by the snapshot length
//   flags    FIN, SYN, RST, PSH, ACK as on the wire; bit 6: no segment, the clock advances
//   step     index of the time that has passed
//   length   of the payload; bit 7: times 64
//   sequence 2 bytes, signed distance
//   ack      1 byte, signed distance
//
// A payload byte is a function of its sequence number, so that the order can be checked with nothing but the
// bytes themselves.
#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include "agent/tcp/tcp_tracker.h"
#include "common/limits.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

constexpr int64_t kSteps[] = {0,           1'000,           1'000'000,       100'000'000,      1'000'000'000,
                              -1'000'000,  2'500'000'000,   11'000'000'000,  -500'000'000,     61'000'000'000,
                              100'000'000, 901'000'000'000, -12'000'000'000, 4'000'000'000'000};

uint8_t ByteAt(uint32_t sequence) {
  return static_cast<uint8_t>(sequence);
}

// What was fed and told of one pair of endpoints.
struct Pair {
  FlowKey key;
  std::array<uint32_t, 2> next{};  // the number behind the highest byte that was sent
  std::array<uint64_t, 2> fed{};
  std::array<uint64_t, 2> told{};
};

class Checks final : public ByteSink {
 public:
  explicit Checks(std::vector<Pair>& pairs) : pairs_(pairs) {}

  std::set<int64_t> times;
  size_t open() const { return open_.size(); }

  void OnOpen(const ConnectionRef& connection, TimeNs) override {
    KEYTRAIL_REQUIRE(serials_.insert(connection.serial).second);
    KEYTRAIL_REQUIRE(connection.opened_by >= -1 && connection.opened_by <= 1);
    KEYTRAIL_REQUIRE(connection.slot < limits::kMaxConnections);
    Open opened;
    opened.serial = connection.serial;
    opened.key = *connection.key;
    opened.pair = PairOf(*connection.key);
    for (const auto& [slot, other] : open_) KEYTRAIL_REQUIRE(other.pair != opened.pair);
    KEYTRAIL_REQUIRE(open_.emplace(connection.slot, opened).second);
  }

  void OnBytes(const ConnectionRef& connection, int direction, TimeNs time, uint64_t offset,
               Bytes bytes) override {
    Direction& d = Find(connection, direction);
    KEYTRAIL_REQUIRE(!bytes.empty());
    KEYTRAIL_REQUIRE(offset == d.offset);
    KEYTRAIL_REQUIRE(times.contains(time.ns));
    for (size_t i = 0; i < bytes.size(); ++i) {
      const auto base = static_cast<uint8_t>(bytes[i] - (offset + i));
      if (!d.base_known) d.base = base;
      d.base_known = true;
      KEYTRAIL_REQUIRE(base == d.base);
    }
    d.offset += bytes.size();
    Pair& pair = *open_.at(connection.slot).pair;
    pair.told[direction] += bytes.size();
    KEYTRAIL_REQUIRE(pair.told[direction] <= pair.fed[direction]);
  }

  void OnGap(const ConnectionRef& connection, int direction, TimeNs, uint64_t offset,
             uint64_t length) override {
    Direction& d = Find(connection, direction);
    KEYTRAIL_REQUIRE(length > 0 && length <= uint64_t{limits::kSequenceWindow});
    KEYTRAIL_REQUIRE(offset == d.offset);
    d.offset += length;
  }

  void OnClose(const ConnectionRef& connection, TimeNs, CloseReason) override {
    Find(connection, 0);
    open_.erase(connection.slot);
  }

 private:
  struct Direction {
    uint64_t offset = 0;
    bool base_known = false;
    uint8_t base = 0;
  };
  struct Open {
    uint64_t serial = 0;
    FlowKey key;
    Pair* pair = nullptr;
    Direction directions[2];
  };

  Pair* PairOf(const FlowKey& key) {
    const auto found =
        std::find_if(pairs_.begin(), pairs_.end(), [&](const Pair& p) { return p.key == key; });
    KEYTRAIL_REQUIRE(found != pairs_.end());
    return &*found;
  }
  Direction& Find(const ConnectionRef& connection, int direction) {
    const auto found = open_.find(connection.slot);
    KEYTRAIL_REQUIRE(found != open_.end());
    KEYTRAIL_REQUIRE(found->second.serial == connection.serial);
    KEYTRAIL_REQUIRE(found->second.key == *connection.key);
    KEYTRAIL_REQUIRE(direction == 0 || direction == 1);
    return found->second.directions[direction];
  }

  std::vector<Pair>& pairs_;
  std::map<uint32_t, Open> open_;  // by slot
  std::set<uint64_t> serials_;
};

Endpoint MakeEndpoint(uint8_t host, uint16_t port) {
  Endpoint e;
  e.address.family = 4;
  e.address.bytes = {10, 0, 0, host};
  e.port = port;
  return e;
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  Input input(data, size);
  std::vector<Pair> pairs(1 + input.Byte() % 4);
  for (size_t i = 0; i < pairs.size(); ++i) {
    pairs[i].key = {MakeEndpoint(1, static_cast<uint16_t>(40000 + i)), MakeEndpoint(2, 20160)};
    for (uint32_t& next : pairs[i].next) next = input.Four();
  }
  Checks checks(pairs);
  Counters counters;
  int64_t now = 1'700'000'000'000'000'000;
  {
    TcpTracker tracker(checks, counters);
    while (!input.empty()) {
      const uint8_t what = input.Byte();
      const uint8_t flags = input.Byte();
      now += kSteps[input.Byte() % std::size(kSteps)];
      const uint8_t length = input.Byte();
      const auto sequence_distance = static_cast<int16_t>(input.Two());
      const auto ack_distance = static_cast<int8_t>(input.Byte());
      if (flags & 0x40) {
        tracker.Advance(TimeNs{now});
        continue;
      }
      Pair& pair = pairs[(what & 3) % pairs.size()];
      const int d = what >> 2 & 1;
      static constexpr int32_t kScales[] = {0, 1, 1024, 1 << 17};
      Segment segment;
      segment.time = TimeNs{now};
      segment.source = d == 0 ? pair.key.a : pair.key.b;
      segment.destination = d == 0 ? pair.key.b : pair.key.a;
      segment.flags = flags & 0x1F;
      segment.sequence = pair.next[d] + static_cast<uint32_t>(sequence_distance) *
                                            static_cast<uint32_t>(kScales[what >> 3 & 3]);
      segment.acknowledgement = pair.next[1 - d] + static_cast<uint32_t>(ack_distance) *
                                                       static_cast<uint32_t>(kScales[what >> 5 & 3]);
      segment.payload_length = length & 0x80 ? (length & 0x7Fu) * 64 : length;
      const uint32_t captured = what & 0x80 ? segment.payload_length / 2 : segment.payload_length;
      // The first byte's number follows that of a SYN.
      const uint32_t first = segment.sequence + (flags & tcp_flag::kSyn ? 1 : 0);
      std::vector<uint8_t> payload(captured);
      for (uint32_t i = 0; i < captured; ++i) payload[i] = ByteAt(first + i);
      segment.payload = payload;
      pair.fed[d] += captured;
      checks.times.insert(now);
      const uint32_t end = first + segment.payload_length + (flags & tcp_flag::kFin ? 1 : 0);
      if (static_cast<int32_t>(end - pair.next[d]) > 0) pair.next[d] = end;
      tracker.OnSegment(segment);
    }
    tracker.Finish();
    KEYTRAIL_REQUIRE(checks.open() == 0);
  }
  return 0;
}
