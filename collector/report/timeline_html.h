// A timeline as one HTML page without anything from elsewhere: lanes from left to right, time from top to
// bottom, a bar for each view of a call, arrows along what was sent and what led to what, and beside them the
// words of the text form (timeline_text.h).
//
// Pure. The page is whole without its script, which only zooms. Time is stretched: each row of words has its
// place, so that what took microseconds can be read beside what took seconds; the times stand at the rows.
// Whatever stood on the wire is plain text and escaped.
#pragma once

#include <string>

#include "collector/store/timeline_model.h"

namespace keytrail {

std::string TimelineHtml(const Timeline& timeline);

}  // namespace keytrail
