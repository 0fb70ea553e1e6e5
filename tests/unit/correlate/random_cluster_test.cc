// Nobody innocent is blamed, in any random cluster, whatever hosts were captured and whatever was lost.
//
// KEYTRAIL_RANDOM_CLUSTERS sets how many clusters are tried (default 700); the share of guilty ones that
// were found is printed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/unit/correlate/random_cluster.h"
#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Fault;
using testing::ScriptOptions;

struct Tally {
  uint64_t clusters = 0, complained = 0, found = 0, certain = 0, undecided = 0;
};

enum class Damage { kNone, kSmallWindow, kHostsMissing, kRecordsLost, kTranslated };

uint32_t Clusters() {
  const char* text = std::getenv("KEYTRAIL_RANDOM_CLUSTERS");
  return text == nullptr ? 700 : static_cast<uint32_t>(std::strtoul(text, nullptr, 10));
}

InvestigationReport Judge(const std::string& script, uint32_t seed, Damage damage) {
  std::mt19937 random(seed);
  ScriptOptions options;
  for (const char* host : {"tidb1", "tidb2", "pd1", "tikv1"}) {
    options.clock_ns[host] = (static_cast<int64_t>(random() % 1'200'000) - 600'000) * 1'000'000;
    const bool may_miss = damage == Damage::kHostsMissing || damage == Damage::kTranslated;
    if (!may_miss || random() % (damage == Damage::kTranslated ? 8 : 3) != 0) options.captured.insert(host);
  }
  if (options.captured.empty()) options.captured.insert("tidb1");
  auto records = testing::ParseScript(script, options);
  if (damage == Damage::kRecordsLost) std::erase_if(records, [&](const auto&) { return random() % 20 == 0; });
  if (damage == Damage::kTranslated) {
    const uint32_t kind = random() % 3;
    testing::Translate(records, {kind != 0, kind != 1});
  }
  CorrelatorCaps caps;
  if (damage == Damage::kSmallWindow) {
    caps.window = 40;
    caps.connections = 2;
  }
  // The clusters live for fifteen seconds.
  options.graces.hole_ns = 1'000'000'000;
  Correlator correlator(options.graces, caps);
  testing::Feed(correlator, records, options);
  if (damage == Damage::kRecordsLost) {
    for (uint32_t agent = 1; agent <= 4; ++agent) correlator.AddLoss({agent, "records_dropped", 10, 0, 0});
  }
  return correlator.Judge();
}

void TryClusters(Damage damage, const char* title) {
  std::map<Fault, Tally> tallies;
  const auto faults = static_cast<uint32_t>(Fault::kCount);
  for (uint32_t seed = 1; seed <= Clusters(); ++seed) {
    const Fault fault = static_cast<Fault>(seed % faults);
    const auto cluster = testing::MakeCluster(seed, fault, 300);
    const auto report = Judge(cluster.script, seed, damage);
    const auto guilty = testing::GuiltyOf(fault);
    Tally& tally = tallies[fault];
    ++tally.clusters;
    tally.complained += cluster.faults > 0;
    tally.found += std::any_of(report.verdicts.begin(), report.verdicts.end(),
                               [&](const Verdict& v) { return guilty == v.component; });
    tally.undecided += report.verdicts.empty() && !report.inconclusive.empty();
    bool certain = false;
    for (const Verdict& v : report.verdicts) {
      certain |= v.certain;
      if (testing::MayBeBlamed(fault, v.component)) continue;
      ADD_FAILURE() << title << ", seed " << seed << ", " << testing::FaultName(fault) << ": " << v.text
                    << "  rule " << v.rule;
      if (std::getenv("KEYTRAIL_SHOW_SCRIPT") != nullptr) std::printf("%s\n", cluster.script.c_str());
      return;
    }
    tally.certain += certain;
    if (!guilty) {
      EXPECT_TRUE(report.inconclusive.empty())
          << title << ", seed " << seed << ": " << report.inconclusive[0].text;
    }
  }
  std::printf("%s\n  %-16s %9s %9s %9s %9s %9s\n", title, "fault", "clusters", "faulty", "found", "certain",
              "undecided");
  for (const auto& [fault, t] : tallies) {
    std::printf("  %-16s %9lu %9lu %9lu %9lu %9lu\n", testing::FaultName(fault), t.clusters, t.complained,
                t.found, t.certain, t.undecided);
  }
}

TEST(RandomClusters, AllHostsCaptured) {
  TryClusters(Damage::kNone, "all hosts captured");
}
// Of several hundred records only the last ones and what is referred to are held.
TEST(RandomClusters, SmallWindow) {
  TryClusters(Damage::kSmallWindow, "most records dropped when they had been seen");
}
TEST(RandomClusters, HostsMissing) {
  TryClusters(Damage::kHostsMissing, "each host missing in one of three");
}
TEST(RandomClusters, Translated) {
  TryClusters(Damage::kTranslated,
              "clients or servers or both behind other addresses, each host missing in one of eight");
}
TEST(RandomClusters, RecordsLost) {
  TryClusters(Damage::kRecordsLost, "5 % of the records lost, and told");
}

}  // namespace
}  // namespace keytrail
