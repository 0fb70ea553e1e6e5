#include "collector/correlate/words.h"

#include <cstdio>

#include "common/key_codec.h"

namespace keytrail::correlate {
namespace {

std::string StartText(const Range& r) {
  return r.start.empty() ? "-inf" : KeyText(r.start);
}
std::string EndText(const Range& r) {
  return r.end.empty() ? "+inf" : KeyText(r.end);
}

bool EndsLater(const Range& a, const Range& b) {
  return b.end.empty() ? false : a.end.empty() || a.end > b.end;
}

}  // namespace

std::string KeyText(const std::string& encoded) {
  return EncodedKeyText(AsBytes(encoded));
}

std::string RangeText(const Range& r) {
  return "[" + StartText(r) + ", " + EndText(r) + ")";
}

std::string ClockText(int64_t ns) {
  constexpr int64_t kDayNs = 86'400'000'000'000;
  const int64_t in_day = (ns % kDayNs + kDayNs) % kDayNs;
  const int64_t ms = in_day / 1'000'000;
  char out[32];
  std::snprintf(out, sizeof out, "%02d:%02d:%02d.%03d", static_cast<int>(ms / 3'600'000),
                static_cast<int>(ms / 60'000 % 60), static_cast<int>(ms / 1000 % 60),
                static_cast<int>(ms % 1000));
  return out;
}

std::string Difference(const Range& wrong, const Range& right, bool other_way) {
  if (other_way) {
    if (wrong.start == right.start)
      return (EndsLater(right, wrong) ? "reaches to " : "ends at ") + EndText(right);
    if (wrong.end == right.end) return "begins at " + StartText(right);
    return "spans " + RangeText(right);
  }
  if (wrong.start == right.start) {
    return EndsLater(wrong, right) ? "reaches to " + EndText(wrong) + "; it ends at " + EndText(right)
                                   : "ends at " + EndText(wrong) + "; it reaches to " + EndText(right);
  }
  if (wrong.end == right.end) {
    return "begins at " + StartText(wrong) + "; it begins at " + StartText(right);
  }
  return "spans " + RangeText(wrong) + "; it spans " + RangeText(right);
}

std::string DifferenceNote(const Range& wrong, const Range& right) {
  const bool more_left = wrong.start < right.start;
  const bool less_left = wrong.start > right.start;
  const bool more_right = EndsLater(wrong, right);
  const bool less_right = EndsLater(right, wrong);
  if ((more_left || more_right) && !less_left && !less_right) return "too wide";
  if ((less_left || less_right) && !more_left && !more_right) return "too narrow";
  return wrong == right ? "" : "moved";
}

}  // namespace keytrail::correlate
