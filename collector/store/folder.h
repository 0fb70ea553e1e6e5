// A folder of a collector: a catalogue (`keytrail.db`) and a file for each window of time.
//
// A batch, with its agent's progress, is one transaction in one file: the live window. SQLite commits several
// files of one connection one after another, so nothing that belongs together is ever in two files: what an
// agent has sent is the greatest of what the files say of it. The catalogue can be made anew from the
// windows, but for the report (made anew by judging) and the calls that were carried over.
//
// For this room, by the Store's thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "collector/store/sealer.h"
#include "collector/store/store_state.h"

namespace keytrail {

extern const char* const kWritingPragmas;

class Folder {
 public:
  // Leaves `live` ready to write. Error: path and reason.
  static Result<std::unique_ptr<Folder>> Open(const std::string& folder, const FolderOptions& options,
                                              Store::State& live);
  ~Folder();

  sqlite3* catalogue() const { return catalogue_.get(); }
  const std::string& catalogue_path() const { return catalogue_path_; }
  // The last error of the catalogue.
  Error Failed(const std::string& doing) const;

  // An agent that the catalogue has now; gives how far it is stored.
  uint64_t Registered(const AgentRow& agent);
  const AgentRow* AgentOf(uint32_t id) const;
  void Committed(uint32_t agent, uint64_t sequence, bool amended);
  // A code of SQLite for the live window; damage is dealt with before the next transaction.
  void NoteFailure(int code);

  // What is due: a new window, dropping old ones, what the sealer has done. Error: the live window is damaged
  // and no new one can be made.
  Status Tend(Store::State& live, bool before_batch);
  StoreSize Size() const { return {windows_.size(), Bytes()}; }
  std::vector<std::string> TakeNotices() { return std::exchange(notices_, {}); }
  void WaitForIndexes();

  // Carried ones, then window by window; one that turns out to be damaged is set aside, and it goes on.
  Status ForEachCall(Store::State& live,
                     const std::function<void(uint32_t, uint64_t, const CallRecord&)>& visit);

 private:
  struct Window {
    uint64_t number = 0;
    std::string file;  // name in the folder
    std::string state;
    uint64_t first_call_id = 1;
    int64_t first_ns = 0;
    int64_t begun_ns = 0;  // by the age clock; negative: before the host was started
  };

  Folder() = default;
  std::string PathOf(const std::string& file) const;
  Status Lock();
  Status TakeCatalogue();
  Status Adopt(Store::State& found);
  void TakeReport();
  Status TakeWindows();
  Status TakeWindow(const std::string& file);
  Status Reconcile();
  bool Run(const std::string& sql);
  int64_t Number(const std::string& sql);
  std::string StateOf(uint64_t number);

  // Gives the windows of earlier starts their age.
  void TakeAges();
  std::string AgesSql();

  Status OpenLive(Store::State& live, const Window& window);
  // A new window behind all others; the live one, if any, is complete.
  Status BeginWindow(Store::State& live);
  void TakeSealed(Store::State& live);
  void DropOldest(const std::string& reason);
  void SetAside(size_t index, const std::string& why);
  bool Tell(const Window& window, const char* state, const std::string& reason, int64_t carried);
  uint64_t BytesOf(const Window& window) const;
  uint64_t Bytes() const;

  std::string path_;
  std::string catalogue_path_;
  FolderOptions options_;
  int lock_ = -1;
  std::unique_ptr<sqlite3, SqliteClose> catalogue_;
  std::vector<Window> windows_;  // those that are there, by number; the last one is live
  std::map<uint32_t, AgentRow> agents_;
  std::vector<std::string> notices_;
  uint64_t next_number_ = 1;
  uint64_t next_call_id_ = 1;
  int64_t next_loss_id_ = 1;
  int64_t looked_ns_ = 0;
  int64_t amended_ns_ = 0;
  int drop_failures_ = 0;  // of the oldest window, one after the other
  int64_t ages_saved_ns_ = 0;
  bool live_used_ = false;  // a batch was committed to it
  bool live_damaged_ = false;
  bool amended_ = false;
  std::string adopted_;  // path
  std::unique_ptr<Sealer> sealer_;
};

// The files of calls that lie in a folder or beside its catalogue; `path` itself is the first.
std::vector<std::string> FilesOf(const std::string& path);
std::string SqlQuoted(const std::string& text);
// Error if pages of the file are damaged; `whole`: every page is read, else only size and header.
Status CheckFile(const std::string& path, bool whole);

// Copies what is to outlive a window into the catalogue, within its transaction: calls that the report refers
// to, first statements of routes, losses. The window is attached as `w`. Gives the number of calls, or none
// on an error of SQLite.
std::optional<uint64_t> CarryOver(sqlite3* catalogue);

}  // namespace keytrail
