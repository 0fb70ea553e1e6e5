// `keytrail verdicts --db FILE`: what was concluded, from a database.

#include <cstdio>
#include <memory>

#include "collector/cli/commands.h"
#include "collector/cli/terminal.h"
#include "collector/report/report.h"
#include "collector/store/store.h"

namespace keytrail {

namespace {

struct VerdictsArguments {
  std::string database;
  std::string keys = "tidb";
  std::string color = "auto";
  bool json = false;
};

int Fail(const std::string& message) {
  std::fprintf(stderr, "keytrail: %s\n", message.c_str());
  return kExitFailed;
}

int RunVerdicts(const VerdictsArguments& arguments) {
  Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(arguments.database);
  if (!store) return Fail(store.error());
  // "Nobody is wrong" must not be read out of a database that nobody has judged.
  bool judged = false;
  const Status asked = (*store)->Query(
      "SELECT 1 FROM about WHERE name = 'calls'", [](const Store::QueryColumns&) {},
      [&](const std::vector<Store::QueryValue>&) {
        judged = true;
        return false;
      });
  if (!asked.ok()) return Fail("database '" + arguments.database + "': " + asked.error());
  if (!judged) {
    return Fail("database '" + arguments.database +
                "': nothing was judged yet; a collector does so a moment " + "after the first records");
  }
  const Result<InvestigationReport> report = (*store)->ReadReport();
  if (!report) return Fail(report.error());
  std::string text;
  if (arguments.json) {
    text = ReportJson(*report);
  } else {
    ReportTextOptions look;
    look.color = UseColor(arguments.color);
    look.width = TerminalColumns();
    look.hex_keys = arguments.keys == "hex";
    text = ReportText(*report, look);
  }
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return Fail("standard output: cannot write");
  }
  return kExitDone;
}

}  // namespace

void AddVerdictsCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<VerdictsArguments>();
  CLI::App* command = app.add_subcommand("verdicts", "Print the verdicts of a database with their evidence");
  command->add_option("--db", arguments->database, "Database of a collector or an investigation")
      ->required()
      ->type_name("FILE");
  command->add_option("--keys", arguments->keys, "How text shows keys: 'tidb' (t53_r8012) or 'hex'")
      ->check(CLI::IsMember({"tidb", "hex"}))
      ->type_name("FORM");
  command->add_option("--color", arguments->color, "auto, always or never; NO_COLOR is heeded")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->callback([arguments, &exit_status] { exit_status = RunVerdicts(*arguments); });
}

}  // namespace keytrail
