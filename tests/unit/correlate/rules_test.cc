// Each rule of the decision table, with guilty and innocent variants, as sequences of calls.
#include <gtest/gtest.h>

#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Investigate;
using testing::ScriptOptions;
using testing::Summary;

std::string Judged(const std::string& script, const std::set<std::string>& captured = {}) {
  ScriptOptions options;
  options.captured = captured;
  return Summary(Investigate(script, options));
}

// Rule 2 -------------------------------------------------------------------------------------------------

constexpr char kTidbNeighbour[] = R"(
  10 tidb1 > pd1 GetRegion f = 7.3[a,m)
  12 tidb1 > tikv1 Get 7.3 f = ok
  20 tidb1 > pd1 GetRegion p = 8.3[m,z)
  22 tidb1 > tikv1 Get 8.3 p = ok
  30 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  34 tidb1 > tikv1 Get 7.3 q = outside q [a,m)
)";

TEST(Rule2, ClientSentAKeyOutsideOfWhatPdTold) {
  const auto report = Investigate(kTidbNeighbour);
  EXPECT_EQ(Summary(report), "tidb certain 2 7.3 x2");
  const Verdict& v = report.verdicts.at(0);
  EXPECT_EQ(v.client, "10.0.0.11");
  EXPECT_EQ(v.server, "10.0.0.31:20160");
  EXPECT_EQ(v.first_ns, 1'795'451'400'030'000'000);
  EXPECT_EQ(v.last_ns, 1'795'451'400'034'000'000);
  ASSERT_EQ(v.evidence.size(), 3u);
  EXPECT_EQ(v.evidence[0].label, "said");
  EXPECT_EQ(v.evidence[1].label, "used");
  EXPECT_EQ(v.evidence[1].note, "outside of what PD said");
  EXPECT_EQ(v.evidence[1].observer, "both");
  EXPECT_EQ(v.evidence[2].label, "refused");
}

TEST(Rule2, AnyOneHostLeftOutNeverBlamesAnother) {
  EXPECT_EQ(Judged(kTidbNeighbour, {"tidb1", "pd1"}), "tidb certain 2 7.3 x2");
  EXPECT_EQ(Judged(kTidbNeighbour, {"tidb1", "tikv1"}), "tidb certain 2 7.3 x2");
  EXPECT_EQ(Judged(kTidbNeighbour, {"pd1", "tikv1"}), "tidb certain 2 7.3 x2");
  EXPECT_EQ(Judged(kTidbNeighbour, {"tidb1"}), "tidb certain 2 7.3 x2");
  EXPECT_EQ(Judged(kTidbNeighbour, {"tikv1"}), "inconclusive tidb,pd 5 7.3 x2");
  EXPECT_EQ(Judged(kTidbNeighbour, {"pd1"}), "");
}

TEST(Rule2, RouteFromEpochNotMatch) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = epoch 7.4[a,m) 8.4[m,z)
    20 tidb1 > tikv1 Get 7.4 p = outside p [a,m)
  )"),
            "tidb certain 2 7.4 x1");
}

TEST(Rule2, CoprocessorRangeBeyondTheRoute) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,m) 8.3[m,z)
    12 tidb1 > tikv1 Cop 7.3 [b,p) = exceeds [b,p) [a,m)
  )"),
            "tidb certain 2 7.3 x1");
}

TEST(Rule2, PrewriteAndCommit) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,m)
    12 tidb1 > tikv1 Prewrite 7.3 b p = notin p [a,m)
    14 tidb1 > tikv1 Commit 7.3 q = notin q [a,m)
  )"),
            "tidb certain 2 7.3 x2");
}

TEST(Rule2, UnreadConnectionToPdMayHideWhatItWasTold) {
  EXPECT_EQ(Judged(R"(
    5 tidb1 > pd1 Mystery = none late port=50000
    10 tidb1 > pd1 GetRegion f = 7.3[a,m)
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "inconclusive tidb,pd 2 7.3 x1");
}

// ... unless the call's name comes late, and it is one that tells no routes.
TEST(Rule2, LateNameOfACallThatTellsNoRoutes) {
  const std::string script = R"(
    5 tidb1 > pd1 Mystery = none late port=50000
    10 tidb1 > pd1 GetRegion f = 7.3[a,m)
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )";
  for (const auto& [method, expected] : {std::pair("/pdpb.PD/GetMembers", "tidb certain 2 7.3 x1"),
                                         std::pair("/pdpb.PD/GetRegion", "inconclusive tidb,pd 2 7.3 x1")}) {
    const ScriptOptions options;
    std::vector<testing::ScriptRecord> records = testing::ParseScript(script, options);
    Correlator correlator(options.graces);
    testing::Feed(correlator, records, options);
    for (testing::ScriptRecord& record : records) {
      CallRecord& call = record.record->call;
      if (!call.method.empty()) continue;
      call.kind = CallKind::kAmend;
      call.method = method;
      correlator.Add(record.host == "pd1" ? 1 : 2, record.call_id, call);  // as Feed numbers them
    }
    EXPECT_EQ(Summary(correlator.Judge()), expected) << method;
  }
}

// PD told the wide range to another client: it may have told this one, too, where nobody looked.
TEST(Rule2, NotIfPdToldOthersTheRangeThatWasUsed) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,m)
    15 tidb2 > pd1 GetRegion f = 7.3[a,z)
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "pd certain 0.1 7.3 x1; inconclusive tidb,pd 2 7.3 x1");
}

// Rule 3 and 0.1: PD ------------------------------------------------------------------------------------

constexpr char kPdWide[] = R"(
  5 tidb2 > pd1 QueryRegion c = 7.3[a,m)
  10 tidb1 > pd1 GetRegion f = 7.3[a,z)
  12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  14 tidb1 > tikv1 Get 7.3 f = ok
)";

TEST(Rule3, PdSaidTooWideARange) {
  const auto report = Investigate(kPdWide);
  EXPECT_EQ(Summary(report), "pd certain 3 7.3 x2");
  const Verdict& v = report.verdicts.at(0);
  EXPECT_EQ(v.client, "10.0.0.11");
  EXPECT_EQ(v.server, "10.0.0.31:20160");
  EXPECT_EQ(v.occurrence_list[0].what, "wrong_statement");
  EXPECT_EQ(v.occurrence_list[1].what, "complaint");
  EXPECT_NE(v.text.find("reaches to"), std::string::npos) << v.text;
  ASSERT_GE(v.evidence.size(), 4u);
  EXPECT_EQ(v.evidence[0].note, "too wide");
  EXPECT_EQ(v.evidence[1].note, "inside what PD said");
  EXPECT_EQ(v.evidence[3].label, "witness");
}

TEST(Rule3, AnyOneHostLeftOutNeverBlamesAnother) {
  EXPECT_EQ(Judged(kPdWide, {"tidb1", "tidb2", "pd1"}), "pd certain 3 7.3 x2");
  EXPECT_EQ(Judged(kPdWide, {"tidb1", "tidb2", "tikv1"}), "pd certain 3 7.3 x2");
  EXPECT_EQ(Judged(kPdWide, {"tidb2", "pd1", "tikv1"}), "pd certain 3 7.3 x2");
  EXPECT_EQ(Judged(kPdWide, {"tidb1", "pd1", "tikv1"}), "pd certain 3 7.3 x2");
  EXPECT_EQ(Judged(kPdWide, {"tidb1"}), "inconclusive pd,tikv 3 7.3 x1");
  EXPECT_EQ(Judged(kPdWide, {"tikv1"}), "inconclusive tidb,pd 5 7.3 x1");
  EXPECT_EQ(Judged(kPdWide, {"tidb2", "tikv1"}), "inconclusive tidb,pd 5 7.3 x1");
  // Without the store nobody knows which of the two is wrong.
  EXPECT_EQ(Judged(kPdWide, {"pd1"}), "pd certain 0.1 7.3 x1; pd certain 0.1 7.3 x1");
}

TEST(Rule3, HeartbeatToldPdTheRightRange) {
  EXPECT_EQ(Judged(R"(
    5 tikv1 > pd1 Heartbeat 7.3[a,m)
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "pd certain 3 7.3 x2");
}

TEST(Rule3, HeartbeatToldPdTheWrongRange) {
  EXPECT_EQ(Judged(R"(
    5 tikv1 > pd1 Heartbeat 7.3[a,z)
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "tikv certain 3 7.3 x1");
}

TEST(Rule3, StoreToldPdTheWrongRangeForAWhile) {
  EXPECT_EQ(Judged(R"(
    3 tikv1 > pd1 Heartbeat 7.3[a,m)
    4 tidb2 > pd1 GetRegion f = 7.3[a,m)
    5 tikv1 > pd1 Heartbeat 7.3[a,z)
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    15 tikv1 > pd1 Heartbeat 7.3[a,m)
  )")
                .substr(0, 14),
            "tikv certain 3");
}

TEST(Rule3, TwoWitnessesOfOneStoreAndPdAgreeAgainstTheRefusal) {
  EXPECT_EQ(Judged(R"(
    5 tikv1 > pd1 Heartbeat 7.3[a,z)
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "tikv certain 3 7.3 x1");
}

TEST(Rule3, WithoutAThirdWitnessNobodyIsBlamed) {
  const auto report = Investigate(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )");
  EXPECT_EQ(Summary(report), "inconclusive pd,tikv 3 7.3 x1");
  ASSERT_FALSE(report.inconclusive[0].missing.empty());
  EXPECT_NE(report.inconclusive[0].missing[0].find("heartbeat"), std::string::npos);
}

// PD repeats itself: that is not a second witness for PD.
TEST(Rule3, PdDoesNotAcquitItselfByRepetition) {
  EXPECT_EQ(Judged(R"(
    8 tidb2 > pd1 GetRegion f = 7.3[a,z)
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "inconclusive pd,tikv 3 7.3 x1");
}

// Two faults about one version: PD's invention is no witness against the store's heartbeats, although another
// of the store's ranges is refuted by what it served.
TEST(Rule3, PdWideAndAStoreThatCutsShort) {
  const std::string script = R"(
    5 tikv1 > pd1 Heartbeat 7.3[a,m)
    2s tidb1 > pd1 GetRegion f = 7.3[a,z)
    3s tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    4s tikv1 > pd1 Heartbeat 7.3[a,m)
    5s tidb2 > pd1 GetRegion f = 7.3[a,m)
    6s tidb2 > tikv1 Get 7.3 k = outside k [a,h)
    7s tidb2 > tikv1 Get 7.3 k = ok
  )";
  EXPECT_EQ(Judged(script), "tikv certain 3 7.3 x1; pd inferred 3 7.3 x2");
  // The same when nobody used PD's answer.
  std::string unused = script;
  unused.erase(unused.find("    3s"), unused.find("    4s") - unused.find("    3s"));
  EXPECT_EQ(Judged(unused), "tikv certain 3 7.3 x1; pd inferred 0.1 7.3 x1");
  // At once after the split that made the version.
  EXPECT_EQ(Judged(R"(
    5 tikv1 > pd1 ReportSplit 6.3[-,a) 7.3[a,m)
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    4s tikv1 > pd1 Heartbeat 7.3[a,m)
    5s tidb2 > pd1 GetRegion f = 7.3[a,m)
    6s tidb2 > tikv1 Get 7.3 k = outside k [a,h)
    7s tidb2 > tikv1 Get 7.3 k = ok
  )"),
            "tikv certain 3 7.3 x1; pd inferred 0.1 7.3 x1");
  // PD answered before anything was seen that a store told it: perhaps it had been told so.
  EXPECT_EQ(Judged(R"(
    5 tidb1 > pd1 GetRegion f = 7.3[a,z)
    4s tikv1 > pd1 Heartbeat 7.3[a,m)
    5s tidb2 > pd1 GetRegion f = 7.3[a,m)
    6s tidb2 > tikv1 Get 7.3 k = outside k [a,h)
    7s tidb2 > tikv1 Get 7.3 k = ok
  )"),
            "tikv certain 3 7.3 x1");
}

TEST(SelfContradiction, PdWithoutAnyComplaint) {
  const auto report = Investigate(R"(
    8 tidb2 > pd1 GetRegion f = 7.3[a,m)
    9 tidb2 > tikv1 Get 7.3 k = ok
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    11 tidb1 > pd1 GetRegion f = 7.3[a,z)
    10.5 tidb1 > pd1 GetRegion p = 8.3[m,z)
  )");
  // The neighbour that was told meanwhile leaves no room for the wide one.
  EXPECT_EQ(Summary(report), "pd certain 0.1 7.3 x2");
  EXPECT_EQ(report.verdicts[0].client, "10.0.0.11");
}

TEST(SelfContradiction, PdNarrowIsRefutedByAServedKey) {
  const auto report = Investigate(R"(
    8 tidb2 > pd1 GetRegion f = 7.3[a,m)
    9 tidb2 > tikv1 Get 7.3 k = ok
    10 tidb1 > pd1 GetRegion f = 7.3[a,h)
  )");
  EXPECT_EQ(Summary(report), "pd certain 0.1 7.3 x1");
  EXPECT_NE(report.verdicts[0].text.find("ends at"), std::string::npos) << report.verdicts[0].text;
}

TEST(SelfContradiction, PdWhichIsWrongCannotBeTold) {
  const auto report = Investigate(R"(
    8 tidb2 > pd1 GetRegion f = 7.3[a,m)
    10 tidb1 > pd1 GetRegion f = 7.3[a,h)
  )");
  EXPECT_EQ(Summary(report), "pd certain 0.1 7.3 x1; pd certain 0.1 7.3 x1");
  EXPECT_NE(report.verdicts[0].text.find("and also"), std::string::npos) << report.verdicts[0].text;
}

// TiKV ---------------------------------------------------------------------------------------------------

TEST(Tikv, NarrowByServedKeys) {
  const auto report = Investigate(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    14 tidb1 > tikv1 Get 7.3 q = ok
  )");
  EXPECT_EQ(Summary(report), "tikv certain 3 7.3 x1");
  EXPECT_EQ(report.verdicts[0].evidence.back().label, "served");
}

TEST(Tikv, NarrowByServedKeysWithTheStoreAlone) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    14 tidb1 > tikv1 Get 7.3 q = ok
  )",
                   {"tikv1"}),
            "tikv certain 5 7.3 x1");
}

// The region was on another store before, which said the same as ever.
TEST(Tikv, ContradictionOfOneStoreIsNotAnothers) {
  const auto report = Investigate(R"(
    5 tikv2 > pd1 Heartbeat 7.3[a,m)
    20 tikv1 > pd1 Heartbeat 7.3[a,m)
    30 tidb1 > pd1 GetRegion f = 7.3[a,m)
    40 tidb1 > tikv1 Get 7.3 k = outside k [a,h)
  )");
  EXPECT_EQ(Summary(report), "tikv certain 3 7.3 x1");
  EXPECT_EQ(report.verdicts.at(0).server, "10.0.0.31:20160");
}

// PD invented a wide range and tikv2 cut the true one short; tikv1, which has the region now, is right to
// refuse.
TEST(Tikv, ARefusalByTheTrueBoundsIsRight) {
  const auto report = Investigate(R"(
    5 tikv2 > pd1 Heartbeat 7.3[a,m)
    2s tidb1 > pd1 GetRegion f = 7.3[a,z)
    3s tidb1 > tikv2 Get 7.3 k = outside k [a,h)
    4s tidb1 > tikv2 Get 7.3 l = ok
    20s tikv1 > pd1 Heartbeat 7.3[a,m)
    30s tidb2 > tikv1 Get 7.3 p = outside p [a,m) late
  )");
  EXPECT_EQ(Summary(report), "tikv certain 3 7.3 x1; pd inferred 0.1 7.3 x1; inconclusive tidb,pd 5 7.3 x1");
  EXPECT_EQ(report.verdicts.at(0).server, "10.0.0.32:20160");
}

// What tikv2 says of itself is nothing against tikv1, whatever nobody knows of the range, and whatever PD
// alone says of it.
TEST(Tikv, AnotherStoresContradictionDecidesNothing) {
  const auto judged = [](const char* script) {
    const auto report = Investigate(script);
    for (const auto& verdict : report.verdicts) EXPECT_EQ(verdict.server, "10.0.0.32:20160") << verdict.text;
    return Summary(report);
  };
  EXPECT_EQ(judged(R"(
    10 tidb1 > tikv2 Get 7.3 p = outside p [a,m)
    12 tidb1 > tikv2 Get 7.3 q = outside q [a,n)
    30 tidb2 > tikv1 Get 7.3 x = outside x [a,m) late
  )"),
            "tikv certain 5 7.3 x2; inconclusive tidb,pd 5 7.3 x1");
  const std::string pd_alone = R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv2 Get 7.3 p = outside p [a,m)
    14 tidb1 > tikv2 Get 7.3 q = outside q [a,n)
  )";
  EXPECT_EQ(judged((pd_alone + "20 tidb1 > tikv1 Get 7.3 r = outside r [a,o)\n").c_str()),
            "tikv certain 3 7.3 x2; inconclusive pd,tikv 3 7.3 x1");
  EXPECT_EQ(judged((pd_alone + "20 tidb2 > tikv1 Get 7.3 r = outside r [a,o) late\n").c_str()),
            "tikv certain 3 7.3 x2; inconclusive pd,tikv 5 7.3 x1");
}

// Who told the client a range that is not the region's is wrong, not who refuses by the true one.
TEST(Tikv, WhoToldAWrongRangeIsNamedNotWhoRefuses) {
  const auto report = Investigate(R"(
    8 tidb2 > pd1 GetRegion f = 7.3[a,m)
    10 tidb1 > tikv2 Get 7.2 p = epoch 7.3[a,z)
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )");
  ASSERT_EQ(report.verdicts.size(), 1u) << Summary(report);
  const auto& verdict = report.verdicts.at(0);
  EXPECT_EQ(verdict.server, "10.0.0.32:20160");
  EXPECT_EQ(verdict.culprit, "10.0.0.32");
  EXPECT_NE(verdict.text.find("10.0.0.31 refused 1 request"), std::string::npos) << verdict.text;
}

// Two stores differ, each true to itself: one of them is wrong, and neither is accused.
TEST(Tikv, TwoStoresThatDiffer) {
  EXPECT_EQ(Judged(R"(
    5 tikv2 > pd1 Heartbeat 7.3[a,m)
    30 tidb1 > pd1 GetRegion f = 7.3[a,m)
    40 tidb1 > tikv1 Get 7.3 k = outside k [a,h)
  )"),
            "inconclusive tikv 3 7.3 x1");
  EXPECT_EQ(Judged(R"(
    5 tikv2 > pd1 Heartbeat 7.3[a,m)
    9 tikv1 > pd1 Heartbeat 7.3[a,h)
  )"),
            "inconclusive tikv 0.1 7.3 x2");
  // As soon as one says something else itself, it is known.
  const auto own = Investigate(R"(
    5 tikv2 > pd1 Heartbeat 7.3[a,m)
    30 tidb1 > pd1 GetRegion f = 7.3[a,m)
    40 tidb1 > tikv1 Get 7.3 k = outside k [a,h)
    50 tikv1 > pd1 Heartbeat 7.3[a,m)
  )");
  EXPECT_EQ(Summary(own), "tikv certain 3 7.3 x1");
  EXPECT_EQ(own.verdicts.at(0).server, "10.0.0.31:20160");
}

TEST(Tikv, NarrowByTwoBounds) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    14 tidb1 > tikv1 Get 7.3 q = outside q [a,n)
  )"),
            "tikv certain 3 7.3 x2");
}

TEST(Tikv, NarrowByItsOwnEpochNotMatch) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > tikv1 Get 7.2 p = epoch 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "tikv certain 3 7.3 x1");
}

TEST(Tikv, WideByEpochNotMatch) {
  EXPECT_EQ(Judged(R"(
    8 tidb2 > pd1 GetRegion f = 7.3[a,m)
    10 tidb1 > tikv1 Get 7.2 p = epoch 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )")
                .substr(0, 14),
            "tikv certain 3");
}

TEST(Tikv, Rule4KeyInsideItsOwnBounds) {
  EXPECT_EQ(Judged(R"(
    12 tidb1 > tikv1 Get 7.3 f = outside f [a,m)
  )"),
            "tikv certain 4 7.3 x1");
}

// The bounds of the region, encoded once more, as in the pushed-down index lookup.
TEST(Tikv, Rule4RangeThatNobodyAskedFor) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,m)
    12 tidb1 > tikv1 Cop 7.3 [b,f) = exceeds [b,zzz) [a,m)
  )"),
            "tikv certain 4 7.3 x1");
}

TEST(Tikv, HeartbeatContradictsItself) {
  EXPECT_EQ(Judged(R"(
    5 tikv1 > pd1 Heartbeat 7.3[a,m)
    6 tikv1 > pd1 Heartbeat 7.3[a,z)
    7 tidb1 > pd1 GetRegion f = 7.3[a,m)
  )"),
            "tikv certain 0.1 7.3 x2");
}

TEST(Tikv, ServesWhatItSaysItLacks) {
  EXPECT_EQ(Judged(R"(
    8 tidb1 > pd1 GetRegion f = 7.3[a,z)
    10 tidb2 > tikv1 Get 7.2 p = epoch 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 p = ok
  )"),
            "tikv certain 0.1 7.3 x1");
}

// Everybody agrees on the region; a command that the store does not check let a wrong key pass.
TEST(Tikv, NotBlamedForAnUncheckedCommand) {
  EXPECT_EQ(Judged(R"(
    8 tidb1 > pd1 GetRegion f = 7.3[a,m)
    10 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    12 tidb1 > tikv1 Commit 7.3 p = ok
  )"),
            "tidb certain 2 7.3 x1");
  EXPECT_EQ(Judged(R"(
    10 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    12 tidb1 > tikv1 Commit 7.3 p = ok
  )"),
            "inconclusive tidb,pd 5 7.3 x1");
}

// Rule 0 -------------------------------------------------------------------------------------------------

TEST(Rule0, InvertedRange) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,m)
    12 tidb1 > tikv1 Cop 7.3 [f,b) = inverted [f,b)
  )"),
            "tidb certain 0 7.3 x1");
}

// Rule 1 -------------------------------------------------------------------------------------------------

TEST(Rule1, AnswerWithoutItsKey) {
  EXPECT_EQ(Judged("10 tidb1 > pd1 GetRegion p = 7.3[a,m)"), "pd certain 1 7.3 x1");
  EXPECT_EQ(Judged("10 tidb1 > pd1 QueryRegion c p = 7.3[a,m) 7.3[a,m)"), "pd certain 1 7.3 x1");
  EXPECT_EQ(Judged("10 tidb1 > pd1 GetRegionByID 8 = 7.3[a,m)"), "pd certain 1 7.3 x1");
  EXPECT_EQ(Judged("10 tidb1 > pd1 GetPrevRegion p = 7.3[a,m)"), "");
  EXPECT_EQ(Judged("10 tidb1 > pd1 GetRegion p = none"), "");
}

// The client uses the wrong region once, for exactly the key that it asked for: PD's fault, not the client's.
TEST(Rule1, ClientThatUsedAnAnswerWithoutItsKeyIsInnocent) {
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion c = 7.3[a,m)
    10 tidb1 > pd1 GetRegion p = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "pd certain 1 7.3 x2");
}

TEST(Rule1, ScanThatOverlaps) {
  EXPECT_EQ(Judged("10 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,p) 8.3[m,z)"), "pd certain 1 7.3 x1");
  EXPECT_EQ(Judged("10 tidb1 > pd1 ScanRegions [a,z) = 8.3[m,z) 7.3[a,m)"), "pd certain 1 8.3 x1");
  EXPECT_EQ(Judged("10 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,m) 8.3[m,z)"), "");
}

TEST(Rule1, HoleOnlyIfPdPromisedThatThereIsNone) {
  EXPECT_EQ(Judged("10 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,f) 8.3[m,z)"), "");
  EXPECT_EQ(Judged("10 tidb1 > pd1 ScanAll [a,z) = 7.3[a,f) 8.3[m,z)"), "pd inferred 1 7.3 x1");
}

// Rule 5 -------------------------------------------------------------------------------------------------

TEST(Rule5, LookupBeforeTheCaptureIsNotHeldAgainstTheClient) {
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion f = 7.3[a,m)
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m) late
  )"),
            "inconclusive tidb,pd 5 7.3 x1");
}

// Joined late: no lookup was seen, but the client's own requests before and after show what its cache held.
TEST(Rule5, ClientThatUsedTheRightRegionBeforeAndAfter) {
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion f = 7.3[a,m)
    6 tidb2 > pd1 GetRegion p = 8.3[m,z)
    20 tidb1 > tikv1 Get 8.3 q = ok late
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m) late
    40 tidb1 > tikv1 Get 8.3 n = ok late
  )"),
            "tidb inferred 5 7.3 x1");
  // It was told about the place in between: it may have held a wrong route for a moment.
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion f = 7.3[a,m)
    6 tidb2 > pd1 GetRegion p = 8.3[m,z)
    20 tidb1 > tikv1 Get 8.3 q = ok late
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m) late
    32 tidb1 > pd1 GetRegion p = 8.3[m,z) late
    40 tidb1 > tikv1 Get 8.3 n = ok late
  )"),
            "inconclusive tidb,pd 5 7.3 x1");
}

TEST(Rule5, NobodyEverToldAClientWhoseWholeLifeWasSeen) {
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion f = 7.3[a,m)
    10 tidb1 > pd1 GetRegion p = 8.3[m,z)
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "tidb inferred 5 7.3 x1");
}

TEST(Rule5, ClientWithoutALookupAndAPdThatLiedToAnother) {
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion f = 7.3[a,m)
    6 tidb2 > pd1 GetRegion f = 7.3[a,z)
    30 tidb1 > tikv1 Get 7.3 p = outside p [a,m) late
  )")
                .substr(0, 13),
            "pd certain 0.");
}

// Benign -------------------------------------------------------------------------------------------------

TEST(Benign, SplitsAndMovedLeaders) {
  const auto report = Investigate(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = ok
    20 tikv1 > pd1 ReportSplit 7.4[a,m) 8.4[m,z)
    22 tidb1 > tikv1 Get 7.3 p = epoch 7.4[a,m) 8.4[m,z)
    24 tidb1 > tikv1 Get 8.4 p = ok
    26 tidb1 > tikv1 Get 7.4 b = not_leader
    28 tidb1 > tikv1 Get 7.5 b = epoch 7.4[a,m)
    30 tidb1 > tikv1 Get 7.3 b = epoch
    32 tidb1 > tikv1 Get 7.4 b = busy
    40 tidb1 > pd1 GetRegion f = 7.4[a,m)
  )");
  EXPECT_EQ(Summary(report), "");
  EXPECT_EQ(report.benign.at("stale_route"), 2u);
  EXPECT_EQ(report.benign.at("tikv_lag"), 1u);
  EXPECT_EQ(report.benign.at("not_leader"), 1u);
  EXPECT_EQ(report.benign.at("server_is_busy"), 1u);
  EXPECT_EQ(report.calls, 10u);
}

TEST(Benign, RegionsWithoutAnEpochAreNoFunction) {
  EXPECT_EQ(Judged(R"(
    5 tikv1 > pd1 Heartbeat 2.0[-,-)
    6 tidb1 > pd1 GetRegion f = 2.0[a,m)
  )"),
            "");
}

// Missing pieces -----------------------------------------------------------------------------------------

TEST(Missing, RedactedText) {
  // The key lies in the route and the bounds are hidden: who is wrong cannot be told.
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = redacted
  )"),
            "inconclusive pd,tikv 3 7.3 x1");
  // The key lies outside of the route: that is enough.
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion f = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 p = redacted
  )"),
            "tidb certain 2 7.3 x1");
}

// Keyspaces ----------------------------------------------------------------------------------------------

TEST(Keyspace, RawKeysAreComparedAsTheyAre) {
  ScriptOptions options;
  options.raw_bounds = true;
  EXPECT_EQ(Summary(Investigate(R"(
    10 tidb1 > pd1 GetRegion p = 7.3[a,z)
    11 tidb1 > tikv1 RawGet 7.3 q = ok
    12 tidb1 > tikv1 RawGet 7.3 p = outside p [a,m)
  )",
                                options)),
            "tikv certain 3 7.3 x1");
}

TEST(Keyspace, InfiniteBounds) {
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion f = 7.3[-,m)
    10 tidb1 > pd1 GetRegion p = 7.3[-,-)
    12 tidb1 > tikv1 Get 7.3 p = outside p [-,m)
  )"),
            "pd certain 3 7.3 x2");
  EXPECT_EQ(Judged(R"(
    5 tidb2 > pd1 GetRegion f = 7.3[-,-)
    6 tikv1 > pd1 Heartbeat 7.3[-,-)
    10 tidb1 > pd1 GetRegion p = 7.3[-,-)
    12 tidb1 > tikv1 Get 7.3 p = ok
  )"),
            "");
}

}  // namespace
}  // namespace keytrail
