#include <gtest/gtest.h>

#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kQuery = "/pdpb.PD/QueryRegion";
constexpr int64_t kLongSilenceNs = 60'000'000'000;

struct QueryHarness : CallHarness {
  using CallHarness::CallHarness;
  void Open() {
    Request(1, kQuery);
    Response(1);
  }
  void Ask(std::string_view asked_key) {
    now += 10;
    Data(true, 1, Framed(Proto().Message(1, Proto().Varint(1, 7)).Text(4, asked_key).bytes()));
  }
  // The answer's size tells whose it is.
  void Answer(size_t size) {
    now += 10;
    Data(false, 1, Framed(Proto().Message(1, Proto().Varint(1, 7)).Text(2, std::string(size, '\1')).bytes()));
  }
  std::vector<SeenCall> Subs() const { return log.Of(CallKind::kSub); }
};

TEST(QueryRegion, TheNthAnswerBelongsToTheNthQuestion) {
  QueryHarness h;
  h.Open();
  h.Ask("k1");
  h.Ask("k2");
  h.Answer(1);
  h.Ask("k3");
  h.Answer(2);
  h.Answer(3);
  h.End();
  const std::vector<SeenCall> subs = h.Subs();
  ASSERT_EQ(subs.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(subs[i].first_key, "k" + std::to_string(i + 1));
    EXPECT_EQ(subs[i].resp_bytes, 4 + 2 + i + 1);
    EXPECT_EQ(subs[i].id, std::nullopt);
    EXPECT_EQ(subs[i].command, "");
    EXPECT_EQ(subs[i].incomplete, 0u);
    EXPECT_GT(subs[i].resp_last, subs[i].req_first);
  }
  EXPECT_EQ(h.log.calls.back().kind, CallKind::kStream);
  EXPECT_EQ(h.log.calls.back().req_messages, 3u);
}

TEST(QueryRegion, HalvesAtTheEnds) {
  QueryHarness h;
  h.Open();
  h.Answer(1);
  h.Ask("k1");
  h.End();
  const std::vector<SeenCall> subs = h.Subs();
  ASSERT_EQ(subs.size(), 2u);
  EXPECT_EQ(subs[0].incomplete, kRequestNotSeen);
  EXPECT_EQ(subs[1].incomplete, kResponseNotSeen | kCut);
}

TEST(QueryRegion, AfterALossNothingIsPairedUntilALongSilence) {
  for (const bool of_client : {true, false}) {
    QueryHarness h;
    h.Open();
    h.Ask("k1");
    h.Answer(1);
    h.Ask("k2");
    h.Loss(of_client);
    h.Answer(2);
    h.Ask("k3");
    h.Answer(3);
    h.Ask("k4");
    h.Answer(4);
    const size_t halves = h.Subs().size() - 1;
    EXPECT_EQ(halves, 6u);
    for (const SeenCall& sub : h.Subs()) {
      if (sub.first_key == "k1") continue;
      EXPECT_NE(sub.incomplete & (kRequestNotSeen | kResponseNotSeen), 0u);
      EXPECT_EQ(sub.incomplete & kGap, kGap);
    }
    h.now += kLongSilenceNs;
    h.Ask("k5");
    h.Answer(5);
    EXPECT_EQ(h.Subs().back().first_key, "k5");
    EXPECT_EQ(h.Subs().back().resp_bytes, 4u + 2 + 5);
    EXPECT_EQ(h.Subs().back().incomplete, 0u);
  }
}

TEST(QueryRegion, AnAnswerAfterTheSilenceIsStillNobodys) {
  QueryHarness h;
  h.Open();
  h.Ask("k1");
  h.Loss(true);
  h.now += kLongSilenceNs;
  h.Answer(1);
  h.Ask("k2");
  h.Answer(2);
  for (const SeenCall& sub : h.Subs()) {
    EXPECT_NE(sub.incomplete & (kRequestNotSeen | kResponseNotSeen), 0u) << sub.Line();
  }
}

TEST(QueryRegion, ADamagedQuestionKeepsItsPlaceInTheOrder) {
  QueryHarness h;
  h.Open();
  const std::string question = Framed(Proto().Text(4, "a key of twenty bytes").bytes());
  h.Piece(true, 1, question.substr(0, 10), false);
  h.Loss(true, 5, 1);
  h.Piece(true, 1, question.substr(15), true);
  h.Ask("k2");
  h.Answer(1);
  h.Answer(2);
  const std::vector<SeenCall> subs = h.Subs();
  ASSERT_EQ(subs.size(), 2u);
  EXPECT_EQ(subs[0].incomplete, kGap);
  EXPECT_FALSE(subs[0].has_request);
  EXPECT_EQ(subs[0].resp_bytes, 4u + 2 + 1);
  EXPECT_EQ(subs[1].incomplete, 0u);
  EXPECT_EQ(subs[1].first_key, "k2");
  EXPECT_EQ(subs[1].resp_bytes, 4u + 2 + 2);
}

}  // namespace
}  // namespace keytrail::testing
