#include "collector/store/reading.h"
#include "collector/store/store_state.h"

namespace keytrail {

Status RunReading(sqlite3* db, const std::string& sql,
                  const std::function<void(const Store::QueryColumns&)>& on_columns,
                  const std::function<bool(const std::vector<Store::QueryValue>&)>& on_row) {
  const ReadingOnly only(db);
  PreparedReading prepared = PrepareReading(db, sql, only);
  if (const ReadingProblem* problem = std::get_if<ReadingProblem>(&prepared)) return Error{problem->text};
  const SqlStatement statement = std::move(std::get<SqlStatement>(prepared));

  const int count = sqlite3_column_count(statement.raw());
  Store::QueryColumns columns;
  for (int i = 0; i < count; ++i) columns.names.emplace_back(sqlite3_column_name(statement.raw(), i));
  on_columns(columns);
  std::vector<Store::QueryValue> row(static_cast<size_t>(count));
  for (;;) {
    const int code = sqlite3_step(statement.raw());
    if (code == SQLITE_DONE) return Done{};
    if (code == SQLITE_AUTH) return Error{RefusalText(sql, only.refused())};
    if (code != SQLITE_ROW) return Error{sqlite3_errmsg(db)};
    for (int i = 0; i < count; ++i) ReadValue(statement.raw(), i, row[static_cast<size_t>(i)]);
    if (!on_row(row)) return Done{};
  }
}

}  // namespace keytrail
