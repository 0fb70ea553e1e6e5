// JSON lines, one object a call (the contract is the table in the interface description; keys stay).
//
// Single thread. Times are integers, ns since the epoch; keys are lower-case hex as on the wire.
#pragma once

#include <array>
#include <map>
#include <string>

#include "agent/grpc/call_events.h"
#include "agent/ship/line_writer.h"
#include "common/counters.h"
#include "common/detail_level.h"

namespace keytrail {

struct JsonOptions {
  bool full = false;   // add request_text / response_text: the messages in protobuf text form
  bool raw = false;    // ... in the schema-less form
  bool marks = false;  // ‹ › around what --redact on would replace or leave out (common/redact_marks.h)
};

class JsonOutput final : public CallSink {
 public:
  JsonOutput(const Schema& schema, JsonOptions options, LineWriter& writer)
      : schema_(schema), options_(options), writer_(writer) {}

  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) override;

 private:
  const Schema& schema_;
  JsonOptions options_;
  LineWriter& writer_;
};

// What a decoding run counted, for the summary object and the summary text.
struct RunSummary {
  const Counters* counters = nullptr;
  const std::map<std::string, PathCounts, std::less<>>* counts_from_start = nullptr;  // as in GrpcDecoder
  const std::map<std::string, PathCounts, std::less<>>* counts_late = nullptr;
  const std::map<uint32_t, PathCounts>* sub_counts_from_start = nullptr;
  const Schema* schema = nullptr;
  DetailLevel detail = DetailLevel::kFull;           // at the end
  std::array<int64_t, kDetailLevels> degraded_ns{};  // how long each level lasted; the first is not told
  std::string input;                                 // path or device
  std::string stopped_by;  // empty: the input ended; else the reason (damage, interrupt, -c, --duration)
};
void AppendSummaryJson(const RunSummary& summary, std::string& out);
// A few lines for people.
std::string SummaryText(const RunSummary& summary);

void AppendJsonString(std::string_view text, std::string& out);

}  // namespace keytrail
