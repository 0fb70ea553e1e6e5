#include "collector/report/timeline_text.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "collector/report/layout.h"
#include "collector/report/timeline_grid.h"
#include "collector/report/timeline_lanes.h"
#include "collector/report/timeline_story.h"
#include "collector/report/timeline_words.h"
#include "common/plain_text.h"

namespace keytrail {
namespace {

using namespace report;  // NOLINT: the room's own pieces

constexpr int64_t kMinuteNs = 60'000'000'000;
constexpr size_t kKeyColumns = 34;
// A lookup may answer with a hundred regions.
constexpr size_t kMostStatements = 2;

class Page {
 public:
  Page(const Timeline& timeline, const TimelineTextOptions& options)
      : timeline_(timeline),
        options_(options),
        paint_(options.color),
        width_(static_cast<size_t>(std::max(60, options.width))),
        words_(options.hex_keys, kKeyColumns),
        rows_(TellStory(timeline, {options.unfold})),
        chart_(ChartLanes(timeline, GridShape::MostLanes(width_))),
        shape_(GridShape::For(width_, chart_.lanes.size(), NumberColumns())),
        grid_(shape_, chart_.lanes, paint_),
        whole_time_(shape_.whole_time) {}

  std::string Write() {
    asked_.resize(timeline_.calls.size());
    answered_.resize(timeline_.calls.size());
    for (const StoryRow& row : rows_) {
      if (row.kind == StoryRow::Kind::kRequest) asked_[row.call] = true;
      if (row.kind == StoryRow::Kind::kResponse) answered_[row.call] = true;
    }
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
    std::vector<int> open(chart_.lanes.size());
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
      if (row.kind == StoryRow::Kind::kRequest && HasAnswerRow(row)) {
        ++open[lanes.client];
        ++open[lanes.server];
      }
      std::vector<bool> busy;
      for (const int n : open) busy.push_back(n > 0);
      grid_.Row(Drawn(row, lanes), busy, out_);
      if (row.kind == StoryRow::Kind::kResponse && open[lanes.client] > 0 && open[lanes.server] > 0 &&
          HasQuestionRow(row)) {
        --open[lanes.client];
        --open[lanes.server];
      }
    }
  }

  bool HasAnswerRow(const StoryRow& row) const { return answered_[row.call]; }
  bool HasQuestionRow(const StoryRow& row) const { return asked_[row.call]; }

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
        RequestWords(row, drawn.words);
        break;
      case StoryRow::Kind::kResponse:
        drawn.arrow = row.guilty ? Arrow::kWrongResponse : row.refusal ? Arrow::kRefusal : Arrow::kResponse;
        ResponseWords(row, drawn.words);
        break;
      case StoryRow::Kind::kFolded:
        FoldedWords(row, drawn.words);
        break;
      default:
        drawn.arrow = row.guilty        ? Arrow::kWrongRequest
                      : row.refusal     ? Arrow::kRefused
                      : row.number == 0 ? Arrow::kBoth
                                        : Arrow::kRequest;
        CallWords(row, drawn.words);
        break;
    }
    // That an answer comes of the question in the row above needs no word.
    const bool plain_answer = row.kind == StoryRow::Kind::kResponse && row.because.size() == 1 &&
                              row.because.front() + 1 == row.number && HasQuestionRow(row);
    if (!row.because.empty() && !plain_answer) {
      std::string because = "←";
      for (size_t i = 0; i < row.because.size(); ++i)
        because += (i == 0 ? " " : ", ") + std::to_string(row.because[i]);
      drawn.words.push_back({Tone::kDim, because, true});
    }
    return drawn;
  }

  void Wrong(const StoryRow& row, std::vector<Span>& words) const {
    if (row.guilty)
      words.push_back({Tone::kRed, row.note.empty() ? "WRONG:" : "WRONG, " + PlainText(row.note) + ":"});
  }

  void RequestWords(const StoryRow& row, std::vector<Span>& words) const {
    const TimelineCall& call = timeline_.calls[row.call];
    Wrong(row, words);
    words.push_back({Tone::kPlain, words_.Deed(call, row.key)});
    // A report to PD states its region in the request.
    if (const TimelineStatement* s = call.kind == "message" ? StatementOf(call, row.statement_id) : nullptr) {
      words.push_back({Tone::kPlain, words_.Statement(*s)});
    } else if (!words_.Route(call).empty()) {
      words.push_back({Tone::kPlain, "to " + words_.Route(call)});
    }
    if (!row.guilty && !row.note.empty()) words.push_back({Tone::kPlain, "(" + PlainText(row.note) + ")"});
    if (!ShownView(call).times.Answered() && call.kind != "message") {
      words.push_back({Tone::kBold, "no answer seen"});
    }
  }

  void ResponseWords(const StoryRow& row, std::vector<Span>& words) {
    const TimelineCall& call = timeline_.calls[row.call];
    Wrong(row, words);
    // Without a row of its own the question stands here.
    if (!HasQuestionRow(row)) {
      const std::string route = words_.Route(call);
      words.push_back(
          {Tone::kPlain, words_.Deed(call, row.key) + (route.empty() ? ":" : " to " + route + ":")});
    }
    if (const TimelineError* error = RefusalOf(call)) {
      Refusal(row, call, *error, words);
      Statements(call, error->kind == "epoch_not_match" ? kMostStatements : 0, row.statement_id, words);
    } else if (const size_t before = SameSaid(row); before != 0) {
      words.push_back({Tone::kPlain, words_.StatementRegion(*StatementOf(call, row.statement_id)) +
                                         " as in " + std::to_string(before)});
    } else if (!call.statements.empty()) {
      Statements(call, 1, row.statement_id, words);
    } else {
      Outcome(call, words);
    }
    if (!row.guilty && !row.note.empty()) words.push_back({Tone::kPlain, "(" + PlainText(row.note) + ")"});
    if (const std::string latency = LatencyText(call); !latency.empty())
      words.push_back({Tone::kDim, "(" + latency + ")", true});
    if (call.followed && row.label == "refused" && !LedOn(row.call))
      words.push_back({Tone::kPlain, "No lookup or retry seen in 3 s."});
  }

  // The number of the row that made the same wrong statement before; 0: none did.
  size_t SameSaid(const StoryRow& row) {
    const TimelineStatement* s = StatementOf(timeline_.calls[row.call], row.statement_id);
    if (!row.guilty || s == nullptr) return 0;
    const auto [it, fresh] = said_.try_emplace({s->region_id, s->version, s->start, s->end}, row.number);
    return fresh ? 0 : it->second;
  }

  void Refusal(const StoryRow& row, const TimelineCall& call, const TimelineError& error,
               std::vector<Span>& words) {
    const uint64_t region = call.region_id.value_or(0);
    Bounds& last = bounds_[region];
    const bool same = last.number != 0 && error.bounds_start == last.start && error.bounds_end == last.end;
    if (same) {
      words.push_back({Tone::kRed, ErrorWord(error.kind) + ","});
      words.push_back({Tone::kPlain, "bounds as in " + std::to_string(last.number)});
    } else {
      const bool told = error.kind == "epoch_not_match" && !call.statements.empty();
      words.push_back({Tone::kRed, words_.Error(error) + (told ? ":" : "")});
    }
    if (!same && error.bounds_start && error.bounds_end && row.number != 0) {
      last = {*error.bounds_start, *error.bounds_end, row.number};
    }
  }

  bool LedOn(size_t call) const {
    return std::any_of(timeline_.links.begin(), timeline_.links.end(), [&](const TimelineLink& link) {
      return link.from == call && link.kind != TimelineLink::Kind::kRoute;
    });
  }

  void Statements(const TimelineCall& call, size_t most, uint64_t statement_id,
                  std::vector<Span>& words) const {
    if (call.statements.empty() || most == 0) return;
    const TimelineStatement* first = StatementOf(call, statement_id);
    words.push_back({Tone::kPlain, words_.Statement(*first)});
    size_t shown = 1;
    for (const TimelineStatement& s : call.statements) {
      if (shown == most) break;
      if (&s == first) continue;
      words.push_back({Tone::kPlain, words_.Statement(s)});
      ++shown;
    }
    const uint64_t more = call.statements.size() + call.more_statements - shown;
    if (more > 0) words.push_back({Tone::kDim, "+" + Count(more, "region", "regions")});
  }

  // How it ended, where that is not told by statements.
  void Outcome(const TimelineCall& call, std::vector<Span>& words) const {
    if (!call.errors.empty()) {
      words.push_back({Tone::kBold, words_.Error(call.errors.front())});
    } else if (call.grpc_status && *call.grpc_status != 0) {
      std::string text = "gRPC status " + std::to_string(*call.grpc_status);
      if (!call.grpc_message.empty()) text += ": " + Shorten(PlainText(call.grpc_message), 120);
      words.push_back({Tone::kBold, text});
    } else if (!ShownView(call).times.Answered()) {
      if (call.kind != "message") words.push_back({Tone::kPlain, "no answer seen"});
    } else {
      words.push_back({Tone::kPlain, call.incomplete.empty() ? "ok" : "answered"});
    }
  }

  void CallWords(const StoryRow& row, std::vector<Span>& words) {
    const TimelineCall& call = timeline_.calls[row.call];
    Wrong(row, words);
    const std::string route = words_.Route(call);
    words.push_back(
        {Tone::kPlain, words_.Deed(call, row.key) + (route.empty() ? ":" : " to " + route + ":")});
    if (const TimelineError* error = RefusalOf(call)) {
      Refusal(row, call, *error, words);
      Statements(call, error->kind == "epoch_not_match" ? 1 : 0, row.statement_id, words);
    } else if (call.statements.empty()) {
      Outcome(call, words);
    } else {
      Statements(call, 1, row.statement_id, words);
    }
    if (const std::string latency = LatencyText(call); !latency.empty())
      words.push_back({Tone::kDim, "(" + latency + ")", true});
  }

  void FoldedWords(const StoryRow& row, std::vector<Span>& words) const {
    std::map<std::string, size_t> methods;
    for (const size_t i : row.folded) {
      ++methods[MethodWord(timeline_.calls[i])];
    }
    std::vector<std::pair<std::string, size_t>> sorted(methods.begin(), methods.end());
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    std::string text = "⋮ " + Count(row.folded.size(), "other call", "other calls");
    text += ", not refused";
    for (size_t i = 0; i < sorted.size(); ++i) {
      const std::string more = (i == 0 ? ": " : ", ") + Number(sorted[i].second) + " " + sorted[i].first;
      // It must not draw the eye: one line.
      if (Columns(text + more) + 3 > shape_.words_columns()) {
        text += i == 0 ? "" : ", …";
        break;
      }
      text += more;
    }
    words.push_back({Tone::kDim, text});
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
      text += " ⋮ other calls about the same region, near in time; --unfold lists them.";
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
    for (const std::string& name : grid_.CutNames()) text += " " + name + ".";
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
  TimelineWords words_;
  std::vector<StoryRow> rows_;
  LaneChart chart_;
  GridShape shape_;
  Grid grid_;
  bool whole_time_;
  std::vector<bool> asked_, answered_;  // of a call: it has a row for its question, its answer
  // Bounds that a refusal told last: a storm of one cause repeats them.
  struct Bounds {
    std::string start;
    std::string end;
    size_t number = 0;
  };
  std::map<uint64_t, Bounds> bounds_;  // by region
  std::map<std::tuple<uint64_t, std::optional<uint64_t>, std::string, std::string>, size_t> said_;
  std::string out_;
};

}  // namespace

std::string TimelineText(const Timeline& timeline, const TimelineTextOptions& options) {
  return Page(timeline, options).Write();
}

}  // namespace keytrail
