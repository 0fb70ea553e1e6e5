#include "tests/support/records.h"

#include <limits>
#include <sstream>

#include "common/key_codec.h"

namespace keytrail {

namespace {

// Compiles for as long as the structs have these fields: whoever adds one finds out here that it has to be
// shipped (common/record_codec.cc), described below, and made by RandomRecords.
[[maybe_unused]] void FieldsOfRecords(const CallRecord& call, const MessageFacts& facts, const Route& route,
                                      const KeyItem& key, const RegionStatement& statement,
                                      const ErrorFact& error) {
  [[maybe_unused]] const auto& [c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17,
                                c18, c19, c20, c21, c22, c23, c24, c25, c26, c27, c28, c29, c30, c31, c32] =
      call;
  [[maybe_unused]] const auto& [f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16, f17,
                                f18, f19, f20, f21, f22, f23, f24, f25, f26, f27] = facts;
  [[maybe_unused]] const auto& [r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14] = route;
  [[maybe_unused]] const auto& [k1, k2, k3, k4, k5, k6, k7] = key;
  [[maybe_unused]] const auto& [s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11] = statement;
  [[maybe_unused]] const auto& [e1, e2, e3, e4, e5, e6, e7, e8, e9, e10, e11, e12, e13, e14, e15, e16, e17,
                                e18, e19, e20, e21, e22, e23, e24] = error;
}

std::string Hex(Bytes b) {
  return "x" + HexLower(b);
}
std::string Hex(std::string_view s) {
  return Hex(AsBytes(s));
}

void DescribeStatements(const MessageFacts& f, std::ostringstream& out) {
  for (const RegionStatement& s : f.statements) {
    out << "  statement " << int(s.source) << ' ' << s.region_id << ' ' << s.conf_ver << ' ' << s.version
        << ' ' << s.has_epoch << ' ' << Hex(s.start) << ' ' << Hex(s.end) << ' ' << s.leader_peer_id << ' '
        << s.leader_store_id << " peers";
    for (uint32_t i = 0; i < s.peer_count; ++i) {
      const RegionStatement::Peer& p = f.peers[s.first_peer + i];
      out << ' ' << p.id << '/' << p.store_id << '/' << p.role;
    }
    out << '\n';
  }
}

void DescribeFacts(const char* side, const MessageFacts* facts, std::ostringstream& out) {
  out << side << (facts == nullptr ? ": none\n" : ":\n");
  if (facts == nullptr) return;
  const MessageFacts& f = *facts;
  for (const Route& r : f.routes) {
    out << "  route " << int(r.kind) << ' ' << r.region_id << ' ' << r.conf_ver << ' ' << r.version << ' '
        << r.peer_id << ' ' << r.store_id << ' ' << r.task_id << ' ' << r.buckets_version << ' '
        << r.api_version << ' ' << r.keyspace_id << ' ' << r.has_epoch << r.replica_read << r.stale_read
        << r.is_retry << '\n';
  }
  for (const KeyItem& k : f.keys) {
    out << "  key " << Hex(k.start) << ' ' << Hex(k.end) << ' ' << k.is_range << k.reverse << k.previous
        << ' ' << int(k.form) << ' ' << k.route << '\n';
  }
  DescribeStatements(f, out);
  for (const ErrorFact& e : f.errors) {
    out << "  error " << int(e.kind) << ' ' << e.from_text << ' ' << Hex(e.text) << ' ' << e.region_id << ' '
        << e.route << ' ' << e.task_id << ' ' << Hex(e.key) << ' ' << Hex(e.range_start) << ' '
        << Hex(e.range_end) << ' ' << Hex(e.start) << ' ' << Hex(e.end) << ' ' << e.has_key << e.has_range
        << e.has_bounds << ' ' << int(e.key_form) << ' ' << e.leader_peer_id << ' ' << e.leader_store_id
        << ' ' << e.request_store_id << ' ' << e.actual_store_id << ' ' << e.current_conf_ver << ' '
        << e.current_version << ' ' << e.pd_error_type << ' ' << e.first_statement << ' ' << e.statement_count
        << '\n';
  }
  for (uint64_t id : f.asked_region_ids) out << "  asked " << id << '\n';
  for (uint64_t id : f.key_id_map) out << "  key_id " << id << '\n';
  for (uint64_t id : f.prev_key_id_map) out << "  prev_key_id " << id << '\n';
  out << "  ids " << f.cluster_id << ' ' << f.start_ts << ' ' << f.commit_ts << ' ' << f.connection_id << ' '
      << f.task_id << ' ' << f.limit << ' ' << f.store_id << ' ' << Hex(f.trace_id) << ' '
      << Hex(f.resource_group_tag) << ' ' << Hex(f.request_source) << ' ' << Hex(f.caller) << ' '
      << f.value_bytes << ' ' << f.pairs << ' ' << f.not_found << f.contain_all_key_range << f.raw_keyspace
      << f.over_cap << f.parse_failed << '\n';
}

}  // namespace

std::string DescribeCall(const CallRecord& c) {
  std::ostringstream out;
  const auto number = [&](const auto& n) { out << ' ' << (n ? std::to_string(*n) : "none"); };
  const auto time = [&](TimeNs t) { out << ' ' << (t.known() ? std::to_string(t.ns) : "none"); };
  out << "connection " << c.connection << ' ' << int(c.client.address.family) << '/'
      << FormatEndpoint(c.client) << ' ' << int(c.server.address.family) << '/' << FormatEndpoint(c.server)
      << ' ' << c.client_known << c.joined_at_start << ' ' << c.client_process.pid << c.client_process.text()
      << ' ' << c.server_process.pid << c.server_process.text() << '\n'
      << "call " << int(c.kind) << ' ' << int(c.method_from) << ' ' << Hex(c.method) << ' ' << Hex(c.command)
      << ' ' << c.stream;
  number(c.request_id);
  for (TimeNs t : {c.req_first, c.req_last, c.resp_first, c.resp_last}) time(t);
  out << ' ' << c.req_bytes << ' ' << c.resp_bytes << ' ' << c.req_messages << ' ' << c.resp_messages;
  number(c.grpc_status);
  number(c.http_status);
  out << ' ' << Hex(c.grpc_message) << ' ' << c.reset << c.forwarded << c.follower_allowed << ' '
      << c.incomplete << ' ' << Hex(c.request_message) << ' ' << Hex(c.response_message) << '\n';
  DescribeFacts("request", c.request, out);
  DescribeFacts("response", c.response, out);
  return out.str();
}

uint64_t RandomRecords::Number() {
  switch (Below(6)) {
    case 0:
      return 0;
    case 1:
      return std::numeric_limits<uint64_t>::max();
    case 2:
      return Below(200);
    default:
      return random_() >> Below(64);
  }
}

Bytes RandomRecords::String(ByteArena& arena, size_t longest) {
  if (Below(4) == 0) return {};
  std::string s(1 + Below(Below(8) == 0 ? longest : 24), '\0');
  for (char& c : s) c = static_cast<char>(random_());
  return arena.Copy(AsBytes(s));
}

TimeNs RandomRecords::Time() {
  switch (Below(5)) {
    case 0:
      return kTimeUnknown;
    case 1:
      return TimeNs{static_cast<int64_t>(Number()) | 1};  // any, but not the "unknown" value
    default:
      now_ns_ += static_cast<int64_t>(Below(1'000'000)) - 1000;
      return TimeNs{now_ns_};
  }
}

void RandomRecords::FillError(MessageFacts& f) {
  static constexpr uint8_t kKinds[] = {1, 2, 3, 4, 22, 30, 31, 32, 33, 34, 35, 50, 52, 58, 70};
  ErrorFact& e = f.errors.emplace_back();
  e.kind = static_cast<ErrorKind>(kKinds[Below(sizeof kKinds)]);
  e.from_text = Coin();
  e.text = String(f.arena, 4096);
  e.region_id = Number();
  e.route = static_cast<uint16_t>(Number());
  e.task_id = Number();
  for (Bytes* b : {&e.key, &e.range_start, &e.range_end, &e.start, &e.end}) *b = String(f.arena, 300);
  e.has_key = Coin();
  e.has_range = Coin();
  e.has_bounds = Coin();
  e.key_form = static_cast<KeyForm>(Below(3));
  for (uint64_t* n : {&e.leader_peer_id, &e.leader_store_id, &e.request_store_id, &e.actual_store_id,
                      &e.current_conf_ver, &e.current_version}) {
    *n = Number();
  }
  e.pd_error_type = static_cast<uint32_t>(Number());
  if (!f.statements.empty() && Coin()) {
    e.first_statement = static_cast<uint32_t>(Below(f.statements.size()));
    e.statement_count = static_cast<uint32_t>(Below(f.statements.size() - e.first_statement + 1));
  }
}

void RandomRecords::FillFacts(MessageFacts& f) {
  for (size_t n = Below(4); n > 0; --n) {
    Route& r = f.routes.emplace_back();
    r.kind = static_cast<Route::Kind>(Below(3));
    for (uint64_t* v :
         {&r.region_id, &r.conf_ver, &r.version, &r.peer_id, &r.store_id, &r.task_id, &r.buckets_version}) {
      *v = Number();
    }
    r.api_version = static_cast<uint32_t>(Number());
    r.keyspace_id = Coin() ? 0xFFFFFFFF : static_cast<uint32_t>(Number());
    r.has_epoch = Coin();
    r.replica_read = Coin();
    r.stale_read = Coin();
    r.is_retry = Coin();
  }
  for (size_t n = Below(5); n > 0; --n) {
    KeyItem& k = f.keys.emplace_back();
    k.start = String(f.arena, 2000);
    k.end = String(f.arena, 2000);
    k.is_range = Coin();
    k.reverse = Coin();
    k.previous = Coin();
    k.form = static_cast<KeyForm>(Below(3));
    if (!f.routes.empty()) k.route = static_cast<uint16_t>(Below(f.routes.size()));
  }
  for (size_t n = Below(4); n > 0; --n) {
    RegionStatement s;
    s.source = static_cast<StatementSource>(Below(15));
    for (uint64_t* v : {&s.region_id, &s.conf_ver, &s.version, &s.leader_peer_id, &s.leader_store_id}) {
      *v = Number();
    }
    s.has_epoch = Coin();
    s.start = String(f.arena, 300);
    s.end = String(f.arena, 300);
    s.first_peer = static_cast<uint32_t>(f.peers.size());
    s.peer_count = static_cast<uint32_t>(Below(4));
    for (uint32_t i = 0; i < s.peer_count; ++i) {
      f.peers.push_back({Number(), Number(), static_cast<uint32_t>(Number())});
    }
    f.statements.push_back(s);
  }
  for (size_t n = Below(3); n > 0; --n) FillError(f);
  for (std::vector<uint64_t>* list : {&f.asked_region_ids, &f.key_id_map, &f.prev_key_id_map}) {
    for (size_t n = Below(Below(10) == 0 ? 200 : 3); n > 0; --n) list->push_back(Number());
  }
  for (uint64_t* v : {&f.cluster_id, &f.start_ts, &f.commit_ts, &f.connection_id, &f.task_id, &f.limit,
                      &f.store_id, &f.value_bytes}) {
    *v = Number();
  }
  f.trace_id = String(f.arena, 100);
  f.resource_group_tag = String(f.arena, 100);
  f.request_source = Text(f.arena, 100);
  f.caller = Coin() ? "tidb-server/region-cache" : Text(f.arena, 100);
  f.pairs = static_cast<uint32_t>(Number());
  for (bool* b : {&f.not_found, &f.contain_all_key_range, &f.raw_keyspace, &f.over_cap, &f.parse_failed}) {
    *b = Coin();
  }
}

const CallRecord& RandomRecords::Any() {
  record_.strings.Reset();
  record_.request.Reset();
  record_.response.Reset();
  CallRecord& c = record_.call;
  c = CallRecord{};
  const bool old_connection = Coin();
  c.connection = old_connection ? 7 : Number();
  for (Endpoint* e : {&c.client, &c.server}) {
    if (old_connection) {
      *e = Endpoint{IpAddress{{10, 77, 0, 11}, 4}, 20160};
      continue;
    }
    e->address.family = static_cast<uint8_t>(Below(3) * 2 + 2);
    if (e->address.family == 2) e->address.family = 0;
    const size_t size = e->address.family == 4 ? 4 : e->address.family == 6 ? 16 : 0;
    for (size_t i = 0; i < size; ++i) e->address.bytes[i] = static_cast<uint8_t>(random_());
    e->port = static_cast<uint16_t>(Number());
  }
  c.client_known = old_connection || Coin();
  if (!old_connection && Coin()) c.client_process = {4711, {"tidb-server"}};
  if (!old_connection && Coin()) c.server_process = {0xFFFFFFFF, {"123456789012345"}};
  c.joined_at_start = !old_connection && Coin();
  c.kind = static_cast<CallKind>(1 + Below(4));
  c.method_from = static_cast<MethodFrom>(Below(4));
  static constexpr std::string_view kMethods[] = {"/tikvpb.Tikv/BatchCommands", "/pdpb.PD/GetRegion", ""};
  c.method = Coin() ? kMethods[Below(3)] : Text(record_.strings, 300);
  c.command = Coin() ? "Get" : Text(record_.strings, 40);
  c.stream = static_cast<uint32_t>(Number());
  if (Coin()) c.request_id = Number();
  for (TimeNs* t : {&c.req_first, &c.req_last, &c.resp_first, &c.resp_last}) *t = Time();
  for (uint64_t* v : {&c.req_bytes, &c.resp_bytes, &c.req_messages, &c.resp_messages}) *v = Number();
  if (Coin()) c.grpc_status = static_cast<uint32_t>(Number());
  if (Coin()) c.http_status = static_cast<uint32_t>(Number());
  c.grpc_message = Text(record_.strings, 200);
  for (bool* b : {&c.reset, &c.forwarded, &c.follower_allowed}) *b = Coin();
  c.incomplete = static_cast<uint32_t>(random_()) & ((1u << kIncompleteBits) - 1);
  if (Below(4) != 0) {
    FillFacts(record_.request);
    c.request = &record_.request;
  }
  if (Below(4) != 0) {
    FillFacts(record_.response);
    c.response = &record_.response;
  }
  c.request_message = String(record_.strings, 500);
  c.response_message = String(record_.strings, 500);
  return c;
}

const CallRecord& RandomRecords::Get() {
  record_.strings.Reset();
  record_.request.Reset();
  record_.response.Reset();
  CallRecord& c = record_.call;
  c = CallRecord{};
  const size_t connection = Below(4);
  c.connection = connection;
  c.client = Endpoint{IpAddress{{10, 77, 0, 11}, 4}, static_cast<uint16_t>(40000 + connection)};
  c.server = Endpoint{IpAddress{{10, 77, 0, 31}, 4}, 20160};
  c.joined_at_start = true;
  c.kind = CallKind::kSub;
  c.method_from = MethodFrom::kHeader;
  c.method = "/tikvpb.Tikv/BatchCommands";
  c.command = "Get";
  c.stream = 1;
  c.request_id = ++request_id_;
  now_ns_ += 1000 * static_cast<int64_t>(Below(1000));
  c.req_first = TimeNs{now_ns_};
  c.req_last = TimeNs{now_ns_ + 1000};
  c.resp_first = TimeNs{now_ns_ + 300'000 + 1000 * static_cast<int64_t>(Below(200))};
  c.resp_last = c.resp_first;
  c.req_bytes = 90 + Below(8);
  c.resp_bytes = 110 + Below(20);
  c.req_messages = c.resp_messages = 1;
  MessageFacts& f = record_.request;
  Route& r = f.routes.emplace_back();
  r.region_id = 14 + Below(30);
  r.conf_ver = 1;
  r.version = 2 + Below(20);
  r.peer_id = r.region_id + 1;
  r.store_id = 1;
  r.has_epoch = true;
  // t{53}_r{handle}, as TiDB writes it.
  std::string key("t\x80\0\0\0\0\0\0\x35_r\x80\0\0\0\0\0", 17);
  const size_t handle = Below(20000);
  key += static_cast<char>(handle >> 8);
  key += static_cast<char>(handle);
  KeyItem& k = f.keys.emplace_back();
  k.start = f.arena.Copy(AsBytes(key));
  k.form = KeyForm::kRaw;
  f.start_ts = static_cast<uint64_t>(now_ns_ / 1'000'000) << 18;
  f.request_source = "leader_external_Select";
  f.resource_group_tag = f.arena.Copy(AsBytes(std::string(34, static_cast<char>('a' + Below(3)))));
  record_.response.value_bytes = 100 + Below(16);
  c.request = &record_.request;
  c.response = &record_.response;
  return c;
}

}  // namespace keytrail
