// What outlives a window that is dropped.

#include "collector/store/folder.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// Calls of the report, and the first to state each route, by who said it to whom. SQLite's bare columns are
// those of the row with the minimum.
constexpr char kChooseSql[] =
    "CREATE TEMP TABLE carried (id INTEGER PRIMARY KEY);"
    "INSERT OR IGNORE INTO carried SELECT r.id FROM w.call_rows r WHERE r.id IN (SELECT call_id FROM"
    " main.evidence UNION SELECT call_id FROM main.occurrences UNION SELECT statement_id >> 16 FROM"
    " main.evidence WHERE statement_id IS NOT NULL);"
    "INSERT OR IGNORE INTO carried SELECT id FROM (SELECT min(s.call_id) AS id, s.region_id AS r, s.version "
    "AS"
    " v, s.conf_ver AS f, s.start_key AS a, s.end_key AS b, s.source AS o, n.client_address AS c, n.server "
    "AS p"
    " FROM w.statements s JOIN w.call_rows q ON q.id = s.call_id JOIN w.connections n ON n.id = q.connection"
    " GROUP BY s.region_id, s.version, s.conf_ver, s.start_key, s.end_key, s.source, n.client_address, "
    "n.server)"
    " d WHERE NOT EXISTS (SELECT 1 FROM main.statements s JOIN main.call_rows q ON q.id = s.call_id"
    " JOIN main.connections n ON n.id = q.connection WHERE s.region_id = d.r AND s.version IS d.v"
    " AND s.conf_ver IS d.f AND s.start_key = d.a AND s.end_key = d.b AND s.source = d.o"
    " AND n.client_address = d.c AND n.server = d.p);";

constexpr char kCopySql[] =
    "INSERT OR IGNORE INTO main.call_rows SELECT t.* FROM carried JOIN w.call_rows t USING (id);"
    "INSERT OR IGNORE INTO main.call_keys SELECT t.* FROM carried JOIN w.call_keys t ON t.call_id = "
    "carried.id;"
    "INSERT OR IGNORE INTO main.routes SELECT t.* FROM carried JOIN w.routes t ON t.call_id = carried.id;"
    "INSERT OR IGNORE INTO main.asked_regions SELECT t.* FROM carried JOIN w.asked_regions t ON t.call_id ="
    " carried.id;"
    "INSERT OR IGNORE INTO main.errors SELECT t.* FROM carried JOIN w.errors t ON t.call_id = carried.id;"
    "INSERT OR IGNORE INTO main.statements SELECT t.* FROM carried JOIN w.statements t ON t.id BETWEEN"
    " carried.id << 16 AND (carried.id << 16) + 65535;"
    "INSERT OR IGNORE INTO main.connections SELECT * FROM w.connections WHERE id IN (SELECT connection FROM"
    " main.call_rows);"
    "INSERT OR REPLACE INTO main.amendments SELECT x.* FROM w.amendments x JOIN (SELECT DISTINCT n.agent,"
    " n.serial, r.stream FROM carried JOIN main.call_rows r USING (id) JOIN main.connections n ON n.id ="
    " r.connection) c USING (agent, serial, stream);"
    "INSERT OR IGNORE INTO main.methods SELECT * FROM w.methods WHERE id IN (SELECT method FROM "
    "main.call_rows"
    " UNION SELECT method FROM main.amendments);"
    // Losses never go; one row for each agent and kind says their sum.
    "CREATE TEMP TABLE lost_before AS SELECT max(id) AS id, agent, kind, sum(count) AS count, min(first_ns) "
    "AS"
    " first_ns, max(last_ns) AS last_ns FROM (SELECT * FROM main.losses UNION ALL SELECT * FROM w.losses)"
    " GROUP BY agent, kind;"
    "DELETE FROM main.losses; INSERT INTO main.losses SELECT * FROM lost_before; DROP TABLE lost_before;";

// Calls beyond the cap: the oldest that the report does not refer to.
std::string TrimSql() {
  std::string sql =
      "CREATE TEMP TABLE surplus AS SELECT id FROM main.call_rows WHERE id NOT IN (SELECT call_id FROM"
      " main.evidence UNION SELECT call_id FROM main.occurrences UNION SELECT statement_id >> 16 FROM"
      " main.evidence WHERE statement_id IS NOT NULL) ORDER BY id LIMIT max(0, (SELECT count(*) FROM"
      " main.call_rows) - " +
      std::to_string(limits::kMaxCarriedCalls) +
      ");DELETE FROM main.call_rows WHERE id IN (SELECT id FROM surplus);" +
      "DELETE FROM main.record_batches WHERE first_call_id IN (SELECT id FROM surplus);";
  for (const char* table : {"call_keys", "routes", "asked_regions", "errors", "statements"}) {
    sql += std::string("DELETE FROM main.") + table + " WHERE call_id IN (SELECT id FROM surplus);";
  }
  return sql + "DROP TABLE surplus;";
}

// The whole record of each carried call, alone in its row. A method that was proved later goes into it.
bool CopyRecords(sqlite3* db, uint64_t& count) {
  Result<SqlStatement> batches = SqlStatement::Prepare(
      db,
      "SELECT b.first_call_id, b.agent, b.size, b.payload, b.records FROM w.record_batches b WHERE EXISTS "
      "(SELECT 1"
      " FROM carried c WHERE c.id >= b.first_call_id AND c.id < b.first_call_id + b.records)");
  Result<SqlStatement> chosen =
      SqlStatement::Prepare(db,
                            "SELECT (SELECT m.method FROM w.call_rows r JOIN w.connections n ON n.id = "
                            "r.connection JOIN w.amendments x"
                            " ON x.agent = r.agent AND x.serial = n.serial AND x.stream = r.stream JOIN "
                            "w.methods m ON m.id = x.method"
                            " WHERE r.id = c.id AND r.method_from = 0) FROM carried c WHERE c.id = ?");
  Result<SqlStatement> insert =
      SqlStatement::Prepare(db, "INSERT OR IGNORE INTO main.record_batches VALUES (?, ?, 1, ?, ?)");
  if (!batches || !chosen || !insert) return false;
  OwnedRecord record;
  std::string payload;
  BatchEncoder encoder;
  int code = 0;
  while ((code = batches->Step()) == SQLITE_ROW) {
    uint64_t id = batches->ColumnNumber(0);
    const uint64_t agent = batches->ColumnNumber(1);
    if (!DecompressBatch(batches->ColumnBytes(3), batches->ColumnNumber(2), payload).ok()) continue;
    BatchReader reader(AsBytes(payload));
    for (;; ++id) {
      const Result<bool> more = reader.Next(record);
      if (!more || !*more) break;
      const int found = chosen->Number(id).Step();
      if (found == SQLITE_DONE) continue;
      if (found != SQLITE_ROW) return false;
      const std::string method = chosen->ColumnText(0);
      chosen->Reset();
      if (!method.empty() && record.call.method.empty()) {
        record.call.method = method;
        record.call.method_from = MethodFrom::kSlot;
      }
      encoder.Add(record.call);
      const std::string alone = encoder.Finish();
      const std::string compressed = CompressBatch(alone);
      if (!insert->Number(id).Number(agent).Number(alone.size()).Blob(AsBytes(compressed)).Run())
        return false;
      ++count;
    }
  }
  return code == SQLITE_DONE;
}

}  // namespace

std::optional<uint64_t> CarryOver(sqlite3* db) {
  const auto run = [&](const std::string& sql) {
    return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
  };
  uint64_t count = 0;
  if (!run("DROP TABLE IF EXISTS temp.carried;") || !run(kChooseSql) || !run(kCopySql) ||
      !CopyRecords(db, count) || !run(TrimSql())) {
    return std::nullopt;
  }
  return count;
}

}  // namespace keytrail
