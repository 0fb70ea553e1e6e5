#include "tests/support/decode_file.h"

#include <cstdlib>
#include <filesystem>

#include "agent/capture/packet_source.h"
#include "agent/http2/http2_decoder.h"
#include "agent/packet/packet_decoder.h"
#include "agent/tcp/tcp_tracker.h"

namespace keytrail::testing {

Result<DecodedFile> DecodeFile(const std::string& path, const Schema& schema, const GrpcOptions& options,
                               CallSink& sink, const std::function<bool(uint64_t)>& keep) {
  FileSourceOptions source_options;
  source_options.path = path;
  Result<std::unique_ptr<PacketSource>> source = OpenFile(source_options);
  if (!source) return Error{source.error()};
  DecodedFile decoded;
  decoded.counters = std::make_unique<Counters>();
  decoded.grpc = std::make_unique<GrpcDecoder>(schema, options, sink, *decoded.counters);
  Http2Decoder http2(*decoded.grpc, *decoded.counters);
  TcpTracker tcp(http2, *decoded.counters);
  PacketDecoder packets(*decoded.counters);
  RawPacket packet;
  for (uint64_t index = 0;; ++index) {
    const Result<PacketSource::Next> next = (*source)->Read(packet);
    if (!next) return Error{next.error()};
    if (*next == PacketSource::Next::kEnd) break;
    if (keep && !keep(index)) continue;
    decoded.counters->Add(Counter::kPackets);
    decoded.counters->Add(Counter::kBytes, packet.wire_length);
    packets.Feed(packet, tcp);
  }
  packets.Finish();
  tcp.Finish();
  return decoded;
}

std::string SharedDataFolder() {
  const char* const set = std::getenv("KEYTRAIL_SHARED_DATA");
  const std::string folder = set != nullptr ? set : KEYTRAIL_SHARED_DATA_DEFAULT;
  std::error_code error;
  return std::filesystem::is_directory(folder, error) ? folder : std::string();
}

}  // namespace keytrail::testing
