// Rules 11 and 13: stores looked for where another one lives, and holes that were read around.
#include <gtest/gtest.h>

#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Investigate;
using testing::ScriptOptions;
using testing::Summary;

std::string Judged(const std::string& script, const ScriptOptions& options = {}) {
  const std::string summary = Summary(Investigate(script, options));
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    ScriptOptions shuffled = options;
    shuffled.shuffle_seed = seed;
    EXPECT_EQ(Summary(Investigate(script, shuffled)), summary) << "seed " << seed << script;
  }
  return summary;
}

// PD's answer leaves out [m,p); one statement reads both sides of it.
const std::string kHole = "10 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,m) 9.3[p,z)\n";
const std::string kBothSides = R"(
    12 tidb1 > tikv1 Cop 7.3 [b,m) = ok ts=100
    13 tidb1 > tikv1 Cop 9.3 [p,y) = ok ts=100
)";
const std::string kLater = "40s tidb1 > tikv1 Get 7.3 c = ok\n";

TEST(ReadAround, AHoleThatIsNeverReadIsTheClientsFault) {
  const auto report = Investigate(kHole + kBothSides + kLater);
  EXPECT_EQ(Summary(report), "tidb inferred 13 7.3 x1");
  ASSERT_EQ(report.verdicts[0].evidence.size(), 3u);
  EXPECT_EQ(report.verdicts[0].evidence[0].label, "said");
  EXPECT_EQ(report.verdicts[0].evidence[1].label, "used");
  EXPECT_EQ(report.verdicts[0].evidence[2].region_id, 9u);
  EXPECT_NE(report.verdicts[0].text.find("without an error"), std::string::npos) << report.verdicts[0].text;
  EXPECT_EQ(Judged(kHole + kBothSides + kLater), "tidb inferred 13 7.3 x1");
}

TEST(ReadAround, PdIsBlamedBesideItIfItHadPromised) {
  EXPECT_EQ(Judged("10 tidb1 > pd1 ScanAll [a,z) = 7.3[a,m) 9.3[p,z)\n" + kBothSides + kLater),
            "tidb inferred 13 7.3 x1; pd inferred 1 7.3 x1");
}

TEST(ReadAround, AClientThatReadsTheRestIsInnocent) {
  EXPECT_EQ(Judged(kHole + kBothSides + "3s tidb1 > tikv1 Cop 8.3 [m,p) = ok ts=100\n" + kLater), "");
  // In one part with its neighbour, by a region that was merged since.
  EXPECT_EQ(Judged(kHole + kBothSides + "3s tidb1 > tikv1 Cop 7.4 [b,p) = ok ts=100\n" + kLater), "");
  // Even if it is refused: the statement sees the error.
  EXPECT_EQ(Judged(kHole + kBothSides + "3s tidb1 > tikv1 Cop 8.3 [m,p) = busy ts=100\n" + kLater), "");
}

TEST(ReadAround, AClientThatAsksAgainHasSeenTheHole) {
  EXPECT_EQ(Judged(kHole + kBothSides + "3s tidb1 > pd1 GetRegion m = none\n" + kLater), "");
  EXPECT_EQ(Judged(kHole + "11 tidb1 > pd1 ScanRegions [m,p) = 8.3[m,p)\n" + kBothSides + kLater), "");
  // A question about another place says nothing of it.
  EXPECT_EQ(Judged(kHole + "11 tidb1 > pd1 GetRegion c = 7.3[a,m)\n" + kBothSides + kLater),
            "tidb inferred 13 7.3 x1");
}

TEST(ReadAround, OnlyBothSidesOfOneStatementShowThatTheHoleWasWanted) {
  EXPECT_EQ(Judged(kHole + "12 tidb1 > tikv1 Cop 7.3 [b,m) = ok ts=100\n" + kLater), "");
  EXPECT_EQ(Judged(kHole + R"(
    12 tidb1 > tikv1 Cop 7.3 [b,m) = ok ts=100
    13 tidb1 > tikv1 Cop 9.3 [p,y) = ok ts=101
  )" + kLater),
            "");
  // Two ranges of their own, which the regions' bounds did not cut.
  EXPECT_EQ(Judged(kHole + R"(
    12 tidb1 > tikv1 Cop 7.3 [b,l) = ok ts=100
    13 tidb1 > tikv1 Cop 9.3 [q,y) = ok ts=100
  )" + kLater),
            "");
  // Another machine's statement was told of no hole.
  EXPECT_EQ(Judged(kHole + R"(
    12 tidb2 > tikv1 Cop 7.3 [b,m) = ok ts=100
    13 tidb2 > tikv1 Cop 9.3 [p,y) = ok ts=100
    40s tidb2 > tikv1 Get 7.3 c = ok
  )"),
            "");
}

TEST(ReadAround, UntilTheGraceIsOverItMayStillCome) {
  const std::string script = kHole + kBothSides + "9s tidb1 > tikv1 Get 7.3 c = ok\n";
  EXPECT_EQ(Judged(script), "");
  ScriptOptions options;
  options.graces.hole_ns = 1'000'000'000;
  EXPECT_EQ(Judged(script, options), "tidb inferred 13 7.3 x1");
}

TEST(ReadAround, WhatTheCaptureMayHaveMissedIsNotProof) {
  const std::string script = kHole + kBothSides + kLater;
  ScriptOptions options;
  options.captured = {"pd1", "tikv1"};
  EXPECT_EQ(Judged(script, options), "");
  // A connection of the client that could not be read.
  EXPECT_EQ(Judged(script + "15 tidb1 > tikv2 Mystery = ok late\n"), "inconclusive tidb,pd 13 7.3 x1");
  Correlator correlator;
  const auto records = testing::ParseScript(script, {});
  testing::Feed(correlator, records, {});
  for (uint32_t agent = 1; agent <= 3; ++agent) correlator.AddLoss({agent, "kernel_drops", 3, 0, 0});
  const auto report = correlator.Judge();
  EXPECT_EQ(Summary(report), "inconclusive tidb,pd 13 7.3 x1");
  ASSERT_FALSE(report.inconclusive.empty());
  EXPECT_NE(report.inconclusive[0].missing[0].find("without losses"), std::string::npos);
}

// Whatever may have been lost at both ends. An agent that left messages unread to stay within its limits says
// so before it can count any.
TEST(ReadAround, WhatAnAgentLeftUnreadIsNoProof) {
  const std::string script = kHole + kBothSides + kLater;
  const auto records = testing::ParseScript(script, {});
  const auto judged = [&](const std::string& kind, uint64_t count, uint32_t agents) {
    Correlator correlator;
    testing::Feed(correlator, records, {});
    for (uint32_t agent = 1; agent <= agents; ++agent) correlator.AddLoss({agent, kind, count, 0, 0});
    return Summary(correlator.Judge());
  };
  const std::string blamed = "tidb inferred 13 7.3 x1";
  const std::string undecided = "inconclusive tidb,pd 13 7.3 x1";
  for (const char* kind : {"degraded.headers_only", "degraded.count_only"}) {
    for (const uint64_t count : {0u, 5u}) EXPECT_EQ(judged(kind, count, 3), undecided) << kind << count;
  }
  for (const char* kind : {"degraded.drop_payloads", "degraded.sample_tso"}) {
    EXPECT_EQ(judged(kind, 5, 3), blamed) << kind;
  }
  // Lost on the wire, by the agent, on its disk, or on the way to the collector; and by what nobody knows
  // yet.
  for (const char* kind : {"kernel_drops", "interface_drops", "gaps", "packets_cut",
                           "ip_datagrams_incomplete", "cap_connections", "ship_queue_full", "shed",
                           "spool_damaged", "spool_torn", "batch_refused", "sequence_gap", "something_new"}) {
    EXPECT_EQ(judged(kind, 1, 3), undecided) << kind;
    EXPECT_EQ(judged(kind, 0, 3), blamed) << kind;
    EXPECT_EQ(judged(kind, 1, 1), blamed) << kind << ": the other end saw it";
  }
}

// Many reads of elsewhere do not push out those beside the hole.
TEST(ReadAround, ABusyClusterDoesNotForgetTheHole) {
  std::string script = kHole + kBothSides;
  for (int i = 0; i < 120'000; ++i) {
    script += std::to_string(20 + i * 0.3) +
              " tidb1 > tikv1 Cop 11.3 [zb,zc) = ok ts=" + std::to_string(1000 + i) + "\n";
  }
  ScriptOptions options;
  options.captured = {"tidb1"};
  EXPECT_EQ(Summary(Investigate(script, options)), "tidb inferred 13 7.3 x1");
}

// Store 1 moved away from tikv1, where store 4 lives since.
const std::string kMoved = R"(
     5 tidb1 > pd1 GetStore 1 = none
    10 tidb1 > pd1 GetRegion c = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 c = store_not_match 4 store=1
)";

TEST(Addresses, AStaleStoreCacheIsBenign) {
  const auto report = Investigate(kMoved);
  EXPECT_EQ(Summary(report), "");
  EXPECT_EQ(report.benign.at("store_not_match"), 1u);
  // It goes on for long without asking: its own cache, and no range is wrong.
  EXPECT_EQ(Judged(kMoved + "100s tidb1 > tikv1 Get 7.3 c = store_not_match 4 store=1"), "");
  // It asked again, and went elsewhere.
  EXPECT_EQ(Judged(kMoved + R"(
    13 tidb1 > pd1 GetStore 1 = none
    100s tidb1 > tikv2 Get 7.3 c = ok store=1
  )"),
            "");
}

TEST(Addresses, AClientThatAskedAgainAndGoesOnIsUndecided) {
  const std::string again = R"(
    80s tidb1 > pd1 GetStore 1 = none
    81s tidb1 > tikv1 Get 7.3 c = store_not_match 4 store=1
  )";
  EXPECT_EQ(Judged(kMoved + again), "inconclusive pd,tidb 11 7.3 x1");
  ScriptOptions options;
  options.graces.address_ns = 100'000'000'000;
  EXPECT_EQ(Judged(kMoved + again, options), "");
  // A question after another store is none.
  EXPECT_EQ(Judged(kMoved + R"(
    80s tidb1 > pd1 GetStore 2 = none
    81s tidb1 > tikv1 Get 7.3 c = store_not_match 4 store=1
  )"),
            "");
  // Without a capture of the client or of PD nobody knows whether it asked.
  options = {};
  options.captured = {"tikv1"};
  EXPECT_EQ(Judged(kMoved + again, options), "");
}

std::string Newcomer(const std::string& host, const std::string& ask) {
  return "80s " + host + " > pd1 " + ask + " = none\n81s " + host + " > pd1 GetRegion c = 7.3[a,m)\n82s " +
         host + " > tikv1 Get 7.3 c = store_not_match 4 store=1\n";
}

TEST(Addresses, TwoNewClientsHaveTheAddressFromPd) {
  EXPECT_EQ(Judged(kMoved + Newcomer("tidb2", "GetStore 1") + Newcomer("tidb3", "GetAllStores")),
            "pd inferred 11 7.3 x2");
  // One may mix up addresses by itself; and one that was there before may have it from before.
  EXPECT_EQ(Judged(kMoved + Newcomer("tidb2", "GetStore 1")), "inconclusive pd,tidb 11 7.3 x1");
  EXPECT_EQ(Judged(kMoved + Newcomer("tidb2", "GetStore 1") + Newcomer("tidb3", "GetStore 1") +
                   "6 tidb3 > pd1 GetAllStores = none\n"),
            "inconclusive pd,tidb 11 7.3 x2");
  ScriptOptions options;
  options.captured = {"pd1", "tikv1", "tidb2"};
  EXPECT_EQ(Judged(kMoved + Newcomer("tidb2", "GetStore 1") + Newcomer("tidb3", "GetStore 1"), options),
            "inconclusive pd,tidb 11 7.3 x2");
}

TEST(Unread, IsTheLossOfItsHost) {
  const auto report = Investigate(
      "10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n12 tidb1 > tikv1 Mystery = ok late\n"
      "20s tidb1 > tikv1 Mystery = ok late\n");
  uint64_t unread = 0;
  for (const LossReport& loss : report.losses) {
    if (loss.kind != "method_unread") continue;
    unread += loss.count;
    EXPECT_GT(loss.last_ns - loss.first_ns, 19'000'000'000);
  }
  EXPECT_EQ(unread, 4u);  // at both ends
  EXPECT_EQ(report.losses.size(), 2u);
}

}  // namespace
}  // namespace keytrail
