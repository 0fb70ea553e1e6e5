// A copy of a database or folder in one file, beside its writer.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "collector/store/folder.h"
#include "collector/store/schema.h"

namespace keytrail {

namespace {

// The new file is made by a connection that reads the others: attached to the reader it would be one more
// file than SQLite attaches. So rows go from one connection to the other.
Status CopyTable(sqlite3* from, sqlite3* to, const TableDescription& table, const std::string& target) {
  std::string columns;
  std::string places;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    columns += std::string(i == 0 ? "\"" : ", \"") + table.columns[i].name + "\"";
    places += i == 0 ? "?" : ",?";
  }
  Result<SqlStatement> rows = SqlStatement::Prepare(from, "SELECT " + columns + " FROM " + table.name);
  // A method of an amendment may lie in several windows.
  Result<SqlStatement> insert = SqlStatement::Prepare(
      to, std::string("INSERT OR REPLACE INTO ") + table.name + " (" + columns + ") VALUES (" + places + ")");
  if (!rows) return Error{rows.error()};
  if (!insert) return Error{insert.error()};
  int code = 0;
  while ((code = rows->Step()) == SQLITE_ROW) {
    for (int i = 0; i < static_cast<int>(table.columns.size()); ++i) {
      sqlite3_bind_value(insert->raw(), i + 1, sqlite3_column_value(rows->raw(), i));
    }
    if (!insert->Run()) return Error{"'" + target + "': " + sqlite3_errmsg(to)};
  }
  if (code != SQLITE_DONE) return Error{sqlite3_errmsg(from)};
  return Done{};
}

Status SyncFolder(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const int folder = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return Error{"'" + path + "': " + std::strerror(errno)};
  const bool synced = ::fsync(folder) == 0;
  ::close(folder);
  if (!synced) return Error{"'" + path + "': " + std::strerror(errno)};
  return Done{};
}

}  // namespace

Status BackUp(const std::string& from, const std::string& to) {
  if (std::filesystem::exists(to)) return Error{"'" + to + "' is there already; it is not overwritten"};
  Result<std::unique_ptr<Store>> source = Store::OpenReadOnly(from);
  if (!source) return Error{source.error()};
  Store::State& reader = *(*source)->state_;
  const std::string partial = to + ".partial";
  const auto remove = [&] {
    for (const char* end : {"", "-journal", "-wal", "-shm"}) ::unlink((partial + end).c_str());
  };
  remove();
  const auto copy = [&]() -> Status {
    const ReadScope scope(reader);
    if (!scope.status().ok()) return scope.status();
    if (reader.windows == nullptr) {
      const Status begun = reader.Execute("BEGIN");
      if (!begun.ok()) return begun;
    }
    Store::State target;
    target.path = partial;
    Status status = target.OpenFile(partial, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    // Nothing of it is used before it is whole.
    if (status.ok()) status = target.Execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;");
    if (status.ok()) status = target.Execute(CreationSql());
    for (const TableDescription& table : DatabaseSchema()) {
      if (!status.ok()) break;
      if (table.view != nullptr || std::string_view(table.name) == "columns") continue;
      status = CopyTable(reader.db.get(), target.db.get(), table, partial);
    }
    if (status.ok()) status = target.Execute("DELETE FROM about WHERE name = 'part';");
    for (const char* index : kSealedIndexSql) {
      if (status.ok()) status = target.Execute(index);
    }
    if (status.ok()) status = target.Execute("COMMIT; PRAGMA analysis_limit = 1000; ANALYZE;");
    if (reader.windows == nullptr) sqlite3_exec(reader.db.get(), "COMMIT", nullptr, nullptr, nullptr);
    return status;
  };
  Status status = copy();
  if (status.ok()) {
    const int file = ::open(partial.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0 || ::fsync(file) != 0) status = Error{"'" + partial + "': " + std::strerror(errno)};
    if (file >= 0) ::close(file);
  }
  // link() does not overwrite a file that appeared meanwhile.
  if (status.ok() && ::link(partial.c_str(), to.c_str()) != 0) {
    status = Error{"'" + to + "': " + std::strerror(errno)};
  }
  remove();
  if (!status.ok()) return Error{"cannot back up: " + status.error()};
  return SyncFolder(to);
}

}  // namespace keytrail
