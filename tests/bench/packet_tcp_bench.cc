// Nanoseconds a packet of PacketDecoder and TcpTracker, together and apart, over captures held in memory.
//
// The captures are the generated ones of the shared data (KEYTRAIL_SHARED_DATA). The sink only counts, so
// this is the cost of the two rooms alone.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "agent/capture/packet_source.h"
#include "agent/packet/packet_decoder.h"
#include "agent/tcp/tcp_tracker.h"

namespace keytrail {
namespace {

// In the agent libpcap has just copied the packet, so its headers are in the cache. A capture of 20 MB in
// memory would add 100 ns and more a packet for fetching them, which is not the rooms' cost. So only the
// first kKept bytes of each packet are kept, one after the other; no room reads further, except to copy a
// payload that has to wait, and then what it copies is of no interest (the padding at the end keeps it
// inside).
constexpr size_t kKept = 128;
constexpr size_t kPadding = 1 << 18;

struct Capture {
  std::vector<uint8_t> bytes;
  std::vector<RawPacket> packets;
};

bool Load(const std::string& path, Capture& capture) {
  Result<std::unique_ptr<PacketSource>> source = OpenFile({path, ""});
  if (!source) {
    std::fprintf(stderr, "skipped: %s\n", source.error().c_str());
    return false;
  }
  for (;;) {
    RawPacket packet;
    const Result<PacketSource::Next> next = (*source)->Read(packet);
    if (!next || *next == PacketSource::Next::kEnd) break;
    const Bytes head = packet.bytes.first(std::min(kKept, packet.bytes.size()));
    capture.bytes.insert(capture.bytes.end(), head.begin(), head.end());
    capture.bytes.resize(capture.bytes.size() + kKept - head.size());
    capture.packets.push_back(packet);
  }
  capture.bytes.resize(capture.bytes.size() + kPadding);
  for (size_t i = 0; i < capture.packets.size(); ++i) {
    Bytes& bytes = capture.packets[i].bytes;
    bytes = Bytes(capture.bytes.data() + i * kKept, std::min(bytes.size(), kPadding));
  }
  return true;
}

class CountingSegments final : public SegmentSink {
 public:
  void OnSegment(const Segment& segment) override { bytes += segment.payload_length; }
  uint64_t bytes = 0;
};

class CountingBytes final : public ByteSink {
 public:
  void OnOpen(const ConnectionRef&, TimeNs) override {}
  void OnBytes(const ConnectionRef&, int, TimeNs, uint64_t, Bytes b) override { bytes += b.size(); }
  void OnGap(const ConnectionRef&, int, TimeNs, uint64_t, uint64_t) override {}
  void OnClose(const ConnectionRef&, TimeNs, CloseReason) override {}
  uint64_t bytes = 0;
};

void Report(benchmark::State& state, size_t packets) {
  state.counters["ns_per_packet"] =
      benchmark::Counter(static_cast<double>(packets) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void Decode(benchmark::State& state, const Capture& capture) {
  Counters counters;
  PacketDecoder decoder(counters);
  CountingSegments sink;
  for (auto _ : state) {
    for (const RawPacket& packet : capture.packets) decoder.Feed(packet, sink);
  }
  benchmark::DoNotOptimize(sink.bytes);
  Report(state, capture.packets.size());
}

void DecodeAndTrack(benchmark::State& state, const Capture& capture) {
  Counters counters;
  CountingBytes sink;
  for (auto _ : state) {
    PacketDecoder decoder(counters);
    TcpTracker tracker(sink, counters);
    for (const RawPacket& packet : capture.packets) decoder.Feed(packet, tracker);
    tracker.Finish();
  }
  benchmark::DoNotOptimize(sink.bytes);
  Report(state, capture.packets.size());
}

}  // namespace
}  // namespace keytrail

int main(int argc, char** argv) {
  const char* shared = std::getenv("KEYTRAIL_SHARED_DATA");
  static std::vector<std::unique_ptr<keytrail::Capture>> captures;
  for (const char* name : {"generated/cpp_batch_20m", "generated/cpp_pd_20m", "generated/cpp_unary_20m",
                           "generated/go_unary_20m", "cluster/healthy/tikv1"}) {
    auto capture = std::make_unique<keytrail::Capture>();
    const std::string path =
        std::string(shared != nullptr ? shared : KEYTRAIL_SHARED_DATA_DEFAULT) + "/" + name + ".pcap.zst";
    if (!keytrail::Load(path, *capture)) continue;
    const keytrail::Capture* loaded = captures.emplace_back(std::move(capture)).get();
    benchmark::RegisterBenchmark((std::string("decode/") + name).c_str(),
                                 [loaded](benchmark::State& s) { keytrail::Decode(s, *loaded); });
    benchmark::RegisterBenchmark((std::string("decode_and_track/") + name).c_str(),
                                 [loaded](benchmark::State& s) { keytrail::DecodeAndTrack(s, *loaded); });
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
