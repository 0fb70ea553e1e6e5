// What the correlator drops in the course of time, and that no verdict suffers from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "collector/correlate/correlator.h"
#include "common/key_codec.h"
#include "common/limits.h"
#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Feed;
using testing::ParseScript;
using testing::ScriptOptions;
using testing::ScriptRecord;
using testing::Summary;

// Calls that say nothing, on a connection of their own, from `begin_ms` on.
std::string Gets(int from_ms, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    out += std::to_string(from_ms + i) + " tidb9 > tikv9 Get 900.1 k = ok id=" + std::to_string(from_ms + i) +
           "\n";
  }
  return out;
}

CorrelatorCaps Window(size_t observations) {
  CorrelatorCaps caps;
  caps.window = observations;
  return caps;
}

class Settling : public ::testing::Test {
 protected:
  void Give(Correlator& correlator, const std::string& script) {
    auto records = ParseScript(script, options_);
    for (ScriptRecord& r : records) r.call_id += next_call_;
    next_call_ += 100'000;
    for (const ScriptRecord& r : records)
      agents_.try_emplace(r.host, static_cast<uint32_t>(agents_.size() + 1));
    for (const ScriptRecord& r : records) {
      correlator.AddAgent({agents_[r.host], "", ""});
      correlator.Add(agents_[r.host], r.call_id, r.record->call);
    }
  }

  ScriptOptions options_;

 private:
  std::map<std::string, uint32_t> agents_;
  uint64_t next_call_ = 0;
};

TEST_F(Settling, WhatIsHeldIsBoundedAndEveryCallCounts) {
  constexpr size_t kWindow = 200;
  Correlator correlator({}, Window(kWindow));
  for (int i = 0; i < 50; ++i) {
    Give(correlator, Gets(1000 + 1000 * i, 100));
    // The first and last served key of the region, both views, are referred to.
    EXPECT_LE(correlator.held(), 2 * kWindow + 8);
  }
  const auto report = correlator.Judge();
  EXPECT_EQ(report.calls, 5000u);
  EXPECT_EQ(report.routed_requests, 5000u);
  EXPECT_EQ(report.clocks.size(), 1u) << "what was dropped has told the clocks";
}

// Each call over a connection of its own. What was known of former ones is still known.
TEST_F(Settling, FormerConnectionsAreToldByTheirEndsAlone) {
  constexpr size_t kWindow = 200;
  CorrelatorCaps caps = Window(kWindow);
  caps.connections = 500;
  Correlator correlator({}, caps);
  Give(correlator, "10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n11 tidb1 > tikv1 Mystery port=999 late");
  const auto many = [&](int from_ms) {
    std::string script;
    for (int i = 0; i < 3000; ++i) {
      script += std::to_string(from_ms + i) +
                " tidb9 > tikv9 Get 900.1 k = ok port=" + std::to_string(2000 + i) + "\n";
    }
    return script;
  };
  for (int i = 0; i < 5; ++i) {
    Give(correlator, many(1000 + 4000 * i));
    EXPECT_LE(correlator.held_connections(), caps.connections + 2 * kWindow + 8);
  }
  Give(correlator, "50000 tidb1 > tikv1 Get 7.3 q = outside q [a,m)");
  const auto report = correlator.Judge();
  EXPECT_EQ(Summary(report), "tidb certain 2 7.3 x1");
  EXPECT_EQ(report.calls, 5u * 3000 + 3);
  EXPECT_EQ(report.unread, 1u);
  ASSERT_EQ(report.hosts.size(), 5u);
  for (const HostReport& host : report.hosts) EXPECT_NE(host.role, "unknown") << host.address;
}

TEST_F(Settling, ARouteOfLongAgoIsStillKnown) {
  Correlator correlator({}, Window(50));
  Give(correlator, "10 tidb1 > pd1 GetRegion c = 7.3[a,m)");
  Give(correlator, Gets(1000, 1000));
  Give(correlator, "5000 tidb1 > tikv1 Get 7.3 q = outside q [a,m)");
  EXPECT_EQ(Summary(correlator.Judge()), "tidb certain 2 7.3 x1");
  Give(correlator, Gets(6000, 1000));
  EXPECT_EQ(Summary(correlator.Judge()), "tidb certain 2 7.3 x1");
}

// The requests before and after that show that the client knew better are neither statements nor findings.
TEST_F(Settling, WhatSurroundsAComplaintStays) {
  const std::string story = R"(
    10 tidb1 > tikv1 Get 8.3 n = ok late
    11 tidb1 > tikv1 Get 8.3 x = ok late
    20 tidb1 > tikv1 Get 7.3 q = outside q [a,m) late
    30 tidb1 > tikv1 Get 8.3 q = ok late
  )";
  Correlator whole;
  Give(whole, story);
  const std::string expected = Summary(whole.Judge());
  ASSERT_EQ(expected, "tidb inferred 5 7.3 x1");
  Correlator correlator({}, Window(50));
  Give(correlator, story);
  Give(correlator, Gets(1000, 1000));
  EXPECT_EQ(Summary(correlator.Judge()), expected);
}

TEST_F(Settling, ErrorsThatMatterNoMoreAreCounted) {
  std::string story;
  for (int i = 0; i < 500; ++i) {
    story +=
        std::to_string(10 + i) + " tidb1 > tikv1 Get 7.3 b = " + (i % 2 != 0 ? "busy" : "not_leader") + "\n";
  }
  Correlator correlator({}, Window(50));
  Give(correlator, story);
  const auto report = correlator.Judge();
  EXPECT_LE(correlator.held(), 108u);
  uint64_t sum = 0;
  for (const auto& [name, count] : report.benign) sum += count;
  EXPECT_EQ(sum, 500u);
}

TEST_F(Settling, AStormOfComplaintsIsThinnedAndCounted) {
  std::string story = "10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n";
  constexpr size_t kComplaints = 20000;
  for (size_t i = 0; i < kComplaints; ++i) {
    story += std::to_string(20 + i) + " tidb1 > tikv1 Get 7.3 q = outside q [a,m)\n";
  }
  CorrelatorCaps caps = Window(1000);
  caps.complaints = 8000;
  Correlator correlator({}, caps);
  Give(correlator, story);
  const auto report = correlator.Judge();
  EXPECT_TRUE(Summary(report).starts_with("tidb certain 2 7.3 x")) << Summary(report);
  EXPECT_EQ(report.complaints, kComplaints);
  EXPECT_LT(correlator.held(), 2 * caps.complaints + 3000);
}

// What the ledger had no room for may be what the client was told: silence proves nothing any more.
TEST_F(Settling, AForgottenStatementWithholdsTheVerdict) {
  const std::string fault = "900000 tidb1 > tikv1 Get 7.3 q = outside q [a,m)";
  const std::string lookup = "899000 tidb1 > pd1 GetRegion c = 7.3[a,m)";
  CorrelatorCaps caps = Window(1000);
  caps.ledger_regions = 20'000;
  Correlator correlator({}, caps);
  Give(correlator, "10 tidb2 > pd1 GetRegion B = 6.3[A,M)");
  CallRecord call;
  MessageFacts request, response;
  call.method = "/pdpb.PD/ScanRegions";
  call.client = {ParseAddress("10.0.0.12").value(), 41000};
  call.server = {ParseAddress("10.0.0.21").value(), 2379};
  call.client_known = true;
  call.request = &request;
  call.response = &response;
  RegionStatement statement;
  statement.source = StatementSource::kPdScanRegions;
  statement.version = 1;
  statement.has_epoch = true;
  std::vector<std::string> bounds;
  for (uint64_t n = 0; n < 30'000; n += 1000) {
    response.statements.clear();
    bounds.clear();
    for (uint64_t i = 0; i <= 1000; ++i) {
      char key[16];
      std::snprintf(key, sizeof key, "B%08llu", static_cast<unsigned long long>(n + i));
      bounds.push_back(EncodeKey(AsBytes(std::string(key))));
    }
    for (uint64_t i = 0; i < 1000; ++i) {
      statement.region_id = 1'000'000 + n + i;
      statement.start = AsBytes(bounds[i]);
      statement.end = AsBytes(bounds[i + 1]);
      response.statements.push_back(statement);
    }
    call.req_first = call.req_last = {1'000'000'000 + static_cast<int64_t>(n)};
    call.resp_first = call.resp_last = {1'000'000'500 + static_cast<int64_t>(n)};
    call.stream = static_cast<uint32_t>(n / 1000 * 2 + 1);
    correlator.Add(1, 50'000'000 + n, call);
  }
  Give(correlator, lookup);
  Give(correlator, Gets(899'100, 2000));
  Give(correlator, fault);
  const auto report = correlator.Judge();
  EXPECT_TRUE(report.verdicts.empty()) << Summary(report);
  ASSERT_EQ(report.inconclusive.size(), 1u);
  EXPECT_THAT(report.inconclusive[0].missing, ::testing::Contains(::testing::HasSubstr("no room")));

  Correlator roomy;
  Give(roomy, lookup);
  Give(roomy, fault);
  EXPECT_EQ(Summary(roomy.Judge()), "tidb certain 2 7.3 x1");
}

}  // namespace
}  // namespace keytrail
