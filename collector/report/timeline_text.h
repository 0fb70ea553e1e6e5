// A timeline as text: lanes from left to right, time from top to bottom, an arrow for each question and
// answer.
//
// Pure function of the timeline: no clock, no terminal, no locale. No line is wider than asked for, and
// nothing from the wire reaches the terminal but plain text. Times are UTC.
#pragma once

#include <string>

#include "collector/store/timeline_model.h"

namespace keytrail {

struct TimelineTextOptions {
  bool color = false;     // ANSI colours
  int width = 100;        // columns that the reader has; 60 at least is assumed
  bool hex_keys = false;  // keys as encoded hex instead of their human form
  bool unfold = false;    // a row for each call of the surroundings
};

// Ends with a newline.
std::string TimelineText(const Timeline& timeline, const TimelineTextOptions& options);

}  // namespace keytrail
