// Text for people, one line a message, in the manner of tcpdump: the request "->", the response "<-".
//
// Single thread. Times are the local time of this machine, as tcpdump prints them.
#pragma once

#include <ctime>
#include <string>

#include "agent/grpc/call_events.h"
#include "agent/ship/line_writer.h"

namespace keytrail {

struct TextOptions {
  bool full = false;      // the whole message below its line, protobuf text form
  bool raw = false;       // ... in the schema-less form
  bool hex_keys = false;  // keys as hex instead of t53_r8012
  bool marks = false;  // ‹ › around what --redact on would replace or leave out (common/redact_marks.h)
};

class TextOutput final : public CallSink {
 public:
  TextOutput(const Schema& schema, TextOptions options, LineWriter& writer)
      : schema_(schema), options_(options), writer_(writer) {}

  void OnMessage(const MessageEvent& event) override;
  // Only what no message line told: streams that end with an error, calls without any message.
  void OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) override;

 private:
  void AppendHead(const CallRecord& call, TimeNs time, bool is_response);
  void AppendRequest(const MessageEvent& event);
  void AppendResponse(const MessageEvent& event);
  void AppendKey(Bytes key, KeyForm form, bool is_end = false);
  void AppendSensitive(std::string_view text);
  void AppendForeign(std::string_view text);
  void AppendTime(TimeNs time);

  const Schema& schema_;
  TextOptions options_;
  LineWriter& writer_;
  int64_t cached_second_ = -1;
  char cached_text_[24] = {};
};

// "KvGet" for "Get", as TiKV's own method is called; "RawGet", "Coprocessor" stay.
std::string CommandText(std::string_view command);

}  // namespace keytrail
