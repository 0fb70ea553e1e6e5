#include "agent/grpc/batch_split.h"

#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::grpc {
namespace {

using testing::Batch;
using testing::BundledSchema;
using testing::Command;
using testing::Proto;

TEST(BatchSplitter, PairsItemsWithIdsPackedOrNot) {
  BatchSplitter splitter(BundledSchema());
  const std::vector<Command> commands = {{7, 1, "get"}, {1ull << 60, 22, ""}, {300, 255, "empty"}};
  for (const bool packed : {true, false}) {
    const std::string batch = Batch(commands, packed);
    ASSERT_EQ(splitter.Split(AsBytes(batch), true), SplitOutcome::kDone);
    ASSERT_EQ(splitter.items().size(), commands.size());
    for (size_t i = 0; i < commands.size(); ++i) {
      EXPECT_EQ(splitter.ids()[i], commands[i].id);
      EXPECT_EQ(splitter.items()[i].number, commands[i].number);
      EXPECT_EQ(AsText(splitter.items()[i].message), commands[i].message);
    }
  }
}

TEST(BatchSplitter, OtherFieldsAreLeftAlone) {
  BatchSplitter splitter(BundledSchema());
  const Proto batch = Proto()
                          .Message(1, Proto().Text(1, "a"))
                          .Text(2, "\x05")
                          .Varint(3, 99)
                          .Message(4, Proto().Varint(1, 2))
                          .Varint(5, 1234);
  ASSERT_EQ(splitter.Split(AsBytes(batch.bytes()), false), SplitOutcome::kDone);
  EXPECT_EQ(splitter.ids(), std::vector<uint64_t>{5});
  ASSERT_EQ(splitter.Split({}, false), SplitOutcome::kDone);  // only an acknowledgement of health
  EXPECT_TRUE(splitter.items().empty());
}

TEST(BatchSplitter, NothingIsPairedWhenCountsDiffer) {
  BatchSplitter splitter(BundledSchema());
  const Proto few = Proto().Message(1, Proto().Text(1, "a")).Message(1, Proto().Text(1, "b")).Text(2, "\x05");
  EXPECT_EQ(splitter.Split(AsBytes(few.bytes()), true), SplitOutcome::kMalformed);
  const Proto many = Proto().Message(1, Proto().Text(1, "a")).Text(2, "\x05\x06");
  EXPECT_EQ(splitter.Split(AsBytes(many.bytes()), true), SplitOutcome::kMalformed);
}

TEST(BatchSplitter, AnItemHasOneCommand) {
  BatchSplitter splitter(BundledSchema());
  const auto split = [&](const Proto& item) {
    return splitter.Split(AsBytes(Proto().Message(1, item).Text(2, "\x05").bytes()), true);
  };
  EXPECT_EQ(split(Proto()), SplitOutcome::kMalformed);
  EXPECT_EQ(split(Proto().Text(1, "get").Text(3, "prewrite")), SplitOutcome::kMalformed);
  EXPECT_EQ(split(Proto().Text(900, "x").Text(901, "y")), SplitOutcome::kMalformed);
  EXPECT_EQ(split(Proto().Varint(1, 4)), SplitOutcome::kMalformed);
  // One that we know beside a field of a later release.
  EXPECT_EQ(split(Proto().Text(1, "get").Text(900, "later")), SplitOutcome::kDone);
  EXPECT_EQ(splitter.items()[0].number, 1u);
  EXPECT_EQ(split(Proto().Text(900, "later").Text(1, "get")), SplitOutcome::kDone);
  EXPECT_EQ(splitter.items()[0].number, 1u);
  // One that nobody knows yet.
  EXPECT_EQ(split(Proto().Text(900, "later")), SplitOutcome::kDone);
  EXPECT_EQ(splitter.items()[0].number, 900u);
}

TEST(BatchSplitter, EveryCutIsRefusedOrPairsNothing) {
  BatchSplitter splitter(BundledSchema());
  const std::string batch = Batch({{7, 1, "get a key"}, {8, 4, "commit"}});
  for (size_t n = 1; n < batch.size(); ++n) {
    EXPECT_EQ(splitter.Split(AsBytes(batch).first(n), true), SplitOutcome::kMalformed) << n;
  }
}

TEST(BatchSplitter, MillionsOfItemsAreNotSplit) {
  std::string batch;
  for (size_t i = 0; i <= limits::kMaxPendingRequestsPerStream; ++i) {
    batch += std::string_view("\x0A\x02\x0A\x00", 4);
  }
  BatchSplitter splitter(BundledSchema());
  EXPECT_EQ(splitter.Split(AsBytes(batch), true), SplitOutcome::kTooMany);
}

}  // namespace
}  // namespace keytrail::grpc
