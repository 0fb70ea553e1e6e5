// What the order of a region's versions shows: PD that answers an older version long after it was told a
// newer one, or goes back, and stores that report an older one again (rules 7 and 10 of tidb-wire.md section
// 6).
//
// A version only grows. Who still uses an older one is late, and for a while that is benign; the graces say
// how long. Pure; borrows the scene.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "collector/correlate/correlator.h"
#include "collector/correlate/scene.h"

namespace keytrail::correlate {

// One statement about a region at one of its times, with its version.
struct Mention {
  uint64_t version = 0;
  StatementSource source = StatementSource::kUnknown;
  uint32_t speaker = kNone;  // endpoint
  uint32_t speaker_host = kNone;
  uint32_t listener_host = kNone;
  uint32_t range = kNone;
  uint32_t observation = kNone;
  uint32_t index = 0;         // n-th statement of that call
  int64_t told_ns = kNoTime;  // when it was answered, or sent: on the reference's clock, for sorting
  Event begun;                // when it was asked for, or sent
  Event told;
};

// One use of a ledger's entry about `region`.
Mention MentionOf(const Scene& scene, const RegionVersion& region, const LedgerEntry& entry,
                  const StatementUse& use);

// PD answered `old` although `newer` was known to it for longer than the grace.
struct Relapse {
  uint64_t region_id = 0;
  std::vector<Mention> answers;    // with the old version, in time order
  Mention newer;                   // how PD knew better: a report to it, or its own answer
  bool went_back = false;          // its own answer
  std::optional<Mention> carried;  // a store's report of the old version in between
};

class VersionHistory {
 public:
  VersionHistory(const Scene& scene, const Graces& graces);

  std::vector<Relapse> Relapses() const;
  // The store behind `server` was at another version than `region` while it answered this call, by its own
  // words at that address: an older one said afterwards, or a newer one said before.
  std::optional<Mention> ElsewhereDuring(uint32_t server, const RegionVersion& region,
                                         uint32_t observation) const;
  // Something told this client of the region's version or an older one, or may have, after it had the answer
  // `heard` and before it sent `asked` (observations).
  bool ToldOldBetween(const RegionVersion& region, uint32_t client_host, uint32_t heard,
                      uint32_t asked) const;

 private:
  void RelapsesOf(uint64_t region_id, const std::vector<Mention>& mentions, std::vector<Relapse>& out) const;

  const Scene& scene_;
  const Graces graces_;
  std::map<uint64_t, std::vector<Mention>> mentions_;  // of regions with several versions; by told_ns
  std::set<uint32_t> heartbeats_to_;                   // PD hosts to which stores report
  std::set<std::pair<uint64_t, uint32_t>> gaps_;       // region, listener: not all that was told is known
};

}  // namespace keytrail::correlate
