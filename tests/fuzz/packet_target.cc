// Packets through the packet room.
//
// Input: 1 byte that chooses the link type; then packets: 1 byte says how many bytes more were on the wire,
// 2 bytes length, the captured bytes.
#include <iterator>
#include <vector>

#include "agent/packet/packet_decoder.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

// pcap-linktype(7); the last one is not known to the room.
constexpr int kLinkTypes[] = {1, 101, 113, 276, 0, 108, 228, 229, 12, 14, 147};

class Checks final : public SegmentSink {
 public:
  int segments = 0;
  uint32_t wire_length = 0;

  void OnSegment(const Segment& segment) override {
    ++segments;
    Touch(segment.payload);
    KEYTRAIL_REQUIRE(segment.payload_length >= segment.payload.size());
    // What an IP header can say, or what the frame says where that is 0.
    KEYTRAIL_REQUIRE(segment.payload_length <= std::max<uint32_t>(wire_length, 65535));
    KEYTRAIL_REQUIRE(segment.source.address.family == segment.destination.address.family);
    KEYTRAIL_REQUIRE(segment.source.address.family == 4 || segment.source.address.family == 6);
  }
};

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  Input input(data, size);
  Counters counters;
  PacketDecoder decoder(counters);
  Checks checks;
  RawPacket packet;
  packet.link_type = kLinkTypes[input.Byte() % std::size(kLinkTypes)];
  for (int64_t time = 1'700'000'000'000'000'000; !input.empty(); time += 1'000'000) {
    const uint32_t not_captured = input.Byte();
    const Bytes captured = input.Take(input.Two());
    // Exactly as large as the packet, for AddressSanitizer.
    const std::vector<uint8_t> exact(captured.begin(), captured.end());
    packet.time = TimeNs{time};
    packet.bytes = exact;
    packet.wire_length = static_cast<uint32_t>(exact.size()) + not_captured;
    checks.wire_length = packet.wire_length;
    checks.segments = 0;
    decoder.Feed(packet, checks);
    KEYTRAIL_REQUIRE(checks.segments <= 1);
  }
  return 0;
}
