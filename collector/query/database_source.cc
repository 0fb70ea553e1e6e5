// Answers from a database file.

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "collector/query/answer_source.h"
#include "collector/query/named_queries.h"
#include "collector/query/pulse.h"
#include "collector/query/statement_of.h"
#include "common/clock.h"

namespace keytrail {

namespace {

constexpr std::chrono::milliseconds kLookEvery{1000};

std::optional<int64_t> NumberOrNone(const Store::QueryValue& v) {
  if (v.type == Store::QueryValue::Type::kNull) return std::nullopt;
  return v.integer;
}

class DatabaseSource final : public AnswerSource {
 public:
  DatabaseSource(std::string path, std::unique_ptr<Sandbox> sandbox)
      : path_(std::move(path)), sandbox_(std::move(sandbox)) {}

  SqlOutcome Sql(const SqlRequest& request, const ColumnVisitor& on_columns,
                 const RowVisitor& on_row) override {
    const Result<SqlQuestion> question = StatementOf(request);
    if (!question) return {SqlOutcome::End::kWrong, question.error()};
    const Status renewed = Renew();
    if (!renewed.ok()) return {SqlOutcome::End::kEnvironment, renewed.error()};
    return sandbox_->Run(*question, on_columns, on_row);
  }

  Result<InvestigationReport> Report() override {
    // "Nobody is wrong" must not be read out of a database that nobody has judged.
    bool judged = false;
    const Status asked =
        Each("SELECT 1 FROM about WHERE name = 'calls'", [&](const auto&) { return judged = true; });
    if (!asked.ok()) return Error{asked.error()};
    if (!judged) {
      return Error{"database '" + path_ +
                   "': nothing was judged yet; a collector does so a moment after the first records"};
    }
    Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(path_);
    if (!store) return Error{store.error()};
    return (*store)->ReadReport();
  }

  Result<AgentsReport> Agents() override {
    Result<std::unique_ptr<Pulse>> pulse = Pulse::Open(path_);
    if (!pulse) return Error{pulse.error()};
    const Result<std::shared_ptr<const Beat>> beat = (*pulse)->Look(WallClockNs());
    if (!beat) return Error{"database '" + path_ + "': " + beat.error()};
    return AgentsReport{(*beat)->agents, (*beat)->at_ns, std::nullopt};
  }

  Result<std::vector<LostEntry>> Losses() override {
    std::vector<LostEntry> losses;
    const Status read = Each(
        "SELECT host, kind, count, first_ns, last_ns, clock, meaning FROM lost"
        " ORDER BY host, coalesce(first_ns, last_ns), kind",
        [&](const std::vector<Store::QueryValue>& row) {
          losses.push_back({row[0].bytes, row[1].bytes, static_cast<uint64_t>(row[2].integer),
                            NumberOrNone(row[3]), NumberOrNone(row[4]), row[5].bytes, row[6].bytes});
          return true;
        });
    if (!read.ok()) return Error{read.error()};
    return losses;
  }

  Status Watch(const WatchVisitor& visit) override {
    Result<std::unique_ptr<Pulse>> pulse = Pulse::Open(path_);
    if (!pulse) return Error{pulse.error()};
    std::shared_ptr<const Beat> before;
    for (;;) {
      Result<std::shared_ptr<const Beat>> beat = (*pulse)->Look(WallClockNs());
      if (!beat) return Error{"database '" + path_ + "': " + beat.error()};
      for (const WatchEvent& event : Changes(before.get(), **beat)) {
        if (!visit(event)) return Done{};
      }
      before = *beat;
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, kLookEvery, [&] { return cancelled_; })) return Done{};
    }
  }

  void Cancel() override {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    wake_.notify_all();
    sandbox_->Cancel();
  }

 private:
  // A sandbox that was cancelled stays so; the next question gets a new one.
  Status Renew() {
    {
      const std::lock_guard lock(mutex_);
      if (!cancelled_) return Done{};
    }
    Result<std::unique_ptr<Sandbox>> sandbox = Sandbox::Open(path_);
    if (!sandbox) return Error{sandbox.error()};
    const std::lock_guard lock(mutex_);
    sandbox_ = std::move(*sandbox);
    cancelled_ = false;
    return Done{};
  }

  Status Each(const std::string& sql, const RowVisitor& visit) {
    const Status renewed = Renew();
    if (!renewed.ok()) return renewed;
    SqlQuestion question;
    question.sql = sql;
    const SqlOutcome outcome = sandbox_->Run(
        question, [](const std::vector<std::string>&) {}, visit);
    if (outcome.end == SqlOutcome::End::kDone || outcome.end == SqlOutcome::End::kReader) return Done{};
    return Error{"database '" + path_ + "': " + outcome.text};
  }

  std::string path_;
  std::mutex mutex_;  // guards what follows against Cancel()
  std::condition_variable wake_;
  bool cancelled_ = false;
  std::unique_ptr<Sandbox> sandbox_;
};

}  // namespace

Result<SqlQuestion> StatementOf(const SqlRequest& request) {
  SqlQuestion question;
  if (request.named.empty()) {
    question.sql = request.sql;
    question.parameters = request.parameters;
  } else {
    Result<SqlQuestion> named = NamedQuestion(request.named, request.parameters);
    if (!named) return Error{named.error()};
    question = std::move(*named);
  }
  if (request.max_rows != 0) question.max_rows = request.max_rows;
  if (request.max_time_ns != 0) question.max_time_ns = request.max_time_ns;
  return question;
}

Result<std::unique_ptr<AnswerSource>> OpenDatabaseSource(const std::string& path) {
  Result<std::unique_ptr<Sandbox>> sandbox = Sandbox::Open(path);
  if (!sandbox) return Error{sandbox.error()};
  return std::unique_ptr<AnswerSource>(std::make_unique<DatabaseSource>(path, std::move(*sandbox)));
}

}  // namespace keytrail
