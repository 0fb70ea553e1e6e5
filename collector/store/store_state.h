// What a Store consists of; shared by the files of this room.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collector/store/sqlite_handle.h"
#include "collector/store/store.h"
#include "collector/store/window_tables.h"

namespace keytrail {

// The same words whatever was being done: they are told once.
inline constexpr char kReadOnlyDisk[] =
    "': the disk is read-only; nothing is taken until it can be written, agents keep what they have";
// Asked of the system: what SQLite remembers of an error is the last errno, which may be another's by then.
bool OnReadOnlyDisk(const std::string& path);

// Writes the rows of calls. Interned numbers (methods, connections) are remembered between calls.
class CallRowWriter {
 public:
  // Error: SQLite's words.
  Status Prepare(sqlite3* db);
  // Another connection or a rollback may have changed what was remembered: read it again. Numbers of methods
  // and connections begin at `first_id`: not more than there are calls, so those of windows do not meet.
  Status Reload(int64_t first_id);
  // False on an error of SQLite (sqlite3_errmsg tells).
  bool Write(uint64_t call_id, uint32_t agent, const CallRecord& call);
  // Whether amendments were written since the last call.
  bool TakeAmended() { return std::exchange(amended_, false); }

 private:
  struct ConnectionKey {
    uint32_t agent = 0;
    uint64_t serial = 0;
    Endpoint client;
    Endpoint server;
    ProcessName client_process;
    ProcessName server_process;
    bool client_known = false;
    bool joined_at_start = false;
    friend bool operator==(const ConnectionKey&, const ConnectionKey&) = default;
  };
  struct ConnectionHash {
    size_t operator()(const ConnectionKey& k) const {
      return std::hash<uint64_t>()(k.serial * 0x9E3779B97F4A7C15u + k.agent);
    }
  };

  bool MethodId(const CallRecord& call, int64_t& id);
  bool ConnectionId(uint32_t agent, const CallRecord& call, int64_t& id);
  // The method of calls of one stream whose rows came without.
  bool WriteAmendment(uint32_t agent, const CallRecord& amendment);
  bool WriteRow(uint64_t call_id, uint32_t agent, int64_t connection, int64_t method, const CallRecord& call);
  bool WriteKeys(uint64_t call_id, int side, const MessageFacts& facts);
  bool WriteRoutes(uint64_t call_id, const MessageFacts& facts);
  bool WriteStatements(uint64_t call_id, uint32_t first, TimeNs time, const MessageFacts& facts);
  bool WriteErrors(uint64_t call_id, int side, const MessageFacts& facts);
  Bytes Encoded(Bytes key, KeyForm form, bool raw_keyspace, bool is_bound, std::string& room) const;

  sqlite3* db_ = nullptr;
  int64_t next_method_ = 1;
  int64_t next_connection_ = 1;
  bool amended_ = false;
  SqlStatement call_, key_, route_, asked_, statement_, error_, method_, connection_, amendment_;
  std::unordered_map<std::string, int64_t> methods_;
  std::unordered_map<ConnectionKey, int64_t, ConnectionHash> connections_;
  std::string room_a_, room_b_, room_c_, room_d_, room_e_;
};

class Folder;

struct Store::State {
  State();
  ~State();
  std::string path;
  bool read_only = false;
  std::unique_ptr<WindowTables> windows;  // of a reader of a folder; outlives the connection
  std::unique_ptr<sqlite3, SqliteClose> db;
  CallRowWriter writer;
  SqlStatement begin, commit, rollback, add_batch, add_loss, move_agent, data_version;
  int64_t seen_data_version = -1;

  uint64_t next_call_id = 1;
  uint64_t first_id = 1;  // where numbers of this file begin
  int64_t next_loss_id = 1;
  BatchEncoder records;  // of the open transaction, since first_call_id
  uint64_t first_call_id = 0;
  uint32_t records_agent = 0;
  bool in_transaction = false;
  bool immutable = false;
  std::function<int64_t()> clock;

  std::unique_ptr<Folder> folder;     // of a writer of a folder; `db` is its live window
  std::unique_ptr<Store> own_reader;  // of the same, for what reads all windows

  // The last error of SQLite, with the path.
  Error Failed(const std::string& doing) const;
  Status Execute(const std::string& sql);
  Result<int64_t> Number(const std::string& sql);
  Status OpenFile(const std::string& path, int flags);
  Status CheckOurs();
  Status Upgrade();
  Status PrepareWriting();
  void ForgetStatements();
  Status ReloadAfterOthers();
  bool WriteRecords();
  Status OpenToRead(const std::string& path);
  // The store that answers: a writer of a folder has one beside it.
  Result<State*> Reader();

  // Of a reader: one state of all files until EndReading(), with the windows that there are now.
  Status BeginReading();
  void EndReading();
  Status ShowViews();
  Status AttachWindows(const std::vector<WindowPart>& now);
  Result<std::vector<WindowPart>> ListedWindows();
};

// BeginReading and EndReading.
class ReadScope {
 public:
  explicit ReadScope(Store::State& state) : state_(state), status_(state.BeginReading()) {}
  ~ReadScope() { state_.EndReading(); }
  ReadScope(const ReadScope&) = delete;
  ReadScope& operator=(const ReadScope&) = delete;
  const Status& status() const { return status_; }

 private:
  Store::State& state_;
  Status status_;
};

// Each whole record of the file that the state has open, in order.
Status VisitRecords(Store::State& state,
                    const std::function<void(uint32_t agent, uint64_t call_id, const CallRecord&)>& visit);
// tidb_key, encode_key, decode_key, tso_time, ns_time, in_range.
Status AddSqlFunctions(sqlite3* db);
// SQLite takes a file that is shorter than its header for an empty database, and would overwrite it.
bool IsOtherFile(const std::string& path);

}  // namespace keytrail
