#include "tests/fuzz/call_checks.h"

#include "tests/fuzz/input.h"

namespace keytrail::fuzz {

const Schema& TheSchema() {
  static const std::unique_ptr<Schema> schema = [] {
    Result<std::unique_ptr<Schema>> bundled = Schema::Bundled();
    KEYTRAIL_REQUIRE(static_cast<bool>(bundled));
    return std::move(bundled.value());
  }();
  return *schema;
}

void CheckReferences(const MessageFacts& facts) {
  for (const KeyItem& item : facts.keys) {
    Touch(item.start);
    Touch(item.end);
    KEYTRAIL_REQUIRE(facts.routes.empty() || item.route < facts.routes.size());
  }
  for (const RegionStatement& s : facts.statements) {
    Touch(s.start);
    Touch(s.end);
    KEYTRAIL_REQUIRE(size_t{s.first_peer} + s.peer_count <= facts.peers.size());
  }
  for (const ErrorFact& e : facts.errors) {
    for (const Bytes bytes : {e.text, e.key, e.range_start, e.range_end, e.start, e.end}) Touch(bytes);
    KEYTRAIL_REQUIRE(!ErrorKindName(e.kind).empty());
    KEYTRAIL_REQUIRE(size_t{e.first_statement} + e.statement_count <= facts.statements.size());
  }
  Touch(facts.trace_id);
  Touch(facts.resource_group_tag);
  Touch(facts.request_source);
  Touch(facts.caller);
}

void CheckFacts(const MessageFacts& facts) {
  CheckReferences(facts);
  // A region without an id is no statement.
  for (const RegionStatement& s : facts.statements) KEYTRAIL_REQUIRE(s.region_id != 0);
}

void CallChecks::CheckCall(const CallRecord& call) const {
  for (const std::string_view text : {call.method, call.command, call.grpc_message}) Touch(text);
  KEYTRAIL_REQUIRE(call.method.empty() == (call.method_from == MethodFrom::kUnknown));
  KEYTRAIL_REQUIRE(call.incomplete >> kIncompleteBits == 0);
  // An end can be seen without its beginning.
  KEYTRAIL_REQUIRE(!call.req_first.known() || call.req_last.known());
  KEYTRAIL_REQUIRE(!call.resp_first.known() || call.resp_last.known());
  if (ordered_times) {
    KEYTRAIL_REQUIRE(call.req_first <= call.req_last && call.resp_first <= call.resp_last);
  }
  Touch(call.request_message);
  Touch(call.response_message);
}

void CallChecks::OnMessage(const MessageEvent& event) {
  KEYTRAIL_REQUIRE(options_.wants_messages && event.call != nullptr);
  CheckCall(*event.call);
  if (event.facts != nullptr) CheckFacts(*event.facts);
  Touch(event.message);
}

void CallChecks::OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) {
  CheckCall(call);
  KEYTRAIL_REQUIRE(options_.keep_messages || (call.request_message.empty() && call.response_message.empty()));
  KEYTRAIL_REQUIRE(call.kind == CallKind::kStream || (call.req_messages <= 1 && call.resp_messages <= 1));
  KEYTRAIL_REQUIRE(call.kind == CallKind::kSub || call.command.empty());
  Touch(TheSchema().MessageName(request_type));
  Touch(TheSchema().MessageName(response_type));
  if (call.request != nullptr) CheckFacts(*call.request);
  if (call.response != nullptr) CheckFacts(*call.response);
  encoder_.Add(call);
}

void CallChecks::Finish() {
  const size_t records = encoder_.records();
  const std::string payload = encoder_.Finish();
  BatchReader reader(AsBytes(payload));
  OwnedRecord record;
  for (size_t i = 0;; ++i) {
    const Result<bool> next = reader.Next(record);
    KEYTRAIL_REQUIRE(static_cast<bool>(next));
    KEYTRAIL_REQUIRE(*next == (i < records));
    if (!*next) return;
    CheckCall(record.call);
    if (record.call.request != nullptr) CheckFacts(*record.call.request);
    if (record.call.response != nullptr) CheckFacts(*record.call.response);
  }
}

}  // namespace keytrail::fuzz
