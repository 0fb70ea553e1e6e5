// Every kind of frame through the decoder, from the preface on: exact events, the same for every way of
// cutting.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/http2/frame.h"
#include "common/limits.h"
#include "tests/support/http2_builder.h"
#include "tests/support/http2_log.h"
#include "tests/support/segmenter.h"

namespace keytrail::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

// The events of `client_bytes` after a preface, checked for every segmentation.
std::vector<std::string> ClientEvents(const std::string& client_bytes) {
  const std::string bytes = kPreface + SettingsFrame({}) + client_bytes;
  std::vector<std::string> expected;
  ForEachSegmentation(AsBytes(bytes), [&](const Pieces& pieces, const std::string& label) {
    Session session;
    for (const Bytes piece : pieces) session.Send(0, piece);
    session.Close();
    if (label == "whole") {
      expected = session.log.lines;
    } else {
      EXPECT_EQ(session.log.lines, expected) << label;
    }
  });
  EXPECT_GE(expected.size(), 2u);
  EXPECT_EQ(expected.front(), "http2 start client 0");
  EXPECT_EQ(expected.back(), "end");
  return {expected.begin() + 1, expected.end() - 1};
}

TEST(Frames, HeadersAndData) {
  const std::string block = HpackIndexed(3) + HpackLiteral(4, "/a.B/C");
  EXPECT_THAT(ClientEvents(HeadersFrame(1, block) + DataFrame(1, "hello") + DataFrame(1, "", true) +
                           HeadersFrame(3, block, true)),
              ElementsAre(">1 headers [:method: POST] [:path: /a.B/C]", ">1 data hello", ">1 data  END",
                          ">3 headers [:method: POST] [:path: /a.B/C] END"));
}

TEST(Frames, PaddingAndPriorityAreTakenOff) {
  const std::string block = HpackIndexed(3);
  const std::string priority = Be32(0x80000005) + "\x10";
  const std::string padded = std::string("\x03", 1) + block + std::string(3, '\0');
  const std::string both = std::string("\x02", 1) + priority + block + std::string(2, '\0');
  EXPECT_THAT(
      ClientEvents(RawFrame(1, kEndHeaders | kPadded, 1, padded) +
                   RawFrame(1, kEndHeaders | kPriorityFlag, 3, priority + block) +
                   RawFrame(1, kEndHeaders | kPadded | kPriorityFlag, 5, both) +
                   PaddedDataFrame(1, "data", 7) + PaddedDataFrame(1, "", 5) +
                   PaddedDataFrame(1, "x", 0, true) + DataFrame(3, "next")),
      ElementsAre(">1 headers [:method: POST]", ">3 headers [:method: POST]", ">5 headers [:method: POST]",
                  ">1 data data", ">1 data ", ">1 data x END", ">3 data next"));
}

TEST(Frames, ContinuationsMakeOneBlock) {
  HpackEncoder encoder;
  const std::string block = encoder.Encode(GrpcRequestHeaders("/tikvpb.Tikv/KvGet"));
  const auto whole = ClientEvents(HeadersFrame(1, block, true));
  for (const size_t piece : {1, 2, 5, 30}) {
    EXPECT_EQ(ClientEvents(SplitHeaders(1, block, piece, true)), whole) << piece;
  }
  // The first fragment may be empty and padded.
  EXPECT_EQ(ClientEvents(RawFrame(1, kPadded | kEndStream, 1, std::string("\x02\0\0", 3)) +
                         RawFrame(9, kEndHeaders, 1, block)),
            whole);
}

TEST(Frames, ControlFrames) {
  EXPECT_THAT(ClientEvents(SettingsFrame({{1, 4096}, {5, 16384}, {0xFE03, 1}}) + SettingsAck() +
                           PingFrame("12345678") + PingFrame("12345678", true) + WindowUpdateFrame(0, 1000) +
                           WindowUpdateFrame(1, 5) + RawFrame(2, 0, 1, Be32(0) + "\x01") + ResetFrame(7, 8) +
                           GoawayFrame(5, 2, "bye") + RawFrame(0x10, 0, 0, "whatever") +
                           RawFrame(0xFA, 0xFF, 12, "") + DataFrame(1, "still in step")),
              ElementsAre(">7 reset 8", ">0 goaway 5 2", ">1 data still in step"));
}

TEST(Frames, PushPromiseKeepsTheTable) {
  const std::string promise = Be32(2) + HpackInsert("a", "1");
  EXPECT_THAT(
      ClientEvents(RawFrame(5, 0, 1, promise) + RawFrame(9, kEndHeaders, 1, HpackInsert("b", "2")) +
                   RawFrame(5, kEndHeaders | kPadded, 1, "\x01" + Be32(4) + HpackInsert("c", "3") + "\n") +
                   HeadersFrame(1, HpackIndexed(62) + HpackIndexed(63) + HpackIndexed(64))),
      ElementsAre(">1 headers [c: 3] [b: 2] [a: 1]"));
}

TEST(Frames, UnknownFlagsAndTheReservedBitAreIgnored) {
  std::string data = RawFrame(0, 0xF6, 1, "x");
  data[5] = static_cast<char>(0x80);
  EXPECT_THAT(ClientEvents(data), ElementsAre(">1 data x"));
}

TEST(Frames, TimesAreThoseOfTheFirstAndTheLastByte) {
  Session session;
  session.log.log_times = true;
  session.Send(0, kPreface + SettingsFrame({}));  // 1
  const std::string headers = SplitHeaders(1, HpackIndexed(3) + HpackIndexed(6), 1);
  session.Send(0, headers.substr(0, 3));                                   // 2
  session.Send(0, headers.substr(3, 10));                                  // 3
  session.Send(0, headers.substr(13) + DataFrame(1, "abc").substr(0, 4));  // 4
  session.Send(0, DataFrame(1, "abc").substr(4));                          // 5
  EXPECT_THAT(session.Close(),
              ElementsAre("http2 start client 0", ">1 headers @2-4 [:method: POST] [:scheme: http]",
                          ">1 data @4-5 abc", "end"));
}

TEST(Frames, DataComesInPiecesWithoutCopies) {
  // The very bytes that were delivered.
  struct Sink final : Http2Sink {
    std::vector<const uint8_t*> at;
    void OnHttp2(const ConnectionRef&, Protocol, int, TimeNs) override {}
    void OnClientKnown(const ConnectionRef&, int) override {}
    void OnHeaders(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, const HeaderBlock&, bool) override {}
    void OnData(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, Bytes data, bool, bool) override {
      at.push_back(data.data());
    }
    void OnReset(const ConnectionRef&, int, uint32_t, TimeNs, uint32_t) override {}
    void OnGoaway(const ConnectionRef&, int, TimeNs, uint32_t, uint32_t) override {}
    void OnLoss(const ConnectionRef&, int, TimeNs, uint64_t, uint32_t) override {}
    void OnEnd(const ConnectionRef&, TimeNs, CloseReason) override {}
  } sink;
  Counters counters;
  Http2Decoder decoder(sink, counters);
  FlowKey key;
  ConnectionRef ref;
  ref.key = &key;
  ref.opened_by = 0;
  decoder.OnOpen(ref, TimeNs{0});
  const std::string opening = kPreface + SettingsFrame({});
  const std::string data = DataFrame(1, std::string(1000, 'x'));
  decoder.OnBytes(ref, 0, TimeNs{0}, 0, AsBytes(opening));
  const Bytes bytes = AsBytes(data);
  decoder.OnBytes(ref, 0, TimeNs{0}, opening.size(), bytes.first(500));
  decoder.OnBytes(ref, 0, TimeNs{0}, opening.size() + 500, bytes.subspan(500));
  EXPECT_THAT(sink.at, ElementsAre(bytes.data() + 9, bytes.data() + 500));
  decoder.OnClose(ref, TimeNs{0}, CloseReason::kFin);
}

// Errors
// -----------------------------------------------------------------------------------------------------

struct BadFrame {
  const char* what;
  std::string bytes;
};

class FrameErrors : public ::testing::TestWithParam<BadFrame> {};

// After an error the frames are found again, with an unknown table, and the error is counted once.
TEST_P(FrameErrors, AreCountedOnceAndOvercome) {
  std::string after;
  for (uint32_t stream = 21; stream < 31; stream += 2) {
    after += HeadersFrame(stream, HpackIndexed(3) + HpackIndexed(62)) +
             DataFrame(stream, GrpcMessage("body"), true);
  }
  const std::string bytes = kPreface + SettingsFrame({}) + HeadersFrame(1, HpackInsert("a", "1")) +
                            HeadersFrame(19, HpackIndexed(62)) + GetParam().bytes + after;
  std::vector<std::string> expected;
  ForEachSegmentation(AsBytes(bytes), [&](const Pieces& pieces, const std::string& label) {
    Session session;
    for (const Bytes piece : pieces) session.Send(0, piece);
    session.Close();
    EXPECT_EQ(session.Count(Counter::kFramesMalformed), 1u) << label;
    // Only how much was passed over, and when that was told, may depend on the cutting.
    std::vector<std::string> lines;
    for (const std::string& line : session.log.lines) {
      if (line.find("loss") == std::string::npos) lines.push_back(line);
    }
    if (label == "whole") {
      expected = lines;
    } else {
      EXPECT_EQ(lines, expected) << label;
    }
  });
  const std::string joined = Joined(expected);
  EXPECT_NE(joined.find(">19 headers [a: 1]"), std::string::npos) << joined;
  for (uint32_t stream = 21; stream < 31; stream += 2) {
    EXPECT_NE(joined.find(">" + std::to_string(stream) + " headers [:method: POST] [?: ?]#"),
              std::string::npos)
        << GetParam().what << joined;
  }
  EXPECT_EQ(joined.find("[a: 1] END"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, FrameErrors,
    ::testing::Values(BadFrame{"data_on_stream_0", DataFrame(0, "x")},
                      BadFrame{"headers_on_stream_0", HeadersFrame(0, HpackIndexed(3))},
                      BadFrame{"settings_on_a_stream", RawFrame(4, 0, 1, "")},
                      BadFrame{"settings_of_5_bytes", RawFrame(4, 0, 0, "12345")},
                      BadFrame{"settings_ack_with_payload", RawFrame(4, kAck, 0, "123456")},
                      BadFrame{"ping_of_7_bytes", RawFrame(6, 0, 0, "1234567")},
                      BadFrame{"reset_of_5_bytes", RawFrame(3, 0, 1, "12345")},
                      BadFrame{"window_update_of_3_bytes", RawFrame(8, 0, 1, "123")},
                      BadFrame{"goaway_of_7_bytes", RawFrame(7, 0, 0, "1234567")},
                      BadFrame{"priority_of_4_bytes", RawFrame(2, 0, 1, "1234")},
                      BadFrame{"continuation_alone", RawFrame(9, kEndHeaders, 1, HpackIndexed(3))},
                      BadFrame{"padding_over_length", RawFrame(0, kPadded, 1, std::string("\x09xxx", 4))},
                      BadFrame{"headers_padding_over_length",
                               RawFrame(1, kPadded | kEndHeaders, 1, std::string("\x09xxx", 4))},
                      BadFrame{"over_the_largest_frame",
                               std::string("\x00\x40\x01\x00\x00\x00\x00\x00\x01", 9)},
                      BadFrame{"interleaved_data", RawFrame(1, 0, 1, HpackIndexed(3)) + DataFrame(1, "x")},
                      BadFrame{"continuation_of_another", RawFrame(1, 0, 1, HpackIndexed(3)) +
                                                              RawFrame(9, kEndHeaders, 3, HpackIndexed(3))}),
    [](const auto& one) { return std::string(one.param.what); });

TEST(Frames, ABlockThatNeverEndsIsTold) {
  const auto events = ClientEvents(RawFrame(1, 0, 5, HpackIndexed(3)) + DataFrame(1, "x"));
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events[0], ">5 headers undecodable");
}

TEST(Frames, LargerFramesNeedAnAnnouncement) {
  Session session;
  session.Send(0, kPreface + SettingsFrame({}));
  session.Send(1, SettingsFrame({{5, 1 << 20}}));
  session.Send(0, DataFrame(1, std::string(100000, 'x')) + DataFrame(1, "after"));
  EXPECT_EQ(session.Close().at(2), ">1 data after");
  EXPECT_EQ(session.Count(Counter::kFramesMalformed), 0u);
}

TEST(Frames, HeaderTableSizeFollowsTheOtherSidesSettings) {
  Session session;
  session.Send(0, kPreface + SettingsFrame({}));
  session.Send(1, SettingsFrame({{1, 65536}}));
  session.Send(0, HeadersFrame(1, HpackSizeUpdate(65536) + HpackIndexed(3)));
  // What the client announces does not bind the client.
  session.Send(1, HeadersFrame(1, HpackSizeUpdate(65536) + HpackIndexed(8)));
  session.Send(1, HeadersFrame(3, HpackIndexed(8)));
  EXPECT_THAT(session.Close(), ElementsAre("http2 start client 0", ">1 headers [:method: POST]",
                                           "<1 headers undecodable", "<3 headers [:status: 200]", "end"));
}

TEST(Frames, AnAnnouncedReductionMayComeAfterBlocksThatUseTheOldSize) {
  // SETTINGS takes effect at the encoder when it has received it (RFC 9113 section 6.5.3): until then it goes
  // on with what it has.
  Session session;
  session.Send(0, kPreface + SettingsFrame({}) + HeadersFrame(1, HpackInsert("a", "1")));
  session.Send(1, SettingsFrame({{1, 0}}));
  session.Send(0, HeadersFrame(3, HpackIndexed(62)) + SettingsAck() +
                      HeadersFrame(5, HpackSizeUpdate(0) + HpackIndexed(3)) +
                      HeadersFrame(7, HpackIndexed(62)));
  EXPECT_THAT(session.Close(), ElementsAre("http2 start client 0", ">1 headers [a: 1]", ">3 headers [a: 1]",
                                           ">5 headers [:method: POST]", ">7 headers undecodable", "end"));
}

TEST(Frames, AHeaderBlockOverTheCapIsTold) {
  Session session;
  session.Send(0, kPreface + SettingsFrame({}));
  const std::string block =
      HpackLiteral("big", std::string(limits::kMaxHeaderBlockBytes, 'x')) + HpackIndexed(3);
  session.Send(0, SplitHeaders(1, block, 16384) + HeadersFrame(3, HpackIndexed(3) + HpackIndexed(62)));
  EXPECT_THAT(session.Close(), ElementsAre("http2 start client 0", ">1 headers undecodable",
                                           ">3 headers [:method: POST] [?: ?]#1", "end"));
  EXPECT_EQ(session.Count(Counter::kCapHeaderBlock), 1u);
}

TEST(Frames, LegalAndPlausible) {
  const auto header = [](uint32_t type, uint32_t flags, uint32_t stream, uint32_t length) {
    FrameHeader h;
    h.type = static_cast<uint8_t>(type);
    h.flags = static_cast<uint8_t>(flags);
    h.stream = stream;
    h.length = length;
    return h;
  };
  EXPECT_TRUE(IsLegalFrame(header(0, 0, 1, 16384), 16384));
  EXPECT_FALSE(IsLegalFrame(header(0, 0, 1, 16385), 16384));
  EXPECT_TRUE(IsLegalFrame(header(0, 0, 2, 1), 16384));
  EXPECT_FALSE(IsPlausibleFrame(header(0, 0, 2, 1), 16384));
  EXPECT_FALSE(IsPlausibleFrame(header(0, 2, 1, 1), 16384));
  EXPECT_FALSE(IsPlausibleFrame(header(10, 0, 1, 1), 16384));
  // Every plausible frame is legal: otherwise a search could find the same wrong frame for ever.
  for (uint32_t type = 0; type < 12; ++type) {
    for (uint32_t flags = 0; flags < 256; ++flags) {
      for (uint32_t stream = 0; stream < 3; ++stream) {
        for (uint32_t length = 0; length < 20; ++length) {
          const FrameHeader h = header(type, flags, stream, length);
          EXPECT_TRUE(!IsPlausibleFrame(h, 16) || IsLegalFrame(h, 16));
        }
      }
    }
  }
}

}  // namespace
}  // namespace keytrail::testing
