// What the host leaves an agent: rights, memory, limits, a clock, and the device for itself.

#include <dirent.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

#include "agent/doctor/checks.h"
#include "common/shell_word.h"

namespace keytrail {

namespace {

// linux/capability.h: CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_RAW.
constexpr int kSetGid = 6;
constexpr int kSetUid = 7;
constexpr int kSetPcap = 8;
constexpr int kNetRaw = 13;

// An agent beside its ring: connections, streams and batches of a busy host (tests/e2e/test_memory.py has
// more).
constexpr uint64_t kWorkingBytes = 256u << 20;
// A clock that is worse than this moves statements of one host past those of another.
constexpr long kLargeErrorUs = 100'000;

std::string ReadText(const std::string& path) {
  std::ifstream in(path);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

// "CapEff:\t00000000a80425fb" of /proc/self/status; nothing if it is not there.
std::optional<uint64_t> StatusField(const std::string& status, const std::string& field) {
  const size_t at = status.find("\n" + field + ":");
  if (at == std::string::npos) return std::nullopt;
  return std::strtoull(status.c_str() + at + field.size() + 2, nullptr, 16);
}

bool Has(uint64_t capabilities, int which) {
  return (capabilities >> which & 1) != 0;
}

// VFS_CAP_REVISION_2 and 3 (capabilities(7)): the permitted set begins at the fifth byte, little-endian.
bool FileHasNetRaw(const std::string& program) {
  std::array<unsigned char, 32> value{};
  const ssize_t size = getxattr(program.c_str(), "security.capability", value.data(), value.size());
  return size >= 8 && (value[4 + kNetRaw / 8] >> (kNetRaw % 8) & 1) != 0;
}

void ToldNoNetRaw(const std::string& status, CheckList& list) {
  Check check{"privileges", CheckLevel::kFault, {}, {}, {}};
  const std::string program = OwnProgram();
  const uint64_t bounding = StatusField(status, "CapBnd").value_or(~uint64_t{0});
  const bool frozen = StatusField(status, "NoNewPrivs").value_or(0) != 0;
  check.found =
      "this process has no CAP_NET_RAW (user " + std::to_string(geteuid()) + "), so it cannot capture";
  if (!Has(bounding, kNetRaw)) {
    check.found += ", and may not get it: it is not in the bounding set";
    check.fix = geteuid() == 0
                    ? "whoever starts this container or unit must leave it: docker run --cap-add NET_RAW, "
                      "securityContext.capabilities.add: [NET_RAW] in Kubernetes, "
                      "CapabilityBoundingSet=CAP_NET_RAW in a unit"
                    : "in the unit or container that starts it: CAP_NET_RAW in the bounding set "
                      "(CapabilityBoundingSet=, --cap-add NET_RAW)";
  } else if (FileHasNetRaw(program)) {
    check.found += frozen
                       ? "; its file has the capability, which NoNewPrivileges makes void"
                       : "; its file has the capability, which the mount of its folder makes void (nosuid)";
    check.fix = "start it as root, or with AmbientCapabilities=CAP_NET_RAW in a unit";
  } else {
    check.command = "setcap cap_net_raw+ep " + ShellWord(program);
    check.fix = "or start it as root, or from the unit of the package, which gives it this capability";
  }
  list.Add(check);
}

uint64_t MeminfoKib(const std::string& text, const std::string& field) {
  const size_t at = text.find(field + ":");
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + field.size() + 1, nullptr, 10);
}

// What the own cgroup leaves: both kinds of hierarchy, as they are mounted as a rule. Nothing: no limit, or
// not known.
std::optional<uint64_t> CgroupLeaves() {
  std::istringstream lines(ReadText("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && controllers != "memory") continue;
    const std::string folder =
        (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") + line.substr(second + 1) + "/";
    const std::string limit = ReadText(folder + (v2 ? "memory.max" : "memory.limit_in_bytes"));
    const std::string used = ReadText(folder + (v2 ? "memory.current" : "memory.usage_in_bytes"));
    if (limit.empty() || used.empty() || limit[0] == 'm') continue;
    const uint64_t most = std::strtoull(limit.c_str(), nullptr, 10);
    const uint64_t now = std::strtoull(used.c_str(), nullptr, 10);
    if (most < (uint64_t{1} << 50)) return most > now ? most - now : 0;
  }
  return std::nullopt;
}

void CheckLimits(const DoctorOptions& options, CheckList& list) {
  rlimit time{};
  if (getrlimit(RLIMIT_CPU, &time) == 0 && time.rlim_cur != RLIM_INFINITY) {
    list.Add(
        {"limits",
         CheckLevel::kWarning,
         "the kernel ends the agent after " + std::to_string(time.rlim_cur) + " s of CPU time (ulimit -t)",
         {},
         "start it from a session without that limit (LimitCPU=infinity in a unit, ulimit -t unlimited), or "
         "let "
         "it read less: --cpu-limit PERCENT"});
  }
  rlimit space{};
  const uint64_t wanted = options.ring_bytes + 4 * kWorkingBytes;
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY && space.rlim_cur < wanted) {
    list.Add(
        {"limits",
         CheckLevel::kWarning,
         "its address space is bounded to " + SizeText(space.rlim_cur) + " (ulimit -v)",
         {},
         "start it from a session without that limit (LimitAS=infinity in a unit, ulimit -v unlimited)"});
  }
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 64) {
    list.Add({"limits",
              CheckLevel::kWarning,
              "it may have " + std::to_string(files.rlim_cur) + " files open (ulimit -n); it has about 30",
              {},
              "start it from a session with more (LimitNOFILE=1024 in a unit, ulimit -n 1024)"});
  }
  if (list.fine("limits")) list.Ok("limits", "no limit of CPU time, address space or files is in the way");
}

// The devices that `keytrail-agent -i DEV` names; none: it does not capture.
std::vector<std::string> DevicesOf(const std::string& command_line) {
  std::vector<std::string> words;
  for (size_t at = 0; at < command_line.size();) {
    const size_t end = std::min(command_line.find('\0', at), command_line.size());
    words.push_back(command_line.substr(at, end - at));
    at = end + 1;
  }
  std::string named;  // with a comma behind each
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "--doctor") return {};
    if (words[i] == "-i" && i + 1 < words.size()) named += words[i + 1] + ",";
    if (words[i].starts_with("-i") && words[i].size() > 2) named += words[i].substr(2) + ",";
  }
  std::vector<std::string> devices;
  for (size_t at = 0; at < named.size();) {
    const size_t end = named.find(',', at);
    if (end != at) devices.push_back(named.substr(at, end - at));
    at = end + 1;
  }
  return devices;
}

// A device that both capture; empty: none.
std::string Common(const std::vector<std::string>& ours, const std::vector<std::string>& theirs) {
  for (const std::string& own : ours) {
    for (const std::string& other : theirs) {
      if (own == other || own == "any" || other == "any") return other;
    }
  }
  return {};
}

std::string Network(const std::string& process) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/" + process + "/ns/net", error).string();
}

}  // namespace

std::string OwnProgram() {
  std::error_code error;
  const std::string path = std::filesystem::read_symlink("/proc/self/exe", error).string();
  return error || path.empty() ? "keytrail-agent" : path;
}

std::string SizeText(uint64_t bytes) {
  const std::pair<uint64_t, const char*> units[] = {
      {uint64_t{1} << 30, "GiB"}, {1u << 20, "MiB"}, {1u << 10, "KiB"}};
  for (const auto& [unit, name] : units) {
    if (bytes < unit) continue;
    char text[32];
    std::snprintf(text, sizeof text, bytes % unit == 0 || bytes >= 100 * unit ? "%.0f %s" : "%.1f %s",
                  static_cast<double>(bytes) / static_cast<double>(unit), name);
    return text;
  }
  return std::to_string(bytes) + " bytes";
}

std::optional<Account> CheckPrivileges(const DoctorOptions& options, CheckList& list) {
  // The first line has no line end before it.
  const std::string status = "\n" + ReadText("/proc/self/status");
  const uint64_t effective = StatusField(status, "CapEff").value_or(0);
  if (!Has(effective, kNetRaw)) ToldNoNetRaw(status, list);
  const Result<Account> account = AccountToBecome(options.user);
  if (!account) {
    list.Add({"privileges",
              CheckLevel::kFault,
              account.error(),
              {},
              geteuid() == 0
                  ? "name an account of this host with --user; useradd --system --user-group keytrail makes "
                    "the one that is taken by itself"
                  : "start it as root, or without --user"});
    return std::nullopt;
  }
  const bool changes = account->uid != geteuid();
  for (const auto& [which, name] :
       {std::pair{kSetUid, "CAP_SETUID"}, {kSetGid, "CAP_SETGID"}, {kSetPcap, "CAP_SETPCAP"}}) {
    if (!changes || Has(effective, which)) continue;
    list.Add({"privileges",
              CheckLevel::kFault,
              std::string("root has no ") + name + " here, so it cannot become '" + account->name + "'",
              {},
              "leave it this capability (docker run --cap-add, CapabilityBoundingSet= of a unit), or start "
              "it with "
              "--user root, which stays root without its capabilities"});
  }
  if (list.fine("privileges")) {
    list.Ok("privileges",
            "CAP_NET_RAW is effective; once the device is open it goes on as '" + account->name + "'");
  }
  return *account;
}

void CheckMemory(const DoctorOptions& options, CheckList& list) {
  const uint64_t wanted = options.ring_bytes + kWorkingBytes;
  uint64_t left = MeminfoKib(ReadText("/proc/meminfo"), "MemAvailable") << 10;
  std::string whose = "the host has ";
  const std::optional<uint64_t> cgroup = CgroupLeaves();
  if (cgroup && (left == 0 || *cgroup < left)) {
    left = *cgroup;
    whose = "its cgroup leaves ";
  }
  if (left == 0) {
    list.NotChecked("memory", "neither /proc/meminfo nor the cgroup says what is free");
  } else if (left < wanted) {
    list.Add({"memory",
              CheckLevel::kWarning,
              whose + SizeText(left) + " of memory; the ring takes " + SizeText(options.ring_bytes) +
                  ", a busy agent up to " + SizeText(kWorkingBytes) + " more",
              {},
              "free memory or raise the limit (MemoryMax= of the unit, limits.memory in Kubernetes), or let "
              "it read "
              "less: --memory-limit " +
                  std::to_string((left / 2) >> 20) + "MiB"});
  } else {
    list.Ok("memory", whose + SizeText(left) + " free; " + SizeText(wanted) + " are enough");
  }
  CheckLimits(options, list);
}

void CheckClock(CheckList& list) {
  timex now{};
  const int state = adjtimex(&now);
  if (state < 0) return list.NotChecked("clock", std::string("adjtimex: ") + std::strerror(errno));
  const bool synchronised = state != TIME_ERROR && (now.status & STA_UNSYNC) == 0;
  char error[64];
  std::snprintf(error, sizeof error, "%.3f ms", static_cast<double>(now.maxerror) / 1000);
  constexpr const char* kCommand = "timedatectl set-ntp true";
  constexpr const char* kWords =
      "or another time service (chronyd); in a container on its host. Verdicts compare the clocks of hosts: "
      "what the "
      "traffic itself says of them is used, and a clock that runs away makes verdicts inferred or withheld";
  if (!synchronised) {
    list.Add({"clock", CheckLevel::kWarning,
              "the kernel says that nothing keeps this clock right (unsynchronised)", kCommand, kWords});
  } else if (now.maxerror > kLargeErrorUs) {
    list.Add({"clock", CheckLevel::kWarning,
              std::string("the clock is kept right, but may be wrong by ") + error, kCommand, kWords});
  } else {
    list.Ok("clock", std::string("synchronised, wrong by ") + error + " at most");
  }
}

void CheckOtherAgents(const DoctorOptions& options, CheckList& list) {
  const std::unique_ptr<DIR, int (*)(DIR*)> processes(opendir("/proc"), closedir);
  if (processes == nullptr) return list.NotChecked("agents", "there is no /proc to find other agents in");
  const std::string own_network = Network("self");
  bool hidden = false;
  while (const dirent* entry = readdir(processes.get())) {
    const std::string process = entry->d_name;
    if (process.find_first_not_of("0123456789") != std::string::npos || process == std::to_string(getpid()))
      continue;
    if (!ReadText("/proc/" + process + "/comm").starts_with("keytrail-agent")) continue;
    const std::string network = Network(process);
    // One that another user runs hides it, and the same name in another namespace is another device.
    if (network.empty()) hidden = true;
    if (network != own_network) continue;
    const std::string device = Common(options.devices, DevicesOf(ReadText("/proc/" + process + "/cmdline")));
    if (device.empty()) continue;
    list.Add({"agents", CheckLevel::kWarning,
              "process " + process + " is an agent that captures on " + device +
                  " already: a second one would ship each call again, as if of another host",
              "kill " + process,
              "if that one is not wanted; a service is stopped by systemctl stop keytrail-agent"});
  }
  if (!list.fine("agents")) return;
  list.Ok("agents",
          hidden ? "no other agent is seen to capture here; there are some of which only root sees where"
                 : "no other agent captures here");
}

}  // namespace keytrail
