// What a timeline says of calls in words: methods, keys, ranges, statements, errors, durations. All of it is
// plain text, whatever stood on the wire.
//
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "collector/store/timeline_model.h"

namespace keytrail::report {

class TimelineWords {
 public:
  // Keys as encoded hex, or as people read them; cut in the middle to `key_columns` (0: whole).
  explicit TimelineWords(bool hex_keys = false, size_t key_columns = 0)
      : hex_keys_(hex_keys), key_columns_(key_columns) {}

  std::string Key(const std::string& key) const;
  std::string Range(const std::string& start, const std::string& end) const;
  // "Get t53_r1", "GetRegionByID 12", "Coprocessor [t53_r1, t53_r9)"; the refused key first.
  // `key` is told in the place of the first if it is one of the request's.
  std::string Deed(const TimelineCall& call, const std::string& key = "") const;
  // "region 13 v2"; empty: not routed.
  std::string Route(const TimelineCall& call) const;
  std::string Statement(const TimelineStatement& statement) const;        // "region 13 v2 [t53_r1, t53_r9)"
  std::string StatementRegion(const TimelineStatement& statement) const;  // "region 13 v2"
  // "key out of region [t53_r1, t53_r9)", "epoch not match"; the bounds that the server names, else its
  // words.
  std::string Error(const TimelineError& error) const;
  // What stands behind the error's name there: " [t53_r1, t53_r9)", ": the server's words", or nothing.
  std::string ErrorDetail(const TimelineError& error) const;

 private:
  bool hex_keys_;
  size_t key_columns_;
};

// "Get", "GetRegion", "an unknown call".
std::string MethodWord(const TimelineCall& call);
// "key out of region"
std::string ErrorWord(const std::string& kind);
std::string DurationText(int64_t ns);  // "241 µs", "12.3 ms", "1.20 s"
// From the request's first byte to the answer's last, as client|server saw it: "241|162 µs"; of a call with
// one view "241 µs at tidb1". Empty: not known.
std::string LatencyText(const TimelineCall& call);
// The error that is about the route or the range; null: none is.
const TimelineError* RefusalOf(const TimelineCall& call);
// Of several statements the one that a reader looks for: that with this id in either view, else the one that
// holds the key asked for, else the first. Null: none.
const TimelineStatement* StatementOf(const TimelineCall& call, uint64_t statement_id);
// The view whose times are shown: the client's, unless only the server's clock is related to the reference.
const TimelineView& ShownView(const TimelineCall& call);

}  // namespace keytrail::report
