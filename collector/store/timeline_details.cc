#include "collector/store/timeline_details.h"

#include <algorithm>

#include "collector/store/timeline_sql.h"

namespace keytrail {

namespace {

// Ids in one statement: far below what SQLite's parser takes.
constexpr size_t kIdsAtOnce = 500;
// Of one call that are shown; the rest is counted. A scan of PD answers with up to 128 regions.
constexpr uint64_t kMostKeys = 8;
constexpr uint64_t kMostStatements = 256;

void NoColumns(const Store::QueryColumns&) {}

using Calls = std::map<uint64_t, TimelineCall>;

Status ReadCalls(const std::string& list, const TimelineSql& sql, Calls& calls) {
  return sql(
      "SELECT id, method, command, kind, method_from, stream, request_id, region_id, conf_ver, version, "
      "start_ts,"
      " sql_connection, grpc_status, grpc_message, incomplete, client_known FROM calls WHERE id IN (" +
          list + ")",
      NoColumns, [&](const auto& values) {
        const SqlRow row(values);
        TimelineCall& call = calls[row.Number(0)];
        call.method = row.OptionalText(1).value_or("");
        call.command = row.OptionalText(2).value_or("");
        call.kind = row.Text(3);
        call.method_from = row.Text(4);
        call.stream = row.Number(5);
        call.request_id = row.OptionalNumber(6);
        call.region_id = row.OptionalNumber(7);
        call.conf_ver = row.OptionalNumber(8);
        call.version = row.OptionalNumber(9);
        call.start_ts = row.OptionalNumber(10);
        call.sql_connection = row.OptionalNumber(11);
        call.grpc_status = row.OptionalSigned(12);
        call.grpc_message = row.OptionalText(13).value_or("");
        call.incomplete = row.OptionalText(14).value_or("");
        call.client_known = row.Number(15) != 0;
        return true;
      });
}

Status ReadKeys(const std::string& list, const TimelineSql& sql, Calls& calls) {
  const std::string most = std::to_string(kMostKeys);
  const Status keys = sql("SELECT call_id, start_key, end_key FROM call_keys WHERE side = 0 AND n < " + most +
                              " AND call_id IN (" + list + ") ORDER BY call_id, n",
                          NoColumns, [&](const auto& values) {
                            const SqlRow row(values);
                            calls[row.Number(0)].keys.push_back({row.Text(1), row.OptionalText(2)});
                            return true;
                          });
  if (!keys.ok()) return keys;
  return sql("SELECT call_id, count(*) FROM call_keys WHERE side = 0 AND n >= " + most + " AND call_id IN (" +
                 list + ") GROUP BY call_id",
             NoColumns, [&](const auto& values) {
               const SqlRow row(values);
               calls[row.Number(0)].more_keys = row.Number(1);
               return true;
             });
}

Status ReadStatements(const std::string& list, const TimelineSql& sql, Calls& calls) {
  return sql("WITH q(id) AS (SELECT id FROM call_rows WHERE id IN (" + list +
                 ")) SELECT s.call_id, s.id, s.source, s.region_id, s.version, s.start_key, s.end_key FROM q "
                 "CROSS JOIN"
                 " statements s ON s.id BETWEEN q.id * 65536 AND q.id * 65536 + 65535 ORDER BY s.id",
             NoColumns, [&](const auto& values) {
               const SqlRow row(values);
               TimelineCall& call = calls[row.Number(0)];
               if (call.statements.size() == kMostStatements) {
                 ++call.more_statements;
                 return true;
               }
               call.statements.push_back({row.Number(1), row.Text(2), row.Number(3), row.OptionalNumber(4),
                                          row.Text(5), row.Text(6)});
               return true;
             });
}

Status ReadErrors(const std::string& list, const TimelineSql& sql, Calls& calls) {
  const Status errors =
      sql("SELECT call_id, kind, text, region_id, key, range_start, range_end, start_key, end_key FROM "
          "errors WHERE"
          " call_id IN (" +
              list + ") AND n < " + std::to_string(kMostKeys) + " ORDER BY call_id, side, n",
          NoColumns, [&](const auto& values) {
            const SqlRow row(values);
            calls[row.Number(0)].errors.push_back(
                {row.Text(1), row.OptionalText(2).value_or(""), row.OptionalNumber(3), row.OptionalText(4),
                 row.OptionalText(5), row.OptionalText(6), row.OptionalText(7), row.OptionalText(8)});
            return true;
          });
  if (!errors.ok()) return errors;
  return sql("SELECT call_id, region_id FROM asked_regions WHERE call_id IN (" + list + ") AND n < " +
                 std::to_string(kMostKeys) + " ORDER BY call_id, n",
             NoColumns, [&](const auto& values) {
               const SqlRow row(values);
               calls[row.Number(0)].asked_regions.push_back(row.Number(1));
               return true;
             });
}

}  // namespace

Result<std::map<uint64_t, TimelineCall>> ReadTimelineDetails(const std::vector<uint64_t>& ids,
                                                             const TimelineSql& sql) {
  Calls calls;
  for (size_t begin = 0; begin < ids.size(); begin += kIdsAtOnce) {
    const auto first = ids.begin() + static_cast<ptrdiff_t>(begin);
    const auto last = ids.begin() + static_cast<ptrdiff_t>(std::min(ids.size(), begin + kIdsAtOnce));
    const std::string list = SqlList(std::vector<uint64_t>(first, last));
    for (const auto read : {ReadCalls, ReadKeys, ReadStatements, ReadErrors}) {
      const Status status = read(list, sql, calls);
      if (!status.ok()) return Error{status.error()};
    }
  }
  return calls;
}

void MergeDetails(const TimelineCall& from, TimelineCall& into) {
  const auto number = [](const auto& theirs, auto& ours) {
    if (!ours) ours = theirs;
  };
  const auto text = [](const std::string& theirs, std::string& ours) {
    if (ours.empty()) ours = theirs;
  };
  // A name that one end saw in a header is better than one that the other found by its shape.
  if (into.method.empty() || (from.method_from == "header" && into.method_from != "header")) {
    into.method = from.method;
    into.method_from = from.method_from;
  }
  text(from.command, into.command);
  text(from.grpc_message, into.grpc_message);
  number(from.request_id, into.request_id);
  number(from.region_id, into.region_id);
  number(from.conf_ver, into.conf_ver);
  number(from.version, into.version);
  number(from.start_ts, into.start_ts);
  number(from.sql_connection, into.sql_connection);
  number(from.grpc_status, into.grpc_status);
  if (into.keys.empty()) {
    into.keys = from.keys;
    into.more_keys = from.more_keys;
  }
  // Statements have ids of their own at each view: marks may point to either, so the shown view's are kept.
  if (into.statements.empty()) {
    into.statements = from.statements;
    into.more_statements = from.more_statements;
  }
  if (into.errors.empty()) into.errors = from.errors;
  if (into.asked_regions.empty()) into.asked_regions = from.asked_regions;
  // What one end missed the other may have seen: only what both lack is missing.
  if (from.incomplete.empty()) into.incomplete.clear();
}

}  // namespace keytrail
