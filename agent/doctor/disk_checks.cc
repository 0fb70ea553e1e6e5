// Disk: the folder of the spool, its room, its owner, what is in it; the file of -w.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/doctor/checks.h"
#include "agent/ship/spool_look.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/shell_word.h"

namespace keytrail {

namespace {

// Reading a whole spool may take long.
constexpr int64_t kReadingNs = 3'000'000'000;

std::string ParentOf(const std::string& path) {
  std::string folder = path;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  const size_t slash = folder.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : folder.substr(0, slash);
}

// `path`, or the nearest folder above it that is there.
std::string Existing(std::string path) {
  struct stat about {};
  while (stat(path.c_str(), &about) != 0 && path != "/" && path != ".") path = ParentOf(path);
  return path;
}

// Where the file system of `path` is mounted.
std::string MountOf(std::string path) {
  struct stat here {};
  if (stat(path.c_str(), &here) != 0) return path;
  char* real = realpath(path.c_str(), nullptr);
  if (real != nullptr) path = real;
  std::free(real);
  struct stat above {};
  while (path != "/" && stat(ParentOf(path).c_str(), &above) == 0 && above.st_dev == here.st_dev)
    path = ParentOf(path);
  return path;
}

Check Fault(const std::string& found, const std::string& command, const std::string& fix) {
  return {"spool", CheckLevel::kFault, found, command, fix};
}

// The disk takes nothing at all. True: told.
bool DiskRefuses(const std::string& spool, const std::string& folder, CheckList& list) {
  struct statvfs disk {};
  if (statvfs(folder.c_str(), &disk) != 0) {
    list.Add(Fault("--spool '" + spool + "': " + std::strerror(errno), {}, "choose another folder"));
    return true;
  }
  if ((disk.f_flag & ST_RDONLY) != 0) {
    const std::string mount = MountOf(folder);
    list.Add(Fault("--spool '" + spool + "' lies on a file system that is read-only (" + mount + ")",
                   "mount -o remount,rw " + ShellWord(mount),
                   "if it became so by itself, its disk has errors (dmesg): choose a folder on another"));
    return true;
  }
  return false;
}

void CheckRoom(const DoctorOptions& options, const std::string& folder, uint64_t used, CheckList& list) {
  struct statvfs disk {};
  if (statvfs(folder.c_str(), &disk) != 0) return;
  const uint64_t available = uint64_t{disk.f_bavail} * disk.f_frsize;
  const std::string where = "--spool '" + options.spool + "'";
  const std::string look = "see what fills " + MountOf(folder) + " (du -xh -d 2 " + MountOf(folder) + ")";
  if (disk.f_files != 0 && disk.f_favail == 0) {
    return list.Add(Fault(where + ": its disk has no room for another file (inodes)", {}, look));
  }
  if (available + used < limits::kMinSpoolBytes) {
    return list.Add(Fault(where + ": its disk is full (" + SizeText(available) + " left, a spool needs " +
                              SizeText(limits::kMinSpoolBytes) + ")",
                          {}, look + ", or choose a folder on another disk"));
  }
  if (available + used >= options.spool_bytes) return;
  const uint64_t fits = std::max<uint64_t>((available + used) / 10 * 9 >> 20, limits::kMinSpoolBytes >> 20);
  list.Add({"spool",
            CheckLevel::kWarning,
            where + " may grow to " + SizeText(options.spool_bytes) + ", and its disk has " +
                SizeText(available) + " left" + (used != 0 ? " beside the " + SizeText(used) + " in it" : ""),
            {},
            "start it with --spool-bytes " + std::to_string(fits) + "MiB, or " + look});
}

void CheckContents(const DoctorOptions& options, const SpoolLook& look, const Redaction& redaction,
                   CheckList& list) {
  const std::string where = "--spool '" + options.spool + "'";
  if (look.held) {
    list.Add(Fault(
        where + " is used by another agent" + (look.holder.empty() ? "" : " (process " + look.holder + ")"),
        look.holder.empty() ? "" : "kill " + look.holder,
        "if that one is not wanted (systemctl stop keytrail-agent for a service); else give each agent a "
        "folder of its own"));
  }
  for (const Redaction& before : look.redactions) {
    if (before.mode == Redaction::Mode::kUnknown || before == redaction) continue;
    list.Add(Fault(
        where + " has records of an agent with --redact " + RedactionText(before) +
            ", this one has --redact " + RedactionText(redaction) + ": it will not begin",
        {},
        "ship them first: the same options with --drain, without -i and --redact; or give another folder"));
    break;
  }
  if (look.damaged != 0) {
    list.Add({"spool",
              CheckLevel::kWarning,
              where + ": " + std::to_string(look.damaged) + " of " +
                  std::to_string(look.batches + look.damaged) + " batches are damaged on the disk",
              {},
              "the agent passes over them and tells the loss; look for errors of the disk (dmesg, smartctl), "
              "and give "
              "a folder on another"});
  }
  if (look.newer != 0) {
    list.Add({"spool",
              CheckLevel::kWarning,
              where + " has " + std::to_string(look.newer) +
                  " segments of a later version, which this one leaves as they are",
              {},
              "ship them with the version that wrote them: keytrail-agent --drain"});
  }
}

}  // namespace

void CheckSpoolPlace(const DoctorOptions& options, const Account& account, CheckList& list) {
  if (options.spool.empty()) return;
  const std::string folder = Existing(options.spool);
  struct stat about {};
  if (stat(options.spool.c_str(), &about) == 0) return;  // looked at once the rights are gone
  if (DiskRefuses(options.spool, folder, list)) return;
  if (faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) == 0) return;
  list.Add(Fault("--spool '" + options.spool + "' is not there, and user " + std::to_string(geteuid()) +
                     " cannot make it in '" + folder + "'",
                 "install -d -m 700 -o " + ShellWord(account.name) + " " + ShellWord(options.spool), {}));
}

void CheckSpool(const DoctorOptions& options, const Account& account, const Redaction& redaction,
                CheckList& list) {
  if (options.spool.empty() || !list.fine("spool")) return;
  const std::string where = "--spool '" + options.spool + "'";
  const std::string folder = Existing(options.spool);
  struct stat about {};
  const bool there = stat(options.spool.c_str(), &about) == 0;
  uint64_t used = 0;
  if (!there && errno != ENOENT) {
    return list.Add(Fault(where + " cannot be written by '" + account.name + "': " + std::strerror(errno), {},
                          "the folders above it must let that user through (namei -l " +
                              ShellWord(options.spool) + " shows them)"));
  }
  if (there) {
    if (!S_ISDIR(about.st_mode)) {
      return list.Add(Fault(where + " is no folder", {}, "choose another name"));
    }
    if (about.st_uid != account.uid) {
      return list.Add(Fault(where + " belongs to user " + std::to_string(about.st_uid) + ", not to '" +
                                account.name + "', as whom the agent goes on",
                            "chown -R " + ShellWord(account.name) + " " + ShellWord(options.spool), {}));
    }
    if ((about.st_mode & 077) != 0) {
      return list.Add(Fault(where + " is open to other users", "chmod 700 " + ShellWord(options.spool), {}));
    }
    if (DiskRefuses(options.spool, folder, list)) return;
    if (faccessat(AT_FDCWD, options.spool.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
      return list.Add(Fault(where + " cannot be written by '" + account.name + "': " + std::strerror(errno),
                            {},
                            "the folders above it must let that user through (namei -l " +
                                ShellWord(options.spool) + " shows them)"));
    }
    const Result<SpoolLook> look = LookAtSpool(options.spool, SteadyNs() + kReadingNs);
    if (!look) return list.Add(Fault(look.error(), {}, "choose another folder"));
    used = look->bytes;
    CheckContents(options, *look, redaction, list);
  }
  CheckRoom(options, folder, used, list);
  if (!list.fine("spool")) return;
  list.Ok("spool", "'" + options.spool + "' " +
                       (there ? "can be written by '" + account.name + "', has " + SizeText(used) + " in it"
                              : "is not there and can be made") +
                       ", and room for " + SizeText(options.spool_bytes));
}

void CheckWriteFile(const DoctorOptions& options, CheckList& list) {
  if (options.write_file.empty()) return;
  const std::string target =
      access(options.write_file.c_str(), F_OK) == 0 ? options.write_file : ParentOf(options.write_file);
  if (faccessat(AT_FDCWD, target.c_str(), W_OK, AT_EACCESS) == 0) {
    return list.Ok("write_file", "-w '" + options.write_file + "' can be written");
  }
  list.Add({"write_file",
            CheckLevel::kFault,
            "-w '" + options.write_file + "': '" + target + "': " + std::strerror(errno),
            {},
            "choose a folder that the user that starts the agent may write"});
}

}  // namespace keytrail
