// What a collector keeps: --keep-age, --keep-bytes and --check.
#pragma once

#include <CLI/CLI.hpp>

#include "collector/store/store.h"

namespace keytrail {

// `options` must outlive the parsing.
void AddKeepOptions(CLI::App& app, FolderOptions& options);

}  // namespace keytrail
