#include "agent/grpc/message_assembler.h"

#include <gtest/gtest.h>

#include "tests/support/segmenter.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::grpc {
namespace {

using testing::ForEachSegmentation;
using testing::Framed;
using testing::Pieces;

struct Got {
  std::string body;
  bool compressed = false;
  uint32_t size = 0;
  uint32_t incomplete = 0;
  bool operator==(const Got&) const = default;
};

std::vector<Got> Assemble(const Pieces& pieces, bool keep = true, AssemblyEnd* end = nullptr) {
  MessageAssembler assembler;
  BodyStore store;
  std::vector<Got> got;
  AssemblyEnd last = AssemblyEnd::kConsumed;
  for (const Bytes piece : pieces) {
    const std::vector<uint8_t> copy(piece.begin(), piece.end());
    last = assembler.Feed(copy, TimeNs{1}, keep, store, [&](const WireMessage& m) {
      got.push_back(Got{ToString(m.body), m.compressed, m.size, m.incomplete});
    });
    if (last == AssemblyEnd::kBadPrefix) break;
  }
  if (end != nullptr) *end = last;
  assembler.Drop(store);
  EXPECT_EQ(store.held_bytes(), 0u);
  return got;
}

TEST(MessageAssembler, GivesTheSameMessagesHoweverTheyAreCut) {
  std::string bytes;
  std::vector<Got> expected;
  for (const size_t size : {0u, 1u, 5u, 300u, 0u, 70u, 4u}) {
    const std::string body(size, static_cast<char>('a' + size % 26));
    bytes += Framed(body, size == 70);
    expected.push_back(Got{body, size == 70, static_cast<uint32_t>(size), 0});
  }
  ForEachSegmentation(AsBytes(bytes), [&](const Pieces& pieces, const std::string& label) {
    EXPECT_EQ(Assemble(pieces), expected) << label;
  });
}

TEST(MessageAssembler, CountsBodiesThatNobodyWants) {
  const std::string bytes = Framed("abc") + Framed(std::string(1000, 'x')) + Framed("");
  ForEachSegmentation(AsBytes(bytes), [&](const Pieces& pieces, const std::string& label) {
    const std::vector<Got> got = Assemble(pieces, false);
    ASSERT_EQ(got.size(), 3u) << label;
    EXPECT_EQ(got[0].size, 3u);
    EXPECT_EQ(got[1].size, 1000u);
    EXPECT_EQ(got[2].size, 0u);
  });
}

TEST(MessageAssembler, StopsAtAFlagThatIsNone) {
  const std::string bytes = Framed("abc") + std::string("\2\0\0\0\1x", 6);
  ForEachSegmentation(AsBytes(bytes), [&](const Pieces& pieces, const std::string& label) {
    AssemblyEnd end{};
    EXPECT_EQ(Assemble(pieces, true, &end).size(), 1u) << label;
    EXPECT_EQ(end, AssemblyEnd::kBadPrefix) << label;
  });
}

TEST(MessageAssembler, SkipsAMessageThatIsTooLargeAndGoesOn) {
  MessageAssembler assembler;
  BodyStore store;
  std::vector<Got> got;
  const auto feed = [&](Bytes bytes) {
    EXPECT_EQ(assembler.Feed(bytes, TimeNs{1}, true, store,
                             [&](const WireMessage& m) {
                               got.push_back(Got{ToString(m.body), m.compressed, m.size, m.incomplete});
                             }),
              AssemblyEnd::kConsumed);
  };
  const uint32_t size = static_cast<uint32_t>(limits::kMaxMessageBytes) + 1;
  const uint8_t prefix[5] = {0, uint8_t(size >> 24), uint8_t(size >> 16), uint8_t(size >> 8), uint8_t(size)};
  feed(prefix);
  const std::vector<uint8_t> part(1 << 20, 0xEE);
  for (size_t sent = 0; sent < size;) {
    const size_t n = std::min<size_t>(part.size(), size - sent);
    feed(Bytes(part).first(n));
    sent += n;
    EXPECT_EQ(store.held_bytes(), 0u);
  }
  feed(AsBytes(Framed("next")));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].incomplete, kOverCap);
  EXPECT_EQ(got[0].size, size);
  EXPECT_EQ(got[0].body, "");
  EXPECT_EQ(got[1].body, "next");
  EXPECT_EQ(assembler.TakeCapsHit(), MessageAssembler::kHitMessageCap);
}

TEST(MessageAssembler, AllPartialMessagesTogetherAreCapped) {
  BodyStore store(1000);
  MessageAssembler first;
  MessageAssembler second;
  std::vector<Got> got;
  const auto on_message = [&](const WireMessage& m) {
    got.push_back(Got{ToString(m.body), m.compressed, m.size, m.incomplete});
  };
  const std::string message = Framed(std::string(900, 'm'));
  first.Feed(AsBytes(message).first(800), TimeNs{1}, true, store, on_message);
  second.Feed(AsBytes(message).first(800), TimeNs{1}, true, store, on_message);
  EXPECT_EQ(second.TakeCapsHit(), MessageAssembler::kHitPartialCap);
  second.Feed(AsBytes(message).subspan(800), TimeNs{1}, true, store, on_message);
  first.Feed(AsBytes(message).subspan(800), TimeNs{1}, true, store, on_message);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0], (Got{"", false, 900, kOverCap}));
  EXPECT_EQ(got[1], (Got{std::string(900, 'm'), false, 900, 0}));
  EXPECT_EQ(store.held_bytes(), 0u);
}

// A loss of known length: the place stays known exactly if the loss ends within the message's body.
TEST(MessageAssembler, ALossWithinABodyKeepsThePlace) {
  const std::string body(50, 'b');
  const std::string bytes = Framed(body) + Framed("tail");
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (size_t n = 1; at + n <= bytes.size(); ++n) {
      MessageAssembler assembler;
      BodyStore store;
      std::vector<Got> got;
      const auto on_message = [&](const WireMessage& m) {
        got.push_back(Got{ToString(m.body), m.compressed, m.size, m.incomplete});
      };
      assembler.Feed(AsBytes(bytes).first(at), TimeNs{1}, true, store, on_message);
      const bool known = assembler.Lose(n, TimeNs{2}, store, on_message);
      const bool in_first = at >= 5 && at + n <= 55;
      const bool in_second = at >= 60 && at + n <= 64;
      EXPECT_EQ(known, (in_first && at < 55) || in_second) << at << "+" << n;
      if (!known) {
        EXPECT_FALSE(assembler.in_message());
        continue;
      }
      assembler.Feed(AsBytes(bytes).subspan(at + n), TimeNs{3}, true, store, on_message);
      ASSERT_EQ(got.size(), 2u) << at << "+" << n;
      EXPECT_EQ(got[0], (in_first ? Got{"", false, 50, kGap} : Got{body, false, 50, 0}));
      EXPECT_EQ(got[1], (in_second ? Got{"", false, 4, kGap} : Got{"tail", false, 4, 0}));
    }
  }
}

TEST(MessageAssembler, TimesAreThoseOfTheMessagesBytes) {
  MessageAssembler assembler;
  BodyStore store;
  const std::string bytes = Framed("abcdef");
  for (size_t i = 0; i < bytes.size(); ++i) {
    assembler.Feed(AsBytes(bytes).subspan(i, 1), TimeNs{static_cast<int64_t>(i)}, true, store,
                   [&](const WireMessage& m) {
                     EXPECT_EQ(m.first.ns, 0);
                     EXPECT_EQ(m.last.ns, static_cast<int64_t>(bytes.size()) - 1);
                   });
  }
  EXPECT_FALSE(assembler.in_message());
}

}  // namespace
}  // namespace keytrail::grpc
