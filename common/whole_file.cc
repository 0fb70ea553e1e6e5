#include "common/whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/descriptor.h"

namespace keytrail {

namespace {

std::string Quoted(const std::string& path) {
  return "'" + path + "'";
}

Error Failed(const std::string& path, int error) {
  return Error{Quoted(path) + ": " + std::strerror(error)};
}

std::string Octal(unsigned mode) {
  char text[8];
  std::snprintf(text, sizeof text, "%04o", mode & 07777);
  return text;
}

// Of an open file, so that nobody changes what was looked at.
Status CheckTrust(const std::string& path, const struct stat& info, mode_t forbidden, const char* mended) {
  if (info.st_uid != geteuid() && info.st_uid != 0) {
    return Error{Quoted(path) + " belongs to user " + std::to_string(info.st_uid) +
                 ", neither to root nor to user " + std::to_string(geteuid()) + " that runs this: chown " +
                 std::to_string(geteuid()) + " " + Quoted(path) + " if it may be trusted"};
  }
  if ((info.st_mode & forbidden) == 0) return Done{};
  const bool written = (info.st_mode & forbidden & 022) != 0;
  return Error{Quoted(path) + " can be " + (written ? "changed" : "read") + " by others (mode " +
               Octal(info.st_mode) + "): chmod " + mended + " " + Quoted(path)};
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<std::string> ReadWholeFile(const std::string& path, size_t most, FileTrust trust) {
  // A pipe must not hold us up before it is seen that it is one.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return Failed(path, errno);
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return Failed(path, errno);
  if (!S_ISREG(info.st_mode)) return Error{Quoted(path) + " is no file"};
  Status trusted = Done{};
  if (trust == FileTrust::kSecret) trusted = CheckTrust(path, info, 077, "600");
  if (trust == FileTrust::kGroupMayRead) trusted = CheckTrust(path, info, 037, "640");
  if (trust == FileTrust::kOnlyOwnerWrites) trusted = CheckTrust(path, info, 022, "go-w");
  if (!trusted.ok()) return Error{trusted.error()};
  std::string text(most + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = read(file.get(), text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed(path, errno);
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  if (size > most) return Error{Quoted(path) + " is larger than " + std::to_string(most) + " bytes"};
  text.resize(size);
  return text;
}

Status CheckFolderTrust(const std::string& folder) {
  struct stat info {};
  if (stat(folder.c_str(), &info) != 0) return Failed(folder, errno);
  if (!S_ISDIR(info.st_mode)) return Error{Quoted(folder) + " is no folder"};
  return CheckTrust(folder, info, 022, "go-w");
}

Status WriteWholeFile(const std::string& path, const std::string& text, unsigned mode, IfThere if_there) {
  const size_t slash = path.rfind('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  // Readers of a folder pass over what begins with a dot.
  std::string temporary = FolderOf(path) + "/." + name + ".XXXXXX";
  const Descriptor file(mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) return Failed(path, errno);
  int error = 0;
  for (size_t done = 0; done < text.size() && error == 0;) {
    const ssize_t n = write(file.get(), text.data() + done, text.size() - done);
    if (n >= 0) done += static_cast<size_t>(n);
    if (n < 0 && errno != EINTR) error = errno;
  }
  if (error == 0 && (fchmod(file.get(), mode) != 0 || fsync(file.get()) != 0)) error = errno;
  if (error == 0 && if_there == IfThere::kReplace && rename(temporary.c_str(), path.c_str()) != 0)
    error = errno;
  // A link is made only where nothing is, which a rename does not promise.
  if (error == 0 && if_there == IfThere::kFail && link(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0 || if_there == IfThere::kFail) unlink(temporary.c_str());
  if (error != 0) return Failed(path, error);
  return SyncFolderOf(path);
}

Status SyncFolderOf(const std::string& path) {
  const Descriptor folder(open(FolderOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || fsync(folder.get()) != 0) return Failed(FolderOf(path), errno);
  return Done{};
}

}  // namespace keytrail
