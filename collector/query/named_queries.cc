#include "collector/query/named_queries.h"

#include <charconv>

#include "common/key_codec.h"

namespace keytrail {

namespace {

using Kind = NamedParameter::Kind;
using Type = Store::QueryValue::Type;

constexpr NamedParameter kTwenty[] = {{"limit", Kind::kNumber, "rows at most", 20}};
constexpr NamedParameter kThousand[] = {{"limit", Kind::kNumber, "rows at most", 1000}};
constexpr NamedParameter kRegion[] = {{"region", Kind::kNumber, "region id", -1},
                                      {"limit", Kind::kNumber, "rows at most", 1000}};
constexpr NamedParameter kVerdict[] = {{"verdict", Kind::kNumber, "number of the verdict", -1}};
constexpr NamedParameter kStartTs[] = {{"start_ts", Kind::kNumber, "start_ts of the transaction", -1}};
constexpr NamedParameter kSqlConnection[] = {{"connection", Kind::kNumber, "SQL connection id", -1},
                                             {"limit", Kind::kNumber, "rows at most", 1000}};
constexpr NamedParameter kKey[] = {{"key", Kind::kKey, "encoded key in hex", -1}};

constexpr NamedQuery kQueries[] = {
    {"agents",
     "agents with what is stored of them",
     {},
     "agent_progress",
     "SELECT id, host, role, version, input, records, batches, losses, round(records_per_s, 1) AS "
     "records_per_s,"
     " ns_time(first_seen_ns) AS first_seen, ns_time(last_seen_ns) AS last_seen FROM agent_progress ORDER BY "
     "id"},
    {"connections", "TCP connections, those with the most calls first", kThousand, nullptr,
     "SELECT observer, client, max(client_process) AS client_process, server, max(server_process) AS"
     " server_process, joined, count(*) AS calls, ns_time(min(req_first_ns)) AS first,"
     " ns_time(max(req_first_ns)) AS last FROM calls GROUP BY observer, client, server, joined"
     " ORDER BY calls DESC, observer, client LIMIT :limit"},
    {"contradictions",
     "one region and version that was said to have two ranges",
     {},
     "regions",
     "SELECT r.region_id, r.version, tidb_key(r.start_key) AS start, tidb_key(r.end_key, 1) AS end,"
     " r.statements, r.sources, ns_time(r.first_ns) AS first, ns_time(r.last_ns) AS last FROM regions r"
     " JOIN (SELECT region_id, version FROM regions WHERE version IS NOT NULL GROUP BY region_id, version"
     " HAVING count(*) > 1) d ON d.region_id = r.region_id AND d.version = r.version"
     " ORDER BY r.region_id, r.version, r.first_ns"},
    {"errors-by-region",
     "errors in answers, counted by region and kind",
     {},
     "call_errors",
     "SELECT region_id, kind, count(*) AS observations, count(DISTINCT client) AS clients,"
     " ns_time(min(t_ns)) AS first, ns_time(max(t_ns)) AS last FROM call_errors GROUP BY region_id, kind"
     " ORDER BY observations DESC, region_id, kind"},
    {"evidence", "the evidence of a verdict", kVerdict, nullptr,
     "SELECT label, ns_time(ref_ns) AS time, speaker, listener, method, region_id, version,"
     " tidb_key(key) AS key, tidb_key(range_start) AS start, tidb_key(range_end, 1) AS end, note, count, "
     "call_id"
     " FROM evidence WHERE verdict_id = :verdict ORDER BY n"},
    {"hosts",
     "hosts with their roles and clocks",
     {},
     nullptr,
     "SELECT host, address, role, round(clock_offset_ns / 1e6, 6) AS offset_ms,"
     " round(offset_error_ns / 1e6, 6) AS error_ms, reference FROM hosts ORDER BY n"},
    {"incomplete-calls",
     "calls that are not whole, counted by reason and observer",
     {},
     nullptr,
     "SELECT observer, incomplete AS reason, kind, count(*) AS calls FROM calls WHERE incomplete IS NOT NULL"
     " GROUP BY observer, incomplete, kind ORDER BY calls DESC, observer, reason, kind"},
    {"key-not-in-region", "requests that a store refused because the key is not in its region", kThousand,
     "call_errors",
     "SELECT ns_time(t_ns) AS time, client, server, coalesce(command, method) AS what, kind, region_id, "
     "version,"
     " tidb_key(key) AS key, tidb_key(range_start) AS range_start, tidb_key(range_end, 1) AS range_end,"
     " tidb_key(start_key) AS region_start, tidb_key(end_key, 1) AS region_end, observer, call_id"
     " FROM call_errors WHERE kind IN ('key_not_in_region', 'key_out_of_region', 'range_exceeds_bound')"
     " ORDER BY t_ns, call_id, kind LIMIT :limit"},
    {"key-owners", "what was said about regions that hold a key", kKey, "regions",
     "SELECT region_id, version, tidb_key(start_key) AS start, tidb_key(end_key, 1) AS end, statements, "
     "sources,"
     " ns_time(first_ns) AS first, ns_time(last_ns) AS last FROM regions"
     " WHERE in_range(:key, start_key, end_key) ORDER BY first_ns"},
    {"lookups-by-region",
     "questions to PD, counted by the region that it answered with",
     {},
     "lookups",
     "SELECT region_id, version, count(*) AS observations, count(DISTINCT client) AS clients,"
     " count(DISTINCT hex(start_key) || '-' || hex(end_key)) AS ranges, ns_time(min(t_ns)) AS first,"
     " ns_time(max(t_ns)) AS last FROM lookups WHERE region_id IS NOT NULL GROUP BY region_id, version"
     " ORDER BY observations DESC, region_id, version"},
    {"lookups-of-region", "questions to PD that it answered with a region", kRegion, "lookups",
     "SELECT ns_time(t_ns) AS time, client, server, method, tidb_key(key) AS key, version,"
     " tidb_key(start_key) AS start, tidb_key(end_key, 1) AS end, round(latency_ns / 1e6, 3) AS ms, observer,"
     " call_id FROM lookups WHERE region_id = :region ORDER BY t_ns, call_id LIMIT :limit"},
    {"losses",
     "everything that is known to be missing, by host",
     {},
     "lost",
     "SELECT host, kind, sum(count) AS count, ns_time(min(first_ns)) AS first, ns_time(max(last_ns)) AS last,"
     " clock, meaning FROM lost GROUP BY host, kind, clock, meaning ORDER BY host, kind"},
    {"methods",
     "calls by method, and how the method is known",
     {},
     nullptr,
     "SELECT method, command, kind, method_from, count(*) AS observations, sum(req_bytes) AS req_bytes,"
     " sum(resp_bytes) AS resp_bytes FROM calls GROUP BY method, command, kind, method_from"
     " ORDER BY observations DESC, method, command, kind, method_from"},
    {"not-leader", "requests that a store refused because it does not lead the region", kThousand, nullptr,
     "SELECT ns_time(c.resp_last_ns) AS time, c.client, c.server, coalesce(e.region_id, c.region_id) AS "
     "region_id,"
     " c.store_id AS asked_store, e.leader_store_id AS leader_store, c.observer, c.id AS call_id"
     " FROM errors e JOIN calls c ON c.id = e.call_id WHERE e.kind = 'not_leader'"
     " ORDER BY c.resp_last_ns, c.id LIMIT :limit"},
    {"requests-of-region", "requests to a region, with the epoch that the client believed", kRegion,
     "requests",
     "SELECT ns_time(t_ns) AS time, client, server, coalesce(command, method) AS what, conf_ver, version,"
     " store_id, tidb_key(key) AS key, tidb_key(end_key, 1) AS end, errors, round(latency_ns / 1e6, 3) AS ms,"
     " observer, call_id FROM requests WHERE region_id = :region ORDER BY t_ns, call_id LIMIT :limit"},
    {"routes-of-region", "what was said of a region's range, over time", kRegion, nullptr,
     "SELECT ns_time(s.t_ns) AS time, s.source, c.client, c.server, s.conf_ver, s.version,"
     " tidb_key(s.start_key) AS start, tidb_key(s.end_key, 1) AS end, s.leader_store_id AS leader_store,"
     " c.observer, s.call_id FROM statements s JOIN calls c ON c.id = s.call_id WHERE s.region_id = :region"
     " ORDER BY s.t_ns, s.id LIMIT :limit"},
    {"slowest-lookups", "questions to PD that took longest", kTwenty, "lookups",
     "SELECT round(latency_ns / 1e6, 3) AS ms, ns_time(t_ns) AS time, client, server, method,"
     " tidb_key(key) AS key, count(region_id) AS regions, min(region_id) AS region_id, observer, call_id"
     " FROM lookups WHERE latency_ns IS NOT NULL GROUP BY call_id ORDER BY latency_ns DESC, call_id LIMIT "
     ":limit"},
    {"slowest-methods",
     "methods and sub-commands by latency",
     {},
     nullptr,
     "WITH ranked AS (SELECT coalesce(command, method, '?') AS what, latency_ns AS t,"
     " row_number() OVER w AS r, count(*) OVER (PARTITION BY coalesce(command, method, '?')) AS n"
     " FROM calls WHERE kind <> 'stream' AND latency_ns IS NOT NULL"
     " WINDOW w AS (PARTITION BY coalesce(command, method, '?') ORDER BY latency_ns))"
     " SELECT what, n AS observations, round(avg(t) / 1e6, 3) AS avg_ms,"
     " round(max(iif(r * 100 <= n * 50 + 99, t, NULL)) / 1e6, 3) AS p50_ms,"
     " round(max(iif(r * 100 <= n * 99 + 99, t, NULL)) / 1e6, 3) AS p99_ms, round(max(t) / 1e6, 3) AS max_ms"
     " FROM ranked GROUP BY what ORDER BY max(t) DESC, what"},
    {"slowest-requests", "requests to regions that took longest", kTwenty, "requests",
     "SELECT round(latency_ns / 1e6, 3) AS ms, ns_time(t_ns) AS time, client, server,"
     " coalesce(command, method) AS what, region_id, tidb_key(key) AS key, errors, observer, call_id"
     " FROM requests WHERE latency_ns IS NOT NULL AND route = 0 ORDER BY latency_ns DESC, call_id LIMIT "
     ":limit"},
    {"sql-connection", "calls of a SQL connection", kSqlConnection, nullptr,
     "SELECT ns_time(req_first_ns) AS time, client, server, coalesce(command, method) AS what, region_id,"
     " start_ts, request_source, round(latency_ns / 1e6, 3) AS ms, observer, id AS call_id FROM calls"
     " WHERE sql_connection = :connection ORDER BY req_first_ns, id LIMIT :limit"},
    {"stale-routes",
     "routes that a store refused as too old, by client and region",
     {},
     "call_errors",
     "SELECT client, region_id, version AS used_version, max(current_version) AS current_version,"
     " count(*) AS observations, ns_time(min(t_ns)) AS first, ns_time(max(t_ns)) AS last FROM call_errors"
     " WHERE kind IN ('epoch_not_match', 'epoch_text') GROUP BY client, region_id, version"
     " ORDER BY observations DESC, client, region_id"},
    {"stores",
     "stores and the addresses that requests for them were sent to",
     {},
     nullptr,
     "SELECT store_id, server, calls AS observations, ns_time(first_ns) AS first, ns_time(last_ns) AS last"
     " FROM stores ORDER BY store_id, server"},
    {"transaction", "calls of a transaction", kStartTs, nullptr,
     "SELECT ns_time(req_first_ns) AS time, client, server, coalesce(command, method) AS what, region_id,"
     " commit_ts, (SELECT group_concat(DISTINCT e.kind) FROM errors e WHERE e.call_id = calls.id) AS errors,"
     " round(latency_ns / 1e6, 3) AS ms, observer, id AS call_id FROM calls WHERE start_ts = :start_ts"
     " ORDER BY req_first_ns, id"},
    {"wrong-routes",
     "statements that the verdicts hold to be wrong",
     {},
     nullptr,
     "SELECT v.id AS verdict, v.component, ns_time(o.t_ns) AS time, c.client, c.server, s.source, "
     "o.region_id,"
     " o.version, tidb_key(o.range_start) AS start, tidb_key(o.range_end, 1) AS end, o.call_id"
     " FROM occurrences o JOIN verdicts v ON v.id = o.verdict_id JOIN calls c ON c.id = o.call_id"
     " LEFT JOIN statements s ON s.id = o.statement_id WHERE o.what = 'wrong_statement' ORDER BY v.id, o.n"},
};

Store::QueryValue NumberValue(int64_t n) {
  Store::QueryValue value;
  value.type = Type::kInteger;
  value.integer = n;
  return value;
}

std::string Usage(const NamedQuery& query) {
  std::string text;
  for (const NamedParameter& p : query.parameters) {
    text += text.empty() ? "" : " ";
    text += std::string(p.name) + "=";
    text += p.standard >= 0 ? std::to_string(p.standard) : p.kind == Kind::kKey ? "HEX" : "N";
  }
  return text;
}

const NamedQuery* Find(const std::string& name) {
  for (const NamedQuery& query : kQueries) {
    if (name == query.name) return &query;
  }
  return nullptr;
}

}  // namespace

std::span<const NamedQuery> NamedQueries() {
  return kQueries;
}

Result<SqlQuestion> NamedQuestion(const std::string& name,
                                  const std::map<std::string, Store::QueryValue>& parameters) {
  const NamedQuery* query = Find(name);
  if (query == nullptr) return Error{"there is no saved query '" + name + "'"};
  SqlQuestion question;
  question.sql = query->sql;
  question.parameters = parameters;
  for (const NamedParameter& p : query->parameters) {
    const auto given = question.parameters.find(p.name);
    if (given == question.parameters.end()) {
      if (p.standard < 0) {
        return Error{"'" + name + "' needs the parameter " + p.name + ", " + p.meaning + ": " +
                     Usage(*query)};
      }
      question.parameters[p.name] = NumberValue(p.standard);
      continue;
    }
    const bool right =
        p.kind == Kind::kNumber ? given->second.type == Type::kInteger : given->second.type == Type::kBlob;
    if (!right) {
      return Error{"'" + name + "': the parameter " + p.name + " is " +
                   (p.kind == Kind::kNumber ? "a number" : "a key in hex, with 0x before it") + ", " +
                   p.meaning};
    }
  }
  if (question.parameters.size() > query->parameters.size()) {
    const std::string usage = Usage(*query);
    return Error{"'" + name + "' " +
                 (usage.empty() ? "has no parameters" : "has these parameters only: " + usage)};
  }
  return question;
}

Result<std::pair<std::string, Store::QueryValue>> ParseParameter(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Error{"'" + text + "' is no parameter; NAME=VALUE is"};
  }
  const std::string value = text.substr(equals + 1);
  Store::QueryValue parsed;
  parsed.type = Type::kText;
  parsed.bytes = value;
  const auto is_number = [&](auto& number) {
    const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), number);
    return problem == std::errc() && end == value.data() + value.size();
  };
  int64_t number = 0;
  uint64_t large = 0;
  if (is_number(number)) {
    parsed = NumberValue(number);
  } else if (is_number(large)) {
    // As the database keeps it (start_ts of a read of the newest).
    parsed = NumberValue(static_cast<int64_t>(large));
  } else if (value.starts_with("0x") || value.starts_with("0X")) {
    const std::optional<std::string> bytes = FromHex(value.substr(2));
    if (!bytes) return Error{"'" + text + "': what follows 0x is no hex"};
    parsed.type = Type::kBlob;
    parsed.bytes = *bytes;
  }
  return std::pair(text.substr(0, equals), parsed);
}

std::string NamedQueryList() {
  size_t widest = 0;
  const auto head = [](const NamedQuery& q) {
    const std::string usage = Usage(q);
    return std::string(q.name) + (usage.empty() ? "" : "  " + usage);
  };
  for (const NamedQuery& q : kQueries) widest = std::max(widest, head(q).size());
  std::string out;
  for (const NamedQuery& q : kQueries) {
    std::string line = head(q);
    line.append(widest + 2 - line.size(), ' ');
    out += line + q.meaning + "\n";
  }
  return out;
}

}  // namespace keytrail
