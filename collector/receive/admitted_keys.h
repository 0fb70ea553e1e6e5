// The folder of public keys that a collector admits: NAME.pub is admitted, NAME.revoked was and is no more.
//
// The functions are what `keytrail keys` does; each leaves the folder whole at every moment, so that a
// collector may read it meanwhile. AdmittedKeys is the collector's view: any thread may ask it, one calls
// Reload(). Errors name the path and how to mend it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/curve_key.h"
#include "common/result.h"

namespace keytrail {

struct AdmittedKey {
  std::string name;        // of the file
  std::string public_key;  // Z85
  bool revoked = false;
  int64_t changed_ns = 0;  // since 1970: when it was admitted or revoked
};

struct KeyFolder {
  std::vector<AdmittedKey> keys;      // by name, admitted ones first
  std::vector<std::string> problems;  // a sentence for each file that does not count, and why
};

// Error: the folder cannot be read, or others may change it. A file that is damaged is a problem, and no key.
Result<KeyFolder> ReadKeyFolder(const std::string& folder);

// What a change came to, for people.
struct KeyChange {
  bool changed = false;  // false: it was so already
  std::string text;
};

// Makes the folder (mode 0755) if need be. Error: another key has this name, or this key another name.
Result<KeyChange> AdmitKey(const std::string& folder, const PublicKey& key);
// By name or public key. Error: nobody is called so.
Result<KeyChange> RevokeKey(const std::string& folder, const std::string& name_or_key);

class AdmittedKeys {
 public:
  static Result<std::unique_ptr<AdmittedKeys>> Open(const std::string& folder);

  enum class Standing : uint8_t { kUnknown, kAdmitted, kRevoked };
  struct Answer {
    Standing standing = Standing::kUnknown;
    std::string name;  // unless unknown
  };
  // A key with two files, one of them revoked, is revoked.
  Answer Ask(const std::string& public_key) const;

  // Reads the folder again if anything in it changed; true if it did. If the folder itself cannot be read,
  // the keys stay as they were, and problems() says so: a mount that hangs must not throw everybody out.
  bool Reload();
  size_t admitted() const;
  std::vector<std::string> problems() const;
  const std::string& folder() const { return folder_; }

 private:
  explicit AdmittedKeys(std::string folder) : folder_(std::move(folder)) {}
  void Take(const KeyFolder& read);

  const std::string folder_;
  std::string fingerprint_;  // of Reload() alone

  mutable std::mutex mutex_;  // guards what follows
  std::unordered_map<std::string, Answer> by_key_;
  size_t admitted_ = 0;
  std::vector<std::string> problems_;
};

}  // namespace keytrail
