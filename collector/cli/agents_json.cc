#include "collector/cli/agents_json.h"

#include <nlohmann/json.hpp>

namespace keytrail {

namespace {

using nlohmann::ordered_json;

std::string Line(const ordered_json& object) {
  // Names come from hosts: what is no UTF-8 is replaced, not refused.
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

ordered_json TextOrNull(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json NumberOrNull(const std::optional<int64_t>& n) {
  return n ? ordered_json(*n) : ordered_json(nullptr);
}

ordered_json AgentObject(const AgentProgress& a) {
  return {{"id", a.id},
          {"host", a.host},
          {"agent_key", a.key},
          {"role", TextOrNull(a.role)},
          {"epoch", a.epoch},
          {"hostname", TextOrNull(a.hostname)},
          {"version", TextOrNull(a.version)},
          {"input", TextOrNull(a.input)},
          {"first_seen_ns", a.first_seen_ns},
          {"last_seen_ns", a.last_seen_ns},
          {"batches", a.batches},
          {"records", a.records},
          {"losses", a.losses},
          {"records_per_s", a.records_per_s ? ordered_json(*a.records_per_s) : ordered_json(nullptr)},
          {"mean_records_per_s", a.mean_records_per_s},
          {"redaction", TextOrNull(std::string(RedactionName(a.redaction.mode)))},
          {"redact_secret", TextOrNull(a.redaction.secret)}};
}

}  // namespace

std::string AgentsWarning(const AgentsReport& report) {
  std::vector<std::pair<std::string, Redaction>> hosts;
  for (const AgentProgress& a : report.agents) hosts.emplace_back(a.host, a.redaction);
  return RedactionsDiffer(hosts);
}

std::string AgentsJson(const AgentsReport& report) {
  ordered_json object = {{"now_ns", report.now_ns},
                         {"agents", ordered_json::array()},
                         {"warning", TextOrNull(AgentsWarning(report))},
                         {"queries", nullptr}};
  for (const AgentProgress& a : report.agents) object["agents"].push_back(AgentObject(a));
  if (report.queries) {
    const ServiceStats& q = *report.queries;
    object["queries"] = {{"running", q.running},         {"waiting", q.waiting},
                         {"answered", q.answered},       {"row_limited", q.row_limited},
                         {"timed_out", q.timed_out},     {"cancelled", q.cancelled},
                         {"refused", q.refused},         {"wrong", q.wrong},
                         {"turned_away", q.turned_away}, {"out_of_memory", q.out_of_memory},
                         {"aborted", q.aborted},         {"watchers", q.watchers}};
  }
  return Line(object);
}

std::string LossesJson(const std::vector<LostEntry>& losses) {
  ordered_json object = {{"losses", ordered_json::array()}};
  for (const LostEntry& l : losses) {
    object["losses"].push_back({{"host", l.host},
                                {"kind", l.kind},
                                {"count", l.count},
                                {"first_ns", NumberOrNull(l.first_ns)},
                                {"last_ns", NumberOrNull(l.last_ns)},
                                {"clock", l.clock},
                                {"meaning", l.meaning}});
  }
  return Line(object);
}

std::string EventJson(const WatchEvent& event) {
  ordered_json object = {{"event", ""}, {"at_ns", event.at_ns}};
  if (const auto* agents = std::get_if<std::vector<AgentProgress>>(&event.what)) {
    object["event"] = "rates";
    object["agents"] = ordered_json::array();
    for (const AgentProgress& a : *agents) object["agents"].push_back(AgentObject(a));
  } else if (const VerdictLine* v = std::get_if<VerdictLine>(&event.what)) {
    object["event"] = "verdict";
    object["verdict"] = {{"id", v->id},
                         {"component", v->component},
                         {"confidence", v->certain ? "certain" : "inferred"},
                         {"rule", v->rule},
                         {"client", v->client},
                         {"server", v->server},
                         {"region_id", v->region_id},
                         {"version", v->version},
                         {"occurrences", v->occurrences},
                         {"first_ns", v->first_ns},
                         {"last_ns", v->last_ns},
                         {"text", v->text}};
    object["change"] = v->withdrawn ? "withdrawn" : v->is_new ? "new" : "changed";
  } else if (const LossLine* loss = std::get_if<LossLine>(&event.what)) {
    object["event"] = "loss";
    object["loss"] = {
        {"host", loss->host}, {"kind", loss->kind}, {"count", loss->count}, {"total", loss->total}};
  } else if (const AgentProgress* agent = std::get_if<AgentProgress>(&event.what)) {
    object["event"] = "agent";
    object["agent"] = AgentObject(*agent);
  }
  return Line(object);
}

}  // namespace keytrail
