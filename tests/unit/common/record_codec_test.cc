#include "common/record_codec.h"

#include <gtest/gtest.h>

#include <random>

#include "common/limits.h"
#include "proto/keytrail/record.pb.h"
#include "tests/support/records.h"

namespace keytrail {
namespace {

std::vector<std::string> DescribeAll(const std::string& payload, std::string* error = nullptr,
                                     std::vector<LossRecord>* losses = nullptr) {
  std::vector<std::string> out;
  OwnedRecord record;
  BatchReader reader(AsBytes(payload));
  for (;;) {
    const Result<bool> more = reader.Next(record);
    if (!more) {
      if (error != nullptr) *error = more.error();
      break;
    }
    if (!*more) break;
    out.push_back(DescribeCall(record.call));
  }
  if (losses != nullptr) *losses = reader.losses();
  return out;
}

TEST(RecordCodec, EveryFieldComesBack) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    RandomRecords records(seed);
    BatchEncoder encoder;
    std::vector<std::string> expected;
    for (uint64_t n = 0; n < seed % 20 + 1; ++n) {
      const CallRecord& call = records.Any();
      expected.push_back(DescribeCall(call));
      encoder.Add(call);
    }
    EXPECT_EQ(encoder.records(), expected.size());
    std::string error;
    const std::vector<std::string> got = DescribeAll(encoder.Finish(), &error);
    ASSERT_EQ(error, "") << "seed " << seed;
    ASSERT_EQ(got, expected) << "seed " << seed;
    EXPECT_EQ(encoder.records(), 0u);
    EXPECT_TRUE(encoder.empty());
  }
}

// The encoder carries names, connections and times from record to record; none may leak into the next batch.
TEST(RecordCodec, BatchesOfOneEncoderAreIndependent) {
  RandomRecords records(5);
  BatchEncoder encoder;
  for (int batch = 0; batch < 50; ++batch) {
    const std::string expected = DescribeCall(records.Any());
    RandomRecords again(5);
    for (int i = 0; i < batch; ++i) again.Any();
    encoder.Add(again.Any());
    EXPECT_EQ(DescribeAll(encoder.Finish()), std::vector<std::string>{expected});
  }
}

// Oracle: protobuf's own parser reads what we write, field by field of the schema, and nothing is unknown.
TEST(RecordCodec, ProtobufReadsIt) {
  RandomRecords records(99);
  BatchEncoder encoder;
  for (int n = 0; n < 200; ++n) {
    const CallRecord& call = records.Any();
    encoder.Add(call);
    protocol::Payload payload;
    ASSERT_TRUE(payload.ParseFromString(encoder.Finish()));
    ASSERT_EQ(payload.records_size(), 1);
    const protocol::Record& r = payload.records(0);
    const auto name = [&](uint32_t i) {
      return i == 0 ? std::string() : payload.names(static_cast<int>(i) - 1);
    };
    EXPECT_EQ(name(r.method()), call.method);
    EXPECT_EQ(name(r.command()), call.command);
    EXPECT_EQ(r.kind(), static_cast<uint32_t>(call.kind));
    EXPECT_EQ(r.stream(), call.stream);
    EXPECT_EQ(r.has_request_id(), call.request_id.has_value());
    EXPECT_EQ(r.request_id(), call.request_id.value_or(0));
    EXPECT_EQ(r.has_req_first(), call.req_first.known());
    if (r.has_req_first()) {
      EXPECT_EQ(r.req_first(), call.req_first.ns);
    }
    EXPECT_EQ(r.has_request(), call.request != nullptr);
    EXPECT_EQ(r.has_response(), call.response != nullptr);
    EXPECT_EQ(payload.connections(0).serial(), call.connection);
    EXPECT_EQ(payload.connections(0).server_port(), call.server.port);
    if (call.request == nullptr) continue;
    ASSERT_EQ(static_cast<size_t>(r.request().routes_size()), call.request->routes.size());
    ASSERT_EQ(static_cast<size_t>(r.request().keys_size()), call.request->keys.size());
    ASSERT_EQ(static_cast<size_t>(r.request().errors_size()), call.request->errors.size());
    for (int i = 0; i < r.request().keys_size(); ++i) {
      EXPECT_EQ(r.request().keys(i).start(), AsText(call.request->keys[static_cast<size_t>(i)].start));
    }
    for (int i = 0; i < r.request().statements_size(); ++i) {
      EXPECT_EQ(r.request().statements(i).version(),
                call.request->statements[static_cast<size_t>(i)].version);
      EXPECT_EQ(r.request().statements(i).peers_size(),
                static_cast<int>(3 * call.request->statements[static_cast<size_t>(i)].peer_count));
    }
    EXPECT_EQ(name(r.request().caller()), call.request->caller);
    EXPECT_EQ(r.request().cluster_id(), call.request->cluster_id);
  }
}

// Oracle the other way: what protobuf writes in its own order and form, our reader reads alike. Serializing
// twice through protobuf puts all names and connections first.
TEST(RecordCodec, ReadsWhatProtobufWrites) {
  RandomRecords records(7);
  BatchEncoder encoder;
  std::vector<std::string> expected;
  for (int n = 0; n < 100; ++n) {
    const CallRecord& call = records.Any();
    expected.push_back(DescribeCall(call));
    encoder.Add(call);
  }
  encoder.AddLoss({"kernel_drops", 17, -5, 9});
  protocol::Payload payload;
  ASSERT_TRUE(payload.ParseFromString(encoder.Finish()));
  std::string error;
  std::vector<LossRecord> losses;
  EXPECT_EQ(DescribeAll(payload.SerializeAsString(), &error, &losses), expected);
  EXPECT_EQ(error, "");
  ASSERT_EQ(losses.size(), 1u);
  EXPECT_EQ(losses[0].kind, "kernel_drops");
  EXPECT_EQ(losses[0].count, 17u);
  EXPECT_EQ(losses[0].first_ns, -5);
  EXPECT_EQ(losses[0].last_ns, 9);
}

TEST(RecordCodec, FieldsOfANewerAgentAreSkipped) {
  RandomRecords records(8);
  BatchEncoder encoder;
  const std::string expected = DescribeCall(records.Any());
  RandomRecords again(8);
  encoder.Add(again.Any());
  // Field 100, a string, before and after.
  const std::string extra("\xA2\x06\x03new", 6);
  EXPECT_EQ(DescribeAll(extra + encoder.Finish() + extra), std::vector<std::string>{expected});
}

TEST(RecordCodec, CutAnywhereIsAnErrorOrEndsBetweenRecords) {
  RandomRecords records(3);
  BatchEncoder encoder;
  std::vector<std::string> expected;
  for (int n = 0; n < 6; ++n) {
    const CallRecord& call = records.Any();
    expected.push_back(DescribeCall(call));
    encoder.Add(call);
  }
  const std::string whole = encoder.Finish();
  for (size_t size = 0; size < whole.size(); ++size) {
    std::string error;
    const std::vector<std::string> got = DescribeAll(whole.substr(0, size), &error);
    ASSERT_LE(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], expected[i]) << "cut at " << size;
    if (!error.empty()) {
      EXPECT_NE(error.find("offset"), std::string::npos);
    }
  }
}

// Nothing in a payload is trusted: flipped bytes give an error or some record, never a read out of bounds
// (the sanitizer build is the oracle), and what comes out can be described, thus all indices are valid.
TEST(RecordCodec, DamagedBytes) {
  std::mt19937_64 random(11);
  RandomRecords records(4);
  BatchEncoder encoder;
  for (int n = 0; n < 5; ++n) encoder.Add(records.Any());
  const std::string whole = encoder.Finish();
  int errors = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = whole;
    for (uint64_t n = random() % 4 + 1; n > 0; --n) bad[random() % bad.size()] = static_cast<char>(random());
    std::string error;
    DescribeAll(bad, &error);
    errors += error.empty() ? 0 : 1;
  }
  EXPECT_GT(errors, 1000);
}

TEST(RecordCodec, IndicesThatLeadNowhereAreRefused) {
  protocol::Payload payload;
  protocol::Record* r = payload.add_records();
  r->set_kind(1);
  std::string error;
  DescribeAll(payload.SerializeAsString(), &error);
  EXPECT_NE(error.find("record damaged"), std::string::npos) << "no connection: " << error;

  payload.add_connections()->set_serial(1);
  error.clear();
  EXPECT_EQ(DescribeAll(payload.SerializeAsString(), &error).size(), 1u);
  EXPECT_EQ(error, "");

  r->set_method(1);
  DescribeAll(payload.SerializeAsString(), &error);
  EXPECT_NE(error, "") << "no name";
  r->clear_method();

  r->set_kind(9);
  error.clear();
  DescribeAll(payload.SerializeAsString(), &error);
  EXPECT_NE(error, "") << "no such kind";
  r->set_kind(2);

  r->mutable_request()->add_routes();
  r->mutable_request()->add_keys()->set_route(1);
  error.clear();
  DescribeAll(payload.SerializeAsString(), &error);
  EXPECT_NE(error, "") << "no such route";
  r->mutable_request()->clear_keys();

  r->mutable_request()->add_errors()->set_statement_count(1);
  error.clear();
  DescribeAll(payload.SerializeAsString(), &error);
  EXPECT_NE(error, "") << "no such statement";
  r->mutable_request()->clear_errors();

  r->mutable_request()->add_statements()->add_peers(1);
  error.clear();
  DescribeAll(payload.SerializeAsString(), &error);
  EXPECT_NE(error, "") << "a third of a peer";
}

// Two bytes on the wire must not become a hundred in memory without end.
TEST(RecordCodec, ListsAreBounded) {
  protocol::Payload payload;
  payload.add_connections();
  protocol::Record* r = payload.add_records();
  r->set_kind(1);
  for (size_t i = 0; i < limits::kMaxKeysPerMessage; ++i) r->mutable_request()->add_routes();
  std::string error;
  EXPECT_EQ(DescribeAll(payload.SerializeAsString(), &error).size(), 1u);
  EXPECT_EQ(error, "");
  r->mutable_request()->add_routes();
  EXPECT_EQ(DescribeAll(payload.SerializeAsString(), &error).size(), 0u);
  EXPECT_NE(error, "");
}

TEST(RecordCodec, TooLargeARecordGoesWithoutItsFacts) {
  OwnedRecord big;
  const std::string key(4 << 20, 'k');
  for (int i = 0; i < 4; ++i) {
    KeyItem& item = big.request.keys.emplace_back();
    item.start = AsBytes(key);
  }
  big.call.request = &big.request;
  big.call.method = "/tikvpb.Tikv/KvPrewrite";
  big.call.req_first = TimeNs{1000};
  BatchEncoder encoder;
  encoder.Add(big.call);
  big.call.request = nullptr;
  encoder.Add(big.call);
  EXPECT_LT(encoder.bytes(), 200u);
  const std::string payload = encoder.Finish();
  OwnedRecord got;
  BatchReader reader(AsBytes(payload));
  ASSERT_TRUE(*reader.Next(got));
  EXPECT_EQ(got.call.request, nullptr);
  EXPECT_EQ(got.call.incomplete, static_cast<uint32_t>(kOverCap));
  EXPECT_EQ(got.call.req_first.ns, 1000);
  ASSERT_TRUE(*reader.Next(got));
  EXPECT_EQ(got.call.incomplete, 0u);
  EXPECT_EQ(got.call.req_first.ns, 1000);
}

TEST(RecordCodec, ListsOverTheCapAreClippedAndTold) {
  OwnedRecord big;
  big.request.asked_region_ids.assign(limits::kMaxKeysPerMessage + 5, 3);
  big.request.not_found = true;
  big.call.request = &big.request;
  BatchEncoder encoder;
  encoder.Add(big.call);
  const std::string payload = encoder.Finish();
  OwnedRecord got;
  BatchReader reader(AsBytes(payload));
  const Result<bool> more = reader.Next(got);
  ASSERT_TRUE(more.ok()) << more.error();
  EXPECT_EQ(got.request.asked_region_ids.size(), limits::kMaxKeysPerMessage);
  EXPECT_TRUE(got.request.over_cap);
  EXPECT_TRUE(got.request.not_found);
}

TEST(RecordCodec, CompressionRoundTripAndRefusals) {
  RandomRecords records(12);
  BatchEncoder encoder;
  for (int n = 0; n < 500; ++n) encoder.Add(records.Get());
  const std::string payload = encoder.Finish();
  const std::string small = CompressBatch(payload);
  EXPECT_LT(small.size(), payload.size() / 2);
  std::string back;
  ASSERT_TRUE(DecompressBatch(AsBytes(small), payload.size(), back).ok());
  EXPECT_EQ(back, payload);

  EXPECT_FALSE(DecompressBatch(AsBytes(small), payload.size() + 1, back).ok());
  EXPECT_FALSE(DecompressBatch(AsBytes(small), payload.size() - 1, back).ok());
  EXPECT_FALSE(DecompressBatch(AsBytes(small + small), payload.size(), back).ok());
  EXPECT_FALSE(DecompressBatch(AsBytes(small.substr(0, small.size() - 1)), payload.size(), back).ok());
  EXPECT_FALSE(DecompressBatch({}, 0, back).ok());
  const std::string bomb = CompressBatch(std::string(limits::kMaxPayloadBytes + 1, '\0'));
  EXPECT_LT(bomb.size(), 10000u);
  EXPECT_FALSE(DecompressBatch(AsBytes(bomb), limits::kMaxPayloadBytes + 1, back).ok());
}

}  // namespace
}  // namespace keytrail
