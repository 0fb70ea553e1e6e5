// `keytrail investigate [HOST=]FILE…`
#pragma once

#include <CLI/CLI.hpp>

namespace keytrail {

// Adds the subcommand. `exit_status` is set when it ran.
void AddInvestigateCommand(CLI::App& app, int& exit_status);

}  // namespace keytrail
