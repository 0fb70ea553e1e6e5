#include <gtest/gtest.h>

#include <map>
#include <random>

#include "common/limits.h"
#include "tests/support/segmenter.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kBatch = "/tikvpb.Tikv/BatchCommands";
constexpr uint32_t kGetNumber = 1;
constexpr uint32_t kPrewriteNumber = 3;

Command Ask(uint64_t id) {
  return {id, kGetNumber, GetRequest(id * 10, "key" + std::to_string(id))};
}
Command AnswerOf(uint64_t id) {
  return {id, kGetNumber, GetResponse(std::string(id, 'v'))};
}

struct BatchHarness : CallHarness {
  using CallHarness::CallHarness;
  void Open(uint32_t stream = 1) {
    Request(stream, kBatch);
    Response(stream);
  }
  void Ask(const std::vector<Command>& commands, uint32_t stream = 1) {
    Data(true, stream, Framed(Batch(commands)));
    now += 10;
  }
  void Answer(const std::vector<Command>& commands, uint32_t stream = 1) {
    Data(false, stream, Framed(Batch(commands)));
    now += 10;
  }
};

TEST(BatchCommands, EverySubCommandIsARecordPairedById) {
  BatchHarness h;
  h.Open();
  h.now = 100;
  h.Ask({Ask(1), Ask(2)});
  h.now = 200;
  h.Ask({Ask(3)});
  h.now = 300;
  h.Answer({AnswerOf(3), AnswerOf(1)});
  h.now = 400;
  h.Answer({AnswerOf(2)});
  h.now = 500;
  h.End();
  EXPECT_EQ(
      h.log.Text(),
      "sub /tikvpb.Tikv/BatchCommands from=header Get#3 stream=1 client=10.0.0.1:40000 req=1/25 resp=1/5 "
      "t=200,200,300,300 region=30 key=key3 value=3\n"
      "sub /tikvpb.Tikv/BatchCommands from=header Get#1 stream=1 client=10.0.0.1:40000 req=1/25 resp=1/3 "
      "t=100,100,300,300 region=10 key=key1 value=1\n"
      "sub /tikvpb.Tikv/BatchCommands from=header Get#2 stream=1 client=10.0.0.1:40000 req=1/25 resp=1/4 "
      "t=100,100,400,400 region=20 key=key2 value=2\n"
      "stream /tikvpb.Tikv/BatchCommands from=header stream=1 client=10.0.0.1:40000 req=2/94 resp=2/31 "
      "t=1000000,200,1000000,400 http=200 cut\n");
  EXPECT_EQ(h.decoder.sub_counts_from_start().at(kGetNumber).request_messages, 3u);
  EXPECT_EQ(h.decoder.sub_counts_from_start().at(kGetNumber).response_messages, 3u);
}

TEST(BatchCommands, CutsChangeNothing) {
  const std::string asked = Framed(Batch({Ask(1), Ask(2)})) + Framed(Batch({Ask(3)}, false));
  const std::string answered = Framed(Batch({AnswerOf(3)})) + Framed(Batch({AnswerOf(1), AnswerOf(2)}));
  std::string expected;
  for (const bool of_requests : {true, false}) {
    for (const bool frames : {true, false}) {
      ForEachSegmentation(AsBytes(of_requests ? asked : answered),
                          [&](const Pieces& pieces, const std::string& label) {
                            BatchHarness h;
                            h.Open();
                            if (!of_requests) h.Data(true, 1, asked);
                            for (size_t i = 0; i < pieces.size(); ++i) {
                              h.Piece(of_requests, 1, AsText(pieces[i]), frames || i + 1 == pieces.size());
                            }
                            if (of_requests) h.Data(false, 1, answered);
                            h.End();
                            if (expected.empty()) expected = h.log.Text();
                            ASSERT_EQ(h.log.Text(), expected) << label;
                          });
    }
  }
  EXPECT_NE(expected.find("Get#3"), std::string::npos);
}

TEST(BatchCommands, UnansweredAtTheEnd) {
  BatchHarness h;
  h.Open();
  h.Ask({Ask(1), Ask(2), Ask(3)});
  h.Answer({AnswerOf(2)});
  h.Trailers(1, 14);
  const std::vector<SeenCall> subs = h.log.Of(CallKind::kSub);
  ASSERT_EQ(subs.size(), 3u);
  EXPECT_EQ(subs[1].id, 1u);
  EXPECT_EQ(subs[1].incomplete, kResponseNotSeen);
  EXPECT_EQ(subs[2].id, 3u);
  EXPECT_EQ(h.counters.Get(Counter::kRequestsWithoutResponse), 2u);
  BatchHarness cut;
  cut.Open();
  cut.Ask({Ask(1)});
  cut.End();
  EXPECT_EQ(cut.log.calls[0].incomplete, kResponseNotSeen | kCut);
}

TEST(BatchCommands, AnAnswerWithoutItsRequestIsTold) {
  BatchHarness h;
  h.Open();
  h.Answer({AnswerOf(9)});
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kRequestNotSeen);
  EXPECT_EQ(h.log.calls[0].command, "Get");
  EXPECT_FALSE(h.log.calls[0].req_first.known());
  EXPECT_EQ(h.counters.Get(Counter::kResponsesWithoutRequest), 1u);
}

TEST(BatchCommands, StreamsOfOneConnectionDoNotMix) {
  BatchHarness h;
  h.Open(1);
  h.Open(3);
  h.Ask({Ask(1)}, 1);
  h.Answer({AnswerOf(1)}, 3);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].stream, 3u);
  EXPECT_EQ(h.log.calls[0].incomplete, kRequestNotSeen);
}

TEST(BatchCommands, ADuplicateIdEndsTheOlderOne) {
  BatchHarness h;
  h.Open();
  h.Ask({Ask(5)});
  h.Ask({{5, kGetNumber, GetRequest(99, "newer")}});
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].first_key, "key5");
  EXPECT_EQ(h.log.calls[0].incomplete, kResponseNotSeen);
  h.Answer({AnswerOf(5)});
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[1].first_key, "newer");
  EXPECT_EQ(h.log.calls[1].incomplete, 0u);
}

TEST(BatchCommands, AnAnswerOfAnotherKindIsNotTheAnswer) {
  BatchHarness h;
  h.Open();
  h.Ask({Ask(5)});
  h.Answer({{5, kPrewriteNumber, ""}});
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].command, "Prewrite");
  EXPECT_EQ(h.log.calls[0].incomplete, kRequestNotSeen | kMalformed);
  h.Answer({AnswerOf(5)});
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[1].incomplete, 0u);
}

TEST(BatchCommands, WhenCountsDifferNothingIsPaired) {
  GrpcOptions options;
  options.wants_messages = true;
  BatchHarness h(options);
  h.Open();
  h.Data(true, 1,
         Framed(Proto()
                    .Message(1, Proto().Text(kGetNumber, GetRequest(1, "a")))
                    .Message(1, Proto().Text(kGetNumber, GetRequest(2, "b")))
                    .Text(2, "\x05")
                    .bytes()));
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].kind, CallKind::kMessage);
  EXPECT_EQ(h.log.calls[0].incomplete, kMalformed);
  ASSERT_EQ(h.log.events.size(), 1u);
  EXPECT_TRUE(h.log.events[0].starts_with("-> /tikvpb.Tikv/BatchCommands ")) << h.log.events[0];
  EXPECT_TRUE(h.decoder.sub_counts_from_start().empty());
  h.Answer({AnswerOf(5)});
  EXPECT_EQ(h.log.calls[1].incomplete, kRequestNotSeen);
  EXPECT_EQ(h.counters.Get(Counter::kMessagesMalformed), 1u);
}

TEST(BatchCommands, CommandsThatNobodyKnowsAreStillPaired) {
  BatchHarness h;
  h.Open();
  h.Ask({{1, 1100, "of a fork"}});
  h.Answer({{1, 1100, "its answer"}});
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].command, "");
  EXPECT_EQ(h.log.calls[0].id, 1u);
  EXPECT_FALSE(h.log.calls[0].has_request);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
  EXPECT_EQ(h.decoder.sub_counts_from_start().at(1100).request_messages, 1u);
}

TEST(BatchCommands, EventsNameCommandAndLatency) {
  GrpcOptions options;
  options.wants_messages = true;
  options.keep_messages = true;
  BatchHarness h(options);
  h.Open();
  h.now = 1000;
  h.Ask({Ask(1), Ask(2)});
  h.now = 1250;
  h.Answer({AnswerOf(2)});
  EXPECT_EQ(h.log.events, (std::vector<std::string>{"-> /tikvpb.Tikv/BatchCommands Get#1 25B",
                                                    "-> /tikvpb.Tikv/BatchCommands Get#2 25B",
                                                    "<- /tikvpb.Tikv/BatchCommands Get#2 4B after 250"}));
  EXPECT_EQ(h.log.calls[0].request_message, GetRequest(20, "key2"));
  EXPECT_EQ(h.log.calls[0].response_message, GetResponse("vv"));
}

// Thousands of commands, regrouped and reordered at random, against a map.
TEST(BatchCommands, RandomTrafficAgainstAMap) {
  std::mt19937 random(11);
  BatchHarness h;
  h.Open();
  std::vector<uint64_t> waiting;
  uint64_t next = 1;
  uint64_t answered = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<Command> commands;
    if (random() % 2 == 0) {
      for (int n = 1 + random() % 8; n > 0; --n, ++next) {
        commands.push_back({next, kGetNumber, GetRequest(next, "key" + std::to_string(next))});
        waiting.push_back(next);
      }
      h.Ask(commands);
    } else {
      for (int n = 1 + random() % 8; n > 0 && !waiting.empty(); --n) {
        const size_t at = random() % waiting.size();
        commands.push_back({waiting[at], kGetNumber, GetResponse(std::string(waiting[at] % 251, 'v'))});
        waiting.erase(waiting.begin() + at);
        ++answered;
      }
      h.Answer(commands);
    }
  }
  h.End();
  const std::vector<SeenCall> subs = h.log.Of(CallKind::kSub);
  ASSERT_EQ(subs.size(), next - 1);
  uint64_t whole = 0;
  for (const SeenCall& sub : subs) {
    EXPECT_EQ(sub.region_id, *sub.id);
    EXPECT_EQ(sub.first_key, "key" + std::to_string(*sub.id));
    if (sub.incomplete == 0) {
      ++whole;
      EXPECT_EQ(sub.value_bytes, *sub.id % 251);
    } else {
      EXPECT_EQ(sub.incomplete, kResponseNotSeen | kCut);
    }
  }
  EXPECT_EQ(whole, answered);
}

}  // namespace
}  // namespace keytrail::testing
