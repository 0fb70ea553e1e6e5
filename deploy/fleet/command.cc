#include "deploy/fleet/command.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/clock.h"
#include "common/limits.h"
#include "common/shell_word.h"

extern char** environ;

namespace keytrail {

namespace {

constexpr int kPollMs = 50;
// What it began may hold our end of the pipe open, as ssh's connection sharing does.
constexpr int64_t kDrainNs = 200'000'000;
constexpr int64_t kKillAfterNs = 2'000'000'000;

struct Pipe {
  int ends[2] = {-1, -1};
  ~Pipe() {
    Close(0);
    Close(1);
  }
  void Close(int end) {
    if (ends[end] >= 0) close(ends[end]);
    ends[end] = -1;
  }
};

// What came so far; false at the end of it.
bool Take(int descriptor, std::string& text) {
  char bytes[4096];
  for (;;) {
    const ssize_t got = read(descriptor, bytes, sizeof bytes);
    if (got == 0) return false;
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    const size_t room =
        limits::kMaxCommandOutputBytes - std::min(text.size(), limits::kMaxCommandOutputBytes);
    text.append(bytes, std::min(static_cast<size_t>(got), room));
  }
}

// Error text, or empty.
std::string Spawn(const Command& command, int out, int err, pid_t& pid) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  const std::string input = command.input.empty() ? "/dev/null" : command.input;
  posix_spawn_file_actions_addopen(&files, 0, input.c_str(), O_RDONLY, 0);
  if (command.output.empty()) {
    posix_spawn_file_actions_adddup2(&files, out, 1);
  } else {
    posix_spawn_file_actions_addopen(&files, 1, command.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  }
  posix_spawn_file_actions_adddup2(&files, err, 2);
  sigset_t none;
  sigset_t defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int signal : {SIGINT, SIGTERM, SIGPIPE, SIGHUP}) sigaddset(&defaults, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::vector<char*> argv;
  for (const std::string& word : command.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const int failed = posix_spawnp(&pid, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (failed == 0) return {};
  // The file of stdin is opened by the child as well.
  if (!command.input.empty() && access(command.input.c_str(), R_OK) != 0) {
    return "'" + command.input + "': " + std::strerror(errno);
  }
  return "'" + command.argv[0] + "': " + std::strerror(failed);
}

}  // namespace

std::string ShellWords(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + ShellWord(word);
  return line;
}

std::string ShellLine(const Command& command) {
  std::string line = ShellWords(command.argv);
  line += " <" + ShellWord(command.input.empty() ? "/dev/null" : command.input);
  if (!command.output.empty()) line += " >" + ShellWord(command.output);
  return line;
}

void Runner::Cancel() {
  ++cancels_;
}

CommandResult Runner::Run(const Command& command) {
  CommandResult result;
  Pipe out;
  Pipe err;
  if (pipe2(out.ends, O_CLOEXEC) != 0 || pipe2(err.ends, O_CLOEXEC) != 0) {
    result.failure = std::strerror(errno);
    return result;
  }
  pid_t pid = 0;
  result.failure = Spawn(command, out.ends[1], err.ends[1], pid);
  if (!result.failure.empty()) return result;
  out.Close(1);
  err.Close(1);
  for (const int descriptor : {out.ends[0], err.ends[0]}) fcntl(descriptor, F_SETFL, O_NONBLOCK);
  const int64_t deadline_ns = SteadyNs() + int64_t{command.timeout_s} * 1'000'000'000;
  int64_t ended_ns = 0;
  int64_t told_to_end_ns = 0;
  int status = 0;
  while (ended_ns == 0 || ((out.ends[0] >= 0 || err.ends[0] >= 0) && SteadyNs() - ended_ns < kDrainNs)) {
    pollfd waits[2] = {{out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}};
    (void)poll(waits, 2, kPollMs);
    if (out.ends[0] >= 0 && !Take(out.ends[0], result.out)) out.Close(0);
    if (err.ends[0] >= 0 && !Take(err.ends[0], result.err)) err.Close(0);
    if (ended_ns != 0) continue;
    // As long as it is not waited for, its number is no other process's.
    siginfo_t info{};
    if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == pid) {
      if (told_to_end_ns != 0) kill(-pid, SIGKILL);
      ended_ns = SteadyNs();
      while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
      }
      continue;
    }
    result.cancelled = result.cancelled || cancels_.load() > 1;
    result.timed_out = result.timed_out || (!result.cancelled && SteadyNs() > deadline_ns);
    if (!result.cancelled && !result.timed_out) continue;
    if (told_to_end_ns == 0) {
      told_to_end_ns = SteadyNs();
      kill(-pid, SIGTERM);
    } else if (SteadyNs() - told_to_end_ns > kKillAfterNs) {
      kill(-pid, SIGKILL);
    }
  }
  if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  return result;
}

}  // namespace keytrail
