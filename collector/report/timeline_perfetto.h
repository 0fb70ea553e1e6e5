// A timeline as trace JSON that ui.perfetto.dev and chrome://tracing open: a process for each lane, a thread
// for each connection, a slice for each view of a call, flow arrows along what led to what.
//
// Pure. Format: "Trace Event Format" of Chromium as Perfetto's JSON importer reads it. What that importer
// demands and the document does not say: slices of one thread nest or are apart; a flow event belongs to the
// slice that was written just before it; the events of one flow share id, name and category; ids of threads
// are unique among all processes. Times are µs since the first call; otherData.origin_ns is that call's time
// in ns since 1970.
#pragma once

#include <string>

#include "collector/store/timeline_model.h"

namespace keytrail {

// One JSON object, an event a line, with a final newline. Calls of which no time is known are not in it.
std::string TimelinePerfetto(const Timeline& timeline);

}  // namespace keytrail
