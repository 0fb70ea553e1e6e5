// The fields of Route, Key, Statement and Fault in record.proto, each named once for both directions.
//
// Visit…(archive, value) hands every field with its number to an archive: FieldWriter writes those that are
// not at their default, FieldReader takes the one that it holds. Used by common/record_codec.cc only.
#pragma once

#include <limits>
#include <optional>

#include "common/call_record.h"
#include "common/record_wire.h"

namespace keytrail {

template <class A, class T>
void VisitRoute(A& a, T& route) {
  a.Enum(1, route.kind, 2);
  a.Number(2, route.region_id);
  a.Number(3, route.conf_ver);
  a.Number(4, route.version);
  a.Number(5, route.peer_id);
  a.Number(6, route.store_id);
  a.Number(7, route.task_id);
  a.Number(8, route.buckets_version);
  a.Number(9, route.api_version);
  a.Unless(10, route.keyspace_id, 0xFFFFFFFF);
  a.Flags(11, route.has_epoch, route.replica_read, route.stale_read, route.is_retry);
}

template <class A, class T>
void VisitKey(A& a, T& key) {
  a.String(1, key.start);
  a.String(2, key.end);
  a.Enum(3, key.form, 2);
  a.Flags(4, key.is_range, key.reverse, key.previous);
  a.Number(5, key.route);
}

// Without the peers.
template <class A, class T>
void VisitStatement(A& a, T& statement) {
  a.Number(2, statement.region_id);
  a.Number(3, statement.conf_ver);
  a.Number(4, statement.version);
  a.Flags(5, statement.has_epoch);
  a.String(6, statement.start);
  a.String(7, statement.end);
  a.Number(8, statement.leader_peer_id);
  a.Number(9, statement.leader_store_id);
}

template <class A, class T>
void VisitFault(A& a, T& error) {
  a.String(2, error.text);
  a.Number(3, error.region_id);
  a.Number(4, error.route);
  a.Number(5, error.task_id);
  a.String(6, error.key);
  a.String(7, error.range_start);
  a.String(8, error.range_end);
  a.String(9, error.start);
  a.String(10, error.end);
  a.Flags(11, error.from_text, error.has_key, error.has_range, error.has_bounds);
  a.Enum(12, error.key_form, 2, KeyForm::kEncoded);
  a.Number(13, error.leader_peer_id);
  a.Number(14, error.leader_store_id);
  a.Number(15, error.request_store_id);
  a.Number(16, error.actual_store_id);
  a.Number(17, error.current_conf_ver);
  a.Number(18, error.current_version);
  a.Number(19, error.pd_error_type);
  a.Number(20, error.first_statement);
  a.Number(21, error.statement_count);
}

// The numbers and strings of Facts; lists and names are the codec's.
template <class A, class T>
void VisitFacts(A& a, T& facts) {
  a.Fixed(8, facts.cluster_id);
  a.Number(9, facts.start_ts);
  a.Number(10, facts.commit_ts);
  a.Number(11, facts.connection_id);
  a.Number(12, facts.task_id);
  a.Number(13, facts.limit);
  a.Number(14, facts.store_id);
  a.Flags(15, facts.not_found, facts.contain_all_key_range, facts.raw_keyspace, facts.over_cap,
          facts.parse_failed);
  a.String(16, facts.trace_id);
  a.String(17, facts.resource_group_tag);
  a.Number(20, facts.value_bytes);
  a.Number(21, facts.pairs);
}

// What stands in the record itself; connection, names, times and facts are the codec's.
template <class A, class T>
void VisitRecord(A& a, T& call) {
  a.Enum(4, call.kind, static_cast<unsigned>(CallKind::kAmend));
  a.Enum(5, call.method_from, 3);
  a.Number(6, call.stream);
  a.Optional(7, call.request_id);
  a.Number(12, call.req_bytes);
  a.Number(13, call.resp_bytes);
  a.Number(16, call.req_messages);
  a.Number(17, call.resp_messages);
  a.Optional(18, call.grpc_status);
  a.Optional(19, call.http_status);
  a.String(20, call.grpc_message);
  a.Flags(21, call.reset, call.forwarded, call.follower_allowed);
  a.Number(22, call.incomplete);
}

class FieldWriter {
 public:
  explicit FieldWriter(RecordWriter& out) : out_(out) {}

  void Number(uint32_t field, uint64_t n) {
    if (n != 0) out_.Varint(field, n);
  }
  void Fixed(uint32_t field, uint64_t n) {
    if (n != 0) out_.Fixed64(field, n);
  }
  void Unless(uint32_t field, uint32_t n, uint32_t absent) {
    if (n != absent) out_.Varint(field, n);
  }
  template <class N>
  void Optional(uint32_t field, const std::optional<N>& n) {
    if (n.has_value()) out_.Varint(field, *n);
  }
  // `absent` is the value that is not written; a struct's default must be the same.
  template <class E>
  void Enum(uint32_t field, E e, unsigned, E absent = E{}) {
    if (e != absent) out_.Varint(field, static_cast<uint64_t>(e));
  }
  void String(uint32_t field, Bytes b) {
    if (!b.empty()) out_.String(field, b);
  }
  void String(uint32_t field, std::string_view s) { String(field, AsBytes(s)); }
  template <class... Bools>
  void Flags(uint32_t field, Bools... bits) {
    uint32_t n = 0;
    uint32_t bit = 1;
    ((n |= bits ? bit : 0, bit <<= 1), ...);
    Number(field, n);
  }

 private:
  RecordWriter& out_;
};

// Holds one field; takes it where the number fits. bad() if its type or size does not.
class FieldReader {
 public:
  FieldReader(const RecordField& field, ByteArena& arena) : field_(field), arena_(arena) {}

  bool bad() const { return bad_; }
  const RecordField& field() const { return field_; }

  template <class N>
  void Number(uint32_t field, N& n) {
    if (Takes(field, RecordWireType::kVarint)) Assign(n);
  }
  void Fixed(uint32_t field, uint64_t& n) {
    if (Takes(field, RecordWireType::kFixed64)) n = field_.value;
  }
  void Unless(uint32_t field, uint32_t& n, uint32_t) { Number(field, n); }
  template <class N>
  void Optional(uint32_t field, std::optional<N>& n) {
    if (!Takes(field, RecordWireType::kVarint)) return;
    N value = 0;
    Assign(value);
    n = value;
  }
  template <class E>
  void Enum(uint32_t field, E& e, unsigned largest, E = E{}) {
    if (!Takes(field, RecordWireType::kVarint)) return;
    if (field_.value > largest) bad_ = true;
    if (!bad_) e = static_cast<E>(field_.value);
  }
  void String(uint32_t field, Bytes& b) {
    if (Takes(field, RecordWireType::kBytes)) b = arena_.Copy(field_.bytes);
  }
  void String(uint32_t field, std::string_view& s) {
    if (Takes(field, RecordWireType::kBytes)) s = AsText(arena_.Copy(field_.bytes));
  }
  template <class... Bools>
  void Flags(uint32_t field, Bools&... bits) {
    if (!Takes(field, RecordWireType::kVarint)) return;
    uint64_t n = field_.value;
    ((bits = (n & 1) != 0, n >>= 1), ...);
  }

 private:
  bool Takes(uint32_t field, RecordWireType type) {
    if (field_.number != field) return false;
    if (field_.type != type) bad_ = true;
    return !bad_;
  }
  template <class N>
  void Assign(N& n) {
    if (field_.value > std::numeric_limits<N>::max()) {
      bad_ = true;
    } else {
      n = static_cast<N>(field_.value);
    }
  }

  const RecordField& field_;
  ByteArena& arena_;
  bool bad_ = false;
};

}  // namespace keytrail
