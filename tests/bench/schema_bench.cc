// The schema room alone: what one message costs.
//
// Messages are built with protobuf from the bundled descriptors, so that they are exactly what a client
// sends.
#include <benchmark/benchmark.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>

#include <memory>

#include "agent/schema/schema.h"
#include "common/key_codec.h"
#include "proto/kvproto/bundled_descriptor_set.h"

namespace keytrail {
namespace {

namespace pb = google::protobuf;

class Made {
 public:
  Made() {
    pb::FileDescriptorSet set;
    const auto bytes = BundledDescriptorSet();
    set.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
    for (const auto& file : set.file()) pool_.BuildFile(file);
  }

  std::string Message(const std::string& type, const std::string& text) {
    const std::unique_ptr<pb::Message> m(factory_.GetPrototype(pool_.FindMessageTypeByName(type))->New());
    if (!pb::TextFormat::ParseFromString(text, m.get())) std::abort();
    return m->SerializeAsString();
  }

 private:
  pb::DescriptorPool pool_;
  pb::DynamicMessageFactory factory_{&pool_};
};

const Schema& TheSchema() {
  static const std::unique_ptr<Schema> schema = std::move(Schema::Bundled().value());
  return *schema;
}

// What client-go of 2026 writes for a point get.
constexpr const char* kContext =
    "context { region_id: 160017 region_epoch { conf_ver: 5 version: 1822 } peer { id: 160018 store_id: 4 } "
    "max_execution_duration_ms: 60000 resource_group_tag: "
    "'\\n\\040\\206\\010\\177\\021\\026\\263\\203\\262\\313\\357\\200\\113\\055\\223\\141\\322\\277\\277\\177"
    "\\230\\024\\146\\267\\004\\215\\303\\163\\304\\056\\070' "
    "request_source: 'external_Select' resource_control_context { resource_group_name: 'default' } "
    "keyspace_id: 4294967295 buckets_version: 12 source_stmt { start_ts: 462345678901234567 connection_id: "
    "2097158 stmt_id: 55 } cluster_id: 7400000000000000001 } ";

std::string TableKey(const char* hex) {
  std::string text = "'";
  const std::string key = FromHex(hex).value();
  for (const unsigned char c : key) {
    char escaped[5];
    std::snprintf(escaped, sizeof escaped, "\\%03o", c);
    text += escaped;
  }
  return text + "'";
}

void RunWalk(benchmark::State& state, const std::string& type, const std::string& text) {
  Made made;
  const std::string message = made.Message(type, text);
  const MessageType id = TheSchema().FindMessage(type);
  MessageFacts facts;
  for (auto _ : state) {
    facts.Reset();
    benchmark::DoNotOptimize(TheSchema().Walk(id, AsBytes(message), facts));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * message.size()));
  state.counters["bytes"] = static_cast<double>(message.size());
}

const std::string kKey = TableKey("7480000000000000355f72800000000000314c");

void BM_WalkKvGetRequest(benchmark::State& state) {
  RunWalk(state, "kvrpcpb.GetRequest",
          std::string(kContext) + "key: " + kKey + " version: 462345678901234567");
}
BENCHMARK(BM_WalkKvGetRequest);

void BM_WalkKvGetRequestOfTiDB50(benchmark::State& state) {
  RunWalk(
      state, "kvrpcpb.GetRequest",
      "context { region_id: 16 region_epoch { conf_ver: 1 version: 2 } peer { id: 17 store_id: 1 } } key: " +
          kKey + " version: 462345678901234567");
}
BENCHMARK(BM_WalkKvGetRequestOfTiDB50);

void BM_WalkCoprocessorResponse1KiB(benchmark::State& state) {
  RunWalk(
      state, "coprocessor.Response",
      "data: '" + std::string(930, 'x') +
          "' exec_details_v2 { time_detail { wait_wall_time_ms: 1 process_wall_time_ms: 2 } scan_detail_v2 { "
          "processed_versions: 200 total_versions: 201 rocksdb_block_cache_hit_count: 7 } time_detail_v2 { "
          "wait_wall_time_ns: 300000 process_wall_time_ns: 400000 } } can_be_cached: true "
          "latest_buckets_version: 12");
}
BENCHMARK(BM_WalkCoprocessorResponse1KiB);

void BM_WalkCoprocessorRequest(benchmark::State& state) {
  std::string text =
      std::string(kContext) + "tp: 103 start_ts: 462345678901234567 data: '" + std::string(300, 'p') + "' ";
  for (int i = 0; i < 8; ++i) text += "ranges { start: " + kKey + " end: " + kKey + " } ";
  RunWalk(state, "coprocessor.Request", text);
}
BENCHMARK(BM_WalkCoprocessorRequest);

void BM_WalkBatchGet64(benchmark::State& state) {
  std::string text = kContext;
  for (int i = 0; i < 64; ++i) text += "keys: " + kKey + " ";
  RunWalk(state, "kvrpcpb.BatchGetRequest", text);
}
BENCHMARK(BM_WalkBatchGet64);

void BM_WalkPrewrite8(benchmark::State& state) {
  std::string text = std::string(kContext) + "start_version: 462345678901234567 primary_lock: " + kKey + " ";
  for (int i = 0; i < 8; ++i)
    text += "mutations { key: " + kKey + " value: '" + std::string(100, 'v') + "' } ";
  RunWalk(state, "kvrpcpb.PrewriteRequest", text);
}
BENCHMARK(BM_WalkPrewrite8);

const char* const kRegion =
    "region { id: 160017 start_key: "
    "'t\\200\\000\\000\\000\\000\\000\\000\\3775_r\\200\\000\\000\\000\\000\\377' "
    "end_key: 't\\200\\000\\000\\000\\000\\000\\000\\3775_r\\200\\000\\000\\000\\000\\377' region_epoch { "
    "conf_ver: 5 "
    "version: 1822 } peers { id: 1 store_id: 1 } peers { id: 2 store_id: 2 } peers { id: 3 store_id: 3 } } "
    "leader { id: 1 store_id: 1 } ";

void BM_WalkRegionHeartbeat(benchmark::State& state) {
  RunWalk(state, "pdpb.RegionHeartbeatRequest",
          std::string("header { cluster_id: 7400000000000000001 } ") + kRegion +
              "approximate_size: 96 approximate_keys: 100000 term: 6 interval { start_timestamp: 1 "
              "end_timestamp: "
              "61 }");
}
BENCHMARK(BM_WalkRegionHeartbeat);

void BM_WalkBatchScanRegions128(benchmark::State& state) {
  std::string text = "header { cluster_id: 7400000000000000001 } ";
  for (int i = 0; i < 128; ++i) text += std::string("regions { ") + kRegion + " } ";
  RunWalk(state, "pdpb.BatchScanRegionsResponse", text);
}
BENCHMARK(BM_WalkBatchScanRegions128);

void BM_CheckKvGetRequest(benchmark::State& state) {
  Made made;
  const std::string message = made.Message(
      "kvrpcpb.GetRequest", std::string(kContext) + "key: " + kKey + " version: 462345678901234567");
  const MessageType id = TheSchema().FindMessage("kvrpcpb.GetRequest");
  for (auto _ : state) benchmark::DoNotOptimize(TheSchema().Check(id, AsBytes(message)));
}
BENCHMARK(BM_CheckKvGetRequest);

void BM_FindMethod(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(TheSchema().FindMethod("/tikvpb.Tikv/BatchCommands"));
}
BENCHMARK(BM_FindMethod);

void BM_BundledStartup(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Schema::Bundled().ok());
}
BENCHMARK(BM_BundledStartup)->Unit(benchmark::kMillisecond);

void BM_KeyText(benchmark::State& state) {
  const std::string key = FromHex("7480000000000000355f72800000000000314c").value();
  for (auto _ : state) benchmark::DoNotOptimize(RawKeyText(AsBytes(key)));
}
BENCHMARK(BM_KeyText);

}  // namespace
}  // namespace keytrail
