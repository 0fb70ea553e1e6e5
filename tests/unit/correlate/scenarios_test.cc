// The captures of the test cluster with their known truth: every scenario with all hosts, with each host left
// out, and with every smaller set. KEYTRAIL_SHARED_DATA says where they are; skipped if they are not.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "agent/schema/schema.h"
#include "collector/correlate/correlator.h"
#include "collector/report/report.h"
#include "common/key_codec.h"
#include "common/record_codec.h"
#include "tests/support/decode_file.h"
#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

const std::vector<std::string> kHosts = {"tidb1", "tidb2", "pd1", "tikv1"};
// The proxy that made the faults stands in front of the server, and a batch is checked key by key.
constexpr int64_t kTruthWithinNs = 30'000'000;

class Encode final : public CallSink {
 public:
  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord& call, MessageType, MessageType) override { encoder_.Add(call); }
  std::string Finish() { return encoder_.Finish(); }

 private:
  BatchEncoder encoder_;
};

class Scenario {
 public:
  explicit Scenario(const std::string& folder) {
    const auto schema = Schema::Bundled();
    if (!schema) ADD_FAILURE() << schema.error();
    for (const std::string& host : kHosts) {
      Encode sink;
      const auto decoded =
          testing::DecodeFile(folder + "/" + host + ".pcap.zst", *schema.value(), GrpcOptions{}, sink);
      if (!decoded) ADD_FAILURE() << decoded.error();
      records_[host] = sink.Finish();
    }
    std::ifstream in(folder + "/truth.json");
    truth_ = nlohmann::json::parse(in);
  }

  InvestigationReport Investigate(const std::vector<std::string>& hosts) const {
    Correlator correlator;
    uint64_t call_id = 0;
    OwnedRecord record;
    for (uint32_t agent = 0; agent < hosts.size(); ++agent) {
      correlator.AddAgent({agent, "", ""});
      BatchReader reader(AsBytes(records_.at(hosts[agent])));
      for (;;) {
        const auto more = reader.Next(record);
        if (!more) ADD_FAILURE() << more.error();
        if (!more || !*more) break;
        correlator.Add(agent, ++call_id, record.call);
      }
    }
    return correlator.Judge();
  }

  std::string guilty() const { return truth_["guilty"]; }
  const nlohmann::json& faults() const { return truth_["faults"]; }

 private:
  std::map<std::string, std::string> records_;
  nlohmann::json truth_;
};

bool IsOccurrence(const nlohmann::json& fault, const Verdict& v) {
  if (fault["component"] != ComponentName(v.component)) return false;
  for (const Occurrence& o : v.occurrence_list) {
    if (o.region_id != fault["region_id"] || o.version != fault["version"]) continue;
    if (std::abs(o.t_ns - fault["t_ns"].get<int64_t>()) > kTruthWithinNs) continue;
    if (!fault.contains("raw_key")) return true;
    const auto raw = FromHex(fault["raw_key"].get<std::string>());
    if (raw && o.key == EncodeKey(AsBytes(*raw))) return true;
  }
  return false;
}

void Check(const std::string& name) {
  const std::string folder = testing::SharedDataFolder() + "/cluster/" + name;
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "skipped: no shared captures (KEYTRAIL_SHARED_DATA)";
  const Scenario scenario(folder);
  for (uint32_t mask = 15; mask >= 1; --mask) {
    std::vector<std::string> hosts;
    for (size_t i = 0; i < kHosts.size(); ++i) {
      if ((mask >> i & 1) != 0) hosts.push_back(kHosts[i]);
    }
    const auto report = scenario.Investigate(hosts);
    const std::string label = name + ", hosts " + std::to_string(mask) + ": " + testing::Summary(report);
    for (const Verdict& v : report.verdicts) {
      EXPECT_EQ(ComponentName(v.component), scenario.guilty()) << label << "\n" << v.text;
      EXPECT_TRUE(v.certain || !v.weakened_by.empty()) << label;
    }
    if (scenario.guilty() == "none") {
      EXPECT_TRUE(report.inconclusive.empty()) << label;
      EXPECT_TRUE(mask != 15 || report.benign.at("stale_route") > 0) << label;
      continue;
    }
    for (const Inconclusive& v : report.inconclusive) EXPECT_FALSE(v.missing.empty()) << label;
    if (hosts.size() < 3) continue;
    // With all hosts, and with any one left out, each fault that was answered is found, for certain.
    EXPECT_TRUE(report.inconclusive.empty()) << label;
    for (const Verdict& v : report.verdicts) EXPECT_TRUE(v.certain) << label << "\n" << v.text;
    if (mask != 15) continue;
    for (const auto& fault : scenario.faults()) {
      EXPECT_TRUE(std::any_of(report.verdicts.begin(), report.verdicts.end(),
                              [&](const Verdict& v) { return IsOccurrence(fault, v); }))
          << label << "\n"
          << fault;
    }
    // Nothing is called wrong that was not.
    uint64_t wrong = 0;
    for (const Verdict& v : report.verdicts) {
      for (const Occurrence& o : v.occurrence_list) wrong += o.what == "wrong_statement";
    }
    EXPECT_EQ(wrong, scenario.guilty() == "pd" ? scenario.faults().size() : 0) << label;
  }
}

TEST(Scenarios, Healthy) {
  Check("healthy");
}
TEST(Scenarios, TidbNeighbour) {
  Check("tidb_neighbour");
}
TEST(Scenarios, PdWide) {
  Check("pd_wide");
}
TEST(Scenarios, TikvNarrow) {
  Check("tikv_narrow");
}
TEST(Scenarios, ModernHealthy) {
  Check("modern_healthy");
}
TEST(Scenarios, ModernBoot) {
  Check("modern_boot");
}
TEST(Scenarios, ModernPdWide) {
  Check("modern_pd_wide");
}

}  // namespace
}  // namespace keytrail
