// What is told of each call of a timeline: keys, routes, statements, errors. For timeline_rows.cc.
#pragma once

#include <map>
#include <vector>

#include "collector/store/timeline_model.h"
#include "collector/store/timeline_places.h"

namespace keytrail {

// Details of observations by calls.id; ends, views and marks are not filled. An id that is not there is left
// out.
Result<std::map<uint64_t, TimelineCall>> ReadTimelineDetails(const std::vector<uint64_t>& ids,
                                                             const TimelineSql& sql);

// Of two views of a call the fuller word on each point: `into` keeps what it knows.
void MergeDetails(const TimelineCall& from, TimelineCall& into);

}  // namespace keytrail
