// The tables and views of a database, each column with its meaning.
//
// One description makes the tables, fills `columns` (the documentation that the database carries), and is
// held against the database by a test.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace keytrail {

// PRAGMA application_id: "KTRL". Says that a file is ours.
inline constexpr int64_t kApplicationId = 0x4B54524C;
// PRAGMA user_version. Raised with every change of a table; an older file is not read by a newer version
// unless there is code for it, a newer file never.
inline constexpr int64_t kSchemaVersion = 2;

struct ColumnDescription {
  const char* name;
  const char* type;  // with constraints, "INTEGER NOT NULL"; of a view the type that comes out
  const char* meaning;
};

struct TableDescription {
  const char* name;
  const char* meaning;
  std::span<const ColumnDescription> columns;
  const char* constraints;  // ", PRIMARY KEY (…)" or empty
  bool without_rowid;
  const char* view;  // the SELECT of a view; null: a table
};

std::span<const TableDescription> DatabaseSchema();

// The SELECT of a view, for `WITH name AS (…)`: a file of an earlier build may have an older one or none.
// Empty if there is no such view.
std::string QuestionViewSql(const char* name);

// All statements that make an empty database ours, `columns` included.
std::string CreationSql();

}  // namespace keytrail
