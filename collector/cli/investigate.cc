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
constexpr int kExitIncomplete = 3;

struct InvestigateArguments {
  Graces graces;
  std::vector<std::string> files;
  std::string database;
  std::string proto_dir;
  std::string descriptor_set;
  std::string keys = "tidb";
  std::string color = "auto";
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

int RunInvestigate(const InvestigateArguments& arguments) {
  InvestigationOptions options;
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
  command->add_flag("--json", arguments->json, "Print one JSON object");
  AddGraceOption(*command, arguments->graces);
  command->callback([arguments, &exit_status] { exit_status = RunInvestigate(*arguments); });
}

}  // namespace keytrail
