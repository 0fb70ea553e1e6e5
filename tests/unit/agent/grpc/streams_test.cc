// Streams of all kinds, methods without a schema, streams of which HEADERS were not seen.
#include <gtest/gtest.h>

#include "tests/support/segmenter.h"
#include "tests/unit/agent/grpc/call_harness.h"
#include "tests/unit/agent/grpc/zlib_writer.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kHeartbeat = "/pdpb.PD/RegionHeartbeat";
constexpr std::string_view kTso = "/pdpb.PD/Tso";

std::string Heartbeat(uint64_t region) {
  return Proto()
      .Message(2, Proto().Varint(1, region).Text(2, "a").Text(3, "b").Message(4, Proto().Varint(1, 1)))
      .bytes();
}

TEST(Streams, EachMessageIsARecordAndSoIsTheStream) {
  CallHarness h;
  h.now = 10;
  h.Request(1, kHeartbeat);
  h.now = 20;
  h.Data(true, 1, Framed(Heartbeat(4)) + Framed(Heartbeat(5)));
  h.now = 30;
  h.Response(1);
  h.now = 40;
  h.Data(false, 1, Framed(Proto().Varint(4, 4).bytes()));
  h.now = 50;
  h.Trailers(1, 1, "cancelled");
  EXPECT_EQ(h.log.Text(),
            "message /pdpb.PD/RegionHeartbeat from=header stream=1 client=10.0.0.1:40000 req=1/14 resp=0/0 "
            "t=20,20,?,? region=0 key=\n"
            "message /pdpb.PD/RegionHeartbeat from=header stream=1 client=10.0.0.1:40000 req=1/14 resp=0/0 "
            "t=20,20,?,? region=0 key=\n"
            "message /pdpb.PD/RegionHeartbeat from=header stream=1 client=10.0.0.1:40000 req=0/0 resp=1/2 "
            "t=?,?,40,40 value=0\n"
            "stream /pdpb.PD/RegionHeartbeat from=header stream=1 client=10.0.0.1:40000 req=2/28 resp=1/2 "
            "t=10,20,30,50 grpc=1 http=200 \"cancelled\"\n");
}

TEST(Streams, CutsChangeNothingButTimes) {
  std::string bytes;
  for (uint64_t i = 0; i < 6; ++i) bytes += Framed(Heartbeat(i * 1000));
  std::string expected;
  for (const bool frames : {true, false}) {
    ForEachSegmentation(AsBytes(bytes), [&](const Pieces& pieces, const std::string& label) {
      CallHarness h;
      h.Request(1, kHeartbeat);
      for (size_t i = 0; i < pieces.size(); ++i) {
        h.Piece(true, 1, AsText(pieces[i]), frames || i + 1 == pieces.size());
      }
      h.End();
      if (expected.empty()) expected = h.log.Text();
      EXPECT_EQ(h.log.Text(), expected) << label;
      EXPECT_EQ(h.log.calls.size(), 7u);
    });
  }
}

TEST(Streams, TsoIsCountedAndWrittenOnlyOnRequest) {
  for (const bool all : {false, true}) {
    GrpcOptions options;
    options.all = all;
    options.wants_messages = true;
    CallHarness h(options);
    h.Request(1, kTso);
    h.Response(1);
    for (int i = 0; i < 10; ++i) {
      h.Data(true, 1, Framed(Proto().Varint(2, 1).bytes()));
      h.Data(false, 1, Framed(Proto().Varint(2, 1).bytes()));
    }
    h.End();
    EXPECT_EQ(h.log.calls.size(), all ? 21u : 1u);
    EXPECT_EQ(h.log.events.size(), all ? 20u : 0u);
    const SeenCall& stream = h.log.calls.back();
    EXPECT_EQ(stream.kind, CallKind::kStream);
    EXPECT_EQ(stream.req_messages, 10u);
    EXPECT_EQ(stream.resp_messages, 10u);
    EXPECT_EQ(stream.incomplete, kCut);
    EXPECT_EQ(h.decoder.counts_from_start().at(std::string(kTso)).response_messages, 10u);
  }
}

TEST(Streams, OneWithoutMessagesIsStillARecord) {
  CallHarness h;
  h.Request(1, "/resource_manager.ResourceManager/AcquireTokenBuckets");
  h.End();
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].kind, CallKind::kStream);
  EXPECT_TRUE(h.log.calls[0].req_first.known());
  const auto& counts =
      h.decoder.counts_from_start().at("/resource_manager.ResourceManager/AcquireTokenBuckets");
  EXPECT_EQ(counts.streams, 1u);
  EXPECT_EQ(counts.request_messages + counts.response_messages, 0u);
}

TEST(Streams, AMethodWithoutASchemaIsUnaryUntilASecondMessage) {
  CallHarness h;
  h.UnaryCall(1, "/foreign.Service/One", "ask", "answer");
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].kind, CallKind::kUnary);
  EXPECT_EQ(h.log.calls[0].method, "/foreign.Service/One");
  EXPECT_EQ(h.log.calls[0].from, MethodFrom::kHeader);
  EXPECT_EQ(h.log.calls[0].req_bytes, 3u);
  h.Request(3, "/foreign.Service/Many");
  h.Response(3);
  h.Data(true, 3, Framed("a"));
  h.now += 1;
  h.Data(false, 3, Framed("bb"));
  EXPECT_EQ(h.log.calls.size(), 1u);
  h.now += 1;
  h.Data(false, 3, Framed("ccc"));
  h.Trailers(3);
  ASSERT_EQ(h.log.calls.size(), 5u);
  std::string sizes;
  for (size_t i = 1; i < 5; ++i) {
    sizes += std::string(CallKindName(h.log.calls[i].kind)) + std::to_string(h.log.calls[i].req_bytes) + "/" +
             std::to_string(h.log.calls[i].resp_bytes) + " ";
  }
  EXPECT_EQ(sizes, "message1/0 message0/2 message0/3 stream1/5 ");
}

// A connection joined late: no HEADERS, no name, but honest messages.
TEST(Streams, WithoutHeadersMessagesHaveNoName) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.Data(true, 7, "the rest of a message that began before we came");
  h.Data(true, 7, Framed(Heartbeat(4)));
  h.Data(false, 7, Framed(Proto().Varint(4, 4).bytes()));
  h.Data(true, 7, Framed(Heartbeat(5)));
  h.End();
  ASSERT_EQ(h.log.calls.size(), 4u);
  for (const SeenCall& call : h.log.calls) {
    EXPECT_EQ(call.method, "");
    EXPECT_EQ(call.from, MethodFrom::kUnknown);
    EXPECT_EQ(call.incomplete & kHeadersNotSeen, kHeadersNotSeen);
    EXPECT_FALSE(call.from_start);
  }
  EXPECT_EQ(h.log.calls[3].kind, CallKind::kStream);
  EXPECT_EQ(h.log.calls[3].req_messages, 2u);
  EXPECT_EQ(h.counters.Get(Counter::kCallsUnknown), 4u);
  EXPECT_TRUE(h.decoder.counts_from_start().empty());
  EXPECT_TRUE(h.decoder.counts_late().empty());
}

TEST(Streams, LateStreamsThatAreNotGrpcGiveNothing) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.Data(true, 7, "{\"json\": true}");
  h.Data(false, 7, std::string(500, '\0'));
  h.Data(false, 7, "\1\2\3\4\5\6\7", true);
  h.Data(false, 9, "", true);
  h.Trailers(11);  // an end with a status, of a call that we know nothing else about
  h.Reset(true, 13);
  h.End();
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].stream, 11u);
  EXPECT_EQ(h.log.calls[0].grpc_status, 0u);
  EXPECT_EQ(h.log.calls[0].incomplete, kHeadersNotSeen | kRequestNotSeen | kResponseNotSeen);
}

TEST(Streams, AHiddenPathIsUnknownButCallsAreWhole) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.HiddenRequest(21);
  h.Data(true, 21, Framed(GetRequest(16, "k")), true);
  h.Response(21);
  h.Data(false, 21, Framed(GetResponse("v")));
  h.Trailers(21);
  // It waits for a name: one call of a method that has look-alikes is not enough for one.
  EXPECT_EQ(h.log.calls.size(), 0u);
  h.End();
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].method, "");
  EXPECT_EQ(h.log.calls[0].kind, CallKind::kUnary);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);  // the HEADERS were seen, only their value was not
  EXPECT_EQ(h.log.calls[0].req_messages, 1u);
  EXPECT_EQ(h.log.calls[0].resp_messages, 1u);
}

TEST(Streams, AHiddenPathOfSomethingElseIsNoCall) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.HiddenRequest(23);
  h.Data(true, 23, "{\"json\": true}", true);
  h.Data(false, 23, "{}", true);
  h.End();
  EXPECT_EQ(h.log.calls.size(), 0u);
  EXPECT_EQ(h.counters.Get(Counter::kStreamsNotGrpc), 1u);
}

TEST(Streams, ALateConnectionsNewStreamsAreNamed) {
  CallHarness h({}, Protocol::kHttp2Late);
  h.UnaryCall(21, "/tikvpb.Tikv/KvGet", GetRequest(16, "k"), GetResponse("v"));
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].method, "/tikvpb.Tikv/KvGet");
  EXPECT_EQ(h.log.calls[0].from, MethodFrom::kHeader);
  EXPECT_FALSE(h.log.calls[0].from_start);
  EXPECT_EQ(h.decoder.counts_late().at("/tikvpb.Tikv/KvGet").streams, 1u);
  // Late frames of the stream that is over open nothing.
  h.Data(true, 21, Framed(GetRequest(17, "l")));
  h.Trailers(21);
  h.End();
  EXPECT_EQ(h.log.calls.size(), 1u);
}

TEST(Streams, TheClientMayBecomeKnownLater) {
  CallHarness h({}, Protocol::kHttp2Late, -1);
  h.decoder.OnData(h.connection, 1, 7, TimeNs{1}, TimeNs{1}, AsBytes(Framed(Heartbeat(4))), true, false);
  h.decoder.OnClientKnown(h.connection, 1);
  h.End();
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_TRUE(h.log.calls[0].client_known);
  EXPECT_EQ(h.log.calls[0].client, "10.0.0.2:20160");
  EXPECT_EQ(h.log.calls[0].req_messages, 1u);

  CallHarness never({}, Protocol::kHttp2Late, -1);
  never.decoder.OnData(never.connection, 1, 7, TimeNs{1}, TimeNs{1}, AsBytes(Framed(Heartbeat(4))), true,
                       false);
  never.End();
  ASSERT_EQ(never.log.calls.size(), 1u);
  EXPECT_FALSE(never.log.calls[0].client_known);
  EXPECT_EQ(never.log.calls[0].client, "10.0.0.1:40000");
}

TEST(Streams, CompressionOfALateStreamIsTriedByItsFirstBytes) {
  for (const bool gzip : {true, false}) {
    CallHarness h({}, Protocol::kHttp2Late);
    h.Data(true, 7, Framed(Deflate(Heartbeat(4), gzip), true));
    h.End();
    ASSERT_EQ(h.log.calls.size(), 1u) << gzip;
    EXPECT_EQ(h.log.calls[0].incomplete & kUnknownEncoding, 0u);
  }
  CallHarness h({}, Protocol::kHttp2Late);
  h.HiddenRequest(7);
  h.Response(7);  // proves that it is gRPC
  h.Data(true, 7, Framed("neither gzip nor deflate, perhaps zstd", true));
  h.Data(true, 7, Framed(Heartbeat(4)));
  h.End();
  for (const SeenCall& call : h.log.calls) EXPECT_EQ(call.method, "");
}

TEST(Streams, EventsOfNamelessMessages) {
  GrpcOptions options;
  options.wants_messages = true;
  CallHarness h(options, Protocol::kHttp2Late);
  for (int i = 0; i < 3; ++i) h.Data(true, 7, Framed(Heartbeat(i)));
  h.End();
  EXPECT_EQ(h.log.events, (std::vector<std::string>(3, "-> ? 14B")));
}

}  // namespace
}  // namespace keytrail::testing
