#include "collector/query/messages.h"

#include "proto/keytrail/query.pb.h"

namespace keytrail {

namespace {

using Type = Store::QueryValue::Type;

void WriteValue(const Store::QueryValue& v, query::Value& out) {
  switch (v.type) {
    case Type::kNull:
      return;
    case Type::kInteger:
      return out.set_integer(v.integer);
    case Type::kReal:
      return out.set_real(v.real);
    case Type::kText:
      return out.set_text(v.bytes);
    case Type::kBlob:
      return out.set_blob(v.bytes);
  }
}

void ReadValue(const query::Value& in, Store::QueryValue& v) {
  v = {};
  switch (in.value_case()) {
    case query::Value::kInteger:
      v.type = Type::kInteger;
      v.integer = in.integer();
      return;
    case query::Value::kReal:
      v.type = Type::kReal;
      v.real = in.real();
      return;
    case query::Value::kText:
      v.type = Type::kText;
      v.bytes = in.text();
      return;
    case query::Value::kBlob:
      v.type = Type::kBlob;
      v.bytes = in.blob();
      return;
    case query::Value::VALUE_NOT_SET:
      return;
  }
}

template <class List>
std::vector<std::string> Strings(const List& list) {
  return {list.begin(), list.end()};
}

Component ComponentOf(const std::string& name) {
  return name == "tidb" ? Component::kTidb : name == "pd" ? Component::kPd : Component::kTikv;
}

void WriteEvidence(const Evidence& e, query::Evidence& out) {
  out.set_what(e.what);
  out.set_label(e.label);
  out.set_host(e.host);
  out.set_observer(e.observer);
  out.set_speaker(e.speaker);
  out.set_listener(e.listener);
  out.set_method(e.method);
  out.set_call_id(e.call_id);
  out.set_statement_id(e.statement_id);
  out.set_t_ns(e.t_ns);
  out.set_region_id(e.region_id);
  out.set_version(e.version);
  if (e.key) out.set_key(*e.key);
  if (e.range_start) out.set_range_start(*e.range_start);
  if (e.range_end) out.set_range_end(*e.range_end);
  out.set_note(e.note);
  out.set_ref_ns(e.ref_ns);
  out.set_count(e.count);
}

Evidence ReadEvidence(const query::Evidence& in) {
  Evidence e;
  e.what = in.what();
  e.label = in.label();
  e.host = in.host();
  e.observer = in.observer();
  e.speaker = in.speaker();
  e.listener = in.listener();
  e.method = in.method();
  e.call_id = in.call_id();
  e.statement_id = in.statement_id();
  e.t_ns = in.t_ns();
  e.region_id = in.region_id();
  e.version = in.version();
  if (in.has_key()) e.key = in.key();
  if (in.has_range_start()) e.range_start = in.range_start();
  if (in.has_range_end()) e.range_end = in.range_end();
  e.note = in.note();
  e.ref_ns = in.ref_ns();
  e.count = in.count();
  return e;
}

void WriteVerdict(const Verdict& v, query::Verdict& out) {
  out.set_id(v.id);
  out.set_component(ComponentName(v.component));
  out.set_certain(v.certain);
  out.set_rule(v.rule);
  out.set_client(v.client);
  out.set_server(v.server);
  out.set_region_id(v.region_id);
  out.set_version(v.version);
  out.set_key(v.key);
  out.set_occurrences(v.occurrences);
  out.set_first_ns(v.first_ns);
  out.set_last_ns(v.last_ns);
  out.set_text(v.text);
  for (const Evidence& e : v.evidence) WriteEvidence(e, *out.add_evidence());
  for (const Occurrence& o : v.occurrence_list) {
    query::Occurrence& to = *out.add_occurrence_list();
    to.set_t_ns(o.t_ns);
    to.set_what(o.what);
    to.set_call_id(o.call_id);
    to.set_region_id(o.region_id);
    to.set_version(o.version);
    if (o.key) to.set_key(*o.key);
    to.set_statement_id(o.statement_id);
    if (o.range_start) to.set_range_start(*o.range_start);
    if (o.range_end) to.set_range_end(*o.range_end);
  }
  for (const std::string& note : v.weakened_by) out.add_weakened_by(note);
  out.set_culprit(v.culprit);
  for (const std::string& note : v.sure_of) out.add_sure_of(note);
}

Verdict ReadVerdict(const query::Verdict& in) {
  Verdict v;
  v.id = in.id();
  v.component = ComponentOf(in.component());
  v.certain = in.certain();
  v.rule = in.rule();
  v.client = in.client();
  v.server = in.server();
  v.region_id = in.region_id();
  v.version = in.version();
  v.key = in.key();
  v.occurrences = in.occurrences();
  v.first_ns = in.first_ns();
  v.last_ns = in.last_ns();
  v.text = in.text();
  for (const query::Evidence& e : in.evidence()) v.evidence.push_back(ReadEvidence(e));
  for (const query::Occurrence& from : in.occurrence_list()) {
    Occurrence& o = v.occurrence_list.emplace_back();
    o.t_ns = from.t_ns();
    o.what = from.what();
    o.call_id = from.call_id();
    o.region_id = from.region_id();
    o.version = from.version();
    if (from.has_key()) o.key = from.key();
    o.statement_id = from.statement_id();
    if (from.has_range_start()) o.range_start = from.range_start();
    if (from.has_range_end()) o.range_end = from.range_end();
  }
  v.weakened_by = Strings(in.weakened_by());
  v.culprit = in.culprit();
  v.sure_of = Strings(in.sure_of());
  return v;
}

void WriteInconclusive(const Inconclusive& i, query::Inconclusive& out) {
  for (const Component c : i.suspects) out.add_suspects(ComponentName(c));
  for (const std::string& missing : i.missing) out.add_missing(missing);
  out.set_rule(i.rule);
  out.set_client(i.client);
  out.set_server(i.server);
  out.set_region_id(i.region_id);
  out.set_version(i.version);
  out.set_key(i.key);
  out.set_occurrences(i.occurrences);
  out.set_first_ns(i.first_ns);
  out.set_last_ns(i.last_ns);
  out.set_text(i.text);
  for (const Evidence& e : i.evidence) WriteEvidence(e, *out.add_evidence());
}

Inconclusive ReadInconclusive(const query::Inconclusive& in) {
  Inconclusive i;
  for (const std::string& name : in.suspects()) i.suspects.push_back(ComponentOf(name));
  i.missing = Strings(in.missing());
  i.rule = in.rule();
  i.client = in.client();
  i.server = in.server();
  i.region_id = in.region_id();
  i.version = in.version();
  i.key = in.key();
  i.occurrences = in.occurrences();
  i.first_ns = in.first_ns();
  i.last_ns = in.last_ns();
  i.text = in.text();
  for (const query::Evidence& e : in.evidence()) i.evidence.push_back(ReadEvidence(e));
  return i;
}

AgentProgress ReadAgent(const query::Agent& in) {
  AgentProgress a;
  a.id = in.id();
  a.key = in.key();
  a.host = in.host();
  a.role = in.role();
  a.epoch = in.epoch();
  a.hostname = in.hostname();
  a.version = in.version();
  a.input = in.input();
  a.first_seen_ns = in.first_seen_ns();
  a.last_seen_ns = in.last_seen_ns();
  a.batches = in.batches();
  a.records = in.records();
  a.losses = in.losses();
  if (in.has_records_per_s()) a.records_per_s = in.records_per_s();
  a.mean_records_per_s = in.mean_records_per_s();
  a.redaction = {RedactionOf(in.redaction()), in.redact_secret()};
  return a;
}

}  // namespace

size_t WriteRow(const std::vector<Store::QueryValue>& values, query::SqlRow& out) {
  size_t bytes = 0;
  for (const Store::QueryValue& v : values) {
    WriteValue(v, *out.add_values());
    bytes += v.bytes.size() + 12;
  }
  return bytes;
}

void ReadRow(const query::SqlRow& row, std::vector<Store::QueryValue>& values) {
  values.resize(static_cast<size_t>(row.values_size()));
  for (int i = 0; i < row.values_size(); ++i) ReadValue(row.values(i), values[static_cast<size_t>(i)]);
}

void WriteRequest(const SqlRequest& request, query::SqlRequest& out) {
  out.set_purpose(request.purpose);
  if (request.named.empty()) {
    out.set_sql(request.sql);
  } else {
    out.set_named(request.named);
  }
  for (const auto& [name, value] : request.parameters) WriteValue(value, (*out.mutable_parameters())[name]);
  out.set_row_limit(request.max_rows);
  // Up: a limit of half a millisecond must not become none.
  out.set_time_limit_ms(static_cast<uint64_t>(request.max_time_ns + 999'999) / 1'000'000);
}

SqlRequest ReadRequest(const query::SqlRequest& in) {
  SqlRequest request;
  request.purpose = in.purpose();
  request.sql = in.sql();
  request.named = in.named();
  for (const auto& [name, value] : in.parameters()) ReadValue(value, request.parameters[name]);
  request.max_rows = in.row_limit();
  constexpr uint64_t kMostMs = static_cast<uint64_t>(INT64_MAX) / 1'000'000;
  request.max_time_ns = static_cast<int64_t>(std::min(in.time_limit_ms(), kMostMs)) * 1'000'000;
  return request;
}

void WriteReport(const InvestigationReport& report, query::VerdictsAnswer& out) {
  for (const Verdict& v : report.verdicts) WriteVerdict(v, *out.add_verdicts());
  for (const Inconclusive& i : report.inconclusive) WriteInconclusive(i, *out.add_inconclusive());
  for (const auto& [name, count] : report.benign) (*out.mutable_benign())[name] = count;
  for (const HostReport& h : report.hosts) {
    query::Host& host = *out.add_hosts();
    host.set_host(h.host);
    host.set_address(h.address);
    host.set_role(h.role);
    if (h.clock_offset_ns) host.set_clock_offset_ns(*h.clock_offset_ns);
    if (h.offset_error_ns) host.set_offset_error_ns(*h.offset_error_ns);
    host.set_reference(h.reference);
    host.set_clock_at_ns(h.clock_at_ns);
    if (h.clock_drift_ppb) host.set_clock_drift_ppb(*h.clock_drift_ppb);
    host.set_clock_steps(h.clock_steps);
  }
  for (const TranslationReport& t : report.translations) {
    query::Translation& translation = *out.add_translations();
    translation.set_host(t.host);
    translation.set_client(t.client);
    translation.set_client_at_server(t.client_at_server);
    translation.set_server(t.server);
    translation.set_server_at_client(t.server_at_client);
    translation.set_connections(t.connections);
    translation.set_calls(t.calls);
  }
  for (const LossReport& l : report.losses) {
    query::ReportLoss& loss = *out.add_losses();
    loss.set_host(l.host);
    loss.set_kind(l.kind);
    loss.set_count(l.count);
    loss.set_first_ns(l.first_ns);
    loss.set_last_ns(l.last_ns);
  }
  out.set_calls(report.calls);
  out.set_unread(report.unread);
  out.set_routed_requests(report.routed_requests);
  out.set_statements(report.statements);
  out.set_regions(report.regions);
  out.set_complaints(report.complaints);
  out.set_key_forms(report.key_forms);
  for (const std::string& host : report.not_captured) out.add_not_captured(host);
}

InvestigationReport ReadReport(const query::VerdictsAnswer& in) {
  InvestigationReport report;
  for (const query::Verdict& v : in.verdicts()) report.verdicts.push_back(ReadVerdict(v));
  for (const query::Inconclusive& i : in.inconclusive()) report.inconclusive.push_back(ReadInconclusive(i));
  for (const auto& [name, count] : in.benign()) report.benign[name] = count;
  for (const query::Host& h : in.hosts()) {
    HostReport& host = report.hosts.emplace_back();
    host.host = h.host();
    host.address = h.address();
    host.role = h.role();
    if (h.has_clock_offset_ns()) host.clock_offset_ns = h.clock_offset_ns();
    if (h.has_offset_error_ns()) host.offset_error_ns = h.offset_error_ns();
    host.reference = h.reference();
    host.clock_at_ns = h.clock_at_ns();
    if (h.has_clock_drift_ppb()) host.clock_drift_ppb = h.clock_drift_ppb();
    host.clock_steps = h.clock_steps();
  }
  for (const query::Translation& t : in.translations()) {
    report.translations.push_back({t.host(), t.client(), t.client_at_server(), t.server(),
                                   t.server_at_client(), t.connections(), t.calls()});
  }
  for (const query::ReportLoss& l : in.losses()) {
    report.losses.push_back({l.host(), l.kind(), l.count(), l.first_ns(), l.last_ns()});
  }
  report.calls = in.calls();
  report.unread = in.unread();
  report.routed_requests = in.routed_requests();
  report.statements = in.statements();
  report.regions = in.regions();
  report.complaints = in.complaints();
  report.key_forms = in.key_forms();
  report.not_captured = Strings(in.not_captured());
  return report;
}

void WriteAgent(const AgentProgress& a, query::Agent& out) {
  out.set_id(a.id);
  out.set_key(a.key);
  out.set_host(a.host);
  out.set_role(a.role);
  out.set_epoch(a.epoch);
  out.set_hostname(a.hostname);
  out.set_version(a.version);
  out.set_input(a.input);
  out.set_first_seen_ns(a.first_seen_ns);
  out.set_last_seen_ns(a.last_seen_ns);
  out.set_batches(a.batches);
  out.set_records(a.records);
  out.set_losses(a.losses);
  if (a.records_per_s) out.set_records_per_s(*a.records_per_s);
  out.set_mean_records_per_s(a.mean_records_per_s);
  out.set_redaction(std::string(RedactionName(a.redaction.mode)));
  out.set_redact_secret(a.redaction.secret);
}

void WriteAgents(const AgentsReport& report, query::AgentsAnswer& out) {
  for (const AgentProgress& a : report.agents) WriteAgent(a, *out.add_agents());
  out.set_now_ns(report.now_ns);
  if (!report.queries) return;
  const ServiceStats& from = *report.queries;
  query::QueryStats& to = *out.mutable_queries();
  to.set_running(from.running);
  to.set_waiting(from.waiting);
  to.set_answered(from.answered);
  to.set_row_limited(from.row_limited);
  to.set_timed_out(from.timed_out);
  to.set_cancelled(from.cancelled);
  to.set_refused(from.refused);
  to.set_wrong(from.wrong);
  to.set_turned_away(from.turned_away);
  to.set_out_of_memory(from.out_of_memory);
  to.set_aborted(from.aborted);
  to.set_watchers(from.watchers);
}

AgentsReport ReadAgents(const query::AgentsAnswer& in) {
  AgentsReport report;
  for (const query::Agent& a : in.agents()) report.agents.push_back(ReadAgent(a));
  report.now_ns = in.now_ns();
  if (!in.has_queries()) return report;
  const query::QueryStats& from = in.queries();
  report.queries = ServiceStats{from.running(),     from.waiting(),       from.answered(), from.row_limited(),
                                from.timed_out(),   from.cancelled(),     from.refused(),  from.wrong(),
                                from.turned_away(), from.out_of_memory(), from.aborted(),  from.watchers()};
  return report;
}

void WriteLoss(const LostEntry& loss, query::Loss& out) {
  out.set_host(loss.host);
  out.set_kind(loss.kind);
  out.set_count(loss.count);
  if (loss.first_ns) out.set_first_ns(*loss.first_ns);
  if (loss.last_ns) out.set_last_ns(*loss.last_ns);
  out.set_clock(loss.clock);
  out.set_meaning(loss.meaning);
}

LostEntry ReadLoss(const query::Loss& in) {
  LostEntry loss;
  loss.host = in.host();
  loss.kind = in.kind();
  loss.count = in.count();
  if (in.has_first_ns()) loss.first_ns = in.first_ns();
  if (in.has_last_ns()) loss.last_ns = in.last_ns();
  loss.clock = in.clock();
  loss.meaning = in.meaning();
  return loss;
}

void WriteEvent(const WatchEvent& event, query::WatchEvent& out) {
  out.set_at_ns(event.at_ns);
  if (const auto* agents = std::get_if<std::vector<AgentProgress>>(&event.what)) {
    out.mutable_rates();
    for (const AgentProgress& a : *agents) WriteAgent(a, *out.mutable_rates()->add_agents());
  } else if (const VerdictLine* v = std::get_if<VerdictLine>(&event.what)) {
    query::VerdictLine& to = *out.mutable_verdict();
    to.set_id(v->id);
    to.set_component(v->component);
    to.set_certain(v->certain);
    to.set_rule(v->rule);
    to.set_client(v->client);
    to.set_server(v->server);
    to.set_region_id(v->region_id);
    to.set_version(v->version);
    to.set_occurrences(v->occurrences);
    to.set_first_ns(v->first_ns);
    to.set_last_ns(v->last_ns);
    to.set_text(v->text);
    to.set_is_new(v->is_new);
    to.set_withdrawn(v->withdrawn);
  } else if (const LossLine* loss = std::get_if<LossLine>(&event.what)) {
    out.mutable_loss()->set_host(loss->host);
    out.mutable_loss()->set_kind(loss->kind);
    out.mutable_loss()->set_count(loss->count);
    out.mutable_loss()->set_total(loss->total);
  } else if (const AgentProgress* agent = std::get_if<AgentProgress>(&event.what)) {
    WriteAgent(*agent, *out.mutable_agent());
  }
}

WatchEvent ReadEvent(const query::WatchEvent& in) {
  WatchEvent event;
  event.at_ns = in.at_ns();
  if (in.has_verdict()) {
    const query::VerdictLine& from = in.verdict();
    event.what =
        VerdictLine{from.id(),      from.component(), from.certain(), from.rule(),        from.client(),
                    from.server(),  from.region_id(), from.version(), from.occurrences(), from.first_ns(),
                    from.last_ns(), from.text(),      from.is_new(),  from.withdrawn()};
  } else if (in.has_loss()) {
    event.what = LossLine{in.loss().host(), in.loss().kind(), in.loss().count(), in.loss().total()};
  } else if (in.has_agent()) {
    event.what = ReadAgent(in.agent());
  } else {
    std::vector<AgentProgress> agents;
    for (const query::Agent& a : in.rates().agents()) agents.push_back(ReadAgent(a));
    event.what = std::move(agents);
  }
  return event;
}

}  // namespace keytrail
