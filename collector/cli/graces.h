// --grace NAME=SECONDS: how long a component may go on by what it should know better (Graces).
#pragma once

#include "collector/correlate/correlator.h"

namespace CLI {
class App;
}

namespace keytrail {

// `graces` must live until the command line is parsed. A name that does not exist, or no number of seconds,
// is wrong usage with a clear text.
void AddGraceOption(CLI::App& command, Graces& graces);

}  // namespace keytrail
