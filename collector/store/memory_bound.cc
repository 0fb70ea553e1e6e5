#include "collector/store/memory_bound.h"

#include <sqlite3.h>

#include <mutex>

namespace keytrail {

namespace {

struct Account {
  int64_t limit = 0;  // 0: no bound
  int64_t used = 0;
  bool hit = false;
};
thread_local Account account;

sqlite3_mem_methods plain;

bool Fits(int64_t more) {
  if (account.limit == 0 || account.used + more <= account.limit) return true;
  account.hit = true;
  return false;
}

void* Allocate(int size) {
  if (!Fits(size)) return nullptr;
  void* p = plain.xMalloc(size);
  if (account.limit != 0 && p != nullptr) account.used += plain.xSize(p);
  return p;
}

void Free(void* p) {
  if (account.limit != 0 && p != nullptr) account.used -= plain.xSize(p);
  plain.xFree(p);
}

void* Reallocate(void* p, int size) {
  if (account.limit == 0) return plain.xRealloc(p, size);
  const int before = plain.xSize(p);
  if (!Fits(int64_t{size} - before)) return nullptr;
  void* moved = plain.xRealloc(p, size);
  if (moved != nullptr) account.used += plain.xSize(moved) - before;
  return moved;
}

bool Install() {
  if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain) != SQLITE_OK) return false;
  sqlite3_mem_methods bounded = plain;
  bounded.xMalloc = Allocate;
  bounded.xFree = Free;
  bounded.xRealloc = Reallocate;
  if (sqlite3_config(SQLITE_CONFIG_MALLOC, &bounded) != SQLITE_OK) return false;
  // SQLite's own statistics take a lock of the whole process at each allocation: queries would hold up the
  // writer.
  return sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK;
}

}  // namespace

bool InstallMemoryBound() {
  static const bool installed = Install();
  return installed;
}

MemoryBound::MemoryBound(int64_t bytes) {
  account = {bytes, 0, false};
}
MemoryBound::~MemoryBound() {
  account = {};
}
bool MemoryBound::hit() const {
  return account.hit;
}

}  // namespace keytrail
