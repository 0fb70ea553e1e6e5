#include "collector/report/timeline_story.h"

#include <algorithm>
#include <tuple>

#include "collector/report/timeline_lanes.h"
#include "collector/report/timeline_words.h"

namespace keytrail::report {
namespace {

constexpr int64_t kPauseNs = 1'000'000'000;

// What a call is in the story.
struct Part {
  bool source = false;  // told the route of another
  bool lookup = false;  // asked after a refusal
  bool retry = false;
  bool linked = false;  // any of these, or led to one
  const TimelineMark* on_request = nullptr;
  const TimelineMark* on_response = nullptr;
  uint64_t told_statement = 0;
  std::string key;  // of a retry: the one that was refused
};

class Teller {
 public:
  Teller(const Timeline& timeline, const StoryOptions& options)
      : timeline_(timeline), options_(options), important_(ImportantCalls(timeline)) {}

  std::vector<StoryRow> Tell() {
    FindParts();
    for (size_t i = 0; i < timeline_.calls.size(); ++i) AddCall(i);
    FollowCauses();
    std::stable_sort(rows_.begin(), rows_.end(), [](const StoryRow& a, const StoryRow& b) {
      const auto when = [](const StoryRow& r) {
        return std::tuple(!r.on_reference || !r.time_ns, r.time_ns.value_or(0));
      };
      return when(a) < when(b);
    });
    if (!options_.unfold) Fold();
    Number();
    Pause();
    return std::move(rows_);
  }

 private:
  void FindParts() {
    parts_.resize(timeline_.calls.size());
    for (const TimelineLink& link : timeline_.links) {
      parts_[link.from].linked = true;
      parts_[link.to].linked = true;
      switch (link.kind) {
        case TimelineLink::Kind::kRoute:
          parts_[link.from].source = true;
          if (link.statement_id != 0) parts_[link.from].told_statement = link.statement_id;
          break;
        case TimelineLink::Kind::kAsk:
          parts_[link.to].lookup = true;
          break;
        case TimelineLink::Kind::kRetry:
          parts_[link.to].retry = true;
          if (const TimelineError* error = RefusalOf(timeline_.calls[link.from]); error && error->key) {
            parts_[link.to].key = *error->key;
          }
          break;
      }
    }
    for (size_t i = 0; i < parts_.size(); ++i) {
      // Of several verdicts' words the one that says "wrong" is told.
      for (const TimelineMark& mark : timeline_.calls[i].marks) {
        const TimelineMark*& place = mark.on_request ? parts_[i].on_request : parts_[i].on_response;
        if (place == nullptr || (mark.guilty && !place->guilty)) place = &mark;
      }
    }
  }

  StoryRow Row(size_t i, StoryRow::Kind kind) const {
    const TimelineView& view = ShownView(timeline_.calls[i]);
    StoryRow row;
    row.kind = kind;
    row.call = i;
    row.on_reference = view.on_reference;
    const bool response = kind == StoryRow::Kind::kResponse;
    row.time_ns = response ? view.times.Answered() : view.times.Asked();
    if (!row.time_ns) row.time_ns = response ? view.times.Last() : view.times.First();
    const Part& part = parts_[i];
    row.statement_id = part.told_statement;
    row.key = part.key;
    const TimelineMark* mark = response ? part.on_response : part.on_request;
    if (kind == StoryRow::Kind::kCall && mark == nullptr) mark = part.on_response;
    if (mark != nullptr) {
      row.label = mark->label;
      row.note = mark->note;
      row.guilty = mark->guilty;
      if (mark->statement_id != 0) row.statement_id = mark->statement_id;
      // The verdict's own time, where it is by another view than the one shown.
      const bool fits = !response || !view.times.Asked() || mark->time_ns >= *view.times.Asked();
      if (mark->time_ns != 0 && row.on_reference && fits && kind != StoryRow::Kind::kCall)
        row.time_ns = mark->time_ns;
    }
    return row;
  }

  // The same course as that of the evidence, once more: a row will do.
  static bool IsAgain(const Part& part) {
    const auto again = [](const TimelineMark* m) { return m == nullptr || m->label == "again"; };
    return (part.on_request != nullptr || part.on_response != nullptr) && again(part.on_request) &&
           again(part.on_response);
  }

  void AddAgain(size_t i) {
    const TimelineCall& call = timeline_.calls[i];
    const bool wrong_answer = parts_[i].on_response != nullptr && parts_[i].on_response->guilty;
    if (!call.refused) {
      rows_.push_back(Row(i, parts_[i].on_request ? StoryRow::Kind::kRequest : StoryRow::Kind::kResponse));
      return;
    }
    StoryRow row = Row(i, StoryRow::Kind::kCall);
    row.refusal = true;
    if (wrong_answer) row = Row(i, StoryRow::Kind::kResponse);
    row.refusal = true;
    if (!IsAgain(parts_[i])) row.label = "nearby";
    rows_.push_back(std::move(row));
  }

  void AddCall(size_t i) {
    const TimelineCall& call = timeline_.calls[i];
    const Part& part = parts_[i];
    if (!important_[i]) {
      rows_.push_back(Row(i, StoryRow::Kind::kCall));
      return;
    }
    const TimelineTimes& times = ShownView(call).times;
    const bool guilty =
        (part.on_request && part.on_request->guilty) || (part.on_response && part.on_response->guilty);
    // What is refused near by, without being asked for, does not get a chain of its own.
    if (IsAgain(part) || (call.refused && !call.asked_for && !part.linked)) return AddAgain(i);
    const bool witness = part.on_response != nullptr && part.on_response->label == "witness";
    const bool both = (call.refused && !witness) || part.source || part.lookup || guilty;
    const bool told_in_request = part.on_request != nullptr && call.kind == "message";
    const bool ask = (both && times.Asked()) || (part.on_request && !part.on_response);
    const bool answer = !told_in_request && ((both && times.Answered()) || part.on_response);
    if (!ask && !answer) {
      StoryRow row = Row(i, StoryRow::Kind::kCall);
      if (row.label.empty() && part.retry) row.label = "retry";
      rows_.push_back(std::move(row));
      return;
    }
    if (ask) {
      StoryRow row = Row(i, StoryRow::Kind::kRequest);
      if (row.label.empty()) {
        row.label = part.retry ? "retry" : part.lookup ? "lookup" : call.refused ? "request" : "asked";
      }
      rows_.push_back(std::move(row));
    }
    if (answer) {
      StoryRow row = Row(i, StoryRow::Kind::kResponse);
      row.refusal = call.refused;
      if (row.label.empty()) row.label = call.refused ? "refused" : "told";
      rows_.push_back(std::move(row));
    }
  }

  // Rows of a call: that of its question, that of its answer; the same if there is one.
  struct Places {
    size_t ask = 0;
    size_t answer = 0;
    bool any = false;
  };
  std::vector<Places> FindPlaces() const {
    std::vector<Places> places(timeline_.calls.size());
    for (size_t r = 0; r < rows_.size(); ++r) {
      if (rows_[r].kind == StoryRow::Kind::kFolded || rows_[r].kind == StoryRow::Kind::kPause) continue;
      Places& p = places[rows_[r].call];
      if (!p.any) p.ask = r;
      p.answer = r;
      p.any = true;
    }
    return places;
  }

  // Clocks are right within an error only: what came of something is told after it.
  void FollowCauses() {
    const std::vector<Places> places = FindPlaces();
    for (const TimelineLink& link : timeline_.links) {
      const StoryRow& cause = rows_[places[link.from].answer];
      StoryRow& ask = rows_[places[link.to].ask];
      if (!cause.time_ns || !ask.time_ns || !cause.on_reference || !ask.on_reference) continue;
      if (*ask.time_ns > *cause.time_ns) continue;
      ask.moved = *ask.time_ns < *cause.time_ns;
      ask.time_ns = *cause.time_ns + 1;
      StoryRow& answer = rows_[places[link.to].answer];
      if (answer.time_ns && *answer.time_ns < *ask.time_ns) {
        answer.time_ns = ask.time_ns;
        answer.moved = true;
      }
    }
  }

  void Fold() {
    std::vector<StoryRow> told;
    for (size_t r = 0; r < rows_.size();) {
      size_t end = r;
      while (end < rows_.size() && !important_[rows_[end].call] &&
             !timeline_.calls[rows_[end].call].asked_for &&
             rows_[end].on_reference == rows_[r].on_reference) {
        ++end;
      }
      if (end == r) {
        told.push_back(std::move(rows_[r++]));
        continue;
      }
      StoryRow folded;
      folded.kind = StoryRow::Kind::kFolded;
      folded.call = rows_[r].call;
      folded.time_ns = rows_[r].time_ns;
      folded.on_reference = rows_[r].on_reference;
      for (; r < end; ++r) folded.folded.push_back(rows_[r].call);
      told.push_back(std::move(folded));
    }
    rows_ = std::move(told);
  }

  void Number() {
    size_t next = 1;
    for (StoryRow& row : rows_) {
      if (row.kind != StoryRow::Kind::kFolded && important_[row.call]) row.number = next++;
    }
    const std::vector<Places> places = FindPlaces();
    for (size_t r = 0; r < rows_.size(); ++r) {
      StoryRow& row = rows_[r];
      if (row.number == 0) continue;
      const Places& own = places[row.call];
      if (row.kind == StoryRow::Kind::kResponse && own.ask != r) row.because.push_back(rows_[own.ask].number);
      if (own.ask != r) continue;
      for (const TimelineLink& link : timeline_.links) {
        if (link.to == row.call) row.because.push_back(rows_[places[link.from].answer].number);
      }
    }
    for (StoryRow& row : rows_) {
      std::sort(row.because.begin(), row.because.end());
      row.because.erase(std::unique(row.because.begin(), row.because.end()), row.because.end());
    }
  }

  void Pause() {
    std::vector<StoryRow> told;
    for (StoryRow& row : rows_) {
      if (!told.empty() && told.back().time_ns && row.time_ns && row.on_reference &&
          *row.time_ns - *told.back().time_ns >= kPauseNs) {
        StoryRow pause;
        pause.kind = StoryRow::Kind::kPause;
        pause.pause_ns = *row.time_ns - *told.back().time_ns;
        told.push_back(std::move(pause));
      }
      told.push_back(std::move(row));
    }
    rows_ = std::move(told);
  }

  const Timeline& timeline_;
  const StoryOptions& options_;
  std::vector<bool> important_;
  std::vector<Part> parts_;
  std::vector<StoryRow> rows_;
};

}  // namespace

std::vector<StoryRow> TellStory(const Timeline& timeline, const StoryOptions& options) {
  return Teller(timeline, options).Tell();
}

}  // namespace keytrail::report
