#include "collector/store/sealer.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "collector/store/schema.h"

namespace keytrail {

namespace {

// A sixth of the writer's share of a core when both want it.
constexpr int kNicer = 8;
// After an error of the disk.
constexpr std::chrono::seconds kRetry{5};

bool IsDamage(int code) {
  return (code & 0xFF) == SQLITE_CORRUPT || (code & 0xFF) == SQLITE_NOTADB;
}

std::string Quoted(const std::string& path) {
  std::string out = "'";
  for (const char c : path) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

}  // namespace

Sealer::Sealer() : thread_([this] { Work(); }) {}

Sealer::~Sealer() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    if (db_ != nullptr) sqlite3_interrupt(db_);
    changed_.notify_all();
  }
  thread_.join();
}

void Sealer::Seal(const std::string& file) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back({file, {}, true});
  changed_.notify_all();
}

void Sealer::Amend(const std::string& live, const std::vector<std::string>& older) {
  const std::lock_guard lock(mutex_);
  for (const Job& job : jobs_) {
    if (!job.seal && job.file == live) return;
  }
  jobs_.push_back({live, older, false});
  changed_.notify_all();
}

void Sealer::Forget(const std::string& file) {
  std::unique_lock lock(mutex_);
  std::erase_if(jobs_, [&](const Job& job) { return job.file == file; });
  for (Job& job : jobs_) std::erase(job.older, file);
  const auto touches = [&] {
    return working_ && (current_.file == file || std::find(current_.older.begin(), current_.older.end(),
                                                           file) != current_.older.end());
  };
  while (touches()) {
    if (db_ != nullptr) sqlite3_interrupt(db_);
    changed_.wait_for(lock, std::chrono::milliseconds(10));
  }
  std::erase_if(jobs_, [&](const Job& job) { return job.file == file; });
  for (Job& job : jobs_) std::erase(job.older, file);
}

std::vector<Sealer::Outcome> Sealer::TakeOutcomes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(outcomes_, {});
}

void Sealer::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return jobs_.empty() && !working_; });
}

void Sealer::Work() {
  const id_t thread = static_cast<id_t>(syscall(SYS_gettid));
  (void)setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + kNicer);
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    current_ = jobs_.front();
    jobs_.erase(jobs_.begin());
    working_ = true;
    lock.unlock();
    const Outcome outcome = Run(current_);
    lock.lock();
    working_ = false;
    const bool again = !outcome.problem.empty() && !outcome.damaged;
    if (current_.seal && !again) outcomes_.push_back(outcome);
    if (again) jobs_.push_back(current_);
    changed_.notify_all();
    if (again) changed_.wait_for(lock, kRetry, [&] { return stop_; });
  }
}

Sealer::Outcome Sealer::Run(const Job& job) {
  return job.seal ? RunSeal(job.file) : RunAmend(job);
}

namespace {

// A connection that the sealer's owner can interrupt.
class Connection {
 public:
  Connection(const std::string& file, std::mutex& mutex, sqlite3*& shared) : mutex_(mutex), shared_(shared) {
    code_ = sqlite3_open_v2(file.c_str(), &db_, SQLITE_OPEN_READWRITE, nullptr);
    sqlite3_busy_timeout(db_, 10000);
    const std::lock_guard lock(mutex_);
    shared_ = db_;
  }
  ~Connection() {
    {
      const std::lock_guard lock(mutex_);
      shared_ = nullptr;
    }
    sqlite3_close_v2(db_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool Run(const std::string& sql) {
    if (code_ == SQLITE_OK) code_ = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
    return code_ == SQLITE_OK;
  }
  Sealer::Outcome Outcome(const std::string& file) const {
    return {file, IsDamage(code_), code_ == SQLITE_OK ? "" : sqlite3_errmsg(db_)};
  }
  sqlite3* db() const { return db_; }

 private:
  std::mutex& mutex_;
  sqlite3*& shared_;
  sqlite3* db_ = nullptr;
  int code_ = SQLITE_OK;
};

}  // namespace

Sealer::Outcome Sealer::RunSeal(const std::string& file) {
  Connection connection(file, mutex_, db_);
  connection.Run("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384;");
  for (const char* index : kSealedIndexSql) connection.Run(index);
  // Enough rows to know how selective an index is.
  connection.Run("PRAGMA analysis_limit = 1000; ANALYZE;");
  connection.Run(
      "UPDATE windows SET state = 'sealed', calls = (SELECT count(*) FROM call_rows), last_ns = (SELECT"
      " max(last_seen_ns) FROM agents), bytes = (SELECT page_count * page_size FROM pragma_page_count(),"
      " pragma_page_size())");
  // Readers may hold the log; the last of them to close folds it.
  sqlite3_busy_timeout(connection.db(), 100);
  if (connection.Outcome(file).problem.empty()) {
    sqlite3_wal_checkpoint_v2(connection.db(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  }
  return connection.Outcome(file);
}

Sealer::Outcome Sealer::RunAmend(const Job& job) {
  for (const std::string& older : job.older) {
    Connection connection(older, mutex_, db_);
    connection.Run("ATTACH " + Quoted(job.file) + " AS live");
    // Numbers of methods that come from a later window are negative: they are in no call's row.
    connection.Run(
        "BEGIN IMMEDIATE; CREATE TEMP TABLE amended AS SELECT x.* FROM live.amendments x WHERE x.method > 0"
        " AND (x.agent, x.serial) IN (SELECT agent, serial FROM main.connections);"
        "INSERT OR IGNORE INTO main.methods SELECT -id, method, command FROM live.methods WHERE id IN"
        " (SELECT method FROM amended);"
        "INSERT OR REPLACE INTO main.amendments SELECT agent, serial, stream, -method, method_from FROM "
        "amended;"
        "COMMIT;");
    Outcome outcome = connection.Outcome(older);
    if (!outcome.problem.empty() && !outcome.damaged) return outcome;
  }
  return {job.file, false, ""};
}

}  // namespace keytrail
