// Packets through all decoding rooms of the agent, as agent/pipeline.cc wires them.
//
// Input: 1 byte link type, 1 byte options (bit 0 all, bit 1 keep_messages, bit 2 wants_messages); then
// packets: 1 byte milliseconds since the one before (bit 7: backwards), 1 byte how many bytes more were on
// the wire, 2 bytes length, the captured bytes.
#include <iterator>
#include <vector>

#include "agent/http2/http2_decoder.h"
#include "agent/packet/packet_decoder.h"
#include "agent/tcp/tcp_tracker.h"
#include "tests/fuzz/call_checks.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  static constexpr int kLinkTypes[] = {1, 101, 113, 276, 0};
  Input input(data, size);
  RawPacket packet;
  packet.link_type = kLinkTypes[input.Byte() % std::size(kLinkTypes)];
  const uint8_t wanted = input.Byte();
  const GrpcOptions options{(wanted & 1) != 0, (wanted & 2) != 0, (wanted & 4) != 0};
  Counters counters;
  CallChecks calls(options);
  calls.ordered_times = false;
  {
    GrpcDecoder grpc(TheSchema(), options, calls, counters);
    Http2Decoder http2(grpc, counters);
    TcpTracker tcp(http2, counters);
    PacketDecoder packets(counters);
    int64_t now = 1'700'000'000'000'000'000;
    while (!input.empty()) {
      const uint8_t step = input.Byte();
      now += (step & 0x80 ? -1 : 1) * (step & 0x7F) * int64_t{1'000'000};
      const uint32_t not_captured = input.Byte();
      const Bytes captured = input.Take(input.Two());
      // Exactly as large as the packet, for AddressSanitizer.
      const std::vector<uint8_t> exact(captured.begin(), captured.end());
      packet.time = TimeNs{now};
      packet.bytes = exact;
      packet.wire_length = static_cast<uint32_t>(exact.size()) + not_captured;
      packets.Feed(packet, tcp);
    }
    tcp.Finish();
  }
  calls.Finish();
  return 0;
}
