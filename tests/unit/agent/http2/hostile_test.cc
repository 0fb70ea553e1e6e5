// Damaged and hostile bytes: no crash (run under ASan and UBSan in CI), bounded work, and a way back.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "tests/support/http2_builder.h"
#include "tests/support/http2_log.h"

namespace keytrail::testing {
namespace {

std::string Requests(uint32_t first, int count, IndexingEncoder& encoder) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    const uint32_t stream = first + 2 * static_cast<uint32_t>(i);
    FieldList fields = GrpcRequestHeaders("/tikvpb.Tikv/KvGet");
    fields.emplace_back("grpc-timeout", std::to_string(i) + "m");
    out += SplitHeaders(stream, encoder.Encode(fields), i % 3 == 0 ? 5 : 16384);
    out += i % 4 == 0
               ? PaddedDataFrame(stream, GrpcMessage("padded"), 9, true)
               : DataFrame(stream, GrpcMessage(std::string(static_cast<size_t>(i * 7 % 90), 'x')), true);
    if (i % 5 == 0)
      out += SettingsFrame({{1, 4096}, {3, 100}}) + PingFrame("12345678") + WindowUpdateFrame(0, 99);
  }
  return out;
}

// Bytes changed, dropped and doubled at random; afterwards a clean stretch in which calls must be seen again.
TEST(Hostile, MutatedSessions) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    IndexingEncoder encoder;
    std::string bytes = Requests(1, 30, encoder);
    const uint32_t changes = 1 + random() % 12;
    for (uint32_t i = 0; i < changes; ++i) {
      const size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
          break;
        case 2:
          bytes.erase(at, 1 + random() % 20);
          break;
        default:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 40));
          break;
      }
    }
    Session session(seed % 3 == 0 ? -1 : 0);
    session.Send(0, kPreface + SettingsFrame({}));
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = std::min<size_t>(bytes.size() - at, 1 + random() % 300);
      if (random() % 30 == 0) {
        session.Gap(0, n);
      } else {
        session.Send(0, std::string_view(bytes).substr(at, n));
      }
      at += n;
    }
    session.Gap(0, 1 << 25);  // longer than any frame that a changed length may have promised
    IndexingEncoder fresh;
    session.Send(0, Requests(101, 40, fresh));
    const std::string log = Joined(session.Close());
    EXPECT_NE(log.find(">179 data"), std::string::npos) << "seed " << seed;
  }
}

TEST(Hostile, RandomBytesAfterThePreface) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::string bytes(20000, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 4 == 0 ? random() : random() % 10);
    Session session;
    session.Send(0, kPreface + SettingsFrame({}));
    for (size_t at = 0; at < bytes.size(); at += 500)
      session.Send(0, std::string_view(bytes).substr(at, 500));
    session.Close();
    EXPECT_LE(session.Count(Counter::kBytesSkipped), bytes.size());
  }
}

TEST(Hostile, RandomHeaderBlocks) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    Session session;
    session.Send(0, kPreface + SettingsFrame({}));
    for (uint32_t stream = 1; stream < 41; stream += 2) {
      std::string block(random() % 40, '\0');
      for (char& c : block) c = static_cast<char>(random() % 3 == 0 ? 0x40 + random() % 8 : random());
      session.Send(0, HeadersFrame(stream, block));
    }
    session.Close();
    EXPECT_EQ(session.Count(Counter::kHeaderBlocks), 20u);
    EXPECT_EQ(session.Count(Counter::kFramesMalformed), 0u);
  }
}

// Work must grow with the bytes alone: frames that prove nothing, one chain through all of them.
TEST(Hostile, WeightlessFramesCostNoMoreThanTheirBytes) {
  std::string bytes;
  for (uint32_t i = 0; bytes.size() < (1u << 20); ++i) bytes += DataFrame(1 + 2 * (i % 50000), "");
  const auto begin = std::chrono::steady_clock::now();
  for (const size_t piece : {1, 100, 1448, 65536}) {
    Session session(-1);
    for (size_t at = 0; at < bytes.size(); at += piece)
      session.Send(0, std::string_view(bytes).substr(at, piece));
    session.Close();
    EXPECT_EQ(session.log.http2, 0);
  }
  // About 0.2 s; a search that goes over the window for each frame again takes minutes.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

}  // namespace
}  // namespace keytrail::testing
