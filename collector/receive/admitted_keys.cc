#include "collector/receive/admitted_keys.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "common/limits.h"
#include "common/whole_file.h"

namespace keytrail {

namespace {

constexpr std::string_view kAdmittedEnd = ".pub";
constexpr std::string_view kRevokedEnd = ".revoked";

struct Entry {
  std::string name;  // of the file
  struct stat info {};
};

bool IsKeyFile(const std::string& name) {
  return !name.starts_with('.') &&
         (name.ends_with(kAdmittedEnd) || name.ends_with(kRevokedEnd) || name.ends_with(".key"));
}

// Files that could be keys, by name.
Result<std::vector<Entry>> ListFolder(const std::string& folder) {
  const Status trusted = CheckFolderTrust(folder);
  if (!trusted.ok()) return Error{trusted.error()};
  std::vector<Entry> entries;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    Entry entry;
    entry.name = at->path().filename().string();
    if (!IsKeyFile(entry.name)) continue;
    if (entries.size() == limits::kMaxAdmittedKeys) {
      return Error{"'" + folder + "' has more than " + std::to_string(limits::kMaxAdmittedKeys) + " keys"};
    }
    // One that went meanwhile is told when it is read.
    (void)stat(at->path().c_str(), &entry.info);
    entries.push_back(std::move(entry));
  }
  if (error) return Error{"'" + folder + "': " + error.message()};
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return entries;
}

// Changes whenever a file is added, removed, replaced or written.
std::string FingerprintOf(const std::vector<Entry>& entries) {
  std::string text;
  for (const Entry& entry : entries) {
    for (const auto number : {static_cast<int64_t>(entry.info.st_ino), int64_t{entry.info.st_size},
                              int64_t{entry.info.st_mode}, int64_t{entry.info.st_uid},
                              int64_t{entry.info.st_ctim.tv_sec}, int64_t{entry.info.st_ctim.tv_nsec}}) {
      text += std::to_string(number) + ' ';
    }
    text += entry.name + '\n';
  }
  return text;
}

std::string PathIn(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

KeyFolder ReadEntries(const std::string& folder, const std::vector<Entry>& entries) {
  KeyFolder out;
  for (const Entry& entry : entries) {
    const std::string path = PathIn(folder, entry.name);
    if (entry.name.ends_with(".key")) {
      out.problems.push_back("'" + path + "' does not count: secret keys have no place among admitted ones");
      continue;
    }
    AdmittedKey key;
    key.revoked = entry.name.ends_with(kRevokedEnd);
    key.name = entry.name.substr(0, entry.name.size() - (key.revoked ? kRevokedEnd : kAdmittedEnd).size());
    const Result<PublicKey> read = ReadPublicKeyFile(path);
    if (!read || !IsKeyName(key.name)) {
      out.problems.push_back(read ? "'" + path + "' does not count: no good name for a key" : read.error());
      continue;
    }
    key.public_key = read->key;
    key.changed_ns = int64_t{entry.info.st_ctim.tv_sec} * 1'000'000'000 + entry.info.st_ctim.tv_nsec;
    out.keys.push_back(std::move(key));
  }
  std::stable_sort(out.keys.begin(), out.keys.end(), [](const AdmittedKey& a, const AdmittedKey& b) {
    return a.revoked != b.revoked ? b.revoked : a.name < b.name;
  });
  return out;
}

}  // namespace

Result<KeyFolder> ReadKeyFolder(const std::string& folder) {
  const Result<std::vector<Entry>> entries = ListFolder(folder);
  if (!entries) return Error{entries.error()};
  return ReadEntries(folder, *entries);
}

Result<KeyChange> AdmitKey(const std::string& folder, const PublicKey& key) {
  if (mkdir(folder.c_str(), 0755) == 0) {
    const Status synced = SyncFolderOf(folder);
    if (!synced.ok()) return Error{synced.error()};
  } else if (errno != EEXIST) {
    return Error{"'" + folder + "': " + std::strerror(errno)};
  }
  const Result<KeyFolder> read = ReadKeyFolder(folder);
  if (!read) return Error{read.error()};
  for (const AdmittedKey& other : read->keys) {
    if (other.revoked) continue;
    if (other.public_key != key.key && other.name != key.name) continue;
    if (other.public_key == key.key && other.name == key.name) {
      // A revocation beside it would win; whoever admits wants it gone.
      break;
    }
    return Error{other.name == key.name
                     ? "another key is admitted as '" + key.name + "'; `keytrail keys revoke " + key.name +
                           "` first, or make the new one under another name"
                     : "this key is admitted already, as '" + other.name + "'"};
  }
  KeyChange change;
  for (const AdmittedKey& other : read->keys) {
    if (!other.revoked || other.public_key != key.key) continue;
    const std::string path = PathIn(folder, other.name + std::string(kRevokedEnd));
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return Error{"'" + path + "': " + std::strerror(errno)};
    change.changed = true;
  }
  const bool there = std::any_of(read->keys.begin(), read->keys.end(), [&](const AdmittedKey& other) {
    return !other.revoked && other.public_key == key.key;
  });
  if (there && !change.changed) return KeyChange{false, "'" + key.name + "' is admitted already"};
  const std::string path = PathIn(folder, key.name + std::string(kAdmittedEnd));
  const Status written = WriteWholeFile(path, PublicKeyText(key), 0644, IfThere::kReplace);
  if (!written.ok()) return Error{written.error()};
  return KeyChange{true, "'" + key.name + "' is admitted" + (change.changed ? " again" : "")};
}

Result<KeyChange> RevokeKey(const std::string& folder, const std::string& name_or_key) {
  const Result<KeyFolder> read = ReadKeyFolder(folder);
  if (!read) return Error{read.error()};
  std::string names;
  for (const AdmittedKey& key : read->keys) {
    if (key.revoked) continue;
    if (key.name != name_or_key && key.public_key != name_or_key) {
      names += (names.empty() ? "" : ", ") + key.name;
      continue;
    }
    // One rename: the key is admitted before it and revoked after it, whenever the power goes.
    const std::string from = PathIn(folder, key.name + std::string(kAdmittedEnd));
    const std::string to = PathIn(folder, key.name + std::string(kRevokedEnd));
    if (rename(from.c_str(), to.c_str()) != 0) return Error{"'" + from + "': " + std::strerror(errno)};
    const Status synced = SyncFolderOf(to);
    if (!synced.ok()) return Error{synced.error()};
    return KeyChange{true, "'" + key.name + "' is revoked"};
  }
  for (const AdmittedKey& key : read->keys) {
    if (key.name == name_or_key || key.public_key == name_or_key) {
      return KeyChange{false, "'" + key.name + "' is revoked already"};
    }
  }
  return Error{"nobody is admitted as '" + name_or_key + "' in '" + folder + "'" +
               (names.empty() ? ", nor under another name" : "; admitted are " + names)};
}

Result<std::unique_ptr<AdmittedKeys>> AdmittedKeys::Open(const std::string& folder) {
  std::unique_ptr<AdmittedKeys> keys(new AdmittedKeys(folder));
  const Result<std::vector<Entry>> entries = ListFolder(folder);
  if (!entries) return Error{entries.error()};
  keys->fingerprint_ = FingerprintOf(*entries);
  keys->Take(ReadEntries(folder, *entries));
  return keys;
}

bool AdmittedKeys::Reload() {
  const Result<std::vector<Entry>> entries = ListFolder(folder_);
  const std::string fingerprint = entries ? FingerprintOf(*entries) : "unreadable: " + entries.error();
  if (fingerprint == fingerprint_) return false;
  fingerprint_ = fingerprint;
  if (entries) {
    Take(ReadEntries(folder_, *entries));
  } else {
    const std::lock_guard lock(mutex_);
    problems_ = {entries.error() + "; the keys of before stay admitted"};
  }
  return true;
}

void AdmittedKeys::Take(const KeyFolder& read) {
  std::unordered_map<std::string, Answer> by_key;
  size_t admitted = 0;
  // Revoked ones are last, and so they win.
  for (const AdmittedKey& key : read.keys) {
    Answer& answer = by_key[key.public_key];
    answer = {key.revoked ? Standing::kRevoked : Standing::kAdmitted, key.name};
  }
  for (const auto& [key, answer] : by_key) admitted += answer.standing == Standing::kAdmitted;
  const std::lock_guard lock(mutex_);
  by_key_ = std::move(by_key);
  admitted_ = admitted;
  problems_ = read.problems;
}

AdmittedKeys::Answer AdmittedKeys::Ask(const std::string& public_key) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(public_key);
  return found == by_key_.end() ? Answer{} : found->second;
}

size_t AdmittedKeys::admitted() const {
  const std::lock_guard lock(mutex_);
  return admitted_;
}

std::vector<std::string> AdmittedKeys::problems() const {
  const std::lock_guard lock(mutex_);
  return problems_;
}

}  // namespace keytrail
