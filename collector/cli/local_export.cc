#include "collector/cli/local_export.h"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "common/clock.h"

namespace keytrail {

namespace {

std::string UserName(uid_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> room{};
  if (getpwuid_r(uid, &entry, room.data(), room.size(), &found) != 0 || found == nullptr) return {};
  return found->pw_name;
}

}  // namespace

LocalExport::LocalExport(const std::string& database, const std::string& what) {
  if (!database.empty()) folder_ = AuditLog::FolderOf(database);
  if (!folder_) return;
  entry_.what = what;
  entry_.ended = "failed";
  // Who began it: with sudo the real user is root as well.
  entry_.uid = getuid();
  entry_.user = UserName(getuid());
  entry_.begun_ns = WallClockNs();
  begun_steady_ns_ = SteadyNs();
}

LocalExport::~LocalExport() {
  if (!folder_) return;
  entry_.elapsed_ns = SteadyNs() - begun_steady_ns_;
  const Status appended = AuditLog(*folder_).Append(entry_);
  if (appended.ok()) return;
  std::fprintf(stderr, "keytrail: this is not in the audit log: %s\n", appended.error().c_str());
}

void LocalExport::Done(uint64_t rows, uint64_t bytes) {
  entry_.rows = rows;
  entry_.bytes = bytes;
  entry_.ended = "done";
}

}  // namespace keytrail
