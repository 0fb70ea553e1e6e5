// Nothing that arrived is lost: one connection under way, segments in any order, sent again and overlapping,
// but no SYN, FIN or RST and nothing cut. A gap may only cover bytes that had not arrived when it was told,
// and at the end all that arrived in time was delivered.
//
// Input: 2 x 4 bytes initial sequence numbers; then segments of 5 bytes:
//   what     bit 0 direction, bits 1-2 what the sequence number is relative to, bits 3-4 the same for the
//            acknowledgement, bit 5 no ACK, bit 6 the payload is empty
//   step     index of the time that has passed
//   length   of the payload, 8 more than said
//   sequence, ack: signed distances
//
// Eight bytes of payload tell their own sequence number, so that gaps can be placed.
#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "agent/tcp/tcp_tracker.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

// Short of what ends a connection (common/limits.h).
constexpr int64_t kSteps[] = {0,          1'000,         1'000'000,     100'000'000,
                              -1'000'000, 1'000'000'000, 2'500'000'000, 11'000'000'000};

uint8_t ByteAt(uint32_t sequence) {
  static constexpr uint8_t kMarks[] = {0x5A, 0xC3, 0x21, 0x9E};
  return static_cast<uint8_t>((sequence >> 2) >> 8 * (sequence & 3)) ^ kMarks[sequence & 3];
}

// The number of the first of these bytes, if only one fits.
std::optional<uint32_t> NumberOf(const std::string& bytes) {
  std::optional<uint32_t> number;
  for (uint32_t before = 0; before < 4; ++before) {  // bytes before a number that 4 divides
    if (bytes.size() < before + 4) return {};
    uint32_t quarter = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      quarter |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[before + i]) ^ ByteAt(i)) << 8 * i;
    }
    const uint32_t first = quarter * 4 - before;
    uint32_t at = first;
    const bool fits = std::all_of(bytes.begin(), bytes.end(),
                                  [&](char c) { return static_cast<uint8_t>(c) == ByteAt(at++); });
    if (!fits) continue;
    if (number.has_value()) return {};
    number = first;
  }
  return number;
}

// Positions count from the initial sequence number; the program moves them by less than 2^31 in all.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  size_t when = 0;  // number of the segment under way
};

struct Side {
  std::vector<Range> arrived;
  // By stream offset, until the beginning is known.
  std::vector<Range> gaps;
  std::string first_bytes;
  uint64_t offset = 0;
};

class Log final : public ByteSink {
 public:
  size_t when = 0;
  Side sides[2];

  void OnOpen(const ConnectionRef&, TimeNs) override { ++opened_; }
  void OnBytes(const ConnectionRef&, int d, TimeNs, uint64_t offset, Bytes bytes) override {
    KEYTRAIL_REQUIRE(offset == sides[d].offset);
    if (sides[d].gaps.empty() && sides[d].first_bytes.size() < 16) sides[d].first_bytes += AsText(bytes);
    sides[d].offset += bytes.size();
  }
  void OnGap(const ConnectionRef&, int d, TimeNs, uint64_t offset, uint64_t length) override {
    KEYTRAIL_REQUIRE(offset == sides[d].offset);
    sides[d].gaps.push_back({static_cast<int64_t>(offset), static_cast<int64_t>(offset + length), when});
    sides[d].offset += length;
  }
  void OnClose(const ConnectionRef&, TimeNs, CloseReason) override {}

  int opened() const { return opened_; }

 private:
  int opened_ = 0;
};

void Check(const Side& side, uint32_t initial) {
  const std::optional<uint32_t> first = NumberOf(side.first_bytes);
  if (!first.has_value()) return;
  const int64_t start = static_cast<int32_t>(*first - initial);
  const int64_t end = start + static_cast<int64_t>(side.offset);
  for (const Range& bytes : side.arrived) {
    // What lies before the beginning came too late to be part of the connection.
    KEYTRAIL_REQUIRE(bytes.end <= end);
    for (const Range& gap : side.gaps) {
      if (bytes.when >= gap.when) continue;  // the gap was told before, or at its sight
      KEYTRAIL_REQUIRE(bytes.end <= start + gap.begin || bytes.begin >= start + gap.end);
    }
  }
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  Input input(data, size);
  Endpoint ends[2];
  for (int d = 0; d < 2; ++d) {
    ends[d].address.family = 4;
    ends[d].address.bytes = {10, 0, 0, static_cast<uint8_t>(d + 1)};
    ends[d].port = d == 0 ? 40000 : 20160;
  }
  const uint32_t initial[2] = {input.Four(), input.Four()};
  int64_t next[2] = {};
  Log log;
  Counters counters;
  TcpTracker tracker(log, counters);
  int64_t now = 1'700'000'000'000'000'000;
  while (!input.empty()) {
    const uint8_t what = input.Byte();
    now += kSteps[input.Byte() % std::size(kSteps)];
    const uint32_t length = what & 0x40 ? (input.Byte(), 0u) : 8u + input.Byte();
    static constexpr int64_t kScales[] = {0, 1, 16, 1024};
    const int64_t sequence_distance = static_cast<int8_t>(input.Byte()) * kScales[what >> 1 & 3];
    const int64_t ack_distance = static_cast<int8_t>(input.Byte()) * kScales[what >> 3 & 3];
    const int d = what & 1;
    const int64_t begin = next[d] + sequence_distance;
    Segment segment;
    segment.time = TimeNs{now};
    segment.source = ends[d];
    segment.destination = ends[1 - d];
    segment.flags = what & 0x20 ? 0 : tcp_flag::kAck;
    segment.sequence = initial[d] + static_cast<uint32_t>(begin);
    segment.acknowledgement = initial[1 - d] + static_cast<uint32_t>(next[1 - d] + ack_distance);
    segment.payload_length = length;
    std::vector<uint8_t> payload(length);
    for (uint32_t i = 0; i < length; ++i) payload[i] = ByteAt(segment.sequence + i);
    segment.payload = payload;
    ++log.when;
    if (length != 0) log.sides[d].arrived.push_back({begin, begin + length, log.when});
    next[d] = std::max(next[d], begin + length);
    tracker.OnSegment(segment);
  }
  ++log.when;
  tracker.Finish();
  const bool all_taken =
      counters.Get(Counter::kSegmentsForeign) == 0 && counters.Get(Counter::kCapHeldBytes) == 0;
  if (log.opened() != 1 || !all_taken) return 0;
  for (int d = 0; d < 2; ++d) {
    if (log.sides[d].offset != 0) Check(log.sides[d], initial[d]);
  }
  return 0;
}
