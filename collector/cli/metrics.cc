#include "collector/cli/metrics.h"

#include <chrono>
#include <utility>
#include <vector>

namespace keytrail {

namespace {

constexpr int64_t kCopyEveryNs = 250'000'000;

int64_t SteadyNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Result<std::unique_ptr<CollectorMetrics>> CollectorMetrics::Open(const std::string& address,
                                                                 const QueryService* service) {
  std::unique_ptr<CollectorMetrics> metrics(new CollectorMetrics(service));
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
  begun_ = true;
}

OperationsState CollectorMetrics::State() const {
  constexpr auto kGauge = Measure::Kind::kGauge;
  CollectorFigures figures;
  OperationsState state;
  {
    const std::lock_guard lock(mutex_);
    figures = figures_;
    state.not_ready = begun_ ? figures.problem : "starting";
  }
  std::vector<Measure>& m = state.measures;
  const auto count = [&m](const char* name, const char* help, uint64_t value) {
    m.push_back({name, help, Measure::Kind::kCounter, static_cast<double>(value), {}});
  };
  const auto gauge = [&m](const char* name, const char* help, double value) {
    m.push_back({name, help, kGauge, value, {}});
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
  count("connections_total", "Connections accepted", r.door.connections);
  count("keys_admitted_total", "Handshakes with an admitted key", r.door.keys_admitted);
  count("keys_denied_total", "Handshakes with a key that is not admitted", r.door.keys_denied);
  count("handshakes_failed_total", "Handshakes that failed", r.door.handshakes_failed);
  count("left_without_hello_total", "Connections that ended before a hello", r.door.left_without_hello);
  count("put_out_silent_total", "Connections ended without hello in time", r.door.put_out_silent);
  count("put_out_crowd_total", "Connections ended because too many had no hello", r.door.put_out_crowd);
  count("put_out_wanted_total", "Connections ended for garbage or a revoked key", r.door.put_out_wanted);
  count("accepts_failed_total", "Connections that could not be taken", r.door.accepts_failed);
  gauge("verdicts", "Verdicts of the last judgement", static_cast<double>(figures.verdicts));
  if (service_ == nullptr) return state;
  const ServiceStats q = service_->stats();
  gauge("queries_running", "Queries that run now", static_cast<double>(q.running));
  gauge("queries_waiting", "Queries that wait now", static_cast<double>(q.waiting));
  count("queries_answered_total", "Queries answered", q.answered);
  count("queries_refused_total", "Queries refused as not read-only", q.refused);
  count("queries_turned_away_total", "Queries for which there was no room", q.turned_away);
  count("queries_timed_out_total", "Queries stopped because their time was over", q.timed_out);
  count("queries_cancelled_total", "Queries whose client went", q.cancelled);
  count("queries_aborted_total", "Queries stopped by the collector", q.aborted);
  return state;
}

}  // namespace keytrail
