#include "collector/store/folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "collector/store/memory_bound.h"
#include "collector/store/schema.h"

namespace keytrail {

namespace fs = std::filesystem;

namespace {

constexpr char kCatalogue[] = "keytrail.db";
constexpr char kLockFile[] = "keytrail.lock";
constexpr std::string_view kPrefix = "calls-";
constexpr std::string_view kSuffix = ".db";
constexpr int64_t kSecondNs = 1'000'000'000;
// The least that a row of a call takes in a file: numbers of a damaged file's calls end before this.
constexpr uint64_t kLeastCallBytes = 16;
// How often the ages of windows are written down, for the next start.
constexpr int64_t kSaveAgesNs = 60 * kSecondNs;
// Times that the oldest window is tried to be dropped while the disk fails; about one a second.
constexpr int kDropTries = 30;

// A host that sleeps grows older, too.
int64_t SinceTheHostStarted() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * kSecondNs + now.tv_nsec;
}

std::string Hours(int64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f h", static_cast<double>(ns) / (3600.0 * kSecondNs));
  return text;
}

bool IsWindowFile(const std::string& name) {
  return name.starts_with(kPrefix) && name.ends_with(kSuffix);
}

std::string WindowFile(uint64_t number, int64_t now_ns) {
  const std::time_t seconds = now_ns / kSecondNs;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[64];
  std::snprintf(text, sizeof text, "calls-%06llu-", static_cast<unsigned long long>(number));
  char time[32];
  std::strftime(time, sizeof time, "%Y%m%dT%H%M%SZ", &utc);
  return std::string(text) + time + ".db";
}

uint64_t SizeOf(const std::string& path) {
  std::error_code none;
  const auto size = fs::file_size(path, none);
  return none ? 0 : size;
}

bool Execute(sqlite3* db, const std::string& sql) {
  return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
}

// The first value, or none.
std::optional<std::string> Value(sqlite3* db, const std::string& sql) {
  Result<SqlStatement> s = SqlStatement::Prepare(db, sql);
  if (!s || s->Step() != SQLITE_ROW) return std::nullopt;
  return s->ColumnText(0);
}

uint32_t BigEndian(const unsigned char* p, int bytes) {
  uint32_t n = 0;
  for (int i = 0; i < bytes; ++i) n = n << 8 | p[i];
  return n;
}

// The log goes with its database, whatever of it is there.
void RemoveFiles(const std::string& path) {
  for (const char* end : {"", "-wal", "-shm", "-journal"}) ::unlink((path + end).c_str());
}

std::string RenameDamaged(const std::string& path) {
  std::string to = path + ".damaged";
  std::error_code failed;
  for (int n = 2; fs::exists(to, failed); ++n) to = path + ".damaged" + std::to_string(n);
  for (const char* end : {"", "-wal"}) fs::rename(path + end, to + end, failed);
  ::unlink((path + "-shm").c_str());
  return to;
}

}  // namespace

std::string SqlQuoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> FilesOf(const std::string& path) {
  const bool is_folder = fs::is_directory(path);
  const fs::path main = is_folder ? fs::path(path) / kCatalogue : fs::path(path);
  std::vector<std::string> files{is_folder ? main.string() : path};
  if (main.filename() != kCatalogue) return files;
  std::error_code none;
  const fs::path folder = main.parent_path().empty() ? fs::path(".") : main.parent_path();
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    if (IsWindowFile(entry.path().filename().string())) files.push_back(entry.path().string());
  }
  std::sort(files.begin() + 1, files.end());
  return files;
}

uint64_t LogBytes(const std::string& path) {
  uint64_t bytes = 0;
  for (const std::string& file : FilesOf(path)) bytes += SizeOf(file + "-wal");
  return bytes;
}

Status CheckFile(const std::string& path, bool whole) {
  std::ifstream file(path, std::ios::binary);
  unsigned char head[100] = {};
  file.read(reinterpret_cast<char*>(head), sizeof head);
  const bool has_log = SizeOf(path + "-wal") != 0;
  if (std::memcmp(head, "SQLite format 3", 16) != 0) {
    if (file.gcount() == 0 && has_log) return Error{"its first page is missing"};
    return Error{"it does not begin as a database"};
  }
  const uint32_t page = BigEndian(head + 16, 2) == 1 ? 65536 : BigEndian(head + 16, 2);
  const uint64_t size = SizeOf(path);
  // Pages that are still in the log may be missing in the file.
  if (!has_log && size != uint64_t{page} * BigEndian(head + 28, 4)) {
    return Error{"it has " + std::to_string(size) + " bytes and should have " +
                 std::to_string(uint64_t{page} * BigEndian(head + 28, 4))};
  }
  if (!whole && !has_log) return Done{};
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READWRITE, nullptr);
  const std::unique_ptr<sqlite3, SqliteClose> db(opened);
  if (code != SQLITE_OK) return Error{sqlite3_errmsg(opened)};
  const std::optional<std::string> verdict = Value(opened, "PRAGMA quick_check(1)");
  if (!verdict) return Error{sqlite3_errmsg(opened)};
  if (*verdict != "ok") return Error{*verdict};
  return Done{};
}

// ---------------------------------------------------------------------------------------------------------

Folder::~Folder() {
  if (catalogue_ != nullptr && !windows_.empty()) (void)Run(AgesSql());
  sealer_.reset();
  if (lock_ >= 0) ::close(lock_);
}

std::string Folder::PathOf(const std::string& file) const {
  return path_ + "/" + file;
}

bool Folder::Run(const std::string& sql) {
  return Execute(catalogue_.get(), sql);
}

int64_t Folder::Number(const std::string& sql) {
  Result<SqlStatement> s = SqlStatement::Prepare(catalogue_.get(), sql);
  return s.ok() && s->Step() == SQLITE_ROW ? s->ColumnSigned(0) : 0;
}

Error Folder::Failed(const std::string& doing) const {
  const int code = sqlite3_errcode(catalogue_.get()) & 0xFF;
  const int system = sqlite3_system_errno(catalogue_.get());
  if (code == SQLITE_FULL || (code == SQLITE_IOERR && system == ENOSPC)) {
    return Error{"database '" + path_ +
                 "': the disk is full; nothing is taken until there is room, agents keep what they have"};
  }
  if (OnReadOnlyDisk(path_)) return Error{"database '" + path_ + kReadOnlyDisk};
  return Error{"database '" + catalogue_path_ + "': " + doing + ": " + sqlite3_errmsg(catalogue_.get())};
}

// Windows are begun and dropped by one process.
Status Folder::Lock() {
  const std::string file = PathOf(kLockFile);
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) return Error{"folder '" + path_ + "' is not writable: " + std::strerror(errno)};
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return Done{};
  if (errno == EWOULDBLOCK) return Error{"folder '" + path_ + "': another collector writes there"};
  return Error{"folder '" + path_ + "': cannot lock '" + file + "': " + std::strerror(errno)};
}

// A database that holds calls itself, of an earlier layout or of `keytrail investigate`, becomes a window.
Status Folder::Adopt(Store::State& found) {
  if (FilesOf(catalogue_path_).size() > 1) {
    return Error{"database '" + catalogue_path_ +
                 "' holds calls itself, and files of windows lie beside it; move one or the other away"};
  }
  const int64_t now = options_.clock();
  const std::string name = WindowFile(1, now);
  const std::string description =
      "INSERT INTO windows (number, file, state, first_call_id, first_ns) VALUES (1, " + SqlQuoted(name) +
      ", 'live', 1, coalesce((SELECT min(first_seen_ns) FROM agents), " + std::to_string(now) + "));" +
      "INSERT OR REPLACE INTO about VALUES ('part', 'window');";
  Status status = found.Execute("BEGIN IMMEDIATE; DELETE FROM windows;" + description + "COMMIT;");
  if (status.ok()) status = found.Execute("PRAGMA wal_checkpoint(TRUNCATE)");
  if (!status.ok()) return status;
  found.db.reset();
  if (SizeOf(catalogue_path_ + "-wal") != 0) {
    return Error{"database '" + catalogue_path_ + "': somebody reads it, so it cannot become a window now"};
  }
  ::unlink((catalogue_path_ + "-wal").c_str());
  ::unlink((catalogue_path_ + "-shm").c_str());
  std::error_code failed;
  fs::rename(catalogue_path_, PathOf(name), failed);
  if (failed) return Error{"database '" + catalogue_path_ + "': cannot be renamed: " + failed.message()};
  adopted_ = PathOf(name);
  notices_.push_back("'" + catalogue_path_ + "' is of an earlier layout; it is now the window '" + name +
                     "'");
  return Done{};
}

// Until it is judged anew, what an adopted database says of verdicts is the report. Without it nothing is
// lost.
void Folder::TakeReport() {
  if (adopted_.empty() || !Run("ATTACH " + SqlQuoted(adopted_) + " AS w")) return;
  std::string sql = "BEGIN IMMEDIATE;";
  for (const char* table : {"verdicts", "inconclusive", "verdict_notes", "occurrences", "evidence", "hosts",
                            "benign", "report_losses", "clock_offsets"}) {
    sql += std::string("INSERT INTO main.") + table + " SELECT * FROM w." + table + ";";
  }
  if (!Run(sql + "INSERT OR IGNORE INTO main.about SELECT * FROM w.about WHERE name <> 'part'; COMMIT;")) {
    Run("ROLLBACK");
  }
  Run("DETACH w");
}

Status Folder::TakeCatalogue() {
  for (int attempt = 0; attempt < 2; ++attempt) {
    Store::State state;
    state.path = catalogue_path_;
    const bool there =
        fs::exists(catalogue_path_) && SizeOf(catalogue_path_) + SizeOf(catalogue_path_ + "-wal") != 0;
    if (there && !IsOtherFile(catalogue_path_)) {
      if (const Status sound = CheckFile(catalogue_path_, true); !sound.ok()) {
        notices_.push_back("'" + catalogue_path_ + "' is damaged (" + sound.error() + "); set aside as '" +
                           RenameDamaged(catalogue_path_) + "', a new one is made from the windows");
      }
    }
    Status status = state.OpenFile(catalogue_path_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (status.ok()) status = state.CheckOurs();
    if (!status.ok()) return status;
    if (sqlite3_db_readonly(state.db.get(), "main") == 1) {
      return Error{"database '" + catalogue_path_ + "' is not writable"};
    }
    status = state.Execute(kWritingPragmas);
    // What is said of files must be on the disk before they go.
    if (status.ok()) status = state.Execute("PRAGMA synchronous = FULL");
    if (!status.ok()) return status;
    const Result<int64_t> application = state.Number("PRAGMA application_id");
    if (!application) return Error{application.error()};
    status = *application == kApplicationId ? state.Upgrade()
                                            : state.Execute("BEGIN IMMEDIATE;" + CreationSql() + "COMMIT;");
    if (!status.ok()) return status;
    const std::string part =
        Value(state.db.get(), "SELECT value FROM about WHERE name = 'part'").value_or("");
    const Result<int64_t> rows =
        state.Number("SELECT (SELECT count(*) FROM call_rows) + (SELECT count(*) FROM agents)");
    if (!rows) return Error{rows.error()};
    if (part == "window" || (part.empty() && *rows != 0)) {
      status = Adopt(state);
      if (!status.ok()) return status;
      continue;
    }
    std::string sql = "BEGIN IMMEDIATE; INSERT OR REPLACE INTO about VALUES ('part', 'catalogue');";
    for (const char* index : kSealedIndexSql) sql += std::string(index) + ";";
    status = state.Execute(sql + "COMMIT;");
    if (!status.ok()) return status;
    catalogue_ = std::move(state.db);
    return Done{};
  }
  return Error{"database '" + catalogue_path_ + "' cannot be made"};
}

// What the catalogue says of a window; empty: nothing.
std::string Folder::StateOf(uint64_t number) {
  return Value(catalogue_.get(), "SELECT state FROM windows WHERE number = " + std::to_string(number))
      .value_or("");
}

Status Folder::TakeWindow(const std::string& path) {
  const std::string file = fs::path(path).filename().string();
  const auto damaged = [&](const std::string& why) {
    Window window;
    window.file = file;
    window.number = std::strtoull(file.c_str() + kPrefix.size(), nullptr, 10);
    window.first_call_id = next_call_id_;
    const int64_t known =
        Number("SELECT first_call_id FROM windows WHERE number = " + std::to_string(window.number));
    if (known > 0) window.first_call_id = static_cast<uint64_t>(known);
    windows_.push_back(window);
    SetAside(windows_.size() - 1, why);
    return Status(Done{});
  };
  // Begun and never committed: nothing was in it.
  if (SizeOf(path) == 0 && SizeOf(path + "-wal") == 0) {
    RemoveFiles(path);
    return Done{};
  }
  Status sound = CheckFile(path, options_.check);
  if (!sound.ok()) return damaged(sound.error());
  Store::State state;
  state.path = path;
  Status status = state.OpenFile(path, SQLITE_OPEN_READWRITE);
  const Result<int64_t> tables =
      status.ok() ? state.Number("SELECT count(*) FROM sqlite_schema") : Error{status.error()};
  if (!tables) return damaged(tables.error());
  if (*tables == 0) {
    state.db.reset();
    RemoveFiles(path);
    return Done{};
  }
  status = state.CheckOurs();
  if (!status.ok()) return status;
  status = state.Upgrade();
  if (!status.ok()) return status;
  Result<SqlStatement> row = SqlStatement::Prepare(
      state.db.get(),
      "SELECT number, file, state, first_call_id, first_ns FROM windows ORDER BY number LIMIT 1");
  if (!row || row->Step() != SQLITE_ROW) return damaged("it does not say which window it is");
  Window window;
  window.number = row->ColumnNumber(0);
  window.file = file;
  window.state = row->ColumnText(2);
  window.first_call_id = row->ColumnNumber(3);
  window.first_ns = row->ColumnSigned(4);
  row->Reset();
  *row = SqlStatement();
  if (StateOf(window.number) == "dropped") {
    state.db.reset();
    RemoveFiles(path);
    return Done{};
  }
  if (window.state != "sealed") {
    // Written until the end, whatever ended it.
    sound = CheckFile(path, true);
    if (!sound.ok()) {
      state.db.reset();
      return damaged(sound.error());
    }
  }
  const Result<int64_t> last = state.Number("SELECT coalesce(max(id), 0) FROM call_rows");
  const Result<int64_t> last_record =
      state.Number("SELECT coalesce(max(first_call_id + records - 1), 0) FROM record_batches");
  const Result<int64_t> loss = state.Number("SELECT coalesce(max(id), 0) FROM losses");
  Result<SqlStatement> agents = SqlStatement::Prepare(
      state.db.get(),
      "SELECT id, agent_key, name, role, epoch, last_sequence, hostname, version, input, first_seen_ns,"
      " last_seen_ns, redaction, redact_secret FROM agents");
  Result<SqlStatement> add = SqlStatement::Prepare(
      catalogue_.get(),
      "INSERT INTO agents (id, agent_key, name, role, epoch, last_sequence, hostname, version, input,"
      " first_seen_ns, last_seen_ns, redaction, redact_secret) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
      "?) ON CONFLICT DO UPDATE SET"
      " last_sequence = max(last_sequence, excluded.last_sequence),"
      " last_seen_ns = max(last_seen_ns, excluded.last_seen_ns),"
      " first_seen_ns = min(first_seen_ns, excluded.first_seen_ns)");
  if (!last || !last_record || !loss || !agents) return damaged(sqlite3_errmsg(state.db.get()));
  if (!add) return Failed("cannot take agents");
  int code = 0;
  while ((code = agents->Step()) == SQLITE_ROW) {
    for (int i = 0; i < 13; ++i)
      sqlite3_bind_value(add->raw(), i + 1, sqlite3_column_value(agents->raw(), i));
    if (!add->Run()) return Failed("cannot take agents");
  }
  if (code != SQLITE_DONE) return damaged(sqlite3_errmsg(state.db.get()));
  next_call_id_ = std::max(
      {next_call_id_, window.first_call_id, static_cast<uint64_t>(std::max(*last, *last_record)) + 1});
  next_loss_id_ = std::max(next_loss_id_, *loss + 1);
  windows_.push_back(window);
  return Done{};
}

// The catalogue says what the files say.
Status Folder::Reconcile() {
  std::string there = "0";
  std::string sql = "BEGIN IMMEDIATE;";
  for (size_t i = 0; i < windows_.size(); ++i) {
    Window& w = windows_[i];
    there += "," + std::to_string(w.number);
    if (w.state != "sealed") w.state = i + 1 == windows_.size() ? "live" : "closed";
    sql += "INSERT INTO windows (number, file, state, first_call_id, first_ns) VALUES (" +
           std::to_string(w.number) + "," + SqlQuoted(w.file) + "," + SqlQuoted(w.state) + "," +
           std::to_string(w.first_call_id) + "," + std::to_string(w.first_ns) +
           ") ON CONFLICT (number) DO UPDATE SET state = excluded.state, file =" + " excluded.file;";
  }
  sql += "UPDATE windows SET state = 'missing', ended_ns = " + std::to_string(options_.clock()) +
         ", reason = 'its file is gone' WHERE state IN ('live', 'closed', 'sealed') AND number NOT IN (" +
         there + ");COMMIT;";
  const int64_t missing =
      Number("SELECT count(*) FROM windows WHERE state IN ('live', 'closed', 'sealed') AND number NOT IN (" +
             there + ")");
  if (!Run(sql)) {
    const Error error = Failed("cannot list the windows");
    Run("ROLLBACK");
    return error;
  }
  if (missing != 0)
    notices_.push_back(std::to_string(missing) + " windows of '" + path_ +
                       "' are missing: their files are gone");
  return Done{};
}

Status Folder::TakeWindows() {
  next_call_id_ = static_cast<uint64_t>(
      std::max<int64_t>(1, Number("SELECT max(coalesce(last_call_id + 1, first_call_id)) FROM windows")));
  next_loss_id_ = Number("SELECT coalesce(max(id), 0) FROM losses") + 1;
  for (const std::string& file : FilesOf(catalogue_path_)) {
    if (file == catalogue_path_) continue;
    const Status taken = TakeWindow(file);
    if (!taken.ok()) return taken;
  }
  std::sort(windows_.begin(), windows_.end(),
            [](const Window& a, const Window& b) { return a.number < b.number; });
  next_number_ = static_cast<uint64_t>(Number("SELECT coalesce(max(number), 0) FROM windows")) + 1;
  if (!windows_.empty()) next_number_ = std::max(next_number_, windows_.back().number + 1);
  return Reconcile();
}

Result<std::unique_ptr<Folder>> Folder::Open(const std::string& path, const FolderOptions& options,
                                             Store::State& live) {
  // Files are looked at before the first Store is opened, and it must come before the first use of SQLite.
  (void)InstallMemoryBound();
  std::unique_ptr<Folder> folder(new Folder);
  Folder& f = *folder;
  f.path_ = path;
  f.catalogue_path_ = (fs::path(path) / kCatalogue).string();
  f.options_ = options;
  if (!f.options_.age_clock) {
    f.options_.age_clock = f.options_.clock ? f.options_.clock : SinceTheHostStarted;
  }
  if (!f.options_.clock) f.options_.clock = live.clock;
  live.clock = f.options_.clock;
  Status status = f.Lock();
  if (status.ok()) status = f.TakeCatalogue();
  if (status.ok()) status = f.TakeWindows();
  if (!status.ok()) return Error{status.error()};
  f.TakeAges();
  f.TakeReport();
  f.sealer_ = std::make_unique<Sealer>();
  for (const Window& w : f.windows_) {
    if (w.state == "closed") f.sealer_->Seal(f.PathOf(w.file));
  }
  Result<SqlStatement> agents = SqlStatement::Prepare(
      f.catalogue(),
      "SELECT id, agent_key, name, role, epoch, last_sequence, hostname, version, input, redaction,"
      " redact_secret FROM agents");
  if (!agents) return Error{f.Failed("cannot read agents").message};
  while (agents->Step() == SQLITE_ROW) {
    AgentRow row;
    row.id = static_cast<uint32_t>(agents->ColumnNumber(0));
    row.agent_key = agents->ColumnText(1);
    row.name = agents->ColumnText(2);
    row.role = agents->ColumnText(3);
    row.epoch = agents->ColumnNumber(4);
    row.last_sequence = agents->ColumnNumber(5);
    row.hostname = agents->ColumnText(6);
    row.version = agents->ColumnText(7);
    row.input = agents->ColumnText(8);
    row.redaction = {RedactionOf(agents->ColumnText(9)), agents->ColumnText(10)};
    f.agents_[row.id] = row;
  }
  const bool has_live = !f.windows_.empty() && f.windows_.back().state == "live";
  status = has_live ? f.OpenLive(live, f.windows_.back()) : f.BeginWindow(live);
  if (!status.ok()) return Error{status.error()};
  f.amended_ = true;
  return folder;
}

// The wall clock at which it was written, then number and age of each window.
std::string Folder::AgesSql() {
  const int64_t now = options_.age_clock();
  std::string text = std::to_string(options_.clock());
  for (const Window& w : windows_) {
    text += " " + std::to_string(w.number) + " " + std::to_string(now - w.begun_ns);
  }
  return "INSERT OR REPLACE INTO about VALUES ('ages', '" + text + "');";
}

// Ages are what passed by a clock that nobody can set: a wall clock that jumps a year ahead would make all
// calls too old at once. Only for the time between two starts there is nothing but the wall clock. Of that no
// more is believed than a window lasts; what is not believed keeps calls longer, which `keep_bytes` bounds.
void Folder::TakeAges() {
  const int64_t wall = options_.clock();
  const int64_t now = options_.age_clock();
  std::map<uint64_t, int64_t> ages;
  int64_t written = 0;
  std::istringstream text(
      Value(catalogue_.get(), "SELECT value FROM about WHERE name = 'ages'").value_or(""));
  uint64_t number = 0;
  int64_t age = 0;
  text >> written;
  while (text >> number >> age) ages[number] = std::max<int64_t>(age, 0);
  // A folder of an earlier version: as old as its stamps say, against the youngest of them.
  if (ages.empty()) {
    written = Number("SELECT max(last_seen_ns) FROM agents");
    for (const Window& w : windows_) written = std::max(written, w.first_ns);
    for (const Window& w : windows_) ages[w.number] = written - w.first_ns;
  }
  const int64_t passed = std::max<int64_t>(wall - written, 0);
  const int64_t believed = std::min(passed, options_.keep_age_ns / int64_t{limits::kMaxWindows - 2});
  for (Window& w : windows_) {
    const auto found = ages.find(w.number);
    w.begun_ns = now - believed - (found == ages.end() ? 0 : found->second);
  }
  if (passed > believed && !windows_.empty()) {
    notices_.push_back("by the clock " + Hours(passed) + " passed since the last start ended; more than " +
                       Hours(believed) + " is not believed when calls are dropped by age");
  }
}

Status Folder::OpenLive(Store::State& live, const Window& window) {
  Store::State opened;
  opened.path = PathOf(window.file);
  Status status = opened.OpenFile(opened.path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  if (status.ok()) status = opened.Execute(kWritingPragmas);
  if (status.ok() && opened.Number("PRAGMA application_id").ok() &&
      *opened.Number("PRAGMA application_id") == 0) {
    status = opened.Execute("BEGIN IMMEDIATE;" + CreationSql() + kLiveIndexSql +
                            "INSERT INTO about VALUES ('part', 'window');"
                            "INSERT INTO windows (number, file, state, first_call_id, first_ns) VALUES (" +
                            std::to_string(window.number) + "," + SqlQuoted(window.file) + ", 'live', " +
                            std::to_string(window.first_call_id) + ", " + std::to_string(window.first_ns) +
                            ");COMMIT;");
  }
  if (!status.ok()) return status;
  live.ForgetStatements();
  live.db = std::move(opened.db);
  live.path = path_;
  live.first_id = window.first_call_id;
  live.next_loss_id = std::max(live.next_loss_id, next_loss_id_);
  live_damaged_ = false;
  Result<int64_t> used = live.Number("SELECT EXISTS (SELECT 1 FROM agents)");
  live_used_ = used.ok() && *used != 0;
  // In a window an agent's row comes with its commit.
  return Done{};
}

Status Folder::BeginWindow(Store::State& live) {
  const int64_t now = options_.clock();
  Window window;
  window.number = next_number_;
  window.file = WindowFile(window.number, now);
  window.state = "live";
  window.first_call_id = std::max(next_call_id_, live.next_call_id);
  window.first_ns = now;
  window.begun_ns = options_.age_clock();
  if (live.db != nullptr) {
    const Result<int64_t> last =
        live.Number("SELECT coalesce(max(first_call_id + records), 0) FROM record_batches");
    if (last.ok()) window.first_call_id = std::max(window.first_call_id, static_cast<uint64_t>(*last));
    next_loss_id_ = std::max(next_loss_id_, live.next_loss_id);
  }
  // The file first; without the catalogue's word for it nobody reads it, and it goes again.
  Store::State fresh;
  fresh.clock = live.clock;
  Status status = OpenLive(fresh, window);
  std::string sql = "BEGIN IMMEDIATE;";
  const bool replaces = !windows_.empty() && windows_.back().state == "live";
  if (replaces) {
    sql += "UPDATE windows SET state = 'closed', last_call_id = " + std::to_string(window.first_call_id - 1) +
           ", last_ns = " + std::to_string(now) + ", bytes = " + std::to_string(BytesOf(windows_.back())) +
           " WHERE number = " + std::to_string(windows_.back().number) + ";";
  }
  sql += "INSERT INTO windows (number, file, state, first_call_id, first_ns) VALUES (" +
         std::to_string(window.number) + "," + SqlQuoted(window.file) + ", 'live', " +
         std::to_string(window.first_call_id) + ", " + std::to_string(now) + ");";
  for (const auto& [id, agent] : agents_) {
    sql += "UPDATE agents SET last_sequence = max(last_sequence, " +
           std::to_string(static_cast<int64_t>(agent.last_sequence)) + ") WHERE id = " + std::to_string(id) +
           ";";
  }
  if (status.ok() && !Run(sql + "COMMIT;")) status = Failed("cannot begin a window");
  if (!status.ok()) {
    Run("ROLLBACK");
    fresh.db.reset();
    RemoveFiles(PathOf(window.file));
    return status;
  }
  ++next_number_;
  live.ForgetStatements();
  live.db = std::move(fresh.db);
  live.path = path_;
  live.first_id = window.first_call_id;
  live.next_call_id = window.first_call_id;
  live.next_loss_id = std::max(live.next_loss_id, next_loss_id_);
  if (replaces) {
    windows_.back().state = "closed";
    sealer_->Seal(PathOf(windows_.back().file));
  }
  windows_.push_back(window);
  if (Run(AgesSql())) ages_saved_ns_ = options_.age_clock();
  next_call_id_ = window.first_call_id;
  live_used_ = live_damaged_ = false;
  return Done{};
}

// ---------------------------------------------------------------------------------------------------------

uint64_t Folder::Registered(const AgentRow& agent) {
  AgentRow& known = agents_[agent.id];
  const uint64_t stored = std::max(known.last_sequence, agent.last_sequence);
  known = agent;
  return known.last_sequence = stored;
}

const AgentRow* Folder::AgentOf(uint32_t id) const {
  const auto found = agents_.find(id);
  return found == agents_.end() ? nullptr : &found->second;
}

void Folder::Committed(uint32_t agent, uint64_t sequence, bool amended) {
  agents_[agent].last_sequence = sequence;
  live_used_ = true;
  amended_ = amended_ || amended;
}

void Folder::NoteFailure(int code) {
  if ((code & 0xFF) == SQLITE_CORRUPT || (code & 0xFF) == SQLITE_NOTADB) live_damaged_ = true;
}

uint64_t Folder::BytesOf(const Window& window) const {
  return SizeOf(PathOf(window.file)) + SizeOf(PathOf(window.file) + "-wal");
}

uint64_t Folder::Bytes() const {
  uint64_t bytes = 0;
  for (const Window& w : windows_) bytes += BytesOf(w);
  return bytes;
}

Status Folder::Tend(Store::State& live, bool before_batch) {
  if (live_damaged_ && !windows_.empty()) {
    live.ForgetStatements();
    live.db.reset();
    SetAside(windows_.size() - 1, "pages of it are damaged");
  }
  if (live.db == nullptr) {
    const Status begun = BeginWindow(live);
    if (!begun.ok()) return begun;
    return live.PrepareWriting();
  }
  if (live.begin.raw() == nullptr) {
    // A new window whose statements could not be made when it was begun.
    const Status ready = live.PrepareWriting();
    if (!ready.ok()) return ready;
  }
  const int64_t now = options_.age_clock();
  const Window& current = windows_.back();
  const bool too_old = now - current.begun_ns >= options_.keep_age_ns / int64_t{limits::kMaxWindows - 2};
  if (live_used_ && (too_old || BytesOf(current) >= options_.keep_bytes / limits::kMaxWindows)) {
    while (windows_.size() >= limits::kMaxWindows) {
      const size_t before = windows_.size();
      DropOldest("more than " + std::to_string(limits::kMaxWindows) + " windows");
      if (windows_.size() == before) break;
    }
    // If there is no room for a new one, the old one goes on.
    if (windows_.size() < limits::kMaxWindows && BeginWindow(live).ok()) {
      const Status ready = live.PrepareWriting();
      if (!ready.ok()) return ready;
    }
  }
  if (before_batch && now >= looked_ns_ && now - looked_ns_ < kSecondNs) return Done{};
  looked_ns_ = now;
  TakeSealed(live);
  while (windows_.size() > 1 && now - windows_[1].begun_ns >= options_.keep_age_ns) {
    const size_t before = windows_.size();
    DropOldest("its calls are older than the age that is kept");
    if (windows_.size() == before) break;
  }
  while (windows_.size() > 1 && Bytes() > options_.keep_bytes) {
    const size_t before = windows_.size();
    DropOldest("all calls together take more than the bytes that are kept");
    if (windows_.size() == before) break;
  }
  if (now - ages_saved_ns_ >= kSaveAgesNs && Run(AgesSql())) ages_saved_ns_ = now;
  if (amended_ && windows_.size() > 1 && (now < amended_ns_ || now - amended_ns_ >= kSecondNs)) {
    std::vector<std::string> older;
    for (size_t i = 0; i + 1 < windows_.size(); ++i) older.push_back(PathOf(windows_[i].file));
    sealer_->Amend(PathOf(windows_.back().file), older);
    amended_ = false;
    amended_ns_ = now;
  }
  return Done{};
}

void Folder::TakeSealed(Store::State&) {
  for (const Sealer::Outcome& outcome : sealer_->TakeOutcomes()) {
    const auto found = std::find_if(windows_.begin(), windows_.end(),
                                    [&](const Window& w) { return PathOf(w.file) == outcome.file; });
    if (found == windows_.end()) continue;
    if (outcome.damaged) {
      SetAside(static_cast<size_t>(found - windows_.begin()), outcome.problem);
      continue;
    }
    found->state = "sealed";
    sqlite3* opened = nullptr;
    const int code = sqlite3_open_v2(outcome.file.c_str(), &opened, SQLITE_OPEN_READONLY, nullptr);
    const std::unique_ptr<sqlite3, SqliteClose> db(opened);
    const std::string calls =
        code == SQLITE_OK ? Value(opened, "SELECT calls FROM windows").value_or("NULL") : "NULL";
    Run("UPDATE windows SET state = 'sealed', calls = " + (calls.empty() ? "NULL" : calls) +
        ", bytes = " + std::to_string(BytesOf(*found)) + " WHERE number = " + std::to_string(found->number));
  }
}

bool Folder::Tell(const Window& window, const char* state, const std::string& reason, int64_t carried) {
  return Run("INSERT OR IGNORE INTO windows (number, file, state, first_call_id, first_ns) VALUES (" +
             std::to_string(window.number) + "," + SqlQuoted(window.file) + "," + SqlQuoted(state) + "," +
             std::to_string(window.first_call_id) + "," + std::to_string(window.first_ns) +
             ");UPDATE windows SET state = " + SqlQuoted(state) + ", reason = " + SqlQuoted(reason) +
             ", carried = " + std::to_string(carried) + ", ended_ns = " + std::to_string(options_.clock()) +
             " WHERE number = " + std::to_string(window.number) + ";");
}

void Folder::DropOldest(const std::string& reason) {
  const Window window = windows_.front();
  const std::string path = PathOf(window.file);
  sealer_->Forget(path);
  // The catalogue's word and what it keeps of the window are one transaction; then the file goes. A crash in
  // between leaves a file that is known to be dropped.
  uint64_t carried = 0;
  int code = SQLITE_OK;
  bool kept = false;
  if (Run("ATTACH " + SqlQuoted(path) + " AS w")) {
    const int64_t calls =
        Number("SELECT coalesce((SELECT calls FROM w.windows), (SELECT count(*) FROM w.call_rows))");
    if (Run("BEGIN IMMEDIATE")) {
      const std::optional<uint64_t> copied = CarryOver(catalogue());
      kept = copied.has_value();
      carried = copied.value_or(0);
      kept =
          kept &&
          Run("UPDATE windows SET calls = " + std::to_string(calls) +
              ", bytes = " + std::to_string(BytesOf(window)) +
              ", last_ns = coalesce(last_ns, (SELECT max(last_seen_ns) FROM w.agents)), last_call_id ="
              " coalesce(last_call_id, (SELECT max(first_call_id + records - 1) FROM w.record_batches)) WHERE"
              " number = " +
              std::to_string(window.number)) &&
          Tell(window, "dropped", reason, static_cast<int64_t>(carried)) && Run("COMMIT");
      code = sqlite3_errcode(catalogue());
      if (!kept) Run("ROLLBACK");
    }
    Run("DETACH w");
  } else {
    code = sqlite3_errcode(catalogue());
  }
  if (!kept) {
    const int kind = code & 0xFF;
    const bool never = kind == SQLITE_FULL || kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB;
    // A disk that fails may come back, and what verdicts refer to is worth half a minute's wait.
    const bool disk = kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN;
    if (!never && !(disk && ++drop_failures_ >= kDropTries)) return;  // again when it is looked at next
  }
  drop_failures_ = 0;
  RemoveFiles(path);
  // On a full disk there is room for this only now.
  if (!kept) (void)Tell(window, "dropped", reason + "; nothing of it could be kept", 0);
  windows_.erase(windows_.begin());
  notices_.push_back("dropped '" + window.file + "': " + reason +
                     (kept ? ", " + std::to_string(carried) + " calls of it are kept"
                           : "; nothing of it could be kept: " + std::string(sqlite3_errstr(code))));
  const std::string gone = "FROM windows WHERE state IN ('dropped', 'damaged', 'missing')";
  if (Number("SELECT count(*) " + gone) > static_cast<int64_t>(limits::kMaxGoneWindows)) {
    Run("BEGIN IMMEDIATE; CREATE TEMP TABLE two AS SELECT * " + gone +
        " ORDER BY number LIMIT 2; UPDATE windows SET calls = (SELECT sum(calls) FROM two), bytes = (SELECT"
        " sum(bytes) FROM two), carried = (SELECT sum(carried) FROM two), first_ns = (SELECT min(first_ns) "
        "FROM two),"
        " first_call_id = (SELECT min(first_call_id) FROM two) WHERE number = (SELECT max(number) FROM two);"
        "DELETE FROM windows WHERE number = (SELECT min(number) FROM two); DROP TABLE two; COMMIT;");
  }
}

void Folder::SetAside(size_t index, const std::string& why) {
  const Window window = windows_[index];
  const std::string path = PathOf(window.file);
  if (sealer_ != nullptr) sealer_->Forget(path);
  next_call_id_ = std::max(next_call_id_, window.first_call_id + BytesOf(window) / kLeastCallBytes + 1);
  const std::string to = RenameDamaged(path);
  (void)Tell(window, "damaged", why + "; set aside as " + fs::path(to).filename().string(), 0);
  windows_.erase(windows_.begin() + static_cast<std::ptrdiff_t>(index));
  notices_.push_back("'" + path + "' is damaged (" + why + "); set aside as '" + to + "'");
}

void Folder::WaitForIndexes() {
  sealer_->Wait();
}

Status Folder::ForEachCall(Store::State& live,
                           const std::function<void(uint32_t, uint64_t, const CallRecord&)>& visit) {
  std::vector<std::string> files{catalogue_path_};
  for (const Window& w : windows_) files.push_back(PathOf(w.file));
  for (const std::string& file : files) {
    Store::State state;
    state.path = file;
    Status status = state.OpenFile(file, SQLITE_OPEN_READONLY);
    if (status.ok()) status = VisitRecords(state, visit);
    if (status.ok()) continue;
    const int code = state.db != nullptr ? sqlite3_errcode(state.db.get()) & 0xFF : SQLITE_OK;
    state.db.reset();
    const auto found = std::find_if(windows_.begin(), windows_.end(),
                                    [&](const Window& w) { return PathOf(w.file) == file; });
    if (found == windows_.end() || code == SQLITE_BUSY || code == SQLITE_NOMEM) return status;
    if (found->state == "live") {
      // It may be only a record that cannot be read; what is written goes to a new window in any case.
      live.ForgetStatements();
      live.db.reset();
    }
    SetAside(static_cast<size_t>(found - windows_.begin()), status.error());
  }
  return Done{};
}

}  // namespace keytrail
