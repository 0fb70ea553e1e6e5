// How keys, ranges and times read in a sentence.
#pragma once

#include <cstdint>
#include <string>

#include "collector/correlate/ledger.h"

namespace keytrail::correlate {

std::string KeyText(const std::string& encoded);  // "t53_r8012"
std::string RangeText(const Range& range);        // "[t53_r8012, +inf)"
std::string ClockText(int64_t ns);                // "16:30:09.165", UTC

// How `wrong` differs from `right`: "reaches to t53_i1_902; it ends at t53_i1_279".
// The other way round with `other_way`: "reaches to t53_i1_902", where `wrong` says that it ends before.
std::string Difference(const Range& wrong, const Range& right, bool other_way = false);
// "too wide", "too narrow", "moved"
std::string DifferenceNote(const Range& wrong, const Range& right);

}  // namespace keytrail::correlate
