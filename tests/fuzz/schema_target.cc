// Messages of every type through the field walker, the strict check and the printers.
//
// Input: 2 bytes that choose the type, 1 byte (bit 0: walk it twice, the second time over used facts), then
// the message.
//
// Protobuf's own parser is the judge of what is valid. What it has understood and written again must give the
// same facts as reflection gives (tests/unit/agent/schema/facts_oracle.h).
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>

#include <algorithm>

#include "agent/schema/schema.h"
#include "tests/fuzz/call_checks.h"
#include "tests/fuzz/input.h"
#include "tests/unit/agent/schema/facts_oracle.h"
#include "tests/unit/agent/schema/message_maker.h"

namespace keytrail::fuzz {
namespace {

namespace pb = google::protobuf;

struct Judge {
  Judge() : maker(1), types(maker.AllTypes()) {
    std::sort(types.begin(), types.end(),
              [](const auto* a, const auto* b) { return a->full_name() < b->full_name(); });
  }
  testing::MessageMaker maker;
  std::vector<const pb::Descriptor*> types;
};

Judge& TheJudge() {
  static Judge judge;
  return judge;
}

std::string Written(const pb::Message& m) {
  std::string out;
  pb::io::StringOutputStream stream(&out);
  pb::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  KEYTRAIL_REQUIRE(m.SerializePartialToCodedStream(&coded));
  coded.Trim();
  return out;
}

// `sorted`: maps are walked in the order of the wire.
std::string Lines(const MessageFacts& facts, bool sorted) {
  std::vector<std::string> lines = testing::FactLines(facts);
  if (sorted) std::sort(lines.begin(), lines.end());
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

void CompareFacts(MessageType type, const pb::Message& parsed) {
  const std::string bytes = Written(parsed);
  MessageFacts walked;
  KEYTRAIL_REQUIRE(TheSchema().Walk(type, AsBytes(bytes), walked));
  CheckFacts(walked);
  if (walked.over_cap) return;
  MessageFacts expected;
  testing::ReadFacts(parsed, false, expected);
  const bool sorted = parsed.GetDescriptor()->full_name() == "pdpb.QueryRegionResponse";
  const std::string got = Lines(walked, sorted);
  const std::string wanted = Lines(expected, sorted);
  if (got != wanted) {
    std::fprintf(stderr, "%s\n%s\nwalked:\n%s\nby reflection:\n%s\n",
                 parsed.GetDescriptor()->full_name().c_str(), parsed.DebugString().c_str(), got.c_str(),
                 wanted.c_str());
    KEYTRAIL_REQUIRE(got == wanted);
  }
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  const google::protobuf::LogSilencer silence;
  Judge& judge = TheJudge();
  const Schema& schema = TheSchema();
  Input input(data, size);
  const google::protobuf::Descriptor* descriptor = judge.types[input.Two() % judge.types.size()];
  const bool twice = input.Byte() & 1;
  const Bytes rest = input.Rest();
  // Exactly as large as the message, for AddressSanitizer.
  const std::vector<uint8_t> message(rest.begin(), rest.end());
  const MessageType type = schema.FindMessage(descriptor->full_name());
  KEYTRAIL_REQUIRE(type != kNoType && schema.MessageName(type) == descriptor->full_name());

  MessageFacts facts;
  bool walked = schema.Walk(type, message, facts);
  if (twice) {
    const std::vector<std::string> first = testing::FactLines(facts);
    facts.Reset();
    walked = schema.Walk(type, message, facts);
    KEYTRAIL_REQUIRE(testing::FactLines(facts) == first);
  }
  KEYTRAIL_REQUIRE(facts.parse_failed == !walked);
  CheckFacts(facts);

  const StrictResult check = schema.Check(type, message);
  KEYTRAIL_REQUIRE(check.known_fields + check.unknown_fields + check.wrong_wire_types <= check.fields);
  // The walk skips what has no meaning, so it may accept more, never less.
  KEYTRAIL_REQUIRE(walked || !check.valid || check.too_deep);

  const std::unique_ptr<google::protobuf::Message> parsed = judge.maker.Empty(descriptor);
  const bool valid = parsed->ParsePartialFromArray(message.data(), static_cast<int>(message.size()));
  // protobuf refuses strings that are not UTF-8; TiKV's peers do not.
  if (check.bad_strings == 0 && !check.too_deep) KEYTRAIL_REQUIRE(check.valid == valid);
  if (valid && !check.too_deep) CompareFacts(type, *parsed);

  for (const bool single_line : {false, true}) {
    const std::string full = schema.FullText(type, message, single_line);
    const std::string raw = RawText(message, single_line);
    if (single_line) {
      KEYTRAIL_REQUIRE(full.find('\n') == std::string::npos && raw.find('\n') == std::string::npos);
    }
  }
  return 0;
}
