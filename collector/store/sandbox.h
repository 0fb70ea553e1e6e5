// One question of a user at a time, in SQL, to a database file: on a connection of its own that can only
// read.
//
// What holds it: the file is opened read-only; an authorizer refuses everything but reading, with a list of
// functions that are known to be harmless; SQLite's limits bound what a statement may be; time, rows and
// memory are bounded (common/limits.h). No temporary file is written. A question reads one state of the
// database from its first row to its last, beside a writer (WAL), and neither waits for the other.
//
// One thread at a time uses a Sandbox; only Cancel() may come from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "collector/store/store.h"
#include "common/limits.h"
#include "common/result.h"

namespace keytrail {

struct SqlQuestion {
  std::string sql;                                      // one statement
  std::map<std::string, Store::QueryValue> parameters;  // by name without the colon: "region" for :region
  uint64_t max_rows = limits::kDefaultQueryRows;
  int64_t max_time_ns = limits::kDefaultQueryTimeNs;  // of all, the reader of the rows included
};

struct SqlOutcome {
  enum class End : uint8_t {
    kDone,      // all rows were given
    kRowLimit,  // there are more
    kReader,    // on_row wanted no more
    kTimeLimit,
    kMemoryLimit,
    kCancelled,    // Cancel() was called
    kRefused,      // it would do more than read
    kWrong,        // SQLite does not understand it, or it failed on its values
    kEnvironment,  // the database cannot be read, no collector answers
    kBusy,         // too many others ask (of a collector)
    kAborted,      // the collector stopped it for reasons of its own
  };
  End end = End::kDone;
  std::string text;  // one sentence, if it is not kDone or kReader
  uint64_t rows = 0;
  int64_t elapsed_ns = 0;
};

using ColumnVisitor = std::function<void(const std::vector<std::string>& names)>;
// False: no more rows.
using RowVisitor = std::function<bool(const std::vector<Store::QueryValue>& values)>;

// "stopped after 0.2 s, its time limit": whoever stops a query says it in the same words.
std::string TimeLimitText(int64_t max_time_ns);

class Sandbox {
 public:
  // As Store::OpenReadOnly. Error: path and reason.
  static Result<std::unique_ptr<Sandbox>> Open(const std::string& path);
  ~Sandbox();

  SqlOutcome Run(const SqlQuestion& question, const ColumnVisitor& on_columns, const RowVisitor& on_row);
  // Ends the question that runs, and all later ones.
  void Cancel();

 private:
  Sandbox();
  struct State;
  std::unique_ptr<State> state_;
};

// The length of the first statement of `sql` with its semicolon, or 0 if it is not complete yet. Knows quotes
// and comments. A text with nothing but space and comments has none.
size_t FirstStatement(std::string_view sql);

// Folds the log of the database at `path` into it and empties it. False: somebody reads it just now, so that
// not all could be done. Error: path and reason.
Result<bool> FoldLog(const std::string& path);

}  // namespace keytrail
