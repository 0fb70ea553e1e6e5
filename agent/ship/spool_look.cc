#include "agent/ship/spool_look.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "agent/ship/spool_format.h"
#include "common/clock.h"
#include "common/descriptor.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// No segment that this program writes is longer.
constexpr uint64_t kMostBytes = 256u << 20;

void LookAtLock(const std::string& path, SpoolLook& look) {
  const Descriptor lock(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (lock.get() < 0) return;
  if (flock(lock.get(), LOCK_SH | LOCK_NB) == 0) return;
  if (errno != EWOULDBLOCK) return;
  look.held = true;
  std::array<char, 32> text{};
  const ssize_t size = pread(lock.get(), text.data(), text.size() - 1, 0);
  look.holder.assign(text.data(), size > 0 ? static_cast<size_t>(size) : 0);
  while (!look.holder.empty() && look.holder.back() == '\n') look.holder.pop_back();
  if (look.holder.find_first_not_of("0123456789") != std::string::npos) look.holder.clear();
}

bool ReadAll(int fd, std::string& data) {
  size_t got = 0;
  while (got < data.size()) {
    const ssize_t n = pread(fd, data.data() + got, data.size() - got, static_cast<off_t>(got));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    got += static_cast<size_t>(n);
  }
  return got == data.size();
}

void LookAtSegment(const std::string& path, uint64_t epoch, SpoolLook& look) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat about {};
  if (file.get() < 0 || fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode)) {
    ++look.not_read;
    return;
  }
  ++look.segments;
  look.bytes += static_cast<uint64_t>(about.st_size);
  std::string data(std::min<uint64_t>(static_cast<uint64_t>(about.st_size), kMostBytes), '\0');
  if (!ReadAll(file.get(), data)) {
    ++look.not_read;
    return;
  }
  bool newer = false;
  const Result<SpoolHeader> header = ParseSpoolHeader(AsBytes(data), newer);
  if (newer) {
    ++look.newer;
    return;
  }
  if (header) {
    const Redaction& redaction = header->identity.redaction;
    if (std::find(look.redactions.begin(), look.redactions.end(), redaction) == look.redactions.end()) {
      look.redactions.push_back(redaction);
    }
  }
  SpoolScanner scanner(epoch, AsBytes(data).subspan(header ? header->bytes : 0));
  SpoolEntry entry;
  uint64_t whole = 0;
  for (;;) {
    const SpoolScanner::Found found = scanner.Next(entry);
    if (found == SpoolScanner::Found::kEnd) break;
    if (found == SpoolScanner::Found::kEntry) {
      ++whole;
    } else {
      ++look.damaged;
    }
  }
  look.batches += whole;
  // A segment that was begun when its agent was killed has no whole header, and nothing behind it. A torn
  // tail is the same: the agent cuts it off and tells it.
  if (!header && (whole != 0 || data.size() > kMaxSpoolHeaderBytes)) ++look.damaged;
}

}  // namespace

Result<SpoolLook> LookAtSpool(const std::string& folder, int64_t deadline_ns) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  if (entries == nullptr) return Error{"spool '" + folder + "': " + std::strerror(errno)};
  SpoolLook look;
  LookAtLock(folder + "/" + kSpoolLockName, look);
  while (const dirent* entry = readdir(entries.get())) {
    uint64_t start = 0;
    uint64_t epoch = 0;
    uint64_t sequence = 0;
    if (!ParseSpoolSegmentName(entry->d_name, start, epoch, sequence)) continue;
    const std::string path = folder + "/" + entry->d_name;
    struct stat about {};
    if (look.held || SteadyNs() >= deadline_ns) {
      ++look.segments;
      ++look.not_read;
      if (lstat(path.c_str(), &about) == 0) look.bytes += static_cast<uint64_t>(about.st_size);
      continue;
    }
    LookAtSegment(path, epoch, look);
  }
  return look;
}

}  // namespace keytrail
