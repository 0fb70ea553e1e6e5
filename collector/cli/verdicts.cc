// `keytrail verdicts`: what was concluded.

#include <memory>

#include "collector/cli/commands.h"
#include "collector/cli/local_export.h"
#include "collector/cli/source_options.h"
#include "collector/cli/terminal.h"
#include "collector/report/report.h"

namespace keytrail {

namespace {

struct VerdictsArguments {
  SourceOptions source;
  std::string keys = "tidb";
  std::string color = "auto";
  bool json = false;
};

int RunVerdicts(const VerdictsArguments& arguments) {
  LocalExport record(arguments.source.database, "verdicts");
  const Result<std::unique_ptr<AnswerSource>> source = OpenSource(arguments.source);
  if (!source) return Fail(source.error());
  const Result<InvestigationReport> report = (*source)->Report();
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
  record.Done(report->verdicts.size(), text.size());
  if (WriteOut(text)) return kExitDone;
  record.entry().ended = "cut_off";
  return Fail("standard output: cannot write");
}

}  // namespace

void AddVerdictsCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<VerdictsArguments>();
  CLI::App* command = app.add_subcommand("verdicts", "Print the verdicts with their evidence");
  AddSourceOptions(*command, arguments->source);
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
