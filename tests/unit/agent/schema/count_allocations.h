// How often operator new was called while `on`. Single-threaded tests only.
#pragma once

#include <cstddef>

namespace keytrail::testing {

struct AllocationCount {
  bool on = false;
  size_t count = 0;
};
extern AllocationCount allocation_count;

}  // namespace keytrail::testing
