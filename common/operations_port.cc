#include "common/operations_port.h"

#include <civetweb.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <pthread.h>

#include <csignal>
#include <utility>

#include "common/flow_key.h"

namespace keytrail {

struct OperationsPort::State {
  std::string prefix;
  std::string address;
  std::string problem;  // civetweb's last words
  Ask ask;
  mg_context* server = nullptr;
};

namespace {

int Answer(mg_connection* connection, const char* status, const char* type, const std::string& body) {
  mg_printf(connection, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
            status, type, body.size());
  mg_write(connection, body.data(), body.size());
  return 1;
}

int RememberProblem(const mg_connection* connection, const char* words) {
  static_cast<std::string*>(mg_get_user_data(mg_get_context(connection)))->assign(words);
  return 1;
}

std::string Exposition(const std::string& prefix, const std::vector<Measure>& measures) {
  std::vector<prometheus::MetricFamily> families;
  for (const Measure& measure : measures) {
    const bool counter = measure.kind == Measure::Kind::kCounter;
    if (families.empty() || families.back().name != prefix + measure.name) {
      prometheus::MetricFamily& family = families.emplace_back();
      family.name = prefix + measure.name;
      family.help = measure.help;
      family.type = counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    }
    prometheus::ClientMetric& value = families.back().metric.emplace_back();
    for (const auto& [name, label] : measure.labels) value.label.push_back({name, label});
    (counter ? value.counter.value : value.gauge.value) = measure.value;
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace

// Not a listening address of other hosts: counters tell what goes on in a cluster, and nobody is asked for a
// password here.
Status CheckOperationsAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  if (port.empty() || port.size() > 5 || port.find_first_not_of("0123456789") != std::string::npos ||
      std::stoi(port) > 65535) {
    return Error{"'" + address + "' is no ADDR:PORT"};
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const Result<IpAddress> ip = ParseAddress(host);
  if (ip && ip->is_loopback()) return Done{};
  return Error{"'" + address + "' is not an address of this host alone (127.0.0.1 or [::1])"};
}

OperationsPort::OperationsPort() : state_(std::make_unique<State>()) {}

OperationsPort::~OperationsPort() {
  if (state_->server != nullptr) mg_stop(state_->server);
}

Result<std::unique_ptr<OperationsPort>> OperationsPort::Open(const std::string& address,
                                                             const std::string& prefix, Ask ask) {
  const Status checked = CheckOperationsAddress(address);
  if (!checked.ok()) return Error{checked.error()};
  std::unique_ptr<OperationsPort> port(new OperationsPort);
  State& s = *port->state_;
  s.prefix = prefix;
  s.ask = std::move(ask);
  mg_callbacks callbacks{};
  callbacks.log_message = RememberProblem;
  const char* options[] = {"listening_ports",
                           address.c_str(),
                           "num_threads",
                           "2",
                           "request_timeout_ms",
                           "5000",
                           "enable_directory_listing",
                           "no",
                           nullptr};
  // Signals are for the thread that captures or stores.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  s.server = mg_start(&callbacks, &s.problem, options);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (s.server == nullptr) return Error{"'" + address + "': " + s.problem};
  mg_server_port bound{};
  s.address = address;
  if (mg_get_server_ports(s.server, 1, &bound) == 1) {
    s.address = address.substr(0, address.rfind(':') + 1) + std::to_string(bound.port);
  }
  mg_set_request_handler(
      s.server, "/metrics$",
      [](mg_connection* connection, void* data) {
        const State& state = *static_cast<State*>(data);
        return Answer(connection, "200 OK", "text/plain; version=0.0.4; charset=utf-8",
                      Exposition(state.prefix, state.ask().measures));
      },
      &s);
  mg_set_request_handler(
      s.server, "/healthz$",
      [](mg_connection* connection, void*) { return Answer(connection, "200 OK", "text/plain", "alive\n"); },
      &s);
  mg_set_request_handler(
      s.server, "/readyz$",
      [](mg_connection* connection, void* data) {
        const std::string why = static_cast<State*>(data)->ask().not_ready;
        return why.empty() ? Answer(connection, "200 OK", "text/plain", "ready\n")
                           : Answer(connection, "503 Service Unavailable", "text/plain", why + "\n");
      },
      &s);
  return port;
}

const std::string& OperationsPort::address() const {
  return state_->address;
}

}  // namespace keytrail
