#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "common/limits.h"
#include "deploy/fleet/command.h"
#include "deploy/fleet/state_folder.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using ::testing::HasSubstr;

Command Shell(const std::string& script) {
  Command command;
  command.argv = {"sh", "-c", script};
  return command;
}

TEST(Runner, WhatACommandSaysAndHowItEnds) {
  Runner runner;
  const CommandResult result = runner.Run(Shell("echo out; echo err >&2; exit 7"));
  EXPECT_EQ(result.exit_status, 7);
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_FALSE(result.ok());
  EXPECT_TRUE(runner.Run(Shell("true")).ok());
  const CommandResult killed = runner.Run(Shell("kill -9 $$"));
  EXPECT_EQ(killed.exit_status, -1);
  EXPECT_FALSE(killed.ok());
}

TEST(Runner, FilesForInputAndOutput) {
  ScratchDir scratch;
  const std::string in = scratch.path() + "/in";
  std::ofstream(in) << "hello";
  Command command = Shell("cat; umask");
  command.input = in;
  command.output = scratch.path() + "/out";
  Runner runner;
  EXPECT_TRUE(runner.Run(command).ok());
  std::stringstream text;
  text << std::ifstream(command.output).rdbuf();
  EXPECT_THAT(text.str(), HasSubstr("hello"));
  EXPECT_EQ(std::filesystem::status(command.output).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  command.input = scratch.path() + "/none";
  EXPECT_THAT(runner.Run(command).failure, HasSubstr("none': No such file"));
  Command none;
  none.argv = {"/no/such/program"};
  EXPECT_THAT(runner.Run(none).failure, HasSubstr("/no/such/program': No such file"));
}

// What a host sends without an end must not fill the memory, and must not hold the host up.
TEST(Runner, OutputIsBounded) {
  Runner runner;
  const CommandResult result =
      runner.Run(Shell("head -c 10000000 /dev/zero; head -c 10000000 /dev/zero >&2"));
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.out.size(), limits::kMaxCommandOutputBytes);
  EXPECT_EQ(result.err.size(), limits::kMaxCommandOutputBytes);
}

TEST(Runner, ItsTimeIsBoundedWithAllThatItBegan) {
  Command command = Shell("trap '' TERM; sleep 1000 & wait");
  command.timeout_s = 1;
  Runner runner;
  const CommandResult result = runner.Run(command);
  EXPECT_TRUE(result.timed_out);
  EXPECT_FALSE(result.ok());
}

// As ssh's connection sharing does.
TEST(Runner, WhatItLeavesBehindDoesNotHoldUsUp) {
  Runner runner;
  const CommandResult result = runner.Run(Shell("sleep 5 & echo done"));
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.out, "done\n");
}

TEST(Runner, OneCancelLetsItEndTwoEndIt) {
  Runner runner;
  runner.Cancel();
  EXPECT_TRUE(runner.cancelled());
  EXPECT_TRUE(runner.Run(Shell("sleep 0.2")).ok());
  std::thread second([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    runner.Cancel();
  });
  const CommandResult result = runner.Run(Shell("sleep 1000"));
  second.join();
  EXPECT_TRUE(result.cancelled);
}

TEST(StateFolder, OneCommandAtATimeAndNobodyElse) {
  ScratchDir scratch;
  const std::string path = scratch.path() + "/state";
  StateFolder first(path);
  EXPECT_FALSE(first.there());
  ASSERT_TRUE(first.Lock().ok());
  StateFolder second(path);
  EXPECT_THAT(second.Lock().error(), HasSubstr("another keytrail fleet works on"));
  ASSERT_TRUE(first.SaveOptions({{"dir", "/x=y"}, {"ssh-option.0", "A=b"}}).ok());
  EXPECT_EQ(second.SavedOptions().at("dir"), "/x=y");
  ASSERT_TRUE(first.Remove().ok());
  std::filesystem::create_directory(path);
  std::filesystem::permissions(path, std::filesystem::perms::others_read, std::filesystem::perm_options::add);
  EXPECT_THAT(StateFolder(path).Lock().error(), HasSubstr("chmod 0700"));
}

// sha256sum of "abc", FIPS 180-2.
TEST(StateFolder, Sha256) {
  ScratchDir scratch;
  std::ofstream(scratch.path() + "/abc") << "abc";
  uint64_t size = 0;
  const Result<std::string> sum = Sha256OfFile(scratch.path() + "/abc", size);
  ASSERT_TRUE(sum.ok());
  EXPECT_EQ(*sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(size, 3u);
  EXPECT_FALSE(Sha256OfFile("/no/such", size).ok());
}

}  // namespace
}  // namespace keytrail
