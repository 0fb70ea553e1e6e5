// What the levels of detail leave out, and that nothing is taken for what it is not when they change.
#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kGet = "/tikvpb.Tikv/KvGet";
constexpr std::string_view kBatch = "/tikvpb.Tikv/BatchCommands";
constexpr std::string_view kQuery = "/pdpb.PD/QueryRegion";

Command Ask(uint64_t id) {
  return {id, 1, GetRequest(id * 10, "key" + std::to_string(id))};
}
Command AnswerOf(uint64_t id) {
  return {id, 1, GetResponse(std::string(id, 'v'))};
}

TEST(Detail, HeadersOnlyTellsTimesAndSizesAndSaysSo) {
  CallHarness full;
  full.UnaryCall(1, kGet, GetRequest(7, "k"), GetResponse("value"));
  CallHarness h;
  h.decoder.SetDetail(DetailLevel::kHeadersOnly);
  h.UnaryCall(1, kGet, GetRequest(7, "k"), GetResponse("value"));
  ASSERT_EQ(h.log.calls.size(), 1u);
  const SeenCall& read = full.log.calls[0];
  const SeenCall& call = h.log.calls[0];
  EXPECT_EQ(read.first_key, "k");
  EXPECT_EQ(read.incomplete, 0u);
  EXPECT_EQ(call.first_key, "");
  EXPECT_EQ(call.incomplete, uint32_t{kDegraded});
  EXPECT_EQ(call.method, read.method);
  EXPECT_EQ(call.req_bytes, read.req_bytes);
  EXPECT_EQ(call.resp_bytes, read.resp_bytes);
  EXPECT_EQ(call.req_first, read.req_first);
  EXPECT_EQ(call.resp_last, read.resp_last);
  EXPECT_EQ(h.counters.Get(Counter::kMessagesHeadersOnly), 2u);
  EXPECT_EQ(full.counters.Get(Counter::kMessagesHeadersOnly), 0u);
}

// It has no body, but it is no empty message either.
TEST(Detail, AMessageThatBeganUnreadIsNotReadAsAnEmptyOne) {
  const std::string request = Framed(GetRequest(7, "k"));
  for (size_t cut = 1; cut < request.size(); ++cut) {
    CallHarness h;
    h.decoder.SetDetail(DetailLevel::kHeadersOnly);
    h.Request(1, kGet);
    h.Data(true, 1, request.substr(0, cut));
    h.decoder.SetDetail(DetailLevel::kFull);
    h.Data(true, 1, request.substr(cut), true);
    h.Response(1);
    h.Data(false, 1, Framed(GetResponse("v")));
    h.Trailers(1);
    ASSERT_EQ(h.log.calls.size(), 1u) << cut;
    // Its prefix tells when reading begins: with it whole in hand at kFull, all of the message is there.
    const bool read = cut < 5;
    EXPECT_EQ(h.log.calls[0].first_key, read ? "k" : "") << cut;
    EXPECT_EQ((h.log.calls[0].incomplete & kDegraded) != 0, !read) << cut;
  }
}

TEST(Detail, ABatchThatWasNotReadEndsWhatWaitedForIt) {
  CallHarness h;
  h.Request(1, kBatch);
  h.Response(1);
  h.Data(true, 1, Framed(Batch({Ask(1), Ask(2)})));
  h.decoder.SetDetail(DetailLevel::kHeadersOnly);
  h.Data(false, 1, Framed(Batch({AnswerOf(1), AnswerOf(2)})));
  h.Data(true, 1, Framed(Batch({Ask(3)})));
  h.decoder.SetDetail(DetailLevel::kFull);
  h.Data(false, 1, Framed(Batch({AnswerOf(3)})));
  h.Data(true, 1, Framed(Batch({Ask(4)})));
  h.Data(false, 1, Framed(Batch({AnswerOf(4)})));
  h.End();
  const std::vector<SeenCall> subs = h.log.Of(CallKind::kSub);
  ASSERT_EQ(subs.size(), 4u);
  EXPECT_EQ(subs[0].incomplete, kResponseNotSeen | kDegraded);
  EXPECT_EQ(subs[1].incomplete, kResponseNotSeen | kDegraded);
  EXPECT_EQ(subs[2].incomplete, kRequestNotSeen | kDegraded);
  EXPECT_EQ(subs[3].incomplete, 0u);
  EXPECT_EQ(subs[3].first_key, "key4");
  EXPECT_EQ(h.log.Of(CallKind::kMessage).size(), 2u);
  const std::vector<SeenCall> streams = h.log.Of(CallKind::kStream);
  ASSERT_EQ(streams.size(), 1u);
  EXPECT_NE(streams[0].incomplete & kDegraded, 0u);
}

// The answer to a question that was not read must not be taken for that to the next one.
TEST(Detail, QuestionsThatWereNotReadShiftNoAnswer) {
  CallHarness h;
  h.Request(1, kQuery);
  h.Response(1);
  const auto ask = [&](std::string_view key) {
    h.Data(true, 1, Framed(Proto().Message(1, Proto().Varint(1, 7)).Text(4, key).bytes()));
  };
  h.decoder.SetDetail(DetailLevel::kHeadersOnly);
  ask("k1");
  h.decoder.SetDetail(DetailLevel::kFull);
  ask("k2");
  h.Data(false, 1, Framed(Proto().Message(1, Proto().Varint(1, 7)).bytes()));  // to k1
  h.End();
  for (const SeenCall& sub : h.log.Of(CallKind::kSub)) EXPECT_NE(sub.incomplete, 0u);
}

TEST(Detail, OfRaftOneMessageInSoManyIsRead) {
  constexpr std::string_view kRaft = "/tikvpb.Tikv/Raft";
  constexpr uint64_t kMessages = 10 * limits::kSampledOneIn;
  for (const bool sampled : {false, true}) {
    CallHarness h;
    if (sampled) h.decoder.SetDetail(DetailLevel::kSampleTso);
    h.Request(1, kRaft);
    for (uint64_t i = 0; i < kMessages; ++i) h.Data(true, 1, Framed(Proto().Varint(1, 7).bytes()));
    h.UnaryCall(3, kGet, GetRequest(7, "k"), GetResponse("value"));
    h.End();
    EXPECT_EQ(h.log.Of(CallKind::kMessage).size(), sampled ? 10u : kMessages);
    EXPECT_EQ(h.counters.Get(Counter::kMessagesSampledOut), sampled ? kMessages - 10 : 0);
    EXPECT_EQ(h.log.Of(CallKind::kStream)[0].req_messages, kMessages);
    EXPECT_EQ(h.log.Of(CallKind::kUnary)[0].first_key, "k") << "what verdicts need is read";
  }
}

TEST(Detail, ConnectionsThatAreForgottenWereNotReset) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(7, "k")), true);
  h.End(CloseReason::kForgotten);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kResponseNotSeen | kCut | kDegraded);
  EXPECT_FALSE(h.log.calls[0].reset);
}

TEST(Detail, PayloadsAreDroppedAndCounted) {
  GrpcOptions options;
  options.keep_messages = true;
  CallHarness h(options);
  h.decoder.SetDetail(DetailLevel::kDropPayloads);
  h.UnaryCall(1, kGet, GetRequest(7, "k"), GetResponse("value"));
  EXPECT_EQ(h.log.calls[0].first_key, "k");
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
  EXPECT_EQ(h.counters.Get(Counter::kPayloadsDropped), 2u);
}

}  // namespace
}  // namespace keytrail::testing
