// What an agent may use, and how much it reads while it uses more: readings in, a step out.
//
// Pure: time and readings come from the caller (agent/self_restraint.h), a few in a second. It goes a step up
// (reads less) when one of the limits was exceeded during all of limits::kRestraintWindowNs, and a step down
// when all was below three quarters of the limits for a while (limits::kRestraintCalmNs, longer each time
// that this turned out to be too early). Each step starts a window of its own: what was used before it says
// nothing about it. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "common/detail_level.h"
#include "common/limits.h"

namespace keytrail {

struct RestraintLimits {
  double cpu_share = 0;       // of one core: 0.5 is half of one; 0: no limit
  uint64_t memory_bytes = 0;  // resident; 0: no limit
  bool any() const { return cpu_share > 0 || memory_bytes != 0; }
};

struct RestraintReading {
  int64_t at_ns = 0;   // of a clock that is not set back
  int64_t cpu_ns = 0;  // of the process since its start
  uint64_t memory_bytes = 0;
};

struct RestraintStep {
  DetailLevel from = DetailLevel::kFull;
  DetailLevel to = DetailLevel::kFull;
  bool by_memory = false;  // of a step up: which limit; both: the memory
  double cpu_share = 0;    // in the window before it
  uint64_t memory_bytes = 0;
};

class Restraint {
 public:
  explicit Restraint(const RestraintLimits& limits) : limits_(limits) {}

  std::optional<RestraintStep> Observe(const RestraintReading& reading);

  DetailLevel level() const { return level_; }
  // There is no further step, and it is still above a limit.
  bool exhausted() const { return exhausted_; }
  // How long it must be calm now before a step down.
  int64_t calm_ns() const { return calm_ns_; }

 private:
  RestraintStep Go(DetailLevel to, bool by_memory, double cpu_share, const RestraintReading& reading);

  const RestraintLimits limits_;
  DetailLevel level_ = DetailLevel::kFull;
  std::deque<RestraintReading> window_;  // the oldest spans the window
  std::optional<int64_t> calm_since_ns_;
  std::optional<int64_t> down_at_ns_;
  int64_t calm_ns_ = limits::kRestraintCalmNs;
  bool exhausted_ = false;
};

}  // namespace keytrail
