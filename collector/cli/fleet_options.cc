#include "collector/cli/fleet_options.h"

#include <charconv>
#include <climits>
#include <filesystem>
#include <optional>

#include "collector/cli/time_argument.h"
#include "common/limits.h"
#include "common/version.h"
#include "common/whole_file.h"

namespace keytrail {

namespace {

struct PlaceOption {
  const char* name;
  const char* type;
  const char* help;
};

const PlaceOption kPlaces[] = {
    {"dir", "DIR", "Above the folder keytrail-fleet-NAME of each host (/var/lib if not given)"},
    {"sudo", "WHEN", "Run commands with sudo -n: auto (over ssh, unless as root), always, never"},
    {"ssh-config", "FILE", "Give this to ssh as -F"},
    {"collector", "ADDR", "What agents connect to: HOST:PORT"},
    {"collector-ssh", "[USER@]HOST[:PORT]", "The collector's host, if it is not this machine"},
    {"collector-data", "DIR", "Where a started collector keeps its database; it stays"},
    {"collector-listen", "ADDR", "Where a started collector listens (0.0.0.0 and the port of --collector)"},
    {"collector-query", "ADDR", "Where it answers queries (127.0.0.1:7451 if not given)"},
    {"collector-program", "FILE", "keytrail-collector on its host"},
    {"server-key", "FILE", "The public key of a collector that runs already (collector.pub)"},
    {"admitted", "DIR", "Its folder of admitted keys, on its host"},
};

CLI::Validator Span(int64_t& seconds) {
  return {[&seconds](std::string& text) -> std::string {
            // "1h" is no span of a timeline, and is one of a fleet.
            std::optional<int64_t> ns = ParseSpanArgument(text);
            if (text.size() > 1 && text.back() == 'h') {
              int hours = 0;
              const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), hours);
              if (error == std::errc() && *end == 'h' && hours > 0 && hours <= 24 * 31) {
                ns = int64_t{hours} * 3600 * 1'000'000'000;
              }
            }
            if (!ns || *ns < 1'000'000'000) return "'" + text + "' is no time such as 90s, 10m or 2h";
            seconds = *ns / 1'000'000'000;
            return "";
          },
          "TIME"};
}

void AddSpan(CLI::App& command, const std::string& name, int64_t& seconds, const std::string& help) {
  command.add_option(name, help)->check(Span(seconds))->type_name("TIME");
}

void AddSpan(CLI::App& command, const std::string& name, int& seconds, const std::string& help) {
  command
      .add_option_function<std::string>(
          name,
          [&seconds, name](const std::string& text) {
            int64_t wide = 0;
            std::string copy = text;
            const std::string wrong = Span(wide)(copy);
            if (!wrong.empty() || wide > 86400) {
              throw CLI::ValidationError(name, "'" + text + "' is no time such as 90s, 10m or 2h");
            }
            seconds = static_cast<int>(wide);
          },
          help)
      ->type_name("TIME");
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

std::string ProgramFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

std::string FileIfThere(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) ? path : std::string();
}

// [USER@]HOST[:PORT], the host in brackets if it is an IPv6 address.
Result<FleetAccess> AccessOf(const std::string& text) {
  FleetAccess access;
  std::string rest = text;
  if (const size_t at = rest.find('@'); at != std::string::npos) {
    access.ssh_user = rest.substr(0, at);
    rest = rest.substr(at + 1);
  }
  const size_t colon = rest.rfind(':');
  if (colon != std::string::npos && (rest.find(':') == colon || (colon > 0 && rest[colon - 1] == ']'))) {
    const std::string port = rest.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), access.ssh_port);
    if (error != std::errc() || end != port.data() + port.size() || access.ssh_port < 1 ||
        access.ssh_port > 65535) {
      return Error{"--collector-ssh '" + text + "': '" + port + "' is no port"};
    }
    rest = rest.substr(0, colon);
  }
  if (rest.size() > 2 && rest.front() == '[' && rest.back() == ']') rest = rest.substr(1, rest.size() - 2);
  access.ssh_host = rest;
  if (!IsHostWord(rest) || (!access.ssh_user.empty() && !IsUserWord(access.ssh_user))) {
    return Error{"--collector-ssh '" + text + "' is no [USER@]HOST[:PORT]"};
  }
  return access;
}

Status TakeCollector(const FleetArguments& arguments, FleetCollector& collector) {
  const auto take = [&](const char* option, std::string& to) {
    const auto found = arguments.places.find(option);
    if (found != arguments.places.end()) to = found->second;
  };
  take("collector", collector.address);
  take("collector-data", collector.data);
  take("collector-listen", collector.listen);
  take("collector-query", collector.query);
  take("collector-program", collector.program);
  take("server-key", collector.server_key);
  take("admitted", collector.admitted);
  if (arguments.collector_start) collector.start = true;
  for (const std::string* folder : {&collector.data, &collector.admitted}) {
    if (!folder->empty() && (*folder)[0] != '/') return Error{"'" + *folder + "' must begin with '/'"};
  }
  const auto ssh = arguments.places.find("collector-ssh");
  if (ssh == arguments.places.end()) return Done{};
  const Result<FleetAccess> access = AccessOf(ssh->second);
  if (!access) return Error{access.error()};
  collector.access = *access;
  return Done{};
}

}  // namespace

void AddFleetOptions(CLI::App& command, FleetArguments& arguments) {
  FleetOptions& options = arguments.options;
  command
      .add_option("FILE", options.file,
                  "A TiUP topology (or meta.yaml), or an inventory of hosts: docs/fleet.md")
      ->required();
  command
      .add_option("--state", arguments.state, "Where keys are kept meanwhile (FILE.keytrail if not given)")
      ->type_name("DIR");
  for (const PlaceOption& place : kPlaces) {
    const std::string name = place.name;
    command
        .add_option_function<std::string>(
            "--" + name, [&arguments, name](const std::string& value) { arguments.places[name] = value; },
            place.help)
        ->type_name(place.type);
  }
  command.add_flag(
      "--collector-start", arguments.collector_start,
      "The fleet starts the collector, and stops it, too; on this machine unless --collector-ssh");
  command.add_option("--ssh-option", arguments.ssh_options, "Give this to ssh as -o; may be repeated")
      ->type_name("NAME=VALUE");
  command.add_option("--jobs", options.jobs, "So many hosts at a time")
      ->type_name("N")
      ->check(CLI::Range(1, limits::kMaxFleetJobs))
      ->capture_default_str();
  AddSpan(command, "--timeout", options.timeout_s, "For each command on a host (60s)");
}

void AddStartOptions(CLI::App& command, FleetArguments& arguments) {
  FleetOptions& options = arguments.options;
  AddSpan(command, "--duration", options.duration_s, "Agents end after this time (30m)");
  AddSpan(command, "--give-up-after", options.give_up_after_s,
          "... or when the collector has taken nothing for so long (10m)");
  AddSpan(command, "--linger", options.linger_s, "A started collector ends so long behind the agents (10m)");
  options.spool_bytes = 256u << 20;
  command
      .add_option("--spool-bytes", options.spool_bytes,
                  "Disk that an agent may take for what the collector has not yet, e.g. 1GiB (256MiB)")
      ->type_name("N")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(limits::kMinSpoolBytes, limits::kMaxSpoolBytes));
  command.add_option("--agent-archive", options.archive, "keytrail-agent-VERSION-x86_64.tar.gz")
      ->type_name("FILE");
  command
      .add_option(
          "--agent-option", options.agent_options,
          "Give this word to keytrail-agent as well, e.g. --agent-option=--cpu-limit --agent-option=50")
      ->type_name("WORD");
  command
      .add_option("--redact-secret", options.redact_secret,
                  "Keys leave the hosts as tokens of this secret (keytrail keys secret)")
      ->type_name("FILE");
  command.add_flag("--leave-nothing", options.leave_nothing,
                   "Hosts keep neither log nor unshipped records when an agent has ended");
  command.add_flag("--replace", options.replace, "End what an earlier start left running with other options");
}

std::string StatePathOf(const FleetArguments& arguments) {
  return Absolute(arguments.state.empty() ? arguments.options.file + ".keytrail" : arguments.state);
}

Result<Topology> ReadFleet(FleetArguments& arguments, const std::map<std::string, std::string>& saved) {
  FleetOptions& options = arguments.options;
  const bool ssh_options_given = !arguments.ssh_options.empty();
  for (const auto& [name, value] : saved) {
    if (name == "collector-start") {
      arguments.collector_start = true;
    } else if (name.rfind("ssh-option.", 0) != 0) {
      arguments.places.emplace(name, value);
    } else if (!ssh_options_given) {
      arguments.ssh_options.push_back(value);
    }
  }
  for (const auto& [name, value] : arguments.places) {
    if (value.find('\n') != std::string::npos) return Error{"--" + name + " has a line break"};
    if (name == "dir") options.dir = value;
    if (name == "sudo") options.sudo = value;
    if (name == "ssh-config") options.ssh_config = Absolute(value);
  }
  if (options.dir.empty() || options.dir[0] != '/')
    return Error{"--dir '" + options.dir + "' must begin with '/'"};
  if (options.sudo != "auto" && options.sudo != "always" && options.sudo != "never") {
    return Error{"--sudo '" + options.sudo + "' is neither auto nor always nor never"};
  }
  for (const std::string& option : arguments.ssh_options) {
    if (option.find('\n') != std::string::npos) return Error{"--ssh-option has a line break"};
  }
  options.ssh_options = arguments.ssh_options;
  options.state = StatePathOf(arguments);
  const std::string folder = ProgramFolder();
  options.keytrail = folder + "/keytrail";
  options.agent_program = folder + "/keytrail-agent";
  options.collector_program = FileIfThere(folder + "/keytrail-collector");
  if (!options.redact_secret.empty()) options.redact_secret = Absolute(options.redact_secret);
  if (options.into.empty()) options.into = options.file + ".collected";
  options.into = Absolute(options.into);
  const Result<std::string> text = ReadWholeFile(options.file, limits::kMaxTopologyBytes, FileTrust::kAny);
  if (!text) return Error{text.error()};
  Result<Topology> topology = ReadTopology(*text, options.file);
  if (!topology) return topology;
  const Status collector = TakeCollector(arguments, topology->collector);
  if (!collector.ok()) return Error{collector.error()};
  std::string& server_key = topology->collector.server_key;
  if (!server_key.empty()) server_key = Absolute(server_key);
  return topology;
}

std::map<std::string, std::string> OptionsToSave(const FleetArguments& arguments) {
  std::map<std::string, std::string> saved = arguments.places;
  // Another command may be typed elsewhere.
  for (const char* file : {"ssh-config", "server-key"}) {
    if (const auto at = saved.find(file); at != saved.end()) at->second = Absolute(at->second);
  }
  if (arguments.collector_start) saved["collector-start"] = "1";
  for (size_t i = 0; i < arguments.ssh_options.size(); ++i) {
    // In their order, which a map of names would not keep beyond ten.
    saved["ssh-option." + std::to_string(100'000 + i)] = arguments.ssh_options[i];
  }
  return saved;
}

Status FindArchive(FleetOptions& options) {
  const std::string name = std::string("keytrail-agent-") + kVersion + "-x86_64.tar.gz";
  if (options.archive.empty()) {
    const std::string folder = ProgramFolder();
    for (const char* place : {"/", "/../packages/"}) {
      options.archive = FileIfThere(folder + place + name);
      if (!options.archive.empty()) break;
    }
    if (options.archive.empty()) {
      return Error{
          "there is no " + name + " beside this program ('" + folder +
          "'); cmake --build build/release --target packages makes it, --agent-archive FILE names it"};
    }
  }
  options.archive = Absolute(options.archive);
  const Result<std::string> sum = Sha256OfFile(options.archive, options.archive_bytes);
  if (!sum) return Error{"--agent-archive: " + sum.error()};
  options.archive_sha256 = *sum;
  return Done{};
}

}  // namespace keytrail
