// Small files that are read and written whole: keys, lists of keys, certificates.
//
// Functions without state; thread-safe. Errors name the path, the reason, and how to mend it. Writing is for
// files that must never be seen half: a temporary file beside the target, fsync, rename, fsync of the folder.
#pragma once

#include <cstddef>
#include <string>

#include "common/result.h"

namespace keytrail {

// Who else than the owner may do what with a file, for it to be believed. In each case it must belong to the
// user that runs this, or to root.
enum class FileTrust {
  kAny,              // whoever may do whatever, owner included
  kSecret,           // nobody else may even read it
  kGroupMayRead,     // ... but its group (Debian keeps keys of TLS as 0640, group ssl-cert)
  kOnlyOwnerWrites,  // everybody may read it
};

// Error: it cannot be read, is no regular file (links are followed: secrets mounted by Kubernetes are links),
// is larger than `most` bytes, or may not be trusted as `trust` wants.
Result<std::string> ReadWholeFile(const std::string& path, size_t most, FileTrust trust);

// Error if others than the owner may write the folder, or the owner is somebody else than this user or root.
Status CheckFolderTrust(const std::string& folder);

enum class IfThere { kFail, kReplace };

// `mode` as for chmod, whatever the umask is. Error, also if it is there and may not be replaced; what was
// there is then untouched.
Status WriteWholeFile(const std::string& path, const std::string& text, unsigned mode, IfThere if_there);

// Makes a rename or an unlink in the folder of `path` last.
Status SyncFolderOf(const std::string& path);

}  // namespace keytrail
