// The caps of the facts of one message that walker_test.cc does not reach; what is told of them is in the
// gRPC room's total_caps_test.cc.
#include <gtest/gtest.h>

#include "agent/schema/schema.h"
#include "common/limits.h"
#include "tests/unit/agent/grpc/proto_writer.h"

namespace keytrail {
namespace {

using testing::Proto;

const Schema& TheSchema() {
  static const std::unique_ptr<Schema> schema = std::move(Schema::Bundled().value());
  return *schema;
}

void Walk(const std::string& type, const Proto& message, MessageFacts& facts) {
  facts.Reset();
  EXPECT_TRUE(TheSchema().Walk(TheSchema().FindMessage(type), AsBytes(message.bytes()), facts)) << type;
}

TEST(FactCaps, PeersOfAMessage) {
  for (const size_t more : {0, 5}) {
    Proto region;
    region.Varint(1, 5);
    for (size_t i = 0; i < limits::kMaxPeersPerMessage + more; ++i) region.Text(5, "");
    MessageFacts facts;
    Walk("pdpb.ReportBatchSplitRequest", Proto().Message(2, region).Message(2, Proto().Varint(1, 6)), facts);
    EXPECT_EQ(facts.over_cap, more != 0);
    EXPECT_EQ(facts.peers.size(), limits::kMaxPeersPerMessage);
    // The message is read on.
    ASSERT_EQ(facts.statements.size(), 2u);
    EXPECT_EQ(facts.statements[1].region_id, 6u);
  }
}

TEST(FactCaps, BytesOfAMessage) {
  const std::string key(1u << 20, 'k');
  const size_t fit = limits::kMaxFactBytesPerMessage / key.size();
  Proto request;
  for (size_t i = 0; i < fit; ++i) request.Text(2, key);
  MessageFacts facts;
  Walk("kvrpcpb.BatchGetRequest", request, facts);
  EXPECT_FALSE(facts.over_cap);
  EXPECT_EQ(facts.keys.size(), fit);
  // The one that does not fit is left out, not cut.
  request.Text(2, "x");
  Walk("kvrpcpb.BatchGetRequest", request, facts);
  EXPECT_TRUE(facts.over_cap);
  EXPECT_EQ(facts.keys.size(), fit);
}

TEST(FactCaps, Depth) {
  const auto nested = [](int depth) {
    Proto lock;
    lock.Varint(2, 5);
    for (int i = 1; i < depth; ++i) lock = Proto().Message(12, lock);  // LockInfo.shared_lock_infos
    return Proto().Message(3, lock).bytes();
  };
  const MessageType type = TheSchema().FindMessage("kvrpcpb.ScanLockResponse");
  bool deep = false;
  for (int depth = 1; depth < 2 * limits::kMaxMessageDepth; ++depth) {
    const StrictResult check = TheSchema().Check(type, AsBytes(nested(depth)));
    EXPECT_TRUE(check.valid) << depth;
    EXPECT_LE(deep, check.too_deep) << depth;
    deep = check.too_deep;
    if (depth < limits::kMaxMessageDepth - 2) {
      EXPECT_FALSE(deep) << depth;
    }
  }
  EXPECT_TRUE(deep);
}

}  // namespace
}  // namespace keytrail
