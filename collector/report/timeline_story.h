// The rows of a timeline in the order in which they are told: questions and answers with what they are in the
// story (said, used, refused, lookup, told, retry), numbered, each with what it came of.
//
// Pure. The same story is drawn as text (timeline_text.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collector/store/timeline_model.h"

namespace keytrail::report {

struct StoryRow {
  enum class Kind : uint8_t {
    kRequest,
    kResponse,
    kCall,    // question and answer in one row
    kFolded,  // several calls of the surroundings, none refused
    kPause,   // nothing for a while
  };
  Kind kind = Kind::kCall;
  size_t call = 0;  // into Timeline::calls; of kFolded the first of them
  std::optional<int64_t> time_ns;
  bool on_reference = true;  // else the time is by the observer's own clock
  bool moved = false;        // later than measured, so that it follows what it came of
  bool guilty = false;       // the wrong statement
  bool refusal = false;
  std::string label;
  std::string note;             // the verdict's word on it
  std::string key;              // which of the request's keys counts, encoded; empty: not said
  uint64_t statement_id = 0;    // which of its statements counts; 0: not said
  size_t number = 0;            // from 1; 0: not part of a chain
  std::vector<size_t> because;  // numbers of the rows that it came of
  std::vector<size_t> folded;   // of kFolded: calls
  int64_t pause_ns = 0;         // of kPause
};

struct StoryOptions {
  bool unfold = false;  // every call of the surroundings in a row of its own
};

std::vector<StoryRow> TellStory(const Timeline& timeline, const StoryOptions& options);

}  // namespace keytrail::report
