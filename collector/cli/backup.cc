// `keytrail backup`: a consistent copy of a database or a collector's folder, in one file.

#include <filesystem>
#include <memory>
#include <string>

#include "collector/cli/commands.h"
#include "collector/cli/local_export.h"
#include "collector/cli/terminal.h"
#include "collector/store/store.h"

namespace keytrail {

void AddBackupCommand(CLI::App& app, int& exit_status) {
  struct Arguments {
    std::string from;
    std::string to;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "backup", "Copy a database or a collector's folder into one new file, while it is written");
  command->add_option("--db", arguments->from, "Copy this folder or database")->type_name("PATH")->required();
  command->add_option("FILE", arguments->to, "The new file; one that is there is not overwritten")
      ->required();
  command->callback([arguments, &exit_status] {
    LocalExport record(arguments->from, "backup");
    record.entry().statement = arguments->to;
    const Status done = BackUp(arguments->from, arguments->to);
    std::error_code unknown;
    const uintmax_t bytes = done.ok() ? std::filesystem::file_size(arguments->to, unknown) : 0;
    if (done.ok()) record.Done(0, unknown ? 0 : bytes);
    exit_status = done.ok() ? kExitDone : Fail(done.error());
  });
}

}  // namespace keytrail
