// The database: one SQLite file (STRICT tables, WAL), or a folder with a catalogue and a file for each window
// of time (README.md). The only room that includes sqlite3.h.
//
// One writer thread per Store; a folder has one writer at all, and one thread of its own that makes indexes.
// An agent's progress moves in the same transaction as its rows, so a batch is stored exactly once however
// often it arrives. A Store opened read-only never writes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "collector/correlate/report_model.h"
#include "common/call_record.h"
#include "common/limits.h"
#include "common/record_codec.h"
#include "common/redaction.h"
#include "common/result.h"

namespace keytrail {

// One start of an agent: a restart has a new epoch, a new row and a new id, because connection numbers and
// sequences begin anew with it.
struct AgentRow {
  uint32_t id = 0;        // the number used as `agent` everywhere in the collector
  std::string agent_key;  // unique name of the agent on the wire
  std::string name;       // host name given by the user, or empty
  std::string role;       // given by the user, or empty
  uint64_t epoch = 0;     // changes when the agent starts anew
  uint64_t last_sequence = 0;
  std::string hostname;  // what follows is for people
  std::string version;
  std::string input;
  Redaction redaction;
};

struct LossRow {
  uint32_t agent = 0;
  std::string kind;
  uint64_t count = 0;
  int64_t first_ns = 0;  // 0: not known
  int64_t last_ns = 0;
};

// How a folder is kept. Time is that of the collector's arrival clock.
struct FolderOptions {
  int64_t keep_age_ns = limits::kDefaultKeepAgeNs;
  uint64_t keep_bytes = limits::kDefaultKeepBytes;  // all files of calls together
  bool check = false;                               // read every page of every file at the start
  std::function<int64_t()> clock;                   // ns since 1970; empty: the system's
  // Ages are measured by it: ns of a clock that nobody sets. Empty: `clock` if that is given, else the time
  // since the host was started.
  std::function<int64_t()> age_clock;
};

// Files of calls that lie in a folder, with their logs.
struct StoreSize {
  size_t windows = 0;
  uint64_t bytes = 0;
};

class Sandbox;

class Store {
 public:
  ~Store();
  // Creates the file and its tables if need be; ":memory:" for tests. Error: path and reason.
  static Result<std::unique_ptr<Store>> Open(const std::string& path);
  // Takes what lies in `folder`: makes a new catalogue, adopts a database of an earlier layout, repairs what
  // a crash left between two files, and sets damaged files aside (Notices tell). Error: path and reason;
  // another collector writes there, the disk is not writable, a file is of a newer version.
  static Result<std::unique_ptr<Store>> OpenFolder(const std::string& folder, const FolderOptions& options);
  // `path` is a database, a folder, or its catalogue. One that lies on a read-only medium can be read too.
  static Result<std::unique_ptr<Store>> OpenReadOnly(const std::string& path);

  // Finds or adds the row of (agent_key, epoch); a new one starts at sequence 0. Sets the rest of `agent`
  // but for id and last_sequence.
  Result<AgentRow> RegisterAgent(const AgentRow& agent);
  Result<AgentRow> RegisterAgent(const std::string& agent_key, const std::string& name,
                                 const std::string& role, uint64_t epoch);
  Result<std::vector<AgentRow>> Agents();

  // One transaction per batch: Begin, Add for each record, Commit (which moves last_sequence). Rollback on
  // any Error. Add returns the row id of the call.
  Status Begin();
  Result<uint64_t> Add(uint32_t agent, const CallRecord& call);
  // kind as in LossReport::kind.
  Status AddLoss(uint32_t agent, const std::string& kind, uint64_t count, int64_t first_ns, int64_t last_ns);
  Status Commit(uint32_t agent, uint64_t sequence);
  void Rollback();

  // Of a folder: begins a new window and drops old ones when it is time; call it about every second, outside
  // of a transaction. Begin() does so, too. Cheap if there is nothing to do.
  void Maintain();
  // Of a writer of a folder; asks the system for each file.
  StoreSize Size() const;
  // What people should know of files that were dropped, set aside or adopted since the last call: sentences.
  std::vector<std::string> TakeNotices();
  // Waits until the complete windows have their indexes, for tests.
  void WaitForIndexes();

  // Replaces verdicts, evidence and hosts by those of `report`, in one transaction.
  Status WriteReport(const InvestigationReport& report);
  // Reads back what WriteReport wrote (for `keytrail verdicts --db`).
  Result<InvestigationReport> ReadReport();

  // Every stored call with its facts, in row order, for a correlator that starts anew.
  Status ForEachCall(const std::function<void(uint32_t agent, uint64_t call_id, const CallRecord&)>& visit);

  Status ForEachLoss(const std::function<void(const LossRow&)>& visit);
  // Stored observations.
  Result<uint64_t> CallCount();

  // Runs one read-only statement of ours (an authorizer refuses everything else), unbounded: statements of
  // users go through a Sandbox (sandbox.h). Keys stay BLOBs and are given as is. Error: SQLite's own words.
  struct QueryColumns {
    std::vector<std::string> names;
  };
  struct QueryValue {
    enum class Type : uint8_t { kNull, kInteger, kReal, kText, kBlob } type = Type::kNull;
    int64_t integer = 0;
    double real = 0;
    std::string bytes;
  };
  Status Query(const std::string& sql, const std::function<void(const QueryColumns&)>& on_columns,
               const std::function<bool(const std::vector<QueryValue>&)>& on_row);

  struct State;  // of this room

 private:
  friend class Sandbox;
  friend Status BackUp(const std::string& from, const std::string& to);
  Store();
  std::unique_ptr<State> state_;
};

// Copies the database or folder `from` into the new file `to`, in one consistent state, beside its writer.
// Error: path and reason; `to` is not there then.
Status BackUp(const std::string& from, const std::string& to);

// Bytes of the logs (WAL) of a database, or of all files of a folder's catalogue.
uint64_t LogBytes(const std::string& path);

}  // namespace keytrail
