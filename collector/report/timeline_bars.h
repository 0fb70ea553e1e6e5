// The bars of a timeline, one for each view of a call, and what is drawn between them. Perfetto's trace and
// the HTML page show the same bars and arrows.
//
// Pure. A TimelineBars points into its timeline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "collector/report/timeline_lanes.h"
#include "collector/store/timeline_model.h"

namespace keytrail::report {

struct TimelineBar {
  size_t call = 0;  // into Timeline::calls
  const TimelineView* view = nullptr;
  const char* side = "";  // client, server, between
  size_t lane = 0;
  int64_t begin = 0;  // ns
  int64_t end = 0;    // later than begin, even if it was not seen
};

struct TimelineBars {
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();
  // No bar is shorter, so that what is drawn within one has a place.
  static constexpr int64_t kShortestNs = 4;

  // A step of a chain: a bar, or the error at its end.
  struct Step {
    size_t bar = 0;
    bool error = false;
    friend auto operator<=>(const Step&, const Step&) = default;
  };

  std::vector<TimelineBar> bars;                // by begin; the longer first
  std::vector<size_t> at_client, at_server;     // of a call: its bar, or kNone
  std::vector<std::pair<size_t, size_t>> sent;  // bars of one call, from the client's to the server's
  std::vector<std::vector<Step>> chains;  // lookup → request → error → lookup → retry, as far as seen
};

// Calls of which no time is known have no bar.
TimelineBars MakeBars(const Timeline& timeline, const LaneChart& chart);

}  // namespace keytrail::report
