// What a fleet keeps on this machine between its commands: a folder of mode 0700 with the keys and host.sh,
// and how the fleet was started, so that stop looks where start put things.
//
// One command at a time may change a fleet: Lock() is held as long as the object lives (flock(2)). Errors
// name the path.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/result.h"

namespace keytrail {

class StateFolder {
 public:
  explicit StateFolder(std::string path);
  ~StateFolder();
  StateFolder(const StateFolder&) = delete;
  StateFolder& operator=(const StateFolder&) = delete;

  // Makes the folder if need be. Error: it cannot, others may look into it, or another command works on it.
  Status Lock();
  bool there() const;

  // Words of the command line that start was given, by option; what was not saved is not there.
  std::map<std::string, std::string> SavedOptions() const;
  Status SaveOptions(const std::map<std::string, std::string>& options);

  // host.sh as this program has it: the same that `keytrail fleet script` prints.
  Status WriteScript();
  void ForgetKey(const std::string& key_name);
  // When nothing of the fleet is left anywhere.
  Status Remove();

  const std::string& path() const { return path_; }

 private:
  const std::string path_;
  int lock_ = -1;
};

// As hex. Error: the file cannot be read.
Result<std::string> Sha256OfFile(const std::string& path, uint64_t& size);

}  // namespace keytrail
