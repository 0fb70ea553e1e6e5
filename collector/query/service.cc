#include "collector/query/service.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

#include "collector/query/certificates.h"
#include "collector/query/grpc_log.h"
#include "collector/query/rpc.h"
#include "common/clock.h"

namespace keytrail {

namespace {

using Clock = std::chrono::steady_clock;

// How much nicer the service's threads are than the program, and so gRPC's, which they start: a thirtieth of
// the writer's share of a core when both want it. Not the lowest, which some schedulers hardly ever run.
constexpr int kNicer = 15;
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kLookEvery{1000};
constexpr std::chrono::seconds kShutdown{2};
// A log that is too large is folded between queries. Those that run get this long to end by themselves, and
// it is tried for this long; then again later.
constexpr std::chrono::seconds kLogPatience{10};
constexpr std::chrono::seconds kLogTries{15};
constexpr std::chrono::seconds kLogPause{30};

// Of this thread, and of those that it starts from now on.
void LowerPriority() {
  const id_t thread = static_cast<id_t>(syscall(SYS_gettid));
  // More than the nicest is the nicest.
  (void)setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + kNicer);
}

// Lets nobody in while the log is folded.
class LogKeeper {
 public:
  LogKeeper(const QueryServiceOptions& options, RpcState& rpc) : options_(options), rpc_(rpc) {}

  void Tick(Clock::time_point now) {
    if (!closed_) {
      if (now < not_before_ || !TooLarge()) return;
      rpc_.turnstile.Close();
      closed_ = true;
      closed_at_ = now;
    }
    const std::chrono::nanoseconds patience(options_.log_patience_ns);
    if (now - closed_at_ > patience) rpc_.running.AbortAll();
    bool over = now - closed_at_ > patience + kLogTries;
    if (!over && rpc_.turnstile.inside() == 0) {
      const Result<bool> folded = FoldLog(options_.database);
      // An error is the writer's to tell, who meets it, too.
      over = !folded.ok() || *folded;
    }
    if (!over) return;
    not_before_ = TooLarge() ? now + kLogPause : now;
    closed_ = false;
    rpc_.turnstile.Open();
  }

 private:
  bool TooLarge() const { return LogBytes(options_.database) > options_.max_log_bytes; }

  const QueryServiceOptions& options_;
  RpcState& rpc_;
  bool closed_ = false;
  Clock::time_point closed_at_;
  Clock::time_point not_before_;
};

}  // namespace

struct QueryService::State {
  explicit State(const QueryServiceOptions& o) : options(o), rpc_state(o), rpc(rpc_state) {}

  QueryServiceOptions options;
  std::string address;
  RpcState rpc_state;
  QueryRpc rpc;
  std::unique_ptr<grpc::Server> server;
  std::thread keeper;  // starts the server, ends what is overdue, keeps the log
  std::atomic<bool> keep = true;
  std::thread pulse;
  std::mutex looking_mutex;
  std::unique_ptr<Pulse> looking;  // of the thread `pulse`; others only cancel it, under the mutex

  Status Listen();
  void Keep();
  void Look();
};

Status QueryService::State::Listen() {
  QuietGrpc();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  const Result<ServicePem> pem = options.pem ? Result<ServicePem>(*options.pem) : ReadServicePem(options.tls);
  if (!pem) return Error{pem.error()};
  const std::shared_ptr<grpc::ServerCredentials> credentials = ServerCredentials(*pem);
  grpc::ServerBuilder builder;
  int port = 0;
  const bool is_unix = options.address.starts_with("unix:");
  builder.AddListeningPort(options.address, credentials, &port);
  builder.RegisterService(&rpc);
  // Two collectors at one port would each get some of the clients.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, options.handshake_ms);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, options.idle_ms);
  builder.SetMaxReceiveMessageSize(limits::kMaxServiceRequestBytes);
  grpc::ResourceQuota quota("queries");
  quota.SetMaxThreads(options.threads);
  builder.SetResourceQuota(quota);
  server = builder.BuildAndStart();
  if (server == nullptr || (port == 0 && !is_unix)) {
    std::string why = LastSystemError();
    if (why.empty() && options.tls.given()) {
      why = "gRPC does not take the certificate: does '" + options.tls.key + "' belong to '" +
            options.tls.certificate + "'?";
    }
    return Error{"cannot listen for queries at " + options.address + ": " +
                 (why.empty() ? "gRPC does not say why (GRPC_VERBOSITY=error makes it)" : why)};
  }
  address = is_unix ? options.address
                    : options.address.substr(0, options.address.rfind(':') + 1) + std::to_string(port);
  return Done{};
}

void QueryService::State::Keep() {
  LogKeeper log(options, rpc_state);
  // Until the server has ended: what came in at the last moment is to be ended, too.
  for (; keep; std::this_thread::sleep_for(kTick)) {
    const Clock::time_point now = Clock::now();
    if (rpc_state.stopping()) rpc_state.running.AbortAll();
    rpc_state.running.EndOverdue(now);
    log.Tick(now);
  }
}

void QueryService::State::Look() {
  const auto renew = [&](std::unique_ptr<Pulse> pulse_or_none) {
    const std::lock_guard lock(looking_mutex);
    looking = std::move(pulse_or_none);
  };
  do {
    std::string problem;
    if (looking == nullptr) {
      Result<std::unique_ptr<Pulse>> opened = Pulse::Open(options.database);
      if (opened) renew(std::move(*opened));
      if (!opened) problem = opened.error();
    }
    if (looking != nullptr && !rpc_state.stopping()) {
      Result<std::shared_ptr<const Beat>> beat = looking->Look(WallClockNs());
      if (beat) {
        rpc_state.Publish(*beat, "");
        continue;
      }
      problem = beat.error();
      renew(nullptr);
    }
    rpc_state.Publish(nullptr, problem);
  } while (!rpc_state.WaitForStop(kLookEvery));
}

QueryService::QueryService() = default;

Result<std::unique_ptr<QueryService>> QueryService::Start(const QueryServiceOptions& options) {
  const Status checked = CheckQueryAddress(options.address, options.tls.given());
  if (!checked.ok()) return Error{checked.error()};
  std::unique_ptr<QueryService> service(new QueryService);
  service->state_ = std::make_unique<State>(options);
  State& s = *service->state_;
  std::promise<Status> listening;
  std::future<Status> listened = listening.get_future();
  s.keeper = std::thread([&s, &listening] {
    LowerPriority();
    const Status status = s.Listen();
    const bool ok = status.ok();
    // The promise is gone as soon as it is kept.
    if (ok) s.pulse = std::thread([&s] { s.Look(); });
    listening.set_value(status);
    if (ok) s.Keep();
  });
  const Status status = listened.get();
  if (!status.ok()) return Error{status.error()};
  return service;
}

QueryService::~QueryService() {
  State& s = *state_;
  s.rpc_state.Stop();
  {
    const std::lock_guard lock(s.looking_mutex);
    if (s.looking != nullptr) s.looking->Cancel();
  }
  if (s.server != nullptr) s.server->Shutdown(std::chrono::system_clock::now() + kShutdown);
  s.keep = false;
  if (s.keeper.joinable()) s.keeper.join();
  if (s.pulse.joinable()) s.pulse.join();
}

const std::string& QueryService::address() const {
  return state_->address;
}

std::vector<std::string> QueryService::TakeNotices() {
  return state_->rpc_state.TakeNotices();
}

ServiceStats QueryService::stats() const {
  return state_->rpc_state.Stats();
}

}  // namespace keytrail
