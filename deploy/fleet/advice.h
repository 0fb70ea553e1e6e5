// What a failed command means for a person: one sentence why, one what to do. Pure.
#pragma once

#include <string>

#include "deploy/fleet/command.h"
#include "deploy/fleet/plan.h"

namespace keytrail {

struct Advice {
  std::string why;
  std::string what_to_do;  // empty: nothing better than reading why
};

Advice AdviceFor(const CommandResult& result, const Command& command, const UnitPlan& unit);

}  // namespace keytrail
