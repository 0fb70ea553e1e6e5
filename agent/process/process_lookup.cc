#include "agent/process/process_lookup.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/clock.h"
#include "common/descriptor.h"

namespace keytrail {

namespace {

constexpr size_t kMostAtOnce = 256;
constexpr int64_t kGatherNs = 100'000'000;
constexpr int64_t kMostRestNs = 10'000'000'000;

using Folder = std::unique_ptr<DIR, int (*)(DIR*)>;

// The number of the connection's socket; 0: there is none here.
uint32_t Inode(int diag, const ProcessQuestion& question) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } message{};
  message.header.nlmsg_len = sizeof message;
  message.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  message.header.nlmsg_flags = NLM_F_REQUEST;
  const bool v4 = question.local.address.family == 4;
  message.request.sdiag_family = v4 ? AF_INET : AF_INET6;
  message.request.sdiag_protocol = IPPROTO_TCP;
  message.request.idiag_states = ~0u;
  inet_diag_sockid& id = message.request.id;
  id.idiag_sport = htons(question.local.port);
  id.idiag_dport = htons(question.remote.port);
  std::memcpy(id.idiag_src, question.local.address.bytes.data(), v4 ? 4 : 16);
  std::memcpy(id.idiag_dst, question.remote.address.bytes.data(), v4 ? 4 : 16);
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (send(diag, &message, sizeof message, 0) < 0) return 0;
  alignas(nlmsghdr) char buffer[8192];
  const ssize_t got = recv(diag, buffer, sizeof buffer, 0);
  if (got < static_cast<ssize_t>(sizeof(nlmsghdr))) return 0;
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg)) ||
      header->nlmsg_len > static_cast<size_t>(got)) {
    return 0;
  }
  const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  // Without a connection the kernel gives who listens there.
  if (found->idiag_state == TCP_LISTEN || found->id.idiag_dport != id.idiag_dport) return 0;
  return found->idiag_inode;
}

uint32_t Number(std::string_view text) {
  uint32_t n = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, n);
  return failure == std::errc() && stop == end ? n : 0;
}

// "socket:[123]"; 0: it is something else.
uint32_t SocketNumber(int folder, const char* name) {
  char link[64];
  const ssize_t size = readlinkat(folder, name, link, sizeof link);
  constexpr std::string_view kBegin = "socket:[";
  const std::string_view text(link, size < 0 ? 0 : static_cast<size_t>(size));
  if (!text.starts_with(kBegin) || !text.ends_with("]")) return 0;
  return Number(text.substr(kBegin.size(), text.size() - kBegin.size() - 1));
}

ProcessName Named(uint32_t pid, int process) {
  ProcessName named;
  const Descriptor comm(openat(process, "comm", O_RDONLY | O_CLOEXEC));
  const ssize_t size = read(comm.get(), named.name.data(), named.name.size() - 1);
  if (size <= 0) return {};
  for (char& c : named.name) c = c == '\n' ? '\0' : c;
  named.pid = pid;
  return named;
}

struct Holder {
  ProcessName process;
  bool several = false;
};

// All processes are looked at, since more than one may have a socket.
void FindHolders(std::unordered_map<uint32_t, Holder>& by_socket) {
  const Folder proc(opendir("/proc"), closedir);
  if (proc == nullptr) return;
  while (const dirent* entry = readdir(proc.get())) {
    const uint32_t pid = Number(entry->d_name);
    if (pid == 0) continue;
    const Descriptor process(openat(dirfd(proc.get()), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const int fds_of = openat(process.get(), "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fds_of < 0) continue;
    const Folder fds(fdopendir(fds_of), closedir);
    if (fds == nullptr) continue;
    while (const dirent* fd = readdir(fds.get())) {
      const auto wanted = by_socket.find(SocketNumber(fds_of, fd->d_name));
      if (wanted == by_socket.end()) continue;
      Holder& holder = wanted->second;
      if (holder.process.pid == pid) continue;
      holder.several = holder.several || holder.process.known();
      holder.process = Named(pid, process.get());
      // Still its own: the name is that of who has the socket.
      if (SocketNumber(fds_of, fd->d_name) != wanted->first) holder.process = {};
    }
  }
}

}  // namespace

std::vector<ProcessAnswer> LookUp(int diag, const std::vector<ProcessQuestion>& questions) {
  std::vector<uint32_t> sockets;
  std::unordered_map<uint32_t, Holder> holders;
  for (const ProcessQuestion& question : questions) {
    sockets.push_back(Inode(diag, question));
    if (sockets.back() != 0) holders[sockets.back()];
  }
  if (!holders.empty()) FindHolders(holders);
  std::vector<ProcessAnswer> answers;
  for (size_t i = 0; i < questions.size(); ++i) {
    const auto holder = holders.find(sockets[i]);
    const bool found = holder != holders.end() && !holder->second.several;
    answers.push_back({questions[i].id, found ? holder->second.process : ProcessName{}});
  }
  return answers;
}

void ServeLookups(int questions, int diag) {
  const auto rest = [](int64_t ns) {
    const timespec time{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
    nanosleep(&time, nullptr);
  };
  std::vector<ProcessQuestion> batch;
  for (;;) {
    batch.clear();
    ProcessQuestion question;
    ssize_t got = recv(questions, &question, sizeof question, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != sizeof question) return;
    rest(kGatherNs);
    do {
      batch.push_back(question);
      if (batch.size() == kMostAtOnce) break;
      got = recv(questions, &question, sizeof question, MSG_DONTWAIT);
    } while (got == sizeof question);
    const int64_t begun = SteadyNs();
    for (const ProcessAnswer& answer : LookUp(diag, batch)) {
      if (send(questions, &answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer) return;
    }
    rest(std::min(9 * (SteadyNs() - begun), kMostRestNs));
  }
}

}  // namespace keytrail
