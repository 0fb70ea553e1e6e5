#include "agent/grpc/decompressor.h"

#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/unit/agent/grpc/zlib_writer.h"

namespace keytrail::grpc {
namespace {

using testing::Deflate;

using Outcome = Decompressor::Outcome;

TEST(Decompressor, ReadsWhatZlibWrites) {
  Decompressor decompressor;
  for (const size_t size : {0u, 1u, 100u, 70000u, 3000000u}) {
    std::string plain;
    for (size_t i = 0; i < size; ++i) plain += static_cast<char>(i * i >> 3);
    for (const bool gzip : {true, false}) {
      const std::string packed = Deflate(plain, gzip);
      for (const Encoding e : {gzip ? Encoding::kGzip : Encoding::kDeflate, Encoding::kUnknown}) {
        Bytes out;
        ASSERT_EQ(decompressor.Inflate(e, AsBytes(packed), out), Outcome::kDone) << size;
        EXPECT_EQ(AsText(out), plain);
      }
    }
  }
}

TEST(Decompressor, RefusesEveryDamage) {
  const std::string plain = "region 16 holds [a, b) and more of the same, the same, the same";
  Decompressor decompressor;
  for (const bool gzip : {true, false}) {
    const std::string packed = Deflate(plain, gzip);
    const Encoding encoding = gzip ? Encoding::kGzip : Encoding::kDeflate;
    for (size_t n = 0; n < packed.size(); ++n) {
      Bytes out;
      EXPECT_EQ(decompressor.Inflate(encoding, AsBytes(packed).first(n), out), Outcome::kDamaged) << n;
    }
    for (size_t at = 0; at < packed.size(); ++at) {
      std::string damaged = packed;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
      Bytes out;
      // Some bytes of a gzip header (time, operating system) say nothing about the contents.
      if (decompressor.Inflate(encoding, AsBytes(damaged), out) == Outcome::kDone) {
        EXPECT_EQ(AsText(out), plain) << at;
      }
    }
    Bytes out;
    EXPECT_EQ(decompressor.Inflate(encoding, AsBytes(packed + "x"), out), Outcome::kDamaged);
  }
}

TEST(Decompressor, ABombEndsAtTheCap) {
  const std::string bomb = Deflate(std::string(limits::kMaxInflatedBytes + 1, '\0'), true);
  const std::string just_fits = Deflate(std::string(limits::kMaxInflatedBytes, '\0'), true);
  ASSERT_LT(bomb.size(), 100000u);
  Decompressor decompressor;
  Bytes out;
  EXPECT_EQ(decompressor.Inflate(Encoding::kGzip, AsBytes(bomb), out), Outcome::kTooLarge);
  EXPECT_EQ(decompressor.Inflate(Encoding::kGzip, AsBytes(just_fits), out), Outcome::kDone);
  EXPECT_EQ(out.size(), limits::kMaxInflatedBytes);
}

TEST(Decompressor, DoesNotGuessWhatItCannotRead) {
  Decompressor decompressor;
  Bytes out;
  EXPECT_EQ(decompressor.Inflate(Encoding::kOther, AsBytes("anything at all, snappy"), out),
            Outcome::kUnreadable);
  EXPECT_EQ(decompressor.Inflate(Encoding::kUnknown, AsBytes("neither gzip nor zlib"), out),
            Outcome::kUnreadable);
  EXPECT_EQ(decompressor.Inflate(Encoding::kIdentity, AsBytes(Deflate("x", true)), out),
            Outcome::kUnreadable);
  EXPECT_EQ(EncodingByName("snappy"), Encoding::kOther);
  EXPECT_EQ(EncodingByName(""), Encoding::kIdentity);
  EXPECT_EQ(EncodingByName("gzip"), Encoding::kGzip);
}

}  // namespace
}  // namespace keytrail::grpc
