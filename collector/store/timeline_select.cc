#include "collector/store/timeline_select.h"

#include <algorithm>
#include <limits>

#include "collector/store/timeline_sql.h"
#include "common/call_record.h"

namespace keytrail {

namespace {

constexpr char kLookupMethods[] =
    "'/pdpb.PD/GetRegion','/pdpb.PD/GetPrevRegion','/pdpb.PD/GetRegionByID','/pdpb.PD/ScanRegions',"
    "'/pdpb.PD/BatchScanRegions','/pdpb.PD/QueryRegion','/routerpb.Router/GetRegion',"
    "'/routerpb.Router/GetPrevRegion','/routerpb.Router/GetRegionByID','/routerpb.Router/ScanRegions',"
    "'/routerpb.Router/BatchScanRegions','/routerpb.Router/QueryRegion'";

constexpr char kFirstTime[] = "coalesce(c.req_first_ns, c.req_last_ns, c.resp_first_ns, c.resp_last_ns)";
constexpr char kLastTime[] = "coalesce(c.resp_last_ns, c.resp_first_ns, c.req_last_ns, c.req_first_ns)";

std::string Number(int64_t n) {
  return std::to_string(n);
}

// A time of the reference as the agent's own clock shows it; a clock that is not related is taken as it is.
int64_t OwnTime(const TimelinePlaces& places, uint32_t agent, int64_t t) {
  return places.clocks().FromReference(places.ObserverName(agent), t).value_or(t);
}

// "start_key of the request equals the key, or its range holds it".
std::string Holds(const std::string& keys_alias, const std::string& key) {
  const std::string k = keys_alias + ".";
  return "(" + k + "start_key = " + key + " OR (" + k + "is_range AND " + k + "start_key <= " + key +
         " AND (" + k + "end_key > " + key + " OR " + k + "end_key = x'')))";
}

std::string IdsOfKey(const std::vector<std::string>& keys) {
  std::string sql;
  for (const std::string& key : keys) {
    const std::string blob = SqlBlob(key);
    sql += std::string(sql.empty() ? "" : " UNION ") +
           "SELECT k.call_id FROM call_keys k WHERE k.side = 0 AND " + Holds("k", blob) +
           " UNION SELECT call_id FROM errors WHERE key = " + blob +
           // Who was told where the key lives. A client's own words and error texts come with the request.
           " UNION SELECT call_id FROM statements WHERE source IN ('pd_get_region', 'pd_scan_regions',"
           " 'pd_query_region', 'epoch_not_match') AND start_key <= " +
           blob + " AND (end_key > " + blob + " OR end_key = x'')";
  }
  return sql;
}

}  // namespace

const std::string& RefusalKinds() {
  static const std::string kinds = [] {
    std::string out;
    for (int n = 1; n < 50; ++n) {
      const std::string_view name = ErrorKindName(static_cast<ErrorKind>(n));
      const bool about_route = n <= static_cast<int>(ErrorKind::kOtherRegionError) ||
                               n >= static_cast<int>(ErrorKind::kKeyOutOfRegion);
      if (about_route && !name.empty() && name != "none" && name != "unknown") {
        out += (out.empty() ? "" : ",") + SqlText(name);
      }
    }
    return out;
  }();
  return kinds;
}

std::string ObservationsSql(const std::string& ids_sql, const std::vector<TimelineWindow>& windows,
                            const TimelinePlaces& places) {
  std::string with = "WITH q(id) AS (" + ids_sql + ")";
  std::string where;
  if (!windows.empty()) {
    with += ", w(agent, lo, hi) AS (VALUES ";
    const char* comma = "";
    for (const uint32_t agent : places.agents()) {
      for (const TimelineWindow& w : windows) {
        with += comma + ("(" + std::to_string(agent) + "," + Number(OwnTime(places, agent, w.from_ns)) + "," +
                         Number(OwnTime(places, agent, w.to_ns)) + ")");
        comma = ",";
      }
    }
    if (places.agents().empty()) with += "(-1,0,0)";
    with += ")";
    where = std::string(" AND EXISTS (SELECT 1 FROM w WHERE w.agent = c.agent AND ") + kLastTime +
            " >= w.lo AND " + kFirstTime + " <= w.hi)";
  }
  return with +
         " SELECT c.id, c.agent, n.client, n.client_address, n.server, n.server_address, n.client_known, "
         "c.kind,"
         " c.stream, c.request_id, c.req_first_ns, c.req_last_ns, c.resp_first_ns, c.resp_last_ns, "
         "c.req_bytes,"
         " c.resp_bytes, EXISTS (SELECT 1 FROM errors e WHERE e.call_id = c.id AND e.side = 1 AND e.kind IN "
         "(" +
         RefusalKinds() +
         ")) FROM q CROSS JOIN call_rows c ON c.id = q.id JOIN connections n ON n.id = c.connection"
         // A stream's own record is only the envelope of its messages.
         " WHERE c.kind <> 4" +
         where;
}

std::string IdsOfQuestion(const TimelineQuestion& question) {
  const std::string number = SqlNumber(question.number);
  switch (question.about) {
    case TimelineQuestion::About::kKey:
      return IdsOfKey(question.keys);
    case TimelineQuestion::About::kRegion:
      return IdsOfRegions({question.number});
    case TimelineQuestion::About::kStartTs:
      return "SELECT id FROM call_rows WHERE start_ts = " + number + " OR commit_ts = " + number;
    case TimelineQuestion::About::kConnection:
      return "SELECT id FROM call_rows WHERE sql_connection = " + number;
    case TimelineQuestion::About::kVerdict:
    case TimelineQuestion::About::kTime:
      break;
  }
  return "SELECT id FROM call_rows";
}

std::string IdsOfRegions(const std::vector<uint64_t>& regions) {
  const std::string list = SqlList(regions);
  return "SELECT call_id FROM routes WHERE region_id IN (" + list +
         ") UNION SELECT call_id FROM statements WHERE region_id IN (" + list +
         ") UNION SELECT call_id FROM errors WHERE region_id IN (" + list +
         ") UNION SELECT call_id FROM asked_regions WHERE region_id IN (" + list + ")";
}

std::string IdsOfList(const std::vector<uint64_t>& ids) {
  return "SELECT id FROM call_rows WHERE id IN (" + SqlList(ids) + ")";
}

std::string FollowersSql(const std::vector<Refusal>& refusals, const TimelinePlaces& places) {
  std::string rows;
  int64_t least = std::numeric_limits<int64_t>::max();
  int64_t most = std::numeric_limits<int64_t>::min();
  for (const Refusal& r : refusals) {
    for (const uint32_t agent : r.agents) {
      const int64_t from = OwnTime(places, agent, r.answered_ns);
      const int64_t to = OwnTime(places, agent, r.answered_ns + kTimelineFollowNs);
      least = std::min(least, from);
      most = std::max(most, to);
      rows += (rows.empty() ? "(" : ",(") + std::to_string(r.number) + "," + std::to_string(agent) + "," +
              Number(from) + "," + Number(to) + "," + SqlText(r.client_address) + "," + SqlBlob(r.key) + "," +
              std::to_string(r.region_id) + "," + (r.start_ts ? SqlNumber(*r.start_ts) : "NULL") + "," +
              SqlText(r.method) + "," + (r.command.empty() ? "NULL" : SqlText(r.command)) + ")";
    }
  }
  // CROSS JOIN keeps the order: one scan of call_rows, whatever the number of refusals.
  return "WITH r(n, agent, lo, hi, address, k, region, ts, method, command) AS (VALUES " + rows +
         ") SELECT f.n, f.id, f.agent, v.method IN (" + kLookupMethods +
         "), f.t FROM (SELECT r.n AS n, c.id AS id, c.agent AS agent, " + kFirstTime +
         " AS t, r.ts AS ts, r.method AS method, r.command AS command FROM call_rows c"
         " CROSS JOIN connections x ON x.id = c.connection CROSS JOIN r ON r.agent = c.agent"
         " WHERE c.kind IN (1, 2) AND " +
         kFirstTime + " BETWEEN " + Number(least) + " AND " + Number(most) + " AND " + kFirstTime +
         " BETWEEN r.lo AND r.hi AND x.client_address = r.address"
         " AND (EXISTS (SELECT 1 FROM call_keys k WHERE k.call_id = c.id AND k.side = 0 AND " +
         Holds("k", "r.k") +
         ") OR EXISTS (SELECT 1 FROM asked_regions a WHERE a.call_id = c.id AND a.region_id = r.region))) f"
         " JOIN calls v ON v.id = f.id WHERE v.method IN (" +
         kLookupMethods +
         // A retry is the same command of the same transaction.
         ") OR (v.method = f.method AND v.command IS f.command AND (f.ts IS NULL OR v.start_ts IS f.ts))"
         " ORDER BY f.n, f.t, f.id";
}

std::string RoutesToldSql(const std::vector<Refusal>& refusals) {
  std::string rows;
  for (const Refusal& r : refusals) {
    if (!r.version) continue;
    rows += (rows.empty() ? "(" : ",(") + std::to_string(r.number) + "," + SqlNumber(r.region_id) + "," +
            SqlNumber(*r.version) + "," + SqlText(r.client_address) + ")";
  }
  if (rows.empty()) rows = "(0,0,0,'')";
  return "WITH r(n, region, version, address) AS (VALUES " + rows + ") SELECT r.n, c.id, c.agent, " +
         kLastTime +
         ", s.id FROM statements s CROSS JOIN r ON r.region = s.region_id AND r.version = s.version"
         " CROSS JOIN call_rows c ON c.id = s.call_id CROSS JOIN connections x ON x.id = c.connection"
         " WHERE s.source IN ('pd_get_region', 'pd_scan_regions', 'pd_query_region', 'epoch_not_match')"
         " AND x.client_address = r.address";
}

}  // namespace keytrail
