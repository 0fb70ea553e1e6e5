#include <algorithm>

#include "collector/correlate/correlator.h"
#include "collector/store/store_state.h"
#include "common/key_codec.h"
#include "common/plain_text.h"

namespace keytrail {

namespace {

// Entries remembered for interning; beyond, all are forgotten and a connection may get a second row.
constexpr size_t kMaxRemembered = 65536;
// A statement's id has 16 bits for its position.
constexpr uint32_t kMaxNumberedStatements = 0x10000;

constexpr const char* kRouteKinds[] = {"context", "task", "region_info"};

// What hosts say to each other may be any bytes; a TEXT column holds text.
std::string_view Plain(std::string_view text, std::string& room) {
  if (IsPlainText(text)) return text;
  room = PlainText(text);
  return room;
}

std::string Placeholders(int n) {
  std::string out = "(?";
  for (int i = 1; i < n; ++i) out += ",?";
  return out + ")";
}

}  // namespace

Status CallRowWriter::Prepare(sqlite3* db) {
  db_ = db;
  const struct {
    SqlStatement* statement;
    const char* table;
    int columns;
  } kInserts[] = {
      {&call_, "call_rows", 39},     {&key_, "call_keys", 10},          {&route_, "routes", 15},
      {&asked_, "asked_regions", 3}, {&statement_, "statements", 12},   {&error_, "errors", 23},
      {&method_, "methods", 3},      {&connection_, "connections", 13}, {&amendment_, "amendments", 5}};
  for (const auto& insert : kInserts) {
    Result<SqlStatement> prepared = SqlStatement::Prepare(
        db, std::string(insert.statement == &amendment_ ? "INSERT OR REPLACE INTO " : "INSERT INTO ") +
                insert.table + " VALUES " + Placeholders(insert.columns));
    if (!prepared) return Error{prepared.error()};
    *insert.statement = std::move(*prepared);
  }
  return Done{};
}

Status CallRowWriter::Reload(int64_t first_id) {
  methods_.clear();
  connections_.clear();
  const auto next = [&](const char* table, int64_t& id) {
    Result<SqlStatement> last =
        SqlStatement::Prepare(db_, std::string("SELECT coalesce(max(id), 0) FROM ") + table);
    if (!last || last->Step() != SQLITE_ROW) return false;
    id = std::max(first_id, last->ColumnSigned(0) + 1);
    return true;
  };
  if (!next("methods", next_method_) || !next("connections", next_connection_)) {
    return Error{sqlite3_errmsg(db_)};
  }
  Result<SqlStatement> all = SqlStatement::Prepare(db_, "SELECT id, method, command FROM methods");
  if (!all) return Error{all.error()};
  while (all->Step() == SQLITE_ROW) {
    methods_.emplace(all->ColumnText(1) + '\0' + all->ColumnText(2), all->ColumnSigned(0));
  }
  return Done{};
}

bool CallRowWriter::MethodId(const CallRecord& call, int64_t& id) {
  room_a_.assign(call.method).append(1, '\0').append(call.command);
  const auto found = methods_.find(room_a_);
  if (found != methods_.end()) {
    id = found->second;
    return true;
  }
  if (methods_.size() >= kMaxRemembered) methods_.clear();
  id = next_method_;
  method_.Signed(id).TextOrNull(Plain(call.method, room_b_)).TextOrNull(Plain(call.command, room_c_));
  if (!method_.Run()) return false;
  ++next_method_;
  methods_.emplace(room_a_, id);
  return true;
}

bool CallRowWriter::ConnectionId(uint32_t agent, const CallRecord& call, int64_t& id) {
  const ConnectionKey key{agent,
                          call.connection,
                          call.client,
                          call.server,
                          call.client_process,
                          call.server_process,
                          call.client_known,
                          call.joined_at_start};
  const auto found = connections_.find(key);
  if (found != connections_.end()) {
    id = found->second;
    return true;
  }
  if (connections_.size() >= kMaxRemembered) connections_.clear();
  const std::string client = FormatEndpoint(call.client);
  const std::string client_address = FormatAddress(call.client.address);
  const std::string server = FormatEndpoint(call.server);
  const std::string server_address = FormatAddress(call.server.address);
  id = next_connection_;
  connection_.Signed(id).Number(agent).Number(call.connection).Text(client).Text(client_address);
  connection_.Text(server).Text(server_address).Number(call.client_known);
  connection_.Text(call.joined_at_start ? "start" : "late");
  connection_.NumberOrNull(call.client_process.known(), call.client_process.pid);
  connection_.TextOrNull(Plain(call.client_process.text(), room_b_));
  connection_.NumberOrNull(call.server_process.known(), call.server_process.pid);
  connection_.TextOrNull(Plain(call.server_process.text(), room_c_));
  if (!connection_.Run()) return false;
  ++next_connection_;
  connections_.emplace(key, id);
  return true;
}

// Keys are compared in encoded form. An empty bound stays empty: it is an infinity and no key.
Bytes CallRowWriter::Encoded(Bytes key, KeyForm form, bool raw_keyspace, bool is_bound,
                             std::string& room) const {
  if (form != KeyForm::kRaw || raw_keyspace || (is_bound && key.empty())) return key;
  room.clear();
  EncodeKeyTo(key, room);
  return AsBytes(room);
}

bool CallRowWriter::WriteKeys(uint64_t call_id, int side, const MessageFacts& facts) {
  uint64_t n = 0;
  for (const KeyItem& key : facts.keys) {
    key_.Number(call_id).Signed(side).Number(n++).Number(key.route).Number(key.is_range);
    key_.Number(key.reverse).Number(key.previous).Text(KeyFormName(key.form));
    key_.Blob(Encoded(key.start, key.form, facts.raw_keyspace, key.is_range, room_a_));
    key_.BlobOrNull(key.is_range, Encoded(key.end, key.form, facts.raw_keyspace, true, room_b_));
    if (!key_.Run()) return false;
  }
  return true;
}

bool CallRowWriter::WriteRoutes(uint64_t call_id, const MessageFacts& facts) {
  uint64_t n = 0;
  for (const Route& r : facts.routes) {
    route_.Number(call_id).Number(n++).Text(kRouteKinds[static_cast<size_t>(r.kind)]).Number(r.region_id);
    route_.NumberOrNull(r.has_epoch, r.conf_ver).NumberOrNull(r.has_epoch, r.version);
    route_.Number(r.peer_id).Number(r.store_id).Number(r.task_id).Number(r.buckets_version);
    route_.Number(r.api_version).NumberOrNull(r.keyspace_id != 0xFFFFFFFF, r.keyspace_id);
    if (!route_.Number(r.replica_read).Number(r.stale_read).Number(r.is_retry).Run()) return false;
  }
  n = 0;
  for (uint64_t region : facts.asked_region_ids) {
    if (!asked_.Number(call_id).Number(n++).Number(region).Run()) return false;
  }
  return true;
}

bool CallRowWriter::WriteStatements(uint64_t call_id, uint32_t first, TimeNs time,
                                    const MessageFacts& facts) {
  uint32_t n = first;
  std::string& peers = room_a_;
  for (const RegionStatement& s : facts.statements) {
    if (n >= kMaxNumberedStatements) return true;
    peers.clear();
    for (uint32_t i = 0; i < s.peer_count; ++i) {
      const RegionStatement::Peer& peer = facts.peers[s.first_peer + i];
      if (i != 0) peers += ' ';
      peers +=
          std::to_string(peer.id) + ':' + std::to_string(peer.store_id) + ':' + std::to_string(peer.role);
    }
    statement_.Number(Correlator::StatementId(call_id, n++)).Number(call_id);
    statement_.Text(StatementSourceName(s.source));
    if (time.known()) {
      statement_.Signed(time.ns);
    } else {
      statement_.Null();
    }
    statement_.Number(s.region_id).NumberOrNull(s.has_epoch, s.conf_ver).NumberOrNull(s.has_epoch, s.version);
    statement_.Blob(s.start).Blob(s.end).Number(s.leader_peer_id).Number(s.leader_store_id);
    if (!statement_.Text(peers).Run()) return false;
  }
  return true;
}

bool CallRowWriter::WriteErrors(uint64_t call_id, int side, const MessageFacts& facts) {
  uint64_t n = 0;
  std::string text;
  for (const ErrorFact& e : facts.errors) {
    const auto encoded = [&](Bytes key, bool is_bound, std::string& room) {
      return Encoded(key, e.key_form, facts.raw_keyspace, is_bound, room);
    };
    error_.Number(call_id).Signed(side).Number(n++).Text(ErrorKindName(e.kind)).Number(e.from_text);
    error_.TextOrNull(Plain(AsText(e.text), text))
        .NumberOrNull(e.region_id != 0, e.region_id)
        .Number(e.route);
    error_.Number(e.task_id).BlobOrNull(e.has_key, encoded(e.key, false, room_a_));
    error_.BlobOrNull(e.has_range, encoded(e.range_start, true, room_b_));
    error_.BlobOrNull(e.has_range, encoded(e.range_end, true, room_c_));
    error_.BlobOrNull(e.has_bounds, encoded(e.start, true, room_d_));
    error_.BlobOrNull(e.has_bounds, encoded(e.end, true, room_e_));
    error_.Number(e.leader_peer_id).Number(e.leader_store_id).Number(e.request_store_id);
    error_.Number(e.actual_store_id).Number(e.current_conf_ver).Number(e.current_version);
    error_.Number(e.pd_error_type).Number(e.first_statement).Number(e.statement_count);
    if (!error_.Run()) return false;
  }
  return true;
}

bool CallRowWriter::WriteRow(uint64_t call_id, uint32_t agent, int64_t connection, int64_t method,
                             const CallRecord& call) {
  const MessageFacts* request = call.request;
  const MessageFacts* response = call.response;
  const Route* route = request != nullptr && !request->routes.empty() ? request->routes.data() : nullptr;
  SqlStatement& s = call_;
  s.Number(call_id).Number(agent).Signed(connection).Signed(method);
  s.Number(static_cast<uint64_t>(call.kind)).Number(static_cast<uint64_t>(call.method_from));
  s.Number(call.stream).Optional(call.request_id);
  for (TimeNs t : {call.req_first, call.req_last, call.resp_first, call.resp_last}) {
    if (t.known()) {
      s.Signed(t.ns);
    } else {
      s.Null();
    }
  }
  s.Number(call.req_bytes).Number(call.resp_bytes).Number(call.req_messages).Number(call.resp_messages);
  s.Optional(call.grpc_status).Optional(call.http_status).TextOrNull(Plain(call.grpc_message, room_a_));
  s.Number(uint64_t{call.reset} | uint64_t{call.forwarded} << 1 | uint64_t{call.follower_allowed} << 2);
  s.Number(call.incomplete);
  if (route != nullptr) {
    s.Number(route->region_id).NumberOrNull(route->has_epoch, route->conf_ver);
    s.NumberOrNull(route->has_epoch, route->version).Number(route->peer_id).Number(route->store_id);
  } else {
    s.Null().Null().Null().Null().Null();
  }
  const auto number = [&](uint64_t n) { s.NumberOrNull(n != 0, n); };
  if (request != nullptr) {
    number(request->start_ts);
    number(request->commit_ts);
    number(request->connection_id);
    number(request->task_id);
    number(request->limit);
    s.BlobOrNull(!request->trace_id.empty(), request->trace_id);
    s.BlobOrNull(!request->resource_group_tag.empty(), request->resource_group_tag);
    s.TextOrNull(Plain(request->request_source, room_b_)).TextOrNull(Plain(request->caller, room_c_));
    s.Number(request->value_bytes);
  } else {
    for (int i = 0; i < 10; ++i) s.Null();
  }
  if (response != nullptr) {
    s.Number(response->value_bytes).Number(response->pairs).Number(response->not_found);
  } else {
    s.Null().Null().Null();
  }
  return s.Run();
}

bool CallRowWriter::WriteAmendment(uint32_t agent, const CallRecord& amendment) {
  int64_t method = 0;
  if (!MethodId(amendment, method)) return false;
  amended_ = true;
  amendment_.Number(agent).Number(amendment.connection).Number(amendment.stream).Signed(method);
  return amendment_.Number(static_cast<uint64_t>(amendment.method_from)).Run();
}

bool CallRowWriter::Write(uint64_t call_id, uint32_t agent, const CallRecord& call) {
  if (call.kind == CallKind::kAmend) return WriteAmendment(agent, call);
  int64_t method = 0;
  int64_t connection = 0;
  if (!MethodId(call, method) || !ConnectionId(agent, call, connection) ||
      !WriteRow(call_id, agent, connection, method, call)) {
    return false;
  }
  uint32_t statements = 0;
  if (call.request != nullptr) {
    const MessageFacts& facts = *call.request;
    if (!WriteKeys(call_id, 0, facts) || !WriteRoutes(call_id, facts) ||
        !WriteStatements(call_id, 0, call.req_last, facts) || !WriteErrors(call_id, 0, facts)) {
      return false;
    }
    statements = static_cast<uint32_t>(facts.statements.size());
  }
  if (call.response != nullptr) {
    const MessageFacts& facts = *call.response;
    return WriteKeys(call_id, 1, facts) && WriteStatements(call_id, statements, call.resp_first, facts) &&
           WriteErrors(call_id, 1, facts);
  }
  return true;
}

}  // namespace keytrail
