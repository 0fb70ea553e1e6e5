#include "collector/store/store_state.h"

namespace keytrail {

namespace {

// Pragmas that only read, for people who look around.
bool IsReadingPragma(const char* name) {
  for (const char* allowed :
       {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "user_version",
        "application_id", "page_count", "page_size", "function_list", "compile_options"}) {
    if (sqlite3_stricmp(name, allowed) == 0) return true;
  }
  return false;
}

int Authorize(void*, int action, const char* first, const char* second, const char*, const char*) {
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_FUNCTION:
      return sqlite3_stricmp(second, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
    case SQLITE_UPDATE:
      // What SQLite asks when a query first names a table-valued function (json_each, pragma_table_info). A
      // statement that really updates is none that only reads, which is asked as well.
      return sqlite3_stricmp(first, "sqlite_master") == 0 ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_PRAGMA:
      return IsReadingPragma(first) ? SQLITE_OK : SQLITE_DENY;
    default:
      return SQLITE_DENY;
  }
}

// Nothing but space, comments and semicolons: SQLite finds no statement in it.
bool IsEmptySql(sqlite3* db, const char* sql) {
  sqlite3_stmt* rest = nullptr;
  for (;;) {
    const char* tail = nullptr;
    if (sqlite3_prepare_v2(db, sql, -1, &rest, &tail) != SQLITE_OK) return false;
    if (rest != nullptr) {
      sqlite3_finalize(rest);
      return false;
    }
    if (*tail == '\0') return true;
    if (tail == sql) return false;
    sql = tail;
  }
}

void ReadValue(sqlite3_stmt* statement, int i, Store::QueryValue& value) {
  using Type = Store::QueryValue::Type;
  value.bytes.clear();
  switch (sqlite3_column_type(statement, i)) {
    case SQLITE_INTEGER:
      value.type = Type::kInteger;
      value.integer = sqlite3_column_int64(statement, i);
      return;
    case SQLITE_FLOAT:
      value.type = Type::kReal;
      value.real = sqlite3_column_double(statement, i);
      return;
    case SQLITE_NULL:
      value.type = Type::kNull;
      return;
    default: {
      value.type = sqlite3_column_type(statement, i) == SQLITE_BLOB ? Type::kBlob : Type::kText;
      const void* data = sqlite3_column_blob(statement, i);
      const int size = sqlite3_column_bytes(statement, i);
      if (size > 0) value.bytes.assign(static_cast<const char*>(data), static_cast<size_t>(size));
    }
  }
}

}  // namespace

Status Store::Query(const std::string& sql, const std::function<void(const QueryColumns&)>& on_columns,
                    const std::function<bool(const std::vector<QueryValue>&)>& on_row) {
  sqlite3* db = state_->db.get();
  struct Guard {
    sqlite3* db;
    sqlite3_stmt* statement = nullptr;
    ~Guard() {
      sqlite3_finalize(statement);
      sqlite3_set_authorizer(db, nullptr, nullptr);
    }
  } guard{db};
  sqlite3_set_authorizer(db, Authorize, nullptr);
  const char* tail = nullptr;
  const int prepared = sqlite3_prepare_v2(db, sql.c_str(), -1, &guard.statement, &tail);
  if (prepared == SQLITE_AUTH) return Error{"only reading is allowed: " + std::string(sqlite3_errmsg(db))};
  if (prepared != SQLITE_OK) return Error{sqlite3_errmsg(db)};
  if (guard.statement == nullptr) return Error{"no statement given"};
  if (sqlite3_stmt_readonly(guard.statement) == 0) return Error{"only reading is allowed"};
  if (!IsEmptySql(db, tail)) return Error{"one statement at a time"};

  const int count = sqlite3_column_count(guard.statement);
  QueryColumns columns;
  for (int i = 0; i < count; ++i) columns.names.emplace_back(sqlite3_column_name(guard.statement, i));
  on_columns(columns);
  std::vector<QueryValue> row(static_cast<size_t>(count));
  for (;;) {
    const int code = sqlite3_step(guard.statement);
    if (code == SQLITE_DONE) return Done{};
    if (code != SQLITE_ROW) return Error{sqlite3_errmsg(db)};
    for (int i = 0; i < count; ++i) ReadValue(guard.statement, i, row[static_cast<size_t>(i)]);
    if (!on_row(row)) return Done{};
  }
}

}  // namespace keytrail
