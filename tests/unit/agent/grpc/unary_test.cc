#include <gtest/gtest.h>

#include "tests/support/segmenter.h"
#include "tests/unit/agent/grpc/call_harness.h"
#include "tests/unit/agent/grpc/zlib_writer.h"

namespace keytrail::testing {
namespace {

constexpr std::string_view kGet = "/tikvpb.Tikv/KvGet";

TEST(Unary, OneCallOneRecordWithAllItsTimes) {
  CallHarness h;
  h.now = 100;
  h.Request(1, kGet);
  h.now = 110;
  h.Data(true, 1, Framed(GetRequest(16, "t53_r8012")), true);
  h.now = 200;
  h.Response(1);
  h.now = 210;
  h.Data(false, 1, Framed(GetResponse("value")));
  EXPECT_TRUE(h.log.calls.empty());  // the status is still to come
  h.now = 220;
  h.Trailers(1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  const SeenCall& call = h.log.calls[0];
  EXPECT_EQ(call.kind, CallKind::kUnary);
  EXPECT_EQ(call.from, MethodFrom::kHeader);
  EXPECT_EQ(call.method, kGet);
  EXPECT_EQ(call.req_first.ns, 100);
  EXPECT_EQ(call.req_last.ns, 110);
  EXPECT_EQ(call.resp_first.ns, 200);
  EXPECT_EQ(call.resp_last.ns, 220);
  EXPECT_EQ(call.req_bytes, GetRequest(16, "t53_r8012").size());
  EXPECT_EQ(call.resp_bytes, GetResponse("value").size());
  EXPECT_EQ(call.req_messages, 1u);
  EXPECT_EQ(call.grpc_status, 0u);
  EXPECT_EQ(call.http_status, 200u);
  EXPECT_EQ(call.region_id, 16u);
  EXPECT_EQ(call.first_key, "t53_r8012");
  EXPECT_EQ(call.value_bytes, 5u);
  EXPECT_EQ(call.client, "10.0.0.1:40000");
  EXPECT_EQ(call.incomplete, 0u);
  EXPECT_TRUE(call.from_start);
  EXPECT_TRUE(call.request_message.empty());
  h.End();
  EXPECT_EQ(h.log.calls.size(), 1u);
  const auto& counts = h.decoder.counts_from_start();
  ASSERT_EQ(counts.size(), 1u);
  EXPECT_EQ(counts.at(std::string(kGet)).streams, 1u);
  EXPECT_EQ(counts.at(std::string(kGet)).request_messages, 1u);
  EXPECT_EQ(counts.at(std::string(kGet)).response_messages, 1u);
  EXPECT_TRUE(h.decoder.counts_late().empty());
  EXPECT_EQ(h.counters.Get(Counter::kCallsHeader), 1u);
  EXPECT_EQ(h.counters.Get(Counter::kMessages), 2u);
}

TEST(Unary, TheClientMayBeTheUpperEndpoint) {
  CallHarness h({}, Protocol::kHttp2Start, 1);
  h.UnaryCall(1, kGet, GetRequest(16, "k"), GetResponse("v"));
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].client, "10.0.0.2:20160");
  EXPECT_EQ(h.log.calls[0].first_key, "k");
}

// The same call however DATA is cut: into frames, or into pieces of one frame.
TEST(Unary, CutsOfTheDataChangeNothing) {
  CallHarness whole;
  whole.UnaryCall(1, kGet, GetRequest(16, "t53_r8012"), GetResponse(std::string(400, 'v')));
  const std::string request = Framed(GetRequest(16, "t53_r8012"));
  const std::string response = Framed(GetResponse(std::string(400, 'v')));
  const std::string expected = whole.log.Text(false);
  for (const bool frames : {true, false}) {
    const auto run = [&](const Pieces& requests, const Pieces& responses, const std::string& label) {
      CallHarness h;
      h.Request(1, kGet);
      for (size_t i = 0; i < requests.size(); ++i) {
        const bool last = i + 1 == requests.size();
        h.Piece(true, 1, AsText(requests[i]), frames || last, last);
      }
      h.Response(1);
      for (size_t i = 0; i < responses.size(); ++i) {
        h.Piece(false, 1, AsText(responses[i]), frames || i + 1 == responses.size());
      }
      h.Trailers(1);
      EXPECT_EQ(h.log.Text(false), expected) << label;
    };
    ForEachSegmentation(AsBytes(request), [&](const Pieces& p, const std::string& label) {
      run(p, {AsBytes(response)}, "request, " + label);
    });
    ForEachSegmentation(AsBytes(response), [&](const Pieces& p, const std::string& label) {
      run({AsBytes(request)}, p, "response, " + label);
    });
  }
}

TEST(Unary, EndStreamInAnEmptyFrame) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(16, "k")));
  h.now += 5;
  h.Data(true, 1, "", true);
  h.Response(1);
  h.Data(false, 1, Framed(GetResponse("v")));
  h.Trailers(1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
  EXPECT_EQ(h.log.calls[0].req_last - h.log.calls[0].req_first, 5);
}

TEST(Unary, AnErrorIsAnAnswer) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(16, "k")), true);
  h.TrailersOnly(1, 14, "cluster ID mismatch%2C 7 != 8");
  h.Request(3, kGet);
  h.Data(true, 3, Framed(GetRequest(16, "k")), true);
  h.Response(3);
  h.Trailers(3, 4, "late");
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[0].grpc_status, 14u);
  EXPECT_EQ(h.log.calls[0].grpc_message, "cluster ID mismatch, 7 != 8");
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
  EXPECT_EQ(h.log.calls[0].resp_messages, 0u);
  EXPECT_FALSE(h.log.calls[0].has_response);
  EXPECT_EQ(h.log.calls[1].grpc_status, 4u);
  EXPECT_EQ(h.log.calls[1].incomplete, 0u);
}

TEST(Unary, AProxysAnswerIsNoGrpcMessage) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(16, "k")), true);
  h.Response(1, "text/html", {}, 502);
  h.Data(false, 1, std::string("\0\0\0\0\1x", 6), true);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].http_status, 502u);
  EXPECT_EQ(h.log.calls[0].resp_messages, 0u);
  EXPECT_FALSE(h.log.calls[0].grpc_status);
}

TEST(Unary, AResetEndsTheCall) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(16, "k")), true);
  h.Reset(true, 1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_TRUE(h.log.calls[0].reset);
  EXPECT_EQ(h.log.calls[0].incomplete, kResponseNotSeen);
  EXPECT_EQ(h.counters.Get(Counter::kRequestsWithoutResponse), 1u);
  // Frames that were under way.
  h.Response(1);
  h.Data(false, 1, Framed(GetResponse("v")));
  h.Trailers(1);
  h.Reset(false, 1);
  h.End();
  EXPECT_EQ(h.log.calls.size(), 1u);
}

TEST(Unary, TheEndOfInputAndOfAConnectionAreTold) {
  for (const CloseReason reason : {CloseReason::kInputEnd, CloseReason::kFin, CloseReason::kReset,
                                   CloseReason::kReplaced, CloseReason::kIdle, CloseReason::kCap}) {
    CallHarness h;
    h.Request(1, kGet);
    h.Data(true, 1, Framed(GetRequest(16, "k")), true);
    h.Request(3, kGet);
    h.End(reason);
    ASSERT_EQ(h.log.calls.size(), 2u);
    const bool by_us = reason == CloseReason::kInputEnd || reason == CloseReason::kCap;
    const uint32_t cap = reason == CloseReason::kCap ? uint32_t{kOverCap} : 0;
    EXPECT_EQ(h.log.calls[0].incomplete, kResponseNotSeen | kCut | cap);
    EXPECT_EQ(h.log.calls[0].reset, !by_us);
    EXPECT_EQ(h.log.calls[1].incomplete, kRequestNotSeen | kResponseNotSeen | kCut | cap);
    EXPECT_FALSE(h.log.calls[1].has_request);
  }
}

TEST(Unary, GoawayEndsWhatTheServerWillNotAnswer) {
  CallHarness h;
  for (const uint32_t stream : {1u, 3u, 5u}) {
    h.Request(stream, kGet);
    h.Data(true, stream, Framed(GetRequest(16, "k")), true);
  }
  h.Goaway(0x7FFFFFFF);
  EXPECT_TRUE(h.log.calls.empty());
  h.Goaway(3);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].stream, 5u);
  EXPECT_TRUE(h.log.calls[0].reset);
  h.Response(3);
  h.Data(false, 3, Framed(GetResponse("v")));
  h.Trailers(3);
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[1].incomplete, 0u);
}

TEST(Unary, CompressedMessagesAreRead) {
  for (const bool gzip : {true, false}) {
    CallHarness h;
    const std::string_view name = gzip ? "gzip" : "deflate";
    h.Request(1, kGet, false, "application/grpc", name);
    const std::string request = Deflate(GetRequest(16, "t53_r8012"), gzip);
    h.Data(true, 1, Framed(request, true), true);
    h.Response(1, "application/grpc", name);
    h.Data(false, 1, Framed(Deflate(GetResponse(std::string(5000, 'v')), gzip), true));
    h.Trailers(1);
    ASSERT_EQ(h.log.calls.size(), 1u);
    const SeenCall& call = h.log.calls[0];
    EXPECT_EQ(call.first_key, "t53_r8012");
    EXPECT_EQ(call.value_bytes, 5000u);
    EXPECT_EQ(call.req_bytes, request.size());  // as on the wire
    EXPECT_EQ(call.incomplete, 0u);
    EXPECT_EQ(h.counters.Get(Counter::kMessagesCompressed), 2u);
  }
}

TEST(Unary, AnEncodingThatWeCannotReadIsTold) {
  CallHarness h;
  h.Request(1, kGet, false, "application/grpc", "snappy");
  h.Data(true, 1, Framed("whatever snappy says", true), true);
  h.Response(1);
  h.Data(false, 1, Framed(GetResponse("v")));  // not compressed
  h.Trailers(1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kUnknownEncoding);
  EXPECT_FALSE(h.log.calls[0].has_request);
  EXPECT_EQ(h.log.calls[0].req_messages, 1u);
  EXPECT_TRUE(h.log.calls[0].has_response);
  EXPECT_EQ(h.counters.Get(Counter::kMessagesUndecodable), 1u);
}

TEST(Unary, ADamagedCompressedMessageIsMalformed) {
  CallHarness h;
  h.Request(1, kGet, false, "application/grpc", "gzip");
  h.Data(true, 1, Framed(Deflate(GetRequest(1, "k"), true).substr(0, 20), true), true);
  h.TrailersOnly(1, 13);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kMalformed);
}

TEST(Unary, AMessageThatIsNoneOfItsTypeIsMalformed) {
  CallHarness h;
  h.UnaryCall(1, kGet, "\x0A\x7F", GetResponse("v"));
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].incomplete, kMalformed);
  EXPECT_EQ(h.counters.Get(Counter::kMessagesMalformed), 1u);
}

TEST(Unary, ForwardingMetadataIsSeen) {
  CallHarness h;
  const std::vector<HeaderField> fields = {
      {":path", kGet}, {"pd-forwarded-host", "http://10.0.0.9:2379"}, {"pd-allow-follower-handle", ""}};
  HeaderBlock block;
  block.path = kGet;
  block.method = "POST";
  block.content_type = "application/grpc";
  block.fields = fields;
  block.identity = 5;
  for (const uint32_t stream : {1u, 3u}) {
    // The second time from memory, as the identity promises.
    if (stream == 3) block.fields = {};
    h.decoder.OnHeaders(h.connection, 0, stream, TimeNs{1}, TimeNs{1}, block, true);
    h.TrailersOnly(stream, 0);
  }
  ASSERT_EQ(h.log.calls.size(), 2u);
  for (const SeenCall& call : h.log.calls) {
    EXPECT_TRUE(call.forwarded);
    EXPECT_TRUE(call.follower_allowed);
    EXPECT_EQ(call.method, kGet);
    EXPECT_EQ(call.incomplete, 0u);  // there was no message, and that was seen
  }
}

TEST(Unary, IdentityRemembersNoOtherBlocksFields) {
  CallHarness h;
  for (uint32_t i = 0; i < 40; ++i) {
    const std::string path = "/svc.S/M" + std::to_string(i % 10);
    HeaderBlock block;
    block.path = path;
    block.method = "POST";
    block.content_type = "application/grpc";
    block.identity = 1 + i % 10;
    h.decoder.OnHeaders(h.connection, 0, 2 * i + 1, TimeNs{1}, TimeNs{1}, block, true);
    h.TrailersOnly(2 * i + 1, 0);
    ASSERT_EQ(h.log.calls.back().method, path);
  }
}

TEST(Unary, TaskErrorsFindTheirRoute) {
  const Proto request = Proto()
                            .Message(1, Context(16))
                            .Varint(2, 103)
                            .Message(11, Proto().Varint(1, 21).Varint(5, 101))
                            .Message(11, Proto().Varint(1, 22).Varint(5, 102));
  const Proto response = Proto().Message(
      13, Proto().Message(2, Proto().Text(1, "x").Message(3, Proto().Varint(1, 22))).Varint(5, 102));
  CallHarness h;
  h.UnaryCall(1, "/tikvpb.Tikv/Coprocessor", request.bytes(), response.bytes());
  ASSERT_EQ(h.log.calls.size(), 1u);
  ASSERT_EQ(h.log.calls[0].errors.size(), 1u);
  EXPECT_EQ(h.log.calls[0].errors[0].first, ErrorKind::kRegionNotFound);
  EXPECT_EQ(h.log.calls[0].errors[0].second, 2);  // context, task 101, task 102
}

TEST(Unary, EtcdCallsAreRecordsWithoutContents) {
  CallHarness h;
  h.UnaryCall(1, "/etcdserverpb.KV/Range", Proto().Text(1, "/tidb/ddl").bytes(),
              Proto().Varint(4, 1).bytes());
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(
      h.log.calls[0].Line(false),
      "unary /etcdserverpb.KV/Range from=header stream=1 client=10.0.0.1:40000 req=1/11 resp=1/2 grpc=0 "
      "http=200");
}

TEST(Unary, MessagesAreKeptOnlyWhenAsked) {
  GrpcOptions options;
  options.keep_messages = true;
  CallHarness h(options);
  h.UnaryCall(1, kGet, GetRequest(16, "k"), GetResponse("v"));
  h.UnaryCall(3, "/foreign.Service/Method", "abc", "defg");
  ASSERT_EQ(h.log.calls.size(), 2u);
  EXPECT_EQ(h.log.calls[0].request_message, GetRequest(16, "k"));
  EXPECT_EQ(h.log.calls[0].response_message, GetResponse("v"));
  EXPECT_EQ(h.log.calls[1].request_message, "abc");
  EXPECT_EQ(h.log.calls[1].response_message, "defg");
}

TEST(Unary, EventsComeAtOnce) {
  GrpcOptions options;
  options.wants_messages = true;
  CallHarness h(options);
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(16, "k")), true);
  const std::string asked = "-> /tikvpb.Tikv/KvGet " + std::to_string(GetRequest(16, "k").size()) + "B";
  ASSERT_EQ(h.log.events, std::vector<std::string>{asked});
  h.Response(1);
  h.now += 335;
  h.Data(false, 1, Framed(GetResponse("v")));
  ASSERT_EQ(h.log.events.size(), 2u);
  EXPECT_EQ(h.log.events[1], "<- /tikvpb.Tikv/KvGet 3B after 335");
  EXPECT_TRUE(h.log.calls.empty());
}

TEST(Unary, OtherHttp2IsNoGrpc) {
  CallHarness h;
  h.Request(1, "/api/v1/regions", false, "application/json");
  h.Data(true, 1, std::string("\0\0\0\0\1x", 6), true);
  h.Response(1, "application/json");
  h.Data(false, 1, "{}", true);
  h.Request(3, "/index.html", true, "");
  h.Response(3, "text/html");
  h.Data(false, 3, "<html>", true);
  h.Request(5, "/x", true, "application/grpc-web");
  h.End();
  EXPECT_TRUE(h.log.calls.empty());
  EXPECT_TRUE(h.decoder.counts_from_start().empty());
  EXPECT_EQ(h.counters.Get(Counter::kStreams), 3u);
  EXPECT_EQ(h.counters.Get(Counter::kStreamsNotGrpc), 3u);
  EXPECT_EQ(h.counters.Get(Counter::kMessages), 0u);
}

TEST(Unary, AForeignCodingHasANameButNoFacts) {
  CallHarness h;
  h.Request(1, kGet, false, "application/grpc+json");
  h.Data(true, 1, Framed("{\"key\":1}"), true);
  h.Response(1, "application/grpc+json");
  h.Data(false, 1, Framed("{}"));
  h.Trailers(1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].method, kGet);
  EXPECT_FALSE(h.log.calls[0].has_request);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
}

TEST(Unary, InterimAnswersSayNothing) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(16, "k")), true);
  h.Response(1, "", {}, 100);
  h.Response(1);
  h.Data(false, 1, Framed(GetResponse("v")));
  h.Trailers(1);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].http_status, 200u);
  EXPECT_EQ(h.log.calls[0].incomplete, 0u);
}

TEST(Unary, ATruncatedMessageIsMalformedAndASecondOneToo) {
  CallHarness h;
  h.Request(1, kGet);
  h.Data(true, 1, Framed(GetRequest(16, "k")).substr(0, 9), true);
  h.TrailersOnly(1, 13);
  h.Request(3, kGet);
  h.Data(true, 3, Framed(GetRequest(16, "k")) + Framed(GetRequest(17, "l")), true);
  h.TrailersOnly(3, 13);
  h.Request(5, kGet);
  h.Data(true, 5, "\7" + Framed(GetRequest(16, "k")), true);
  h.TrailersOnly(5, 13);
  ASSERT_EQ(h.log.calls.size(), 3u);
  EXPECT_EQ(h.log.calls[0].incomplete, kMalformed);
  EXPECT_EQ(h.log.calls[1].incomplete, kMalformed);
  EXPECT_EQ(h.log.calls[1].first_key, "k");
  EXPECT_EQ(h.log.calls[1].req_messages, 1u);  // only a stream has more
  EXPECT_EQ(h.log.calls[2].incomplete & kMalformed, kMalformed);
  EXPECT_FALSE(h.log.calls[2].has_request);
}

TEST(Unary, ConnectionsDoNotMix) {
  CallHarness h;
  h.Request(1, kGet);
  ConnectionRef other = h.connection;
  other.slot = 4;
  other.serial = 78;
  h.decoder.OnHttp2(other, Protocol::kHttp2Start, 1, TimeNs{1});
  const std::vector<uint8_t> wrong(20, 0);
  h.decoder.OnData(other, 1, 1, TimeNs{1}, TimeNs{1}, wrong, true, true);
  ConnectionRef stale = h.connection;
  stale.serial = 1;  // of an earlier connection in the same slot
  h.decoder.OnEnd(stale, TimeNs{1}, CloseReason::kFin);
  EXPECT_TRUE(h.log.calls.empty());
  h.Data(true, 1, Framed(GetRequest(16, "k")), true);
  h.TrailersOnly(1, 0);
  ASSERT_EQ(h.log.calls.size(), 1u);
  EXPECT_EQ(h.log.calls[0].first_key, "k");
}

}  // namespace
}  // namespace keytrail::testing
