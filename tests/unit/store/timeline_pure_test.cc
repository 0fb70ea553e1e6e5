// Clocks, pairs and marks of timelines, on values made by hand.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "collector/store/timeline_clock.h"
#include "collector/store/timeline_marks.h"
#include "collector/store/timeline_pairs.h"
#include "common/call_record.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr int64_t kSecond = 1'000'000'000;

TEST(HostClocks, OneOffset) {
  const HostClocks clocks({{"tikv1", {}, {}, 5000, 20, 0}});
  EXPECT_EQ(clocks.ToReference("tikv1", 1'005'000), 1'000'000);
  EXPECT_EQ(clocks.FromReference("tikv1", 1'000'000), 1'005'000);
  EXPECT_EQ(clocks.ErrorNs("tikv1", 7), 20);
  EXPECT_EQ(clocks.ToReference("tidb1", 7), std::nullopt);
  EXPECT_FALSE(clocks.Related("tidb1"));
}

TEST(HostClocks, DriftAndSteps) {
  // Ten parts in a million for 100 s, then the clock was set back by 2 s.
  const HostClocks clocks({{"h", 1000 * kSecond, 1100 * kSecond, 0, 50, 10'000},
                           {"h", 1101 * kSecond, 1200 * kSecond, -2 * kSecond, 70, 0}});
  EXPECT_EQ(clocks.ToReference("h", 1000 * kSecond), 1000 * kSecond);
  EXPECT_EQ(clocks.ToReference("h", 1100 * kSecond), 1100 * kSecond - 1'000'000);
  EXPECT_EQ(clocks.ToReference("h", 1150 * kSecond), 1152 * kSecond);
  // Outside the nearest end counts: drift is not carried on.
  EXPECT_EQ(clocks.ToReference("h", 900 * kSecond), 900 * kSecond);
  EXPECT_EQ(clocks.ToReference("h", 1100 * kSecond + 1000), 1100 * kSecond + 1000 - 1'000'000);
  EXPECT_EQ(clocks.ErrorNs("h", 1050 * kSecond), 50);
  EXPECT_EQ(clocks.ErrorNs("h", 1150 * kSecond), 70);
}

TEST(HostClocks, FromReferenceIsTheInverse) {
  const HostClocks clocks({{"h", 1000 * kSecond, 2000 * kSecond, 350'000'000, 0, 40'000}});
  for (int64_t t = 1001 * kSecond; t < 1900 * kSecond; t += 7'654'321'987) {
    const int64_t own = clocks.FromReference("h", t).value();
    EXPECT_NEAR(static_cast<double>(clocks.ToReference("h", own).value() - t), 0, 2) << t;
  }
}

TimelineCall TwoViews(TimelineTimes client, TimelineTimes server) {
  TimelineCall call;
  call.at_client.emplace();
  call.at_client->times = client;
  call.at_server.emplace();
  call.at_server->times = server;
  return call;
}

TEST(OrderViews, NothingIsMovedThatFits) {
  TimelineCall call = TwoViews({100, 110, 200, 210}, {101, 111, 199, 209});
  OrderViews(call);
  EXPECT_EQ(call.at_server->moved_ns, 0);
  EXPECT_EQ(call.at_server->times.req_first, 101);
}

TEST(OrderViews, TheServersViewIsMovedAsLittleAsNeeded) {
  TimelineCall early = TwoViews({100, 110, 200, 210}, {95, 108, 190, 205});
  OrderViews(early);
  EXPECT_EQ(early.at_server->moved_ns, 5);
  EXPECT_EQ(early.at_server->times.req_first, 100);
  EXPECT_EQ(early.at_server->times.resp_last, 210);
  TimelineCall late = TwoViews({100, 110, 200, 210}, {108, 118, 207, 213});
  OrderViews(late);
  EXPECT_EQ(late.at_server->moved_ns, -7);
}

TEST(OrderViews, NoAnswerBeforeItsQuestionWhateverTheStamps) {
  std::mt19937_64 random(5);
  const auto maybe = [&]() -> std::optional<int64_t> {
    if (random() % 4 == 0) return std::nullopt;
    return static_cast<int64_t>(random() % 1000);
  };
  for (int i = 0; i < 20000; ++i) {
    TimelineCall call = TwoViews({maybe(), maybe(), maybe(), maybe()}, {maybe(), maybe(), maybe(), maybe()});
    OrderViews(call);
    for (const TimelineView* view : {&*call.at_client, &*call.at_server}) {
      const TimelineTimes& t = view->times;
      const auto ordered = [](std::optional<int64_t> a, std::optional<int64_t> b) {
        return !a || !b || *a <= *b;
      };
      ASSERT_TRUE(ordered(t.req_first, t.req_last));
      ASSERT_TRUE(ordered(t.req_first, t.resp_first));
      ASSERT_TRUE(ordered(t.req_first, t.resp_last));
      ASSERT_TRUE(ordered(t.resp_first, t.resp_last));
    }
  }
}

TEST(OrderViews, UnrelatedClocksStayAsTheyAre) {
  TimelineCall call = TwoViews({100, 110, 200, 210}, {5000, 5010, 5100, 5110});
  call.at_server->on_reference = false;
  OrderViews(call);
  EXPECT_EQ(call.at_server->times.req_first, 5000);
}

TimelineObservation Observed(uint64_t id, uint32_t agent, int64_t at, std::optional<uint64_t> request = 7) {
  TimelineObservation o;
  o.call_id = id;
  o.agent = agent;
  o.client = "10.0.0.11:4000";
  o.server = "10.0.0.31:20160";
  o.stream = 1;
  o.kind = static_cast<uint64_t>(CallKind::kSub);
  o.request_id = request;
  o.req_bytes = 10;
  o.resp_bytes = 20;
  o.request_seen = true;
  o.on_reference = true;
  o.first_ns = at;
  return o;
}

// Ids of each call's views.
std::vector<std::vector<uint64_t>> Paired(const std::vector<TimelineObservation>& all) {
  std::vector<std::vector<uint64_t>> calls;
  for (const std::vector<size_t>& call : PairViews(all)) {
    calls.emplace_back();
    for (const size_t i : call) calls.back().push_back(all[i].call_id);
    std::sort(calls.back().begin(), calls.back().end());
  }
  return calls;
}

TEST(PairViews, BySameIdentity) {
  auto other_stream = Observed(3, 2, 100);
  other_stream.stream = 3;
  auto other_request = Observed(4, 2, 100, 8);
  EXPECT_THAT(Paired({Observed(1, 1, 100), Observed(2, 2, 105), other_stream, other_request}),
              UnorderedElementsAre(ElementsAre(1, 2), ElementsAre(3), ElementsAre(4)));
  // Two of one agent are two calls.
  EXPECT_THAT(Paired({Observed(1, 1, 100), Observed(2, 1, 105)}),
              UnorderedElementsAre(ElementsAre(1), ElementsAre(2)));
}

TEST(PairViews, APortUsedAgainIsToldApartByTime) {
  EXPECT_THAT(Paired({Observed(1, 1, 0), Observed(2, 1, 100 * kSecond), Observed(3, 2, 100 * kSecond + 5),
                      Observed(4, 2, 5)}),
              UnorderedElementsAre(ElementsAre(1, 4), ElementsAre(2, 3)));
}

TEST(PairViews, SizesMustAgree) {
  auto other = Observed(2, 2, 100);
  other.resp_bytes = 21;
  EXPECT_THAT(Paired({Observed(1, 1, 100), other}), UnorderedElementsAre(ElementsAre(1), ElementsAre(2)));
  other.resp_bytes = 0;  // not seen
  EXPECT_THAT(Paired({Observed(1, 1, 100), other}), UnorderedElementsAre(ElementsAre(1, 2)));
}

TEST(PairViews, AloneRatherThanGuessed) {
  std::vector<TimelineObservation> all = {Observed(1, 1, 0), Observed(2, 1, 100 * kSecond),
                                          Observed(3, 2, 50 * kSecond)};
  for (TimelineObservation& o : all) o.on_reference = false;
  EXPECT_THAT(Paired(all), UnorderedElementsAre(ElementsAre(1), ElementsAre(2), ElementsAre(3)));
  EXPECT_THAT(Paired({all[0], all[2]}), UnorderedElementsAre(ElementsAre(1, 3)));
}

TEST(PairViews, LoopbackIsAnotherMachineAtEveryAgent) {
  std::vector<TimelineObservation> all = {Observed(1, 1, 0), Observed(2, 2, 0)};
  for (TimelineObservation& o : all) {
    o.client = "127.0.0.1:4000";
    o.loopback = true;
  }
  EXPECT_THAT(Paired(all), UnorderedElementsAre(ElementsAre(1), ElementsAre(2)));
}

TEST(PairViews, ManyHeartbeatsOfOneStream) {
  std::vector<TimelineObservation> all;
  for (uint64_t i = 0; i < 20'000; ++i) {
    for (uint32_t agent : {1, 2}) {
      auto o = Observed(i * 2 + agent, agent, static_cast<int64_t>(i) * 10'000'000 + agent, std::nullopt);
      o.kind = static_cast<uint64_t>(CallKind::kMessage);
      all.push_back(o);
    }
  }
  size_t pairs = 0;
  for (const std::vector<uint64_t>& call : Paired(all)) {
    ASSERT_EQ(call.size(), 2u);
    EXPECT_EQ(call[0] + 1, call[1]);
    ++pairs;
  }
  EXPECT_EQ(pairs, 20'000u);
}

Evidence Line(const char* label, const char* speaker, uint64_t call, const char* note = "") {
  Evidence e;
  e.label = label;
  e.speaker = speaker;
  e.call_id = call;
  e.note = note;
  e.what = std::string(label) == "used" ? "request" : "route";
  return e;
}

TEST(Marks, WhoIsBlamed) {
  Verdict v;
  v.id = 3;
  v.component = Component::kPd;
  v.culprit = "pd1";
  v.evidence = {Line("said", "pd1", 1, "too wide"), Line("used", "tidb1", 2), Line("refused", "tikv1", 3),
                Line("witness", "pd1", 4)};
  EXPECT_EQ(GuiltyLine(v), &v.evidence[0]);
  v.component = Component::kTidb;
  v.culprit = "tidb1";
  EXPECT_EQ(GuiltyLine(v), &v.evidence[1]);
  v.component = Component::kTikv;
  v.culprit = "tikv1";
  EXPECT_EQ(GuiltyLine(v), &v.evidence[2]);
  // TiKV itself had told the client the right range: the refusal is what is wrong, and the other way round.
  v.evidence = {Line("said", "tikv1", 1), Line("used", "tidb1", 2),
                Line("refused", "tikv1", 3, "too narrow")};
  EXPECT_EQ(GuiltyLine(v), &v.evidence[2]);
  v.evidence = {Line("said", "tikv1", 1, "too wide"), Line("used", "tidb1", 2), Line("refused", "tikv1", 3)};
  EXPECT_EQ(GuiltyLine(v), &v.evidence[0]);
}

TEST(Marks, OccurrencesAddToTheEvidence) {
  InvestigationReport report;
  Verdict& v = report.verdicts.emplace_back();
  v.id = 1;
  v.component = Component::kTidb;
  v.culprit = "tidb1";
  v.evidence = {Line("said", "pd1", 1), Line("used", "tidb1", 2, "outside of what PD said"),
                Line("refused", "tikv1", 2), Line("witness", "pd1", 4)};
  v.occurrence_list.resize(2);
  for (size_t i = 0; i < 2; ++i) {
    v.occurrence_list[i].what = "complaint";
    v.occurrence_list[i].call_id = i == 0 ? 2 : 9;
  }
  const auto marks = MarksOf(report, 1);
  const auto labels = [&](uint64_t call) {
    std::vector<std::string> out;
    for (const TimelineMark& m : marks.at(call)) {
      out.push_back(m.label + (m.on_request ? " asked" : " answered") + (m.guilty ? " WRONG" : ""));
    }
    return out;
  };
  EXPECT_THAT(labels(2), ElementsAre("used asked WRONG", "refused answered"));
  EXPECT_THAT(labels(9), ElementsAre("again asked WRONG", "again answered"));
  EXPECT_THAT(labels(4), ElementsAre("witness answered"));
  // Of all verdicts together witnesses are none.
  EXPECT_FALSE(MarksOf(report, 0).contains(4));
  EXPECT_TRUE(MarksOf(report, 0).contains(9));
  EXPECT_TRUE(MarksOf(report, 2).empty());
}

}  // namespace
}  // namespace keytrail
