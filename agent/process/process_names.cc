#include "agent/process/process_names.h"

#include <linux/netlink.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/limits.h"

namespace keytrail {

namespace {

// The other process. It says first whether it sees the processes of all users.
[[noreturn]] void BeLookup(int socket_of_parent, const Account& account) {
  constexpr int kSocket = 3;
  if (socket_of_parent != kSocket) dup2(socket_of_parent, kSocket);
  (void)close_range(kSocket + 1, ~0u, 0);
  // A terminal's Ctrl-C is for the agent; this one ends with it, when the socket does.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGQUIT}) std::signal(signal, SIG_IGN);
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  (void)prctl(PR_SET_NAME, "keytrail-lookup");
  const int diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  const Result<bool> confined = ConfineLookup(account);
  if (diag < 0 || !confined.ok()) _exit(1);
  const uint8_t sees_all = *confined ? 1 : 0;
  if (send(kSocket, &sees_all, 1, MSG_NOSIGNAL) == 1) ServeLookups(kSocket, diag);
  _exit(0);
}

}  // namespace

Result<std::unique_ptr<ProcessNames>> ProcessNames::Start(const Account& account) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return Error{std::strerror(errno)};
  const pid_t child = fork();
  if (child < 0) {
    const int error = errno;
    close(pair[0]);
    close(pair[1]);
    return Error{std::strerror(error)};
  }
  if (child == 0) BeLookup(pair[1], account);
  close(pair[1]);
  std::unique_ptr<ProcessNames> names(new ProcessNames(pair[0], child));
  uint8_t sees_all = 0;
  ssize_t got = 0;
  do {
    got = recv(pair[0], &sees_all, 1, 0);
  } while (got < 0 && errno == EINTR);
  if (got != 1) return Error{"the process that would look for them cannot give up its rights"};
  names->sees_all_ = sees_all != 0;
  return names;
}

ProcessNames::~ProcessNames() {
  close(socket_);
  (void)kill(child_, SIGKILL);
  (void)waitpid(child_, nullptr, 0);
}

void ProcessNames::Ask(uint64_t connection, Ends& ends) {
  while (ends.asked < 2) {
    const bool second = ends.asked == 1;
    const ProcessQuestion question{connection << 1 | (second ? 1 : 0), second ? ends.second : ends.first,
                                   second ? ends.first : ends.second};
    // Too many at once: at the next call.
    if (send(socket_, &question, sizeof question, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof question) return;
    ++ends.asked;
  }
}

void ProcessNames::Fill(CallRecord& call) {
  if (connections_.size() >= limits::kMaxNamedConnections && !connections_.contains(call.connection)) {
    connections_.clear();
  }
  const auto [place, added] = connections_.try_emplace(call.connection);
  Ends& ends = place->second;
  if (added) {
    ends.first = call.client;
    ends.second = call.server;
  }
  if (ends.asked < 2) Ask(call.connection, ends);
  const bool swapped = ends.first != call.client;  // who is the client was learned later
  call.client_process = ends.processes[swapped ? 1 : 0];
  call.server_process = ends.processes[swapped ? 0 : 1];
}

void ProcessNames::Attend(const std::function<void(const Endpoint&, const ProcessName&)>& tell) {
  ProcessAnswer answer;
  while (recv(socket_, &answer, sizeof answer, MSG_DONTWAIT) == sizeof answer) {
    const auto place = connections_.find(answer.id >> 1);
    if (place == connections_.end() || !answer.process.known()) continue;
    const size_t end = answer.id & 1;
    place->second.processes[end] = answer.process;
    tell(end == 0 ? place->second.first : place->second.second, answer.process);
  }
}

}  // namespace keytrail
