// The agent's side of process names: what is remembered, and what is asked again. Whom they belong to is held
// against real programs in tests/e2e/test_live_process.py.

#include "agent/process/process_names.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "common/limits.h"

namespace keytrail {
namespace {

Endpoint EndOf(int socket, bool peer) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  auto* const to = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(peer ? getpeername(socket, to, &size) : getsockname(socket, to, &size), 0);
  Endpoint end;
  end.address.family = 4;
  std::memcpy(end.address.bytes.data(), &address.sin_addr, 4);
  end.port = ntohs(address.sin_port);
  return end;
}

// A connection over loopback, both ends of which a process of an ordinary user has: to see root's takes
// rights that root need not have (in a container).
class ProcessNamesTest : public testing::Test {
 protected:
  void SetUp() override {
    const Result<Account> account = AccountToBecome(getuid() == 0 ? "nobody" : std::to_string(getuid()));
    ASSERT_TRUE(account.ok()) << account.error();
    Result<std::unique_ptr<ProcessNames>> started = ProcessNames::Start(*account);
    ASSERT_TRUE(started.ok()) << started.error();
    names_ = std::move(*started);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    client_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const at = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(bind(listener_, at, size), 0);
    ASSERT_EQ(listen(listener_, 1), 0);
    ASSERT_EQ(getsockname(listener_, at, &size), 0);
    ASSERT_EQ(connect(client_, at, size), 0);
    server_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    ASSERT_GE(server_, 0);
    call_.client = EndOf(client_, false);
    call_.server = EndOf(client_, true);
    call_.connection = 1;
    int ready[2];
    ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
    owner_ = fork();
    ASSERT_GE(owner_, 0);
    if (owner_ == 0) BeOwner(*account, ready[1]);
    close(ready[1]);
    char said = 0;
    const ssize_t got = read(ready[0], &said, 1);
    close(ready[0]);
    ASSERT_EQ(got, 1) << "cannot become '" << account->name << "'";
    CloseSockets();
  }
  void TearDown() override {
    CloseSockets();
    if (owner_ <= 0) return;
    (void)kill(owner_, SIGKILL);
    (void)waitpid(owner_, nullptr, 0);
  }

  [[noreturn]] static void BeOwner(const Account& account, int ready) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool became = getuid() == account.uid ||
                        (setgroups(0, nullptr) == 0 && setgid(account.gid) == 0 && setuid(account.uid) == 0);
    // Whoever changes his user is not to be looked at, unless he says so.
    if (!became || prctl(PR_SET_DUMPABLE, 1) != 0 || prctl(PR_SET_NAME, "kt-owner") != 0) _exit(1);
    if (write(ready, "!", 1) != 1) _exit(1);
    for (;;) pause();
  }
  void CloseSockets() {
    for (int* socket : {&listener_, &client_, &server_}) {
      if (*socket >= 0) close(*socket);
      *socket = -1;
    }
  }

  void Attend() {
    names_->Attend([](const Endpoint&, const ProcessName&) {});
  }
  // What the connection's calls say, once it is known.
  CallRecord Named() {
    for (int n = 0; n < 1000; ++n) {
      CallRecord call = call_;
      names_->Fill(call);
      if (call.client_process.known() && call.server_process.known()) return call;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      Attend();
    }
    ADD_FAILURE() << "no names within ten seconds";
    return call_;
  }

  std::unique_ptr<ProcessNames> names_;
  int listener_ = -1;
  int client_ = -1;
  int server_ = -1;
  pid_t owner_ = -1;
  CallRecord call_;
};

TEST_F(ProcessNamesTest, BothEndsOfOneProcess) {
  const CallRecord call = Named();
  EXPECT_EQ(call.client_process.pid, static_cast<uint32_t>(owner_));
  EXPECT_EQ(call.server_process, call.client_process);
  EXPECT_EQ(call.client_process.text(), "kt-owner");
}

TEST_F(ProcessNamesTest, BeyondTheCapAllAreAskedForAgain) {
  ASSERT_TRUE(Named().client_process.known());
  CallRecord other;
  other.client = call_.client;
  other.server = call_.server;
  other.server.port = 1;  // nobody has this one
  for (uint64_t n = 2; n <= limits::kMaxNamedConnections; ++n) {
    other.connection = n;
    names_->Fill(other);
  }
  CallRecord call = call_;
  names_->Fill(call);
  EXPECT_TRUE(call.client_process.known()) << "forgotten before the cap";
  other.connection = limits::kMaxNamedConnections + 1;
  names_->Fill(other);
  EXPECT_FALSE(other.client_process.known());
  call = call_;
  names_->Fill(call);
  EXPECT_FALSE(call.client_process.known()) << "nothing was forgotten at the cap";
}

}  // namespace
}  // namespace keytrail
