// The incidents of tidb-wire.md section 6 as sequences of calls, each with who was wrong, how sure that is,
// and by which rule; and those that are nobody's fault on the wire, with nobody blamed. After each one its
// number and where it was reported.
#include <gtest/gtest.h>

#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Investigate;
using testing::ScriptOptions;
using testing::Summary;

std::string Judged(const std::string& script) {
  return Summary(Investigate(script));
}

// 1, tidb#25412: a BatchGet is retried after a split with keys of both halves.
TEST(Incident, N01BatchGetAfterASplit) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,z)
    12 tidb1 > tikv1 BatchGet 7.3 c p = epoch 7.4[a,m) 8.4[m,z)
    14 tidb1 > tikv1 BatchGet 7.4 c p = outside p [a,m)
  )"),
            "tidb certain 2 7.4 x1");
}

// 2, tidb#52464, client-go#1299: the region is reloaded by its id and does not hold the key any more.
TEST(Incident, N02RegionReloadedById) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion p = 7.3[a,z)
    12 tidb1 > pd1 GetRegionByID 7 = 7.4[a,m)
    14 tidb1 > tikv1 Cop 7.4 [n,q) = exceeds [n,q) [a,m)
  )"),
            "tidb certain 2 7.4 x1");
}

// 3, tidb#43144: ranges that are not sorted are split wrongly by region.
TEST(Incident, N03UnsortedRanges) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,m) 8.3[m,z)
    12 tidb1 > tikv1 Cop 7.3 [n,p) [b,c) = exceeds [n,p) [a,m)
  )"),
            "tidb certain 2 7.3 x1");
  // Without the lookup the request itself is proof enough, though not certain.
  EXPECT_EQ(Judged("12 tidb1 > tikv1 Cop 7.3 [n,p) [b,c) = exceeds [n,p) [a,m) late"),
            "tidb inferred 0 7.3 x1");
  EXPECT_EQ(Judged("12 tidb1 > tikv1 Cop 7.3 [b,c) [n,p) = exceeds [n,p) [a,m) late"),
            "inconclusive tidb,pd 5 7.3 x1");
}

// 4, tidb#31295: index merge takes handles of another region along.
TEST(Incident, N04HandlesOfTheOtherRegion) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,m) 8.3[m,z)
    12 tidb1 > tikv1 Cop 7.3 [b,c) [p,q) = exceeds [p,q) [a,m)
    14 tidb1 > tikv1 Cop 8.3 [n,o) [b,c) = exceeds [b,c) [m,z)
  )"),
            "tidb certain 2 7.3 x1; tidb certain 2 8.3 x1");
}

// 5, tidb#29070 and #40474: the cause was never found out. With the lookup it is TiDB's request, without it
// nobody's.
TEST(Incident, N05KeyOutOfRegionFromThePlanCache) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 q = outside q [a,m)
  )"),
            "tidb certain 2 7.3 x1");
  EXPECT_EQ(Judged("12 tidb1 > tikv1 Get 7.3 q = outside q [a,m) late"), "inconclusive tidb,pd 5 7.3 x1");
}

// 6, tidb#65041: bucket keys of before a split reach beyond the region.
TEST(Incident, N06StaleBuckets) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,z)
    12 tidb1 > tikv1 Cop 7.3 [b,c) = epoch 7.4[a,m) 8.4[m,z)
    14 tidb1 > tikv1 Cop 7.4 [f,p) = exceeds [f,p) [a,m)
  )"),
            "tidb certain 2 7.4 x1");
}

// 7, tikv#19215: TiKV itself makes a range that nobody asked for.
TEST(Incident, N07PushdownWithAnEncodedEnd) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,m)
    12 tidb1 > tikv1 Cop 7.3 [b,c) = exceeds [b,mm) [a,m)
  )"),
            "tikv certain 4 7.3 x1");
}

// 8, tikv#12665: the store is split already and answers with a key error instead of EpochNotMatch.
TEST(Incident, N08KeyErrorInsteadOfEpochNotMatch) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion p = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 c = epoch 7.4[a,m) 8.4[m,z)
    14 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  )"),
            "tikv certain 6 7.3 x1");
}

// 9, client-rust#351: the shard by the old version, the context by the new one.
TEST(Incident, N09ShardAndContextOfTwoVersions) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 140.34[a,z)
    12 tidb1 > pd1 GetRegion c = 140.35[a,m)
    14 tidb1 > tikv1 Get 140.35 p = outside p [a,m)
  )"),
            "tidb certain 2 140.35 x1");
}

// 10, client-rust#455: a region error during a scan is ignored. No range was wrong, nobody is blamed.
TEST(Incident, N10AnErrorThatTheClientIgnores) {
  const auto report = Investigate(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,z)
    12 tidb1 > tikv1 Scan 7.3 [b,y) = epoch 7.4[a,m) 8.4[m,z)
  )");
  EXPECT_EQ(Summary(report), "");
  EXPECT_EQ(report.benign.at("stale_route"), 1u);
}

// 11, client-rust#436: a reverse scan is sent to the region of its lower bound.
TEST(Incident, N11ReverseScan) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion b = 7.3[a,m)
    12 tidb1 > tikv1 Cop 7.3 [b,p) = exceeds [b,p) [a,m)
  )"),
            "tidb certain 2 7.3 x1");
}

// 12, client-java#738: the raw client asks PD for the encoded form of a key that it then sends raw.
TEST(Incident, N12RawClientAsksForTheEncodedKey) {
  ScriptOptions options;
  options.raw_bounds = true;
  EXPECT_EQ(Summary(Investigate(R"(
    10 tidb1 > pd1 GetRegion ne = 7.3[nd,nz)
    12 tidb1 > tikv1 RawGet 7.3 n = notin n [nd,nz)
  )",
                                options)),
            "tidb certain 2 7.3 x1");
}

// 13, client-java#660: a scan without an end.
TEST(Incident, N13ScanWithoutAnEnd) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion b = 7.3[a,m)
    12 tidb1 > tikv1 Cop 7.3 [b,-) = exceeds [b,-) [a,m)
  )"),
            "tidb certain 2 7.3 x1");
}

// 14, tispark#2719: TiKV panicked at the request, and the connection was reset.
TEST(Incident, N14ConnectionResetAfterAKeyOutside) {
  EXPECT_EQ(Judged(R"(
     5 tikv1 > pd1 Heartbeat 7.3[a,m)
    10 tidb1 > pd1 GetRegion b = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 p = reset
  )"),
            "tidb inferred 14 7.3 x1");
  // A reset after a key inside proves nothing, nor one without both witnesses of the range.
  EXPECT_EQ(Judged(R"(
     5 tikv1 > pd1 Heartbeat 7.3[a,m)
    10 tidb1 > pd1 GetRegion b = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 c = reset
  )"),
            "");
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion b = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 p = reset
  )"),
            "");
}

// 15, client-go#1376: PD's scan leaves a hole, and no error is ever seen.
TEST(Incident, N15AHoleInAScan) {
  // It had promised that there is none.
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 ScanAll [a,z) = 7.3[a,m) 9.3[p,z)
  )"),
            "pd inferred 1 7.3 x1");
  // It had promised nothing, but knew before and after what belongs there.
  EXPECT_EQ(Judged(R"(
    10 tidb2 > pd1 GetRegion n = 8.3[m,p)
    20 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,m) 9.3[p,z)
    30 tidb2 > pd1 GetRegion n = 8.3[m,p)
  )"),
            "pd inferred 1 7.3 x1");
  // A split that is reported a moment later is nobody's fault.
  EXPECT_EQ(Judged(R"(
    20 tidb1 > pd1 ScanRegions [a,z) = 7.3[a,m) 9.3[p,z)
    25 tikv1 > pd1 Heartbeat 8.3[m,p)
    30 tidb2 > pd1 GetRegion n = 8.3[m,p)
  )"),
            "");
}

// 16, pd#9216: more regions than were asked for.
TEST(Incident, N16LimitNotHonoured) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 ScanAll [a,z) = 7.3[a,m) 8.3[m,p) 9.3[p,z) limit=2
  )"),
            "pd certain 1 9.3 x1");
  EXPECT_EQ(Judged("10 tidb1 > pd1 ScanAll [a,z) = 7.3[a,m) 8.3[m,z) limit=2"), "");
}

// 17, tidb#60085: a follower's tree is old.
TEST(Incident, N17StaleFollower) {
  const std::string behind = R"(
    1s tikv1 > pd1 Heartbeat 7.4[a,m) cluster=5
    2s tidb1 > pd1 GetRegion c = 7.4[a,m) cluster=5
    3s tidb2 > pd1 GetRegion y = 8.4[m,z) cluster=5
  )";
  EXPECT_EQ(Judged(behind + "70s tidb2 > pd2 GetRegion c = 7.3[a,z) cluster=5"), "pd inferred 7 7.3 x1");
  // Within the grace it is as it should be; and of another cluster it is another region.
  EXPECT_EQ(Judged(behind + "40s tidb2 > pd2 GetRegion c = 7.3[a,z) cluster=5"), "");
  EXPECT_EQ(Judged(behind + "70s tidb2 > pd2 GetRegion c = 7.3[a,z) cluster=6"), "");
}

// 18, tikv#3868, pd#1377: the bootstrap region's old heartbeat is believed.
TEST(Incident, N18OldHeartbeatAccepted) {
  EXPECT_EQ(Judged(R"(
    1s tikv1 > pd1 Heartbeat 2.9[-,m)
    2s tidb1 > pd1 GetRegion c = 2.9[-,m)
    20s tikv2 > pd1 Heartbeat 2.1[-,-)
    21s tidb1 > pd1 GetRegion c = 2.1[-,-)
    22s tidb1 > tikv1 Get 2.1 c = not_found
  )"),
            "pd inferred 10 2.1 x1; tikv inferred 10 2.1 x1");
  // An old report that PD does not believe is an old leader's, and benign.
  EXPECT_EQ(Judged(R"(
    1s tikv1 > pd1 Heartbeat 2.9[-,m)
    20s tikv2 > pd1 Heartbeat 2.1[-,-)
    21s tidb1 > pd1 GetRegion c = 2.9[-,m)
  )"),
            "");
}

// 19, pd#2149: a heartbeat does not update the region; PD answers the old one for 40 s.
TEST(Incident, N19HeartbeatWithoutEffect) {
  EXPECT_EQ(Judged(R"(
    1s tidb1 > pd1 GetRegion c = 7.3[a,z)
    2s tikv1 > pd1 Heartbeat 7.4[a,m)
    3s tidb1 > pd1 GetRegion c = 7.3[a,z)
    42s tidb1 > pd1 GetRegion c = 7.3[a,z)
    43s tidb1 > tikv1 Get 7.3 c = epoch 7.4[a,m) 8.4[m,z)
  )"),
            "pd inferred 7 7.3 x1");
}

// 20, tikv#4125: one store has merged, the other has not and does not check the epoch.
TEST(Incident, N20LooseEpochCheck) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 c = epoch 7.5[a,z)
    14 tidb1 > tikv2 Get 7.5 p = notin p [a,m)
    16 tidb1 > tikv2 Get 7.5 c = epoch 7.3[a,m)
  )"),
            "tikv certain 6 7.5 x1");
  // Today the store says that it is behind, which is benign.
  const auto report = Investigate(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 c = epoch 7.5[a,z)
    14 tidb1 > tikv2 Get 7.5 p = epoch 7.3[a,m)
  )");
  EXPECT_EQ(Summary(report), "");
  EXPECT_EQ(report.benign.at("tikv_lag"), 1u);
}

// 21, tidb#1241: the cache knows regions by their id alone.
TEST(Incident, N21CachedByIdAlone) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,z)
    12 tidb1 > pd1 GetRegion c = 7.4[a,m)
    14 tidb1 > tikv1 Get 7.4 p = notin p [a,m)
    16 tidb1 > tikv1 Get 7.4 q = notin q [a,m)
  )"),
            "tidb certain 2 7.4 x2");
}

// 22, tidb#13495: a store moved to another address.
TEST(Incident, N22StoreNotMatch) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,z)
    12 tidb1 > tikv2 Get 7.3 c = store_not_match
    14 tidb1 > tikv1 Get 7.3 c = ok
  )"),
            "");
}

// 23, tikv#9691: EpochNotMatch names two regions only after a split into many.
TEST(Incident, N23EpochNotMatchNamesTwoOfMany) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 y = epoch 7.6[a,c) 8.6[c,f)
    14 tidb1 > pd1 GetRegion y = 7.3[a,z)
    16 tidb1 > tikv1 Get 7.3 y = epoch 7.6[a,c) 8.6[c,f)
    18 tidb1 > pd1 GetRegion y = 9.6[f,z)
    20 tidb1 > tikv1 Get 9.6 y = ok
  )"),
            "");
}

// 24, tiflash#1909: one request names a region twice.
TEST(Incident, N24RegionNamedTwice) {
  EXPECT_EQ(Judged("10 tidb1 > tikv1 BatchCop 7.3[a,m) 8.3[m,z) 7.3[a,m) = ok"), "tidb certain 0 7.3 x1");
  // Two small partitions may lie in one region.
  EXPECT_EQ(Judged("10 tidb1 > tikv1 BatchCop 7.3[a,c) 8.3[m,z) 7.3[c,m) = ok"), "");
}

// 25, tidb#10242: the planner makes a range that ends before it begins.
TEST(Incident, N25InvertedRange) {
  EXPECT_EQ(Judged("10 tidb1 > tikv1 Cop 7.3 [m,c) = inverted [m,c)"), "tidb certain 0 7.3 x1");
}

// 26, ticdc#4192: ScanLock without an end brings locks of others. Nothing was stated wrongly.
TEST(Incident, N26ScanLockWithoutAnEnd) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,m)
    12 tidb1 > tikv1 ScanLock 7.3 [b,-) = ok
  )"),
            "");
}

// 27, tikv#15210: during a split PD answers without a region.
TEST(Incident, N27NoRegionDuringASplit) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion p = none
    12 tikv1 > pd1 ReportSplit 7.4[a,m) 8.4[m,z)
    14 tikv1 > pd1 Heartbeat 8.4[m,z)
    20 tidb1 > pd1 GetRegion p = 8.4[m,z)
    22 tidb1 > tikv1 Get 8.4 p = ok
  )"),
            "");
}

// Rules that no incident names ------------------------------------------------------------------------------

TEST(Versions, AStoreThatStaysBehind) {
  std::string script = R"(
    10 tidb1 > pd1 GetRegion c = 7.5[a,z)
  )";
  for (int s = 1; s <= 70; s += 23)
    script += std::to_string(s) + "s tidb1 > tikv1 Get 7.5 c = epoch 7.4[a,m)\n";
  EXPECT_EQ(Judged(script), "tikv inferred 8 7.5 x4");
  // Not if it caught up in between.
  EXPECT_EQ(Judged(script + "71s tidb1 > tikv1 Get 7.5 c = epoch 7.6[a,m)"), "");
}

TEST(Versions, AClientThatKeepsAnOldRoute) {
  const std::string told = R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 c = epoch 7.4[a,m) 8.4[m,z)
  )";
  const std::string again = "30s tidb1 > tikv1 Get 7.3 c = epoch 7.4[a,m) 8.4[m,z)\n";
  EXPECT_EQ(Judged(told + again), "tidb inferred 7 7.3 x1");
  EXPECT_EQ(Judged(told + "5s tidb1 > tikv1 Get 7.3 c = epoch 7.4[a,m) 8.4[m,z)"), "");
  // Another connection may be another process; and PD may have told it the old one again.
  EXPECT_EQ(Judged(told + "30s tidb1 > tikv1 Get 7.3 c = epoch 7.4[a,m) 8.4[m,z) port=50000"), "");
  EXPECT_EQ(Judged(told + "20s tidb1 > pd1 GetRegion c = 7.3[a,z)\n" + again), "");
}

std::string NoteOfRoute(const std::string& script) {
  const auto report = Investigate(script);
  return report.verdicts.empty() || report.verdicts[0].evidence.empty()
             ? "no verdict"
             : report.verdicts[0].evidence[0].label + ": " + report.verdicts[0].evidence[0].note;
}

TEST(RouteCache, SaysWhatBecameOfTheRouteThatWasUsed) {
  const std::string use = "20 tidb1 > tikv1 Get 7.3 p = outside p [a,m)\n";
  EXPECT_EQ(NoteOfRoute("10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n" + use), "said: ");
  // A newer region of that place came in between.
  EXPECT_EQ(NoteOfRoute("10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n"
                        "12 tidb1 > pd1 GetRegion c = 9.5[b,f)\n" +
                        use),
            "said: dropped from its cache at 16:30:00.012 for region 9 (version 5)");
  // The answer was older than what the cache held.
  EXPECT_EQ(NoteOfRoute("10 tidb1 > pd1 GetRegion c = 9.5[b,f)\n"
                        "12 tidb1 > pd1 GetRegion c = 7.3[a,m)\n" +
                        use),
            "said: older than what its cache held: good for one call");
  // An error dropped it.
  EXPECT_EQ(NoteOfRoute("10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n"
                        "12 tidb1 > tikv1 Get 7.3 c = not_found\n" +
                        use),
            "said: dropped from its cache at 16:30:00.012");
  // Told again after that, it is in the cache again.
  EXPECT_EQ(NoteOfRoute("10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n"
                        "12 tidb1 > tikv1 Get 7.3 c = not_found\n"
                        "14 tidb1 > pd1 GetRegion c = 7.3[a,m)\n" +
                        use),
            "said: ");
  // What another machine was told is nothing to this one.
  EXPECT_EQ(NoteOfRoute("10 tidb1 > pd1 GetRegion c = 7.3[a,m)\n"
                        "12 tidb2 > pd1 GetRegion c = 9.5[b,f)\n" +
                        use),
            "said: ");
}

TEST(Versions, GracesAreParameters) {
  ScriptOptions options;
  options.graces.pd_ns = 60'000'000'000;
  const std::string script = R"(
    2s tikv1 > pd1 Heartbeat 7.4[a,m)
    42s tidb1 > pd1 GetRegion c = 7.3[a,z)
  )";
  EXPECT_EQ(Judged(script), "pd inferred 7 7.3 x1");
  EXPECT_EQ(Summary(Investigate(script, options)), "");
}

TEST(Clusters, OneRegionOfTwoClustersIsNoContradiction) {
  EXPECT_EQ(Judged(R"(
    10 tidb1 > pd1 GetRegion c = 7.3[a,m) cluster=5
    12 tikv1 > pd1 Heartbeat 7.3[a,m) cluster=5
    14 tidb2 > pd2 GetRegion c = 7.3[a,z) cluster=6
    16 tikv2 > pd2 Heartbeat 7.3[a,z) cluster=6
    18 tidb2 > tikv2 Get 7.3 p = ok
  )")
                .find("certain"),
            std::string::npos);
}

}  // namespace
}  // namespace keytrail
