#include "agent/ship/text_output.h"

#include <charconv>

#include "common/key_codec.h"
#include "common/redact_marks.h"

namespace keytrail {

namespace {

// Keys shown on one line before "…+n".
constexpr size_t kShownKeys = 4;
// Schema-less fields of an unknown message shown on its line.
constexpr size_t kShownRawBytes = 400;

void AppendField(std::string_view name, uint64_t n, std::string& out) {
  out += ' ';
  out += name;
  out += '=';
  char text[24];
  out.append(text, std::to_chars(text, text + sizeof text, n).ptr);
}

// Printable on one line: control characters and line ends of foreign text become '.'.
void AppendPrintable(std::string_view text, std::string& out) {
  for (char c : text) out += static_cast<uint8_t>(c) < 0x20 || c == 0x7F ? '.' : c;
}

void AppendDuration(int64_t ns, std::string& out) {
  char text[48];
  if (ns < 10'000'000) {
    std::snprintf(text, sizeof text, " %lldus", static_cast<long long>(ns / 1000));
  } else if (ns < 10'000'000'000) {
    std::snprintf(text, sizeof text, " %lldms", static_cast<long long>(ns / 1'000'000));
  } else {
    std::snprintf(text, sizeof text, " %.1fs", static_cast<double>(ns) / 1e9);
  }
  out += text;
}

}  // namespace

std::string CommandText(std::string_view command) {
  const bool own_name = command.starts_with("Raw") || command == "Coprocessor" ||
                        command == "GetHealthFeedback" || command == "BroadcastTxnStatus" ||
                        command == "Empty";
  return own_name ? std::string(command) : "Kv" + std::string(command);
}

void TextOutput::AppendTime(TimeNs time) {
  std::string& out = writer_.buffer();
  if (!time.known()) {
    out += "----/--/-- --:--:--.------";
    return;
  }
  const int64_t second = time.ns / 1'000'000'000;
  if (second != cached_second_) {
    const std::time_t t = second;
    std::tm local{};
    localtime_r(&t, &local);
    std::strftime(cached_text_, sizeof cached_text_, "%Y/%m/%d %H:%M:%S", &local);
    cached_second_ = second;
  }
  out += cached_text_;
  char fraction[8] = {'.'};
  int64_t us = time.ns % 1'000'000'000 / 1000;
  for (int i = 6; i >= 1; --i) {
    fraction[i] = static_cast<char>('0' + us % 10);
    us /= 10;
  }
  out.append(fraction, 7);
}

void TextOutput::AppendHead(const CallRecord& call, TimeNs time, bool is_response) {
  AppendTime(time);
  std::string& out = writer_.buffer();
  out += ' ';
  out += FormatEndpoint(call.client);
  out += is_response ? " <- " : " -> ";
  out += FormatEndpoint(call.server);
  out += ' ';
  if (call.method.empty()) {
    out += '?';
  } else {
    if (call.method_from == MethodFrom::kSlot || call.method_from == MethodFrom::kShape) out += '~';
    AppendForeign(call.method);
  }
  if (!call.command.empty()) {
    out += ' ';
    out += CommandText(call.command);
  }
  if (call.request_id) {
    if (call.command.empty()) out += ' ';
    out += '#';
    out += std::to_string(*call.request_id);
  } else if (call.method.empty()) {
    out += " stream=";
    out += std::to_string(call.stream);
  }
}

// On one line, with marks around it if they are asked for.
void TextOutput::AppendSensitive(std::string_view text) {
  std::string& out = writer_.buffer();
  if (!options_.marks) return AppendPrintable(text, out);
  std::string marked;
  AppendMarked(text, marked);
  AppendPrintable(marked, out);
}

// Of a stranger, but not sensitive: a mark in it must not be taken for one of ours.
void TextOutput::AppendForeign(std::string_view text) {
  if (HasMark(text)) return AppendSensitive(text);
  AppendPrintable(text, writer_.buffer());
}

void TextOutput::AppendKey(Bytes key, KeyForm form, bool is_end) {
  std::string& out = writer_.buffer();
  if (key.empty()) {
    if (!options_.hex_keys) out += is_end ? "+inf" : "-inf";
    return;
  }
  AppendSensitive(options_.hex_keys           ? HexUpper(key)
                  : form == KeyForm::kEncoded ? EncodedKeyText(key)
                                              : RawKeyText(key));
}

void TextOutput::AppendRequest(const MessageEvent& event) {
  std::string& out = writer_.buffer();
  const MessageFacts& facts = *event.facts;
  for (const Route& route : facts.routes) {
    if (route.kind == Route::Kind::kTask) out += " task";
    AppendField("region", route.region_id, out);
    if (route.has_epoch) {
      out += " epoch=" + std::to_string(route.conf_ver) + ":" + std::to_string(route.version);
    }
    if (route.peer_id != 0) AppendField("peer", route.peer_id, out);
    if (route.store_id != 0) AppendField("store", route.store_id, out);
  }
  for (uint64_t id : facts.asked_region_ids) AppendField("region", id, out);
  size_t shown = 0;
  for (const KeyItem& item : facts.keys) {
    if (shown++ == kShownKeys) break;
    if (item.is_range) {
      out += item.reverse ? " reverse_range=[" : " range=[";
      AppendKey(item.start, item.form);
      out += ',';
      AppendKey(item.end, item.form, true);
      out += ')';
    } else {
      out += item.previous ? " prev_key=" : " key=";
      AppendKey(item.start, item.form);
    }
  }
  if (facts.keys.size() > kShownKeys) out += " …+" + std::to_string(facts.keys.size() - kShownKeys);
  for (const RegionStatement& statement : facts.statements) {
    out += " states region=" + std::to_string(statement.region_id) +
           " epoch=" + std::to_string(statement.conf_ver) + ":" + std::to_string(statement.version) + " [";
    AppendKey(statement.start, KeyForm::kEncoded);
    out += ',';
    AppendKey(statement.end, KeyForm::kEncoded, true);
    out += ')';
  }
  if (facts.start_ts != 0) AppendField("ts", facts.start_ts, out);
  if (facts.commit_ts != 0) AppendField("commit_ts", facts.commit_ts, out);
  if (facts.connection_id != 0) AppendField("conn", facts.connection_id, out);
  if (facts.limit != 0) AppendField("limit", facts.limit, out);
  if (facts.value_bytes != 0) out += " value=" + std::to_string(facts.value_bytes) + "B";
}

void TextOutput::AppendResponse(const MessageEvent& event) {
  std::string& out = writer_.buffer();
  const MessageFacts& facts = *event.facts;
  for (const ErrorFact& error : facts.errors) {
    out += " error=";
    out += ErrorKindName(error.kind);
    if (error.region_id != 0) AppendField("region", error.region_id, out);
    if (error.has_key) {
      out += " key=";
      AppendKey(error.key, error.key_form);
    }
    if (error.has_range) {
      out += " range=[";
      AppendKey(error.range_start, error.key_form);
      out += ',';
      AppendKey(error.range_end, error.key_form, true);
      out += ')';
    }
    if (error.has_bounds) {
      out += " bounds=[";
      AppendKey(error.start, error.key_form);
      out += ',';
      AppendKey(error.end, error.key_form, true);
      out += ')';
    }
    if (!error.has_key && !error.has_range && !error.text.empty()) {
      out += " \"";
      AppendSensitive(AsText(error.text.first(std::min<size_t>(error.text.size(), 160))));
      out += '"';
    }
  }
  size_t shown = 0;
  for (const RegionStatement& statement : facts.statements) {
    if (statement.source == StatementSource::kKeyNotInRegion ||
        statement.source == StatementSource::kErrorText) {
      continue;  // told with the error
    }
    if (shown++ == kShownKeys) break;
    out += " region=" + std::to_string(statement.region_id) + " epoch=" + std::to_string(statement.conf_ver) +
           ":" + std::to_string(statement.version) + " [";
    AppendKey(statement.start, KeyForm::kEncoded);
    out += ',';
    AppendKey(statement.end, KeyForm::kEncoded, true);
    out += ')';
  }
  if (facts.statements.size() > kShownKeys) {
    out += " …+" + std::to_string(facts.statements.size() - kShownKeys);
  }
  if (facts.not_found) out += " not_found";
  if (facts.pairs != 0) AppendField("pairs", facts.pairs, out);
  if (facts.value_bytes != 0) out += " value=" + std::to_string(facts.value_bytes) + "B";
}

void TextOutput::OnMessage(const MessageEvent& event) {
  const CallRecord& call = *event.call;
  std::string& out = writer_.buffer();
  AppendHead(call, event.is_response ? call.resp_last : call.req_first, event.is_response);
  if (event.is_response && call.req_first.known() && call.resp_last.known()) {
    AppendDuration(call.resp_last - call.req_first, out);
  }
  const bool readable = event.facts != nullptr && !event.facts->parse_failed;
  if (readable) {
    if (event.is_response) {
      AppendResponse(event);
    } else {
      AppendRequest(event);
    }
  } else if ((call.incomplete & kDegraded) != 0 && event.message.empty()) {
    out += " (not read)";
  } else {
    out += event.message.empty() ? " (empty)" : " ";
    std::string raw = RawText(event.message.first(std::min<size_t>(event.message.size(), 4096)), true);
    if (raw.size() > kShownRawBytes) {
      raw.resize(kShownRawBytes);
      raw += "…";
    }
    if (!raw.empty()) AppendSensitive(raw);
  }
  out += '\n';
  if (!event.payload) {
    // The agent saves work.
  } else if (options_.full || options_.raw) {
    const std::string whole =
        options_.full ? schema_.FullText(event.type, event.message, false) : RawText(event.message, false);
    if (options_.marks) {
      AppendMarkedLines(whole, out);
    } else {
      out += whole;
    }
  }
  if (!out.empty() && out.back() != '\n') out += '\n';
  writer_.Commit();
}

void TextOutput::OnCall(const CallRecord& call, MessageType, MessageType) {
  const bool failed = call.grpc_status.value_or(0) != 0 || call.reset;
  const bool ends_a_call = call.kind == CallKind::kUnary || call.kind == CallKind::kStream;
  if (!ends_a_call || !failed) return;
  TimeNs time = call.resp_last;
  if (!time.known()) time = call.req_last;
  AppendHead(call, time, true);
  std::string& out = writer_.buffer();
  if (call.grpc_status) AppendField("grpc_status", *call.grpc_status, out);
  if (!call.grpc_message.empty()) {
    out += " \"";
    AppendSensitive(call.grpc_message.substr(0, 160));
    out += '"';
  }
  if (call.reset) out += " reset";
  out += '\n';
  writer_.Commit();
}

}  // namespace keytrail
