#include "tests/unit/agent/schema/count_allocations.h"

#include <cstdlib>
#include <new>

namespace keytrail::testing {
AllocationCount allocation_count;
}  // namespace keytrail::testing

void* operator new(size_t n) {
  if (keytrail::testing::allocation_count.on) ++keytrail::testing::allocation_count.count;
  if (void* p = std::malloc(n)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
