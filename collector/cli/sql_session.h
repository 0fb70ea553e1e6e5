// What `keytrail sql` does with a statement, a saved query or a command of the shell: asks, prints, tells
// problems.
//
// One thread. Rows go to stdout, words to stderr.
#pragma once

#include <map>
#include <string>

#include "collector/cli/row_printer.h"
#include "collector/query/answer_source.h"

namespace keytrail {

struct SqlSettings {
  std::string format = "table";
  uint64_t max_rows = 0;    // 0: as the source has it
  int64_t max_time_ns = 0;  // the same
  bool terminal = false;    // stdout is one: tables fit it
  bool shell =
      false;  // somebody sits there: long answers are paged, each ends with its count, Ctrl-C stops it
  bool color = false;
  std::string database;  // the folder or database that the source reads; empty: a collector is asked
};

class SqlSession {
 public:
  // `source` must outlive the session.
  SqlSession(AnswerSource& source, const SqlSettings& settings) : source_(source), settings_(settings) {}

  // The exit status: done, failed, or 3 for an answer that a limit of rows cut.
  int Ask(const SqlRequest& request);
  // ".tables" and the like; ".quit" sets quit().
  int Command(const std::string& line);
  bool quit() const { return quit_; }

 private:
  int Query(const std::string& sql, const std::map<std::string, Store::QueryValue>& parameters = {});
  int Named(const std::string& words);
  int Schema(const std::string& table);
  int Mode(const std::string& mode);
  int Limit(const std::string& number);
  int Timeout(const std::string& duration);
  int Show(const std::string& text);

  AnswerSource& source_;
  SqlSettings settings_;
  bool quit_ = false;
};

// Names of commands and the like, for completion.
extern const char* const kShellCommands[];
extern const size_t kShellCommandCount;

}  // namespace keytrail
