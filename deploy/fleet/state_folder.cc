#include "deploy/fleet/state_folder.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <sstream>
#include <utility>

#include "common/limits.h"
#include "common/whole_file.h"
#include "deploy/fleet/host_script.h"

namespace keytrail {

namespace {

Error ErrnoOf(const std::string& path) {
  return Error{"'" + path + "': " + std::strerror(errno)};
}

}  // namespace

StateFolder::StateFolder(std::string path) : path_(std::move(path)) {}

StateFolder::~StateFolder() {
  if (lock_ >= 0) close(lock_);
}

bool StateFolder::there() const {
  std::error_code error;
  return std::filesystem::is_directory(path_, error);
}

Status StateFolder::Lock() {
  if (mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoOf(path_);
  struct stat info {};
  if (stat(path_.c_str(), &info) != 0) return ErrnoOf(path_);
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return Error{
        "'" + path_ +
        "' keeps secret keys: it must be a folder of this user that nobody else may enter; chmod 0700 "
        "mends that, --state names another"};
  }
  const std::string file = path_ + "/lock";
  lock_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) return ErrnoOf(file);
  if (flock(lock_, LOCK_EX | LOCK_NB) == 0) return Done{};
  if (errno != EWOULDBLOCK) return ErrnoOf(file);
  return Error{"another keytrail fleet works on '" + path_ + "'; wait for it"};
}

std::map<std::string, std::string> StateFolder::SavedOptions() const {
  std::map<std::string, std::string> options;
  const Result<std::string> text =
      ReadWholeFile(path_ + "/options", limits::kMaxTopologyBytes, FileTrust::kSecret);
  if (!text) return options;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find('=');
    if (equals != std::string::npos) options[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return options;
}

Status StateFolder::SaveOptions(const std::map<std::string, std::string>& options) {
  std::string text;
  for (const auto& [key, value] : options) text += key + "=" + value + "\n";
  return WriteWholeFile(path_ + "/options", text, 0600, IfThere::kReplace);
}

Status StateFolder::WriteScript() {
  return WriteWholeFile(path_ + "/host.sh", std::string(HostScript()), 0600, IfThere::kReplace);
}

void StateFolder::ForgetKey(const std::string& key_name) {
  std::error_code ignored;
  std::filesystem::remove(path_ + "/keys/" + key_name + ".key", ignored);
  std::filesystem::remove(path_ + "/keys/" + key_name + ".pub", ignored);
}

Status StateFolder::Remove() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
  if (error) return Error{"'" + path_ + "': " + error.message()};
  return Done{};
}

Result<std::string> Sha256OfFile(const std::string& path, uint64_t& size) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (file == nullptr) return ErrnoOf(path);
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  unsigned char bytes[65536];
  size = 0;
  for (size_t got = 0; (got = std::fread(bytes, 1, sizeof bytes, file.get())) > 0; size += got) {
    crypto_hash_sha256_update(&state, bytes, got);
  }
  if (std::ferror(file.get()) != 0) return Error{"'" + path + "': cannot be read"};
  unsigned char hash[crypto_hash_sha256_BYTES];
  crypto_hash_sha256_final(&state, hash);
  std::string text;
  for (const unsigned char byte : hash) {
    char hex[3] = {};
    std::snprintf(hex, sizeof hex, "%02x", byte);
    text += hex;
  }
  return text;
}

}  // namespace keytrail
