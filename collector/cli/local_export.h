// LocalExport: a command that reads a collector's folder by itself leaves a line in its audit log.
//
// One thread. Nothing happens if a collector is asked (it writes the line) or the database lies in no folder
// of one. Where the log cannot be written, as on a read-only copy, the command goes on and says so.
#pragma once

#include <optional>
#include <string>

#include "collector/query/audit_log.h"

namespace keytrail {

class LocalExport {
 public:
  // `database`: the folder or database that is read; empty: a collector is asked.
  LocalExport(const std::string& database, const std::string& what);
  // Appends the line.
  ~LocalExport();
  LocalExport(const LocalExport&) = delete;
  LocalExport& operator=(const LocalExport&) = delete;

  bool active() const { return folder_.has_value(); }
  // What is known of it; `ended` is "failed" until Done(), or until it is set.
  AuditEntry& entry() { return entry_; }
  void Done(uint64_t rows, uint64_t bytes);

 private:
  std::optional<std::string> folder_;
  AuditEntry entry_;
  int64_t begun_steady_ns_ = 0;
};

}  // namespace keytrail
