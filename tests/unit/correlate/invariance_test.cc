// The outcome must not depend on the order of records, on agents' numbers or on their names; nor may what is
// left out or damaged turn a verdict against somebody else.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "collector/report/report.h"
#include "tests/support/records.h"
#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Feed;
using testing::Investigate;
using testing::ParseScript;
using testing::ScriptOptions;

// Something of everything: a lying PD, a client out of its route, a narrow store, splits, a port used again.
constexpr char kMixed[] = R"(
  1 tikv1 > pd1 Heartbeat 9.1[s,t)
  2 tikv1 > pd1 Heartbeat 9.1[s,t)
  5 tidb2 > pd1 QueryRegion c = 7.3[a,m)
  6 tidb2 > pd1 QueryRegion n = 8.3[m,z)
  10 tidb1 > pd1 GetRegion f = 7.3[a,p)
  12 tidb1 > tikv1 Get 7.3 n = outside n [a,m)
  14 tidb1 > tikv1 Get 7.3 f = ok
  20 tidb2 > tikv1 Get 7.3 n = outside n [a,m)
  22 tidb2 > tikv1 Get 7.3 o = outside o [a,m)
  30 tidb1 > pd1 GetRegion s = 9.1[s,t)
  32 tidb1 > tikv1 Prewrite 9.1 s1 = notin s1 [s,s0)
  34 tidb1 > tikv1 Get 9.1 s2 = ok
  40 tidb1 > tikv1 Get 8.2 n = epoch 8.3[m,z)
  42 tidb1 > tikv1 Get 8.3 n = ok id=7
  60000 tidb1 > tikv1 Get 8.3 n = ok id=7 stream=27
  120000 tidb1 > tikv1 Get 8.3 n = ok id=7 stream=27
  120001 tidb1 > pd1 GetRegion q = 7.3[a,m)
)";

TEST(Invariance, OrderOfRecords) {
  const std::string expected = ReportJson(Investigate(kMixed));
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    ScriptOptions options;
    options.shuffle_seed = seed;
    ASSERT_EQ(ReportJson(Investigate(kMixed, options)), expected) << "seed " << seed;
  }
}

TEST(Invariance, NumbersOfAgents) {
  ScriptOptions options;
  options.reverse_agents = true;
  EXPECT_EQ(ReportJson(Investigate(kMixed, options)), ReportJson(Investigate(kMixed)));
}

TEST(Invariance, NamesChangeLabelsOnly) {
  ScriptOptions options;
  options.names = {{"tidb1", "zeta"}, {"tidb2", "alpha"}, {"pd1", "omega"}, {"tikv1", "beta"}};
  const auto plain = Investigate(kMixed);
  const auto named = Investigate(kMixed, options);
  EXPECT_EQ(testing::Summary(named), testing::Summary(plain));
  ASSERT_EQ(named.hosts.size(), 4u);
  EXPECT_EQ(named.hosts[0].host, "zeta");
  EXPECT_EQ(named.hosts[0].address, "10.0.0.11");
  EXPECT_EQ(named.hosts[0].role, "tidb");
  EXPECT_EQ(named.hosts[2].role, "pd");
  EXPECT_EQ(named.hosts[3].role, "tikv");
  for (size_t i = 0; i < named.verdicts.size(); ++i) {
    EXPECT_EQ(named.verdicts[i].client, plain.verdicts[i].client);
    EXPECT_EQ(named.verdicts[i].key, plain.verdicts[i].key);
    EXPECT_EQ(named.verdicts[i].first_ns, plain.verdicts[i].first_ns);
  }
}

TEST(Invariance, JudgingAgainChangesNothing) {
  ScriptOptions options;
  Correlator correlator;
  const auto records = ParseScript(kMixed, options);
  Feed(correlator, records, options);
  const std::string first = ReportJson(correlator.Judge());
  EXPECT_EQ(ReportJson(correlator.Judge()), first);
}

TEST(Invariance, OneHostCapturedTwice) {
  ScriptOptions options;
  const auto records = ParseScript(kMixed, options);
  const auto once = Investigate(kMixed);
  Correlator correlator;
  Feed(correlator, records, options);
  correlator.AddAgent({77, "", ""});
  for (const auto& r : records) {
    if (r.host == "tidb1") correlator.Add(77, r.call_id + 1000, r.record->call);
  }
  const auto twice = correlator.Judge();
  EXPECT_EQ(testing::Summary(twice), testing::Summary(once));
  EXPECT_EQ(twice.calls, once.calls);
  EXPECT_EQ(twice.hosts.size(), 4u);
}

// The guilty of each region in kMixed; whatever is left out, nobody else may be blamed.
TEST(Invariance, EverySubsetOfHostsBlamesNobodyElse) {
  const std::vector<std::string> hosts = {"tidb1", "tidb2", "pd1", "tikv1"};
  for (uint32_t mask = 1; mask < 16; ++mask) {
    ScriptOptions options;
    for (size_t i = 0; i < hosts.size(); ++i) {
      if ((mask >> i & 1) != 0) options.captured.insert(hosts[i]);
    }
    for (const Verdict& v : Investigate(kMixed, options).verdicts) {
      const bool right = (v.region_id == 7 && v.client == "10.0.0.11" && v.component == Component::kPd) ||
                         (v.region_id == 7 && v.client == "10.0.0.12" && v.component == Component::kTidb) ||
                         (v.region_id == 7 && v.component == Component::kPd && v.rule == "0.1") ||
                         (v.region_id == 9 && v.component == Component::kTikv);
      EXPECT_TRUE(right) << "hosts " << mask << ": " << v.text;
    }
  }
}

// Nothing of a record is trusted: no crash, and an end.
TEST(Invariance, RandomRecordsDoNoHarm) {
  RandomRecords random(7);
  Correlator correlator;
  for (uint64_t i = 0; i < 20'000; ++i) correlator.Add(static_cast<uint32_t>(i % 5), i + 1, random.Any());
  const auto report = correlator.Judge();
  EXPECT_FALSE(ReportJson(report).empty());
  EXPECT_FALSE(ReportText(report, {}).empty());
}

TEST(Json, KeysOfTheContract) {
  const auto json = nlohmann::json::parse(ReportJson(Investigate(kMixed)));
  for (const char* key : {"verdicts", "inconclusive", "benign", "hosts", "losses", "calls"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  const auto& v = json["verdicts"][0];
  for (const char* key : {"id", "component", "confidence", "rule", "client", "server", "region_id", "version",
                          "key", "occurrences", "first_ns", "last_ns", "text", "evidence", "weakened_by"}) {
    EXPECT_TRUE(v.contains(key)) << key;
  }
  for (const char* key : {"what", "host", "observer", "call_id", "t_ns"}) {
    EXPECT_TRUE(v["evidence"][0].contains(key)) << key;
  }
  EXPECT_EQ(v["evidence"][0]["range"].size(), 2u);
  const std::string hex = v["key"];
  EXPECT_EQ(hex.find_first_not_of("0123456789abcdef"), std::string::npos);
  const auto empty = nlohmann::json::parse(ReportJson({}));
  EXPECT_TRUE(empty["verdicts"].empty());
  EXPECT_EQ(empty["benign"]["stale_route"], 0);
}

}  // namespace
}  // namespace keytrail
