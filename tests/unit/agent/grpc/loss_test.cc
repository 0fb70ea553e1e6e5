// Losses at every position of a connection with all kinds of calls. The oracle is the same traffic without a
// loss: whatever the damaged run pairs or names must be a pair or a name there.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <set>

#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kGet = "/tikvpb.Tikv/KvGet";
constexpr std::string_view kBatch = "/tikvpb.Tikv/BatchCommands";
constexpr std::string_view kHeartbeat = "/pdpb.PD/RegionHeartbeat";

struct Event {
  bool from_client = false;
  uint32_t data_stream = 0;  // not 0: this is a DATA frame
  std::string data;
  bool end_stream = false;
  std::function<void(CallHarness&)> other;  // not DATA
};

// Every request and every answer is different, so that a pair tells whether it is true.
std::string Asked(uint64_t n) {
  return GetRequest(n, "key" + std::to_string(n));
}
std::string Answered(uint64_t n) {
  return GetResponse(std::string(n, 'v'));
}

class Script {
 public:
  Script() {
    std::mt19937 random(5);
    Headers(true, [](CallHarness& h) { h.Request(1, kBatch); });
    Headers(false, [](CallHarness& h) { h.Response(1); });
    Headers(true, [](CallHarness& h) { h.Request(3, kHeartbeat); });
    Headers(false, [](CallHarness& h) { h.Response(3); });
    uint32_t stream = 5;
    uint64_t n = 1;
    std::vector<uint64_t> waiting;
    for (int round = 0; round < 12; ++round) {
      std::vector<Command> asked;
      for (int i = 0; i < 2; ++i, ++n) {
        asked.push_back({n, 1, Asked(n)});
        waiting.push_back(n);
      }
      Frames(true, 1, Framed(Batch(asked)), random() % 3 == 0);
      Unary(stream, n++, random);
      stream += 2;
      Frames(true, 3, Framed(Proto().Message(2, Proto().Varint(1, n).Text(2, "a")).bytes()), false);
      Frames(false, 3, Framed(Proto().Varint(4, n).bytes()), false);
      std::vector<Command> answers;
      while (!waiting.empty() && (random() % 4 != 0 || round == 11)) {
        const size_t at = random() % waiting.size();
        answers.push_back({waiting[at], 1, Answered(waiting[at])});
        waiting.erase(waiting.begin() + at);
      }
      if (!answers.empty()) Frames(false, 1, Framed(Batch(answers)), random() % 3 == 0);
    }
  }

  const std::vector<Event>& events() const { return events_; }

  static void Play(const Event& event, CallHarness& h) {
    h.now += 1;
    if (event.data_stream != 0) {
      h.Data(event.from_client, event.data_stream, event.data, event.end_stream);
    } else {
      event.other(h);
    }
  }

 private:
  void Headers(bool from_client, std::function<void(CallHarness&)> play) {
    events_.push_back(Event{from_client, 0, {}, false, std::move(play)});
  }
  void Frames(bool from_client, uint32_t stream, const std::string& bytes, bool cut, bool end = false) {
    if (!cut) {
      events_.push_back(Event{from_client, stream, bytes, end, {}});
      return;
    }
    const size_t half = bytes.size() / 2;
    events_.push_back(Event{from_client, stream, bytes.substr(0, half), false, {}});
    events_.push_back(Event{from_client, stream, bytes.substr(half), end, {}});
  }
  void Unary(uint32_t stream, uint64_t n, std::mt19937& random) {
    Headers(true, [stream](CallHarness& h) { h.Request(stream, kGet); });
    Frames(true, stream, Framed(Asked(n)), random() % 2 == 0, true);
    Headers(false, [stream](CallHarness& h) { h.Response(stream); });
    Frames(false, stream, Framed(Answered(n)), random() % 2 == 0);
    Headers(false, [stream](CallHarness& h) { h.Trailers(stream); });
  }

  std::vector<Event> events_;
};

struct Truth {
  std::map<uint32_t, std::string> names;  // by stream
  std::set<std::string> pairs;            // key and value of whole calls
  size_t whole = 0;
};

std::string PairOf(const SeenCall& call) {
  return call.method + " " + call.command + " " + call.first_key + " " + std::to_string(call.value_bytes) +
         " " + std::to_string(call.resp_bytes);
}

bool IsPair(const SeenCall& call) {
  return (call.kind == CallKind::kUnary || call.kind == CallKind::kSub) && call.has_request &&
         call.has_response;
}

Truth Undamaged(const Script& script) {
  CallHarness h;
  for (const Event& e : script.events()) Script::Play(e, h);
  h.End();
  Truth truth;
  for (const SeenCall& call : h.log.calls) {
    truth.names[call.stream] = call.method;
    if (!IsPair(call)) continue;
    EXPECT_EQ(call.incomplete, 0u) << call.Line();
    truth.pairs.insert(PairOf(call));
    ++truth.whole;
  }
  EXPECT_EQ(truth.whole, 36u);
  EXPECT_EQ(truth.pairs.size(), 36u);
  return truth;
}

// No false name, no false pair, no bytes that were not there. Gives the number of whole calls.
size_t Judge(const CallHarness& h, const Truth& truth, const std::string& label) {
  size_t whole = 0;
  for (const SeenCall& call : h.log.calls) {
    if (!call.method.empty()) {
      EXPECT_EQ(call.method, truth.names.at(call.stream)) << label << ": " << call.Line();
    }
    if (!IsPair(call)) continue;
    if (call.method.empty()) continue;
    EXPECT_TRUE(truth.pairs.contains(PairOf(call))) << label << ": " << call.Line();
    ++whole;
  }
  return whole;
}

// Frames [from, to) of one direction are lost.
TEST(Loss, OfWholeFramesAtEveryPosition) {
  const Script script;
  const Truth truth = Undamaged(script);
  const std::vector<Event>& events = script.events();
  for (const size_t length : {1u, 2u, 5u}) {
    for (size_t from = 0; from < events.size(); ++from) {
      CallHarness h;
      size_t lost = 0;
      const bool client = events[from].from_client;
      for (size_t i = 0; i < events.size(); ++i) {
        if (i >= from && lost < length && events[i].from_client == client) {
          ++lost;
          continue;
        }
        // The gap is told before the next bytes of its direction.
        if (lost != 0 && lost < 1000 && events[i].from_client == client) {
          h.Loss(client);
          lost = 1000;
        }
        Script::Play(events[i], h);
      }
      if (lost < 1000) h.Loss(client);
      h.End();
      const std::string label = "lost " + std::to_string(length) + " at " + std::to_string(from);
      const size_t whole = Judge(h, truth, label);
      // One lost frame costs a message of at most eight commands (but for HEADERS of the long streams).
      if (length == 1 && from >= 4) {
        EXPECT_GE(whole + 8, truth.whole) << label;
      }
      const bool gap_told = [&] {
        for (const SeenCall& call : h.log.calls) {
          if (call.incomplete & kGap) return true;
        }
        return false;
      }();
      // Lost HEADERS of a stream's first block overlap no call that is known: told by what is not seen.
      if (events[from].data_stream != 0) {
        EXPECT_TRUE(gap_told) << label;
      }
    }
  }
}

// Bytes within the payload of one DATA frame are lost: at every offset, of every length up to its end.
TEST(Loss, WithinOneFrameAtEveryOffset) {
  const Script script;
  const Truth truth = Undamaged(script);
  const std::vector<Event>& events = script.events();
  for (size_t at = 0; at < events.size(); at += 3) {
    const Event& hit = events[at];
    if (hit.data_stream == 0) continue;
    for (size_t offset = 0; offset < hit.data.size(); ++offset) {
      for (const size_t length : {size_t{1}, size_t{7}, hit.data.size() - offset}) {
        if (offset + length > hit.data.size()) continue;
        CallHarness h;
        for (size_t i = 0; i < events.size(); ++i) {
          if (i != at) {
            Script::Play(events[i], h);
            continue;
          }
          h.now += 1;
          const std::string_view data = hit.data;
          if (offset != 0) h.Piece(hit.from_client, hit.data_stream, data.substr(0, offset), false);
          h.Loss(hit.from_client, length, hit.data_stream);
          h.Piece(hit.from_client, hit.data_stream, data.substr(offset + length), true, hit.end_stream);
        }
        h.End();
        const std::string label = "event " + std::to_string(at) + ", " + std::to_string(length) +
                                  " lost at " + std::to_string(offset);
        EXPECT_GE(Judge(h, truth, label) + 8, truth.whole) << label;
      }
    }
  }
}

TEST(Loss, ManyAtRandom) {
  const Script script;
  const Truth truth = Undamaged(script);
  std::mt19937 random(21);
  size_t whole = 0;
  for (int round = 0; round < 500; ++round) {
    CallHarness h;
    bool lost[2] = {};
    for (const Event& e : script.events()) {
      if (random() % 20 == 0) {
        lost[e.from_client] = true;
        continue;
      }
      if (lost[e.from_client]) h.Loss(e.from_client);
      lost[e.from_client] = false;
      Script::Play(e, h);
    }
    h.End();
    whole += Judge(h, truth, "round " + std::to_string(round));
  }
  EXPECT_GT(whole, 500 * truth.whole / 2);
}

// Joined at every event: nothing before it is seen.
TEST(Loss, JoinedLateAtEveryPosition) {
  const Script script;
  const Truth truth = Undamaged(script);
  const std::vector<Event>& events = script.events();
  for (size_t from = 0; from < events.size(); ++from) {
    CallHarness h({}, Protocol::kHttp2Late);
    for (size_t i = from; i < events.size(); ++i) Script::Play(events[i], h);
    h.End();
    Judge(h, truth, "joined at " + std::to_string(from));
    for (const SeenCall& call : h.log.calls) {
      EXPECT_FALSE(call.from_start);
      EXPECT_EQ(call.from, call.method.empty() ? MethodFrom::kUnknown : MethodFrom::kHeader);
    }
  }
}

TEST(Loss, ALossInOneDirectionLeavesRequestsThatEndedAlone) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(Asked(1)), true);
  h.Loss(true);
  h.Response(1);
  h.Data(false, 1, Framed(Answered(1)));
  h.Trailers(1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
}

TEST(Loss, BeforeTheAnswersHeadersItIsNotOfThisCall) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(Asked(1)), true);
  h.Loss(false);
  h.Response(1);
  h.Data(false, 1, Framed(Answered(1)));
  h.Trailers(1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
}

TEST(Loss, LostHeadersGiveACallWithoutAName) {
  CallHarness h;
  h.UnaryCall(1, kGet, Asked(1), Answered(1));
  h.Loss(true);
  h.Data(true, 3, Framed(Asked(2)), true);
  h.Response(3);
  h.Data(false, 3, Framed(Answered(2)));
  h.Trailers(3);
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[1].method, "");
  EXPECT_EQ(h.log.calls[1].incomplete, kHeadersNotSeen);
  EXPECT_EQ(h.log.calls[1].req_messages, 1u);
  EXPECT_EQ(h.log.calls[1].grpc_status, 0u);
}

TEST(Loss, PendingRequestsSayThatTheirAnswersMayBeLost) {
  CallHarness h;
  h.Request(1, kBatch);
  h.Response(1);
  h.Data(true, 1, Framed(Batch({{1, 1, Asked(1)}, {2, 1, Asked(2)}})));
  h.Loss(false);
  h.Data(true, 1, Framed(Batch({{3, 1, Asked(3)}})));
  h.Data(false, 1, Framed(Batch({{2, 1, Answered(2)}})));
  h.End();
  std::map<uint64_t, uint32_t> incomplete;
  for (const SeenCall& sub : h.log.Of(CallKind::kSub)) incomplete[*sub.id] = sub.incomplete;
  EXPECT_EQ(incomplete[1], kResponseNotSeen | kCut | kGap);
  EXPECT_EQ(incomplete[2], 0u);
  EXPECT_EQ(incomplete[3], kResponseNotSeen | kCut);
}

// The content of messages is arbitrary: after a loss, bytes inside a large value that look like a message are
// not one unless they fit the method's type and end with a frame.
TEST(Loss, BytesInsideAValueAreNotTakenForAMessage) {
  const std::string inner = Framed(Batch({{7, 1, Answered(7)}}));
  CallHarness h;
  h.Request(1, kBatch);
  h.Response(1);
  h.Data(true, 1, Framed(Batch({{7, 1, Asked(7)}})));
  h.Loss(false);
  // A value that holds a whole framed answer, cut into frames so that it begins one but does not end one.
  h.Data(false, 1, inner + std::string(300, 'x'));
  h.Data(false, 1, std::string("\0\0\0\0\4", 5) + "\xFF\xFF\xFF\xFF");
  h.Data(false, 1, std::string(50, '\0'));
  h.End();
  for (const SeenCall& call : h.log.Of(CallKind::kSub)) EXPECT_FALSE(call.has_response);
}

}  // namespace
}  // namespace keytrail::testing
