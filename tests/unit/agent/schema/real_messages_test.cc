// The messages of real captures: walked facts against protobuf's parser, and how strictly they fit.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>

#include "agent/schema/schema.h"
#include "common/key_codec.h"
#include "tests/support/decode_file.h"
#include "tests/unit/agent/schema/facts_oracle.h"
#include "tests/unit/agent/schema/message_maker.h"

namespace keytrail {
namespace {

namespace fs = std::filesystem;
namespace pb = google::protobuf;
using testing::FactLines;
using testing::ReadFacts;

const Schema& TheSchema() {
  static const std::unique_ptr<Schema> schema = std::move(Schema::Bundled().value());
  return *schema;
}

struct Tally {
  uint64_t messages = 0;
  uint64_t compared = 0;
  uint64_t unknown_fields = 0;
  uint64_t strange = 0;  // anything else that no serializer of ours writes
  uint64_t invalid = 0;
};

class Comparer final : public CallSink {
 public:
  void OnCall(const CallRecord&, MessageType, MessageType) override {}

  void OnMessage(const MessageEvent& event) override {
    if (event.type == kNoType) return;
    const std::string name(TheSchema().MessageName(event.type));
    Tally& tally = tallies[name];
    ++tally.messages;
    const StrictResult check = TheSchema().Check(event.type, event.message);
    tally.unknown_fields += check.unknown_fields;
    tally.strange += check.wrong_wire_types + check.repeated_singular + check.out_of_order +
                     check.oneof_conflicts + check.bad_bools + check.bad_strings + check.unknown_enums;
    if (!check.valid) {
      ++tally.invalid;
      return;
    }
    walks_.Reset();
    TheSchema().Walk(event.type, event.message, walks_);
    for (const ErrorFact& error : walks_.errors) {
      ++errors[std::string(ErrorKindName(error.kind))];
      // A text that names keys is never left as a mere text.
      EXPECT_FALSE((error.kind == ErrorKind::kKeyAbort || error.kind == ErrorKind::kOtherError ||
                    error.kind == ErrorKind::kOtherRegionError) &&
                   (AsText(error.text).find("ange") != std::string_view::npos ||
                    AsText(error.text).find("out of") != std::string_view::npos))
          << AsText(error.text);
    }
    // The first ones of each type, and every answer with an error in it.
    MessageFacts walked;
    ASSERT_TRUE(TheSchema().Walk(event.type, event.message, walked));
    if (tally.compared >= 400 && walked.errors.empty()) return;
    ++tally.compared;
    const auto parsed = maker_.Empty(maker_.Type(name));
    ASSERT_TRUE(parsed->ParseFromArray(event.message.data(), static_cast<int>(event.message.size())));
    MessageFacts expected;
    const bool previous = event.call->method.ends_with("/GetPrevRegion");
    ReadFacts(*parsed, previous, expected);
    std::vector<std::string> have = FactLines(walked);
    std::vector<std::string> want = FactLines(expected);
    if (name == "pdpb.QueryRegionResponse") {  // a map: in any order
      std::sort(have.begin(), have.end());
      std::sort(want.begin(), want.end());
    }
    ASSERT_EQ(have, want) << name << "\n" << parsed->DebugString();
  }

  std::map<std::string, Tally> tallies;
  std::map<std::string, uint64_t> errors;  // by kind

 private:
  testing::MessageMaker maker_{1};
  MessageFacts walks_;
};

void Decode(const fs::path& file, Comparer& comparer) {
  GrpcOptions options;
  options.all = true;
  options.wants_messages = true;
  const auto decoded = testing::DecodeFile(file.string(), TheSchema(), options, comparer);
  ASSERT_TRUE(decoded.ok()) << decoded.error();
}

void Report(const Comparer& comparer) {
  for (const auto& [kind, count] : comparer.errors) std::cout << "error " << kind << ": " << count << "\n";
  for (const auto& [name, t] : comparer.tallies) {
    std::cout << name << ": " << t.messages << " messages, " << t.compared << " compared, "
              << t.unknown_fields << " unknown fields, " << t.strange << " strange, " << t.invalid
              << " invalid\n";
    EXPECT_EQ(t.invalid, 0u) << name;
    EXPECT_EQ(t.strange, 0u) << name;
  }
}

TEST(RealMessages, OfTheRepositorysCaptures) {
  const pb::LogSilencer silence;
  Comparer comparer;
  for (const char* scenario : {"healthy", "tidb_neighbour", "tikv_narrow", "pd_wide", "modern_pd_wide"}) {
    for (const char* host : {"tidb1", "tidb2", "pd1", "tikv1"}) {
      const fs::path file = fs::path(KEYTRAIL_TEST_DATA) / scenario / (std::string(host) + ".pcap.zst");
      if (!fs::exists(file)) continue;
      ASSERT_NO_FATAL_FAILURE(Decode(file, comparer)) << file;
    }
  }
  Report(comparer);
  for (const char* kind :
       {"key_out_of_region", "range_exceeds_bound", "key_not_in_region", "epoch_not_match"}) {
    EXPECT_GT(comparer.errors[kind], 0u) << kind;
  }
  for (const char* name : {"kvrpcpb.GetRequest", "kvrpcpb.GetResponse", "coprocessor.Request",
                           "pdpb.GetRegionResponse", "pdpb.QueryRegionResponse", "pdpb.GetRegionRequest"}) {
    EXPECT_GT(comparer.tallies[name].compared, 0u) << name;
  }
}

TEST(RealMessages, OfTheSharedCaptures) {
  const std::string shared = testing::SharedDataFolder();
  if (shared.empty()) GTEST_SKIP() << "the shared captures are not here (KEYTRAIL_SHARED_DATA)";
  const pb::LogSilencer silence;
  Comparer comparer;
  for (const char* file :
       {"modern_boot/pd1", "modern_boot/tidb1", "modern_healthy/tidb1", "tikv_narrow/tidb1"}) {
    const fs::path path = fs::path(shared) / "cluster" / (std::string(file) + ".pcap.zst");
    ASSERT_NO_FATAL_FAILURE(Decode(path, comparer)) << path;
  }
  Report(comparer);
}

}  // namespace
}  // namespace keytrail
