// The SQL of timelines: which observations a question names, which follow a refusal, which told a route.
//
// Makes text only; pure. For timeline_rows.cc.
#pragma once

#include <string>
#include <vector>

#include "collector/store/timeline_model.h"
#include "collector/store/timeline_places.h"

namespace keytrail {

struct TimelineWindow {
  int64_t from_ns = 0;  // reference clock, inclusive
  int64_t to_ns = 0;
};

// Names of errors that are about a route or about keys outside of a region, as an SQL list.
const std::string& RefusalKinds();

// The observations `ids_sql` gives, in brief; those outside of all `windows` are left out (no window: none
// is).
std::string ObservationsSql(const std::string& ids_sql, const std::vector<TimelineWindow>& windows,
                            const TimelinePlaces& places);

// Ids of observations, one column each.
std::string IdsOfQuestion(const TimelineQuestion& question);
std::string IdsOfRegions(const std::vector<uint64_t>& regions);
std::string IdsOfList(const std::vector<uint64_t>& ids);

// A refused call, as far as what followed and what was told before depends on it.
struct Refusal {
  size_t number = 0;  // comes back in the rows
  std::string client_address;
  std::vector<uint32_t> agents;  // whose observations are searched
  std::optional<int64_t> asked_ns;
  int64_t answered_ns = 0;  // reference clock
  std::string method;
  std::string command;
  std::optional<uint64_t> start_ts;
  uint64_t region_id = 0;
  std::optional<uint64_t> version;
  std::string key;  // refused; of a range its start
};

// Look-ups and requests of the same client about the key, soon after: number, call id, agent, 1 if it is a
// look-up, first time (observer's clock). By number and time.
std::string FollowersSql(const std::vector<Refusal>& refusals, const TimelinePlaces& places);

// What clients were told of the refused regions: number, call id, agent, last time (observer's clock),
// statement id.
std::string RoutesToldSql(const std::vector<Refusal>& refusals);

}  // namespace keytrail
