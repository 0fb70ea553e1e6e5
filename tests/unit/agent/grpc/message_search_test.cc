#include "agent/grpc/message_search.h"

#include <gtest/gtest.h>

#include <random>

#include "agent/grpc/wire_fields.h"
#include "tests/support/segmenter.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::grpc {
namespace {

using testing::ForEachSegmentation;
using testing::Framed;
using testing::Pieces;
using testing::Proto;

// Feeds frames (each cut by `pieces_of`), gives the bodies that were proved.
struct Searcher {
  explicit Searcher(bool place_known = false) { search.Begin(place_known); }
  ~Searcher() {
    search.End(store);
    EXPECT_EQ(store.held_bytes(), 0u);
  }

  bool Frame(const Pieces& pieces) {
    bool found = false;
    for (size_t i = 0; i < pieces.size() && !found; ++i) {
      const std::vector<uint8_t> copy(pieces[i].begin(), pieces[i].end());
      found = search.Feed(copy, TimeNs{++now}, i == 0, i + 1 == pieces.size(), store,
                          [&](std::span<const MessageSearch::Found> messages, Bytes bytes) {
                            ++judged;
                            for (const MessageSearch::Found& f : messages) {
                              if (!ParsesAsFields(bytes.subspan(f.offset, f.size))) return false;
                            }
                            return true;
                          });
    }
    if (found) {
      for (const MessageSearch::Found& f : search.messages()) {
        bodies.push_back(ToString(search.bytes().subspan(f.offset, f.size)));
      }
    }
    return found;
  }
  bool Frame(std::string_view bytes) { return Frame(Pieces{AsBytes(bytes)}); }

  MessageSearch search;
  BodyStore store;
  int64_t now = 0;
  int judged = 0;
  std::vector<std::string> bodies;
};

std::string Message(int i) {
  return Proto().Varint(1, i).Text(2, std::string(20, 'v')).bytes();
}

TEST(MessageSearch, FindsMessagesThatFillAFrameHoweverItIsCut) {
  const std::string frame = Framed(Message(1)) + Framed("") + Framed(Message(2));
  ForEachSegmentation(AsBytes(frame), [&](const Pieces& pieces, const std::string& label) {
    Searcher searcher;
    EXPECT_TRUE(searcher.Frame(pieces)) << label;
    EXPECT_EQ(searcher.bodies, (std::vector<std::string>{Message(1), "", Message(2)})) << label;
  });
}

TEST(MessageSearch, FindsAMessageThatTakesSeveralFrames) {
  const std::string bytes = Framed(Proto().Text(3, std::string(3000, 'z')).bytes());
  Searcher searcher;
  EXPECT_FALSE(searcher.Frame(bytes.substr(0, 1000)));
  EXPECT_FALSE(searcher.Frame(bytes.substr(1000, 1000)));
  EXPECT_TRUE(searcher.search.in_message());
  EXPECT_TRUE(searcher.Frame(bytes.substr(2000)));
  EXPECT_EQ(searcher.bodies.size(), 1u);
}

TEST(MessageSearch, TheRestOfAMessageIsNotOne) {
  const std::string big = Framed(Proto().Text(3, std::string(3000, 'z')).bytes());
  Searcher searcher;
  EXPECT_FALSE(searcher.Frame(big.substr(1234)));
  EXPECT_FALSE(searcher.search.in_message());
  EXPECT_TRUE(searcher.Frame(Framed(Message(9))));
  EXPECT_EQ(searcher.bodies, std::vector<std::string>{Message(9)});
}

TEST(MessageSearch, ZeroesProveNothing) {
  Searcher searcher;
  for (int i = 1; i < 12; ++i) EXPECT_FALSE(searcher.Frame(std::string(5 * i, '\0')));
  EXPECT_EQ(searcher.judged, 0);
}

TEST(MessageSearch, AFalseStartDoesNotHideTheTrueOne) {
  // Looks like the start of a message of 1 MiB.
  const std::string decoy = std::string("\0\0\x10\0\0", 5) + "decoy";
  Searcher searcher;
  EXPECT_FALSE(searcher.Frame(decoy));
  EXPECT_TRUE(searcher.Frame(Framed(Message(4))));
  EXPECT_EQ(searcher.bodies, std::vector<std::string>{Message(4)});
}

TEST(MessageSearch, WhatIsNoProtobufIsRefused) {
  Searcher searcher;
  EXPECT_FALSE(searcher.Frame(Framed("\xFF\xFF\xFF not a message")));
  EXPECT_EQ(searcher.judged, 1);
  EXPECT_TRUE(searcher.Frame(Framed(Message(5))));
}

TEST(MessageSearch, WithAKnownPlaceOneBadPrefixRefutes) {
  {
    Searcher searcher(true);
    EXPECT_FALSE(searcher.Frame("{\"json\":1}"));
    EXPECT_TRUE(searcher.search.refuted());
  }
  {
    Searcher searcher(true);
    EXPECT_FALSE(searcher.Frame(Framed(Message(1)) + "{\"json\":1}"));
    EXPECT_TRUE(searcher.search.refuted());
  }
  {
    Searcher searcher(true);
    EXPECT_TRUE(searcher.Frame(Framed("")));  // an empty request: its place is certain
    EXPECT_EQ(searcher.bodies, std::vector<std::string>{""});
  }
}

TEST(MessageSearch, GivesUpAtItsCap) {
  Searcher searcher;
  const std::string start = std::string("\0\0\x3F\0\0", 5);  // just under the cap
  EXPECT_FALSE(searcher.Frame(start));
  const std::string filler(16384, '\x7F');
  for (int i = 0; i < 300; ++i) {
    EXPECT_FALSE(searcher.Frame(filler));
    EXPECT_LE(searcher.store.held_bytes(), limits::kMaxSearchedMessageBytes);
  }
  EXPECT_TRUE(searcher.Frame(Framed(Message(6))));
}

// All places that can be tried look like the start of a large message: another one waits until they are given
// up.
TEST(MessageSearch, PlacesThatAreTriedAreCapped) {
  Searcher searcher;
  const std::string decoy = std::string("\0\0\x30\0\0", 5) + "decoy";
  for (size_t i = 0; i < limits::kMaxSearchChains; ++i) EXPECT_FALSE(searcher.Frame(decoy));
  EXPECT_FALSE(searcher.search.TakeCapHit());
  EXPECT_FALSE(searcher.Frame(Framed(Message(1))));
  EXPECT_TRUE(searcher.search.TakeCapHit());
  const std::string filler(16384, '\x7F');
  for (size_t i = 0; i < limits::kMaxSearchedMessageBytes / filler.size() + 2; ++i) {
    EXPECT_FALSE(searcher.Frame(filler));
  }
  EXPECT_TRUE(searcher.Frame(Framed(Message(2))));
  EXPECT_EQ(searcher.bodies, std::vector<std::string>{Message(2)});
}

TEST(MessageSearch, MessagesThatAwaitTheirProofAreCapped) {
  const std::string one = Framed("\x08\x01");
  std::string frame;
  for (size_t i = 0; i < limits::kMaxSearchMessages; ++i) frame += one;
  {
    Searcher searcher;
    EXPECT_TRUE(searcher.Frame(frame));
    EXPECT_EQ(searcher.bodies.size(), limits::kMaxSearchMessages);
    EXPECT_FALSE(searcher.search.TakeCapHit());
  }
  Searcher searcher;
  EXPECT_FALSE(searcher.Frame(frame + one));
  EXPECT_TRUE(searcher.search.TakeCapHit());
  EXPECT_TRUE(searcher.Frame(Framed(Message(3))));
  EXPECT_EQ(searcher.bodies, std::vector<std::string>{Message(3)});
}

// Random bytes in frames of random sizes: never a message. Each frame that begins with 0 or 1 has some chance
// of 2^-32 per start to look like one; the judge must not even be asked often.
TEST(MessageSearch, RandomBytesAreNoMessages) {
  std::mt19937 random(7);
  Searcher searcher;
  for (int i = 0; i < 20000; ++i) {
    std::string frame(1 + random() % 200, '\0');
    for (char& c : frame) c = static_cast<char>(random());
    frame[0] = static_cast<char>(random() & 1);
    ASSERT_FALSE(searcher.Frame(frame));
  }
}

}  // namespace
}  // namespace keytrail::grpc
