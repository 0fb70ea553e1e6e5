// What a client asks PD, on one connection: routes, stores, timestamps. Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tests/live/region_cache.h"

namespace keytrail::live {

class PdClient {
 public:
  explicit PdClient(const std::string& address);
  ~PdClient();

  bool Greet();                                               // GetMembers
  std::optional<Route> RegionOf(const std::string& encoded);  // GetRegion; nothing: no region there yet
  std::optional<std::vector<Route>> RegionsOf(const std::string& start,
                                              const std::string& end);  // BatchScanRegions
  std::vector<Route> AllRegions();              // ScanRegions, as at the start of a TiDB
  std::string StoreAddress(uint64_t store_id);  // GetStore; empty: unknown
  void RefreshStores();                         // GetAllStores
  uint64_t Timestamp();                         // Tso; 0: the stream broke

 private:
  struct Stub;
  struct TsoStream;
  std::unique_ptr<Stub> stub_;
  std::mutex tso_mutex_;
  std::unique_ptr<TsoStream> tso_;
};

}  // namespace keytrail::live
