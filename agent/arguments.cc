#include "agent/arguments.h"

#include <algorithm>
#include <cstddef>
#include <exception>

#include <CLI/CLI.hpp>

#include "common/log.h"
#include "common/operations_port.h"
#include "common/port_range.h"
#include "common/version.h"

namespace keytrail {

namespace {

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

}  // namespace

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
  app.add_flag(
      "--doctor", arguments.doctor,
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

std::string CheckArguments(const CLI::App& app, AgentArguments& arguments) {
  if (const std::string problem = DevicesProblem(arguments.devices); !problem.empty()) {
    return problem;
  }
  if (const Result<std::vector<PortRange>> ports = ParsePortRanges(arguments.ports); !ports.ok()) {
    return "--ports: " + ports.error();
  }
  arguments.filter_given = app.count("-f") != 0;
  for (const std::string& device : arguments.devices) {
    arguments.device += (arguments.device.empty() ? "" : ",") + device;
  }
  if (!arguments.wait.empty()) {
    arguments.wait_ns = ParseDuration(arguments.wait);
    if (arguments.wait_ns == 0) {
      return "--wait '" + arguments.wait + "' is no time such as 90s, 10m or 2h";
    }
  }
  const bool redacts = arguments.redact == "on";
  if (redacts && arguments.redact_secret.empty()) {
    return "--redact on needs --redact-secret FILE, the same file on all hosts";
  }
  if (!redacts && !arguments.redact_secret.empty()) {
    return "--redact-secret says nothing without --redact on";
  }
  if (arguments.redact == "marker" && !arguments.collector.empty()) {
    return "--redact marker marks what is printed; records for a collector carry keys as they are, so take "
           "on or off with --collector";
  }
  if (redacts && arguments.drain) {
    return "--drain ships what the spool has as it is; --redact on was for the run that wrote it";
  }
  if (redacts && (arguments.full || arguments.raw)) {
    return "--full and --raw print whole messages, with keys and values; --redact on forbids that";
  }
  const bool may_log = !arguments.device.empty() || !arguments.collector.empty();
  if (!arguments.log_level.empty()) {
    if (!may_log) return "--log-level is for runs that capture (-i) or ship (--collector); others do not log";
    SetLogLevel(*ParseLogLevel(arguments.log_level));
  }
  if (!arguments.metrics.empty() && arguments.device.empty() && arguments.collector.empty()) {
    return "--metrics is for captures that go on (-i) and for shipping (--collector); of a file the summary "
           "tells the same";
  }
  if (!arguments.give_up_after.empty()) {
    arguments.give_up_after_ns = ParseDuration(arguments.give_up_after);
    if (arguments.give_up_after_ns == 0) {
      return "--give-up-after '" + arguments.give_up_after + "' is no time such as 90s, 10m or 2h";
    }
    if (arguments.device.empty()) {
      return "--give-up-after is for live captures (-i); --wait is for files and --drain";
    }
  }
  if (arguments.drain) {
    if (!arguments.device.empty() || !arguments.file.empty()) {
      return "--drain ships what the spool has: without -i and -r";
    }
    return {};
  }
  if (arguments.device.empty() == arguments.file.empty()) return "give either -i DEV or -r FILE";
  if (!arguments.duration.empty()) {
    arguments.duration_ns = ParseDuration(arguments.duration);
    if (arguments.duration_ns == 0) {
      return "--duration '" + arguments.duration + "' is no time such as 90s, 10m or 2h";
    }
  }
  if (!arguments.file.empty() && (arguments.cpu_limit != 0 || arguments.memory_limit != 0)) {
    return "--cpu-limit and --memory-limit are for live captures (-i): a file waits, nothing of it need be "
           "left out";
  }
  if (arguments.doctor) {
    if (arguments.device.empty()) return "--doctor is for live captures: give -i DEV";
    return {};
  }
  if (arguments.json && !arguments.collector.empty()) {
    return "--json prints records, --collector ships them: give one of them";
  }
  return {};
}

}  // namespace keytrail
