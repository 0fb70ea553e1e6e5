// The tables and views of a database, each column with its meaning.
//
// One description makes the tables, fills `columns` (the documentation that the database carries), and is
// held against the database by a test.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace keytrail {

// PRAGMA application_id: "KTRL". Says that a file is ours.
inline constexpr int64_t kApplicationId = 0x4B54524C;
// PRAGMA user_version. Raised with every change of a table; a newer file is never read. An older one is, from
// kOldestSchemaVersion on: version 3 added the table `windows`, version 4 the columns
// `redaction` and `redact_secret` of `agents`, version 5 the processes of `connections`.
inline constexpr int64_t kSchemaVersion = 5;
inline constexpr int64_t kOldestSchemaVersion = 2;

struct ColumnDescription {
  const char* name;
  const char* type;  // with constraints, "INTEGER NOT NULL"; of a view the type that comes out
  const char* meaning;
  int64_t since = kOldestSchemaVersion;  // version of the layout that brought it
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
// One of them; the name must be one of theirs.
const TableDescription& TableNamed(std::string_view name);

// Tables and views of which each window has its own part. A row of such a view comes from one window alone.
bool IsWindowed(const TableDescription& table);
// A file of this version has the table, but lacks columns of it.
bool LacksColumns(const TableDescription& table, int64_t version);
// A SELECT of all columns of a table, null for those that a file of this version lacks. Without `from` it has
// no row.
std::string AsThisVersion(const TableDescription& table, int64_t version, const std::string& from);
// SELECT or name of the part of `table` that lies in `schema`, a file of this version, to stand behind FROM.
std::string PartOf(const TableDescription& table, const std::string& schema, int64_t version);

// All statements that make an empty database ours, `columns` included.
std::string CreationSql();
// All that bring a database of version `from` (kOldestSchemaVersion or later) to this one.
std::string UpgradeSql(int64_t from);

// Indexes that are made at once, because their rows are few; and those of a window that is written no more.
extern const char* const kLiveIndexSql;
extern const std::span<const char* const> kSealedIndexSql;

}  // namespace keytrail
