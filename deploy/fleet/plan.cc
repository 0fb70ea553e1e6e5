#include "deploy/fleet/plan.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "common/crc32c.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// Of host.sh: the file it reads and the one it writes, so that a half one is never taken for whole.
constexpr char kPut[] =
    "umask 077; cat >\"$1.part\" && mv -f \"$1.part\" \"$1\" || { s=$?; rm -f \"$1.part\"; exit $s; }";
constexpr char kAdmit[] =
    "umask 022; mkdir -p \"$1\" && cat >\"$1/.$2.part\" && mv -f \"$1/.$2.part\" \"$1/$2.pub\"";
constexpr char kUnadmit[] = "rm -f \"$1/$2.pub\"";
// What an agent and a collector log when nothing can go wrong at the start any more.
constexpr char kAgentReady[] = "runs as ";
constexpr char kCollectorReady[] = "listening on ";
// Agents ship what they have at the end of their time.
constexpr int64_t kAgentEnd_s = 60;

std::string FolderOf(const std::string& dir, const FleetOptions& options, const std::string& name) {
  std::string above = dir.empty() ? options.dir : dir;
  while (above.size() > 1 && above.back() == '/') above.pop_back();
  return above + "/keytrail-fleet-" + name;
}

std::string Hex(uint32_t number) {
  char text[9] = {};
  std::snprintf(text, sizeof text, "%08x", number);
  return text;
}

// What a host must run for a second start to leave it alone.
std::string Wanted(const std::string& sha, const std::vector<std::string>& words) {
  std::string joined;
  for (const std::string& word : words) joined += word + '\0';
  return sha + ":" + Hex(Crc32c(Bytes(reinterpret_cast<const uint8_t*>(joined.data()), joined.size())));
}

std::string KeyFile(const FleetOptions& options, const std::string& key, const char* end) {
  return options.state + "/keys/" + key + end;
}

std::string Seconds(int64_t seconds) {
  return std::to_string(seconds) + "s";
}

Step Put(const UnitPlan& unit, const FleetOptions& options, const std::string& from, const std::string& to,
         StepKind kind) {
  Step step;
  step.kind = kind;
  step.command = WordsOn(unit.access, options, {"sh", "-c", kPut, "keytrail-fleet", unit.folder + "/" + to});
  step.command.input = from;
  if (kind == StepKind::kArchive) {
    step.command.timeout_s = options.push_timeout_s;
    step.why = "not if the same archive is there";
  }
  return step;
}

Step Verb(const UnitPlan& unit, const FleetOptions& options, StepKind kind, const std::string& verb,
          const std::vector<std::string>& arguments) {
  Step step;
  step.kind = kind;
  step.command = OnHost(unit, options, verb, arguments);
  return step;
}

// KIND WANTED NEED_KIB REPLACE GRACE
Step Prepare(const UnitPlan& unit, const FleetOptions& options, const std::string& kind,
             const std::string& wanted, uint64_t need_bytes) {
  Step step = Verb(unit, options, StepKind::kPrepare, "prepare",
                   {kind, wanted, std::to_string(need_bytes / 1024), options.replace ? "1" : "0",
                    std::to_string(options.grace_s)});
  if (options.replace) step.command.timeout_s += options.grace_s;
  return step;
}

std::vector<std::string> AgentWords(const Topology& topology, const FleetHost& host, const UnitPlan& unit,
                                    const FleetCollector& collector, const FleetOptions& options) {
  std::vector<std::string> words = {unit.folder + "/bin/keytrail-agent"};
  const std::vector<std::string> capture = CaptureOf(topology, host);
  words.insert(words.end(), capture.begin(), capture.end());
  const std::vector<std::string> ship = {
      "--collector",  collector.address,           "--key",           unit.folder + "/own.key",
      "--server-key", unit.folder + "/server.pub", "--agent-name",    host.name,
      "--spool",      unit.folder + "/spool",      "--spool-bytes",   std::to_string(options.spool_bytes),
      "--duration",   Seconds(options.duration_s), "--give-up-after", Seconds(options.give_up_after_s)};
  words.insert(words.end(), ship.begin(), ship.end());
  if (!options.redact_secret.empty()) {
    words.insert(words.end(), {"--redact", "on", "--redact-secret", unit.folder + "/redact.secret"});
  }
  words.insert(words.end(), options.agent_options.begin(), options.agent_options.end());
  return words;
}

UnitPlan PlaceOf(const FleetHost& host, const FleetOptions& options) {
  UnitPlan unit;
  unit.name = host.name;
  unit.address = host.address;
  unit.access = host.access;
  unit.folder = FolderOf(host.dir, options, host.name);
  if (host.arch != "amd64" && host.arch != "x86_64") {
    unit.refused = "its arch is " + host.arch + ", and the archive is for amd64 (x86_64)";
  }
  return unit;
}

UnitPlan PlaceOf(const FleetCollector& collector, const FleetOptions& options) {
  UnitPlan unit;
  unit.name = "collector";
  unit.address = collector.access.local ? "this machine" : collector.access.ssh_host;
  unit.access = collector.access;
  unit.folder = FolderOf(collector.dir, options, "collector");
  return unit;
}

std::string AdmittedOf(const FleetCollector& collector, const FleetOptions& options) {
  return collector.start ? FolderOf(collector.dir, options, "collector") + "/admitted" : collector.admitted;
}

void AddAgentSteps(const Topology& topology, const FleetHost& host, const FleetCollector& collector,
                   const FleetOptions& options, UnitPlan& unit) {
  const std::vector<std::string> words = AgentWords(topology, host, unit, collector, options);
  const std::string wanted = Wanted(options.archive_sha256, words);
  // The archive, what it unpacks to (some four times as much), and the spool.
  const uint64_t need = options.archive_bytes * 5 + options.spool_bytes;
  unit.steps.push_back(Prepare(unit, options, "agent", wanted, need));
  Step archive = Put(unit, options, options.archive, "archive.tar.gz", StepKind::kArchive);
  unit.steps.push_back(std::move(archive));
  const std::string key = KeyNameOf(host.name);
  unit.steps.push_back(Put(unit, options, KeyFile(options, key, ".key"), "own.key", StepKind::kPut));
  const std::string server =
      collector.start ? KeyFile(options, KeyNameOf("collector"), ".pub") : collector.server_key;
  unit.steps.push_back(Put(unit, options, server, "server.pub", StepKind::kPut));
  if (!options.redact_secret.empty()) {
    unit.steps.push_back(Put(unit, options, options.redact_secret, "redact.secret", StepKind::kPut));
  }
  Step admit;
  admit.kind = StepKind::kAdmit;
  admit.command = WordsOn(collector.access, options,
                          {"sh", "-c", kAdmit, "keytrail-fleet", AdmittedOf(collector, options), key});
  admit.command.input = KeyFile(options, key, ".pub");
  admit.command.timeout_s = options.timeout_s;
  admit.why = "at the collector";
  unit.steps.push_back(std::move(admit));
  std::vector<std::string> launch = {"agent",
                                     wanted,
                                     options.archive_sha256,
                                     std::to_string(options.duration_s),
                                     options.leave_nothing ? "nothing" : "all",
                                     kAgentReady};
  launch.insert(launch.end(), words.begin(), words.end());
  unit.steps.push_back(Verb(unit, options, StepKind::kLaunch, "launch", launch));
}

void AddCollectorSteps(const FleetCollector& collector, const FleetOptions& options, UnitPlan& unit) {
  std::vector<std::string> words = {collector.program,
                                    "--listen",
                                    collector.listen,
                                    "--key",
                                    unit.folder + "/own.key",
                                    "--admitted",
                                    AdmittedOf(collector, options),
                                    "--data",
                                    collector.data};
  if (!collector.query.empty()) words.insert(words.end(), {"--query", collector.query});
  const std::string wanted = Wanted("-", words);
  unit.steps.push_back(Prepare(unit, options, "collector", wanted, 0));
  unit.steps.push_back(
      Put(unit, options, KeyFile(options, KeyNameOf("collector"), ".key"), "own.key", StepKind::kPut));
  const int64_t limit = options.duration_s + kAgentEnd_s + options.linger_s;
  std::vector<std::string> launch = {
      "collector",    wanted, "-", std::to_string(limit), options.leave_nothing ? "nothing" : "all",
      kCollectorReady};
  launch.insert(launch.end(), words.begin(), words.end());
  unit.steps.push_back(Verb(unit, options, StepKind::kLaunch, "launch", launch));
  unit.about = "listens on " + collector.listen + ", writes " + collector.data;
}

Step Here(std::vector<std::string> argv) {
  Step step;
  step.command.argv = std::move(argv);
  return step;
}

void AddSetup(const Topology& topology, const FleetCollector& collector, const FleetOptions& options,
              FleetPlan& plan) {
  plan.setup.push_back(Here({"mkdir", "-p", "-m", "0700", options.state, options.state + "/keys"}));
  Step script = Here({options.keytrail, "fleet", "script"});
  script.command.output = options.state + "/host.sh";
  plan.setup.push_back(std::move(script));
  const auto new_key = [&](const std::string& name) {
    plan.setup.push_back(
        Here({options.keytrail, "keys", "new", KeyNameOf(name), "--dir", options.state + "/keys"}));
  };
  if (collector.start) new_key("collector");
  for (const FleetHost& host : topology.hosts) new_key(host.name);
}

std::string About(const FleetHost& host, const std::vector<std::string>& capture) {
  std::string about;
  for (const std::string& component : host.components) about += (about.empty() ? "" : ", ") + component;
  return about + (about.empty() ? "" : "; ") + "captures with " + ShellWords(capture);
}

std::string WithScheme(const std::string& address) {
  return address.find("://") == std::string::npos ? "tcp://" + address : address;
}

}  // namespace

std::string KeyNameOf(const std::string& host_name) {
  return "fleet-" + host_name;
}

std::vector<std::string> CaptureOf(const Topology& topology, const FleetHost& host) {
  if (!host.filter.empty()) return {"-i", host.device, "-f", host.filter};
  std::set<uint16_t> ports;
  for (const FleetHost& each : topology.hosts) ports.insert(each.ports.begin(), each.ports.end());
  if (ports.empty()) return {"-i", host.device};
  std::string list;
  for (const uint16_t port : ports) list += (list.empty() ? "" : ",") + std::to_string(port);
  return {"-i", host.device, "--ports", list};
}

Command WordsOn(const FleetAccess& access, const FleetOptions& options,
                const std::vector<std::string>& words) {
  Command command;
  command.timeout_s = options.timeout_s;
  std::vector<std::string> there;
  const bool sudo =
      options.sudo == "always" || (options.sudo == "auto" && !access.local && access.ssh_user != "root");
  if (sudo) there = {"sudo", "-n"};
  there.insert(there.end(), words.begin(), words.end());
  if (access.local) {
    command.argv = access.run;
    command.argv.insert(command.argv.end(), there.begin(), there.end());
    return command;
  }
  // Nobody can type a password to a hundred hosts at once.
  command.argv = {options.ssh, "-T", "-o", "BatchMode=yes"};
  if (!options.ssh_config.empty()) command.argv.insert(command.argv.end(), {"-F", options.ssh_config});
  for (const std::string& option : options.ssh_options) {
    command.argv.insert(command.argv.end(), {"-o", option});
  }
  // ssh takes what it is told first.
  for (const char* option :
       {"ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3", "LogLevel=ERROR"}) {
    command.argv.insert(command.argv.end(), {"-o", option});
  }
  if (access.ssh_port != 0) {
    command.argv.insert(command.argv.end(), {"-p", std::to_string(access.ssh_port)});
  }
  command.argv.push_back((access.ssh_user.empty() ? "" : access.ssh_user + "@") + access.ssh_host);
  command.argv.push_back(ShellWords(there));
  return command;
}

Command OnHost(const UnitPlan& unit, const FleetOptions& options, const std::string& verb,
               const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"sh", "-s", "--", verb, unit.folder};
  words.insert(words.end(), arguments.begin(), arguments.end());
  Command command = WordsOn(unit.access, options, words);
  command.input = options.state + "/host.sh";
  return command;
}

Command StatusCommand(const UnitPlan& unit, const FleetOptions& options) {
  return OnHost(unit, options, "status", {});
}

Command StopCommand(const UnitPlan& unit, const FleetOptions& options) {
  Command command =
      OnHost(unit, options, "stop", {std::to_string(options.grace_s), options.discard ? "1" : "0"});
  command.timeout_s = options.timeout_s + options.grace_s;
  return command;
}

Command UnadmitCommand(const FleetCollector& collector, const FleetOptions& options,
                       const std::string& name) {
  return WordsOn(collector.access, options,
                 {"sh", "-c", kUnadmit, "keytrail-fleet", AdmittedOf(collector, options), KeyNameOf(name)});
}

Result<FleetCollector> CompleteCollector(const Topology& topology, const FleetOptions& options) {
  FleetCollector collector = topology.collector;
  if (!collector.start) {
    if (collector.address.empty()) {
      return Error{
          "where to ship to is not said: collector: {address: …} in the inventory, or --collector HOST:PORT; "
          "with --collector-start the fleet starts one"};
    }
    if (collector.server_key.empty() || collector.admitted.empty()) {
      return Error{
          "for a collector that runs already its public key (server_key:, --server-key FILE) and its folder "
          "of "
          "admitted keys (admitted:, --admitted DIR) must be known"};
    }
    collector.address = WithScheme(collector.address);
    return collector;
  }
  if (collector.data.empty()) {
    return Error{"where the collector keeps its database is not said: data:, or --collector-data DIR"};
  }
  if (collector.address.empty()) {
    if (collector.access.local) {
      return Error{
          "which address of this machine agents can reach is not said: address:, or --collector HOST:PORT"};
    }
    const std::string& host = collector.access.ssh_host;
    const bool bare_ipv6 = host.find(':') != std::string::npos && host[0] != '[';
    collector.address = "tcp://" + (bare_ipv6 ? "[" + host + "]" : host) + ":7450";
  }
  collector.address = WithScheme(collector.address);
  if (collector.listen.empty()) {
    const size_t colon = collector.address.rfind(':');
    collector.listen = "tcp://0.0.0.0" + collector.address.substr(colon);
  }
  collector.listen = WithScheme(collector.listen);
  if (collector.program.empty()) {
    collector.program = collector.access.local && !options.collector_program.empty()
                            ? options.collector_program
                            : "keytrail-collector";
  }
  return collector;
}

Result<FleetPlan> PlanPlaces(const Topology& topology, const FleetOptions& options) {
  FleetPlan plan;
  if (topology.collector.start) plan.collector = PlaceOf(topology.collector, options);
  for (const FleetHost& host : topology.hosts) {
    UnitPlan unit = PlaceOf(host, options);
    if (unit.refused.empty()) plan.hosts.push_back(std::move(unit));
  }
  return plan;
}

Result<FleetPlan> PlanStart(const Topology& topology, const FleetOptions& options) {
  const Result<FleetCollector> collector = CompleteCollector(topology, options);
  if (!collector) return Error{collector.error()};
  FleetPlan plan;
  plan.notes = topology.notes;
  AddSetup(topology, *collector, options, plan);
  if (collector->start) {
    plan.collector = PlaceOf(*collector, options);
    AddCollectorSteps(*collector, options, *plan.collector);
  }
  for (const FleetHost& host : topology.hosts) {
    UnitPlan unit = PlaceOf(host, options);
    unit.about = About(host, CaptureOf(topology, host));
    if (unit.refused.empty()) AddAgentSteps(topology, host, *collector, options, unit);
    plan.hosts.push_back(std::move(unit));
  }
  return plan;
}

std::string PlanText(const FleetPlan& plan, const FleetOptions& options) {
  std::string text =
      "#!/bin/sh\n# keytrail fleet start of " + options.file + ": " + std::to_string(plan.hosts.size()) +
      (plan.hosts.size() == 1 ? " host" : " hosts") + "; agents end after " + Seconds(options.duration_s) +
      ", or when the collector took nothing for " + Seconds(options.give_up_after_s) + "\nset -eu\n";
  for (const std::string& note : plan.notes) text += "# note: " + note + "\n";
  const auto add = [&](const std::vector<Step>& steps) {
    for (const Step& step : steps) {
      text += ShellLine(step.command) + (step.why.empty() ? "" : "  # " + step.why) + "\n";
    }
  };
  text += "\n# on this machine\n";
  add(plan.setup);
  const auto add_unit = [&](const UnitPlan& unit, const std::string& what) {
    text += "\n# " + what + (unit.about.empty() ? "" : ": " + unit.about) + "\n";
    if (!unit.refused.empty()) text += "# left out: " + unit.refused + "\n";
    add(unit.steps);
  };
  if (plan.collector) add_unit(*plan.collector, "the collector, on " + plan.collector->address);
  for (const UnitPlan& unit : plan.hosts) add_unit(unit, "host " + unit.name);
  return text;
}

}  // namespace keytrail
