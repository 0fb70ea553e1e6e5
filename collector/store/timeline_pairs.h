// Which observations are views of the same call.
//
// Pure. The rule is that of collector/correlate/pairing.h, over the few observations that a timeline reads:
// same connection, stream, kind and request id, sizes that agree, and of several the nearest in time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collector/store/timeline_model.h"

namespace keytrail {

// One row of call_rows, in brief.
struct TimelineObservation {
  uint64_t call_id = 0;
  uint32_t agent = 0;
  std::string client;  // address:port; a loopback address is another machine at every agent
  std::string server;
  bool loopback = false;
  uint64_t stream = 0;
  uint64_t kind = 0;  // call_rows.kind
  std::optional<uint64_t> request_id;
  uint64_t req_bytes = 0;
  uint64_t resp_bytes = 0;
  bool request_seen = false;
  bool on_reference = false;
  std::optional<int64_t> first_ns;  // corrected if on_reference, else the observer's own
  bool refused = false;
  bool asked_for = true;
};

// Positions in `observations` of the views of each call, in no particular order; each observation once, at
// most one an agent in a call.
std::vector<std::vector<size_t>> PairViews(const std::vector<TimelineObservation>& observations);

}  // namespace keytrail
