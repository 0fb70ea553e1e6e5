#include "common/check_list.h"

#include <cstdio>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/shell_word.h"

namespace keytrail {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What a list with these checks prints, and its exit status.
std::pair<std::string, int> Printed(bool json, const std::vector<Check>& checks) {
  char* text = nullptr;
  size_t size = 0;
  std::FILE* out = open_memstream(&text, &size);
  CheckList list(out, json);
  for (const Check& check : checks) list.Add(check);
  const int status = list.Finish();
  std::fclose(out);
  const std::string printed(text, size);
  std::free(text);
  return {printed, status};
}

const Check kFine{"device", CheckLevel::kOk, "eth0 is up", {}, {}};
const Check kWarned{"clock", CheckLevel::kWarning, "unsynchronised", "timedatectl set-ntp true",
                    "or chronyd"};
const Check kBroken{"keys", CheckLevel::kFault, "is missing", {}, "copy it"};
const Check kSkipped{"traffic", CheckLevel::kNotChecked, "no capture", {}, {}};

TEST(CheckList, ExitStatusIsTheWorst) {
  EXPECT_EQ(Printed(false, {kFine}).second, 0);
  EXPECT_EQ(Printed(false, {kFine, kSkipped}).second, 0);
  EXPECT_EQ(Printed(false, {kFine, kWarned}).second, 3);
  EXPECT_EQ(Printed(false, {kBroken, kWarned}).second, 1);
}

TEST(CheckList, TextForPeople) {
  const std::string text = Printed(false, {kFine, kWarned, kBroken, kSkipped}).first;
  EXPECT_EQ(text,
            "ok       device       eth0 is up\n"
            "warning  clock        unsynchronised\n"
            "                      fix: timedatectl set-ntp true\n"
            "                           or chronyd\n"
            "fault    keys         is missing\n"
            "                      fix: copy it\n"
            "-        traffic      no capture\n"
            "4 checks: 1 fault, 1 warning.\n");
  EXPECT_THAT(Printed(false, {kFine}).first, HasSubstr("1 check, nothing found.\n"));
}

TEST(CheckList, LongWordsAreBrokenCommandsAreNot) {
  Check check = kWarned;
  check.command = std::string(200, 'c');
  check.fix.clear();
  for (int i = 0; i < 60; ++i) check.fix += "word ";
  const std::string text = Printed(false, {check}).first;
  EXPECT_THAT(text, HasSubstr("fix: " + check.command + "\n"));
  size_t longest = 0;
  for (size_t at = text.find("word"); at < text.size();) {
    const size_t end = text.find('\n', at);
    longest = std::max(longest, end - at);
    at = end + 1;
  }
  EXPECT_LE(longest, 22u + 5u + 90u);
}

TEST(CheckList, JsonForPrograms) {
  const std::string text = Printed(true, {kWarned, kFine}).first;
  EXPECT_EQ(text,
            "{\"kind\":\"check\",\"check\":\"clock\",\"level\":\"warning\",\"found\":\"unsynchronised\","
            "\"command\":\"timedatectl set-ntp true\",\"fix\":\"or chronyd\"}\n"
            "{\"kind\":\"check\",\"check\":\"device\",\"level\":\"ok\",\"found\":\"eth0 is up\"}\n"
            "{\"kind\":\"summary\",\"checks\":2,\"faults\":0,\"warnings\":1}\n");
}

TEST(CheckList, TextsOfStrangersAreHarmless) {
  const Check evil{"keys", CheckLevel::kFault, "a\x1b[2Jb\n", "rm \x07", "c\xff"};
  for (const bool json : {false, true}) {
    const std::string text = Printed(json, {evil}).first;
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    EXPECT_THAT(text, Not(HasSubstr("\x07")));
    EXPECT_THAT(text, Not(HasSubstr("\xff")));
  }
}

TEST(CheckList, AWordIsOneWordOfTheShell) {
  EXPECT_EQ(ShellWord("/etc/keytrail/a.key"), "/etc/keytrail/a.key");
  EXPECT_EQ(ShellWord("a b"), "'a b'");
  EXPECT_EQ(ShellWord("it's $(x)"), "'it'\\''s $(x)'");
  EXPECT_EQ(ShellWord(""), "''");
}

}  // namespace
}  // namespace keytrail
