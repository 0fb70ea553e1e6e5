// The whole agent on the large shared captures: counts by path, message and sub-command equal those of an
// independent decoder (truth.json) and of the load generators exactly.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "common/key_codec.h"
#include "tests/support/decode_file.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

Json ReadJson(const fs::path& path) {
  std::ifstream in(path);
  return Json::parse(in);
}

// TiDB asks TiDB on its status port when a cluster table is read (tidb-wire.md section 7). The decoder behind
// truth.json looked at the ports of PD and TiKV only; tshark shows these calls (tcp.port==10080,http2).
constexpr uint16_t kTidbStatusPort = 10080;

// What must hold for every record of an undamaged capture, whatever is in it.
class Checks final : public CallSink {
 public:
  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord& call, MessageType, MessageType) override {
    ++calls;
    const std::string method(call.method);
    EXPECT_EQ(call.method_from == MethodFrom::kUnknown, method.empty());
    if (call.kind == CallKind::kAmend) return;
    if (call.incomplete & (kMalformed | kUnknownEncoding | kOverCap)) {
      ++broken;
      ADD_FAILURE() << method << " " << call.command << " incomplete=" << call.incomplete;
    }
    if (call.req_first.known() && call.resp_last.known() && call.kind != CallKind::kStream) {
      EXPECT_GE(call.resp_last.ns, call.req_first.ns) << method;
    }
    if (!call.joined_at_start) return;
    EXPECT_TRUE(call.client_known);
    EXPECT_EQ(call.method_from, MethodFrom::kHeader);
    EXPECT_FALSE(method.empty());
    EXPECT_EQ(call.incomplete & (kHeadersNotSeen | kRequestNotSeen), 0u) << method << " " << call.command;
    if (call.kind == CallKind::kSub) {
      ++subs;
      if (call.incomplete == 0) ++subs_answered;
      EXPECT_NE(call.request, nullptr);
    }
    if (call.server.port == kTidbStatusPort) {
      EXPECT_EQ(call.kind, CallKind::kUnary);
      ++unary_of_tidb[method];
    }
    if (call.kind == CallKind::kUnary) {
      ++unary_by_method[method];
      request_bytes[method] += call.req_bytes;
      response_bytes[method] += call.resp_bytes;
    }
    if (call.kind == CallKind::kStream) {
      ++streams_by_method[method];
      request_bytes[method] += call.req_bytes;
      response_bytes[method] += call.resp_bytes;
    }
    const bool is_call = call.kind == CallKind::kUnary || call.kind == CallKind::kStream;
    if (is_call && call.grpc_status) ++statuses[std::to_string(*call.grpc_status)];
    if (call.kind == CallKind::kSub && !call.command.empty()) {
      ++commands[std::string(call.command)];
      if (call.response != nullptr) ++answered_commands[std::string(call.command)];
    }
    if (call.response != nullptr) {
      for (const ErrorFact& error : call.response->errors) {
        if (error.kind >= ErrorKind::kNotLeader && error.kind <= ErrorKind::kOtherRegionError) {
          ++region_errors[call.command.empty() ? method : std::string(call.command)];
          break;
        }
      }
    }
  }

  uint64_t calls = 0;
  uint64_t broken = 0;
  uint64_t subs = 0;
  uint64_t subs_answered = 0;
  std::map<std::string, uint64_t> unary_of_tidb;
  std::map<std::string, uint64_t> unary_by_method;
  std::map<std::string, uint64_t> streams_by_method;
  std::map<std::string, uint64_t> request_bytes;
  std::map<std::string, uint64_t> response_bytes;
  std::map<std::string, uint64_t> statuses;
  std::map<std::string, uint64_t> commands;
  std::map<std::string, uint64_t> answered_commands;
  std::map<std::string, uint64_t> region_errors;
};

void ExpectNothingLost(const Counters& counters, const std::string& label) {
  for (size_t i = 0; i < kCounterCount; ++i) {
    const Counter c = static_cast<Counter>(i);
    const bool loss = CounterName(c).starts_with("cap_") || c == Counter::kGaps ||
                      c == Counter::kFramesMalformed || c == Counter::kHeaderBlocksMalformed ||
                      c == Counter::kMessagesMalformed || c == Counter::kMessagesUndecodable ||
                      c == Counter::kPacketsMalformed;
    if (loss) {
      EXPECT_EQ(counters.Get(c), 0u) << label << " " << CounterName(c);
    }
  }
}

TEST(SharedCaptures, ClusterCountsEqualTheTruth) {
  const std::string folder = SharedDataFolder();
  if (folder.empty()) GTEST_SKIP() << "the shared captures are not here (KEYTRAIL_SHARED_DATA)";
  size_t hosts = 0;
  for (const fs::directory_entry& scenario : fs::directory_iterator(fs::path(folder) / "cluster")) {
    const Json truth = ReadJson(scenario.path() / "truth.json");
    for (const auto& [host, expected] : truth["hosts"].items()) {
      ++hosts;
      const std::string label = scenario.path().filename().string() + " " + host;
      SCOPED_TRACE(label);
      Checks checks;
      Result<DecodedFile> decoded =
          DecodeFile((scenario.path() / (host + ".pcap.zst")).string(), BundledSchema(), {}, checks);
      ASSERT_TRUE(decoded) << decoded.error();
      EXPECT_EQ(decoded->counters->Get(Counter::kPackets), expected["packets"].get<uint64_t>());
      Json counts = Json::object();
      for (const auto& [path, n] : decoded->grpc->counts_from_start()) {
        const uint64_t elsewhere = checks.unary_of_tidb[path];
        if (elsewhere == n.streams) continue;
        counts[path] = {n.streams - elsewhere, n.request_messages - elsewhere,
                        n.response_messages - elsewhere};
      }
      EXPECT_EQ(counts, expected["streams_and_messages"])
          << Json::diff(expected["streams_and_messages"], counts);
      Json subs = Json::object();
      uint64_t answered = 0;
      for (const auto& [number, n] : decoded->grpc->sub_counts_from_start()) {
        subs[std::to_string(number)] = n.request_messages;
        answered += n.response_messages;
      }
      EXPECT_EQ(subs, expected["batch_subcommands"]);
      EXPECT_EQ(answered, expected["batch_subcommands_answered"].get<uint64_t>());
      const bool tidb_asks_tidb =
          label.starts_with("modern_healthy tidb") || label.starts_with("modern_pd_wide tidb");
      EXPECT_EQ(checks.unary_of_tidb["/tikvpb.Tikv/Coprocessor"], tidb_asks_tidb ? 2u : 0u);
      EXPECT_EQ(checks.broken, 0u);
      EXPECT_EQ(decoded->counters->Get(Counter::kMessagesMalformed), 0u);
    }
  }
  EXPECT_EQ(hosts, 28u);
}

TEST(SharedCaptures, GeneratedCountsEqualTheGenerators) {
  const std::string folder = SharedDataFolder();
  if (folder.empty()) GTEST_SKIP() << "the shared captures are not here (KEYTRAIL_SHARED_DATA)";
  for (const std::string name : {"cpp_batch_20m", "cpp_pd_20m", "cpp_unary_20m", "go_unary_20m"}) {
    SCOPED_TRACE(name);
    const fs::path generated = fs::path(folder) / "generated";
    const Json truth = ReadJson(generated / (name + ".json"));
    Checks checks;
    Result<DecodedFile> decoded =
        DecodeFile((generated / (name + ".pcap.zst")).string(), BundledSchema(), {}, checks);
    ASSERT_TRUE(decoded) << decoded.error();
    ExpectNothingLost(*decoded->counters, name);
    std::map<std::string, uint64_t> streams;
    std::map<std::string, uint64_t> requests;
    std::map<std::string, uint64_t> responses;
    for (const auto& [path, n] : decoded->grpc->counts_from_start()) {
      streams[path] = n.streams;
      requests[path] = n.request_messages;
      responses[path] = n.response_messages;
    }
    EXPECT_EQ(Json(streams), truth["calls"]);
    std::map<std::string, uint64_t> records = checks.unary_by_method;
    records.insert(checks.streams_by_method.begin(), checks.streams_by_method.end());
    EXPECT_EQ(Json(records), truth["calls"]);
    EXPECT_EQ(Json(checks.request_bytes), truth["req_bytes"]);
    EXPECT_EQ(Json(checks.response_bytes), truth["resp_bytes"]);
    EXPECT_EQ(Json(checks.statuses), truth["status"]);
    if (truth.contains("sub") && !truth["sub"].empty()) {
      EXPECT_EQ(Json(checks.commands), truth["sub"]);
      EXPECT_EQ(Json(checks.answered_commands), truth["subresp"]);
      EXPECT_EQ(Json(checks.region_errors), truth["sub_region_error"]);
      EXPECT_EQ(requests["/tikvpb.Tikv/BatchCommands"], truth["batch_req_msgs"].get<uint64_t>());
      EXPECT_EQ(responses["/tikvpb.Tikv/BatchCommands"], truth["batch_resp_msgs"].get<uint64_t>());
    }
    if (truth.contains("region_error")) {
      EXPECT_EQ(Json(checks.region_errors), truth["region_error"]);
    }
    if (truth.contains("tso_resp_msgs")) {
      EXPECT_EQ(requests["/pdpb.PD/Tso"], truth["tso_req_msgs"].get<uint64_t>());
      EXPECT_EQ(responses["/pdpb.PD/Tso"], truth["tso_resp_msgs"].get<uint64_t>());
    }
  }
}

// What one run says about each call, to compare a damaged run with the undamaged one.
class CallIndex final : public CallSink {
 public:
  struct Whole {
    std::string method;
    uint64_t req_bytes = 0;
    uint64_t resp_bytes = 0;
    uint64_t region_id = 0;
    std::string key;
    bool operator==(const Whole&) const = default;
    std::string Text() const {
      return method + " region " + std::to_string(region_id) + " key " + HexLower(AsBytes(key)) + " " +
             std::to_string(req_bytes) + "/" + std::to_string(resp_bytes) + " bytes";
    }
  };

  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord& call, MessageType, MessageType) override {
    const std::string stream =
        FormatEndpoint(call.client) + " " + FormatEndpoint(call.server) + " " + std::to_string(call.stream);
    if (!call.method.empty()) names[stream].insert(std::string(call.method));
    if (call.kind != CallKind::kUnary && call.kind != CallKind::kSub) return;
    if (call.request == nullptr || call.response == nullptr) return;
    Whole whole;
    whole.method = call.method;
    whole.req_bytes = call.req_bytes;
    whole.resp_bytes = call.resp_bytes;
    if (!call.request->routes.empty()) whole.region_id = call.request->routes[0].region_id;
    if (!call.request->keys.empty()) whole.key = ToString(call.request->keys[0].start);
    // Times are left out: when the first copy of a retransmitted packet is lost the second one counts. A
    // stream's number comes again on a later connection between the same ports, hence the list.
    std::string id = stream + " " + std::string(call.command);
    if (call.request_id) id += " " + std::to_string(*call.request_id);
    calls[id].push_back(whole);
  }

  std::map<std::string, std::set<std::string>> names;  // by stream
  std::map<std::string, std::vector<Whole>> calls;
};

// No name and no pair that the undamaged capture does not have. Gives the number of whole calls.
size_t ExpectNothingFalse(const CallIndex& damaged, const CallIndex& truth) {
  size_t whole = 0;
  for (const auto& [stream, names] : damaged.names) {
    const auto it = truth.names.find(stream);
    for (const std::string& name : names) {
      EXPECT_TRUE(it != truth.names.end() && it->second.contains(name)) << stream << " " << name;
    }
  }
  for (const auto& [id, calls] : damaged.calls) {
    const auto it = truth.calls.find(id);
    for (const CallIndex::Whole& call : calls) {
      ++whole;
      const bool true_pair = it != truth.calls.end() &&
                             std::find(it->second.begin(), it->second.end(), call) != it->second.end();
      EXPECT_TRUE(true_pair) << id << " " << call.Text() << ", without damage "
                             << (it == truth.calls.end() ? "none" : it->second[0].Text());
    }
  }
  return whole;
}

size_t CountOf(const CallIndex& index) {
  size_t n = 0;
  for (const auto& [id, calls] : index.calls) n += calls.size();
  return n;
}

TEST(SharedCaptures, DamageMakesNoFalseNameAndNoFalsePair) {
  const std::string folder = SharedDataFolder();
  if (folder.empty()) GTEST_SKIP() << "the shared captures are not here (KEYTRAIL_SHARED_DATA)";
  const std::vector<std::string> captures = {"cluster/healthy/tidb1",        "cluster/healthy/tikv1",
                                             "cluster/modern_healthy/tidb2", "cluster/modern_boot/pd1",
                                             "generated/cpp_batch_20m",      "generated/cpp_pd_20m",
                                             "generated/cpp_unary_20m",      "generated/go_unary_20m"};
  for (const std::string& name : captures) {
    SCOPED_TRACE(name);
    const std::string path = folder + "/" + name + ".pcap.zst";
    CallIndex truth;
    const Result<DecodedFile> whole = DecodeFile(path, BundledSchema(), {}, truth);
    ASSERT_TRUE(whole) << whole.error();
    const uint64_t packets = whole->counters->Get(Counter::kPackets);
    std::string line = name + ": " + std::to_string(CountOf(truth)) + " whole calls;";
    for (const int tenth : {1, 5, 9}) {
      CallIndex cut;
      const uint64_t from = packets * tenth / 10;
      ASSERT_TRUE(DecodeFile(path, BundledSchema(), {}, cut, [from](uint64_t i) { return i >= from; }));
      line += " cut at " + std::to_string(tenth) + "0%: " + std::to_string(ExpectNothingFalse(cut, truth));
    }
    for (const unsigned per_mille : {10u, 50u}) {
      CallIndex lossy;
      std::mt19937 random(per_mille);
      ASSERT_TRUE(DecodeFile(path, BundledSchema(), {}, lossy,
                             [&](uint64_t) { return random() % 1000 >= per_mille; }));
      const size_t kept = ExpectNothingFalse(lossy, truth);
      line += " loss of " + std::to_string(per_mille) + "/1000: " + std::to_string(kept);
      EXPECT_GT(kept, 0u);
    }
    std::printf("%s\n", line.c_str());
  }
}

}  // namespace
}  // namespace keytrail::testing
