#include "collector/cli/watch_view.h"

#include <algorithm>
#include <cstring>
#include <cwchar>
#include <tuple>

#include "common/plain_text.h"

namespace keytrail {

namespace {

using report::Tone;

// Below this many lines there is no room for headings of sections, nor for the foot.
constexpr size_t kSmallHeight = 6;
constexpr size_t kMostVerdicts = 500;

// One character of plain UTF-8 at `at`: its bytes and its columns.
std::pair<size_t, size_t> CharacterAt(const std::string& text, size_t at) {
  wchar_t wide = 0;
  std::mbstate_t state{};
  const size_t bytes = std::mbrtowc(&wide, text.data() + at, text.size() - at, &state);
  if (bytes == 0 || bytes == static_cast<size_t>(-1) || bytes == static_cast<size_t>(-2)) return {1, 1};
  const int columns = wcwidth(wide);
  return {bytes, columns < 0 ? 1 : static_cast<size_t>(columns)};
}

std::string PadTo(const std::string& text, size_t columns) {
  std::string padded = CutToWidth(text, columns);
  padded.append(columns - std::min(columns, DisplayWidth(padded)), ' ');
  return padded;
}

std::string RightIn(const std::string& text, size_t columns) {
  const std::string cut = CutToWidth(text, columns);
  return std::string(columns - std::min(columns, DisplayWidth(cut)), ' ') + cut;
}

// "7 s", "12 min", "3 h", "5 d".
std::string Span(int64_t ns) {
  const int64_t seconds = std::max<int64_t>(0, ns / 1'000'000'000);
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  if (seconds < 172'800) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86'400) + " d";
}

std::string RateOf(const std::optional<double>& per_second) {
  return per_second ? report::Number(static_cast<uint64_t>(*per_second + 0.5)) : "";
}

// A column of a table: shown if there is room, the important ones first.
struct Column {
  const char* title;
  size_t width;
  bool right;
  int importance;  // 0: always
};

// Which columns fit `width`, one blank between them; the first may be made narrower.
std::vector<bool> Chosen(const std::vector<Column>& columns, size_t width) {
  std::vector<bool> chosen(columns.size(), false);
  size_t used = 0;
  for (int importance = 0; importance < 10; ++importance) {
    for (size_t i = 0; i < columns.size(); ++i) {
      if (columns[i].importance != importance) continue;
      if (importance != 0 && used + columns[i].width + 1 > width) return chosen;
      chosen[i] = true;
      used += columns[i].width + 1;
    }
  }
  return chosen;
}

ViewLine Cells(const std::vector<Column>& columns, const std::vector<bool>& chosen,
               const std::vector<std::pair<Tone, std::string>>& cells) {
  ViewLine line;
  for (size_t i = 0; i < columns.size(); ++i) {
    if (!chosen[i]) continue;
    if (!line.empty()) line.push_back({Tone::kPlain, " "});
    line.push_back({cells[i].first, columns[i].right ? RightIn(cells[i].second, columns[i].width)
                                                     : PadTo(cells[i].second, columns[i].width)});
  }
  return line;
}

ViewLine Titles(const std::vector<Column>& columns, const std::vector<bool>& chosen) {
  std::vector<std::pair<Tone, std::string>> cells;
  for (const Column& c : columns) cells.push_back({Tone::kDim, c.title});
  return Cells(columns, chosen, cells);
}

struct Section {
  ViewLine title;
  std::vector<ViewLine> rows;
  const char* what;  // "agents", for "agents  5 of 9"
};

Section Agents(const WatchModel& model, int64_t now_ns, size_t width) {
  std::map<std::string, uint64_t> lost;
  for (const auto& [what, loss] : model.losses) lost[what.first] += loss.total;
  size_t name = 5;
  for (const AgentProgress& a : model.agents) name = std::max(name, DisplayWidth(PlainText(a.host)));
  name = std::min<size_t>(name, std::max<size_t>(8, width / 4));
  const std::vector<Column> columns = {
      {"agent", name, false, 0}, {"role", 5, false, 3},  {"state", 5, false, 1},
      {"calls/s", 9, true, 0},   {"calls", 13, true, 2}, {"stored", 10, true, 4},
      {"lost", 10, true, 1},     {"keys", 13, false, 6}, {"reads", 24, false, 5}};
  const std::vector<bool> chosen = Chosen(columns, width);
  Section section{Titles(columns, chosen), {}, "agents"};
  for (const AgentProgress& a : model.agents) {
    // Of a collector that is away nobody knows it.
    const bool known = model.away.empty();
    const bool live = known && a.records_per_s.value_or(0) > 0;
    const uint64_t missing = lost[a.host];
    const std::string keys = a.redaction.mode == Redaction::Mode::kOff
                                 ? "as they are"
                                 : std::string(a.redaction.mode == Redaction::Mode::kOn ? "tokens" : "");
    section.rows.push_back(Cells(columns, chosen,
                                 {{Tone::kPlain, PlainText(a.host)},
                                  {Tone::kPlain, PlainText(a.role)},
                                  {live ? Tone::kGreen : Tone::kDim, live    ? "ships"
                                                                     : known ? "quiet"
                                                                             : ""},
                                  {Tone::kPlain, known ? RateOf(a.records_per_s) : ""},
                                  {Tone::kPlain, report::Number(a.records)},
                                  {Tone::kPlain, Span(now_ns - a.last_seen_ns) + " ago"},
                                  {missing != 0 ? Tone::kYellow : Tone::kDim, report::Number(missing)},
                                  {Tone::kPlain, keys},
                                  {Tone::kPlain, PlainText(a.input)}}));
  }
  return section;
}

Section Verdicts(const WatchModel& model, int64_t now_ns, size_t width) {
  const std::vector<Column> columns = {
      {"wrong", 5, false, 0}, {"last", 10, true, 2}, {"times", 6, true, 1}, {"", 8, false, 3}};
  // The sentence is what the rest is for.
  const std::vector<bool> chosen = Chosen(columns, width > 60 ? 40 : width > 40 ? 14 : 6);
  Section section{Titles(columns, chosen), {}, "verdicts"};
  for (const VerdictLine& v : model.verdicts) {
    ViewLine line = Cells(columns, chosen,
                          {{Tone::kRed, PlainText(v.component)},
                           {Tone::kPlain, Span(now_ns - v.last_ns) + " ago"},
                           {Tone::kPlain, report::Number(v.occurrences)},
                           {Tone::kDim, v.certain ? "certain" : "inferred"}});
    size_t used = 0;
    for (const auto& [tone, text] : line) used += DisplayWidth(text);
    if (used + 2 < width) {
      line.push_back({Tone::kPlain, " " + CutToWidth(PlainText(v.text), width - used - 1)});
    }
    section.rows.push_back(std::move(line));
  }
  return section;
}

Section Losses(const WatchModel& model, int64_t now_ns, size_t width) {
  size_t name = 5;
  for (const auto& [what, loss] : model.losses) name = std::max(name, DisplayWidth(PlainText(what.first)));
  name = std::min<size_t>(name, std::max<size_t>(8, width / 4));
  const std::vector<Column> columns = {
      {"lost", name, false, 0}, {"what", 28, false, 1}, {"count", 13, true, 0}, {"grew", 10, true, 2}};
  const std::vector<bool> chosen = Chosen(columns, width);
  Section section{Titles(columns, chosen), {}, "losses"};
  for (const auto& [what, loss] : model.losses) {
    section.rows.push_back(
        Cells(columns, chosen,
              {{Tone::kYellow, PlainText(what.first)},
               {Tone::kPlain, PlainText(what.second)},
               {Tone::kPlain, report::Number(loss.total)},
               {Tone::kPlain, loss.grown_ns == 0 ? "" : Span(now_ns - loss.grown_ns) + " ago"}}));
  }
  return section;
}

ViewLine Head(const WatchModel& model, int64_t now_ns, size_t width) {
  double rate = 0;
  uint64_t calls = 0;
  for (const AgentProgress& a : model.agents) {
    rate += a.records_per_s.value_or(0);
    calls += a.records;
  }
  const bool away = !model.away.empty();
  std::string figures = report::Number(calls) + " calls";
  if (!away) figures += "  " + report::Number(static_cast<uint64_t>(rate + 0.5)) + "/s";
  const std::string state = away ? "away for " : "watched for ";
  std::string left = "keytrail  " + PlainText(model.source);
  const std::string middle = "  " + state + Span(now_ns - model.changed_ns);
  // From the least important on, what does not fit is left out.
  const size_t all = DisplayWidth(left) + DisplayWidth(middle) + 2 + DisplayWidth(figures);
  if (all > width && DisplayWidth(figures) + 2 + DisplayWidth(middle) > width) {
    return {{away ? Tone::kRed : Tone::kBold, CutToWidth(away ? "away" + middle.substr(6) : figures, width)}};
  }
  const size_t room = width - DisplayWidth(middle) - 2 - DisplayWidth(figures);
  if (DisplayWidth(left) > room) left = PlainText(model.source);
  if (DisplayWidth(left) > room) left.clear();
  ViewLine line = {{Tone::kBold, left}, {away ? Tone::kRed : Tone::kDim, middle}};
  if (left.empty()) line[1].second = middle.substr(2);
  const size_t used = DisplayWidth(left) + DisplayWidth(line[1].second);
  line.push_back({Tone::kBold, std::string(width - used - DisplayWidth(figures), ' ') + figures});
  return line;
}

// Lines for each of the sections: what they want if there is room, else the smaller ones keep a share.
std::vector<size_t> Shares(const std::vector<Section>& sections, size_t room) {
  std::vector<size_t> shares(sections.size(), 0);
  std::vector<size_t> wants;
  for (const Section& s : sections) wants.push_back(s.rows.empty() ? 0 : s.rows.size() + 1);
  // A line at a time, in turns; sections of one line are a title without rows, and give it back.
  for (bool given = true; given && room > 0;) {
    given = false;
    for (size_t i = 0; i < sections.size() && room > 0; ++i) {
      if (shares[i] >= wants[i]) continue;
      const size_t lines = shares[i] == 0 ? 2 : 1;
      if (lines > room) continue;
      shares[i] += lines;
      room -= lines;
      given = true;
    }
  }
  return shares;
}

void Put(const Section& section, size_t share, size_t width, std::vector<ViewLine>& lines) {
  if (share < 2) return;
  ViewLine title = section.title;
  const size_t shown = std::min(section.rows.size(), share - 1);
  if (shown < section.rows.size()) {
    const std::string part = std::to_string(shown) + " of " + std::to_string(section.rows.size());
    size_t used = 0;
    for (const auto& [tone, text] : title) used += DisplayWidth(text);
    if (used + 2 + part.size() > width) title = {{Tone::kDim, section.what}};
    title.push_back({Tone::kYellow, "  " + part});
  }
  lines.push_back(std::move(title));
  for (size_t i = 0; i < shown; ++i) lines.push_back(section.rows[i]);
}

// Terminals that are too narrow for what always stands there.
void Clip(ViewLine& line, size_t width) {
  size_t used = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const size_t columns = DisplayWidth(line[i].second);
    if (used + columns <= width) {
      used += columns;
      continue;
    }
    line[i].second = CutToWidth(line[i].second, width - used);
    line.resize(i + 1);
  }
}

bool SameVerdict(const VerdictLine& a, const VerdictLine& b) {
  return std::tie(a.component, a.rule, a.client, a.server, a.region_id, a.version) ==
         std::tie(b.component, b.rule, b.client, b.server, b.region_id, b.version);
}

}  // namespace

size_t DisplayWidth(const std::string& text) {
  size_t columns = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [bytes, width] = CharacterAt(text, at);
    columns += width;
    at += bytes;
  }
  return columns;
}

std::string CutToWidth(const std::string& text, size_t columns) {
  if (DisplayWidth(text) <= columns) return text;
  if (columns == 0) return {};
  size_t used = 0;
  size_t at = 0;
  while (at < text.size()) {
    const auto [bytes, width] = CharacterAt(text, at);
    if (used + width > columns - 1) break;
    used += width;
    at += bytes;
  }
  return text.substr(0, at) + "…";
}

void WatchModel::Begin(int64_t now_ns) {
  away.clear();
  changed_ns = now_ns;
  agents.clear();
  verdicts.clear();
  losses.clear();
  told = false;
}

void WatchModel::Take(const WatchEvent& event) {
  if (const auto* all = std::get_if<std::vector<AgentProgress>>(&event.what)) {
    agents.clear();
    told = true;
    // Starts come in order: the last one of a key is the latest.
    for (const AgentProgress& a : *all) {
      const auto before =
          std::find_if(agents.begin(), agents.end(), [&](const AgentProgress& b) { return b.key == a.key; });
      if (before == agents.end()) {
        agents.push_back(a);
        continue;
      }
      const uint64_t records = before->records;
      const double rate = before->records_per_s.value_or(0);
      const int64_t last_seen_ns = before->last_seen_ns;
      *before = a;
      before->records += records;
      before->last_seen_ns = std::max(before->last_seen_ns, last_seen_ns);
      if (before->records_per_s) *before->records_per_s += rate;
    }
    std::stable_sort(agents.begin(), agents.end(),
                     [](const AgentProgress& a, const AgentProgress& b) { return a.host < b.host; });
  } else if (const auto* loss = std::get_if<LossLine>(&event.what)) {
    losses[{loss->host, loss->kind}] = {loss->total, told ? event.at_ns : 0};
  } else if (const auto* verdict = std::get_if<VerdictLine>(&event.what)) {
    std::erase_if(verdicts, [&](const VerdictLine& v) { return SameVerdict(v, *verdict); });
    if (!verdict->withdrawn) verdicts.push_back(*verdict);
    std::stable_sort(verdicts.begin(), verdicts.end(),
                     [](const VerdictLine& a, const VerdictLine& b) { return a.last_ns > b.last_ns; });
    if (verdicts.size() > kMostVerdicts) verdicts.pop_back();
  }
}

std::vector<ViewLine> WatchLines(const WatchModel& model, int64_t now_ns, size_t width, size_t height) {
  std::vector<ViewLine> lines;
  if (width == 0 || height == 0) return lines;
  lines.push_back(Head(model, now_ns, width));
  if (height > 1 && !model.away.empty()) {
    lines.push_back({{Tone::kRed, CutToWidth(PlainText(model.away) + "; trying again", width)}});
  }
  const bool large = height >= kSmallHeight;
  const size_t foot = large ? 1 : 0;
  const std::vector<Section> sections = {Verdicts(model, now_ns, width), Agents(model, now_ns, width),
                                         Losses(model, now_ns, width)};
  // Blank lines between sections, if all fit with them.
  size_t wanted = lines.size() + 1 + foot;
  for (const Section& s : sections) wanted += s.rows.empty() ? 0 : s.rows.size() + 2;
  const bool airy = large && wanted <= height;
  if (airy && lines.size() == 1) lines.push_back({});
  const std::vector<size_t> shares = Shares(sections, height - std::min(height, lines.size() + foot));
  // Agents first: they are what the view is about while nobody is wrong.
  for (const size_t i : {size_t{1}, size_t{0}, size_t{2}}) {
    Put(sections[i], shares[i], width, lines);
    if (airy && shares[i] != 0) lines.push_back({});
  }
  if (large && model.told && model.agents.empty())
    lines.push_back({{Tone::kDim, CutToWidth("no agent has said hello yet", width)}});
  if (large && model.told && model.verdicts.empty())
    lines.push_back({{Tone::kDim, CutToWidth("no verdict", width)}});
  if (lines.size() + foot > height) lines.resize(height - foot);
  if (large) {
    lines.resize(height - 1);
    lines.push_back({{Tone::kDim, CutToWidth("q leaves", width)}});
  }
  for (ViewLine& line : lines) Clip(line, width);
  return lines;
}

}  // namespace keytrail
