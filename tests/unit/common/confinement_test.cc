// What is given up, seen by trying it: each case confines a process of its own.

#include "common/confinement.h"

#include <fcntl.h>
#include <netdb.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

// Runs `body` in a child, which answers with an empty string or with what is wrong.
std::string InChild(const std::function<std::string()>& body) {
  int answer[2];
  if (pipe(answer) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    close(answer[0]);
    const std::string wrong = body();
    if (write(answer[1], wrong.data(), wrong.size()) < 0) _exit(2);
    _exit(0);
  }
  close(answer[1]);
  std::string said;
  char part[4096];
  for (ssize_t got = 0; (got = read(answer[0], part, sizeof part)) > 0;) said.append(part, got);
  close(answer[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    said += " (the child ended with " + std::to_string(status) + ")";
  return said;
}

std::string StatusLine(const std::string& path, const std::string& name) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name + ":", 0) == 0) return line.substr(name.size() + 2);
  }
  return "no " + name + " in " + path;
}

std::string ErrnoOfOpen(const std::string& path, int flags) {
  const int descriptor = open(path.c_str(), flags, 0600);
  if (descriptor < 0) return std::strerror(errno);
  close(descriptor);
  return "opened";
}

class ConfinementTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(chmod(top_.c_str(), 0755), 0);
    ASSERT_EQ(mkdir((top_ + "/others").c_str(), 0777), 0);
    ASSERT_EQ(chmod((top_ + "/others").c_str(), 0777), 0);
  }

  const ScratchDir dir_;
  const std::string top_ = dir_.path();
};

TEST_F(ConfinementTest, RootBecomesAnotherUserWithoutAnyRight) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  const Result<Account> account = AccountToBecome("nobody");
  ASSERT_TRUE(account.ok()) << account.error();
  ASSERT_TRUE(MakeFolderFor(top_ + "/own", *account).ok());
  EXPECT_EQ(InChild([&]() -> std::string {
              const Result<Confined> confined = Confine(*account, {{top_ + "/own"}});
              if (!confined) return confined.error();
              if (getuid() != account->uid || geteuid() != account->uid) return "still root";
              if (getgid() != account->gid || getegid() != account->gid) return "still in root's group";
              for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
                const std::string value = StatusLine("/proc/thread-self/status", set);
                if (value != "0000000000000000") return std::string(set) + " is " + value;
              }
              if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return "new privileges may come";
              rlimit core{};
              getrlimit(RLIMIT_CORE, &core);
              if (core.rlim_max != 0) return "may leave a core";
              if (setuid(0) == 0) return "could be root again";
              if (ErrnoOfOpen("/etc/shadow", O_RDONLY) != "Permission denied") return "reads /etc/shadow";
              if (ErrnoOfOpen(top_ + "/own/file", O_RDWR | O_CREAT) != "opened")
                return "cannot write its own";
              return "";
            }),
            "");
}

TEST_F(ConfinementTest, WritesItsOwnFoldersAlone) {
  const Result<Account> account = AccountToBecome(geteuid() == 0 ? "root" : "");
  ASSERT_TRUE(account.ok()) << account.error();
  for (const char* name : {"/own", "/sockets"}) ASSERT_TRUE(MakeFolderFor(top_ + name, *account).ok());
  std::ofstream(top_ + "/others/there") << "x";
  const std::string wrong = InChild([&]() -> std::string {
    const Result<Confined> confined = Confine(*account, {{top_ + "/own"}, {top_ + "/sockets", true}});
    if (!confined) return confined.error();
    if (!confined->landlock) return "no Landlock: " + confined->description;
    const std::string denied = "Permission denied";
    if (ErrnoOfOpen(top_ + "/own/new", O_RDWR | O_CREAT | O_TRUNC) != "opened") return "own file";
    if (rename((top_ + "/own/new").c_str(), (top_ + "/own/renamed").c_str()) != 0) return "own rename";
    if (mkdir((top_ + "/own/inner").c_str(), 0700) != 0) return "own folder";
    if (ErrnoOfOpen(top_ + "/own/inner/file", O_RDWR | O_CREAT) != "opened") return "file in its folder";
    if (unlink((top_ + "/own/renamed").c_str()) != 0) return "own unlink";
    if (ErrnoOfOpen(top_ + "/others/new", O_RDWR | O_CREAT) != denied) return "a new file elsewhere";
    if (ErrnoOfOpen(top_ + "/others/there", O_WRONLY) != denied) return "writing elsewhere";
    if (unlink((top_ + "/others/there").c_str()) == 0) return "unlink elsewhere";
    if (ErrnoOfOpen(top_ + "/sockets/new", O_RDWR | O_CREAT) != denied) return "a file among sockets";
    if (ErrnoOfOpen(top_ + "/others/there", O_RDONLY) != "opened") return "reading elsewhere";
    if (ErrnoOfOpen("/dev/null", O_WRONLY) != "opened") return "/dev/null";
    const int made = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s/sockets/s", top_.c_str());
    if (bind(made, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return "a socket";
    return "";
  });
  if (wrong.rfind("no Landlock", 0) == 0) GTEST_SKIP() << wrong;
  EXPECT_EQ(wrong, "");
}

TEST_F(ConfinementTest, MakesThreadsButNoProcessesAndNoRawSockets) {
  const Result<Account> account = AccountToBecome(geteuid() == 0 ? "root" : "");
  ASSERT_TRUE(account.ok()) << account.error();
  const std::string wrong = InChild([&]() -> std::string {
    const Result<Confined> confined = Confine(*account, {});
    if (!confined) return confined.error();
    if (!confined->seccomp) return "no seccomp: " + confined->description;
    bool ran = false;
    std::thread([&] { ran = true; }).join();
    if (!ran) return "no threads";
    if (fork() >= 0) return "forks";
    if (execl("/bin/true", "true", nullptr) == 0 || errno == 0) return "executes";
    if (socket(AF_PACKET, SOCK_RAW, 0) >= 0 || errno != EPERM) return "packet socket";
    if (socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0 || errno != EPERM)
      return "a family of sockets that is not used";
    for (const int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}) {
      const int made = socket(family, family == AF_NETLINK ? SOCK_RAW : SOCK_STREAM, 0);
      if (made < 0 && errno != EAFNOSUPPORT) return "family " + std::to_string(family);
    }
    addrinfo* found = nullptr;
    if (getaddrinfo("localhost", nullptr, nullptr, &found) != 0) return "no names";
    return "";
  });
  if (wrong.rfind("no seccomp", 0) == 0) GTEST_SKIP() << wrong;
  EXPECT_EQ(wrong, "");
}

TEST_F(ConfinementTest, AFolderOfAnotherUserIsToldWithTheMend) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  ASSERT_EQ(mkdir((top_ + "/roots").c_str(), 0700), 0);
  const Result<Account> account = AccountToBecome("nobody");
  ASSERT_TRUE(account.ok());
  const std::string said = InChild([&]() -> std::string {
    const Result<Confined> confined = Confine(*account, {{top_ + "/roots"}});
    return confined ? "went through" : confined.error();
  });
  EXPECT_NE(said.find("it belongs to 'root'; chown -R nobody"), std::string::npos) << said;
  EXPECT_NE(said.find(top_ + "/roots"), std::string::npos) << said;
}

TEST_F(ConfinementTest, ComesBeforeThreads) {
  const Result<Account> account = AccountToBecome(geteuid() == 0 ? "root" : "");
  ASSERT_TRUE(account.ok());
  const std::string said = InChild([&]() -> std::string {
    int never[2];
    if (pipe(never) != 0) return "no pipe";
    std::thread waits([&] {
      char one = 0;
      (void)!read(never[0], &one, 1);
    });
    const Result<Confined> confined = Confine(*account, {});
    close(never[1]);
    waits.join();
    return confined ? "went through" : confined.error();
  });
  EXPECT_NE(said.find("there are threads already"), std::string::npos) << said;
}

TEST(AccountToBecomeTest, NamesAndNumbers) {
  const Result<Account> none = AccountToBecome("no-such-user-here");
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error(), "there is no user 'no-such-user-here'");
  const Result<Account> by_number = AccountToBecome(std::to_string(geteuid()));
  if (by_number.ok()) {
    EXPECT_EQ(by_number->uid, geteuid());
  }
  const Result<Account> as_default = AccountToBecome("");
  ASSERT_TRUE(as_default.ok()) << as_default.error();
  EXPECT_EQ(as_default->uid == 0, false) << "root stays root without being asked";
}

TEST(MakeFolderForTest, NestedAndPrivateAndOnce) {
  const Account own{"self", geteuid(), getegid()};
  const ScratchDir dir;
  const std::string folder = dir / "a/b";
  ASSERT_TRUE(MakeFolderFor(folder, own).ok());
  struct stat status {};
  ASSERT_EQ(stat(folder.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
  ASSERT_EQ(chmod(folder.c_str(), 0755), 0);
  ASSERT_TRUE(MakeFolderFor(folder, own).ok());
  ASSERT_EQ(stat(folder.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0755U) << "what was there is left alone";
  std::ofstream(dir / "file") << "x";
  const Status within_file = MakeFolderFor(dir / "file/a", own);
  ASSERT_FALSE(within_file.ok());
  EXPECT_NE(within_file.error().find("/file/a"), std::string::npos);
}

}  // namespace
}  // namespace keytrail
