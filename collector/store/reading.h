// Statements that may only read: what is allowed, and in which words the rest is refused.
//
// For this room. Not thread-safe.
#pragma once

#include <string>
#include <variant>

#include "collector/store/sqlite_handle.h"
#include "collector/store/store.h"

namespace keytrail {

// While it lives, statements that are prepared or run on `db` may only read. Everything that is not on a list
// is refused, functions too.
class ReadingOnly {
 public:
  explicit ReadingOnly(sqlite3* db);
  ~ReadingOnly();
  ReadingOnly(const ReadingOnly&) = delete;
  ReadingOnly& operator=(const ReadingOnly&) = delete;

  // Whether anything was refused, and what last ("function load_extension()"); empty: the statement itself.
  bool has_refused() const { return has_refused_; }
  const std::string& refused() const { return refused_; }

 private:
  static int Authorize(void* self, int action, const char* first, const char* second, const char*,
                       const char*);

  sqlite3* db_;
  bool has_refused_ = false;
  std::string refused_;
};

// An owned statement of `sql`, or why not.
struct ReadingProblem {
  bool refused = false;  // it would do more than read; else it is wrong
  std::string text;
};
using PreparedReading = std::variant<SqlStatement, ReadingProblem>;
PreparedReading PrepareReading(sqlite3* db, const std::string& sql, const ReadingOnly& only);

// The words for a statement that would do more than read.
std::string RefusalText(const std::string& sql, const std::string& refused);

// Runs one reading statement on `db`, unbounded (Store::Query).
Status RunReading(sqlite3* db, const std::string& sql,
                  const std::function<void(const Store::QueryColumns&)>& on_columns,
                  const std::function<bool(const std::vector<Store::QueryValue>&)>& on_row);

// Value i of the row that the statement is at.
void ReadValue(sqlite3_stmt* statement, int i, Store::QueryValue& value);

}  // namespace keytrail
