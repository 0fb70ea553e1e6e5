// The gRPC room alone: HTTP/2 events in, records to a sink that does nothing.
#include <benchmark/benchmark.h>

#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

class Sink final : public CallSink {
 public:
  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord& call, MessageType, MessageType) override {
    benchmark::DoNotOptimize(&call);
    ++calls;
  }
  uint64_t calls = 0;
};

struct Feeder {
  Feeder() : decoder(BundledSchema(), {}, sink, counters) {
    key.a.address.family = key.b.address.family = 4;
    connection.key = &key;
    decoder.OnHttp2(connection, Protocol::kHttp2Start, 0, TimeNs{1});
    request.method = "POST";
    request.content_type = "application/grpc";
    request_fields = {{":method", "POST"},           {":scheme", "http"}, {":path", ""},
                      {":authority", "tikv1:20160"}, {"te", "trailers"},  {"content-type", ""},
                      {"user-agent", "grpc"}};
    request.fields = request_fields;
    response.http_status = 200;
    response.content_type = "application/grpc";
    trailers.grpc_status = 0;
  }

  Sink sink;
  Counters counters;
  GrpcDecoder decoder;
  FlowKey key;
  ConnectionRef connection;
  std::vector<HeaderField> request_fields;
  HeaderBlock request;
  HeaderBlock response;
  HeaderBlock trailers;
};

void RunUnary(benchmark::State& state, std::string_view path, uint64_t identity, const std::string& asked,
              const std::string& answered) {
  Feeder f;
  f.request.path = path;
  f.request.identity = identity;
  const std::string request = Framed(asked);
  const std::string response = Framed(answered);
  uint32_t stream = 1;
  for (auto _ : state) {
    const TimeNs t{static_cast<int64_t>(stream) * 1000};
    f.decoder.OnHeaders(f.connection, 0, stream, t, t, f.request, false);
    f.decoder.OnData(f.connection, 0, stream, t, t, AsBytes(request), true, true);
    f.decoder.OnHeaders(f.connection, 1, stream, t, t, f.response, false);
    f.decoder.OnData(f.connection, 1, stream, t, t, AsBytes(response), true, false);
    f.decoder.OnHeaders(f.connection, 1, stream, t, t, f.trailers, true);
    stream += 2;
  }
  state.SetItemsProcessed(static_cast<int64_t>(f.sink.calls));
}

// etcd calls are not walked: the room's own cost of a unary call.
void UnaryNotWalked(benchmark::State& state) {
  RunUnary(state, "/etcdserverpb.KV/Range", 7, "key", "value");
}
BENCHMARK(UnaryNotWalked);

void UnaryNotWalkedNoIdentity(benchmark::State& state) {
  RunUnary(state, "/etcdserverpb.KV/Range", 0, "key", "value");
}
BENCHMARK(UnaryNotWalkedNoIdentity);

void UnaryKvGet(benchmark::State& state) {
  RunUnary(state, "/tikvpb.Tikv/KvGet", 7, GetRequest(16, "t53_r8012"), GetResponse(std::string(100, 'v')));
}
BENCHMARK(UnaryKvGet);

// What of UnaryKvGet is the walker's.
void WalkOfUnaryKvGet(benchmark::State& state) {
  const Schema& schema = BundledSchema();
  const Method* method = schema.FindMethod("/tikvpb.Tikv/KvGet");
  const std::string request = GetRequest(16, "t53_r8012");
  const std::string response = GetResponse(std::string(100, 'v'));
  MessageFacts facts;
  for (auto _ : state) {
    facts.Reset();
    benchmark::DoNotOptimize(schema.Walk(method->request, AsBytes(request), facts));
    facts.Reset();
    benchmark::DoNotOptimize(schema.Walk(method->response, AsBytes(response), facts));
  }
}
BENCHMARK(WalkOfUnaryKvGet);

// One message of a stream that is counted only.
void TsoMessage(benchmark::State& state) {
  Feeder f;
  f.request.path = "/pdpb.PD/Tso";
  const TimeNs t{1};
  f.decoder.OnHeaders(f.connection, 0, 1, t, t, f.request, false);
  f.decoder.OnHeaders(f.connection, 1, 1, t, t, f.response, false);
  const std::string message = Framed(Proto().Varint(2, 1).Text(1, "header").bytes());
  int direction = 0;
  for (auto _ : state) {
    f.decoder.OnData(f.connection, direction, 1, t, t, AsBytes(message), true, false);
    direction ^= 1;
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()));
}
BENCHMARK(TsoMessage);

// A request of `range` Gets and the answer to all of them; items are sub-commands.
void BatchCommandsGets(benchmark::State& state) {
  Feeder f;
  f.request.path = "/tikvpb.Tikv/BatchCommands";
  const TimeNs t{1};
  f.decoder.OnHeaders(f.connection, 0, 1, t, t, f.request, false);
  f.decoder.OnHeaders(f.connection, 1, 1, t, t, f.response, false);
  std::vector<Command> asked;
  std::vector<Command> answered;
  for (int64_t i = 0; i < state.range(0); ++i) {
    asked.push_back({1000 + static_cast<uint64_t>(i), 1, GetRequest(16, "t53_r8012")});
    answered.push_back({1000 + static_cast<uint64_t>(i), 1, GetResponse(std::string(100, 'v'))});
  }
  const std::string request = Framed(Batch(asked));
  const std::string response = Framed(Batch(answered));
  for (auto _ : state) {
    f.decoder.OnData(f.connection, 0, 1, t, t, AsBytes(request), true, false);
    f.decoder.OnData(f.connection, 1, 1, t, t, AsBytes(response), true, false);
  }
  state.SetItemsProcessed(static_cast<int64_t>(f.sink.calls));
}
BENCHMARK(BatchCommandsGets)->Arg(1)->Arg(16)->Arg(128);

}  // namespace
}  // namespace keytrail::testing

BENCHMARK_MAIN();
