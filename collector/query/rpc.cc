#include "collector/query/rpc.h"

#include <grpc/grpc_security_constants.h>

#include <algorithm>
#include <utility>

#include "collector/query/messages.h"
#include "collector/query/statement_of.h"
#include "collector/store/sandbox.h"
#include "common/clock.h"

namespace keytrail {

namespace {

using Clock = std::chrono::steady_clock;
using End = SqlOutcome::End;
using Reason = RunningQueries::Reason;

// gRPC's trailers have 8 KiB for all.
constexpr size_t kMaxStatusBytes = 2048;
constexpr std::chrono::milliseconds kWatchTurn{250};

grpc::Status Problem(grpc::StatusCode code, const std::string& text) {
  return {code, text.substr(0, kMaxStatusBytes)};
}

// A place among those who may run, or why there is none.
class Place {
 public:
  Place(RpcState& state, grpc::ServerContext& context, Clock::time_point until) : state_(state) {
    entry_ = state.turnstile.Enter(until, [&] { return state.stopping() || context.IsCancelled(); });
  }
  ~Place() {
    if (entry_ == Turnstile::Entry::kIn) state_.turnstile.Leave();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  bool ok() const { return entry_ == Turnstile::Entry::kIn; }
  grpc::Status Refusal() const {
    if (entry_ == Turnstile::Entry::kGone) {
      ++state_.counts.cancelled;
      return Problem(grpc::StatusCode::CANCELLED, "cancelled while it waited in line");
    }
    ++state_.counts.turned_away;
    const std::string others = std::to_string(state_.options.running) + " queries run";
    return Problem(grpc::StatusCode::RESOURCE_EXHAUSTED,
                   entry_ == Turnstile::Entry::kLineFull
                       ? "too many queries at once: " + others + " and " +
                             std::to_string(state_.options.waiting) + " wait; try again"
                       : "too busy: " + others + " and none of them ended in time; try again");
  }

 private:
  RpcState& state_;
  Turnstile::Entry entry_;
};

const char* EndedAs(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return "done";
    case grpc::StatusCode::PERMISSION_DENIED:
      return "refused";
    case grpc::StatusCode::INVALID_ARGUMENT:
      return "wrong";
    case grpc::StatusCode::CANCELLED:
      return "cut_off";
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return "time_limit";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "turned_away";
    case grpc::StatusCode::ABORTED:
      return "aborted";
    case grpc::StatusCode::UNAVAILABLE:
      return "collector_ended";
    default:
      return "failed";
  }
}

// One call's line in the audit log.
class Recorded {
 public:
  Recorded(RpcState& state, const grpc::ServerContext& context, const char* what) : state_(state) {
    entry_.what = what;
    entry_.peer = context.peer();
    entry_.begun_ns = WallClockNs();
    const std::shared_ptr<const grpc::AuthContext> proved = context.auth_context();
    if (proved == nullptr || !proved->IsPeerAuthenticated()) return;
    const std::vector<grpc::string_ref> names = proved->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME);
    if (!names.empty()) entry_.tls_name.assign(names.front().data(), names.front().size());
  }
  AuditEntry& entry() { return entry_; }
  grpc::Status End(grpc::Status status) {
    if (entry_.ended.empty()) entry_.ended = EndedAs(status.error_code());
    entry_.elapsed_ns = std::chrono::nanoseconds(Clock::now() - begun_).count();
    if (state_.audit) state_.NoteAudit(state_.audit->Append(entry_));
    return status;
  }

 private:
  RpcState& state_;
  AuditEntry entry_;
  const Clock::time_point begun_ = Clock::now();
};

// Gathers rows, so that a message carries many.
class RowSender {
 public:
  // `entry` gets the rows and bytes that went out.
  RowSender(grpc::ServerWriter<query::SqlAnswer>& out, AuditEntry& entry) : out_(out), entry_(entry) {}

  bool Columns(const std::vector<std::string>& names, const SqlQuestion& question) {
    query::SqlAnswer answer;
    query::SqlColumns& columns = *answer.mutable_columns();
    for (const std::string& name : names) columns.add_names(name);
    columns.set_row_limit(question.max_rows);
    columns.set_time_limit_ms(static_cast<uint64_t>(question.max_time_ns / 1'000'000));
    return Send(answer);
  }
  bool Row(const std::vector<Store::QueryValue>& values) {
    bytes_ += WriteRow(values, *gathered_.mutable_rows()->add_rows());
    return bytes_ < limits::kMaxAnswerChunkBytes || Flush();
  }
  bool Flush() {
    if (bytes_ == 0) return true;
    bytes_ = 0;
    const bool written = Send(gathered_);
    gathered_.mutable_rows()->clear_rows();
    return written;
  }
  bool End(const SqlOutcome& outcome) {
    if (!Flush()) return false;
    query::SqlAnswer answer;
    answer.mutable_end()->set_rows(outcome.rows);
    answer.mutable_end()->set_row_limit_reached(outcome.end == End::kRowLimit);
    answer.mutable_end()->set_elapsed_ns(outcome.elapsed_ns);
    return Send(answer);
  }

 private:
  bool Send(const query::SqlAnswer& answer) {
    if (!out_.Write(answer)) return false;
    entry_.rows += static_cast<uint64_t>(answer.rows().rows_size());
    entry_.bytes += answer.ByteSizeLong();
    return true;
  }

  grpc::ServerWriter<query::SqlAnswer>& out_;
  AuditEntry& entry_;
  query::SqlAnswer gathered_;
  size_t bytes_ = 0;
};

// How a query ended that did not come to its end. `reason`: who ended it from outside.
grpc::Status Stopped(const SqlOutcome& outcome, Reason reason, int64_t max_time_ns, RpcState& state) {
  if (state.stopping()) return Problem(grpc::StatusCode::UNAVAILABLE, "the collector ends");
  if (reason == Reason::kAborted) {
    ++state.counts.aborted;
    return Problem(
        grpc::StatusCode::ABORTED,
        "stopped: the collector has to fold its log, which no query may read meanwhile; ask again");
  }
  if (reason == Reason::kTime || outcome.end == End::kTimeLimit) {
    ++state.counts.timed_out;
    return Problem(grpc::StatusCode::DEADLINE_EXCEEDED, TimeLimitText(max_time_ns));
  }
  switch (outcome.end) {
    case End::kMemoryLimit:
      ++state.counts.out_of_memory;
      return Problem(grpc::StatusCode::RESOURCE_EXHAUSTED, outcome.text);
    case End::kRefused:
      ++state.counts.refused;
      return Problem(grpc::StatusCode::PERMISSION_DENIED, outcome.text);
    case End::kWrong:
      ++state.counts.wrong;
      return Problem(grpc::StatusCode::INVALID_ARGUMENT, outcome.text);
    case End::kEnvironment:
      return Problem(grpc::StatusCode::INTERNAL, outcome.text);
    default:
      ++state.counts.cancelled;
      return Problem(grpc::StatusCode::CANCELLED, "cancelled");
  }
}

// Runs `ask` on a source of its own, within the places for queries.
template <class Ask>
grpc::Status WithSource(RpcState& state, grpc::ServerContext& context, const Ask& ask) {
  const std::chrono::nanoseconds time(limits::kDefaultQueryTimeNs);
  const Place place(state, context, Clock::now() + time);
  if (!place.ok()) return place.Refusal();
  Result<std::unique_ptr<AnswerSource>> source = OpenDatabaseSource(state.options.database);
  if (!source) return Problem(grpc::StatusCode::INTERNAL, source.error());
  const RunningQueries::Guard guard(
      state.running, [&] { (*source)->Cancel(); }, context, Clock::now() + time);
  const Status answered = ask(**source);
  if (!answered.ok()) {
    if (state.stopping() || guard.reason() != Reason::kNone) {
      return Stopped({End::kCancelled, ""}, guard.reason(), time.count(), state);
    }
    // What stands in the way of an answer here is a database that nobody has judged yet.
    return Problem(grpc::StatusCode::FAILED_PRECONDITION, answered.error());
  }
  ++state.counts.answered;
  return grpc::Status::OK;
}

}  // namespace

void RpcState::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  running.AbortAll();
}

bool RpcState::WaitForStop(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  const auto until = Clock::now() + at_most;
  return changed_.wait_until(lock, until, [&] { return stopping_.load(); });
}

void RpcState::Publish(std::shared_ptr<const Beat> beat, const std::string& problem) {
  const std::lock_guard lock(mutex_);
  beat_ = std::move(beat);
  problem_ = problem;
  changed_.notify_all();
}

std::shared_ptr<const Beat> RpcState::NextBeat(const Beat* old, std::chrono::milliseconds at_most,
                                               std::string& problem) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return stopping_ || (beat_ != nullptr && beat_.get() != old); };
  changed_.wait_for(lock, at_most, ready);
  problem = problem_;
  return beat_.get() == old ? nullptr : beat_;
}

ServiceStats RpcState::Stats() const {
  ServiceStats s;
  s.running = turnstile.inside();
  s.waiting = turnstile.waiting();
  s.answered = counts.answered;
  s.row_limited = counts.row_limited;
  s.timed_out = counts.timed_out;
  s.cancelled = counts.cancelled;
  s.refused = counts.refused;
  s.wrong = counts.wrong;
  s.turned_away = counts.turned_away;
  s.out_of_memory = counts.out_of_memory;
  s.aborted = counts.aborted;
  s.watchers = counts.watchers;
  return s;
}

void RpcState::NoteAudit(const Status& appended) {
  const std::string now = appended.ok() ? std::string() : appended.error();
  const std::lock_guard lock(mutex_);
  if (now == audit_problem_) return;
  audit_problem_ = now;
  notices_.push_back(now.empty() ? "the audit log is written again"
                                 : "exports are answered, but not in the audit log: " + now);
}

std::vector<std::string> RpcState::TakeNotices() {
  const std::lock_guard lock(mutex_);
  return std::exchange(notices_, {});
}

grpc::Status QueryRpc::Sql(grpc::ServerContext* context, const query::SqlRequest* request,
                           grpc::ServerWriter<query::SqlAnswer>* out) {
  Recorded recorded(state_, *context, "sql");
  return recorded.End(RunSql(*context, *request, *out, recorded.entry()));
}

grpc::Status QueryRpc::RunSql(grpc::ServerContext& context, const query::SqlRequest& request,
                              grpc::ServerWriter<query::SqlAnswer>& out, AuditEntry& entry) {
  const SqlRequest asked = ReadRequest(request);
  entry.statement = asked.sql;
  entry.named = asked.named;
  entry.purpose = asked.purpose;
  for (const auto& [name, value] : asked.parameters) entry.parameters.push_back(name);
  Result<SqlQuestion> question = StatementOf(asked);
  if (!question) {
    ++state_.counts.wrong;
    return Problem(grpc::StatusCode::INVALID_ARGUMENT, question.error());
  }
  question->max_rows = std::min(question->max_rows, state_.options.max_rows);
  question->max_time_ns = std::min(question->max_time_ns, state_.options.max_time_ns);
  const std::chrono::nanoseconds time(question->max_time_ns);

  const Place place(state_, context, Clock::now() + time);
  if (!place.ok()) return place.Refusal();
  Result<std::unique_ptr<Sandbox>> sandbox = Sandbox::Open(state_.options.database);
  if (!sandbox) return Problem(grpc::StatusCode::INTERNAL, sandbox.error());
  const RunningQueries::Guard guard(
      state_.running, [&] { (*sandbox)->Cancel(); }, context, Clock::now() + time);
  RowSender sender(out, entry);
  const SqlOutcome outcome = (*sandbox)->Run(
      *question, [&](const std::vector<std::string>& names) { (void)sender.Columns(names, *question); },
      [&](const std::vector<Store::QueryValue>& row) { return sender.Row(row); });
  if (outcome.end != End::kDone && outcome.end != End::kRowLimit) {
    // What there is already is worth sending, with the error behind it.
    (void)sender.Flush();
    if (outcome.end == End::kMemoryLimit) entry.ended = "memory_limit";
    return Stopped(outcome, guard.reason(), question->max_time_ns, state_);
  }
  if (!sender.End(outcome)) return Stopped({End::kReader, ""}, guard.reason(), question->max_time_ns, state_);
  ++state_.counts.answered;
  if (outcome.end == End::kRowLimit) {
    ++state_.counts.row_limited;
    entry.ended = "row_limit";
  }
  return grpc::Status::OK;
}

grpc::Status QueryRpc::Verdicts(grpc::ServerContext* context, const query::VerdictsRequest*,
                                query::VerdictsAnswer* answer) {
  Recorded recorded(state_, *context, "verdicts");
  return recorded.End(WithSource(state_, *context, [&](AnswerSource& source) -> Status {
    const Result<InvestigationReport> report = source.Report();
    if (!report) return Error{report.error()};
    WriteReport(*report, *answer);
    recorded.entry().rows = report->verdicts.size();
    recorded.entry().bytes = answer->ByteSizeLong();
    return Done{};
  }));
}

grpc::Status QueryRpc::Timeline(grpc::ServerContext*, const query::TimelineRequest*, query::TimelineAnswer*) {
  return Problem(grpc::StatusCode::UNIMPLEMENTED,
                 "this version draws no timelines; the saved queries transaction, requests-of-region and"
                 " routes-of-region list the calls by time");
}

grpc::Status QueryRpc::Agents(grpc::ServerContext*, const query::AgentsRequest*,
                              query::AgentsAnswer* answer) {
  // Without a place: it tells who takes them all.
  std::string problem;
  const std::shared_ptr<const Beat> beat = state_.NextBeat(nullptr, std::chrono::seconds(5), problem);
  if (beat == nullptr) return Problem(grpc::StatusCode::FAILED_PRECONDITION, problem);
  WriteAgents({beat->agents, beat->at_ns, state_.Stats()}, *answer);
  return grpc::Status::OK;
}

grpc::Status QueryRpc::Losses(grpc::ServerContext* context, const query::LossesRequest*,
                              query::LossesAnswer* answer) {
  return WithSource(state_, *context, [&](AnswerSource& source) -> Status {
    const Result<std::vector<LostEntry>> losses = source.Losses();
    if (!losses) return Error{losses.error()};
    for (const LostEntry& loss : *losses) WriteLoss(loss, *answer->add_losses());
    return Done{};
  });
}

grpc::Status QueryRpc::Watch(grpc::ServerContext* context, const query::WatchRequest*,
                             grpc::ServerWriter<query::WatchEvent>* out) {
  Recorded recorded(state_, *context, "watch");
  return recorded.End(RunWatch(*context, *out, recorded.entry()));
}

grpc::Status QueryRpc::RunWatch(grpc::ServerContext& context, grpc::ServerWriter<query::WatchEvent>& out,
                                AuditEntry& entry) {
  struct Count {
    std::atomic<uint64_t>& n;
    const uint64_t before = n.fetch_add(1);
    ~Count() { n.fetch_sub(1); }
  } count{state_.counts.watchers};
  if (count.before >= state_.options.watchers) {
    ++state_.counts.turned_away;
    return Problem(grpc::StatusCode::RESOURCE_EXHAUSTED,
                   "too many watch: " + std::to_string(state_.options.watchers) + " do already");
  }
  std::shared_ptr<const Beat> before;
  while (!state_.stopping() && !context.IsCancelled()) {
    std::string problem;
    const std::shared_ptr<const Beat> beat = state_.NextBeat(before.get(), kWatchTurn, problem);
    if (!problem.empty()) return Problem(grpc::StatusCode::FAILED_PRECONDITION, problem);
    if (beat == nullptr) continue;
    for (const WatchEvent& event : Changes(before.get(), *beat)) {
      query::WatchEvent message;
      WriteEvent(event, message);
      if (!out.Write(message)) return grpc::Status::CANCELLED;
      ++entry.rows;
      entry.bytes += message.ByteSizeLong();
    }
    before = beat;
  }
  if (state_.stopping()) return Problem(grpc::StatusCode::UNAVAILABLE, "the collector ends");
  return grpc::Status::CANCELLED;
}

}  // namespace keytrail
