#include "common/confinement.h"

#include <cap-ng.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/descriptor.h"

namespace keytrail {
namespace {

// The sanitizers' search for leaks attaches to the process and starts another: neither would be left.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr std::string_view kOwnAccount = "keytrail";
constexpr std::string_view kNobody = "nobody";

std::string Errno(int error) {
  return std::strerror(error);
}

// NSS answers of one account fit a few KiB; those of a large directory are asked for again with more room.
template <typename Lookup>
bool FindAccount(const Lookup& lookup, Account& account) {
  std::vector<char> room(4096);
  for (;;) {
    passwd entry{};
    passwd* found = nullptr;
    const int error = lookup(entry, room, found);
    if (error == ERANGE && room.size() < (1u << 20)) {
      room.resize(room.size() * 2);
      continue;
    }
    if (found == nullptr) return false;
    account = {entry.pw_name, entry.pw_uid, entry.pw_gid};
    return true;
  }
}

bool AccountByName(const std::string& name, Account& account) {
  return FindAccount(
      [&](passwd& entry, std::vector<char>& room, passwd*& found) {
        return getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
      },
      account);
}

bool AccountById(uid_t uid, Account& account) {
  return FindAccount(
      [&](passwd& entry, std::vector<char>& room, passwd*& found) {
        return getpwuid_r(uid, &entry, room.data(), room.size(), &found);
      },
      account);
}

Account OwnAccount() {
  Account own;
  if (!AccountById(geteuid(), own)) own = {std::to_string(geteuid()), geteuid(), getegid()};
  own.gid = getegid();
  return own;
}

bool OneThread() {
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(opendir("/proc/self/task"), closedir);
  if (tasks == nullptr) return false;
  int threads = 0;
  while (const dirent* entry = readdir(tasks.get())) threads += entry->d_name[0] != '.' ? 1 : 0;
  return threads == 1;
}

// `kept`: capabilities that it goes on with.
Status TakeOn(const Account& account, const std::vector<unsigned>& kept = {}) {
  capng_get_caps_process();
  const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned capability : kept) {
    (void)capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), capability);
  }
  if (geteuid() != account.uid) {
    const int changed =
        capng_change_id(static_cast<int>(account.uid), static_cast<int>(account.gid),
                        static_cast<capng_flags_t>(CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING));
    if (changed != 0) {
      return Error{"cannot become the user '" + account.name + "' (step " + std::to_string(changed) +
                   " of libcap-ng failed; in a container this needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP); "
                   "--user root stays root, without its capabilities"};
    }
  } else if (capng_apply(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) != 0) {
    return Error{"cannot give up the capabilities of user '" + account.name + "': " + Errno(errno)};
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    return Error{"cannot give up ambient capabilities: " + Errno(errno)};
  }
  if (geteuid() != account.uid || getuid() != account.uid) {
    return Error{"runs as user " + std::to_string(geteuid()) + " although '" + account.name + "' was wanted"};
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Error{"cannot forbid new privileges: " + Errno(errno)};
  }
  return Done{};
}

// Keys of the database are in the memory of these programs.
void ForbidDumps() {
  const rlimit none{0, 0};
  (void)setrlimit(RLIMIT_CORE, &none);
  if (!kSanitized) (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

Status CheckWritable(const Writable& writable, const Account& account) {
  if (faccessat(AT_FDCWD, writable.folder.c_str(), W_OK | X_OK, AT_EACCESS) == 0) return Done{};
  const int error = errno;
  // A disk that takes no writes for now is met later, by those who can wait for it.
  if (error == EROFS) return Done{};
  struct stat status {};
  Account owner;
  std::string whose;
  if (stat(writable.folder.c_str(), &status) == 0) {
    whose = AccountById(status.st_uid, owner) ? owner.name : std::to_string(status.st_uid);
    whose = ", it belongs to '" + whose + "'";
  }
  return Error{"the folder '" + writable.folder + "' cannot be written by user '" + account.name +
               "': " + Errno(error) + whose + "; chown -R " + account.name +
               " it (those above it must let it through), "
               "or choose another with --user"};
}

// Landlock ------------------------------------------------------------------------------------------------

// Not in Debian 12's header: ABI 3.
constexpr uint64_t kTruncate = 1ull << 14;

constexpr uint64_t kWrites = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                             LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                             LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK;
constexpr uint64_t kNeverDone = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                                LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                                LANDLOCK_ACCESS_FS_MAKE_SYM;

bool Allow(int rules, const std::string& path, uint64_t access) {
  const Descriptor place(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (place.get() < 0) return false;
  landlock_path_beneath_attr rule{};
  rule.allowed_access = access;
  rule.parent_fd = place.get();
  return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

// Empty, or why not. Reading stays as the user's own rights are: name services, time zones and certificates
// are read late, from places that differ by system.
std::string RestrictFiles(const std::vector<Writable>& writable) {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1) return "the kernel has no Landlock (" + Errno(errno) + ")";
  const uint64_t truncate = abi >= 3 ? kTruncate : 0;
  const uint64_t refer = abi >= 2 ? static_cast<uint64_t>(LANDLOCK_ACCESS_FS_REFER) : 0;
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs = kWrites | kNeverDone | truncate | refer;
  const Descriptor rules(static_cast<int>(
      syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes.handled_access_fs, 0)));
  if (rules.get() < 0) return "Landlock refuses rules (" + Errno(errno) + ")";
  for (const Writable& place : writable) {
    const uint64_t access =
        place.sockets_only
            ? static_cast<uint64_t>(LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
            : kWrites | truncate | refer;
    if (!Allow(rules.get(), place.folder, access)) {
      return "Landlock refuses '" + place.folder + "' (" + Errno(errno) + ")";
    }
  }
  // What libraries open to write nothing into; nothing is lost where it is missing.
  (void)Allow(rules.get(), "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE | truncate);
  if (syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0) {
    return "Landlock refuses to begin (" + Errno(errno) + ")";
  }
  return {};
}

// seccomp -------------------------------------------------------------------------------------------------

// Calls that change the machine, other processes, or what this one may do. A list of what is allowed would
// have to follow each release of glibc, gRPC and SQLite.
constexpr std::array kForbidden = {
    "execve",
    "execveat",
    "fork",
    "vfork",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "pidfd_getfd",
    "kcmp",
    "mount",
    "umount2",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "pivot_root",
    "chroot",
    "setns",
    "unshare",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "swapon",
    "swapoff",
    "reboot",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "stime",
    "sethostname",
    "setdomainname",
    "iopl",
    "ioperm",
    "acct",
    "quotactl",
    "quotactl_fd",
    "lookup_dcookie",
    "open_by_handle_at",
    "syslog",
    "vhangup",
    "personality",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "capset",
    "mknod",
    "mknodat",
};

std::string RestrictCalls() {
  if (kSanitized) return "built with a sanitizer, which needs calls that seccomp would forbid";
  const std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, void (*)(scmp_filter_ctx)> filter(
      seccomp_init(SCMP_ACT_ALLOW), seccomp_release);
  if (filter == nullptr) return "libseccomp does not begin";
  const auto forbid = [&](const char* name, int error, const std::vector<scmp_arg_cmp>& when) {
    const int call = seccomp_syscall_resolve_name(name);
    if (call == __NR_SCMP_ERROR) return true;  // not of this architecture or release
    return seccomp_rule_add_array(filter.get(), SCMP_ACT_ERRNO(static_cast<uint32_t>(error)), call,
                                  static_cast<unsigned>(when.size()), when.data()) == 0;
  };
  bool all = true;
  for (const char* name : kForbidden) all = forbid(name, EPERM, {}) && all;
  // Threads may be made, processes not. clone3 keeps its flags in memory, where no filter sees them; glibc
  // takes clone where there is no clone3.
  all = forbid("clone3", ENOSYS, {}) && all;
  all = forbid("clone", EPERM, {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0)}) && all;
  // Sockets of the families that ZeroMQ, gRPC and name services use (netlink tells them of addresses).
  for (int family = AF_INET + 1; family < AF_NETLINK; ++family) {
    if (family == AF_INET6) continue;
    all = forbid("socket", EPERM, {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(family))}) && all;
  }
  all = forbid("socket", EPERM, {SCMP_A0(SCMP_CMP_GT, AF_NETLINK)}) && all;
  if (!all) return "libseccomp refuses a rule";
  const int loaded = seccomp_load(filter.get());
  return loaded == 0 ? std::string() : "the kernel refuses seccomp (" + Errno(-loaded) + ")";
}

std::string RestrictLookupCalls() {
  if (kSanitized) return {};
  const std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, void (*)(scmp_filter_ctx)> filter(
      seccomp_init(SCMP_ACT_ERRNO(EPERM)), seccomp_release);
  if (filter == nullptr) return "libseccomp does not begin";
  bool all = true;
  for (const char* name :
       {"read",      "close",        "recvfrom",       "recvmsg",         "sendto",        "sendmsg",
        "write",     "getdents64",   "readlink",       "readlinkat",      "fstat",         "newfstatat",
        "fcntl",     "lseek",        "poll",           "ppoll",           "clock_gettime", "clock_nanosleep",
        "nanosleep", "brk",          "mmap",           "munmap",          "mremap",        "madvise",
        "futex",     "rt_sigreturn", "rt_sigprocmask", "restart_syscall", "exit",          "exit_group",
        "getpid",    "gettid"}) {
    const int call = seccomp_syscall_resolve_name(name);
    if (call == __NR_SCMP_ERROR) continue;
    all = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0) == 0 && all;
  }
  all = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, seccomp_syscall_resolve_name("openat"), 1,
                         SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)) == 0 &&
        all;
  if (!all) return "libseccomp refuses a rule";
  const int loaded = seccomp_load(filter.get());
  return loaded == 0 ? std::string() : "the kernel refuses seccomp (" + Errno(-loaded) + ")";
}

}  // namespace

Result<bool> ConfineLookup(const Account& account) {
  if (!OneThread()) return Error{"cannot give up rights: there are threads already, or no /proc"};
  const std::vector<unsigned> needed = {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};
  capng_get_caps_process();
  bool able = true;
  for (const unsigned capability : needed)
    able = able && capng_have_capability(CAPNG_PERMITTED, capability) != 0;
  const Status taken = TakeOn(account, able ? needed : std::vector<unsigned>());
  if (!taken.ok()) return Error{taken.error()};
  ForbidDumps();
  // No Landlock: within it the kernel lets nobody look at processes outside of it. What is opened for reading
  // alone, and the calls that are left, do the same.
  const std::string calls = RestrictLookupCalls();
  // With these two capabilities nothing less will do.
  if (able && !calls.empty()) return Error{calls};
  return able;
}

Result<Account> AccountToBecome(const std::string& wanted) {
  const bool root = geteuid() == 0;
  Account account;
  if (wanted.empty()) {
    if (!root) return OwnAccount();
    if (AccountByName(std::string(kOwnAccount), account) || AccountByName(std::string(kNobody), account)) {
      return account;
    }
    return Error{"runs as root, and there is no user 'keytrail' or 'nobody' to become: name one with --user"};
  }
  uid_t uid = 0;
  const char* const end = wanted.data() + wanted.size();
  const auto [stop, failure] = std::from_chars(wanted.data(), end, uid);
  const bool number = failure == std::errc() && stop == end;
  if (!AccountByName(wanted, account)) {
    if (!number || !AccountById(uid, account)) return Error{"there is no user '" + wanted + "'"};
  }
  if (!root && account.uid != geteuid()) {
    return Error{"only root can become the user '" + wanted + "'"};
  }
  return account;
}

Status MakeFolderFor(const std::string& folder, const Account& account) {
  std::error_code error;
  if (std::filesystem::exists(folder, error)) return Done{};
  std::filesystem::create_directories(folder, error);
  if (error) return Error{"'" + folder + "': " + error.message()};
  if (chmod(folder.c_str(), 0700) != 0 ||
      (geteuid() == 0 && chown(folder.c_str(), account.uid, account.gid) != 0)) {
    return Error{"'" + folder + "': " + Errno(errno)};
  }
  return Done{};
}

Result<Confined> Confine(const Account& account, const std::vector<Writable>& writable) {
  if (!OneThread()) return Error{"cannot give up rights: there are threads already, or no /proc"};
  const Status taken = TakeOn(account);
  if (!taken.ok()) return Error{taken.error()};
  ForbidDumps();
  for (const Writable& place : writable) {
    const Status can = CheckWritable(place, account);
    if (!can.ok()) return Error{can.error()};
  }
  Confined confined;
  const std::string files = RestrictFiles(writable);
  const std::string calls = RestrictCalls();
  confined.landlock = files.empty();
  confined.seccomp = calls.empty();
  confined.description = "runs as '" + account.name + "' without capabilities";
  if (confined.landlock) {
    confined.description += ", writes ";
    bool first = true;
    for (const Writable& place : writable) {
      confined.description += (first ? "" : " and ") + std::string(place.sockets_only ? "sockets in " : "") +
                              "'" + place.folder + "'";
      first = false;
    }
    confined.description += first ? "no files" : " alone";
    confined.description += ", runs no programs";
  } else {
    confined.description += "; " + files;
  }
  if (!confined.seccomp) confined.description += "; " + calls;
  return confined;
}

}  // namespace keytrail
