// `keytrail watch` on a terminal: a view that is redrawn in place until somebody leaves.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "collector/cli/screen.h"
#include "collector/cli/source_options.h"

namespace keytrail {

struct WatchScreenEnd {
  uint64_t events = 0;
  uint64_t bytes = 0;  // of the events, as --json would have them
  int signal = 0;  // that ended it, to be passed on; 0: none
};

// `source` is open already; of a collector that goes away it is opened again. `screen` is closed when this
// returns.
WatchScreenEnd RunWatchScreen(std::unique_ptr<Screen> screen, const SourceOptions& options,
                              std::unique_ptr<AnswerSource> source, std::optional<int64_t> duration_ns);

}  // namespace keytrail
