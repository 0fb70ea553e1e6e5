// The walker against protobuf's own parser: random messages of every type, merged messages, damaged bytes.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/schema/schema.h"
#include "common/key_codec.h"
#include "tests/unit/agent/schema/facts_oracle.h"
#include "tests/unit/agent/schema/message_maker.h"

namespace keytrail {
namespace {

using testing::FactLines;
using testing::MessageMaker;
using testing::ReadFacts;
namespace pb = google::protobuf;

const Schema& TheSchema() {
  static const std::unique_ptr<Schema> schema = std::move(Schema::Bundled().value());
  return *schema;
}

std::string Joined(std::vector<std::string> lines, bool sorted) {
  if (sorted) std::sort(lines.begin(), lines.end());
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

// `sorted`: the order of the wire is not that of the fields.
void ExpectSame(MessageType type, const pb::Message& parsed, const std::string& bytes, bool sorted,
                bool previous, MessageFacts& walked, bool merged = false) {
  // Exactly sized on the heap, for AddressSanitizer.
  const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
  SCOPED_TRACE(parsed.GetDescriptor()->full_name());
  walked.Reset();
  ASSERT_TRUE(TheSchema().Walk(type, exact, walked)) << parsed.GetDescriptor()->full_name();
  MessageFacts expected;
  ReadFacts(parsed, previous, expected);
  // Sizes are summed up as they come; of a scalar that comes twice protobuf keeps the last.
  // An error with kinds of both halves has no right kind: only how many there are is compared.
  if (merged) {
    expected.value_bytes = walked.value_bytes;
    // Two halves of pdpb.ResponseHeader with an error each are told as two.
    ASSERT_GE(walked.errors.size(), expected.errors.size());
    walked.errors.clear();
    expected.errors.clear();
    std::sort(walked.asked_region_ids.begin(), walked.asked_region_ids.end());
    std::sort(expected.asked_region_ids.begin(), expected.asked_region_ids.end());
  }
  ASSERT_EQ(Joined(FactLines(walked), sorted), Joined(FactLines(expected), sorted))
      << parsed.GetDescriptor()->full_name() << "\n"
      << parsed.DebugString() << HexLower(AsBytes(bytes));
}

bool IsInteresting(const std::string& name) {
  for (const char* package : {"kvrpcpb.", "coprocessor.", "pdpb.", "mpp.", "errorpb.", "tikvpb.", "cdcpb."}) {
    if (name.starts_with(package)) return true;
  }
  return false;
}

// Maps are written in any order.
bool HasMap(const std::string& name) {
  return name == "pdpb.QueryRegionResponse";
}

TEST(WalkerOracle, RandomMessagesOfEveryType) {
  MessageMaker maker(11);
  MessageFacts walked;
  size_t facts_seen = 0;
  for (const pb::Descriptor* type : maker.AllTypes()) {
    const MessageType id = TheSchema().FindMessage(type->full_name());
    ASSERT_NE(id, kNoType) << type->full_name();
    const int rounds = IsInteresting(type->full_name()) ? 60 : 10;
    for (int i = 0; i < rounds; ++i) {
      const auto m = maker.Random(type, i == 0 ? 0.0 : (i % 3 == 0 ? 0.9 : 0.5));
      ASSERT_NO_FATAL_FAILURE(
          ExpectSame(id, *m, m->SerializeAsString(), HasMap(type->full_name()), false, walked));
      facts_seen +=
          walked.routes.size() + walked.keys.size() + walked.statements.size() + walked.errors.size();
    }
  }
  EXPECT_GT(facts_seen, 10000u);  // the messages do say something
}

TEST(WalkerOracle, GetPrevRegion) {
  MessageMaker maker(12);
  MessageFacts walked;
  for (const char* path : {"/pdpb.PD/GetPrevRegion", "/routerpb.Router/GetPrevRegion"}) {
    const Method* method = TheSchema().FindMethod(path);
    ASSERT_NE(method, nullptr);
    EXPECT_EQ(TheSchema().MessageName(method->request), "pdpb.GetRegionRequest");
    for (int i = 0; i < 50; ++i) {
      const auto m = maker.Random(maker.Type("pdpb.GetRegionRequest"), 0.7);
      ASSERT_NO_FATAL_FAILURE(ExpectSame(method->request, *m, m->SerializeAsString(), false, true, walked));
    }
  }
}

// Two encodings one behind the other are one message: scalars of the second win, submessages merge.
TEST(WalkerOracle, MergedMessages) {
  MessageMaker maker(13);
  // In a oneof the last member counts, and a member that comes again after another one begins anew.
  maker.LeaveOut("keyspace_identity");
  MessageFacts walked;
  for (const pb::Descriptor* type : maker.AllTypes()) {
    if (!IsInteresting(type->full_name())) continue;
    // Members of a oneof do not merge, but replace each other; the walker has told the first by then. No
    // serializer writes two.
    if (type->oneof_decl_count() != 0) continue;
    // A list and the list of its leaders, each in two parts: the walker gives leaders by position so far.
    if (type->full_name() == "pdpb.ScanRegionsResponse" || type->full_name() == "pdpb.SyncRegionResponse")
      continue;
    const MessageType id = TheSchema().FindMessage(type->full_name());
    for (int i = 0; i < 20; ++i) {
      const std::string bytes =
          maker.Random(type, 0.4)->SerializeAsString() + maker.Random(type, 0.4)->SerializeAsString();
      const auto merged = maker.Empty(type);
      ASSERT_TRUE(merged->ParseFromString(bytes));
      ASSERT_NO_FATAL_FAILURE(ExpectSame(id, *merged, bytes, true, false, walked, true));
    }
  }
}

std::string Mutated(std::string bytes, std::mt19937& random) {
  for (int i = static_cast<int>(random() % 3); i >= 0 && !bytes.empty(); --i) {
    const size_t at = random() % bytes.size();
    switch (random() % 5) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
        break;
      case 2:
        bytes.erase(at, 1 + random() % 4);
        break;
      case 3:
        bytes.insert(at, 1, static_cast<char>(random()));
        break;
      default:
        bytes.resize(at);
        break;
    }
  }
  return bytes;
}

// Damaged bytes: the strict check and protobuf agree on what is valid, the walker never says less than the
// check, nothing is read beyond the message, and what is valid says the same facts.
TEST(WalkerOracle, DamagedBytes) {
  const pb::LogSilencer silence;
  MessageMaker maker(14);
  MessageFacts walked;
  int valid = 0;
  int damaged = 0;
  for (const pb::Descriptor* type : maker.AllTypes()) {
    if (!IsInteresting(type->full_name())) continue;
    const MessageType id = TheSchema().FindMessage(type->full_name());
    for (int i = 0; i < 40; ++i) {
      const std::string whole = maker.Random(type, 0.4)->SerializeAsString();
      const std::string bytes = Mutated(whole, maker.random());
      const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
      const StrictResult check = TheSchema().Check(id, exact);
      walked.Reset();
      const bool walk = TheSchema().Walk(id, exact, walked);
      EXPECT_EQ(walked.parse_failed, !walk);
      EXPECT_TRUE(walk || !check.valid || check.too_deep) << type->full_name() << " " << HexLower(exact);
      const auto parsed = maker.Empty(type);
      const bool pb_valid = parsed->ParsePartialFromString(bytes);
      // protobuf refuses strings that are not UTF-8; TiKV's Go peers do not.
      if (check.bad_strings == 0 && !check.too_deep) {
        EXPECT_EQ(check.valid, pb_valid) << type->full_name() << " " << HexLower(exact);
      }
      (pb_valid ? valid : damaged)++;
    }
  }
  EXPECT_GT(valid, 1000);
  EXPECT_GT(damaged, 1000);
}

TEST(WalkerOracle, RandomBytesOfEveryType) {
  MessageMaker maker(15);
  MessageFacts walked;
  for (const pb::Descriptor* type : maker.AllTypes()) {
    const MessageType id = TheSchema().FindMessage(type->full_name());
    for (int i = 0; i < 20; ++i) {
      std::vector<uint8_t> bytes(maker.random()() % 60);
      for (uint8_t& b : bytes) b = static_cast<uint8_t>(maker.random()() % (i % 2 == 0 ? 256 : 40));
      walked.Reset();
      const bool walk = TheSchema().Walk(id, bytes, walked);
      const StrictResult check = TheSchema().Check(id, bytes);
      EXPECT_TRUE(walk || !check.valid);
    }
  }
}

TEST(WalkerOracle, WhatSerializersWriteIsStrictlyRight) {
  MessageMaker maker(16);
  for (const pb::Descriptor* type : maker.AllTypes()) {
    const MessageType id = TheSchema().FindMessage(type->full_name());
    const auto m = maker.Random(type, 0.6);
    const std::string bytes = m->SerializeAsString();
    const StrictResult r = TheSchema().Check(id, AsBytes(bytes));
    EXPECT_TRUE(r.valid) << type->full_name();
    EXPECT_EQ(r.known_fields, r.fields);
    EXPECT_EQ(r.unknown_fields + r.wrong_wire_types + r.repeated_singular + r.oneof_conflicts + r.bad_bools +
                  r.bad_strings,
              0u)
        << type->full_name();
  }
}

}  // namespace
}  // namespace keytrail
