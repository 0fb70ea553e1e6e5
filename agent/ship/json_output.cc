#include "agent/ship/json_output.h"

#include <array>
#include <charconv>

#include "common/redact_marks.h"

namespace keytrail {

namespace {

constexpr char kHexDigits[] = "0123456789abcdef";

void AppendNumber(uint64_t n, std::string& out) {
  char text[24];
  out.append(text, std::to_chars(text, text + sizeof text, n).ptr);
}

void AppendSigned(int64_t n, std::string& out) {
  char text[24];
  out.append(text, std::to_chars(text, text + sizeof text, n).ptr);
}

void AppendHexDigits(Bytes b, std::string& out) {
  const size_t at = out.size();
  out.resize(at + b.size() * 2);
  char* p = out.data() + at;
  for (uint8_t c : b) {
    *p++ = kHexDigits[c >> 4];
    *p++ = kHexDigits[c & 15];
  }
}

void AppendHex(Bytes b, std::string& out) {
  out += '"';
  AppendHexDigits(b, out);
  out += '"';
}

// Of what --redact on replaces or leaves out. Hex has no mark in it that would need doubling.
void AppendSensitiveHex(Bytes b, bool marks, std::string& out) {
  if (!marks || b.empty()) return AppendHex(b, out);
  std::string hex;
  AppendHexDigits(b, hex);
  out += '"';
  AppendMarked(hex, out);
  out += '"';
}

// Length of the valid UTF-8 sequence at the start of `text`, 0 if there is none (RFC 3629).
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t c = byte(0);
  const size_t n = c < 0x80                ? 1
                   : c >= 0xC2 && c < 0xE0 ? 2
                   : (c & 0xF0) == 0xE0    ? 3
                   : c >= 0xF0 && c < 0xF5 ? 4
                                           : 0;
  if (n == 0 || n > text.size()) return 0;
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (c == 0xE0 && byte(1) < 0xA0) return 0;
  if (c == 0xED && byte(1) > 0x9F) return 0;
  if (c == 0xF0 && byte(1) < 0x90) return 0;
  if (c == 0xF4 && byte(1) > 0x8F) return 0;
  return n;
}

// Writes one JSON object; knows whether a comma is due.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out, bool marks = false) : out_(out), marks_(marks) { out_ += '{'; }
  bool marks() const { return marks_; }
  void Close() { out_ += '}'; }

  std::string& Key(std::string_view key) {
    if (!first_) out_ += ',';
    first_ = false;
    out_ += '"';
    out_ += key;
    out_ += "\":";
    return out_;
  }
  // For a key that the wire gave.
  std::string& ForeignKey(std::string_view key) {
    if (!first_) out_ += ',';
    first_ = false;
    AppendJsonString(key, out_);
    out_ += ':';
    return out_;
  }
  void Number(std::string_view key, uint64_t n) { AppendNumber(n, Key(key)); }
  void Text(std::string_view key, std::string_view text) { AppendJsonString(text, Key(key)); }
  // With marks around it, if they are asked for.
  void SensitiveText(std::string_view key, std::string_view text) {
    if (!marks_) return Text(key, text);
    std::string marked;
    AppendMarked(text, marked);
    Text(key, marked);
  }
  // Of a stranger, but not sensitive: a mark in it must not be taken for one of ours.
  void ForeignText(std::string_view key, std::string_view text) {
    if (HasMark(text)) {
      SensitiveText(key, text);
    } else {
      Text(key, text);
    }
  }
  void SensitiveHex(std::string_view key, Bytes b) { AppendSensitiveHex(b, marks_, Key(key)); }
  void TextOrNull(std::string_view key, std::string_view text) {
    if (text.empty()) {
      Key(key) += "null";
    } else {
      ForeignText(key, text);
    }
  }
  void Hex(std::string_view key, Bytes b) { AppendHex(b, Key(key)); }
  void Time(std::string_view key, TimeNs t) {
    if (t.known()) {
      AppendSigned(t.ns, Key(key));
    } else {
      Key(key) += "null";
    }
  }
  template <typename T>
  void NumberOrNull(std::string_view key, const std::optional<T>& n) {
    if (n) {
      Number(key, *n);
    } else {
      Key(key) += "null";
    }
  }
  void NumberIfSet(std::string_view key, uint64_t n) {
    if (n != 0) Number(key, n);
  }
  void True(std::string_view key, bool set) {
    if (set) Key(key) += "true";
  }

 private:
  std::string& out_;
  const bool marks_;
  bool first_ = true;
};

void AppendKeys(const MessageFacts& facts, int route, ObjectWriter& object) {
  KeyForm form = KeyForm::kNone;
  bool any_key = false;
  bool any_range = false;
  for (const KeyItem& item : facts.keys) {
    if (route >= 0 && item.route != route) continue;
    form = item.form;
    (item.is_range ? any_range : any_key) = true;
  }
  if (any_key) {
    std::string& out = object.Key("keys");
    char separator = '[';
    for (const KeyItem& item : facts.keys) {
      if (item.is_range || (route >= 0 && item.route != route)) continue;
      out += separator;
      separator = ',';
      AppendSensitiveHex(item.start, object.marks(), out);
    }
    out += ']';
  }
  if (any_range) {
    std::string& out = object.Key("ranges");
    char separator = '[';
    for (const KeyItem& item : facts.keys) {
      if (!item.is_range || (route >= 0 && item.route != route)) continue;
      out += separator;
      separator = ',';
      out += '[';
      AppendSensitiveHex(item.start, object.marks(), out);
      out += ',';
      AppendSensitiveHex(item.end, object.marks(), out);
      out += ']';
    }
    out += ']';
  }
  if (form != KeyForm::kNone) object.Text("key_form", KeyFormName(form));
}

void AppendRoute(const Route& route, ObjectWriter& object) {
  object.Number("region_id", route.region_id);
  if (route.has_epoch) {
    object.Number("conf_ver", route.conf_ver);
    object.Number("version", route.version);
  }
  object.NumberIfSet("peer_id", route.peer_id);
  object.NumberIfSet("store_id", route.store_id);
}

void AppendRequestFacts(const MessageFacts& facts, ObjectWriter& object) {
  // The first route is the call's own; store-batched tasks and region infos are requests of their own.
  const bool own_route = !facts.routes.empty() && facts.routes.front().kind == Route::Kind::kContext;
  if (own_route) {
    const Route& route = facts.routes.front();
    AppendRoute(route, object);
    object.NumberIfSet("api_version", route.api_version);
    if (route.keyspace_id != 0xFFFFFFFF) object.Number("keyspace_id", route.keyspace_id);
    object.True("replica_read", route.replica_read);
    object.True("stale_read", route.stale_read);
    object.True("is_retry", route.is_retry);
    object.NumberIfSet("buckets_version", route.buckets_version);
  } else if (facts.routes.empty() && facts.asked_region_ids.size() == 1) {
    object.Number("region_id", facts.asked_region_ids.front());
  }
  AppendKeys(facts, facts.routes.empty() ? -1 : 0, object);
  if (facts.routes.size() > (own_route ? 1u : 0u)) {
    std::string& out = object.Key("tasks");
    char separator = '[';
    for (size_t i = own_route ? 1 : 0; i < facts.routes.size(); ++i) {
      out += separator;
      separator = ',';
      ObjectWriter task(out, object.marks());
      task.NumberIfSet("task_id", facts.routes[i].task_id);
      AppendRoute(facts.routes[i], task);
      AppendKeys(facts, static_cast<int>(i), task);
      task.Close();
    }
    out += ']';
  }
  if (facts.asked_region_ids.size() > 1) {
    std::string& out = object.Key("asked_region_ids");
    char separator = '[';
    for (uint64_t id : facts.asked_region_ids) {
      out += separator;
      separator = ',';
      AppendNumber(id, out);
    }
    out += ']';
  }
  object.NumberIfSet("start_ts", facts.start_ts);
  object.NumberIfSet("commit_ts", facts.commit_ts);
  object.NumberIfSet("connection_id", facts.connection_id);
  object.NumberIfSet("task_id", facts.task_id);
  object.NumberIfSet("limit", facts.limit);
  object.NumberIfSet("cluster_id", facts.cluster_id);
  if (!facts.trace_id.empty()) object.SensitiveHex("trace_id", facts.trace_id);
  if (!facts.resource_group_tag.empty()) object.Hex("resource_group_tag", facts.resource_group_tag);
  if (!facts.request_source.empty()) object.ForeignText("request_source", facts.request_source);
  if (!facts.caller.empty()) object.ForeignText("caller", facts.caller);
}

void AppendError(const ErrorFact& error, const MessageFacts* request, bool marks, std::string& out) {
  ObjectWriter object(out, marks);
  object.Text("kind", ErrorKindName(error.kind));
  if (!error.text.empty()) object.SensitiveText("text", AsText(error.text));
  object.True("from_text", error.from_text);
  object.NumberIfSet("region_id", error.region_id);
  object.NumberIfSet("task_id", error.task_id);
  if (request != nullptr && error.route != 0 && error.route < request->routes.size()) {
    object.Number("request_region_id", request->routes[error.route].region_id);
  }
  if (error.has_key) object.SensitiveHex("key", error.key);
  if (error.has_range) {
    object.SensitiveHex("range_start", error.range_start);
    object.SensitiveHex("range_end", error.range_end);
  }
  if (error.has_bounds) {
    object.SensitiveHex("start", error.start);
    object.SensitiveHex("end", error.end);
  }
  if (error.has_key || error.has_range || error.has_bounds) {
    object.Text("key_form", KeyFormName(error.key_form));
  }
  object.NumberIfSet("leader_peer_id", error.leader_peer_id);
  object.NumberIfSet("leader_store_id", error.leader_store_id);
  object.NumberIfSet("request_store_id", error.request_store_id);
  object.NumberIfSet("actual_store_id", error.actual_store_id);
  object.NumberIfSet("current_conf_ver", error.current_conf_ver);
  object.NumberIfSet("current_version", error.current_version);
  object.NumberIfSet("pd_error_type", error.pd_error_type);
  object.Close();
}

void AppendStatements(const MessageFacts& facts, std::string_view key, ObjectWriter& object) {
  if (facts.statements.empty()) return;
  std::string& out = object.Key(key);
  char separator = '[';
  for (const RegionStatement& statement : facts.statements) {
    out += separator;
    separator = ',';
    ObjectWriter item(out, object.marks());
    item.Text("source", StatementSourceName(statement.source));
    item.Number("region_id", statement.region_id);
    if (statement.has_epoch) {
      item.Number("conf_ver", statement.conf_ver);
      item.Number("version", statement.version);
    }
    item.SensitiveHex("start", statement.start);
    item.SensitiveHex("end", statement.end);
    item.NumberIfSet("leader_peer_id", statement.leader_peer_id);
    item.NumberIfSet("leader_store_id", statement.leader_store_id);
    item.Close();
  }
  out += ']';
}

void AppendCounts(const std::map<std::string, PathCounts, std::less<>>& counts, std::string& out) {
  ObjectWriter object(out);
  for (const auto& [path, n] : counts) {
    std::string& to = object.ForeignKey(path.empty() ? "?" : path);
    to += '[';
    AppendNumber(n.streams, to);
    to += ',';
    AppendNumber(n.request_messages, to);
    to += ',';
    AppendNumber(n.response_messages, to);
    to += ']';
  }
  object.Close();
}

}  // namespace

void AppendJsonString(std::string_view text, std::string& out) {
  out += '"';
  while (!text.empty()) {
    const auto c = static_cast<uint8_t>(text.front());
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c < 0x20 || c == 0x7F) {
      out += "\\u00";
      out += kHexDigits[c >> 4];
      out += kHexDigits[c & 15];
    } else if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (const size_t n = Utf8Length(text); n != 0) {
      out += text.substr(0, n);
      text.remove_prefix(n);
      continue;
    } else {
      out += "\\ufffd";  // not UTF-8: the replacement character, so that the line stays valid JSON
    }
    text.remove_prefix(1);
  }
  out += '"';
}

void AppendProcess(const char* key, const ProcessName& process, ObjectWriter& object) {
  if (!process.known()) return;
  std::string& out = object.Key(key);
  ObjectWriter inner(out, object.marks());
  inner.Number("pid", process.pid);
  inner.ForeignText("name", process.text());
  inner.Close();
}

void JsonOutput::OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) {
  std::string& out = writer_.buffer();
  ObjectWriter object(out, options_.marks);
  object.Text("kind", CallKindName(call.kind));
  object.TextOrNull("method", call.method);
  object.Text("method_from", MethodFromName(call.method_from));
  object.TextOrNull("command", call.command);
  object.Text("client", FormatEndpoint(call.client));
  object.Text("server", FormatEndpoint(call.server));
  if (!call.client_known) object.Key("client_known") += "false";
  AppendProcess("client_process", call.client_process, object);
  AppendProcess("server_process", call.server_process, object);
  object.Text("joined", call.joined_at_start ? "start" : "late");
  object.Number("connection", call.connection);
  object.Number("stream", call.stream);
  object.NumberOrNull("request_id", call.request_id);
  object.Time("req_first_ns", call.req_first);
  object.Time("req_last_ns", call.req_last);
  object.Time("resp_first_ns", call.resp_first);
  object.Time("resp_last_ns", call.resp_last);
  object.Number("req_bytes", call.req_bytes);
  object.Number("resp_bytes", call.resp_bytes);
  if (call.kind == CallKind::kStream || call.kind == CallKind::kUnary) {
    object.Number("req_messages", call.req_messages);
    object.Number("resp_messages", call.resp_messages);
  }
  object.NumberOrNull("grpc_status", call.grpc_status);
  object.NumberOrNull("http_status", call.http_status);
  if (!call.grpc_message.empty()) object.SensitiveText("grpc_message", call.grpc_message);
  object.True("reset", call.reset);
  object.True("forwarded", call.forwarded);
  object.True("follower_allowed", call.follower_allowed);
  if (call.request != nullptr) {
    AppendRequestFacts(*call.request, object);
    AppendStatements(*call.request, "request_statements", object);
  }
  std::string& errors = object.Key("errors");
  errors += '[';
  if (call.response != nullptr) {
    bool first = true;
    for (const ErrorFact& error : call.response->errors) {
      if (!first) errors += ',';
      first = false;
      AppendError(error, call.request, options_.marks, errors);
    }
  }
  errors += ']';
  if (call.response != nullptr) {
    AppendStatements(*call.response, "statements", object);
    object.NumberIfSet("pairs", call.response->pairs);
    object.NumberIfSet("value_bytes", call.response->value_bytes);
    object.True("not_found", call.response->not_found);
  }
  std::string& incomplete = object.Key("incomplete");
  incomplete += '[';
  bool first = true;
  for (int bit = 0; bit < kIncompleteBits; ++bit) {
    if ((call.incomplete >> bit & 1) == 0) continue;
    if (!first) incomplete += ',';
    first = false;
    AppendJsonString(IncompleteName(bit), incomplete);
  }
  incomplete += ']';
  if (options_.full || options_.raw) {
    const auto text = [&](MessageType type, Bytes message) {
      return options_.raw ? RawText(message, true) : schema_.FullText(type, message, true);
    };
    if (call.request != nullptr || !call.request_message.empty()) {
      object.SensitiveText("request_text", text(request_type, call.request_message));
    }
    if (call.response != nullptr || !call.response_message.empty()) {
      object.SensitiveText("response_text", text(response_type, call.response_message));
    }
  }
  object.Close();
  out += '\n';
  writer_.Commit();
}

void AppendSummaryJson(const RunSummary& summary, std::string& out) {
  ObjectWriter object(out);
  object.Text("kind", "summary");
  object.Text("input", summary.input);
  object.TextOrNull("stopped_by", summary.stopped_by);
  for (size_t i = 0; i < kCounterCount; ++i) {
    const Counter counter = static_cast<Counter>(i);
    object.Number(CounterName(counter), summary.counters->Get(counter));
  }
  object.Text("detail", std::string(DetailLevelName(summary.detail)));
  for (size_t i = 1; i < kDetailLevels; ++i) {
    const std::string name = std::string(DetailLevelName(static_cast<DetailLevel>(i))) + "_ns";
    object.Number(name, static_cast<uint64_t>(summary.degraded_ns[i]));
  }
  AppendCounts(*summary.counts_from_start, object.Key("by_method"));
  AppendCounts(*summary.counts_late, object.Key("by_method_late"));
  ObjectWriter commands(object.Key("sub_commands"));
  for (const auto& [number, n] : *summary.sub_counts_from_start) {
    const BatchCommand command = summary.schema->FindBatchCommand(number, true);
    std::string& to = commands.Key(command.name.empty() ? std::to_string(number) : std::string(command.name));
    to += '[';
    AppendNumber(n.request_messages, to);
    to += ',';
    AppendNumber(n.response_messages, to);
    to += ']';
  }
  commands.Close();
  object.Close();
  out += '\n';
}

std::string SummaryText(const RunSummary& summary) {
  const Counters& counters = *summary.counters;
  const auto count = [&](Counter c) { return std::to_string(counters.Get(c)); };
  std::string out = summary.input + ": " + count(Counter::kPackets) + " packets, " +
                    count(Counter::kConnections) + " connections (" + count(Counter::kConnectionsHttp2Start) +
                    " HTTP/2 from the start, " + count(Counter::kConnectionsHttp2Late) +
                    " HTTP/2 joined late, " + count(Counter::kConnectionsHttp1) + " HTTP/1, " +
                    count(Counter::kConnectionsTls) + " TLS, " + count(Counter::kConnectionsOther) +
                    " other)\n";
  out += "calls: " + count(Counter::kCallsHeader) + " named by their headers, " + count(Counter::kCallsSlot) +
         " by table slot, " + count(Counter::kCallsShape) + " by shape, " + count(Counter::kCallsUnknown) +
         " unknown\n";
  if (counters.Get(Counter::kConnectionsTls) != 0) {
    out += "TLS connections cannot be read: keytrail sees plain-text clusters only\n";
  }
  std::string losses;
  for (size_t i = 0; i < kCounterCount; ++i) {
    const Counter c = static_cast<Counter>(i);
    const std::string_view name = CounterName(c);
    const bool loss = name.starts_with("cap_") || c == Counter::kKernelDrops ||
                      c == Counter::kInterfaceDrops || c == Counter::kGaps || c == Counter::kGapBytes ||
                      c == Counter::kBytesSkipped || c == Counter::kFramesMalformed ||
                      c == Counter::kHeaderBlocksMalformed || c == Counter::kMessagesUndecodable ||
                      c == Counter::kIpDatagramsIncomplete || c == Counter::kIpDatagramsConflicting ||
                      c == Counter::kDegradations || c == Counter::kPayloadsDropped ||
                      c == Counter::kMessagesSampledOut || c == Counter::kMessagesHeadersOnly ||
                      c == Counter::kPacketsCountedOnly || c == Counter::kInterfaceDowns ||
                      c == Counter::kPortsFound;
    if (loss && counters.Get(c) != 0) {
      losses += (losses.empty() ? "" : ", ") + std::string(name) + "=" + count(c);
    }
  }
  if (!losses.empty()) out += "lost or not read: " + losses + "\n";
  if (!summary.stopped_by.empty()) out += "stopped: " + summary.stopped_by + "\n";
  return out;
}

}  // namespace keytrail
