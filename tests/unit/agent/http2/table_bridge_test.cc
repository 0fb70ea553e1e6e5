// What an HPACK table was before a loss: the hint that HpackDecoder gives about a :path is never false for
// senders as they are, and is there most of the time. Paths are known from what was sent.
#include "agent/http2/table_bridge.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "agent/http2/hpack_decoder.h"
#include "common/limits.h"
#include "tests/support/http2_builder.h"

namespace keytrail::testing {
namespace {

const char* const kPaths[] = {"/tikvpb.Tikv/KvGet",        "/tikvpb.Tikv/KvCommit",   "/tikvpb.Tikv/KvScan",
                              "/pdpb.PD/GetRegion",        "/pdpb.PD/ScanRegions",    "/pdpb.PD/GetStore",
                              "/tikvpb.Tikv/KvPrewrite",   "/tikvpb.Tikv/KvCleanup",  "/pdpb.PD/GetRegionByID",
                              "/tikvpb.Tikv/Coprocessor",  "/pdpb.PD/GetAllStores",   "/pdpb.PD/GetMembers"};
// Frame headers, and a body.
constexpr uint64_t kBytesOfACall = 9 + 9 + 60;

struct Tally {
  size_t hidden = 0;  // requests whose :path is not known
  size_t hinted = 0;
  size_t false_hints = 0;
};

struct Sender {
  bool deadlines = false;    // a new value in each request, as grpc-go sends it
  bool joined_late = false;  // nothing of the beginning was seen
  bool static_names = true;  // see IndexingEncoder
  double loss = 0.05;
};

// One connection: requests of changing methods, some of which are lost.
void Converse(const Sender& sender, uint32_t seed, Tally& tally) {
  std::mt19937 random(seed);
  IndexingEncoder encoder(sender.static_names);
  Counters counters;
  HeaderScratch scratch(counters);
  HpackDecoder decoder;
  std::map<uint32_t, std::string> path_of_slot;
  uint64_t lost = 0;
  for (int call = 0; call < 600; ++call) {
    const size_t methods = 2 + static_cast<size_t>(call) / 60;  // new ones come up all the time
    const std::string path = kPaths[std::min<size_t>(random() % methods, std::size(kPaths) - 1)];
    FieldList fields = GrpcRequestHeaders(path);
    if (sender.deadlines) fields.emplace_back("grpc-timeout", std::to_string(59'999'999 - call * 13) + "u");
    const std::string block = encoder.Encode(fields);
    if (call == 100 && sender.joined_late) decoder.Forget();
    if (call < 100 && sender.joined_late) continue;
    if (call > 10 && std::uniform_real_distribution<>(0, 1)(random) < sender.loss) {
      lost += block.size() + kBytesOfACall;
      continue;
    }
    if (lost != 0) decoder.Forget(std::exchange(lost, 0));
    const HeaderBlock& decoded = decoder.Decode(AsBytes(block), 4096, scratch);
    ASSERT_FALSE(decoded.undecodable);
    if (!decoded.path.empty()) {
      EXPECT_EQ(decoded.path, path);
      continue;
    }
    ++tally.hidden;
    if (decoded.path_slot == 0) continue;  // the value is new, and what it belongs to is not known
    std::string hint(decoded.former_path);
    if (const auto it = path_of_slot.find(decoded.former_slot); it != path_of_slot.end()) hint = it->second;
    if (!hint.empty()) {
      ++tally.hinted;
      if (hint != path) ++tally.false_hints;
    }
    path_of_slot[decoded.path_slot] = path;
  }
}

class TableBridgeOfSender : public ::testing::TestWithParam<Sender> {};

TEST_P(TableBridgeOfSender, HintsAreTrueAndMostRequestsHaveOne) {
  Tally tally;
  for (uint32_t seed = 1; seed <= 200; ++seed) Converse(GetParam(), seed, tally);
  std::printf("%zu hidden, %zu hinted, %zu of them false\n", tally.hidden, tally.hinted, tally.false_hints);
  EXPECT_EQ(tally.false_hints, 0u);
  EXPECT_GT(tally.hidden, 1000u);
  // With deadlines the table turns over every hundred calls, and what is filled in by a lost request has
  // never been seen.
  EXPECT_GT(tally.hinted * 10, tally.hidden * (GetParam().deadlines ? 6 : 8));
}

INSTANTIATE_TEST_SUITE_P(Senders, TableBridgeOfSender,
                         ::testing::Values(Sender{}, Sender{.loss = 0.3}, Sender{.deadlines = true},
                                           Sender{.deadlines = true, .loss = 0.2},
                                           Sender{.deadlines = true, .joined_late = true},
                                           Sender{.joined_late = true, .loss = 0.2},
                                           Sender{.static_names = false},
                                           Sender{.joined_late = true, .static_names = false}));

BlockLayout Layout(std::initializer_list<int64_t> entries) {
  BlockLayout layout;
  layout.AddOther(3);
  for (const int64_t entry : entries) layout.AddEntry(entry);
  return layout;
}

// The newest entry before the loss is 20; the :path is the first of the entries.
TableBridge Lost(uint64_t bytes) {
  TableBridge bridge;
  EXPECT_FALSE(bridge.Read(Layout({17, 4, 5, 6})));
  bridge.Lose(bytes, 0, 20);
  bridge.Keep(17, "/a");
  bridge.Keep(18, "/b");
  return bridge;
}

TEST(TableBridge, ThreeFieldsThatMovedTogetherTellHowFar) {
  TableBridge bridge = Lost(100);
  EXPECT_EQ(bridge.Find(16), nullptr);
  ASSERT_TRUE(bridge.Read(Layout({16, 2, 3, 4})));
  EXPECT_FALSE(bridge.pending());
  EXPECT_EQ(bridge.Find(17), nullptr);
  ASSERT_NE(bridge.Find(16), nullptr);
  EXPECT_EQ(bridge.Find(16)->path, "/b");
  EXPECT_EQ(bridge.Find(15)->path, "/a");
}

TEST(TableBridge, WhatDoesNotAgreeTellsNothing) {
  TableBridge bridge = Lost(100);
  EXPECT_FALSE(bridge.Read(Layout({16, 2, 3, 5})));     // two agree
  EXPECT_FALSE(bridge.Read(Layout({16, 5, 6, 7})));     // entries do not become younger
  EXPECT_FALSE(bridge.Read(Layout({16, 2, 3, 4, 5})));  // another kind of request
  BlockLayout other;
  other.AddOther(2);  // another method
  for (const int64_t entry : {16, 2, 3, 4}) other.AddEntry(entry);
  EXPECT_FALSE(bridge.Read(other));
  EXPECT_TRUE(bridge.pending());
  EXPECT_EQ(bridge.Find(16), nullptr);
}

TEST(TableBridge, ALargeLossMayHaveFilledTheTableAnew) {
  TableBridge bridge = Lost(5000);
  EXPECT_FALSE(bridge.pending());
  EXPECT_EQ(bridge.Find(17), nullptr);
  TableBridge twice = Lost(3000);
  twice.LoseMore(1500);
  EXPECT_FALSE(twice.Read(Layout({16, 2, 3, 4})));
  EXPECT_EQ(twice.Find(16), nullptr);
}

TEST(TableBridge, TwoLossesWithInsertionsBetweenThemAreTooMuch) {
  TableBridge bridge = Lost(100);
  bridge.Lose(100, 0, 20);
  EXPECT_TRUE(bridge.Read(Layout({16, 2, 3, 4})));
  TableBridge twice = Lost(100);
  twice.Lose(100, 2, 22);
  EXPECT_FALSE(twice.Read(Layout({16, 2, 3, 4})));
  EXPECT_EQ(twice.Find(16), nullptr);
  // From there on it is as after any other beginning.
  twice.NameSlot(16, 70);
  twice.Lose(100, 0, 22);
  ASSERT_TRUE(twice.Read(Layout({14, 0, 1, 2})));
  EXPECT_EQ(twice.Find(14)->slot, 70u);
}

TEST(TableBridge, SlotsAreCarriedOverEachLoss) {
  TableBridge bridge = Lost(100);
  ASSERT_TRUE(bridge.Read(Layout({16, 2, 3, 4})));
  bridge.NameSlot(16, 70);
  EXPECT_EQ(bridge.Find(16)->slot, 0u);
  bridge.Lose(100, 0, 20);
  ASSERT_TRUE(bridge.Read(Layout({15, 1, 2, 3})));
  EXPECT_EQ(bridge.Find(15)->slot, 70u);
  EXPECT_EQ(bridge.Find(15)->path, "/b");
}

TEST(TableBridge, ThePathsThatAreKeptAreBounded) {
  TableBridge bridge = Lost(100);
  bridge.Keep(19, std::string(limits::kMaxFormerPathBytes + 1, 'p'));
  for (int64_t i = 0; i < 200; ++i) bridge.Keep(-i, "/old");
  ASSERT_TRUE(bridge.Read(Layout({17, 4, 5, 6})));
  size_t found = 0;
  for (int64_t i = -300; i < 100; ++i) found += bridge.Find(i) != nullptr;
  EXPECT_EQ(found, limits::kMaxFormerEntries);
  EXPECT_EQ(bridge.Find(19), nullptr);
  EXPECT_EQ(bridge.Find(17)->path, "/a");
}

}  // namespace
}  // namespace keytrail::testing
