// A bound for what SQLite may allocate on behalf of one thread.
//
// SQLite's own hard heap limit is one for the process: a greedy query would make the writer's commits fail.
// So the allocator is wrapped, and counts for the thread that asks. A connection is used by one thread at a
// time, and what it allocates within the bound is counted there; freeing what was allocated before is
// counted, too.
#pragma once

#include <cstdint>

namespace keytrail {

// Must be called before SQLite is first used in the process; again does nothing. False: SQLite was in use
// already, and nothing is bounded.
bool InstallMemoryBound();

// While it lives, allocations of SQLite on this thread beyond `bytes` fail. Not nested.
class MemoryBound {
 public:
  explicit MemoryBound(int64_t bytes);
  ~MemoryBound();
  MemoryBound(const MemoryBound&) = delete;
  MemoryBound& operator=(const MemoryBound&) = delete;

  // True if an allocation failed because of the bound.
  bool hit() const;
};

}  // namespace keytrail
