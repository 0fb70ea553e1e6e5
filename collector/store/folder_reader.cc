// Reading a folder: its windows as one database, in one state.

#include <algorithm>
#include <filesystem>

#include "collector/store/folder.h"
#include "collector/store/schema.h"

namespace keytrail {

namespace fs = std::filesystem;

namespace {

// Files may be dropped between the reading of the list and their opening.
constexpr int kTries = 5;

// A path as a URI's path: SQLite reads %XX, ? and # in it.
std::string ImmutableUri(const std::string& path) {
  std::string uri = "file:";
  for (char c : path) {
    if (c == '%' || c == '?' || c == '#') {
      char hex[4];
      std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned>(c));
      uri += hex;
    } else {
      uri += c;
    }
  }
  return uri + "?immutable=1";
}

bool SameParts(const std::vector<WindowPart>& a, const std::vector<WindowPart>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const WindowPart& x, const WindowPart& y) {
    return x.schema == y.schema && x.file == y.file && x.last_call_id == y.last_call_id;
  });
}

}  // namespace

Status Store::State::OpenToRead(const std::string& given) {
  path = given;
  if (fs::is_directory(given)) {
    path = (fs::path(given) / "keytrail.db").string();
    if (!fs::exists(path) && FilesOf(given).size() > 1) {
      return Error{"folder '" + given + "' has no catalogue; a collector that is started there makes it"};
    }
  }
  read_only = true;
  Status status = OpenFile(path, SQLITE_OPEN_READONLY);
  if (!status.ok()) return status;
  status = CheckOurs();
  if (!status.ok() && (sqlite3_errcode(db.get()) & 0xFF) == SQLITE_CANTOPEN) {
    // WAL needs a file beside the database, which a read-only medium does not give; nobody writes there then.
    const Status again = OpenFile(ImmutableUri(path), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
    immutable = true;
    if (again.ok()) status = CheckOurs();
  }
  if (!status.ok()) return status;
  // Before anything is temporary: SQLite forgets all that is when this changes.
  status = Execute("PRAGMA temp_store = MEMORY");
  if (!status.ok()) return status;
  const Result<int64_t> parts =
      Number("SELECT count(*) FROM about WHERE name = 'part' AND value = 'catalogue'");
  if (!parts) return Error{parts.error()};
  if (*parts != 0) {
    windows = std::make_unique<WindowTables>();
    const Status registered = windows->Register(db.get());
    if (!registered.ok()) return Error{"database '" + path + "': " + registered.error()};
    status = BeginReading();
    EndReading();
    if (!status.ok()) return status;
  }
  return ShowViews();
}

// The views of this build, whatever the file has under their names.
Status Store::State::ShowViews() {
  std::string sql;
  const Result<int64_t> version = Number("PRAGMA user_version");
  if (!version) return Error{version.error()};
  for (const TableDescription& table : DatabaseSchema()) {
    if (table.view != nullptr && (windows == nullptr || !IsWindowed(table))) {
      sql += std::string("CREATE TEMP VIEW ") + table.name + " AS " + table.view + ";";
    } else if (table.view == nullptr && *version < kSchemaVersion &&
               (windows == nullptr || !IsWindowed(table))) {
      const Result<int64_t> there =
          Number("SELECT count(*) FROM main.sqlite_schema WHERE name = " + SqlQuoted(table.name));
      if (!there) return Error{there.error()};
      // Of a folder AttachWindows() shows the agents.
      const bool lacks_columns = windows == nullptr && LacksColumns(table, *version);
      if (*there == 0 || lacks_columns) {
        sql += std::string("CREATE TEMP VIEW ") + table.name + " AS " +
               AsThisVersion(table, *version, *there == 0 ? "" : std::string("main.") + table.name) + ";";
      }
    }
  }
  return Execute(sql);
}

Result<std::vector<WindowPart>> Store::State::ListedWindows() {
  Result<SqlStatement> rows = SqlStatement::Prepare(
      db.get(),
      "SELECT number, file, first_call_id FROM main.windows WHERE state IN ('live', 'closed', 'sealed')"
      " ORDER BY number");
  if (!rows) return Failed("cannot read the list of windows");
  std::vector<WindowPart> parts{{"main", fs::path(path).filename().string()}};
  int code = 0;
  while ((code = rows->Step()) == SQLITE_ROW) {
    WindowPart part;
    part.schema = "w" + std::to_string(rows->ColumnNumber(0));
    part.file = rows->ColumnText(1);
    part.first_call_id = rows->ColumnSigned(2);
    parts.back().last_call_id = part.first_call_id - 1;
    parts.push_back(part);
  }
  if (code != SQLITE_DONE) return Failed("cannot read the list of windows");
  return parts;
}

Status Store::State::AttachWindows(const std::vector<WindowPart>& now) {
  // The sandbox's walls have a door for this function alone, and no statement of a user runs meanwhile.
  const int attached = sqlite3_limit(db.get(), SQLITE_LIMIT_ATTACHED, 10);
  const Result<int64_t> query_only = Number("PRAGMA query_only");
  Status status = Execute("PRAGMA query_only = 0; DROP VIEW IF EXISTS temp.agents;");
  for (size_t i = 1; i < windows->parts.size() && status.ok(); ++i) {
    const WindowPart& old = windows->parts[i];
    if (std::any_of(now.begin(), now.end(), [&](const WindowPart& p) { return p.schema == old.schema; }))
      continue;
    status = Execute("DETACH " + old.schema);
  }
  std::vector<WindowPart> had = std::move(windows->parts);
  windows->parts.clear();
  std::string progress = "last_sequence";
  std::string seen = "last_seen_ns";
  for (const WindowPart& part : now) {
    const bool there = part.schema == "main" || std::any_of(had.begin(), had.end(), [&](const WindowPart& p) {
                         return p.schema == part.schema;
                       });
    if (!there && status.ok()) {
      const std::string file = (fs::path(path).parent_path() / part.file).string();
      status = Execute("ATTACH " + SqlQuoted(immutable ? ImmutableUri(file) : file) + " AS " + part.schema);
      if (!status.ok()) status = Error{"database '" + file + "': " + sqlite3_errmsg(db.get())};
    }
    if (!status.ok()) {
      // Those that are attached stay known, so that they are not attached again.
      if (there) windows->parts.push_back(part);
      continue;
    }
    windows->parts.push_back(part);
    if (part.schema == "main") continue;
    for (std::string* column : {&progress, &seen}) {
      const std::string name = column == &progress ? "last_sequence" : "last_seen_ns";
      *column = "max(" + *column + ", coalesce((SELECT p." + name + " FROM " + part.schema +
                ".agents p WHERE p.id = a.id), 0))";
    }
  }
  if (status.ok()) {
    std::string columns;
    const TableDescription& agents = TableNamed("agents");
    const Result<int64_t> version = Number("PRAGMA main.user_version");
    for (const ColumnDescription& column : agents.columns) {
      const std::string_view name(column.name);
      columns += columns.empty() ? "" : ", ";
      if (name == "last_sequence" || name == "last_seen_ns") {
        columns += (name == "last_sequence" ? progress : seen) + " AS ";
      }
      columns += name;
    }
    status = Execute("CREATE TEMP VIEW agents AS SELECT " + columns + " FROM " +
                     PartOf(agents, "main", version.ok() ? *version : kOldestSchemaVersion) + " a");
  }
  if (query_only.ok() && *query_only != 0) (void)Execute("PRAGMA query_only = 1");
  sqlite3_limit(db.get(), SQLITE_LIMIT_ATTACHED, attached);
  return status;
}

Status Store::State::BeginReading() {
  if (windows == nullptr) return Done{};
  Status status = Done{};
  for (int n = 0; n < kTries; ++n) {
    status = Execute("BEGIN");
    if (!status.ok()) return status;
    Result<std::vector<WindowPart>> now = ListedWindows();
    if (!now) return Error{now.error()};
    if (SameParts(*now, windows->parts) && n + 1 <= kTries) {
      // From here on all files stand still. A collector that was started meanwhile may have raised a version.
      for (WindowPart& part : windows->parts) {
        const Result<int64_t> version = Number("PRAGMA " + part.schema + ".user_version");
        if (!version) return Error{version.error() + " (" + part.file + ")"};
        part.version = *version;
      }
      return Done{};
    }
    EndReading();
    status = AttachWindows(*now);
    // A file that was dropped meanwhile is not in the list that is read next.
  }
  return status.ok() ? Error{"database '" + path + "': its windows change too fast"} : status;
}

void Store::State::EndReading() {
  if (windows != nullptr) sqlite3_exec(db.get(), "COMMIT", nullptr, nullptr, nullptr);
}

Result<Store::State*> Store::State::Reader() {
  if (folder == nullptr) return this;
  if (own_reader == nullptr) {
    Result<std::unique_ptr<Store>> opened = Store::OpenReadOnly(folder->catalogue_path());
    if (!opened) return Error{opened.error()};
    own_reader = std::move(*opened);
  }
  return own_reader->state_.get();
}

Result<std::unique_ptr<Store>> Store::OpenFolder(const std::string& path, const FolderOptions& options) {
  std::error_code failed;
  fs::create_directories(path, failed);
  if (failed) return Error{"folder '" + path + "': " + failed.message()};
  std::unique_ptr<Store> store(new Store);
  State& s = *store->state_;
  s.path = path;
  Result<std::unique_ptr<Folder>> folder = Folder::Open(path, options, s);
  if (!folder) return Error{folder.error()};
  s.folder = std::move(*folder);
  const Status ready = s.PrepareWriting();
  if (!ready.ok()) return Error{ready.error()};
  return store;
}

}  // namespace keytrail
