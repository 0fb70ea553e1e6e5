// keytrail-collector: receives what agents ship, stores it, and judges it while it grows.

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "collector/cli/correlator_feed.h"
#include "collector/cli/graces.h"
#include "collector/cli/keep_options.h"
#include "collector/cli/metrics.h"
#include "collector/cli/source_options.h"
#include "collector/correlate/correlator.h"
#include "collector/query/service.h"
#include "collector/receive/receiver.h"
#include "collector/store/store.h"
#include "common/confinement.h"
#include "common/curve_pair.h"
#include "common/log.h"
#include "common/version.h"

namespace keytrail {
namespace {

// Exit statuses of all three programs.
constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kIdle{500};
// A sign of a fault is judged so soon: the other views of the calls around it come within that time.
constexpr std::chrono::milliseconds kSignWaits{800};
// Without a sign there is hardly anything to find.
constexpr std::chrono::milliseconds kJudgeEvery{20000};
// Judging takes at most this share of the time: a large database is judged less often.
constexpr int kJudgeShare = 4;
// A disk that took no report is tried again after this time.
constexpr std::chrono::milliseconds kReportRetry{1000};

volatile std::sig_atomic_t stop_signal = 0;

void OnStopSignal(int signal) {
  stop_signal = signal;
}

void InstallSignalHandlers() {
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

struct CollectorArguments {
  std::string listen = "tcp://127.0.0.1:7450";
  std::string data;
  std::string key_file;
  std::string admitted;
  std::string query = kDefaultQueryAddress;
  ServiceTls query_tls;
  std::string metrics;
  std::string user;
  uint64_t agent_quota = 0;  // calls a second; 0: none
  bool query_given = false;
  std::string log_level = "info";
  Graces graces;
  FolderOptions keep;
};

int Fail(const std::string& message, LogPlace where = LogPlace::Here()) {
  Log(LogLevel::kError, message, {}, where);
  return kExitFailed;
}

int WrongUsage(const std::string& message) {
  std::fprintf(stderr, "keytrail-collector: %s\n", message.c_str());
  return kExitUsage;
}

// Judges what has arrived and writes the report, not too often.
class Judge {
 public:
  Judge(Correlator& correlator, Store& store) : correlator_(correlator), store_(store) {}

  // True if a report is due: something came in, and either nothing more comes, or there is a sign of a fault,
  // or the last one is long enough ago.
  bool Due(uint64_t changes) {
    const Clock::time_point now = Clock::now();
    if (const uint64_t signs = correlator_.signs(); signs != signs_) {
      if (signs_ == signs_judged_) sign_at_ = now;
      signs_ = signs;
    }
    if (changes != seen_) {
      seen_ = changes;
      changed_at_ = now;
    }
    if (seen_ == judged_ || now < not_before_) return false;
    if (signs_ != signs_judged_ && now - sign_at_ >= kSignWaits) return true;
    return now - changed_at_ >= kIdle || now - judged_at_ >= kJudgeEvery;
  }

  Status Run(uint64_t changes) {
    const Clock::time_point begun = Clock::now();
    const uint64_t signs = correlator_.signs();
    const InvestigationReport report = correlator_.Judge();
    const Status written = store_.WriteReport(report);
    judged_at_ = Clock::now();
    not_before_ = judged_at_ + kJudgeShare * (judged_at_ - begun);
    figures_.spent_ns += std::chrono::nanoseconds(judged_at_ - begun).count();
    if (!written.ok()) {
      not_before_ = std::max(not_before_, judged_at_ + kReportRetry);
      ++figures_.failures;
      figures_.error = written.error();
      return written;
    }
    ++figures_.reports;
    figures_.error.clear();
    figures_.inconclusive = report.inconclusive.size();
    figures_.verdicts.clear();
    for (const Verdict& verdict : report.verdicts) ++figures_.verdicts[ComponentName(verdict.component)];
    judged_ = changes;
    signs_judged_ = signs;
    verdicts_ = report.verdicts.size();
    return Done{};
  }

  bool up_to_date(uint64_t changes) const { return judged_ == changes; }
  size_t verdicts() const { return verdicts_; }
  const JudgingFigures& figures() const { return figures_; }

 private:
  Correlator& correlator_;
  Store& store_;
  uint64_t seen_ = 0;
  uint64_t signs_ = 0;
  uint64_t signs_judged_ = 0;
  Clock::time_point sign_at_{};
  uint64_t judged_ = 0;
  size_t verdicts_ = 0;
  JudgingFigures figures_;
  Clock::time_point changed_at_ = Clock::now();
  Clock::time_point judged_at_ = Clock::now();
  Clock::time_point not_before_{};
};

// Tells people what changes, once each.
class Teller {
 public:
  Teller(const CollectorArguments& arguments) : verbose_(arguments.log_level == "debug") {}

  void Say(const std::string& text, const std::vector<LogField>& fields = {},
           LogPlace where = LogPlace::Here()) const {
    Log(LogLevel::kInfo, text, fields, where);
  }
  // Problems are told also with -q, and so is their end.
  void Problem(const std::string& now) {
    if (now == problem_) return;
    now.empty() ? Log(LogLevel::kWarn, "writing again") : Log(LogLevel::kError, now);
    problem_ = now;
  }
  // Files that were dropped or set aside: also with -q.
  void Notices(Store& store) const {
    for (const std::string& notice : store.TakeNotices()) Log(LogLevel::kWarn, notice);
  }
  void Verdicts(size_t count) {
    if (count == verdicts_) return;
    verdicts_ = count;
    Say(std::to_string(count) + (count == 1 ? " verdict so far" : " verdicts so far"),
        {{"verdicts", std::to_string(count)}});
  }
  void Finished(const ReceiverStats& stats) {
    if (stats.agents_finished == finished_) return;
    finished_ = stats.agents_finished;
    Log(LogLevel::kDebug,
        std::to_string(finished_) + " agents done, " + std::to_string(stats.calls) + " calls stored");
  }
  // Refused peers, and what became of the keys: problems, as it were.
  void Notices(const std::vector<std::string>& notices) const {
    for (const std::string& notice : notices) Log(LogLevel::kWarn, notice);
  }
  void Summary(const ReceiverStats& stats) const {
    Say("stored " + std::to_string(stats.calls) + " calls in " + std::to_string(stats.batches) + " batches",
        {{"calls", std::to_string(stats.calls)}, {"batches", std::to_string(stats.batches)}});
    const uint64_t refused = stats.malformed + stats.wrong_version + stats.corrupt + stats.unavailable;
    if (refused == 0 && !verbose_) return;
    Say("refused: " + std::to_string(stats.malformed) + " malformed messages, " +
        std::to_string(stats.wrong_version) + " of another version, " + std::to_string(stats.corrupt) +
        " damaged batches, " + std::to_string(stats.unavailable) + " that could not be written, " +
        std::to_string(stats.unadmitted) + " of keys that are not admitted");
  }
  // Told with or without -v if there is anything that no agent of ours does.
  void Connections(const DoorStats& door) const {
    const uint64_t refused = door.keys_denied + door.handshakes_failed + door.put_out_silent +
                             door.put_out_crowd + door.put_out_wanted + door.accepts_failed;
    if (refused == 0 && !verbose_) return;
    Say(std::to_string(door.connections) + " connections: " + std::to_string(door.keys_admitted) +
        " with admitted keys, " + std::to_string(door.keys_denied) + " with keys that are not, " +
        std::to_string(door.handshakes_failed) + " that failed in the handshake, " +
        std::to_string(door.left_without_hello) +
        " that went without hello; put out: " + std::to_string(door.put_out_silent) + " without hello, " +
        std::to_string(door.put_out_crowd) + " too many at once, " + std::to_string(door.put_out_wanted) +
        " for garbage or a revoked key; " + std::to_string(door.accepts_failed) + " could not be taken");
  }

 private:
  bool verbose_;
  std::string problem_;
  size_t verdicts_ = 0;
  uint64_t finished_ = 0;
};

// Null: nobody is answered, which was wanted or told. Error: the address that was asked for cannot be had.
Result<std::unique_ptr<QueryService>> StartService(const CollectorArguments& arguments, const ServicePem& pem,
                                                   const std::string& database, const Teller& teller) {
  if (arguments.query == "none") return std::unique_ptr<QueryService>();
  QueryServiceOptions options;
  options.address = arguments.query;
  options.database = database;
  options.tls = arguments.query_tls;
  options.pem = pem;
  Result<std::unique_ptr<QueryService>> service = QueryService::Start(options);
  if (service) {
    const ServiceTls& tls = arguments.query_tls;
    teller.Say("answering queries at " + (*service)->address() +
               (!tls.given() ? ""
                : tls.client_ca.empty()
                    ? " (TLS; anybody who reaches it may ask, --query-client-ca narrows that)"
                    : " (TLS, for clients with a certificate)"));
    return service;
  }
  if (arguments.query_given) return Error{"--query: " + service.error()};
  // Receiving matters more than an address that nobody asked for.
  teller.Say(service.error() + "; answering none (--query names another address)");
  return std::unique_ptr<QueryService>();
}

// Agents by the hundred, clients, and strangers that hold connections open: the system's default of 1024
// files is for programs that use select(2).
void RaiseDescriptorLimit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  constexpr rlim_t kWanted = limits::kMaxSessions + limits::kMaxConnectionsWithoutHello + 4096;
  if (files.rlim_cur >= kWanted) return;
  files.rlim_cur = std::min(kWanted, files.rlim_max);
  (void)setrlimit(RLIMIT_NOFILE, &files);
}

// The folder of a unix socket's path; empty for other addresses.
std::string SocketFolder(const std::string& address, const std::string& scheme) {
  if (!address.starts_with(scheme)) return {};
  const std::string folder = std::filesystem::path(address.substr(scheme.size())).parent_path().string();
  return folder.empty() ? "." : folder;
}

// Nothing that comes in over the network is read before this. The answer says what is given up.
Result<std::string> GiveUpRights(const CollectorArguments& arguments) {
  const Result<Account> account = AccountToBecome(arguments.user);
  if (!account) return Error{"--user: " + account.error()};
  const Status made = MakeFolderFor(arguments.data, *account);
  if (!made.ok()) return Error{"--data: " + made.error()};
  std::vector<Writable> writable = {{arguments.data}};
  for (const std::string& folder :
       {SocketFolder(arguments.listen, "ipc://"), SocketFolder(arguments.query, "unix:")}) {
    if (!folder.empty()) writable.push_back({folder, true});
  }
  const Result<Confined> confined = Confine(*account, writable);
  if (!confined) return Error{confined.error()};
  return confined->description;
}

// Null: not wanted. Error: the port cannot be had.
Result<std::unique_ptr<CollectorMetrics>> OpenMetrics(const CollectorArguments& arguments,
                                                      const Teller& teller) {
  if (arguments.metrics.empty()) return std::unique_ptr<CollectorMetrics>();
  Result<std::unique_ptr<CollectorMetrics>> metrics =
      CollectorMetrics::Open(arguments.metrics, arguments.data);
  if (!metrics) return Error{"--metrics: " + metrics.error()};
  teller.Say("metrics at http://" + (*metrics)->address() + "/metrics");
  return metrics;
}

// While it lives, a query service has its figures at the port.
class ServiceShown {
 public:
  ServiceShown(CollectorMetrics* metrics, const QueryService* service) : metrics_(metrics) {
    if (metrics_ != nullptr) metrics_->Answers(service);
  }
  ~ServiceShown() {
    if (metrics_ != nullptr) metrics_->Answers(nullptr);
  }

 private:
  CollectorMetrics* const metrics_;
};

int RunCollector(const CollectorArguments& arguments) {
  // First of all: reading a large database back takes a while, and a signal then must end it cleanly too.
  InstallSignalHandlers();
  ReceiverOptions options;
  options.listen = arguments.listen;
  options.admitted = arguments.admitted;
  options.agent_quota = arguments.agent_quota;
  if (!arguments.key_file.empty()) {
    Result<SecretKey> key = ReadSecretKeyFile(arguments.key_file);
    if (!key) return Fail("--key: " + key.error());
    const Status pair = CheckKeyPair(*key, arguments.key_file);
    if (!pair.ok()) return Fail("--key: " + pair.error());
    options.key = std::move(*key);
  }
  const Result<ServicePem> pem = ReadServicePem(arguments.query_tls);
  if (!pem) return Fail(pem.error());
  const Result<std::string> rights = GiveUpRights(arguments);
  if (!rights) return Fail(rights.error());
  Teller teller(arguments);
  teller.Say(*rights);
  const Result<std::unique_ptr<CollectorMetrics>> port = OpenMetrics(arguments, teller);
  if (!port) return Fail(port.error());
  CollectorMetrics* const metrics = port->get();
  const std::string path = (std::filesystem::path(arguments.data) / "keytrail.db").string();
  Result<std::unique_ptr<Store>> store = Store::OpenFolder(arguments.data, arguments.keep);
  if (!store) return Fail(store.error());

  Correlator correlator(arguments.graces);
  CorrelatorFeed feed(correlator);
  const Status fed = FeedStored(**store, feed);
  if (!fed.ok()) return Fail(fed.error());

  Result<std::unique_ptr<Receiver>> opened = Receiver::Open(options, **store, feed);
  if (!opened) return Fail(opened.error());
  Receiver& receiver = **opened;
  RaiseDescriptorLimit();

  teller.Notices(**store);
  teller.Say("listening on " + receiver.address() + ", writing " + arguments.data,
             {{"address", receiver.address()}, {"data", arguments.data}});
  if (options.key) {
    const size_t admitted = receiver.admitted_keys();
    teller.Say("its public key is " + options.key->public_key.key + " ('" + options.key->public_key.name +
               "'); " + std::to_string(admitted) + (admitted == 1 ? " key is" : " keys are") +
               " admitted in '" + arguments.admitted + "'");
  }
  if (feed.changes() != 0) teller.Say(std::to_string(feed.changes()) + " calls are there already");
  const Result<std::unique_ptr<QueryService>> service = StartService(arguments, *pem, path, teller);
  if (!service) return Fail(service.error());
  const ServiceShown shown(metrics, service->get());
  if (metrics != nullptr) metrics->NotReady("");
  Judge judge(correlator, **store);
  // What the disk said to a report holds until it takes one.
  const auto problem = [&] {
    return receiver.store_error().empty() ? judge.figures().error : receiver.store_error();
  };
  while (stop_signal == 0) {
    receiver.Poll(100);
    (*store)->Maintain();
    teller.Notices(**store);
    if (judge.Due(feed.changes())) (void)judge.Run(feed.changes());
    teller.Notices(receiver.TakeNotices());
    if (*service) teller.Notices((*service)->TakeNotices());
    teller.Problem(problem());
    teller.Verdicts(judge.verdicts());
    teller.Finished(receiver.stats());
    if (metrics != nullptr && metrics->Due()) {
      metrics->Publish({receiver.stats(), receiver.sessions(), (*store)->Size(), receiver.store_error(),
                        judge.figures(), correlator.held(), correlator.held_connections()});
    }
  }
  if (metrics != nullptr) metrics->NotReady("the collector ends; agents are not heard any more");
  teller.Say(stop_signal == SIGINT ? "interrupted, finishing" : "terminated, finishing");
  // What has arrived is still taken; what has not will be sent to the next collector.
  for (int i = 0; i < 10 && receiver.Poll(0, 500); ++i) {
  }
  if (!judge.up_to_date(feed.changes())) {
    const Status judged = judge.Run(feed.changes());
    if (!judged.ok()) return Fail(judged.error());
  }
  teller.Problem(problem());
  teller.Verdicts(judge.verdicts());
  teller.Notices(receiver.TakeNotices());
  teller.Summary(receiver.stats());
  teller.Connections(receiver.stats().door);
  return receiver.store_error().empty() ? kExitDone : kExitFailed;
}

int Main(int argc, char** argv) {
  CLI::App app{"keytrail-collector receives call records of agents, stores them, and says who is wrong."};
  app.name("keytrail-collector");
  CollectorArguments arguments;
  app.add_option("--listen", arguments.listen,
                 "Where agents connect to: tcp://ADDR:PORT (without keys loopback only) or ipc://PATH")
      ->type_name("ADDR")
      ->capture_default_str();
  auto* key = app.add_option("--key", arguments.key_file,
                             "This collector's secret key (keytrail keys new); agents must have one too")
                  ->type_name("FILE");
  auto* admitted = app.add_option("--admitted", arguments.admitted,
                                  "Folder of the agents' public keys that are admitted (keytrail keys admit)")
                       ->type_name("DIR")
                       ->needs(key);
  key->needs(admitted);
  app.add_option("--data", arguments.data, "Keep the database in this folder; it is made if need be")
      ->type_name("DIR")
      ->required();
  // Both names: --grpc is what scripts may have from the first description of the interface.
  auto* query = app.add_option("--query,--grpc", arguments.query,
                               "Where queries are answered (gRPC): HOST:PORT (without TLS of this host "
                               "only), unix:PATH, or none")
                    ->type_name("ADDR")
                    ->capture_default_str();
  auto* certificate =
      app.add_option("--query-cert", arguments.query_tls.certificate,
                     "Answer queries over TLS with this certificate (PEM, its chain behind it)")
          ->type_name("FILE");
  auto* private_key =
      app.add_option("--query-key", arguments.query_tls.key, "The certificate's private key (PEM)")
          ->type_name("FILE")
          ->needs(certificate);
  certificate->needs(private_key);
  app.add_option("--query-client-ca", arguments.query_tls.client_ca,
                 "Answer clients only whose certificate one of these authorities signed (PEM)")
      ->type_name("FILE")
      ->needs(certificate);
  app.add_option("--metrics", arguments.metrics,
                 "Serve /metrics, /healthz and /readyz over HTTP here; of this host only")
      ->type_name("ADDR:PORT")
      ->check(OperationsAddressProblem);
  app.add_option(
         "--user", arguments.user,
         "Who to run as once keys and certificates are read; root becomes 'keytrail' or else 'nobody'\n"
         "if it is not given. 'root' stays root, without its capabilities")
      ->type_name("USER")
      ->envname("KEYTRAIL_USER");
  app.add_option("--agent-quota", arguments.agent_quota,
                 "Calls a second that one agent may have stored; one that has more waits, and its queue or\n"
                 "spool with it. No quota if not given")
      ->type_name("N")
      ->check(CLI::Range(limits::kMinAgentQuota, limits::kMaxAgentQuota));
  AddKeepOptions(app, arguments.keep);
  AddGraceOption(app, arguments.graces);
  auto* level = app.add_option("--log-level", arguments.log_level,
                               "What is logged on standard error: debug, info, warn, error")
                    ->type_name("LEVEL")
                    ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
                    ->capture_default_str();
  bool quiet_given = false;
  bool verbose_given = false;
  auto* quiet =
      app.add_flag("-q,--quiet", quiet_given, "Log nothing but problems: --log-level warn")->excludes(level);
  app.add_flag("-v,--verbose", verbose_given, "Log more: --log-level debug")
      ->excludes(quiet)
      ->excludes(level);
  app.set_version_flag("--version", std::string("keytrail-collector ") + kVersion);
  app.footer(
      "SIGINT and SIGTERM: finish and end.\n"
      "Exit status: 0 done; 1 failed; 2 wrong usage, or an address that needs keys.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitDone : kExitUsage;
  }
  if (quiet_given) arguments.log_level = "warn";
  if (verbose_given) arguments.log_level = "debug";
  SetLogLevel(*ParseLogLevel(arguments.log_level));
  const Status address = CheckListenAddress(arguments.listen, !arguments.key_file.empty());
  if (!address.ok()) {
    return WrongUsage("--listen: " + address.error());
  }
  arguments.query_given = query->count() != 0;
  const Status query_address = arguments.query == "none"
                                   ? Status(Done{})
                                   : CheckQueryAddress(arguments.query, arguments.query_tls.given());
  if (!query_address.ok()) {
    return WrongUsage("--query: " + query_address.error());
  }
  return RunCollector(arguments);
}

}  // namespace
}  // namespace keytrail

int main(int argc, char** argv) {
  return keytrail::Main(argc, argv);
}
