// keytrail: questions to a database of records, and investigations of captures.

#include <csignal>
#include <string>

#include <CLI/CLI.hpp>

#include "collector/cli/commands.h"
#include "collector/cli/investigate.h"
#include "common/version.h"

namespace keytrail {
namespace {

int Main(int argc, char** argv) {
  CLI::App app{"keytrail says which of TiDB, PD and TiKV first stated a wrong range."};
  app.name("keytrail");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("keytrail ") + kVersion);
  app.footer("Exit status: 0 done; 1 failed; 2 wrong usage; 3 done, but something was lost or incomplete.");
  int exit_status = kExitDone;
  AddInvestigateCommand(app, exit_status);
  AddVerdictsCommand(app, exit_status);
  AddTimelineCommand(app, exit_status);
  AddSqlCommand(app, exit_status);
  AddAgentsCommand(app, exit_status);
  AddLossesCommand(app, exit_status);
  AddWatchCommand(app, exit_status);
  AddBackupCommand(app, exit_status);
  AddKeysCommand(app, exit_status);
  AddDoctorCommand(app, exit_status);
  AddFleetCommand(app, exit_status);
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of the write that meets it
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitDone : kExitUsage;
  }
  return exit_status;
}

}  // namespace
}  // namespace keytrail

int main(int argc, char** argv) {
  return keytrail::Main(argc, argv);
}
