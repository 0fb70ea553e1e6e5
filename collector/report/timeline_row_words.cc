#include "collector/report/timeline_row_words.h"

#include <algorithm>

#include "collector/report/layout.h"
#include "common/plain_text.h"

namespace keytrail::report {
namespace {

// A lookup may answer with a hundred regions.
constexpr size_t kMostStatements = 2;

}  // namespace

RowWords::RowWords(const Timeline& timeline, const std::vector<StoryRow>& rows, TimelineWords words,
                   size_t columns)
    : timeline_(timeline),
      words_(words),
      columns_(columns),
      asked_(timeline.calls.size()),
      answered_(timeline.calls.size()) {
  for (const StoryRow& row : rows) {
    if (row.kind == StoryRow::Kind::kRequest) asked_[row.call] = true;
    if (row.kind == StoryRow::Kind::kResponse) answered_[row.call] = true;
  }
}

std::vector<Span> RowWords::Of(const StoryRow& row) {
  std::vector<Span> words;
  switch (row.kind) {
    case StoryRow::Kind::kRequest:
      RequestWords(row, words);
      break;
    case StoryRow::Kind::kResponse:
      ResponseWords(row, words);
      break;
    case StoryRow::Kind::kCall:
      CallWords(row, words);
      break;
    case StoryRow::Kind::kFolded:
      FoldedWords(row, words);
      break;
    case StoryRow::Kind::kPause:
      break;
  }
  Because(row, words);
  return words;
}

void RowWords::Wrong(const StoryRow& row, std::vector<Span>& words) const {
  if (row.guilty)
    words.push_back({Tone::kRed, row.note.empty() ? "WRONG:" : "WRONG, " + PlainText(row.note) + ":"});
}

void RowWords::RequestWords(const StoryRow& row, std::vector<Span>& words) const {
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

void RowWords::ResponseWords(const StoryRow& row, std::vector<Span>& words) {
  const TimelineCall& call = timeline_.calls[row.call];
  Wrong(row, words);
  // Without a row of its own the question stands here.
  if (!HasQuestionRow(row.call)) {
    const std::string route = words_.Route(call);
    words.push_back(
        {Tone::kPlain, words_.Deed(call, row.key) + (route.empty() ? ":" : " to " + route + ":")});
  }
  if (const TimelineError* error = RefusalOf(call)) {
    Refusal(row, call, *error, words);
    Statements(call, error->kind == "epoch_not_match" ? kMostStatements : 0, row.statement_id, words);
  } else if (const size_t before = SameSaid(row); before != 0) {
    words.push_back({Tone::kPlain, words_.StatementRegion(*StatementOf(call, row.statement_id)) + " as in " +
                                       std::to_string(before)});
  } else if (!call.statements.empty()) {
    Statements(call, 1, row.statement_id, words);
  } else {
    Outcome(call, words);
  }
  if (!row.guilty && !row.note.empty()) words.push_back({Tone::kPlain, "(" + PlainText(row.note) + ")"});
  if (const std::string latency = LatencyText(call); !latency.empty())
    words.push_back({Tone::kDim, "(" + latency + ")", true});
  if (call.followed && row.label == "refused" && !LedOn(row.call))
    words.push_back({Tone::kPlain, "No lookup or retry seen in " +
                                       std::to_string(kTimelineFollowNs / 1'000'000'000) + " s."});
}

// The number of the row that made the same wrong statement before; 0: none did.
size_t RowWords::SameSaid(const StoryRow& row) {
  const TimelineStatement* s = StatementOf(timeline_.calls[row.call], row.statement_id);
  if (!row.guilty || s == nullptr) return 0;
  const auto [it, fresh] = said_.try_emplace({s->region_id, s->version, s->start, s->end}, row.number);
  return fresh ? 0 : it->second;
}

void RowWords::Refusal(const StoryRow& row, const TimelineCall& call, const TimelineError& error,
                       std::vector<Span>& words) {
  const uint64_t region = call.region_id.value_or(0);
  Bounds& last = bounds_[region];
  const bool same = last.number != 0 && error.bounds_start == last.start && error.bounds_end == last.end;
  if (same) {
    words.push_back({Tone::kRed, ErrorWord(error.kind) + ","});
    words.push_back({Tone::kPlain, "bounds as in " + std::to_string(last.number)});
  } else {
    const bool told = error.kind == "epoch_not_match" && !call.statements.empty();
    words.push_back({Tone::kRed, ErrorWord(error.kind) + (told ? ":" : "")});
    words.push_back({Tone::kPlain, words_.ErrorDetail(error)});
  }
  if (!same && error.bounds_start && error.bounds_end && row.number != 0) {
    last = {*error.bounds_start, *error.bounds_end, row.number};
  }
}

bool RowWords::LedOn(size_t call) const {
  return std::any_of(timeline_.links.begin(), timeline_.links.end(), [&](const TimelineLink& link) {
    return link.from == call && link.kind != TimelineLink::Kind::kRoute;
  });
}

void RowWords::Statements(const TimelineCall& call, size_t most, uint64_t statement_id,
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
void RowWords::Outcome(const TimelineCall& call, std::vector<Span>& words) const {
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

void RowWords::CallWords(const StoryRow& row, std::vector<Span>& words) {
  const TimelineCall& call = timeline_.calls[row.call];
  Wrong(row, words);
  const std::string route = words_.Route(call);
  words.push_back({Tone::kPlain, words_.Deed(call, row.key) + (route.empty() ? ":" : " to " + route + ":")});
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

void RowWords::FoldedWords(const StoryRow& row, std::vector<Span>& words) const {
  std::map<std::string, size_t> methods;
  for (const size_t i : row.folded) {
    ++methods[MethodWord(timeline_.calls[i])];
  }
  std::vector<std::pair<std::string, size_t>> sorted(methods.begin(), methods.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text = "… " + Count(row.folded.size(), "other call", "other calls");
  text += ", not refused";
  for (size_t i = 0; i < sorted.size(); ++i) {
    const std::string more = (i == 0 ? ": " : ", ") + Number(sorted[i].second) + " " + sorted[i].first;
    // It must not draw the eye: one line.
    if (Columns(text + more) + 3 > columns_) {
      text += i == 0 ? "" : ", …";
      break;
    }
    text += more;
  }
  words.push_back({Tone::kDim, text});
}

void RowWords::Because(const StoryRow& row, std::vector<Span>& words) const {
  // That an answer comes of the question in the row above needs no word.
  const bool plain_answer = row.kind == StoryRow::Kind::kResponse && row.because.size() == 1 &&
                            row.because.front() + 1 == row.number && HasQuestionRow(row.call);
  if (!row.because.empty() && !plain_answer) {
    std::string because = "←";
    for (size_t i = 0; i < row.because.size(); ++i)
      because += (i == 0 ? " " : ", ") + std::to_string(row.because[i]);
    words.push_back({Tone::kDim, because, true});
  }
}

}  // namespace keytrail::report
