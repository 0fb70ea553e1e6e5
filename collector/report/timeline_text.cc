#include "collector/report/timeline_text.h"

#include <algorithm>
#include <map>

#include "collector/report/layout.h"
#include "collector/report/timeline_grid.h"
#include "collector/report/timeline_lanes.h"
#include "collector/report/timeline_row_words.h"
#include "collector/report/timeline_story.h"
#include "collector/report/timeline_words.h"
#include "common/plain_text.h"

namespace keytrail {
namespace {

using namespace report;  // NOLINT: the room's own pieces

constexpr int64_t kMinuteNs = 60'000'000'000;
constexpr size_t kKeyColumns = 34;

class Page {
 public:
  Page(const Timeline& timeline, const TimelineTextOptions& options)
      : timeline_(timeline),
        options_(options),
        paint_(options.color),
        width_(static_cast<size_t>(std::max(60, options.width))),
        rows_(TellStory(timeline, {options.unfold})),
        chart_(ChartLanes(timeline, GridShape::MostLanes(width_))),
        shape_(GridShape::For(width_, chart_.lanes.size(), NumberColumns())),
        grid_(shape_, chart_.lanes, paint_),
        row_words_(timeline, rows_, TimelineWords(options.hex_keys, kKeyColumns), shape_.words_columns()),
        whole_time_(shape_.whole_time) {}

  std::string Write() {
    Title();
    if (!timeline_.calls.empty()) {
      Rows();
      out_ += "\n";
    }
    LeftOut();
    Foot();
    return std::move(out_);
  }

 private:
  size_t NumberColumns() const {
    size_t most = 0;
    for (const StoryRow& row : rows_) most = std::max(most, row.number);
    return std::max<size_t>(2, std::to_string(most).size());
  }

  void Lines(const std::string& text, Tone tone = Tone::kPlain) {
    for (const std::string& line : Wrap(text, width_)) {
      // A single word may be wider than the page.
      out_ += paint_(tone, Columns(line) > width_ ? Shorten(line, width_) : line) + "\n";
    }
  }

  std::string Subject() const {
    const TimelineQuestion& q = timeline_.question;
    switch (q.about) {
      case TimelineQuestion::About::kKey:
        return "Key " + (q.keys.empty() ? "" : TimelineWords(options_.hex_keys).Key(q.keys.front()));
      case TimelineQuestion::About::kRegion:
        return "Region " + std::to_string(q.number);
      case TimelineQuestion::About::kStartTs:
        return "Transaction with start_ts " + std::to_string(q.number);
      case TimelineQuestion::About::kConnection:
        return "SQL connection " + std::to_string(q.number);
      default:
        return "From " + (q.from_ns ? TimeText(*q.from_ns) : "the beginning") + " to " +
               (q.to_ns ? TimeText(*q.to_ns) : "the end");
    }
  }

  void Title() {
    if (timeline_.verdict) {
      const Verdict& v = *timeline_.verdict;
      std::string text = PlainText(v.text);
      const std::string sure =
          std::string(v.certain ? "certain" : "inferred") + ", rule " + PlainText(v.rule);
      const size_t colon = text.find(':');
      auto lines = Wrap(text, width_);
      if (Columns(lines.back()) + 3 + Columns(sure) > width_) {
        lines.push_back("  " + sure);
      } else {
        lines.back() += "   " + sure;
      }
      for (size_t i = 0; i < lines.size(); ++i) {
        std::string line = Columns(lines[i]) > width_ ? Shorten(lines[i], width_) : lines[i];
        if (i == 0 && colon != std::string::npos && colon < line.size()) {
          line = paint_(Tone::kRed, line.substr(0, colon)) + line.substr(colon);
        }
        out_ += line + "\n";
      }
    } else {
      const size_t refused = static_cast<size_t>(std::count_if(
          timeline_.calls.begin(), timeline_.calls.end(), [](const TimelineCall& c) { return c.refused; }));
      Lines(Subject() + ": " + Count(timeline_.found, "call", "calls") + ", " +
                Number(refused + timeline_.refused_left) + " refused.",
            Tone::kBold);
    }
    out_ += "\n";
  }

  std::string Time(const StoryRow& row) const {
    if (!row.time_ns) return "?";
    const std::string whole = TimeText(*row.time_ns);
    const std::string text = whole_time_ ? whole : whole.substr(6);
    return text + (!row.on_reference ? "?" : row.moved ? "*" : "");
  }

  void Rows() {
    const auto first = std::find_if(rows_.begin(), rows_.end(), [](const StoryRow& r) { return r.time_ns; });
    const std::string start = first == rows_.end() ? "" : TimeText(*first->time_ns);
    grid_.Head(whole_time_ ? "UTC" : "UTC " + start.substr(0, std::min<size_t>(5, start.size())), out_);
    std::vector<int> open(chart_.lanes.size());  // calls under way, by lane
    int64_t minute = first == rows_.end() ? 0 : *first->time_ns / kMinuteNs;
    bool apart = false;
    for (const StoryRow& row : rows_) {
      if (!row.on_reference && !apart && row.kind != StoryRow::Kind::kPause) {
        grid_.Break("seen only by clocks that are not related to the others:", out_);
        apart = true;
      }
      if (row.time_ns && !whole_time_ && *row.time_ns / kMinuteNs != minute) {
        minute = *row.time_ns / kMinuteNs;
        grid_.Break("── " + TimeText(*row.time_ns).substr(0, 5) + " ──", out_);
      }
      if (row.kind == StoryRow::Kind::kPause) {
        grid_.Break("… " + DurationText(row.pause_ns) + " …", out_);
        continue;
      }
      const LaneOfCall lanes = chart_.of_call[row.call];
      if (row.kind == StoryRow::Kind::kRequest && row_words_.HasAnswerRow(row.call)) {
        ++open[lanes.client];
        ++open[lanes.server];
      }
      const std::vector<bool> busy(open.begin(), open.end());
      if (row.kind == StoryRow::Kind::kResponse && row_words_.HasQuestionRow(row.call)) {
        --open[lanes.client];
        --open[lanes.server];
      }
      grid_.Row(Drawn(row, lanes), busy, {open.begin(), open.end()}, out_);
    }
  }

  GridRow Drawn(const StoryRow& row, LaneOfCall lanes) {
    GridRow drawn;
    drawn.time = Time(row);
    drawn.guilty = row.guilty;
    drawn.number = row.number == 0 ? "" : std::to_string(row.number);
    drawn.label = row.label;
    drawn.client = lanes.client;
    drawn.server = lanes.server;
    if (row.guilty || row.refusal) drawn.label_tone = Tone::kRed;
    switch (row.kind) {
      case StoryRow::Kind::kRequest:
        drawn.arrow = row.guilty ? Arrow::kWrongRequest : Arrow::kRequest;
        break;
      case StoryRow::Kind::kResponse:
        drawn.arrow = row.guilty ? Arrow::kWrongResponse : row.refusal ? Arrow::kRefusal : Arrow::kResponse;
        break;
      case StoryRow::Kind::kFolded:
        break;
      default:
        drawn.arrow = row.guilty        ? Arrow::kWrongRequest
                      : row.refusal     ? Arrow::kRefused
                      : row.number == 0 ? Arrow::kBoth
                                        : Arrow::kRequest;
        break;
    }
    drawn.words = row_words_.Of(row);
    return drawn;
  }

  void LeftOut() {
    if (timeline_.left_out > 0) {
      std::string text = "Left out: " + Count(timeline_.left_out, "call", "calls");
      text += timeline_.refused_left > 0 ? ", " + Number(timeline_.refused_left) + " of them refused"
                                         : ", none of them refused";
      Lines(text + ". --calls " + std::to_string(timeline_.found) + " shows all; --from and --to narrow.",
            Tone::kBold);
    }
    if (timeline_.unread > 0) {
      Lines("Not looked at: " + Count(timeline_.unread, "more observation", "more observations") +
                "; --from and --to narrow.",
            Tone::kBold);
    }
    if (timeline_.calls.empty()) Lines("No call is found.");
  }

  void Foot() {
    if (timeline_.calls.empty()) return;
    std::string text =
        "Rows: ← is what a row came of; !! and WRONG is the statement that is blamed; ✗ a refusal. "
        "246|238 µs: from question to answer as the client|the server saw it.";
    if (std::any_of(rows_.begin(), rows_.end(), [](const StoryRow& r) { return !r.folded.empty(); })) {
      text += " … other calls about the same region, near in time; --unfold lists them.";
    }
    std::string dates;
    for (const StoryRow& row : rows_) {
      if (row.time_ns) {
        dates = DateText(*row.time_ns);
        break;
      }
    }
    if (!dates.empty()) text += " Times are UTC, " + dates;
    if (!timeline_.reference.empty())
      text += ", by the clock of " + PlainText(timeline_.reference) + Errors();
    text += ".";
    if (std::any_of(rows_.begin(), rows_.end(), [](const StoryRow& r) { return r.moved; })) {
      text += " *: moved within the clocks' error, so that it follows what it came of.";
    }
    if (std::any_of(rows_.begin(), rows_.end(),
                    [](const StoryRow& r) { return r.time_ns && !r.on_reference; })) {
      text += " ?: by the observer's own clock, which no call relates to the others.";
    }
    for (const Lane& lane : chart_.lanes) {
      if (lane.role.empty()) text += " " + lane.name + " stands for so many other hosts or processes.";
    }
    if (const std::string names = grid_.NamesInFull(); !names.empty())
      text += " Lanes from left: " + names + ".";
    Lines(text, Tone::kDim);
  }

  // " (tidb1 within 2 µs, tikv1 within 3 µs)"
  std::string Errors() const {
    std::map<std::string, int64_t> errors;
    for (const TimelineCall& call : timeline_.calls) {
      for (const std::optional<TimelineView>* view : {&call.at_client, &call.at_server, &call.between}) {
        if (!*view || !(*view)->on_reference || (*view)->observer == timeline_.reference) continue;
        int64_t& error = errors[(*view)->observer];
        error = std::max(error, (*view)->clock_error_ns);
      }
    }
    std::string text;
    for (const auto& [host, error] : errors) {
      text += (text.empty() ? " (" : ", ") + PlainText(host) + " within " + DurationText(error);
    }
    return text.empty() ? "" : text + ")";
  }

  const Timeline& timeline_;
  const TimelineTextOptions& options_;
  Paint paint_;
  size_t width_;
  std::vector<StoryRow> rows_;
  LaneChart chart_;
  GridShape shape_;
  Grid grid_;
  RowWords row_words_;
  bool whole_time_;
  std::string out_;
};

}  // namespace

std::string TimelineText(const Timeline& timeline, const TimelineTextOptions& options) {
  return Page(timeline, options).Write();
}

}  // namespace keytrail
