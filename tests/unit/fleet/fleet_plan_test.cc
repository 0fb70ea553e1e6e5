#include "deploy/fleet/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/shell_word.h"
#include "deploy/fleet/advice.h"
#include "deploy/fleet/host_facts.h"

namespace keytrail {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

FleetOptions Options() {
  FleetOptions options;
  options.file = "t.yaml";
  options.state = "/state";
  options.keytrail = "/bin/keytrail";
  options.archive = "/a.tar.gz";
  options.archive_sha256 = "abc";
  options.archive_bytes = 1 << 20;
  options.spool_bytes = 64 << 20;
  return options;
}

Topology Two() {
  Result<Topology> topology =
      ReadTopology("tikv_servers: [{host: b}]\npd_servers: [{host: a}]\nglobal: {user: me}\n", "t.yaml");
  topology->collector.start = true;
  topology->collector.address = "c:7450";
  topology->collector.data = "/data";
  return *topology;
}

std::vector<std::string> Lines(const std::vector<Step>& steps) {
  std::vector<std::string> lines;
  for (const Step& step : steps) lines.push_back(ShellLine(step.command));
  return lines;
}

TEST(FleetPlan, EveryHostListensForThePortsOfAll) {
  Topology topology = Two();
  for (const FleetHost& host : topology.hosts) {
    EXPECT_THAT(CaptureOf(topology, host), ElementsAre("-i", "any", "--ports", "2379,20160"));
  }
  FleetHost own;
  own.device = "eth1";
  own.filter = "vlan and tcp";
  EXPECT_THAT(CaptureOf(topology, own), ElementsAre("-i", "eth1", "-f", "vlan and tcp"));
  // The agent knows the usual ones.
  for (FleetHost& host : topology.hosts) host.ports.clear();
  EXPECT_THAT(CaptureOf(topology, topology.hosts[0]), ElementsAre("-i", "any"));
}

TEST(FleetPlan, StepsOfAHostInTheirOrder) {
  const Result<FleetPlan> plan = PlanStart(Two(), Options());
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->hosts.size(), 2u);
  const UnitPlan& host = plan->hosts[0];
  std::vector<StepKind> kinds;
  for (const Step& step : host.steps) kinds.push_back(step.kind);
  EXPECT_THAT(kinds, ElementsAre(StepKind::kPrepare, StepKind::kArchive, StepKind::kPut, StepKind::kPut,
                                 StepKind::kAdmit, StepKind::kLaunch));
  const std::vector<std::string>& argv = host.steps[0].command.argv;
  EXPECT_EQ(argv[0], "ssh");
  EXPECT_THAT(argv, Contains("BatchMode=yes"));
  EXPECT_EQ(argv[argv.size() - 2], "me@a");
  EXPECT_THAT(argv.back(), HasSubstr("sudo -n sh -s -- prepare /var/lib/keytrail-fleet-a agent abc:"));
  // At the collector, which is this machine.
  EXPECT_EQ(host.steps[4].command.argv[0], "sh");
  EXPECT_THAT(host.steps[4].command.argv, Contains("/var/lib/keytrail-fleet-collector/admitted"));
  EXPECT_THAT(host.steps[5].command.argv.back(),
              HasSubstr("--collector tcp://c:7450 --key /var/lib/keytrail-fleet-a/own.key"));
  EXPECT_THAT(host.steps[5].command.argv.back(), HasSubstr("--duration 1800s --give-up-after 600s"));
}

TEST(FleetPlan, SudoAsItIsWanted) {
  FleetOptions options = Options();
  FleetAccess access;
  access.ssh_host = "a";
  const auto last = [&] { return WordsOn(access, options, {"true"}).argv.back(); };
  EXPECT_EQ(last(), "sudo -n true");
  access.ssh_user = "root";
  EXPECT_EQ(last(), "true");
  options.sudo = "always";
  EXPECT_EQ(last(), "sudo -n true");
  options.sudo = "never";
  access.ssh_user = "me";
  EXPECT_EQ(last(), "true");
  options.sudo = "auto";
  FleetAccess local = OnThisMachine();
  local.run = {"nsenter", "--"};
  EXPECT_THAT(WordsOn(local, options, {"true"}).argv, ElementsAre("nsenter", "--", "true"));
}

TEST(FleetPlan, WhatTheUserSaysToSshComesBeforeOurOwn) {
  FleetOptions options = Options();
  options.ssh_options = {"ConnectTimeout=1"};
  options.ssh_config = "/cfg";
  FleetAccess access;
  access.ssh_host = "a";
  access.ssh_port = 22022;
  const std::string line = ShellWords(WordsOn(access, options, {"true"}).argv);
  EXPECT_THAT(line, HasSubstr("ssh -T -o BatchMode=yes -F /cfg -o ConnectTimeout=1 -o ConnectTimeout=10"));
  EXPECT_THAT(line, HasSubstr("-p 22022 a "));
}

TEST(FleetPlan, OtherOptionsAreOtherWishes) {
  FleetOptions options = Options();
  const auto wish = [&] {
    const Result<FleetPlan> plan = PlanStart(Two(), options);
    return plan->hosts[0].steps[0].command.argv.back();
  };
  const std::string first = wish();
  EXPECT_EQ(wish(), first);
  options.duration_s = 60;
  EXPECT_NE(wish(), first);
  options = Options();
  options.agent_options = {"--all"};
  EXPECT_NE(wish(), first);
  options = Options();
  options.archive_sha256 = "abd";
  EXPECT_NE(wish(), first);
}

TEST(FleetPlan, AnotherArchIsLeftOutAndSaid) {
  Topology topology = Two();
  topology.hosts[0].arch = "arm64";
  const Result<FleetPlan> plan = PlanStart(topology, Options());
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->hosts[0].refused, HasSubstr("arm64"));
  EXPECT_TRUE(plan->hosts[0].steps.empty());
  EXPECT_THAT(PlanText(*plan, Options()), HasSubstr("# left out: its arch is arm64"));
}

TEST(FleetPlan, SecretsAreFilesAndNoWords) {
  FleetOptions options = Options();
  options.redact_secret = "/secret";
  const Result<FleetPlan> plan = PlanStart(Two(), options);
  const std::vector<std::string> lines = Lines(plan->hosts[0].steps);
  EXPECT_THAT(lines, Contains(HasSubstr("own.key' </state/keys/fleet-a.key")));
  EXPECT_THAT(lines, Contains(HasSubstr("redact.secret' </secret")));
  EXPECT_THAT(lines.back(), HasSubstr("--redact on --redact-secret /var/lib/keytrail-fleet-a/redact.secret"));
}

TEST(FleetPlan, WhatMustBeSaidOfTheCollector) {
  Topology topology = Two();
  topology.collector = {};
  EXPECT_THAT(PlanStart(topology, Options()).error(), HasSubstr("where to ship to is not said"));
  topology.collector.address = "c:1";
  EXPECT_THAT(PlanStart(topology, Options()).error(), HasSubstr("--server-key"));
  topology.collector.start = true;
  EXPECT_THAT(PlanStart(topology, Options()).error(), HasSubstr("--collector-data"));
  topology.collector.data = "/d";
  EXPECT_TRUE(PlanStart(topology, Options()).ok());
  topology.collector.address.clear();
  EXPECT_THAT(PlanStart(topology, Options()).error(), HasSubstr("address of this machine"));
  topology.collector.access.local = false;
  topology.collector.access.ssh_host = "fd00::9";
  const Result<FleetCollector> collector = CompleteCollector(topology, Options());
  ASSERT_TRUE(collector.ok());
  EXPECT_EQ(collector->address, "tcp://[fd00::9]:7450");
  EXPECT_EQ(collector->listen, "tcp://0.0.0.0:7450");
  EXPECT_EQ(collector->program, "keytrail-collector");
}

TEST(ShellWord, AShellReadsWhatWasMeant) {
  EXPECT_EQ(ShellWord("plain-1_./:=@,+%"), "plain-1_./:=@,+%");
  EXPECT_EQ(ShellWord(""), "''");
  EXPECT_EQ(ShellWord("a b"), "'a b'");
  EXPECT_EQ(ShellWord("it's"), "'it'\\''s'");
  EXPECT_EQ(ShellWord("$(x)`y`\n*"), "'$(x)`y`\n*'");
  EXPECT_EQ(ShellWord("~"), "'~'");
  EXPECT_EQ(ShellWord("{a,b}"), "'{a,b}'");
}

TEST(HostFacts, LinesOfAnAnswer) {
  const HostFacts facts = ReadFacts(
      "Welcome to Linux 6=1!\nstate=running\npid=4711\nlink=[x] [WARN] [\"collector 'tcp://c:1': nobody = "
      "there\"]\n"
      "=x\nstarted=100\nlimit=50\nnow=120\n");
  EXPECT_EQ(Fact(facts, "state"), "running");
  EXPECT_EQ(NumberOf(facts, "pid"), 4711);
  EXPECT_EQ(NumberOf(facts, "state"), -1);
  EXPECT_EQ(NumberOf(facts, "none"), -1);
  EXPECT_EQ(SecondsLeft(facts), 30);
  EXPECT_EQ(LinkOf(facts), Link::kNotConnected);
  EXPECT_EQ(LinkOf(ReadFacts("link=[x] [INFO] [\"connected to the collector\"]\n")), Link::kConnected);
  EXPECT_EQ(LinkOf({}), Link::kUnknown);
}

TEST(Advice, OfWhatSshAndHostsSay) {
  UnitPlan unit;
  unit.access.ssh_host = "h";
  unit.access.ssh_user = "me";
  unit.access.ssh_port = 2222;
  unit.folder = "/var/lib/keytrail-fleet-h";
  const struct {
    int status;
    const char* err;
    const char* why;
    const char* what_to_do;
  } cases[] = {
      {255, "ssh: connect to host h port 22: Connection refused\r\n", "connection refused",
       "sshd runs there"},
      {255, "ssh: connect to host h port 22: Connection timed out", "(timed out)", "firewall"},
      {255, "ssh: connect to host h port 22: No route to host", "(No route to host)", "firewall"},
      {255, "Timeout, server h not responding.", "(not responding)", "host is up"},
      {255, "ssh: Could not resolve hostname h: Name or service not known", "resolved", "check the name"},
      {255, "me@h: Permission denied (publickey,password).", "does not let 'me@h' in", "ssh -p 2222 me@h"},
      {255, "Received disconnect: Too many authentication failures", "does not let 'me@h' in",
       "IdentityFile"},
      {255, "Host key verification failed.", "not known", "accept-new"},
      {255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
       "another one", "ssh-keygen -R h"},
      {255, "kex_exchange_identification: Connection closed", "ssh failed: kex", "try by hand"},
      {1, "sudo: a password is required", "asks 'me@h' for a password", "NOPASSWD"},
      {127, "bash: sudo: command not found", "no sudo on the host", "--sudo never"},
      {2, "tar: lib/x: Cannot write: No space left on device\nkeytrail-fleet: other", "disk is full",
       "--dir"},
      {21,
       "keytrail-fleet: keytrail-agent 0.0.9 of an earlier start runs here, and is not the one to be started",
       "0.0.9 of an earlier start runs here", "--replace"},
      {21, "keytrail-fleet: keytrail-agent 0.1.0 runs here since an earlier start, with other options",
       "with other options", "--replace"},
      {22, "[x] device 'eth9'\nkeytrail-fleet: keytrail-agent 0.1.0 ended at once, with status 1",
       "ended at once, with status 1\n      | [x] device 'eth9'", "stands above"},
      {22, "You don't have permission to capture (CAP_NET_RAW)\nkeytrail-fleet: ended at once",
       "ended at once", "needs root or CAP_NET_RAW"},
      {1, "mkdir: cannot create directory: Permission denied", "Permission denied", "--sudo always"},
      {3, "what is this", "status 3: what is this", ""},
  };
  for (const auto& one : cases) {
    CommandResult result;
    result.exit_status = one.status;
    result.err = one.err;
    const Advice advice = AdviceFor(result, {}, unit);
    EXPECT_THAT(advice.why, HasSubstr(one.why)) << one.err;
    EXPECT_THAT(advice.what_to_do, HasSubstr(one.what_to_do)) << one.err;
  }
  CommandResult slow;
  slow.timed_out = true;
  EXPECT_THAT(AdviceFor(slow, {}, unit).why, HasSubstr("no answer within 60 s"));
  // What a host sends is no control sequence of our terminal.
  CommandResult odd;
  odd.exit_status = 3;
  odd.err = "\x1b[31mred";
  EXPECT_THAT(AdviceFor(odd, {}, unit).why, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace keytrail
