// Commands of a fleet: how they are written down for a shell, and how they are run.
//
// ShellLine is pure. A Runner runs commands as processes of their own process group (so that a
// Ctrl-C at the terminal is heard by this program alone), from any thread, several at a time. Errors of a
// command are in its CommandResult; nothing is thrown.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace keytrail {

struct Command {
  std::vector<std::string> argv;
  std::string input;   // a file for stdin; empty: /dev/null
  std::string output;  // a file for stdout, made anew with mode 0600; empty: it is in the result
  int timeout_s = 60;
};

std::string ShellWords(const std::vector<std::string>& words);
// What a shell must be told to run the same.
std::string ShellLine(const Command& command);

struct CommandResult {
  int exit_status = -1;  // -1: a signal ended it, or it did not begin
  bool timed_out = false;
  bool cancelled = false;
  std::string out;  // at most kMaxCommandOutputBytes
  std::string err;
  std::string failure;  // why it could not be begun
  bool ok() const { return exit_status == 0 && !timed_out && !cancelled; }
};

class Runner {
 public:
  // Until it has ended, or its time is over (it is ended then, with what it began).
  CommandResult Run(const Command& command);

  // First call: cancelled() from now on, and commands that run go on. Second: these are ended.
  void Cancel();
  bool cancelled() const { return cancels_.load() > 0; }

 private:
  std::atomic<int> cancels_ = 0;
};

}  // namespace keytrail
