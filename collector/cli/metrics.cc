#include "collector/cli/metrics.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace keytrail {

namespace {

constexpr auto kCounter = Measure::Kind::kCounter;
constexpr auto kGauge = Measure::Kind::kGauge;
constexpr int64_t kCopyEveryNs = 250'000'000;

// Nothing was heard for so long: gone, or cut off. Agents say something every two seconds.
constexpr int64_t kGoneNs = 10'000'000'000;

void AddAgents(const std::vector<AgentSession>& agents, std::vector<Measure>& m) {
  const int64_t now = SteadyNs();
  const int64_t wall = WallClockNs();
  const auto connected = std::count_if(agents.begin(), agents.end(),
                                       [&](const AgentSession& a) { return now - a.heard_ns < kGoneNs; });
  m.push_back({"agents_connected",
               "Agents that were heard in the last 10 seconds and said no goodbye",
               kGauge,
               static_cast<double>(connected),
               {}});
  const auto ages = [&](const char* name, const char* help, int64_t from, int64_t AgentSession::*since) {
    for (const AgentSession& agent : agents) {
      if (agent.*since == 0) continue;
      m.push_back(
          {name, help, kGauge, static_cast<double>(from - agent.*since) / 1e9, {{"agent", agent.agent_key}}});
    }
  };
  ages("agent_silent_seconds", "Seconds since the agent was heard", now, &AgentSession::heard_ns);
  ages("agent_batch_age_seconds", "Seconds since the last batch of the agent was stored", now,
       &AgentSession::batch_ns);
  ages(
      "agent_lag_seconds",
      "The collector's clock less the agent's at the newest call that was stored since the collector started",
      wall, &AgentSession::newest_call_ns);
}

}  // namespace

Result<std::unique_ptr<CollectorMetrics>> CollectorMetrics::Open(const std::string& address,
                                                                 const std::string& data) {
  std::unique_ptr<CollectorMetrics> metrics(new CollectorMetrics(data));
  Result<std::unique_ptr<OperationsPort>> port =
      OperationsPort::Open(address, kCollectorMetricPrefix, [m = metrics.get()] { return m->State(); });
  if (!port) return Error{port.error()};
  metrics->port_ = std::move(*port);
  return metrics;
}

bool CollectorMetrics::Due() {
  const int64_t now = SteadyNs();
  if (now < next_ns_) return false;
  next_ns_ = now + kCopyEveryNs;
  return true;
}

void CollectorMetrics::Publish(CollectorFigures figures) {
  const std::lock_guard lock(mutex_);
  figures_ = std::move(figures);
}

void CollectorMetrics::NotReady(const std::string& why) {
  const std::lock_guard lock(mutex_);
  not_ready_ = why;
}

void CollectorMetrics::Answers(const QueryService* service) {
  const std::lock_guard lock(mutex_);
  service_ = service;
}

OperationsState CollectorMetrics::State() const {
  const std::lock_guard lock(mutex_);
  const CollectorFigures& figures = figures_;
  OperationsState state;
  state.not_ready = not_ready_;
  // A disk that is full or read-only is told once, in the same words.
  for (const std::string& why : {figures.store_error, figures.judging.error}) {
    if (why.empty() || state.not_ready.find(why) != std::string::npos) continue;
    state.not_ready += (state.not_ready.empty() ? "" : "; ") + why;
  }
  std::vector<Measure>& m = state.measures;
  const auto count = [&m](const char* name, const char* help, uint64_t value) {
    m.push_back({name, help, kCounter, static_cast<double>(value), {}});
  };
  const auto seconds = [&m](const char* name, const char* help, int64_t ns) {
    m.push_back({name, help, kCounter, static_cast<double>(ns) / 1e9, {}});
  };
  const auto gauge = [&m](const char* name, const char* help, uint64_t value) {
    m.push_back({name, help, kGauge, static_cast<double>(value), {}});
  };
  const ReceiverStats& r = figures.receiver;
  count("messages_total", "Messages received", r.messages);
  count("message_bytes_total", "Bytes of messages received", r.bytes);
  count("hellos_total", "Hellos of agents", r.hellos);
  count("batches_total", "Batches committed", r.batches);
  count("batches_repeated_total", "Batches that were stored before", r.batches_repeated);
  count("calls_total", "Call records committed", r.calls);
  count("losses_total", "Loss records committed", r.losses);
  count("agents_finished_total", "Starts of agents that said goodbye", r.agents_finished);
  count("refused_malformed_total", "Messages that are none", r.malformed);
  count("refused_version_total", "Hellos of another protocol version", r.wrong_version);
  count("refused_without_session_total", "Messages before a hello", r.without_session);
  count("refused_out_of_order_total", "Batches before an earlier one", r.out_of_order);
  count("refused_corrupt_total", "Damaged batches", r.corrupt);
  count("refused_unavailable_total", "Messages that could not be stored", r.unavailable);
  count("refused_unadmitted_total", "Messages with a key that is not admitted", r.unadmitted);
  count("over_quota_total", "Times that an agent had to wait for its quota", r.over_quota);
  count("connections_total", "Connections accepted", r.door.connections);
  count("keys_admitted_total", "Handshakes with an admitted key", r.door.keys_admitted);
  count("keys_denied_total", "Handshakes with a key that is not admitted", r.door.keys_denied);
  count("handshakes_failed_total", "Handshakes that failed", r.door.handshakes_failed);
  count("left_without_hello_total", "Connections that ended before a hello", r.door.left_without_hello);
  count("put_out_silent_total", "Connections ended without hello in time", r.door.put_out_silent);
  count("put_out_crowd_total", "Connections ended because too many had no hello", r.door.put_out_crowd);
  count("put_out_wanted_total", "Connections ended for garbage or a revoked key", r.door.put_out_wanted);
  count("accepts_failed_total", "Connections that could not be taken", r.door.accepts_failed);
  AddAgents(figures.agents, m);
  count("commits_total",
        "Transactions committed: a batch each, or a jump over batches that an agent has no more", r.commits);
  seconds("commit_seconds_total", "Seconds spent in the commits of these", r.commit_ns);
  seconds("store_seconds_total", "Seconds spent in these transactions as a whole, failed ones included",
          r.store_ns);
  gauge("store_refuses",
        "1: the store could not take the last batch (full, read-only, failing), and /readyz says why; 0: it "
        "did",
        !figures.store_error.empty());
  gauge("windows", "Files of calls, one a window of time", figures.store.windows);
  gauge("window_bytes", "Bytes of these files with their logs", figures.store.bytes);
  struct statvfs disk {};
  const bool known = statvfs(data_.c_str(), &disk) == 0;
  gauge("disk_free_bytes", "Bytes that the disk of --data has left; 0 also if it cannot be asked",
        known ? uint64_t{disk.f_bavail} * disk.f_frsize : 0);
  gauge("correlator_records", "Call records that the correlator holds", figures.held_records);
  gauge("correlator_connections", "Connections that the correlator holds", figures.held_connections);
  const JudgingFigures& judging = figures.judging;
  count("reports_total", "Judgements that were written", judging.reports);
  count("report_failures_total", "Judgements that could not be written", judging.failures);
  seconds("report_seconds_total", "Seconds spent judging and writing", judging.spent_ns);
  gauge("report_refused", "1: the last judgement could not be written, and /readyz says why; 0: it was",
        !judging.error.empty());
  for (const char* component : {"pd", "tidb", "tikv"}) {
    const auto found = judging.verdicts.find(component);
    gauge("verdicts", "Verdicts of the last judgement, by the component that is to blame",
          found == judging.verdicts.end() ? 0 : found->second);
    m.back().labels = {{"component", component}};
  }
  gauge("inconclusive", "Complaints of the last judgement of which it is not decided who is to blame",
        judging.inconclusive);
  if (service_ == nullptr) return state;
  const ServiceStats q = service_->stats();
  gauge("queries_running", "Queries that run now", q.running);
  gauge("queries_waiting", "Queries that wait now", q.waiting);
  count("queries_answered_total", "Queries answered", q.answered);
  count("queries_refused_total", "Queries refused as not read-only", q.refused);
  count("queries_turned_away_total", "Queries for which there was no room", q.turned_away);
  count("queries_timed_out_total", "Queries stopped because their time was over", q.timed_out);
  count("queries_cancelled_total", "Queries whose client went", q.cancelled);
  count("queries_aborted_total", "Queries stopped by the collector", q.aborted);
  return state;
}

}  // namespace keytrail
