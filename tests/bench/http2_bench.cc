// The HTTP/2 room alone: what a frame, a header block and a byte in a search cost.
#include <benchmark/benchmark.h>

#include <random>

#include "agent/http2/frame_search.h"
#include "agent/http2/hpack_decoder.h"
#include "agent/http2/http2_decoder.h"
#include "tests/support/http2_builder.h"

namespace keytrail::testing {
namespace {

class CountingSink final : public Http2Sink {
 public:
  uint64_t events = 0;
  void OnHttp2(const ConnectionRef&, Protocol, int, TimeNs) override { ++events; }
  void OnClientKnown(const ConnectionRef&, int) override { ++events; }
  void OnHeaders(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, const HeaderBlock& block,
                 bool) override {
    events += block.path.size();
  }
  void OnData(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, Bytes data, bool, bool) override {
    events += data.size();
  }
  void OnReset(const ConnectionRef&, int, uint32_t, TimeNs, uint32_t) override { ++events; }
  void OnGoaway(const ConnectionRef&, int, TimeNs, uint32_t, uint32_t) override { ++events; }
  void OnLoss(const ConnectionRef&, int, TimeNs, uint64_t, uint32_t) override { ++events; }
  void OnEnd(const ConnectionRef&, TimeNs, CloseReason) override { ++events; }
};

// One connection that is fed the same segment again and again.
class Feeder {
 public:
  Feeder() : decoder_(sink_, counters) {
    ref_.key = &key_;
    ref_.opened_by = 0;
    decoder_.OnOpen(ref_, TimeNs{0});
    Send(kPreface + SettingsFrame({}));
  }
  void Send(const std::string& bytes) { decoder_.OnBytes(ref_, 0, TimeNs{0}, 0, AsBytes(bytes)); }

  Counters counters;

 private:
  CountingSink sink_;
  FlowKey key_;
  ConnectionRef ref_;
  Http2Decoder decoder_;
};

void PerItem(benchmark::State& state, const char* what, uint64_t count) {
  state.counters[what] = benchmark::Counter(static_cast<double>(count),
                                            benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void DataFrames(benchmark::State& state) {
  Feeder feeder;
  std::string segment;
  for (int i = 0; i < 10; ++i) segment += DataFrame(1, std::string(static_cast<size_t>(state.range(0)), 'x'));
  for (auto _ : state) feeder.Send(segment);
  PerItem(state, "per_frame", state.iterations() * 10);
}
BENCHMARK(DataFrames)->Arg(20)->Arg(130)->Arg(1400);

// A segment as a unary server of C-core sends it: WINDOW_UPDATE, HEADERS, DATA, trailers, all indexed.
void UnaryAnswers(benchmark::State& state) {
  Feeder feeder;
  feeder.Send(
      HeadersFrame(1, HpackInsert("content-type", "application/grpc") + HpackInsert("grpc-status", "0")));
  const std::string segment = WindowUpdateFrame(0, 5) + HeadersFrame(3, HpackIndexed(8) + HpackIndexed(63)) +
                              DataFrame(3, GrpcMessage(std::string(100, 'x'))) +
                              HeadersFrame(3, HpackIndexed(62), true);
  for (auto _ : state) feeder.Send(segment);
  PerItem(state, "per_frame", state.iterations() * 4);
}
BENCHMARK(UnaryAnswers);

class Blocks {
 public:
  Blocks() {
    setup_ = encoder_.Encode(GrpcRequestHeaders("/tikvpb.Tikv/KvGet"));
    Decode(setup_);
    indexed = encoder_.Encode(GrpcRequestHeaders("/tikvpb.Tikv/KvGet"));
  }
  const HeaderBlock& Decode(const std::string& block) {
    return hpack_.Decode(AsBytes(block), 4096, scratch_);
  }

  std::string indexed;

 private:
  IndexingEncoder encoder_;
  std::string setup_;
  Counters counters_;
  HeaderScratch scratch_{counters_};
  HpackDecoder hpack_;
};

void BlockRemembered(benchmark::State& state) {
  Blocks blocks;
  for (auto _ : state) benchmark::DoNotOptimize(blocks.Decode(blocks.indexed).path);
}
BENCHMARK(BlockRemembered);

// Indexed but for one literal that never comes again and is not inserted.
void BlockNotRemembered(benchmark::State& state) {
  Blocks blocks;
  std::vector<std::string> all;
  for (int i = 0; i < 4096; ++i)
    all.push_back(blocks.indexed + HpackLiteral(62, std::to_string(1000000 + i) + "u"));
  size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(blocks.Decode(all[i++ % all.size()]).path);
}
BENCHMARK(BlockNotRemembered);

// ... that is inserted each time, as grpc-go does with grpc-timeout.
void BlockWithInsertion(benchmark::State& state) {
  Blocks blocks;
  IndexingEncoder encoder;
  std::vector<std::string> all;
  for (int i = 0; i < 20000; ++i) {
    FieldList fields = GrpcRequestHeaders("/tikvpb.Tikv/KvGet");
    fields.emplace_back("grpc-timeout", std::to_string(1000000 + i) + "u");
    all.push_back(encoder.Encode(fields));
  }
  size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(blocks.Decode(all[i++ % all.size()]).path);
}
BENCHMARK(BlockWithInsertion);

// nghttp2 alone, asked field by field, on the fully indexed block: what the memo saves.
void BlockByNghttp2(benchmark::State& state) {
  IndexingEncoder encoder;
  nghttp2_hd_inflater* inflater = nullptr;
  nghttp2_hd_inflate_new(&inflater);
  const auto inflate = [&](const std::string& block) {
    const auto* at = reinterpret_cast<const uint8_t*>(block.data());
    size_t left = block.size();
    size_t bytes = 0;
    while (true) {
      nghttp2_nv nv;
      int flags = 0;
      const ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, left, 1);
      if (n < 0) break;
      at += n;
      left -= static_cast<size_t>(n);
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) bytes += nv.valuelen;
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
    }
    nghttp2_hd_inflate_end_headers(inflater);
    return bytes;
  };
  inflate(encoder.Encode(GrpcRequestHeaders("/tikvpb.Tikv/KvGet")));
  const std::string block = encoder.Encode(GrpcRequestHeaders("/tikvpb.Tikv/KvGet"));
  for (auto _ : state) benchmark::DoNotOptimize(inflate(block));
  nghttp2_hd_inflate_del(inflater);
}
BENCHMARK(BlockByNghttp2);

// Bytes in which no frame is found: random, and rich in zeroes.
void SearchInVain(benchmark::State& state) {
  std::mt19937 random(1);
  std::string bytes(65536, '\0');
  for (char& c : bytes) {
    if (state.range(0) == 0 || random() % 10 == 0) c = static_cast<char>(random());
  }
  for (auto _ : state) {
    FrameSearch search;
    for (size_t at = 0; at < bytes.size(); at += 1448) {
      search.Append(TimeNs{0}, 0,
                    Bytes(AsBytes(bytes)).subspan(at, std::min<size_t>(1448, bytes.size() - at)));
      benchmark::DoNotOptimize(search.Find({}));
    }
  }
  PerItem(state, "per_byte", state.iterations() * bytes.size());
}
BENCHMARK(SearchInVain)->Arg(0)->Arg(1);

}  // namespace
}  // namespace keytrail::testing

BENCHMARK_MAIN();
