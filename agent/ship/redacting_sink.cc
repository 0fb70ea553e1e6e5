#include "agent/ship/redacting_sink.h"

#include "common/key_codec.h"

namespace keytrail {

Redaction RedactionBy(const std::optional<RedactSecret>& secret) {
  if (!secret) return {Redaction::Mode::kOff, ""};
  return {Redaction::Mode::kOn, KeyTokens(*secret).Fingerprint()};
}

void RedactingSink::Key(Bytes& key, MessageFacts& room) {
  key = room.arena.Copy(tokens_.Token(key));
}

const MessageFacts* RedactingSink::Facts(const MessageFacts* from, MessageFacts& to) {
  if (from == nullptr) return nullptr;
  to.Reset();
  to.routes = from->routes;
  to.keys = from->keys;
  to.statements = from->statements;
  to.peers = from->peers;
  to.errors = from->errors;
  to.asked_region_ids = from->asked_region_ids;
  to.key_id_map = from->key_id_map;
  to.prev_key_id_map = from->prev_key_id_map;
  to.cluster_id = from->cluster_id;
  to.start_ts = from->start_ts;
  to.commit_ts = from->commit_ts;
  to.connection_id = from->connection_id;
  to.task_id = from->task_id;
  to.limit = from->limit;
  to.store_id = from->store_id;
  // A trace id is whatever the application says.
  to.resource_group_tag = from->resource_group_tag;
  to.request_source = from->request_source;
  to.caller = from->caller;
  to.value_bytes = from->value_bytes;
  to.pairs = from->pairs;
  to.not_found = from->not_found;
  to.contain_all_key_range = from->contain_all_key_range;
  to.raw_keyspace = from->raw_keyspace;
  to.over_cap = from->over_cap;
  to.parse_failed = from->parse_failed;

  for (KeyItem& item : to.keys) {
    // As the correlator compares them (RouteLedger, PhysicalForm). Of an API version that nobody knows the
    // form is not known, and stays so.
    const uint32_t api = item.route < to.routes.size() ? to.routes[item.route].api_version : 0;
    const bool encode = item.form == KeyForm::kRaw && !(to.raw_keyspace && api != 2);
    for (Bytes* key : {&item.start, &item.end}) {
      if (!item.is_range && key == &item.end) continue;
      if (encode && !(item.is_range && key->empty())) {
        encoded_.clear();
        EncodeKeyTo(*key, encoded_);
        *key = AsBytes(encoded_);
      }
      Key(*key, to);
    }
    item.form = item.form == KeyForm::kRaw && api >= 3 ? KeyForm::kNone : KeyForm::kEncoded;
  }
  for (RegionStatement& statement : to.statements) {
    Key(statement.start, to);
    Key(statement.end, to);
  }
  for (ErrorFact& error : to.errors) {
    error.text = {};
    error.key = WithoutMvccSuffix(error.key);
    if (error.key_form == KeyForm::kRaw) {
      for (Bytes* key : {&error.range_start, &error.range_end}) {
        if (!error.has_range || (key == &error.range_end && key->empty())) continue;
        encoded_.clear();
        EncodeKeyTo(*key, encoded_);
        *key = to.arena.Copy(AsBytes(encoded_));
      }
      error.key_form = KeyForm::kEncoded;
    }
    for (Bytes* key : {&error.key, &error.range_start, &error.range_end, &error.start, &error.end}) {
      Key(*key, to);
    }
  }
  return &to;
}

void RedactingSink::Record(const CallRecord& call) {
  record_ = call;
  record_.grpc_message = {};
  record_.request_message = record_.response_message = {};
}

void RedactingSink::OnMessage(const MessageEvent& event) {
  Record(*event.call);
  record_.request = record_.response = nullptr;
  MessageEvent redacted = event;
  redacted.call = &record_;
  redacted.facts = Facts(event.facts, event_);
  redacted.message = {};
  next_.OnMessage(redacted);
}

void RedactingSink::OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) {
  Record(call);
  record_.request = Facts(call.request, request_);
  record_.response = Facts(call.response, response_);
  next_.OnCall(record_, request_type, response_type);
}

}  // namespace keytrail
