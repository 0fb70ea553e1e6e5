#include "collector/query/audit_log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "common/descriptor.h"
#include "common/limits.h"

namespace keytrail {

namespace {

using nlohmann::ordered_json;

constexpr const char* kName = "audit.log";
constexpr const char* kOlderName = "audit.log.1";
constexpr const char* kCatalogue = "keytrail.db";

std::string UtcText(int64_t ns) {
  const std::time_t second = ns / 1'000'000'000;
  std::tm utc{};
  gmtime_r(&second, &utc);
  std::array<char, 40> text{};
  const size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text.data() + size, text.size() - size, ".%03dZ", static_cast<int>(ns / 1'000'000 % 1000));
  return text.data();
}

ordered_json OrNull(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

}  // namespace

std::string AuditLine(const AuditEntry& e) {
  std::string statement = e.statement.substr(0, limits::kMaxAuditStatementBytes);
  ordered_json line = {
      {"at", UtcText(e.begun_ns)},
      {"at_ns", e.begun_ns},
      {"who", e.uid ? ordered_json{{"uid", *e.uid}, {"user", OrNull(e.user)}}
                    : ordered_json{{"peer", e.peer}, {"tls_name", OrNull(e.tls_name)}}},
      {"what", e.what},
      {"for", OrNull(e.purpose)},
      {"statement", OrNull(statement)},
      {"statement_bytes", e.statement.size()},
      {"named", OrNull(e.named)},
      {"parameters", e.parameters},
      {"rows", e.rows},
      {"bytes", e.bytes},
      {"elapsed_ms", e.elapsed_ns / 1'000'000},
      {"ended", e.ended},
  };
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::optional<std::string> AuditLog::FolderOf(const std::string& database) {
  namespace fs = std::filesystem;
  std::error_code problem;
  const fs::path path(database);
  const bool is_folder = fs::is_directory(path, problem);
  const fs::path catalogue = is_folder ? path / kCatalogue : path;
  // In a folder that is none of a collector nothing shall be left behind.
  if (catalogue.filename() != kCatalogue || !fs::is_regular_file(catalogue, problem)) return std::nullopt;
  const fs::path folder = catalogue.parent_path();
  return folder.empty() ? "." : folder.string();
}

Status AuditLog::Append(const AuditEntry& entry) const {
  const std::string path = folder_ + "/" + kName;
  const auto failed = [&](int error) { return Error{"'" + path + "': " + std::strerror(error)}; };
  const std::string line = AuditLine(entry);
  // Again if another process put the file away between open(2) and flock(2).
  for (int tries = 0; tries < 8; ++tries) {
    const Descriptor file(
        open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (file.get() < 0) return failed(errno);
    struct stat opened {};
    struct stat named {};
    if (fstat(file.get(), &opened) != 0) return failed(errno);
    // Root may write here, in a folder of somebody else, who must not make it write elsewhere.
    if (!S_ISREG(opened.st_mode) || opened.st_nlink > 1) {
      return Error{"'" + path + "' is no regular file, or has another name besides"};
    }
    while (flock(file.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return failed(errno);
    }
    if (lstat(path.c_str(), &named) != 0 || named.st_ino != opened.st_ino) continue;
    if (fstat(file.get(), &opened) != 0) return failed(errno);
    if (opened.st_size == 0 && geteuid() == 0) {
      // Made by root's command: the collector must be able to go on with it.
      struct stat folder {};
      if (stat(folder_.c_str(), &folder) == 0) (void)!fchown(file.get(), folder.st_uid, folder.st_gid);
    }
    const auto size = static_cast<uint64_t>(opened.st_size);
    if (size != 0 && size + line.size() > limits::kMaxAuditBytes) {
      if (rename(path.c_str(), (folder_ + "/" + kOlderName).c_str()) != 0) return failed(errno);
      continue;
    }
    const ssize_t written = write(file.get(), line.data(), line.size());
    if (written == static_cast<ssize_t>(line.size())) return Done{};
    const int error = written < 0 ? errno : ENOSPC;
    // Half a line would make the next one unreadable, too.
    if (written > 0) (void)!ftruncate(file.get(), opened.st_size);
    return failed(error);
  }
  return Error{"'" + path + "' is put away faster than it can be written"};
}

}  // namespace keytrail
