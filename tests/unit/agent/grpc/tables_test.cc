// The tables of streams and of pending requests against std::map, and the small readers of headers.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "agent/grpc/pending_requests.h"
#include "agent/grpc/request_headers.h"
#include "agent/grpc/stream.h"
#include "agent/grpc/wire_fields.h"
#include "tests/unit/agent/grpc/call_harness.h"

namespace keytrail::grpc {
namespace {

TEST(PendingRequests, BehavesLikeAMap) {
  std::mt19937_64 random(3);
  PendingRequests pending;
  Pool<PendingRequest> pool;
  std::map<uint64_t, uint32_t> oracle;
  std::vector<uint64_t> order;
  for (uint32_t step = 0; step < 50000; ++step) {
    // Dense ids as TiDB gives them, and ids that all meet in one place of the table.
    const uint64_t id = random() % 2 == 0 ? random() % 300 : (random() % 64) << 44;
    PendingRequest* const found = pending.Find(id);
    ASSERT_EQ(found != nullptr, oracle.contains(id));
    if (found == nullptr) {
      pending.Add(id, pool).number = step;
      oracle[id] = step;
      order.push_back(id);
    } else {
      ASSERT_EQ(found->number, oracle[id]);
      pool.Give(pending.Remove(*found));
      oracle.erase(id);
      std::erase(order, id);
    }
    ASSERT_EQ(pending.size(), oracle.size());
    if (step % 997 == 0) {
      size_t i = 0;
      for (PendingRequest* p = pending.oldest(); p != nullptr; p = p->newer) ASSERT_EQ(p->id, order[i++]);
      ASSERT_EQ(i, order.size());
    }
  }
}

TEST(StreamTable, BehavesLikeAMap) {
  std::mt19937 random(4);
  StreamTable table;
  std::vector<uint32_t> order;
  for (int step = 0; step < 50000; ++step) {
    const uint32_t id = (random() % 2 == 0 ? random() % 500 : (random() % 16) << 20) * 2 + 1;
    Stream* const found = table.Find(id);
    const auto at = std::find(order.begin(), order.end(), id);
    ASSERT_EQ(found != nullptr, at != order.end());
    if (found == nullptr) {
      auto stream = std::make_unique<Stream>();
      stream->id = id;
      table.Add(std::move(stream));
      order.push_back(id);
    } else {
      ASSERT_EQ(table.Remove(*found)->id, id);
      order.erase(at);
    }
    ASSERT_EQ(table.size(), order.size());
    if (step % 997 == 0) {
      size_t i = 0;
      for (Stream* s = table.oldest(); s != nullptr; s = s->newer) ASSERT_EQ(s->id, order[i++]);
      ASSERT_EQ(i, order.size());
    }
  }
}

TEST(RequestHeaders, ContentTypes) {
  const auto is = [](std::string_view type) {
    bool foreign = false;
    const bool grpc = IsGrpcContentType(type, foreign);
    return std::string(grpc ? "grpc" : "no") + (foreign ? " foreign" : "");
  };
  EXPECT_EQ(is("application/grpc"), "grpc");
  EXPECT_EQ(is("application/grpc+proto"), "grpc");
  EXPECT_EQ(is("application/grpc+proto;x=y"), "grpc");
  EXPECT_EQ(is("application/grpc;charset=utf-8"), "grpc");
  EXPECT_EQ(is("application/grpc+json"), "grpc foreign");
  EXPECT_EQ(is("application/grpc-web"), "no");
  EXPECT_EQ(is("application/grpcx"), "no");
  EXPECT_EQ(is("application/json"), "no");
  EXPECT_EQ(is(""), "no");
}

TEST(RequestHeaders, GrpcMessagesArePercentDecoded) {
  const auto decoded = [](std::string_view text) {
    std::string out;
    DecodeGrpcMessage(text, out);
    return out;
  };
  EXPECT_EQ(decoded("plain"), "plain");
  EXPECT_EQ(decoded("a%20b%E4%b8%ad"), "a b\xE4\xB8\xAD");
  EXPECT_EQ(decoded("100%"), "100%");
  EXPECT_EQ(decoded("%2"), "%2");
  EXPECT_EQ(decoded("%zz%41"), "%zzA");
}

TEST(WireFields, VarintsEndWithinTenBytes) {
  const auto parses = [](std::string_view bytes) { return ParsesAsFields(AsBytes(bytes)); };
  EXPECT_TRUE(parses(std::string_view("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11)));
  EXPECT_FALSE(parses(std::string_view("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", 11)));
  EXPECT_FALSE(parses(std::string_view("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 12)));
  EXPECT_FALSE(parses(std::string_view("\x00\x01", 2)));  // field 0
  EXPECT_FALSE(parses("\x0B"));                           // a group
  EXPECT_FALSE(parses("\x0F"));                           // wire type 7
  EXPECT_FALSE(
      parses("\x0A\x05"
             "abc"));
  EXPECT_TRUE(parses(""));
}

}  // namespace
}  // namespace keytrail::grpc
