// What a TiDB does for its statements: routes from the cache or PD, requests to stores, and client-go's
// reaction to each region error (tidb-wire.md sections 3 and 5). Thread-safe.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tests/live/node.h"
#include "tests/live/pd_client.h"
#include "tests/live/region_cache.h"
#include "tests/live/store_pool.h"

namespace keytrail::live {

// The connections of a client, to PD and to every store.
class Links {
 public:
  Links(const std::string& pd, bool batch) : pd_(pd), batch_(batch) {}
  PdClient& pd() { return pd_; }
  std::shared_ptr<StorePool> PoolOf(uint64_t store_id);  // null: PD does not know the store
  void Drop(uint64_t store_id);                          // connect anew next time

 private:
  PdClient pd_;
  const bool batch_;
  std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<StorePool>> pools_;
};

class Statements {
 public:
  Statements(std::string pd, bool batch, uint64_t seed);

  void Preload();    // ScanRegions of all, as TiDB does when it starts
  void RunOne();     // some statement
  void Refresh();    // what TiDB asks PD from time to time
  void Reconnect();  // every connection breaks; what the cache held of the stores is void
  void SetNeighbourShare(double share) { neighbour_share_ = share; }
  nlohmann::json Counts() const;

 private:
  enum class Outcome { kDone, kElsewhere, kFailed };
  using Keys = std::vector<std::string>;  // raw

  bool Get(uint64_t ts);
  bool BatchGet(uint64_t ts);
  bool Scan(uint64_t ts);
  bool Coprocessor(uint64_t ts);
  bool Write(uint64_t ts);

  // The fault: a key goes to the region on the left of its own. Nothing: it was not done.
  std::optional<bool> GoWrong(const std::string& key, uint64_t ts);

  std::shared_ptr<Links> links() const;
  std::optional<Route> Locate(const std::string& raw);
  std::optional<Route> LocateRange(const std::string& raw, const std::string& raw_end);
  Outcome Send(Question& question, Route route, Answer& answer);
  Outcome OnEpochNotMatch(const Route& route, const errorpb::EpochNotMatch& error);
  // Sends `make(keys)` to each region that the keys lie in until all are served.
  template <typename Make>
  bool ForRegions(Keys keys, Make&& make);
  // Sends `make(start, end)` for each region that the range touches.
  template <typename Make>
  bool ForRange(const std::string& start, const std::string& end, bool scan_pd, Make&& make);
  std::string RandomKey();

  const std::string pd_address_;
  const bool batch_;
  Chance chance_;
  RegionCache cache_;
  mutable std::mutex mutex_;
  std::shared_ptr<Links> links_;
  std::atomic<double> neighbour_share_{0};
  struct {
    std::atomic<uint64_t> statements, failed, lookups, not_leader, epoch_not_match, region_not_found, other,
        broken;
  } counts_{};
};

}  // namespace keytrail::live
