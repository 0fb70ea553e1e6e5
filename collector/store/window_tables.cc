#include "collector/store/window_tables.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string_view>

#include "collector/store/schema.h"

namespace keytrail {

namespace {

constexpr int kPushed[] = {SQLITE_INDEX_CONSTRAINT_EQ, SQLITE_INDEX_CONSTRAINT_GT, SQLITE_INDEX_CONSTRAINT_LE,
                           SQLITE_INDEX_CONSTRAINT_LT, SQLITE_INDEX_CONSTRAINT_GE};
constexpr const char* kOperators[] = {"=", ">", "<=", "<", ">="};

// Columns by which rows lie in windows, and how far a call's number is shifted in them.
constexpr int kNoShift = -1;

// What the planner is told of a table's size, in rows. Only proportions count.
constexpr double kRows = 1e6;

struct Table {
  sqlite3_vtab base{};  // first: SQLite knows this part alone
  sqlite3* db = nullptr;
  const WindowTables* windows = nullptr;
  const TableDescription* description = nullptr;
  std::vector<int> shift;  // of each column

  std::string_view ColumnName(int i) const { return description->columns[static_cast<size_t>(i)].name; }
};

int ShiftOf(const TableDescription& table, std::string_view column) {
  const std::string_view name = table.name;
  if (column == "call_id" || column == "first_call_id") return 0;
  if (column == "id" && name != "losses") return name == "statements" ? 16 : 0;
  return kNoShift;
}

// Columns that windows have an index for.
bool IsIndexed(std::string_view column) {
  static constexpr std::string_view kNames[] = {"region_id", "start_ts",     "commit_ts", "sql_connection",
                                                "agent",     "req_first_ns", "t_ns"};
  return std::find(std::begin(kNames), std::end(kNames), column) != std::end(kNames);
}

struct Condition {
  int column = 0;
  int op = 0;  // of kOperators
};

// What xBestIndex tells xFilter, as text: the columns that are read, the order, the conditions.
struct Plan {
  uint64_t used = 0;
  int order = 0;  // 1 or -1: by number
  std::vector<Condition> conditions;

  std::string Text() const {
    std::string text = std::to_string(used) + " " + std::to_string(order);
    for (const Condition& c : conditions) text += " " + std::to_string(c.column) + " " + std::to_string(c.op);
    return text;
  }
  static Plan Read(const char* text) {
    Plan plan;
    char* at = nullptr;
    plan.used = std::strtoull(text, &at, 10);
    plan.order = static_cast<int>(std::strtol(at, &at, 10));
    while (*at != '\0') {
      Condition c;
      c.column = static_cast<int>(std::strtol(at, &at, 10));
      c.op = static_cast<int>(std::strtol(at, &at, 10));
      plan.conditions.push_back(c);
    }
    return plan;
  }
  bool Uses(int column) const { return (used >> std::min(column, 63) & 1) != 0; }
};

struct ValueFree {
  void operator()(sqlite3_value* v) const { sqlite3_value_free(v); }
};

struct Cursor {
  sqlite3_vtab_cursor base{};
  Table* table = nullptr;
  std::string plan_text;
  Plan plan;
  std::vector<int> place;                // of each column in the inner statements' rows, or -1
  std::vector<SqlStatement> statements;  // one a part, made when first needed
  std::vector<std::unique_ptr<sqlite3_value, ValueFree>> values;
  int64_t low = 0;  // calls' numbers that can fulfil the conditions
  int64_t high = 0;
  size_t part = 0;  // counted in the order of reading
  int64_t row = 0;

  size_t PartIndex() const {
    const size_t count = table->windows->parts.size();
    return plan.order < 0 ? count - 1 - part : part;
  }
  bool AtEnd() const { return part >= table->windows->parts.size(); }
  SqlStatement& Statement() { return statements[PartIndex()]; }
  int Begin();
  int Next();
  int Failed(int code);
  std::string Sql(const WindowPart& part) const;
};

std::string Cursor::Sql(const WindowPart& window) const {
  const TableDescription& description = *table->description;
  std::string sql;
  for (size_t i = 0; i < description.columns.size(); ++i) {
    if (place[i] >= 0)
      sql += std::string(sql.empty() ? "SELECT \"" : ", \"") + description.columns[i].name + "\"";
  }
  if (sql.empty()) sql = "SELECT 1";
  sql += " FROM " + PartOf(description, window.schema, window.version);
  int n = 0;
  std::string by;
  for (const Condition& c : plan.conditions) {
    sql += std::string(n == 0 ? " WHERE \"" : " AND \"") + std::string(table->ColumnName(c.column)) + "\" " +
           kOperators[c.op] + " ?" + std::to_string(n + 1);
    ++n;
  }
  if (plan.order != 0) {
    for (size_t i = 0; i < table->shift.size() && by.empty(); ++i) {
      if (table->shift[i] != kNoShift) by = description.columns[i].name;
    }
    sql += " ORDER BY \"" + by + (plan.order < 0 ? "\" DESC" : "\"");
  }
  return sql;
}

int Cursor::Failed(int code) {
  sqlite3_free(table->base.zErrMsg);
  table->base.zErrMsg =
      sqlite3_mprintf("%s (%s)", sqlite3_errmsg(table->db), table->windows->parts[PartIndex()].file.c_str());
  return code;
}

// Goes to the first row of `part`, or of one behind it.
int Cursor::Begin() {
  for (; !AtEnd(); ++part) {
    const WindowPart& window = table->windows->parts[PartIndex()];
    if (window.last_call_id < low || window.first_call_id > high) continue;
    SqlStatement& statement = Statement();
    if (statement.raw() == nullptr) {
      const int code = statement.PrepareOnce(table->db, Sql(window).c_str(), nullptr);
      if (code != SQLITE_OK) return Failed(code);
    }
    for (size_t i = 0; i < values.size(); ++i) {
      sqlite3_bind_value(statement.raw(), static_cast<int>(i) + 1, values[i].get());
    }
    const int code = sqlite3_step(statement.raw());
    if (code == SQLITE_ROW) return SQLITE_OK;
    const int failed = code == SQLITE_DONE ? SQLITE_OK : Failed(code);
    statement.Reset();
    if (failed != SQLITE_OK) return failed;
  }
  return SQLITE_OK;
}

int Cursor::Next() {
  ++row;
  const int code = sqlite3_step(Statement().raw());
  if (code == SQLITE_ROW) return SQLITE_OK;
  const int failed = code == SQLITE_DONE ? SQLITE_OK : Failed(code);
  Statement().Reset();
  if (failed != SQLITE_OK) return failed;
  ++part;
  return Begin();
}

Table& TableOf(sqlite3_vtab* base) {
  return *reinterpret_cast<Table*>(base);
}
Cursor& CursorOf(sqlite3_vtab_cursor* base) {
  return *reinterpret_cast<Cursor*>(base);
}

int Connect(sqlite3* db, void* windows, int count, const char* const* arguments, sqlite3_vtab** out,
            char** error) {
  const std::string_view name = count > 2 ? arguments[2] : "";
  auto table = std::make_unique<Table>();
  table->db = db;
  table->windows = static_cast<const WindowTables*>(windows);
  for (const TableDescription& description : DatabaseSchema()) {
    if (description.name == name) table->description = &description;
  }
  if (table->description == nullptr) {
    *error = sqlite3_mprintf("there is no table %s", arguments[2]);
    return SQLITE_ERROR;
  }
  std::string sql = "CREATE TABLE x (";
  for (const ColumnDescription& column : table->description->columns) {
    const std::string_view type = column.type;
    sql += std::string(table->shift.empty() ? "\"" : ", \"") + column.name + "\" " +
           std::string(type.substr(0, type.find(' ')));
    table->shift.push_back(ShiftOf(*table->description, column.name));
  }
  const int code = sqlite3_declare_vtab(db, (sql + ")").c_str());
  if (code != SQLITE_OK) return code;
  // Reads what lies in the database, and nothing else.
  sqlite3_vtab_config(db, SQLITE_VTAB_INNOCUOUS);
  *out = &table.release()->base;
  return SQLITE_OK;
}

int Disconnect(sqlite3_vtab* base) {
  delete &TableOf(base);
  return SQLITE_OK;
}

int BestIndex(sqlite3_vtab* base, sqlite3_index_info* info) {
  const Table& table = TableOf(base);
  Plan plan;
  plan.used = info->colUsed;
  double rows = kRows;
  double cost = kRows;
  for (int i = 0; i < info->nConstraint; ++i) {
    const auto& c = info->aConstraint[i];
    const auto* op = std::find(std::begin(kPushed), std::end(kPushed), c.op);
    if (c.usable == 0 || c.iColumn < 0 || op == std::end(kPushed)) continue;
    if (std::strcmp(sqlite3_vtab_collation(info, i), "BINARY") != 0) continue;
    plan.conditions.push_back({c.iColumn, static_cast<int>(op - std::begin(kPushed))});
    info->aConstraintUsage[i].argvIndex = static_cast<int>(plan.conditions.size());
    const std::string_view column = table.ColumnName(c.iColumn);
    const bool equal = c.op == SQLITE_INDEX_CONSTRAINT_EQ;
    if (table.shift[static_cast<size_t>(c.iColumn)] != kNoShift) {
      rows = equal ? std::min(rows, 4.0) : rows / 4;
      cost = equal ? std::min(cost, 20.0) : std::min(cost, kRows / 4);
    } else if (IsIndexed(column)) {
      rows = equal ? std::min(rows, 1000.0) : rows / 4;
      cost = equal ? std::min(cost, 3000.0) : std::min(cost, kRows / 2);
    } else {
      rows /= equal ? 50 : 4;
    }
  }
  if (info->nOrderBy == 1 && info->aOrderBy[0].iColumn >= 0) {
    const std::string_view by = table.ColumnName(info->aOrderBy[0].iColumn);
    if ((by == "id" || by == "first_call_id") &&
        table.shift[static_cast<size_t>(info->aOrderBy[0].iColumn)] >= 0) {
      plan.order = info->aOrderBy[0].desc != 0 ? -1 : 1;
      info->orderByConsumed = 1;
    }
  }
  info->estimatedRows = static_cast<sqlite3_int64>(std::max(rows, 1.0));
  info->estimatedCost = std::max(cost, rows);
  info->idxStr = sqlite3_mprintf("%s", plan.Text().c_str());
  info->needToFreeIdxStr = 1;
  return info->idxStr == nullptr ? SQLITE_NOMEM : SQLITE_OK;
}

int OpenCursor(sqlite3_vtab* base, sqlite3_vtab_cursor** out) {
  auto cursor = std::make_unique<Cursor>();
  cursor->table = &TableOf(base);
  *out = &cursor.release()->base;
  return SQLITE_OK;
}

int CloseCursor(sqlite3_vtab_cursor* base) {
  delete &CursorOf(base);
  return SQLITE_OK;
}

// SQLite compares by the column's type; an expression of a view has none, so the value gets it here.
void TakeType(std::string_view type, sqlite3_value* value) {
  if (type.starts_with("INTEGER")) sqlite3_value_numeric_type(value);
}

void Bound(const Cursor& cursor, const Condition& c, sqlite3_value* value, int64_t& low, int64_t& high) {
  const int shift = cursor.table->shift[static_cast<size_t>(c.column)];
  if (shift == kNoShift || sqlite3_value_type(value) != SQLITE_INTEGER) return;
  const int64_t n = sqlite3_value_int64(value) >> shift;
  if (c.op == 0 || c.op == 1 || c.op == 4) low = std::max(low, n);
  if (c.op == 0 || c.op == 2 || c.op == 3) high = std::min(high, n);
}

int Filter(sqlite3_vtab_cursor* base, int, const char* plan_text, int count, sqlite3_value** values) {
  Cursor& cursor = CursorOf(base);
  const TableDescription& description = *cursor.table->description;
  if (cursor.plan_text != plan_text) {
    cursor.plan_text = plan_text;
    cursor.plan = Plan::Read(plan_text);
    cursor.statements.clear();
    cursor.place.assign(description.columns.size(), -1);
    int next = 0;
    for (size_t i = 0; i < cursor.place.size(); ++i) {
      if (cursor.plan.Uses(static_cast<int>(i))) cursor.place[i] = next++;
    }
  }
  cursor.statements.resize(cursor.table->windows->parts.size());
  for (SqlStatement& s : cursor.statements) {
    if (s.raw() != nullptr) s.Reset();
  }
  cursor.values.clear();
  cursor.low = std::numeric_limits<int64_t>::min();
  cursor.high = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < count; ++i) {
    const Condition& c = cursor.plan.conditions[static_cast<size_t>(i)];
    sqlite3_value* value = sqlite3_value_dup(values[i]);
    if (value == nullptr) return SQLITE_NOMEM;
    cursor.values.emplace_back(value);
    TakeType(description.columns[static_cast<size_t>(c.column)].type, value);
    Bound(cursor, c, value, cursor.low, cursor.high);
  }
  cursor.part = 0;
  return cursor.Begin();
}

int NextRow(sqlite3_vtab_cursor* base) {
  return CursorOf(base).Next();
}
int AtEnd(sqlite3_vtab_cursor* base) {
  return CursorOf(base).AtEnd() ? 1 : 0;
}
int ReadColumn(sqlite3_vtab_cursor* base, sqlite3_context* context, int column) {
  Cursor& cursor = CursorOf(base);
  const int place = cursor.place[static_cast<size_t>(column)];
  if (place >= 0) sqlite3_result_value(context, sqlite3_column_value(cursor.Statement().raw(), place));
  return SQLITE_OK;
}
int RowNumber(sqlite3_vtab_cursor* base, sqlite3_int64* row) {
  *row = CursorOf(base).row;
  return SQLITE_OK;
}

// A table without this is refused in other words, before the authorizer is asked.
int NoUpdate(sqlite3_vtab*, int, sqlite3_value**, sqlite3_int64*) {
  return SQLITE_READONLY;
}

const sqlite3_module& Module() {
  static const sqlite3_module module = [] {
    sqlite3_module m{};
    m.xCreate = Connect;
    m.xConnect = Connect;
    m.xBestIndex = BestIndex;
    m.xDisconnect = Disconnect;
    m.xDestroy = Disconnect;
    m.xOpen = OpenCursor;
    m.xClose = CloseCursor;
    m.xFilter = Filter;
    m.xNext = NextRow;
    m.xEof = AtEnd;
    m.xColumn = ReadColumn;
    m.xRowid = RowNumber;
    m.xUpdate = NoUpdate;
    return m;
  }();
  return module;
}

}  // namespace

Status WindowTables::Register(sqlite3* db) {
  if (sqlite3_create_module_v2(db, "keytrail_windows", &Module(), this, nullptr) != SQLITE_OK) {
    return Error{sqlite3_errmsg(db)};
  }
  for (const TableDescription& table : DatabaseSchema()) {
    if (!IsWindowed(table)) continue;
    const std::string sql =
        std::string("CREATE VIRTUAL TABLE temp.") + table.name + " USING keytrail_windows";
    if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
      return Error{sqlite3_errmsg(db)};
  }
  return Done{};
}

}  // namespace keytrail
