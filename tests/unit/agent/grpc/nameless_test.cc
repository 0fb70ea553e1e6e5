// Calls and streams whose :path was not seen: what waits, what is named, what is amended, what is taken back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr uint64_t kTs = 470661668192388056;
constexpr int64_t kSecond = 1'000'000'000;

std::string Get(std::string_view key) {
  return Proto().Message(1, Context(16)).Text(2, key).Varint(3, kTs).bytes();
}
// A message of a method that no schema has: it fits none.
std::string Foreign() {
  return Proto().Varint(1, 7).Text(2, "abc").Varint(900, 1).bytes();
}

void HiddenCall(CallHarness& h, uint32_t stream, uint32_t slot, std::string_view request,
                std::string_view response) {
  h.HiddenRequest(stream, slot);
  h.Data(true, stream, Framed(request), true);
  h.Response(stream);
  h.Data(false, stream, Framed(response));
  h.Trailers(stream);
}

std::vector<std::string> Names(const CallLog& log) {
  std::vector<std::string> names;
  for (const SeenCall& call : log.calls) {
    names.push_back(std::to_string(call.stream) + " " + std::string(MethodFromName(call.from)) + " " +
                    call.method);
  }
  return names;
}

TEST(Nameless, CallsOfASlotWaitForItsNameAndAllGetIt) {
  CallHarness h({}, Protocol::kHttp2Late);
  HiddenCall(h, 21, 70, Get("a"), GetResponse("v"));
  EXPECT_EQ(h.log.calls.size(), 0u);
  HiddenCall(h, 23, 70, Get("b"), GetResponse("v"));
  HiddenCall(h, 25, 70, Get("c"), GetResponse("v"));
  EXPECT_THAT(Names(h.log), ElementsAre("21 slot /tikvpb.Tikv/KvGet", "23 slot /tikvpb.Tikv/KvGet",
                                        "25 slot /tikvpb.Tikv/KvGet"));
  for (const SeenCall& call : h.log.calls) {
    EXPECT_EQ(call.region_id, 16u);  // read like a named call
    EXPECT_EQ(call.incomplete, 0u);
  }
  EXPECT_EQ(h.counters.Get(Counter::kCallsSlot), 3u);
}

TEST(Nameless, SlotsAreKeptApart) {
  CallHarness h({}, Protocol::kHttp2Late);
  for (uint32_t i = 0; i < 3; ++i) {
    HiddenCall(h, 21 + 4 * i, 70, Get("a"), GetResponse("v"));
    HiddenCall(h, 23 + 4 * i, 80, Foreign(), Foreign());
  }
  h.End();
  size_t unknown = 0;
  for (const SeenCall& call : h.log.calls) unknown += call.method.empty();
  EXPECT_EQ(unknown, 3u);
  EXPECT_EQ(h.log.calls.size(), 6u);
}

TEST(Nameless, WhatWaitedTooLongIsToldAndAmended) {
  CallHarness h({}, Protocol::kHttp2Late);
  HiddenCall(h, 21, 70, Get("a"), GetResponse("v"));
  h.now += limits::kMaxWaitForNameNs + kSecond;
  // Anything that happens lets the time pass.
  h.UnaryCall(23, "/tikvpb.Tikv/KvCommit", "", "");
  EXPECT_THAT(Names(h.log), ElementsAre("21 unknown ", "23 header /tikvpb.Tikv/KvCommit"));
  HiddenCall(h, 25, 70, Get("b"), GetResponse("v"));
  EXPECT_THAT(Names(h.log), ElementsAre("21 unknown ", "23 header /tikvpb.Tikv/KvCommit",
                                        "21 slot /tikvpb.Tikv/KvGet", "25 slot /tikvpb.Tikv/KvGet"));
  EXPECT_EQ(h.log.calls[2].kind, CallKind::kAmend);
  EXPECT_EQ(h.counters.Get(Counter::kAmendments), 1u);
}

TEST(Nameless, ASlotOfAMethodThatNobodyKnowsStaysUnknown) {
  CallHarness h({}, Protocol::kHttp2Late);
  for (uint32_t i = 0; i < 4; ++i) HiddenCall(h, 21 + 2 * i, 70, Foreign(), Foreign());
  h.End();
  EXPECT_EQ(h.log.calls.size(), 4u);
  EXPECT_THAT(Names(h.log), ElementsAre("21 unknown ", "23 unknown ", "25 unknown ", "27 unknown "));
}

TEST(Nameless, TooManyWaitingCallsAreToldAndCounted) {
  CallHarness h({}, Protocol::kHttp2Late);
  // RawDelete and others: never proved.
  const std::string raw = Proto().Message(1, Context(16)).Text(2, "k").bytes();
  for (uint32_t i = 0; i < limits::kMaxWaitingMessages; ++i) HiddenCall(h, 21 + 2 * i, 70, raw, "");
  EXPECT_EQ(h.counters.Get(Counter::kCapWaiting), 1u);
  EXPECT_EQ(h.log.calls.size(), limits::kMaxWaitingMessages);
  h.End();
  EXPECT_EQ(h.counters.Get(Counter::kCallsUnknown), limits::kMaxWaitingMessages);
}

TEST(Nameless, ANameThatAMessageContradictsIsTakenBack) {
  CallHarness h({}, Protocol::kHttp2Late);
  for (uint32_t i = 0; i < 3; ++i) HiddenCall(h, 21 + 2 * i, 70, Get("a"), GetResponse("v"));
  ASSERT_EQ(h.log.calls.size(), 3u);
  // A key that is a number.
  HiddenCall(h, 31, 70, Proto().Message(1, Context(16)).Varint(2, 5).bytes(), GetResponse("v"));
  h.End();
  ASSERT_EQ(h.log.calls.size(), 4u);
  EXPECT_EQ(h.log.calls[3].method, "");
  EXPECT_EQ(h.log.calls[3].region_id, 0u);
  EXPECT_EQ(h.counters.Get(Counter::kNamesRefuted), 1u);
}

TEST(Nameless, BatchCommandsWithoutHeadersIsSplitFromItsFirstMessage) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.Data(false, 1, Framed(Batch({{6, 1, GetResponse("of a request before we came")}})));
  for (uint64_t id = 7; id < 10; ++id) {
    h.Data(true, 1, Framed(Batch({{id, 1, Get("k")}})));
    h.Data(false, 1, Framed(Batch({{id, 1, GetResponse("v")}})));
  }
  h.End();
  const auto subs = h.log.Of(CallKind::kSub);
  ASSERT_EQ(subs.size(), 4u);
  EXPECT_EQ(subs[0].id, 6u);
  EXPECT_FALSE(subs[0].has_request);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(subs[i].method, "/tikvpb.Tikv/BatchCommands");
    EXPECT_EQ(subs[i].from, MethodFrom::kShape);
    EXPECT_EQ(subs[i].command, "Get");
    EXPECT_TRUE(subs[i].has_request && subs[i].has_response);
  }
}

// Hostile: HEADERS in the middle of a stream that was named without.
TEST(Nameless, HeadersThatComeLateEndWhatWasTakenForGranted) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.Data(true, 1, Framed(Batch({{7, 1, Get("k")}})));
  h.Data(false, 1, Framed(Batch({{7, 1, GetResponse("v")}})));
  h.Data(true, 1, Framed(Batch({{8, 1, Get("k")}})));
  h.HiddenRequest(1);
  h.Data(true, 1, Framed(Batch({{9, 1, Get("k")}})));
  h.End();
  const auto subs = h.log.Of(CallKind::kSub);
  ASSERT_GE(subs.size(), 2u);
  EXPECT_TRUE(subs[0].has_request && subs[0].has_response);
  EXPECT_EQ(subs[1].id, 8u);
  EXPECT_FALSE(subs[1].has_response);
}

// Not even who is the client is known: the messages tell that, too.
TEST(Nameless, TheClientIsKnownByWhatItSays) {
  for (const int client : {0, 1}) {
    CallHarness h({}, Protocol::kHttp2Late, -1);
    h.client = client;
    for (uint64_t id = 7; id < 10; ++id) {
      h.Data(true, 1, Framed(Batch({{id, 1, Get("k")}})));
      h.Data(false, 1, Framed(Batch({{id, 1, GetResponse("v")}})));
    }
    h.End();
    const auto subs = h.log.Of(CallKind::kSub);
    ASSERT_EQ(subs.size(), 3u) << client;
    for (const SeenCall& sub : subs) {
      EXPECT_TRUE(sub.client_known && sub.has_request && sub.has_response);
      EXPECT_EQ(sub.client, client == 0 ? "10.0.0.1:40000" : "10.0.0.2:20160");
    }
  }
}

Proto Header() {
  return Proto().Varint(1, 7711404973877209306);
}
Proto Region(uint64_t id) {
  return Proto()
      .Varint(1, id)
      .Text(2, "t1")
      .Text(3, "t9")
      .Message(4, Proto().Varint(1, 1).Varint(2, 2))
      .Message(5, Proto().Varint(1, 9).Varint(2, 1));
}
std::string Question(std::string_view key) {
  return Proto().Message(1, Header()).Text(4, key).bytes();
}
std::string AnswerOf(uint64_t id, int keys = 1) {
  Proto ids;
  for (int i = 0; i < keys; ++i) ids.Raw(id);
  return Proto()
      .Message(1, Header())
      .Text(2, ids.bytes())
      .Message(4, Proto().Varint(1, id).Message(2, Proto().Message(1, Region(id))))
      .bytes();
}

// QueryRegion joined in the middle: PD's client asks again only after the answer, and the answer names the
// region of each key; only what fits both is a pair.
TEST(Nameless, QueryRegionJoinedLateIsPairedByWhatItSays) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.key.b.port = 2379;
  h.Data(false, 5, Framed(AnswerOf(14)));   // to a question before we came
  h.Data(true, 5, Framed(Question("t2")));  // its answer is lost
  h.Data(true, 5, Framed(Question("t3")));
  h.Data(false, 5, Framed(AnswerOf(14)));
  h.Data(true, 5, Framed(Question("t4")));
  h.Data(false, 5, Framed(AnswerOf(14, 2)));  // of two keys: somebody else's
  h.End();
  const auto subs = h.log.Of(CallKind::kSub);
  std::vector<std::pair<bool, bool>> halves;
  for (const SeenCall& sub : subs) {
    EXPECT_EQ(sub.method, "/pdpb.PD/QueryRegion");
    halves.emplace_back(sub.has_request, sub.has_response);
  }
  using P = std::pair<bool, bool>;
  EXPECT_THAT(halves,
              ElementsAre(P(false, true), P(true, false), P(true, true), P(true, false), P(false, true)));
}

// What a slot was before a loss -----------------------------------------------------------------------------

// As HiddenCall; the slot was known as `path`, or had another number.
void HintedCall(CallHarness& h, uint32_t stream, uint32_t slot, std::string_view path, uint32_t former_slot,
                std::string_view request, std::string_view response) {
  h.HiddenRequest(stream, slot, path, former_slot);
  h.Data(true, stream, Framed(request), true);
  h.Response(stream);
  h.Data(false, stream, Framed(response));
  h.Trailers(stream);
}

// A question that many methods may ask, with an empty answer.
std::string Vague() {
  return Proto().Message(1, Context(16)).Text(2, "k").bytes();
}

TEST(Nameless, OneCallConfirmsWhatASlotWasBeforeALoss) {
  CallHarness h({}, Protocol::kHttp2Late);
  HintedCall(h, 21, 70, "/tikvpb.Tikv/KvGet", 0, Get("a"), GetResponse("v"));
  EXPECT_THAT(Names(h.log), ElementsAre("21 slot /tikvpb.Tikv/KvGet"));
  HiddenCall(h, 23, 70, Get("b"), GetResponse("v"));
  EXPECT_THAT(Names(h.log), ElementsAre("21 slot /tikvpb.Tikv/KvGet", "23 slot /tikvpb.Tikv/KvGet"));
}

TEST(Nameless, WhatASlotWasIsCarriedOverItsNumbers) {
  CallHarness h({}, Protocol::kHttp2Late);
  for (uint32_t i = 0; i < 3; ++i) HiddenCall(h, 21 + 2 * i, 70, Get("a"), GetResponse("v"));
  HintedCall(h, 31, 90, "", 70, Get("b"), GetResponse("v"));
  EXPECT_EQ(Names(h.log).back(), "31 slot /tikvpb.Tikv/KvGet");
  // A hint that no call has confirmed leads on as well.
  h.HiddenRequest(33, 91, "", 90);
  HintedCall(h, 35, 92, "", 91, Get("c"), GetResponse("v"));
  EXPECT_EQ(Names(h.log).back(), "35 slot /tikvpb.Tikv/KvGet");
}

TEST(Nameless, ACallThatDoesNotFitTheHintIsNotNamedByIt) {
  CallHarness h({}, Protocol::kHttp2Late);
  HintedCall(h, 21, 70, "/tikvpb.Tikv/KvCommit", 0, Get("a"), GetResponse("v"));
  EXPECT_EQ(h.log.calls.size(), 0u);
  HintedCall(h, 23, 70, "/tikvpb.Tikv/KvCommit", 0, Get("b"), GetResponse("v"));
  EXPECT_THAT(Names(h.log), ElementsAre("21 slot /tikvpb.Tikv/KvGet", "23 slot /tikvpb.Tikv/KvGet"));
}

TEST(Nameless, AHintIsNotEnoughIfAnotherMethodThatIsSpokenHereFitsToo) {
  CallHarness alone({}, Protocol::kHttp2Late);
  HintedCall(alone, 21, 70, "/tikvpb.Tikv/RawGet", 0, Vague(), "");
  EXPECT_THAT(Names(alone.log), ElementsAre("21 slot /tikvpb.Tikv/RawGet"));
  CallHarness h({}, Protocol::kHttp2Late);
  h.UnaryCall(19, "/tikvpb.Tikv/RawDelete", Vague(), "");
  HintedCall(h, 21, 70, "/tikvpb.Tikv/RawGet", 0, Vague(), "");
  h.End();
  EXPECT_THAT(Names(h.log), ElementsAre("19 header /tikvpb.Tikv/RawDelete", "21 unknown "));
}

TEST(Nameless, HalfACallConfirmsNothing) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.HiddenRequest(21, 70, "/tikvpb.Tikv/KvGet");
  h.Data(true, 21, Framed(Get("a")), true);
  h.Reset(false, 21);
  h.End();
  EXPECT_THAT(Names(h.log), ElementsAre("21 unknown "));
}

}  // namespace
}  // namespace keytrail::testing
