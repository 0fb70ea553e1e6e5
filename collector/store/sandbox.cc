#include "collector/store/sandbox.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "collector/store/folder.h"
#include "collector/store/memory_bound.h"
#include "collector/store/reading.h"
#include "collector/store/store_state.h"
#include "common/clock.h"

namespace keytrail {

namespace {

using End = SqlOutcome::End;

// Operations of SQLite's machine between two looks at the clock: some ten microseconds.
constexpr int kOperationsPerLook = 2000;

void SetLimits(sqlite3* db) {
  const struct {
    int id;
    int value;
  } kLimits[] = {{SQLITE_LIMIT_LENGTH, limits::kMaxSqlValueBytes},
                 {SQLITE_LIMIT_SQL_LENGTH, limits::kMaxSqlBytes},
                 {SQLITE_LIMIT_COLUMN, limits::kMaxSqlColumns},
                 {SQLITE_LIMIT_EXPR_DEPTH, limits::kMaxSqlExpressionDepth},
                 {SQLITE_LIMIT_COMPOUND_SELECT, limits::kMaxSqlCompoundSelects},
                 {SQLITE_LIMIT_VDBE_OP, limits::kMaxSqlOperations},
                 {SQLITE_LIMIT_FUNCTION_ARG, limits::kMaxSqlFunctionArguments},
                 {SQLITE_LIMIT_ATTACHED, 0},
                 {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, limits::kMaxSqlLikePatternBytes},
                 {SQLITE_LIMIT_VARIABLE_NUMBER, limits::kMaxSqlParameters},
                 {SQLITE_LIMIT_TRIGGER_DEPTH, 1},
                 {SQLITE_LIMIT_WORKER_THREADS, 0}};
  for (const auto& limit : kLimits) sqlite3_limit(db, limit.id, limit.value);
}

// Everything that could do more than the authorizer sees. Error: SQLite's words.
Status Harden(sqlite3* db) {
  for (const int off : {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER,
                        SQLITE_DBCONFIG_ENABLE_TRIGGER, SQLITE_DBCONFIG_WRITABLE_SCHEMA}) {
    sqlite3_db_config(db, off, 0, nullptr);
  }
  // Sorting happens in memory, within its bound: the collector's disk is for records.
  const char* const kPragmas =
      "PRAGMA query_only = 1; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = 1;";
  if (sqlite3_exec(db, kPragmas, nullptr, nullptr, nullptr) != SQLITE_OK) return Error{sqlite3_errmsg(db)};
  SetLimits(db);
  return Done{};
}

// Binds all that the statement wants, and nothing else. Empty, or what is wrong.
std::string Bind(sqlite3_stmt* statement, const std::map<std::string, Store::QueryValue>& parameters) {
  using Type = Store::QueryValue::Type;
  const int count = sqlite3_bind_parameter_count(statement);
  for (int i = 1; i <= count; ++i) {
    const char* name = sqlite3_bind_parameter_name(statement, i);
    if (name == nullptr) return "a parameter needs a name, such as :region";
    const auto found = parameters.find(name + 1);
    if (found == parameters.end()) return std::string("no value is given for the parameter ") + name;
    const Store::QueryValue& v = found->second;
    if (v.type == Type::kInteger) sqlite3_bind_int64(statement, i, v.integer);
    if (v.type == Type::kReal) sqlite3_bind_double(statement, i, v.real);
    if (v.type == Type::kText) {
      sqlite3_bind_text64(statement, i, v.bytes.data(), v.bytes.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    }
    if (v.type == Type::kBlob) {
      sqlite3_bind_blob64(statement, i, v.bytes.data(), v.bytes.size(), SQLITE_TRANSIENT);
    }
  }
  for (const auto& [name, value] : parameters) {
    bool used = false;
    for (const char* prefix : {":", "@", "$"}) {
      used = used || sqlite3_bind_parameter_index(statement, (prefix + name).c_str()) != 0;
    }
    if (!used) return "the query has no parameter :" + name;
  }
  return "";
}

size_t RowBytes(const std::vector<Store::QueryValue>& row) {
  size_t bytes = 0;
  for (const Store::QueryValue& v : row) bytes += v.bytes.size() + sizeof(int64_t);
  return bytes;
}

}  // namespace

std::string TimeLimitText(int64_t max_time_ns) {
  char text[64];
  std::snprintf(text, sizeof text, "stopped after %.3g s, its time limit",
                static_cast<double>(max_time_ns) / 1e9);
  return text;
}

struct Sandbox::State {
  std::unique_ptr<Store> store;
  std::atomic<bool> cancelled = false;
  sqlite3* db = nullptr;  // of `store`

  // Of the question that runs.
  int64_t begun_ns = 0;
  int64_t max_time_ns = 0;
  bool late = false;

  bool MustStop() {
    late = late || SteadyNs() - begun_ns >= max_time_ns;
    return late || cancelled.load(std::memory_order_relaxed);
  }
  static int OnProgress(void* self) { return static_cast<State*>(self)->MustStop() ? 1 : 0; }

  SqlOutcome Stopped(int code, const MemoryBound& memory, const ReadingOnly& only,
                     const SqlQuestion& question);
  SqlOutcome Give(const SqlStatement& statement, const SqlQuestion& question, const MemoryBound& memory,
                  const ReadingOnly& only, const ColumnVisitor& on_columns, const RowVisitor& on_row);
};

// Why SQLite gave up.
SqlOutcome Sandbox::State::Stopped(int code, const MemoryBound& memory, const ReadingOnly& only,
                                   const SqlQuestion& question) {
  if (cancelled) return {End::kCancelled, "cancelled"};
  if (late) return {End::kTimeLimit, TimeLimitText(max_time_ns)};
  if (memory.hit()) {
    return {End::kMemoryLimit, "stopped: it needs more than " +
                                   std::to_string(limits::kMaxQueryMemoryBytes >> 20) + " MiB of memory"};
  }
  switch (code & 0xFF) {
    case SQLITE_AUTH:
      return {End::kRefused, RefusalText(question.sql, only.refused())};
    case SQLITE_INTERRUPT:
      return {End::kCancelled, "cancelled"};
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CANTOPEN:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
      return {End::kEnvironment, sqlite3_errmsg(db)};
    default:
      return {End::kWrong, sqlite3_errmsg(db)};
  }
}

SqlOutcome Sandbox::State::Give(const SqlStatement& statement, const SqlQuestion& question,
                                const MemoryBound& memory, const ReadingOnly& only,
                                const ColumnVisitor& on_columns, const RowVisitor& on_row) {
  const int count = sqlite3_column_count(statement.raw());
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.emplace_back(sqlite3_column_name(statement.raw(), i));
  on_columns(names);
  std::vector<Store::QueryValue> row(names.size());
  uint64_t rows = 0;
  const auto ended = [&](SqlOutcome outcome) {
    outcome.rows = rows;
    return outcome;
  };
  for (;;) {
    if (MustStop()) return ended(Stopped(SQLITE_INTERRUPT, memory, only, question));
    const int code = sqlite3_step(statement.raw());
    if (code == SQLITE_DONE) return ended({});
    if (code != SQLITE_ROW) return ended(Stopped(code, memory, only, question));
    if (rows == question.max_rows) {
      return ended(
          {End::kRowLimit, "stopped after " + std::to_string(rows) + " rows, the limit; there are more"});
    }
    for (int i = 0; i < count; ++i) ReadValue(statement.raw(), i, row[static_cast<size_t>(i)]);
    if (RowBytes(row) > limits::kMaxSqlRowBytes) {
      return ended({End::kMemoryLimit, "stopped: a row is larger than " +
                                           std::to_string(limits::kMaxSqlRowBytes >> 20) + " MiB"});
    }
    ++rows;
    if (!on_row(row)) return ended({End::kReader, ""});
  }
}

Sandbox::Sandbox() : state_(std::make_unique<State>()) {}
Sandbox::~Sandbox() = default;

Result<std::unique_ptr<Sandbox>> Sandbox::Open(const std::string& path) {
  if (!InstallMemoryBound())
    return Error{"the memory of queries cannot be bounded: SQLite was in use before"};
  Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(path);
  if (!store) return Error{store.error()};
  std::unique_ptr<Sandbox> sandbox(new Sandbox);
  State& s = *sandbox->state_;
  s.store = std::move(*store);
  s.db = s.store->state_->db.get();
  const Status hard = Harden(s.db);
  if (!hard.ok()) return Error{"database '" + path + "': " + hard.error()};
  return sandbox;
}

SqlOutcome Sandbox::Run(const SqlQuestion& question, const ColumnVisitor& on_columns,
                        const RowVisitor& on_row) {
  State& s = *state_;
  s.begun_ns = SteadyNs();
  s.max_time_ns = question.max_time_ns;
  s.late = false;
  const ReadScope scope(*s.store->state_);
  if (!scope.status().ok()) {
    if (s.cancelled) return {End::kCancelled, "cancelled"};
    return {End::kEnvironment, scope.status().error()};
  }
  sqlite3_progress_handler(s.db, kOperationsPerLook, State::OnProgress, &s);
  SqlOutcome outcome;
  {
    const MemoryBound memory(limits::kMaxQueryMemoryBytes);
    const ReadingOnly only(s.db);
    PreparedReading prepared = PrepareReading(s.db, question.sql, only);
    if (const ReadingProblem* problem = std::get_if<ReadingProblem>(&prepared)) {
      // The clock and the memory go on while SQLite plans.
      const bool stopped = s.late || s.cancelled || memory.hit();
      outcome = stopped ? s.Stopped(SQLITE_INTERRUPT, memory, only, question)
                        : SqlOutcome{problem->refused ? End::kRefused : End::kWrong, problem->text};
    } else {
      const SqlStatement statement = std::move(std::get<SqlStatement>(prepared));
      const std::string unbound = Bind(statement.raw(), question.parameters);
      outcome = unbound.empty() ? s.Give(statement, question, memory, only, on_columns, on_row)
                                : SqlOutcome{End::kWrong, unbound};
    }
  }
  sqlite3_progress_handler(s.db, 0, nullptr, nullptr);
  outcome.elapsed_ns = SteadyNs() - s.begun_ns;
  return outcome;
}

void Sandbox::Cancel() {
  state_->cancelled = true;
  // Some operations (counting a whole table) are one step of SQLite's machine: only this ends them.
  sqlite3_interrupt(state_->db);
}

size_t FirstStatement(std::string_view sql) {
  for (size_t end = sql.find(';'); end != std::string_view::npos; end = sql.find(';', end + 1)) {
    if (sqlite3_complete(std::string(sql.substr(0, end + 1)).c_str()) != 0) return end + 1;
  }
  return 0;
}

namespace {

Result<bool> FoldOne(const std::string& path) {
  sqlite3* opened = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  const std::unique_ptr<sqlite3, SqliteClose> db(opened);
  const auto failed = [&] {
    return Error{"database '" + path + "': cannot fold its log: " + sqlite3_errmsg(opened)};
  };
  if (code != SQLITE_OK) return failed();
  sqlite3_busy_timeout(opened, 1000);
  // A connection that has not read yet does not know that there is a log, and has nothing to fold.
  if (sqlite3_exec(opened, "SELECT 1 FROM sqlite_schema LIMIT 1", nullptr, nullptr, nullptr) != SQLITE_OK)
    return failed();
  const int folded = sqlite3_wal_checkpoint_v2(opened, "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  if (folded == SQLITE_BUSY || folded == SQLITE_LOCKED) return false;
  if (folded != SQLITE_OK) return failed();
  return true;
}

}  // namespace

Result<bool> FoldLog(const std::string& path) {
  bool all = true;
  for (const std::string& file : FilesOf(path)) {
    const Result<bool> folded = FoldOne(file);
    // A window may have been dropped meanwhile.
    if (!folded && (file == path || std::filesystem::exists(file))) return folded;
    all = all && folded.ok() && *folded;
  }
  return all;
}

}  // namespace keytrail
