// A thread of low priority that finishes windows which are written no more: indexes, statistics, the log
// folded in, and methods that were proved later.
//
// One thread calls its functions.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "collector/store/sqlite_handle.h"

namespace keytrail {

class Sealer {
 public:
  struct Outcome {
    std::string file;  // path
    bool damaged = false;
    std::string problem;  // empty: sealed
  };

  Sealer();
  // Ends what is being done; it is done again by the next collector.
  ~Sealer();

  void Seal(const std::string& file);
  // What `live` amends is written to `older`, too: a call's window knows its method then. Repeating does no
  // harm.
  void Amend(const std::string& live, const std::vector<std::string>& older);
  // Nothing touches `file` when this returns.
  void Forget(const std::string& file);
  std::vector<Outcome> TakeOutcomes();
  // Until there is nothing to do.
  void Wait();

 private:
  struct Job {
    std::string file;
    std::vector<std::string> older;
    bool seal = false;
  };
  void Work();
  Outcome Run(const Job& job);
  Outcome RunSeal(const std::string& file);
  Outcome RunAmend(const Job& job);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Job> jobs_;
  std::vector<Outcome> outcomes_;
  Job current_;
  bool working_ = false;
  bool stop_ = false;
  sqlite3* db_ = nullptr;  // that the thread uses
  std::thread thread_;
};

}  // namespace keytrail
