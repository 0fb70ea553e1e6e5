// What the rows of a timeline's text say.
//
// Rows are to be asked for in their order: what was said before is not repeated.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "collector/report/timeline_grid.h"
#include "collector/report/timeline_story.h"
#include "collector/report/timeline_words.h"

namespace keytrail::report {

class RowWords {
 public:
  // `timeline` must outlive it. `columns`: how wide a line of words is, for rows that must not take two.
  RowWords(const Timeline& timeline, const std::vector<StoryRow>& rows, TimelineWords words, size_t columns);

  std::vector<Span> Of(const StoryRow& row);
  // Whether a call has a row for its question, its answer.
  bool HasQuestionRow(size_t call) const { return asked_[call]; }
  bool HasAnswerRow(size_t call) const { return answered_[call]; }

 private:
  // Bounds that a refusal told last: a storm of one cause repeats them.
  struct Bounds {
    std::string start;
    std::string end;
    size_t number = 0;
  };

  void Wrong(const StoryRow& row, std::vector<Span>& words) const;
  void RequestWords(const StoryRow& row, std::vector<Span>& words) const;
  void ResponseWords(const StoryRow& row, std::vector<Span>& words);
  void CallWords(const StoryRow& row, std::vector<Span>& words);
  void FoldedWords(const StoryRow& row, std::vector<Span>& words) const;
  void Refusal(const StoryRow& row, const TimelineCall& call, const TimelineError& error,
               std::vector<Span>& words);
  void Statements(const TimelineCall& call, size_t most, uint64_t statement_id,
                  std::vector<Span>& words) const;
  void Outcome(const TimelineCall& call, std::vector<Span>& words) const;
  void Because(const StoryRow& row, std::vector<Span>& words) const;
  size_t SameSaid(const StoryRow& row);
  bool LedOn(size_t call) const;

  const Timeline& timeline_;
  TimelineWords words_;
  size_t columns_;
  std::vector<bool> asked_, answered_;
  std::map<uint64_t, Bounds> bounds_;  // by region
  std::map<std::tuple<uint64_t, std::optional<uint64_t>, std::string, std::string>, size_t> said_;
};

}  // namespace keytrail::report
