#include "collector/store/store.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "collector/store/folder.h"
#include "collector/store/memory_bound.h"
#include "collector/store/reading.h"
#include "collector/store/schema.h"
#include "collector/store/store_state.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/plain_text.h"

namespace keytrail {

// A larger checkpoint interval than SQLite's 1,000 pages: the same pages are written over and over.
const char* const kWritingPragmas =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000;"
    "PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;";

namespace {}  // namespace

bool IsOtherFile(const std::string& path) {
  static constexpr std::string_view kMagic("SQLite format 3\0", 16);
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  std::ifstream file(path, std::ios::binary);
  char head[kMagic.size()];
  file.read(head, sizeof head);
  const std::string_view got(head, static_cast<size_t>(file.gcount()));
  return !got.empty() && got != kMagic;
}

bool OnReadOnlyDisk(const std::string& path) {
  return ::access(path.c_str(), W_OK) != 0 && errno == EROFS;
}

Error Store::State::Failed(const std::string& doing) const {
  std::string text = "database '" + path + "': " + doing + ": ";
  if (!db) return Error{text + "out of memory"};
  text += sqlite3_errmsg(db.get());
  const int system = sqlite3_system_errno(db.get());
  const int code = sqlite3_errcode(db.get()) & 0xFF;
  // The same words whatever was being done: they are told once.
  if (code == SQLITE_FULL || (code == SQLITE_IOERR && system == ENOSPC)) {
    return Error{"database '" + path +
                 "': the disk is full; nothing is taken until there is room, agents keep what they have"};
  }
  if (OnReadOnlyDisk(path)) return Error{"database '" + path + kReadOnlyDisk};
  if (system != 0 && (code == SQLITE_CANTOPEN || code == SQLITE_IOERR || code == SQLITE_FULL)) {
    text += std::string(" (") + std::strerror(system) + ")";
  }
  return Error{text};
}

Status Store::State::Execute(const std::string& sql) {
  if (sqlite3_exec(db.get(), sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return Done{};
  return Failed("cannot write");
}

Result<int64_t> Store::State::Number(const std::string& sql) {
  Result<SqlStatement> statement = SqlStatement::Prepare(db.get(), sql);
  if (!statement || statement->Step() != SQLITE_ROW) return Failed("cannot read");
  return statement->ColumnSigned(0);
}

Status Store::State::OpenFile(const std::string& name, int flags) {
  // Before the first use of SQLite, or no query could be bounded later. Sandbox asks whether it worked.
  (void)InstallMemoryBound();
  if (IsOtherFile(path)) return Error{"database '" + path + "': file is not a database"};
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(name.c_str(), &opened, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  db.reset(opened);
  if (code != SQLITE_OK) return Failed("cannot open");
  sqlite3_extended_result_codes(opened, 1);
  sqlite3_busy_timeout(opened, 10000);
  // What stands in a file's schema is not trusted: it may come from anywhere.
  sqlite3_db_config(opened, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(opened, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  return AddSqlFunctions(opened);
}

// Error if the file is no database, not ours, or of another version. An empty one passes.
Status Store::State::CheckOurs() {
  const Result<int64_t> tables = Number("SELECT count(*) FROM sqlite_schema");
  if (!tables) return Error{tables.error()};
  const Result<int64_t> application = Number("PRAGMA application_id");
  const Result<int64_t> version = Number("PRAGMA user_version");
  if (!application || !version) return Failed("cannot read");
  if (*application == kApplicationId && *version >= kOldestSchemaVersion && *version <= kSchemaVersion) {
    return Done{};
  }
  if (*tables == 0 && *application == 0 && *version == 0 && !read_only) return Done{};
  const std::string where = "database '" + path + "' ";
  if (*application != kApplicationId) return Error{where + "was not written by keytrail"};
  if (*version > kSchemaVersion) {
    return Error{where + "was written by a newer keytrail (schema " + std::to_string(*version) +
                 ", this one knows " + std::to_string(kSchemaVersion) + ")"};
  }
  return Error{where + "was written by an older keytrail (schema " + std::to_string(*version) +
               "), which this one cannot read"};
}

// A file of an earlier layout gets what it lacks.
Status Store::State::Upgrade() {
  const Result<int64_t> version = Number("PRAGMA user_version");
  if (!version) return Error{version.error()};
  if (*version == kSchemaVersion) return Done{};
  return Execute("BEGIN IMMEDIATE;" + UpgradeSql(*version) + "COMMIT;");
}

Status Store::State::PrepareWriting() {
  const struct {
    SqlStatement* statement;
    const char* sql;
  } kStatements[] = {
      {&begin, "BEGIN IMMEDIATE"},
      {&commit, "COMMIT"},
      {&rollback, "ROLLBACK"},
      {&add_batch, "INSERT INTO record_batches VALUES (?, ?, ?, ?, ?)"},
      {&add_loss, "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?)"},
      // In a window the agent's first commit brings its row along.
      {&move_agent,
       folder == nullptr
           ? "UPDATE agents SET last_sequence = ?2, last_seen_ns = ?3 WHERE id = ?1"
           : "INSERT INTO agents (id, last_sequence, last_seen_ns, agent_key, epoch, name, role,"
             " hostname, version, input, redaction, redact_secret, first_seen_ns) VALUES (?1, ?2, ?3, ?4, ?5,"
             " ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?3) ON CONFLICT (id) DO UPDATE SET last_sequence = ?2, "
             "last_seen_ns = ?3,"
             " name = ?6, role = ?7"},
      {&data_version, "PRAGMA data_version"},
  };
  for (const auto& s : kStatements) {
    Result<SqlStatement> prepared = SqlStatement::Prepare(db.get(), s.sql);
    if (!prepared) return Failed("cannot prepare");
    *s.statement = std::move(*prepared);
  }
  const Status ready = writer.Prepare(db.get());
  if (!ready.ok()) return Error{"database '" + path + "': " + ready.error()};
  return Done{};
}

void Store::State::ForgetStatements() {
  for (SqlStatement* s : {&begin, &commit, &rollback, &add_batch, &add_loss, &move_agent, &data_version}) {
    *s = SqlStatement();
  }
  writer = CallRowWriter();
  seen_data_version = -1;
}

Store::State::State() : clock(WallClockNs) {}
Store::State::~State() = default;

Store::Store() : state_(std::make_unique<State>()) {}
Store::~Store() {
  if (state_->in_transaction) Rollback();
  // The window's connection and its statements go before the thread that makes indexes.
  state_->ForgetStatements();
}

Result<std::unique_ptr<Store>> Store::Open(const std::string& path) {
  std::unique_ptr<Store> store(new Store);
  State& s = *store->state_;
  s.path = path;
  Status status = s.OpenFile(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  if (status.ok()) status = s.CheckOurs();
  if (!status.ok()) return Error{status.error()};
  if (sqlite3_db_readonly(s.db.get(), "main") == 1) {
    return Error{"database '" + path + "' is not writable"};
  }
  status = s.Execute(kWritingPragmas);
  if (!status.ok()) return Error{status.error()};
  const Result<int64_t> application = s.Number("PRAGMA application_id");
  if (!application) return Error{application.error()};
  status = *application == kApplicationId ? s.Upgrade()
                                          : s.Execute("BEGIN IMMEDIATE;" + CreationSql() + "COMMIT;");
  if (!status.ok()) return Error{status.error()};
  const Result<int64_t> parts = s.Number("SELECT count(*) FROM about WHERE name = 'part'");
  if (!parts) return Error{parts.error()};
  if (*parts != 0) return Error{"database '" + path + "' is one of several files of a collector's folder"};
  status = s.PrepareWriting();
  if (!status.ok()) return Error{status.error()};
  return store;
}

Result<std::unique_ptr<Store>> Store::OpenReadOnly(const std::string& path) {
  std::unique_ptr<Store> store(new Store);
  const Status status = store->state_->OpenToRead(path);
  if (!status.ok()) return Error{status.error()};
  return store;
}

// ---------------------------------------------------------------------------------------------------------

Result<AgentRow> Store::RegisterAgent(const std::string& agent_key, const std::string& name,
                                      const std::string& role, uint64_t epoch) {
  AgentRow agent;
  agent.agent_key = agent_key;
  agent.name = name;
  agent.role = role;
  agent.epoch = epoch;
  return RegisterAgent(agent);
}

Result<AgentRow> Store::RegisterAgent(const AgentRow& agent) {
  State& s = *state_;
  sqlite3* db = s.folder != nullptr ? s.folder->catalogue() : s.db.get();
  const auto failed = [&]() -> Error {
    return s.folder != nullptr ? s.folder->Failed("cannot add an agent") : s.Failed("cannot add an agent");
  };
  Result<SqlStatement> statement = SqlStatement::Prepare(
      db,
      "INSERT INTO agents (agent_key, epoch, name, role, hostname, version, input, redaction,"
      " redact_secret, first_seen_ns, last_seen_ns,"
      " last_sequence) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, 0) ON CONFLICT (agent_key, "
      "epoch) DO "
      "UPDATE"
      " SET name = ?3, role = ?4, hostname = ?5, version = ?6, input = ?7, redaction = ?8, redact_secret = "
      "?9,"
      " last_seen_ns = ?10"
      " RETURNING id, last_sequence");
  if (!statement) return failed();
  statement->Text(agent.agent_key).Number(agent.epoch).TextOrNull(agent.name).TextOrNull(agent.role);
  statement->TextOrNull(agent.hostname).TextOrNull(agent.version).TextOrNull(agent.input);
  statement->TextOrNull(RedactionName(agent.redaction.mode)).TextOrNull(agent.redaction.secret);
  if (statement->Signed(s.clock()).Step() != SQLITE_ROW) return failed();
  AgentRow row = agent;
  row.id = static_cast<uint32_t>(statement->ColumnNumber(0));
  row.last_sequence = statement->ColumnNumber(1);
  if (statement->Step() != SQLITE_DONE) return failed();
  if (s.folder != nullptr) row.last_sequence = s.folder->Registered(row);
  return row;
}

Result<std::vector<AgentRow>> Store::Agents() {
  const Result<State*> from = state_->Reader();
  if (!from) return Error{from.error()};
  const ReadScope scope(**from);
  if (!scope.status().ok()) return Error{scope.status().error()};
  Result<SqlStatement> statement =
      SqlStatement::Prepare((*from)->db.get(),
                            "SELECT id, agent_key, name, role, epoch, last_sequence, hostname, version, "
                            "input, redaction, redact_secret FROM agents ORDER BY id");
  if (!statement) return (*from)->Failed("cannot read agents");
  std::vector<AgentRow> rows;
  int code = 0;
  while ((code = statement->Step()) == SQLITE_ROW) {
    AgentRow& row = rows.emplace_back();
    row.id = static_cast<uint32_t>(statement->ColumnNumber(0));
    row.agent_key = statement->ColumnText(1);
    row.name = statement->ColumnText(2);
    row.role = statement->ColumnText(3);
    row.epoch = statement->ColumnNumber(4);
    row.last_sequence = statement->ColumnNumber(5);
    row.hostname = statement->ColumnText(6);
    row.version = statement->ColumnText(7);
    row.input = statement->ColumnText(8);
    row.redaction = {RedactionOf(statement->ColumnText(9)), statement->ColumnText(10)};
  }
  if (code != SQLITE_DONE) return (*from)->Failed("cannot read agents");
  return rows;
}

// ---------------------------------------------------------------------------------------------------------

// Numbers that were remembered are stale after somebody else wrote, or after a rollback.
Status Store::State::ReloadAfterOthers() {
  if (data_version.Step() != SQLITE_ROW) return Failed("cannot read");
  const int64_t version = data_version.ColumnSigned(0);
  data_version.Reset();
  if (version == seen_data_version) return Done{};
  const Result<int64_t> last = Number("SELECT coalesce(max(id), 0) FROM call_rows");
  if (!last) return Error{last.error()};
  next_call_id = std::max(first_id, static_cast<uint64_t>(*last) + 1);
  const Result<int64_t> last_loss = Number("SELECT coalesce(max(id), 0) FROM losses");
  if (!last_loss) return Error{last_loss.error()};
  next_loss_id = std::max(next_loss_id, *last_loss + 1);
  const Status loaded = writer.Reload(static_cast<int64_t>(first_id));
  if (!loaded.ok()) return Failed("cannot read");
  seen_data_version = version;
  return Done{};
}

Status Store::Begin() {
  State& s = *state_;
  if (s.folder != nullptr) {
    const Status ready = s.folder->Tend(s, true);
    if (!ready.ok()) return ready;
  }
  if (!s.begin.Run()) return s.Failed("cannot begin a transaction");
  s.in_transaction = true;
  const Status reloaded = s.ReloadAfterOthers();
  if (!reloaded.ok()) Rollback();
  return reloaded;
}

Result<uint64_t> Store::Add(uint32_t agent, const CallRecord& call) {
  State& s = *state_;
  const bool full =
      s.records.records() >= limits::kMaxBatchRecords || s.records.bytes() >= limits::kMaxBatchBytes;
  if ((full || s.records_agent != agent) && !s.WriteRecords()) return s.Failed("cannot write records");
  const uint64_t id = s.next_call_id++;
  if (s.records.records() == 0) {
    s.first_call_id = id;
    s.records_agent = agent;
  }
  s.records.Add(call);
  if (!s.writer.Write(id, agent, call)) return s.Failed("cannot write a call");
  return id;
}

// The records of the open transaction so far, whole, as one row.
bool Store::State::WriteRecords() {
  const size_t count = records.records();
  if (count == 0) return true;
  const std::string payload = records.Finish();
  const std::string compressed = CompressBatch(payload);
  add_batch.Number(first_call_id).Number(records_agent).Number(count).Number(payload.size());
  return add_batch.Blob(AsBytes(compressed)).Run();
}

Status Store::AddLoss(uint32_t agent, const std::string& kind, uint64_t count, int64_t first_ns,
                      int64_t last_ns) {
  SqlStatement& s = state_->add_loss;
  const std::string plain_kind = PlainText(kind);
  s.Signed(state_->next_loss_id).Number(agent).Text(plain_kind).Number(count);
  for (int64_t t : {first_ns, last_ns}) s.NumberOrNull(t != 0, static_cast<uint64_t>(t));
  if (!s.Run()) return state_->Failed("cannot write a loss");
  ++state_->next_loss_id;
  return Done{};
}

Status Store::Commit(uint32_t agent, uint64_t sequence) {
  State& s = *state_;
  if (!s.WriteRecords()) return s.Failed("cannot commit");
  const AgentRow* row = s.folder != nullptr ? s.folder->AgentOf(agent) : nullptr;
  if (s.folder != nullptr && row == nullptr) return Error{"agent " + std::to_string(agent) + " is not known"};
  s.move_agent.Number(agent).Number(sequence).Signed(s.clock());
  if (row != nullptr) {
    s.move_agent.Text(row->agent_key).Number(row->epoch).TextOrNull(row->name).TextOrNull(row->role);
    s.move_agent.TextOrNull(row->hostname).TextOrNull(row->version).TextOrNull(row->input);
    s.move_agent.TextOrNull(RedactionName(row->redaction.mode)).TextOrNull(row->redaction.secret);
  }
  if (!s.move_agent.Run() || !s.commit.Run()) return s.Failed("cannot commit");
  s.in_transaction = false;
  if (s.folder != nullptr) s.folder->Committed(agent, sequence, s.writer.TakeAmended());
  return Done{};
}

void Store::Rollback() {
  State& s = *state_;
  (void)s.records.Finish();
  if (s.folder != nullptr) s.folder->NoteFailure(sqlite3_errcode(s.db.get()));
  // After a full disk SQLite has rolled back by itself, and this fails: that is well.
  (void)s.rollback.Run();
  s.in_transaction = false;
  s.seen_data_version = -1;
}

// ---------------------------------------------------------------------------------------------------------

Status VisitRecords(Store::State& s,
                    const std::function<void(uint32_t agent, uint64_t call_id, const CallRecord&)>& visit) {
  Result<SqlStatement> batches = SqlStatement::Prepare(
      s.db.get(), "SELECT first_call_id, agent, size, payload FROM record_batches ORDER BY first_call_id");
  if (!batches) return s.Failed("cannot read records");
  OwnedRecord record;
  std::string payload;
  int code = 0;
  while ((code = batches->Step()) == SQLITE_ROW) {
    uint64_t id = batches->ColumnNumber(0);
    const uint32_t agent = static_cast<uint32_t>(batches->ColumnNumber(1));
    const auto damaged = [&](const std::string& why) {
      return Error{"database '" + s.path + "': records from call " + std::to_string(id) + " on: " + why};
    };
    const Status whole = DecompressBatch(batches->ColumnBytes(3), batches->ColumnNumber(2), payload);
    if (!whole.ok()) return damaged(whole.error());
    BatchReader reader(AsBytes(payload));
    for (;;) {
      const Result<bool> more = reader.Next(record);
      if (!more) return damaged(more.error());
      if (!*more) break;
      visit(agent, id++, record.call);
    }
  }
  if (code != SQLITE_DONE) return s.Failed("cannot read records");
  return Done{};
}

Status Store::ForEachCall(
    const std::function<void(uint32_t agent, uint64_t call_id, const CallRecord&)>& visit) {
  if (state_->folder != nullptr) return state_->folder->ForEachCall(*state_, visit);
  const ReadScope scope(*state_);
  if (!scope.status().ok()) return scope.status();
  return VisitRecords(*state_, visit);
}

Status Store::ForEachLoss(const std::function<void(const LossRow&)>& visit) {
  const Result<State*> from = state_->Reader();
  if (!from) return Error{from.error()};
  const ReadScope scope(**from);
  if (!scope.status().ok()) return scope.status();
  Result<SqlStatement> losses = SqlStatement::Prepare(
      (*from)->db.get(), "SELECT agent, kind, count, first_ns, last_ns FROM losses ORDER BY id");
  if (!losses) return (*from)->Failed("cannot read losses");
  int code = 0;
  while ((code = losses->Step()) == SQLITE_ROW) {
    LossRow row;
    row.agent = static_cast<uint32_t>(losses->ColumnNumber(0));
    row.kind = losses->ColumnText(1);
    row.count = losses->ColumnNumber(2);
    row.first_ns = losses->ColumnSigned(3);
    row.last_ns = losses->ColumnSigned(4);
    visit(row);
  }
  if (code != SQLITE_DONE) return (*from)->Failed("cannot read losses");
  return Done{};
}

Result<uint64_t> Store::CallCount() {
  const Result<State*> from = state_->Reader();
  if (!from) return Error{from.error()};
  const ReadScope scope(**from);
  if (!scope.status().ok()) return Error{scope.status().error()};
  const Result<int64_t> count = (*from)->Number("SELECT count(*) FROM call_rows");
  if (!count) return Error{count.error()};
  return static_cast<uint64_t>(*count);
}

Status Store::Query(const std::string& sql, const std::function<void(const QueryColumns&)>& on_columns,
                    const std::function<bool(const std::vector<QueryValue>&)>& on_row) {
  const Result<State*> from = state_->Reader();
  if (!from) return Error{from.error()};
  const ReadScope scope(**from);
  if (!scope.status().ok()) return scope.status();
  return RunReading((*from)->db.get(), sql, on_columns, on_row);
}

void Store::Maintain() {
  if (state_->folder != nullptr && !state_->in_transaction) (void)state_->folder->Tend(*state_, false);
}

StoreSize Store::Size() const {
  return state_->folder != nullptr ? state_->folder->Size() : StoreSize();
}

std::vector<std::string> Store::TakeNotices() {
  return state_->folder != nullptr ? state_->folder->TakeNotices() : std::vector<std::string>();
}

void Store::WaitForIndexes() {
  if (state_->folder != nullptr) state_->folder->WaitForIndexes();
}

}  // namespace keytrail
