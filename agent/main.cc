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

#include "agent/arguments.h"
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
#include "common/default_ports.h"
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
  // Who asks a collector on this host is not to be told of as something that was missed.
  options.focus->not_ours = {kDefaultQueryPort};
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
  if (const std::string problem = CheckArguments(app, arguments); !problem.empty())
    return WrongUsage(problem);
  logs = !arguments.device.empty() || !arguments.collector.empty();
  if (arguments.drain) return Drain(arguments);
  if (arguments.doctor) {
    logs = false;
    return Doctor(arguments);
  }
  return RunAgent(arguments);
}

}  // namespace
}  // namespace keytrail

int main(int argc, char** argv) {
  return keytrail::Main(argc, argv);
}
