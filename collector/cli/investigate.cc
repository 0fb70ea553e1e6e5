#include "collector/cli/investigate.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "collector/cli/graces.h"
#include "collector/cli/pipeline.h"
#include "collector/report/report.h"

namespace keytrail {

namespace {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitIncomplete = 3;

struct InvestigateArguments {
  Graces graces;
  std::vector<std::string> files;
  std::string database;
  std::string proto_dir;
  std::string descriptor_set;
  std::string keys = "tidb";
  std::string color = "auto";
  std::string redact = "off";
  std::string redact_secret;
  bool json = false;
};

// "tidb1=x.pcap" names the host, "pd=x.pcap" the role; a path that exists is a path, whatever it looks like.
CaptureSource ParseSource(const std::string& text) {
  CaptureSource source;
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || std::filesystem::exists(text)) {
    source.path = text;
    return source;
  }
  const std::string name = text.substr(0, equals);
  source.path = text.substr(equals + 1);
  if (name == "tidb" || name == "pd" || name == "tikv") {
    source.role = name;
  } else {
    source.host = name;
  }
  return source;
}

bool UseColor(const std::string& color) {
  if (color != "auto") return color == "always";
  const char* no_color = std::getenv("NO_COLOR");
  return (no_color == nullptr || *no_color == 0) && isatty(STDOUT_FILENO) != 0;
}

int TerminalColumns() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0) return size.ws_col;
  return 100;
}

int Fail(const std::string& message) {
  std::fprintf(stderr, "keytrail: %s\n", message.c_str());
  return kExitFailed;
}

int WrongUsage(const std::string& message) {
  std::fprintf(stderr, "keytrail: %s\nTry --help.\n", message.c_str());
  return kExitUsage;
}

int RunInvestigate(const InvestigateArguments& arguments) {
  InvestigationOptions options;
  const bool redacts = arguments.redact == "on";
  if (redacts && arguments.redact_secret.empty()) return WrongUsage("--redact on needs --redact-secret FILE");
  if (!redacts && !arguments.redact_secret.empty()) {
    return WrongUsage("--redact-secret says nothing without --redact on");
  }
  if (redacts) {
    const Result<RedactSecret> secret = ReadRedactSecretFile(arguments.redact_secret);
    if (!secret) return Fail("--redact-secret: " + secret.error());
    options.redact_secret = *secret;
  }
  std::set<std::string> seen;
  for (const std::string& text : arguments.files) {
    options.sources.push_back(ParseSource(text));
    if (!seen.insert(options.sources.back().path).second) {
      return Fail(options.sources.back().path + ": given twice; each capture counts once");
    }
  }
  if (!arguments.database.empty()) {
    std::error_code problem;
    if (std::filesystem::exists(arguments.database, problem) &&
        std::filesystem::file_size(arguments.database, problem) != 0) {
      return Fail(arguments.database + ": exists already; an investigation writes a new file");
    }
  }
  options.database = arguments.database;
  options.graces = arguments.graces;
  options.proto_dir = arguments.proto_dir;
  options.descriptor_set = arguments.descriptor_set;
  const Result<InvestigationOutcome> outcome = RunInvestigation(options);
  if (!outcome) return Fail(outcome.error());

  int exit_status = kExitDone;
  for (const SourceOutcome& source : outcome->sources) {
    if (!source.problem.empty()) std::fprintf(stderr, "keytrail: %s\n", source.problem.c_str());
    if (!source.problem.empty() || source.lost_something) exit_status = kExitIncomplete;
  }
  std::string text;
  if (arguments.json) {
    text = ReportJson(outcome->report);
  } else {
    ReportTextOptions look;
    look.color = UseColor(arguments.color);
    look.width = TerminalColumns();
    look.hex_keys = arguments.keys == "hex";
    text = ReportText(outcome->report, look);
  }
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return Fail("standard output: cannot write");
  }
  return exit_status;
}

}  // namespace

void AddInvestigateCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<InvestigateArguments>();
  CLI::App* command = app.add_subcommand(
      "investigate", "Read captures of a cluster's hosts and say who stated a wrong range");
  command
      ->add_option("files", arguments->files, "[HOST=]FILE: the capture of one host; pcap, pcapng, .zst too")
      ->required()
      ->type_name("[HOST=]FILE…");
  command
      ->add_option("--db", arguments->database, "Keep calls, statements and verdicts in this new SQLite file")
      ->type_name("FILE");
  auto* proto = command->add_option("--proto", arguments->proto_dir, "Use the .proto files of this folder")
                    ->type_name("DIR");
  command->add_option("--descriptor-set", arguments->descriptor_set, "Use this FileDescriptorSet (protoc -o)")
      ->type_name("FILE")
      ->excludes(proto);
  command->add_option("--keys", arguments->keys, "How text shows keys: 'tidb' (t53_r8012) or 'hex'")
      ->check(CLI::IsMember({"tidb", "hex"}))
      ->type_name("FORM");
  command->add_option("--color", arguments->color, "auto, always or never; NO_COLOR is heeded")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  command
      ->add_option("--redact", arguments->redact,
                   "'off', or 'on': report and database have tokens for keys, and no text of an error")
      ->check(CLI::IsMember({"off", "on"}))
      ->type_name("MODE");
  command
      ->add_option("--redact-secret", arguments->redact_secret,
                   "The secret of the tokens (keytrail keys secret)")
      ->type_name("FILE");
  command->add_flag("--json", arguments->json, "Print one JSON object");
  AddGraceOption(*command, arguments->graces);
  command->callback([arguments, &exit_status] { exit_status = RunInvestigate(*arguments); });
}

}  // namespace keytrail
