// CheckList: what `doctor` looked at, what it found, and how to mend it; as text for people or JSON lines.
//
// A check is printed when it is added, so that somebody who waits sees how far it is. Texts of strangers
// (names, paths, the words of another host) are made plain on the way out. One thread.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace keytrail {

enum class CheckLevel : unsigned char {
  kOk,
  kWarning,     // it works, but less well than it could, or not for long
  kFault,       // it does not work
  kNotChecked,  // cannot be said, because of a fault that is told
};

struct Check {
  std::string name;  // what was looked at, one word: a contract for programs
  CheckLevel level = CheckLevel::kOk;
  std::string found;
  std::string command;  // that mends it, as root on this host; empty: there is none
  std::string fix;      // what to do, in words; empty: the command says it
};

// "ok", "warning", "fault", "not_checked".
const char* CheckLevelName(CheckLevel level);

class CheckList {
 public:
  // `out` must outlive the list.
  CheckList(std::FILE* out, bool json) : out_(out), json_(json) {}

  void Add(const Check& check);
  void Ok(const std::string& name, const std::string& found) { Add({name, CheckLevel::kOk, found, {}, {}}); }
  void NotChecked(const std::string& name, const std::string& why) {
    Add({name, CheckLevel::kNotChecked, why, {}, {}});
  }
  bool has_fault() const { return faults_ != 0; }
  // No fault and no warning of this name so far.
  bool fine(const std::string& name) const;

  // Prints the summary. The exit status: 0 all fine; 3 warnings alone; 1 faults, or nobody could read this.
  int Finish();

 private:
  std::FILE* out_;
  bool json_;
  bool written_ = true;
  size_t checks_ = 0;
  size_t faults_ = 0;
  size_t warnings_ = 0;
  std::vector<std::string> found_;  // names with a finding
};

}  // namespace keytrail
