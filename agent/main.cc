// keytrail-agent: captures or reads packets, decodes calls, prints or ships them.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "agent/attention_ticker.h"
#include "agent/doctor/doctor.h"
#include "agent/metrics.h"
#include "agent/pipeline.h"
#include "agent/process/process_names.h"
#include "agent/self_restraint.h"
#include "agent/ship/json_output.h"
#include "agent/ship/line_writer.h"
#include "agent/ship/redacting_sink.h"
#include "agent/ship/shipper.h"
#include "agent/ship/text_output.h"
#include "common/clock.h"
#include "common/confinement.h"
#include "common/key_token.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/plain_text.h"
#include "common/port_range.h"
#include "common/version.h"

namespace keytrail {
namespace {

// Exit statuses of all three programs.
constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitIncomplete = 3;

// PD with its peers and services, TiFlash, TiDB's status port, TiKV (several on a host), TiFlash's proxy.
constexpr char kDefaultPorts[] = "2379,2380,3379,3930,10080,20160-20170";

struct AgentArguments {
  std::vector<std::string> devices;
  std::string device;  // all of them, for people
  uint64_t ring_bytes = limits::kDefaultRingBytes;
  bool promiscuous = false;
  std::string ports = kDefaultPorts;
  bool filter_given = false;
  bool keep_foreign = false;
  bool no_processes = false;
  std::string file;
  std::string filter;
  std::string write_file;
  std::string proto_dir;
  std::string descriptor_set;
  std::string keys = "tidb";
  std::string collector;
  std::string key_file;
  std::string server_key_file;
  std::string agent_name;
  std::string role;
  std::string redact = "off";
  std::string redact_secret;
  std::string spool;
  std::string user;
  std::string wait;
  std::string give_up_after;
  uint64_t spool_bytes = limits::kDefaultSpoolBytes;
  int64_t wait_ns = 0;
  int64_t give_up_after_ns = 0;
  bool drain = false;
  std::string metrics;
  std::string log_level;
  double cpu_limit = 0;  // percent of one core
  uint64_t memory_limit = 0;
  std::string duration;
  uint64_t count = 0;
  int64_t duration_ns = 0;
  bool json = false;
  bool full = false;
  bool raw = false;
  bool all = false;
  bool quiet = false;
  bool verbose = false;
  bool doctor = false;
};

class NullOutput final : public CallSink {
 public:
  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord&, MessageType, MessageType) override {}
};

AgentPipeline* running_pipeline = nullptr;  // for the signal handlers; set before they are installed

void OnStopSignal(int) {
  running_pipeline->Interrupt();
}
void OnStatisticsSignal(int) {
  running_pipeline->RequestStatistics();
}

void InstallSignalHandlers(AgentPipeline& pipeline) {
  running_pipeline = &pipeline;
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = OnStatisticsSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);  // a closed pipe is an Error of the writer, told once
}

// "90", "90s", "10m", "2h" in nanoseconds; 0 if it is none of these.
int64_t ParseDuration(const std::string& text) {
  size_t used = 0;
  double n = 0;
  try {
    n = std::stod(text, &used);
  } catch (const std::exception&) {
    return 0;
  }
  const std::string unit = text.substr(used);
  const double seconds = unit.empty() || unit == "s" ? n : unit == "m" ? n * 60 : unit == "h" ? n * 3600 : 0;
  return seconds > 0 && seconds < 1e9 ? static_cast<int64_t>(seconds * 1e9) : 0;
}

void DescribeArguments(CLI::App& app, AgentArguments& arguments) {
  auto* device =
      app.add_option("-i", arguments.devices,
                     "Capture on this device, on several (-i eth0,eth1 or -i more than once), or on "
                     "all: any")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->type_name("DEV");
  app.add_option("-r", arguments.file, "Read this capture: pcap or pcapng, .zst too, '-' for standard input")
      ->type_name("FILE")
      ->excludes(device);
  auto* filter = app.add_option("-f", arguments.filter,
                                "Capture filter (BPF), e.g. 'port 20160'; '' captures everything")
                     ->type_name("FILTER");
  app.add_option(
         "--ports", arguments.ports,
         "TCP ports to capture with -i, instead of 2379,2380,3379,3930,10080,20160-20170. gRPC on others\n"
         "is noticed, captured from then on, and told")
      ->type_name("PORTS")
      ->needs(device)
      ->excludes(filter);
  app.add_flag("--no-processes", arguments.no_processes,
               "Do not look for the processes at the ends of connections on this host")
      ->needs(device);
  app.add_flag(
         "--keep-foreign", arguments.keep_foreign,
         "Go on capturing busy connections and ports that turned out to carry other protocols than gRPC;\n"
         "without it the kernel leaves them out (-w keeps them, too)")
      ->needs(device);
  app.add_option(
         "--ring", arguments.ring_bytes,
         "Memory of the kernel for packets that wait to be read, for each device (64MiB if not given); "
         "-v says what it gave")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{limits::kMinRingBytes}, uint64_t{limits::kMaxRingBytes}))
      ->needs(device);
  app.add_flag("--promiscuous", arguments.promiscuous,
               "Also packets of other hosts that the device gets to see (off if not given)")
      ->needs(device);
  app.add_option("-w", arguments.write_file, "Keep the packets in this pcap file")->type_name("FILE");
  app.add_option("-c", arguments.count, "Stop after N packets")->type_name("N");
  app.add_option("--duration", arguments.duration, "Stop after this much capture time: 90s, 10m, 2h")
      ->type_name("TIME");
  app.add_flag("--json", arguments.json, "Print JSON lines, one object a call");
  auto* full = app.add_flag("--full", arguments.full, "Print whole messages in protobuf text form");
  app.add_flag("--raw", arguments.raw, "Print whole messages without a schema: tag=1 struct …")
      ->excludes(full);
  app.add_flag("--all", arguments.all, "Record Tso and etcd stream messages one by one too");
  app.add_option("--keys", arguments.keys, "How text shows keys: 'tidb' (t53_r8012) or 'hex'")
      ->check(CLI::IsMember({"tidb", "hex"}))
      ->type_name("FORM");
  app.add_option("--redact", arguments.redact,
                 "'off', 'on': keys leave as tokens that keep their order, texts and values not at all, or\n"
                 "'marker': what is printed has keys and texts between marks, for keytrail keys strip")
      ->check(CLI::IsMember({"off", "on", "marker"}))
      ->type_name("MODE");
  app.add_option("--redact-secret", arguments.redact_secret,
                 "The secret of the tokens, the same file on all hosts (keytrail keys secret)")
      ->type_name("FILE");
  auto* proto = app.add_option("--proto", arguments.proto_dir,
                               "Use the .proto files of this folder (kvproto of any release)")
                    ->type_name("DIR");
  app.add_option("--descriptor-set", arguments.descriptor_set, "Use this FileDescriptorSet (protoc -o)")
      ->type_name("FILE")
      ->excludes(proto);
  auto* collector = app.add_option("--collector", arguments.collector,
                                   "Ship call records to this collector instead of printing: HOST:PORT, "
                                   "tcp://…, ipc://…")
                        ->type_name("ADDR");
  auto* key = app.add_option("--key", arguments.key_file,
                             "This agent's secret key (keytrail keys new), for a collector on another host")
                  ->type_name("FILE")
                  ->needs(collector);
  auto* server_key =
      app.add_option("--server-key", arguments.server_key_file, "The collector's public key, its .pub file")
          ->type_name("FILE")
          ->needs(key);
  key->needs(server_key);
  app.add_option("--agent-name", arguments.agent_name, "This host's name in the collector")
      ->type_name("NAME")
      ->needs(collector);
  app.add_option("--role", arguments.role, "What runs on this host; found from the traffic if not given")
      ->check(CLI::IsMember({"tidb", "pd", "tikv"}))
      ->type_name("ROLE")
      ->needs(collector);
  auto* spool =
      app.add_option("--spool", arguments.spool,
                     "Keep records in this folder until the collector has stored them, also when the "
                     "agent is killed")
          ->type_name("DIR")
          ->needs(collector);
  app.add_option(
         "--spool-bytes", arguments.spool_bytes,
         "Room of the spool, e.g. 2GiB; when it is full a live capture sheds the oldest, a file waits")
      ->type_name("N")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(limits::kMinSpoolBytes, limits::kMaxSpoolBytes))
      ->needs(spool);
  app.add_flag("--drain", arguments.drain, "Ship what the spool has, and end")->needs(spool);
  app.add_option(
         "--wait", arguments.wait,
         "How long to wait, at the end, for a collector that stores nothing: 90s, 10m (10s for its first "
         "answer, then 60s)")
      ->type_name("TIME")
      ->needs(collector);
  app.add_option("--give-up-after", arguments.give_up_after,
                 "End a live capture (-i) when the collector has taken nothing for so long: 90s, 10m. Never "
                 "if not given")
      ->type_name("TIME")
      ->needs(collector);
  app.add_option("--user", arguments.user,
                 "Who to run as once the device and all files are open; root becomes 'keytrail' or else\n"
                 "'nobody' if it is not given. 'root' stays root, without its capabilities")
      ->type_name("USER")
      ->envname("KEYTRAIL_USER");
  app.add_option(
         "--cpu-limit", arguments.cpu_limit,
         "Percent of one core that a live capture may use. Above it for 2 s it reads less, step by step\n"
         "(drop_payloads, sample_tso, headers_only, count_only), tells it as a loss, and goes back when it\n"
         "has been below three quarters of it. No limit if not given")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.1, 100000.0));
  app.add_option(
         "--memory-limit", arguments.memory_limit,
         "Resident memory that a live capture may use, e.g. 512MiB; the same steps. No limit if not given")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false));
  app.add_option(
         "--metrics", arguments.metrics,
         "Serve /metrics, /healthz and /readyz over HTTP here while it captures (-i) or ships; of this "
         "host only")
      ->type_name("ADDR:PORT")
      ->check(OperationsAddressProblem);
  app.add_option(
         "--log-level", arguments.log_level,
         "What a run that captures (-i) or ships (--collector) logs on standard error: debug, info, warn, "
         "error (info if not given)")
      ->type_name("LEVEL")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  app.add_flag("--doctor", arguments.doctor,
               "Look at everything that an agent with these options needs of its host, say what is wrong and how\n"
               "to mend it, and end; changes nothing, ships nothing. --duration: how long live traffic is looked\n"
               "at (5s). Exit status: 0 all fine; 1 faults; 3 warnings alone");
  auto* quiet = app.add_flag("-q,--quiet", arguments.quiet,
                             "Decode, but print no calls (with --json: the summary alone)");
  app.add_flag("-v,--verbose", arguments.verbose, "Print every counter at the end")->excludes(quiet);
  app.set_version_flag("--version", std::string("keytrail-agent ") + kVersion);
  app.footer(
      "Exit status: 0 done; 1 failed; 2 wrong usage; 3 done, but something was lost or incomplete,\n"
      "or waits in the spool for a collector.");
}

// Set before anything is told: a run that captures or ships logs, one that reads a file for a person tells.
bool logs = false;

void Tell(LogLevel level, const std::string& message, const std::vector<LogField>& fields = {},
          LogPlace where = LogPlace::Here()) {
  if (logs) return Log(level, message, fields, where);
  if (level == LogLevel::kDebug) return;
  std::fprintf(stderr, "keytrail-agent: %s\n", message.c_str());
}

int Fail(const std::string& message, LogPlace where = LogPlace::Here()) {
  Tell(LogLevel::kError, message, {}, where);
  return kExitFailed;
}

int WrongUsage(const std::string& message) {
  std::fprintf(stderr, "keytrail-agent: %s\nTry --help.\n", message.c_str());
  return kExitUsage;
}

Result<std::unique_ptr<Schema>> LoadSchema(const AgentArguments& arguments) {
  if (!arguments.proto_dir.empty()) return Schema::FromProtoDir(arguments.proto_dir);
  if (!arguments.descriptor_set.empty()) return Schema::FromDescriptorSet(arguments.descriptor_set);
  return Schema::Bundled();
}

// `shipper` may come to be after this; losses are told to it then.
Result<std::unique_ptr<PacketSource>> OpenSource(const AgentArguments& arguments,
                                                 const std::unique_ptr<Shipper>& shipper) {
  if (!arguments.file.empty()) return OpenFile({arguments.file, arguments.filter});
  LiveSourceOptions live;
  live.devices = arguments.devices;
  live.filter = arguments.filter;
  if (!arguments.filter_given) live.ports = *ParsePortRanges(arguments.ports);
  live.ring_bytes = static_cast<int>(arguments.ring_bytes);
  live.promiscuous = arguments.promiscuous;
  live.say = [verbose = arguments.verbose](LogLevel level, const std::string& words) {
    Tell(level == LogLevel::kDebug && verbose ? LogLevel::kInfo : level, words);
  };
  live.tell_loss = [&shipper](const LossRecord& loss) {
    if (shipper != nullptr) shipper->SubmitLoss(loss);
  };
  return OpenDevices(live);
}

// Calls with the processes of this host that they were made by and to.
class ProcessSink final : public CallSink {
 public:
  ProcessSink(ProcessNames& names, CallSink& next) : names_(names), next_(next) {}
  void OnMessage(const MessageEvent& event) override { next_.OnMessage(event); }
  void OnCall(const CallRecord& call, MessageType request_type, MessageType response_type) override {
    record_ = call;
    names_.Fill(record_);
    next_.OnCall(record_, request_type, response_type);
  }

 private:
  ProcessNames& names_;
  CallSink& next_;
  CallRecord record_;
};

// Before anything is opened: the process that looks for names shall have nothing of it. Null: there are none.
std::unique_ptr<ProcessNames> StartProcessNames(const AgentArguments& arguments) {
  if (arguments.devices.empty() || arguments.no_processes) return nullptr;
  const Result<Account> account = AccountToBecome(arguments.user);
  if (!account.ok()) return nullptr;  // told when rights are given up
  Result<std::unique_ptr<ProcessNames>> names = ProcessNames::Start(*account);
  if (!names.ok()) {
    Tell(LogLevel::kWarn, "calls go without the processes that made them: " + names.error());
    return nullptr;
  }
  if (!(*names)->sees_all()) {
    Tell(LogLevel::kInfo, "of processes only those of user '" + account->name +
                              "' are found: others take CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH at the start");
  }
  return std::move(*names);
}

// What a live capture reads of what comes, and whom it tells.
void Watch(const AgentArguments& arguments, const std::unique_ptr<Shipper>& shipper,
           PipelineOptions& options) {
  options.say = [verbose = arguments.verbose](LogLevel level, const std::string& words) {
    Tell(level == LogLevel::kDebug && verbose ? LogLevel::kInfo : level, words);
  };
  options.tell_loss = [&shipper](const LossRecord& loss) {
    if (shipper != nullptr) shipper->SubmitLoss(loss);
  };
  options.focus.emplace();
  options.focus->filtered = arguments.filter_given && !arguments.filter.empty();
  if (!arguments.filter_given) options.focus->ports = *ParsePortRanges(arguments.ports);
  // Who keeps the packets wants all of them.
  options.focus->excludes = arguments.write_file.empty() && !arguments.keep_foreign;
}

// Tells a collector what a live capture loses while it goes on: it judges meanwhile.
class LossWatch {
 public:
  void Attend(const Counters& counters, Shipper& shipper) {
    if (SteadyNs() - told_ns_ >= kEveryNs) Finish(counters, shipper, true);
  }
  void Finish(const Counters& counters, Shipper& shipper, bool live) {
    told_ns_ = SteadyNs();
    const int64_t now = WallClockNs();
    // The clock may have been set back.
    ShipLosses(counters, shipper, live ? std::min(since_ns_, now) : 0, live ? now : 0);
    since_ns_ = now;
  }

 private:
  static constexpr int64_t kEveryNs = 1'000'000'000;
  int64_t told_ns_ = SteadyNs();
  int64_t since_ns_ = WallClockNs();
};

// Empty, or what is wrong with them.
std::string DevicesProblem(const std::vector<std::string>& devices) {
  if (devices.size() > limits::kMaxDevices) {
    return "-i takes " + std::to_string(limits::kMaxDevices) + " devices at most; any captures all there are";
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    if (devices[i] == "any" && devices.size() > 1) return "-i any captures all devices: name no others";
    if (std::find(devices.begin(), devices.begin() + static_cast<ptrdiff_t>(i), devices[i]) !=
        devices.begin() + static_cast<ptrdiff_t>(i)) {
      return "-i: the device '" + devices[i] + "' is named twice";
    }
  }
  return {};
}

void LogLines(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    Log(LogLevel::kInfo, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// One line of the log, or a line each for a person.
void TellFigures(const char* what, const std::vector<LogField>& figures) {
  if (logs) return Log(LogLevel::kInfo, what, figures);
  for (const LogField& figure : figures) {
    std::fprintf(stderr, "  %s %s\n", figure.key.c_str(), figure.value.c_str());
  }
}

void PrintSummary(const AgentArguments& arguments, const AgentPipeline& pipeline, const Schema& schema,
                  const SelfRestraint& restraint, LineWriter& out) {
  RunSummary summary;
  summary.counters = &pipeline.counters();
  summary.counts_from_start = &pipeline.grpc().counts_from_start();
  summary.counts_late = &pipeline.grpc().counts_late();
  summary.sub_counts_from_start = &pipeline.grpc().sub_counts_from_start();
  summary.schema = &schema;
  summary.input = arguments.file.empty() ? arguments.device : arguments.file;
  summary.detail = restraint.level();
  summary.degraded_ns = restraint.lasted_ns();
  summary.stopped_by = pipeline.stopped_by();
  if (arguments.json) AppendSummaryJson(summary, out.buffer());
  if (arguments.quiet || arguments.json) return;
  const std::string text = SummaryText(summary);
  if (logs) {
    LogLines(text);
  } else {
    std::fputs(text.c_str(), stderr);
  }
  if (!arguments.verbose) return;
  std::vector<LogField> counters;
  for (size_t i = 0; i < kCounterCount; ++i) {
    const Counter c = static_cast<Counter>(i);
    counters.push_back({std::string(CounterName(c)), std::to_string(pipeline.counters().Get(c))});
  }
  TellFigures("counters", counters);
}

Result<ShipperOptions> OptionsOf(const AgentArguments& arguments, const Redaction& redaction) {
  ShipperOptions ship;
  ship.redaction = redaction;
  ship.address = arguments.collector;
  ship.agent_name = arguments.agent_name;
  ship.role = arguments.role;
  ship.input = arguments.file.empty() ? arguments.device : arguments.file;
  ship.block_when_full = !arguments.file.empty();
  ship.spool = arguments.spool;
  ship.spool_bytes = arguments.spool_bytes;
  ship.drain = arguments.drain;
  ship.tell = [](const std::string& what) { Tell(LogLevel::kWarn, what); };
  if (arguments.wait_ns != 0) ship.connect_timeout_ns = ship.finish_timeout_ns = arguments.wait_ns;
  if (!arguments.key_file.empty()) {
    const Result<SecretKey> own = ReadSecretKeyFile(arguments.key_file);
    if (!own) return Error{"--key: " + own.error()};
    const Result<PublicKey> server = ReadPublicKeyFile(arguments.server_key_file);
    if (!server) return Error{"--server-key: " + server.error()};
    ship.keys = AgentKeys{*own, *server};
  }
  return ship;
}

void PrintShipping(const ShipperStats& stats) {
  const std::pair<const char*, uint64_t> lines[] = {
      {"ship_records", stats.records},
      {"ship_batches_acknowledged", stats.batches_acknowledged},
      {"ship_wire_bytes", stats.wire_bytes},
      {"ship_hellos", stats.hellos},
      {"spool_batches_written", stats.spool_batches_written},
      {"spool_batches_read", stats.spool_batches_read},
      {"spool_records_lost", stats.spool_records_lost},
      {"spool_torn_tails", stats.spool_torn_tails},
      {"spool_disk_failures", stats.spool_disk_failures},
      {"spool_records_left", stats.spool_records_left},
  };
  std::vector<LogField> figures;
  for (const auto& [name, value] : lines) figures.push_back({name, std::to_string(value)});
  TellFigures("shipping", figures);
}

// Null: not wanted. Error: the port cannot be had.
Result<std::unique_ptr<AgentMetrics>> OpenMetrics(const AgentArguments& arguments) {
  if (arguments.metrics.empty()) return std::unique_ptr<AgentMetrics>();
  Result<std::unique_ptr<AgentMetrics>> metrics = AgentMetrics::Open(arguments.metrics);
  if (!metrics) return Error{"--metrics: " + metrics.error()};
  Tell(LogLevel::kInfo, "metrics at http://" + (*metrics)->address() + "/metrics");
  return metrics;
}

// The exit status of shipping: all stored, or some kept or lost.
int FinishShipping(Shipper& shipper, bool wait = true) {
  const Status finished = shipper.Finish(wait);
  if (!shipper.kept().empty()) Tell(LogLevel::kWarn, shipper.kept());
  if (!finished.ok()) return Fail(finished.error());
  if (!shipper.kept().empty()) return kExitIncomplete;
  const ShipperStats stats = shipper.stats();
  const uint64_t lost = stats.records_dropped + stats.spool_records_lost;
  if (lost == 0) return kExitDone;
  Tell(LogLevel::kWarn, std::to_string(lost) + " records were lost before the collector took them");
  return kExitIncomplete;
}

// Whether the collector is there, for a live capture: tells each change once, and says when it has been away
// for too long. On the decoding thread.
class CollectorWatch {
 public:
  CollectorWatch(Shipper& shipper, int64_t give_up_after_ns)
      : shipper_(shipper), give_up_after_ns_(give_up_after_ns), taken_at_ns_(SteadyNs()) {}

  void Attend() {
    const std::string trouble = shipper_.trouble();
    if (!trouble.empty() && trouble != told_) Tell(LogLevel::kWarn, trouble);
    if (!trouble.empty()) told_ = trouble;
    const std::string not_taken = shipper_.not_taken();
    if (not_taken.empty()) {
      if (!told_.empty() || !taken_once_) Tell(LogLevel::kInfo, "connected to the collector");
      taken_once_ = true;
      told_.clear();
      taken_at_ns_ = SteadyNs();
      return;
    }
    if (give_up_after_ns_ == 0 || given_up_ || SteadyNs() - taken_at_ns_ < give_up_after_ns_) return;
    given_up_ = true;
    Tell(LogLevel::kError, "gives up, as --give-up-after says: for " +
                               std::to_string((SteadyNs() - taken_at_ns_) / 1'000'000'000) +
                               " s the collector took nothing; " + not_taken);
  }
  bool given_up() const { return given_up_; }

 private:
  Shipper& shipper_;
  const int64_t give_up_after_ns_;
  int64_t taken_at_ns_;
  std::string told_;
  bool taken_once_ = false;
  bool given_up_ = false;
};

// Everything that needs rights is open: nothing that comes in over the network is read before this.
Status GiveUpRights(const AgentArguments& arguments) {
  const Result<Account> account = AccountToBecome(arguments.user);
  if (!account) return Error{"--user: " + account.error()};
  std::vector<Writable> writable;
  if (!arguments.spool.empty()) {
    const Status made = MakeFolderFor(arguments.spool, *account);
    if (!made.ok()) return Error{"--spool: " + made.error()};
    writable.push_back({arguments.spool});
  }
  const Result<Confined> confined = Confine(*account, writable);
  if (!confined) return Error{confined.error()};
  if (logs || arguments.verbose) Tell(LogLevel::kInfo, confined->description);
  return Done{};
}

int Drain(const AgentArguments& arguments) {
  // What the spool has goes out as it was told then; a loss of this start has no key.
  const Result<ShipperOptions> options = OptionsOf(arguments, Redaction());
  if (!options) return Fail(options.error());
  const Status confined = GiveUpRights(arguments);
  if (!confined.ok()) return Fail(confined.error());
  Result<std::unique_ptr<Shipper>> shipper = Shipper::Start(*options);
  if (!shipper) return Fail(shipper.error());
  const Result<std::unique_ptr<AgentMetrics>> metrics = OpenMetrics(arguments);
  if (!metrics) return Fail(metrics.error());
  if (*metrics != nullptr) {
    (*metrics)->Drains();
    (*metrics)->Ships(**shipper, arguments.spool_bytes);
  }
  const int status = FinishShipping(**shipper);
  const ShipperStats stats = (*shipper)->stats();
  Tell(LogLevel::kInfo, std::to_string(stats.batches_acknowledged) + " batches of the spool were shipped");
  return status;
}

int RunAgent(const AgentArguments& arguments) {
  const std::unique_ptr<ProcessNames> processes = StartProcessNames(arguments);
  std::unique_ptr<Shipper> shipper;
  Result<std::unique_ptr<Schema>> schema = LoadSchema(arguments);
  if (!schema) return Fail(schema.error());
  std::optional<RedactSecret> secret;
  if (arguments.redact == "on") {
    const Result<RedactSecret> read = ReadRedactSecretFile(arguments.redact_secret);
    if (!read) return Fail("--redact-secret: " + read.error());
    secret = *read;
  }
  Result<std::unique_ptr<PacketSource>> source = OpenSource(arguments, shipper);
  if (!source) return Fail(source.error());
  std::unique_ptr<PacketWriter> packet_writer;
  if (!arguments.write_file.empty()) {
    Result<std::unique_ptr<PacketWriter>> created = CreateCaptureFile(arguments.write_file);
    if (!created) return Fail(created.error());
    packet_writer = std::move(*created);
  }

  const bool shipping = !arguments.collector.empty();
  const Result<ShipperOptions> ship = OptionsOf(arguments, RedactionBy(secret));
  if (!ship) return Fail(ship.error());
  const Status confined = GiveUpRights(arguments);
  if (!confined.ok()) return Fail(confined.error());
  const Result<std::unique_ptr<AgentMetrics>> opened = OpenMetrics(arguments);
  if (!opened) return Fail(opened.error());
  AgentMetrics* const metrics = opened->get();

  LineWriter out(stdout);
  std::unique_ptr<CallSink> sink;
  PipelineOptions options;
  options.max_packets = arguments.count;
  options.duration_ns = arguments.duration_ns;
  options.grpc.all = arguments.all;
  const bool live = arguments.file.empty();
  if (live) Watch(arguments, shipper, options);
  const bool marks = arguments.redact == "marker";
  if (shipping) {
    Result<std::unique_ptr<Shipper>> started = Shipper::Start(*ship);
    if (!started) return Fail(started.error());
    shipper = std::move(*started);
    if (metrics != nullptr) metrics->Ships(*shipper, arguments.spool.empty() ? 0 : arguments.spool_bytes);
    sink = std::make_unique<ShipperSink>(*shipper);
  } else if (arguments.quiet) {
    sink = std::make_unique<NullOutput>();
  } else if (arguments.json) {
    options.grpc.keep_messages = arguments.full || arguments.raw;
    sink = std::make_unique<JsonOutput>(**schema, JsonOptions{arguments.full, arguments.raw, marks}, out);
  } else {
    options.grpc.wants_messages = true;
    options.grpc.full_text = arguments.full || arguments.raw;
    sink = std::make_unique<TextOutput>(
        **schema, TextOptions{arguments.full, arguments.raw, arguments.keys == "hex", marks}, out);
  }

  const std::unique_ptr<RedactingSink> redacting =
      secret ? std::make_unique<RedactingSink>(*secret, *sink) : nullptr;
  CallSink& told_sink = redacting != nullptr ? static_cast<CallSink&>(*redacting) : *sink;
  const std::unique_ptr<ProcessSink> naming =
      processes != nullptr ? std::make_unique<ProcessSink>(*processes, told_sink) : nullptr;
  CallSink& end = naming != nullptr ? static_cast<CallSink&>(*naming) : told_sink;
  AgentPipeline pipeline(std::move(*source), **schema, options, end, packet_writer.get());
  SelfRestraint restraint(
      {arguments.cpu_limit / 100, arguments.memory_limit}, pipeline,
      [&](const LossRecord& loss) {
        if (shipper != nullptr) shipper->SubmitLoss(loss);
      },
      [](const std::string& what) { Tell(LogLevel::kWarn, what); });
  std::optional<AttentionTicker> ticker;
  // A file needs no watch: it waits for the collector, and its end is told.
  std::optional<CollectorWatch> watch;
  if (shipper != nullptr && live) watch.emplace(*shipper, arguments.give_up_after_ns);
  if (live || metrics != nullptr) ticker.emplace(pipeline);
  InstallSignalHandlers(pipeline);
  const auto started = std::chrono::steady_clock::now();
  LossWatch losses;
  const Status run = pipeline.Run([&] {
    restraint.Attend();
    if (processes != nullptr) {
      processes->Attend([&](const Endpoint& where, const ProcessName& process) {
        if (!arguments.verbose) return;
        Tell(LogLevel::kInfo, FormatEndpoint(where) + " is process " + std::to_string(process.pid) + " (" +
                                  PlainText(process.text()) + ")");
      });
    }
    if (live && shipper != nullptr) losses.Attend(pipeline.counters(), *shipper);
    if (metrics != nullptr) metrics->Attend(pipeline, restraint);
    if (!out.Flush().ok()) pipeline.Interrupt();
    if (watch) watch->Attend();
    if (watch && watch->given_up()) pipeline.Interrupt();
    // A quiet device delivers no packet whose time could end the run.
    const std::chrono::nanoseconds passed = std::chrono::steady_clock::now() - started;
    if (arguments.duration_ns != 0 && passed.count() >= arguments.duration_ns) pipeline.Interrupt();
  });
  restraint.Finish();
  if (metrics != nullptr) metrics->Ended(pipeline, restraint);
  bool incomplete = pipeline.lost_something();
  int exit_status = kExitDone;
  if (!run.ok()) {
    Tell(LogLevel::kError, run.error());
    // Packets before the damage were decoded and told: incomplete, not failed.
    exit_status = pipeline.counters().Get(Counter::kPackets) != 0 ? kExitIncomplete : kExitFailed;
  }
  if (packet_writer != nullptr) {
    const Status closed = packet_writer->Close();
    if (!closed.ok()) exit_status = Fail(closed.error());
  }
  if (shipper != nullptr) {
    losses.Finish(pipeline.counters(), *shipper, live);
    const int shipped = FinishShipping(*shipper, !(watch && watch->given_up()));
    if (shipped == kExitFailed || exit_status == kExitDone) exit_status = shipped;
  }
  PrintSummary(arguments, pipeline, **schema, restraint, out);
  if (shipper != nullptr && arguments.verbose) PrintShipping(shipper->stats());
  const Status flushed = out.Flush();
  if (!flushed.ok()) exit_status = Fail(flushed.error());
  if (exit_status == kExitDone && (incomplete || (watch && watch->given_up()))) exit_status = kExitIncomplete;
  return exit_status;
}

int Doctor(const AgentArguments& arguments) {
  DoctorOptions options;
  const std::unique_ptr<Shipper> none;  // nothing is shipped
  options.devices = arguments.devices;
  options.filter = arguments.filter;
  if (!arguments.filter_given) options.ports = arguments.ports;
  options.open = [&] { return OpenSource(arguments, none); };
  options.load_schema = [&]() -> Status {
    const Result<std::unique_ptr<Schema>> schema = LoadSchema(arguments);
    return schema ? Status(Done{}) : Status(Error{schema.error()});
  };
  options.ring_bytes = arguments.ring_bytes * arguments.devices.size();
  options.collector = arguments.collector;
  options.key_file = arguments.key_file;
  options.server_key_file = arguments.server_key_file;
  options.redact = arguments.redact == "on";
  options.redact_secret = arguments.redact_secret;
  options.spool = arguments.spool;
  options.spool_bytes = arguments.spool_bytes;
  options.user = arguments.user;
  options.metrics = arguments.metrics;
  options.write_file = arguments.write_file;
  if (arguments.duration_ns != 0) options.look_ns = arguments.duration_ns;
  options.json = arguments.json;
  return RunDoctor(options);
}

int Main(int argc, char** argv) {
  CLI::App app{"keytrail-agent decodes the gRPC calls of TiDB, PD and TiKV out of packets."};
  app.name("keytrail-agent");
  AgentArguments arguments;
  DescribeArguments(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitDone : kExitUsage;
  }
  if (const std::string problem = DevicesProblem(arguments.devices); !problem.empty()) {
    return WrongUsage(problem);
  }
  if (const Result<std::vector<PortRange>> ports = ParsePortRanges(arguments.ports); !ports.ok()) {
    return WrongUsage("--ports: " + ports.error());
  }
  arguments.filter_given = app.count("-f") != 0;
  for (const std::string& device : arguments.devices) {
    arguments.device += (arguments.device.empty() ? "" : ",") + device;
  }
  if (!arguments.wait.empty()) {
    arguments.wait_ns = ParseDuration(arguments.wait);
    if (arguments.wait_ns == 0) {
      return WrongUsage("--wait '" + arguments.wait + "' is no time such as 90s, 10m or 2h");
    }
  }
  const bool redacts = arguments.redact == "on";
  if (redacts && arguments.redact_secret.empty()) {
    return WrongUsage("--redact on needs --redact-secret FILE, the same file on all hosts");
  }
  if (!redacts && !arguments.redact_secret.empty()) {
    return WrongUsage("--redact-secret says nothing without --redact on");
  }
  if (arguments.redact == "marker" && !arguments.collector.empty()) {
    return WrongUsage(
        "--redact marker marks what is printed; records for a collector carry keys as they are, so take on "
        "or off with --collector");
  }
  if (redacts && arguments.drain) {
    return WrongUsage("--drain ships what the spool has as it is; --redact on was for the run that wrote it");
  }
  if (redacts && (arguments.full || arguments.raw)) {
    return WrongUsage(
        "--full and --raw print whole messages, with keys and values; --redact on forbids that");
  }
  const bool may_log = !arguments.device.empty() || !arguments.collector.empty();
  if (!arguments.log_level.empty()) {
    if (!may_log)
      return WrongUsage("--log-level is for runs that capture (-i) or ship (--collector); others do not log");
    SetLogLevel(*ParseLogLevel(arguments.log_level));
  }
  if (!arguments.metrics.empty() && arguments.device.empty() && arguments.collector.empty()) {
    return WrongUsage(
        "--metrics is for captures that go on (-i) and for shipping (--collector); of a file the summary "
        "tells "
        "the same");
  }
  if (!arguments.give_up_after.empty()) {
    arguments.give_up_after_ns = ParseDuration(arguments.give_up_after);
    if (arguments.give_up_after_ns == 0) {
      return WrongUsage("--give-up-after '" + arguments.give_up_after +
                        "' is no time such as 90s, 10m or 2h");
    }
    if (arguments.device.empty()) {
      return WrongUsage("--give-up-after is for live captures (-i); --wait is for files and --drain");
    }
  }
  if (arguments.drain) {
    if (!arguments.device.empty() || !arguments.file.empty()) {
      return WrongUsage("--drain ships what the spool has: without -i and -r");
    }
    logs = may_log;
    return Drain(arguments);
  }
  if (arguments.device.empty() == arguments.file.empty()) return WrongUsage("give either -i DEV or -r FILE");
  if (!arguments.duration.empty()) {
    arguments.duration_ns = ParseDuration(arguments.duration);
    if (arguments.duration_ns == 0) {
      return WrongUsage("--duration '" + arguments.duration + "' is no time such as 90s, 10m or 2h");
    }
  }
  if (!arguments.file.empty() && (arguments.cpu_limit != 0 || arguments.memory_limit != 0)) {
    return WrongUsage(
        "--cpu-limit and --memory-limit are for live captures (-i): a file waits, nothing of it need be left "
        "out");
  }
  if (arguments.doctor) {
    if (arguments.device.empty()) return WrongUsage("--doctor is for live captures: give -i DEV");
    return Doctor(arguments);
  }
  if (arguments.json && !arguments.collector.empty()) {
    return WrongUsage("--json prints records, --collector ships them: give one of them");
  }
  logs = may_log;
  return RunAgent(arguments);
}

}  // namespace
}  // namespace keytrail

int main(int argc, char** argv) {
  return keytrail::Main(argc, argv);
}
