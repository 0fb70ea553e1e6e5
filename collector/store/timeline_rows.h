// Reads a timeline out of a database: the calls that a question names, what led to the refused ones and what
// followed, and calls about the same region around them.
//
// Reads only, in a few scans of call_rows (which has no index) and some look-ups; memory is bounded by
// limits::kMaxTimelineObservations. One thread.
#pragma once

#include <string>
#include <vector>

#include "collector/store/timeline_model.h"
#include "collector/store/timeline_places.h"

namespace keytrail {

// `report` is the last one of the same database. Error: the source's words, or what the question names is not
// there.
Result<Timeline> ReadTimeline(const TimelineQuestion& question, const InvestigationReport& report,
                              const TimelineSql& sql);

// The encoded forms of a key that a user wrote as people read it (t53_r8012, "tkv_00180") or in hex; the
// former may also be any text that a key of the database is shown as. Error: no such key.
Result<std::vector<std::string>> FindTimelineKey(const std::string& text, const TimelineSql& sql);

// When the first and the last call of the database began, by their observers' clocks: the day that a time
// without a date means. Nothing if it has no call.
struct TimelineSpan {
  std::optional<int64_t> first_ns;
  std::optional<int64_t> last_ns;
};
Result<TimelineSpan> ReadTimelineSpan(const TimelineSql& sql);

}  // namespace keytrail
