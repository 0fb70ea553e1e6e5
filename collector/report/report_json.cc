#include <nlohmann/json.hpp>

#include "collector/report/report.h"
#include "common/bytes.h"
#include "common/key_codec.h"

namespace keytrail {
namespace {

using Json = nlohmann::ordered_json;

std::string Hex(const std::string& key) {
  return HexLower(AsBytes(key));
}

void AddRange(Json& out, const std::optional<std::string>& start, const std::optional<std::string>& end) {
  if (start && end) out["range"] = Json::array({Hex(*start), Hex(*end)});
}

Json EvidenceJson(const Evidence& e) {
  Json out;
  out["what"] = e.what;
  out["label"] = e.label;
  out["host"] = e.host;
  out["observer"] = e.observer;
  out["speaker"] = e.speaker;
  out["listener"] = e.listener;
  out["method"] = e.method;
  out["call_id"] = e.call_id;
  if (e.statement_id != 0) out["statement_id"] = e.statement_id;
  out["t_ns"] = e.t_ns;
  out["t_reference_ns"] = e.ref_ns;
  out["region_id"] = e.region_id;
  out["version"] = e.version;
  if (e.key) out["key"] = Hex(*e.key);
  AddRange(out, e.range_start, e.range_end);
  if (!e.note.empty()) out["note"] = e.note;
  return out;
}

Json EvidenceList(const std::vector<Evidence>& evidence) {
  Json out = Json::array();
  for (const Evidence& e : evidence) out.push_back(EvidenceJson(e));
  return out;
}

Json OccurrenceJson(const Occurrence& o) {
  Json out;
  out["t_ns"] = o.t_ns;
  out["what"] = o.what;
  out["call_id"] = o.call_id;
  if (o.statement_id != 0) out["statement_id"] = o.statement_id;
  out["region_id"] = o.region_id;
  out["version"] = o.version;
  if (o.key) out["key"] = Hex(*o.key);
  AddRange(out, o.range_start, o.range_end);
  return out;
}

Json VerdictJson(const Verdict& v) {
  Json out;
  out["id"] = v.id;
  out["component"] = ComponentName(v.component);
  out["confidence"] = v.certain ? "certain" : "inferred";
  out["rule"] = v.rule;
  out["client"] = v.client;
  out["server"] = v.server;
  out["region_id"] = v.region_id;
  out["version"] = v.version;
  out["key"] = Hex(v.key);
  out["occurrences"] = v.occurrences;
  out["first_ns"] = v.first_ns;
  out["last_ns"] = v.last_ns;
  out["text"] = v.text;
  out["evidence"] = EvidenceList(v.evidence);
  out["weakened_by"] = v.weakened_by;
  out["culprit"] = v.culprit;
  out["sure_of"] = v.sure_of;
  out["occurrence_list"] = Json::array();
  for (const Occurrence& o : v.occurrence_list) out["occurrence_list"].push_back(OccurrenceJson(o));
  return out;
}

Json InconclusiveJson(const Inconclusive& v) {
  Json out;
  out["suspects"] = Json::array();
  for (Component c : v.suspects) out["suspects"].push_back(ComponentName(c));
  out["missing"] = v.missing;
  out["rule"] = v.rule;
  out["client"] = v.client;
  out["server"] = v.server;
  out["region_id"] = v.region_id;
  out["version"] = v.version;
  out["key"] = Hex(v.key);
  out["occurrences"] = v.occurrences;
  out["first_ns"] = v.first_ns;
  out["last_ns"] = v.last_ns;
  out["text"] = v.text;
  out["evidence"] = EvidenceList(v.evidence);
  return out;
}

Json HostJson(const HostReport& h) {
  Json out;
  out["host"] = h.host;
  out["address"] = h.address;
  out["role"] = h.role;
  out["clock_offset_ns"] = h.clock_offset_ns ? Json(*h.clock_offset_ns) : Json(nullptr);
  out["offset_error_ns"] = h.offset_error_ns ? Json(*h.offset_error_ns) : Json(nullptr);
  out["reference"] = h.reference;
  out["clock_at_ns"] = h.clock_at_ns == 0 ? Json(nullptr) : Json(h.clock_at_ns);
  out["clock_drift_ppb"] = h.clock_drift_ppb ? Json(*h.clock_drift_ppb) : Json(nullptr);
  out["clock_steps"] = h.clock_steps;
  return out;
}

Json TranslationJson(const TranslationReport& t) {
  return {{"host", t.host},
          {"client", t.client},
          {"client_at_server", t.client_at_server},
          {"server", t.server},
          {"server_at_client", t.server_at_client},
          {"connections", t.connections},
          {"calls", t.calls}};
}

Json LossJson(const LossReport& l) {
  Json out;
  out["host"] = l.host;
  out["kind"] = l.kind;
  out["count"] = l.count;
  out["first_ns"] = l.first_ns == 0 ? Json(nullptr) : Json(l.first_ns);
  out["last_ns"] = l.last_ns == 0 ? Json(nullptr) : Json(l.last_ns);
  return out;
}

}  // namespace

std::string ReportJson(const InvestigationReport& report) {
  Json out;
  out["verdicts"] = Json::array();
  for (const Verdict& v : report.verdicts) out["verdicts"].push_back(VerdictJson(v));
  out["inconclusive"] = Json::array();
  for (const Inconclusive& v : report.inconclusive) out["inconclusive"].push_back(InconclusiveJson(v));
  out["benign"] = Json(report.benign);
  // The two that scripts ask for most are there even when nothing happened.
  for (const char* name : {"stale_route", "not_leader"}) {
    if (!out["benign"].contains(name)) out["benign"][name] = 0;
  }
  out["hosts"] = Json::array();
  for (const HostReport& h : report.hosts) out["hosts"].push_back(HostJson(h));
  out["translations"] = Json::array();
  for (const TranslationReport& t : report.translations) out["translations"].push_back(TranslationJson(t));
  out["losses"] = Json::array();
  for (const LossReport& l : report.losses) out["losses"].push_back(LossJson(l));
  out["calls"] = report.calls;
  out["checked"] = {{"unread", report.unread},         {"routed_requests", report.routed_requests},
                    {"statements", report.statements}, {"regions", report.regions},
                    {"complaints", report.complaints}, {"key_forms", report.key_forms}};
  out["not_captured"] = report.not_captured;
  // Names come from outside: what is no UTF-8 is replaced, not thrown at.
  return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace keytrail
