// `keytrail doctor`: what an agent needs of this host, by the keytrail-agent that stands beside this program;
// and what a collector's folder and its answers are like.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "collector/cli/commands.h"
#include "collector/cli/source_options.h"
#include "collector/cli/terminal.h"
#include "common/check_list.h"
#include "common/clock.h"
#include "common/shell_word.h"

namespace keytrail {

namespace {

// Room below which a collector is about to stop storing.
constexpr uint64_t kLittleRoom = uint64_t{1} << 30;
// Agents' lag in `keytrail agents` and retention compare the clocks of two hosts; more than this misleads
// people.
constexpr int64_t kLargeOffsetNs = 1'000'000'000;

struct DoctorArguments {
  std::string data;
  std::string query;
  ClientTls tls;
  bool json = false;
};

std::string Gibibytes(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

void CheckData(const std::string& folder, CheckList& list) {
  Check check{"data", CheckLevel::kFault, "--data '" + folder + "'", {}, {}};
  struct stat about {};
  struct statvfs disk {};
  if (stat(folder.c_str(), &about) != 0 || statvfs(folder.c_str(), &disk) != 0) {
    check.found += std::string(": ") + std::strerror(errno);
    check.fix = "give the folder that the collector has as --data; it makes it when it starts";
    return list.Add(check);
  }
  if ((disk.f_flag & ST_RDONLY) != 0) {
    check.found += " lies on a file system that is read-only: nothing can be stored";
    check.command = "mount -o remount,rw \"$(findmnt -n -o TARGET -T " + ShellWord(folder) + ")\"";
    check.fix = "if it became so by itself, its disk has errors (dmesg)";
    return list.Add(check);
  }
  if (S_ISDIR(about.st_mode) && (about.st_mode & 077) != 0) {
    check.level = CheckLevel::kWarning;
    check.found += " is open to other users of this host, and has keys of the cluster's tables in it";
    check.command = "chmod 700 " + ShellWord(folder);
    list.Add(check);
  }
  const uint64_t left = uint64_t{disk.f_bavail} * disk.f_frsize;
  if (left < kLittleRoom) {
    check = {"data",
             CheckLevel::kWarning,
             "--data '" + folder + "': its disk has " + Gibibytes(left) + " left",
             {},
             "free it (du -xh -d 2), or have the collector keep less: --keep-bytes, --keep-age"};
    list.Add(check);
  }
  const Result<std::unique_ptr<AnswerSource>> source = OpenDatabaseSource(folder);
  const Result<AgentsReport> agents =
      source ? (*source)->Agents() : Result<AgentsReport>(Error{source.error()});
  if (!agents) {
    return list.Add({"data",
                     CheckLevel::kFault,
                     agents.error(),
                     {},
                     "read it as the user that the collector runs as, with the same version of keytrail"});
  }
  if (list.fine("data")) {
    list.Ok("data", "'" + folder + "' can be read, " + std::to_string(agents->agents.size()) +
                        " starts of agents in it; " + Gibibytes(left) + " left on its disk");
  }
}

void CheckClockOffset(AnswerSource& source, CheckList& list) {
  SqlRequest request;
  request.sql = "select cast((julianday('now') - 2440587.5) * 86400000 as integer)";
  request.purpose = "doctor";
  int64_t theirs_ms = 0;
  const int64_t asked = WallClockNs();
  const int64_t began = SteadyNs();
  const SqlOutcome outcome = source.Sql(
      request, [](const std::vector<std::string>&) { return true; },
      [&](const std::vector<Store::QueryValue>& row) {
        if (!row.empty()) theirs_ms = row[0].integer;
        return true;
      });
  const int64_t took = SteadyNs() - began;
  if (theirs_ms == 0)
    return list.NotChecked("clock_offset", "the collector does not say its time: " + outcome.text);
  const int64_t offset_ns = asked + took / 2 - theirs_ms * 1'000'000;
  char text[128];
  std::snprintf(text, sizeof text,
                "this host's clock and the collector's differ by %+.3f s, give or take %.3f s",
                static_cast<double>(offset_ns) / 1e9, static_cast<double>(took) / 2e9 + 0.001);
  if (std::abs(offset_ns) - took / 2 <= kLargeOffsetNs) return list.Ok("clock_offset", text);
  list.Add({"clock_offset", CheckLevel::kWarning, text, "timedatectl set-ntp true",
            "on the host whose clock is wrong"});
}

void CheckQuery(const DoctorArguments& arguments, CheckList& list) {
  const Result<std::unique_ptr<AnswerSource>> source = ConnectToCollector(arguments.query, arguments.tls);
  const Result<AgentsReport> report =
      source ? (*source)->Agents() : Result<AgentsReport>(Error{source.error()});
  if (!report) {
    return list.Add({"query",
                     CheckLevel::kFault,
                     report.error(),
                     {},
                     "give the address of the collector's --query, and see that it runs: systemctl status "
                     "keytrail-collector"});
  }
  list.Ok("query", "the collector at '" + arguments.query + "' answers; it knows " +
                       std::to_string(report->agents.size()) + " starts of agents");
  CheckClockOffset(**source, list);
}

std::string AgentProgram() {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path beside = own.parent_path() / "keytrail-agent";
  // Else where PATH says.
  return !error && access(beside.c_str(), X_OK) == 0 ? beside.string() : "keytrail-agent";
}

// The exit status of `keytrail-agent --doctor`.
int RunAgentsDoctor(const std::vector<std::string>& arguments) {
  const std::string program = AgentProgram();
  std::vector<std::string> words = {program, "--doctor"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) return Fail(std::string("cannot start keytrail-agent: ") + std::strerror(errno));
  if (child == 0) {
    std::signal(SIGPIPE, SIG_DFL);
    execvp(argv[0], argv.data());
    std::fprintf(stderr,
                 "keytrail: cannot start '%s': %s; install the package keytrail-agent, or run "
                 "keytrail-agent --doctor where the agent is\n",
                 argv[0], std::strerror(errno));
    _exit(kExitFailed);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : kExitFailed;
}

int RunDoctor(DoctorArguments arguments, std::vector<std::string> rest) {
  const bool own = !arguments.data.empty() || !arguments.query.empty();
  if (rest.empty() && !own) {
    std::fprintf(stderr,
                 "keytrail: doctor wants the options that the agent would be started with, such as -i eth0 "
                 "--collector HOST:7450; or --data or --query of a collector\nTry --help.\n");
    return kExitUsage;
  }
  // Behind the first option of the agent all are taken for the agent's.
  arguments.json = arguments.json || std::find(rest.begin(), rest.end(), "--json") != rest.end();
  int status = kExitDone;
  if (!rest.empty()) {
    if (arguments.json && std::find(rest.begin(), rest.end(), "--json") == rest.end())
      rest.push_back("--json");
    status = RunAgentsDoctor(rest);
    if (status == kExitUsage) return status;
  }
  if (!own) return status;
  CheckList list(stdout, arguments.json);
  if (!arguments.data.empty()) CheckData(arguments.data, list);
  if (!arguments.query.empty()) CheckQuery(arguments, list);
  const int found = list.Finish();
  const bool failed = status == kExitFailed || found == kExitFailed;
  return failed ? kExitFailed : std::max(status, found);
}

}  // namespace

void AddDoctorCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<DoctorArguments>();
  CLI::App* command = app.add_subcommand(
      "doctor", "Say what is wrong with a host, an agent's options or a collector, and how to mend it");
  command->prefix_command();
  command->add_option("--data", arguments->data, "A collector of this host: look at the folder of its --data")
      ->type_name("DIR");
  command
      ->add_option("--query", arguments->query,
                   "A collector: ask at its --query, and compare its clock; HOST:PORT or unix:PATH")
      ->type_name("ADDR");
  auto* ca = command->add_option("--tls-ca", arguments->tls.ca, "Ask over TLS, as the other commands")
                 ->type_name("FILE");
  auto* certificate = command->add_option("--tls-cert", arguments->tls.certificate, "Our certificate")
                          ->type_name("FILE")
                          ->needs(ca);
  auto* key = command->add_option("--tls-key", arguments->tls.key, "Its private key")
                  ->type_name("FILE")
                  ->needs(certificate);
  certificate->needs(key);
  command->add_flag("--json", arguments->json, "Print one JSON object a check, and one at the end");
  command->footer(
      "What follows these options are those of an agent: keytrail doctor -i eth0 -f 'tcp port 20160' "
      "--collector\n"
      "HOST:7450 --key FILE … looks at what `keytrail-agent` with the same options needs, as the user who "
      "runs this.\n"
      "Nothing is changed. Exit status: 0 all fine; 1 faults; 2 wrong usage; 3 warnings alone.");
  command->callback(
      [command, arguments, &exit_status] { exit_status = RunDoctor(*arguments, command->remaining()); });
}

}  // namespace keytrail
