// AuditLog: who took what out of a collector's folder, when, and how much: one line of JSON for each export.
//
// The file is `audit.log` in the folder, mode 0600, only ever appended to; when it has limits::kMaxAuditBytes
// it becomes `audit.log.1`, and the one before that goes. Several processes may append at once (flock(2)).
// Statements stand in it as they were typed, cut to limits::kMaxAuditStatementBytes; values of parameters,
// rows and errors do not. Any thread; nothing is kept open.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"

namespace keytrail {

struct AuditEntry {
  // Who: over the service an address, and the name in the client's certificate if it showed one; of a command
  // on this host the user.
  std::string peer;
  std::string tls_name;
  std::optional<uint32_t> uid;
  std::string user;

  std::string what;                     // sql, verdicts, timeline, backup, watch
  std::string purpose;                  // of sql: what asks, if it is no person: timeline
  std::string statement;                // as typed, or what the timeline is about, or the copy's path
  std::string named;                    // a saved query instead
  std::vector<std::string> parameters;  // names

  int64_t begun_ns = 0;  // wall clock
  int64_t elapsed_ns = 0;
  uint64_t rows = 0;   // of sql; verdicts, entries or events of others
  uint64_t bytes = 0;  // that went out: of messages, of text, or of the copy
  std::string ended;   // done, row_limit, refused, wrong, cut_off, time_limit, turned_away, failed, …
};

class AuditLog {
 public:
  // The folder of a collector's files that `database` lies in: itself, or that of its catalogue. Nothing if
  // there is none: a database by itself has no audit log.
  static std::optional<std::string> FolderOf(const std::string& database);

  explicit AuditLog(std::string folder) : folder_(std::move(folder)) {}

  // Error: path and reason; the line is not there then, or not whole.
  Status Append(const AuditEntry& entry) const;

 private:
  std::string folder_;
};

// The line itself, for tests.
std::string AuditLine(const AuditEntry& entry);

}  // namespace keytrail
