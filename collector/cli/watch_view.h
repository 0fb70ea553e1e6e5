// What `keytrail watch` shows on a terminal: a model that takes events, and lines made of it for any size.
//
// Pure: time and size come in. Texts are made plain here, whoever sent them; widths are those of wcwidth(3),
// so the locale must be one of UTF-8. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "collector/query/answer_source.h"
#include "collector/report/layout.h"

namespace keytrail {

struct WatchModel {
  std::string source;      // the collector's address, or the path that is read
  std::string away;        // not empty: nothing comes, and why
  int64_t changed_ns = 0;  // when it came or went away, as `now_ns` of WatchLines
  std::vector<AgentProgress>
      agents;  // the latest start of each, by host; its records are those of all starts
  std::vector<VerdictLine> verdicts;  // the latest first
  struct Loss {
    uint64_t total = 0;
    int64_t grown_ns = 0;  // 0: was there when we came
  };
  std::map<std::pair<std::string, std::string>, Loss> losses;  // by host and kind
  bool told = false;                                           // rates were told since we (last) came

  // A connection begins: everything is told anew.
  void Begin(int64_t now_ns);
  void Take(const WatchEvent& event);
};

using ViewLine = std::vector<std::pair<report::Tone, std::string>>;

// `height` lines at most, each of `width` columns at most. `now_ns`: by the collector's clock, as far as it
// is known.
std::vector<ViewLine> WatchLines(const WatchModel& model, int64_t now_ns, size_t width, size_t height);

// Columns of a terminal that plain text takes.
size_t DisplayWidth(const std::string& text);
// The text, or its beginning with "…", in `columns` at most.
std::string CutToWidth(const std::string& text, size_t columns);

}  // namespace keytrail
