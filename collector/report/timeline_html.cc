#include "collector/report/timeline_html.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "collector/report/layout.h"
#include "collector/report/timeline_bars.h"
#include "collector/report/timeline_row_words.h"
#include "collector/report/timeline_story.h"
#include "collector/report/timeline_words.h"
#include "common/plain_text.h"
#include "common/version.h"

namespace keytrail {
namespace {

using namespace report;  // NOLINT: the room's own pieces

// Lengths in CSS pixels.
constexpr double kLine = 17;       // of words
constexpr double kRowGap = 7;      // between rows
constexpr double kHead = 46;       // the lanes' names
constexpr double kTimeWidth = 84;  // "10.684628*"
constexpr double kLabelWidth = 92;
constexpr double kLanePitch = 104;
constexpr double kBar = 8;        // width
constexpr double kShortest = 6;   // height
constexpr double kLetter = 7.25;  // width of a monospaced one at 12 px
constexpr size_t kWordColumns = 66;
constexpr size_t kLaneColumns = 14;  // of a lane's name
constexpr size_t kMostColumns = 9;   // bars beside each other in a lane
constexpr size_t kMostListed = 8;

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--page:#fcfcfb;--ink:#1d232b;--dim:#667080;--rule:#dde1e6;--band:#f2f4f6;
--call:#4878b0;--server:#7fa6d3;--ok:#5d7f9f;--bad:#c22f35;--led:#9a6a00;--wrong:#fbe4e4}
@media (prefers-color-scheme:dark){:root{--page:#14181d;--ink:#e2e6eb;--dim:#98a3b1;--rule:#333b45;--band:#1b2128;
--call:#6ea3e0;--server:#47729f;--ok:#86a8c8;--bad:#ff7a78;--led:#e0b04a;--wrong:#45262a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:18px 20px 32px;max-width:1480px;background:var(--page);color:var(--ink);
font:14px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:18px;line-height:1.4;margin:0 0 4px;overflow-wrap:anywhere}
p{margin:3px 0;overflow-wrap:anywhere}
.dim{color:var(--dim)}.bad{color:var(--bad)}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;margin:10px 0 4px;padding:0;list-style:none;font-size:13px;color:var(--dim)}
.key svg{vertical-align:-2px;margin-right:5px}
.tools{float:right}.tools button{font:inherit;color:inherit;background:var(--band);border:1px solid var(--rule);
border-radius:4px;min-width:32px;padding:1px 8px}
.sheet{overflow-x:auto;border:1px solid var(--rule);border-radius:6px;margin:8px 0}
.sheet svg{display:block}
text{fill:var(--ink);font:12px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;white-space:pre}
text.dim{fill:var(--dim)}text.bad,tspan.bad{fill:var(--bad)}tspan.dim{fill:var(--dim)}
text.lane{font-weight:600;text-anchor:middle}text.role{fill:var(--dim);text-anchor:middle;font-size:11px}
.lifeline{stroke:var(--rule)}.headline{stroke:var(--rule)}
.pause{stroke:var(--dim);stroke-dasharray:2 4}
.wrong{fill:var(--wrong)}
.bar{fill:var(--call)}.bar.server{fill:var(--server)}.bar.between{fill:none;stroke:var(--call);stroke-dasharray:2 2}
.bar.apart{opacity:.55;stroke:var(--dim);stroke-dasharray:2 2}
.bar.refused{fill:var(--bad)}.bar.refused.server{fill:var(--bad);fill-opacity:.6}
.sent,.answer,.half{fill:none;stroke:var(--ok);stroke-width:1.1}
.half{stroke-dasharray:3 3}
.answer.refused,.half.refused{stroke:var(--bad)}
.led{fill:none;stroke:var(--led);stroke-width:1.6}
.guilty{fill:var(--bad);stroke:var(--page);stroke-width:1.5}
g.call:hover .bar{stroke:var(--ink);stroke-width:1.5}
#tip{fill:var(--ok)}#tip-bad{fill:var(--bad)}#tip-led{fill:var(--led)}
.story{display:none;margin:10px 0;padding:0;list-style:none;font:13px/1.45 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
.story li{padding:4px 6px;border-bottom:1px solid var(--rule);overflow-wrap:anywhere}
.story li.wrong{background:var(--wrong)}
@media(max-width:900px){.story{display:block}}
@media print{.tools{display:none}.story{display:block}}
)";

// Only zooms: without it the page says the same.
constexpr std::string_view kScript = R"(
(function(){
var svg=document.querySelector('.sheet svg');if(!svg)return;
var width=+svg.getAttribute('width'),height=+svg.getAttribute('height'),zoom=1;
var tools=document.createElement('div');tools.className='tools';
function set(z){zoom=Math.min(3,Math.max(.4,z));svg.setAttribute('width',width*zoom);svg.setAttribute('height',height*zoom)}
[['\u2212','smaller',function(){set(zoom/1.25)}],['+','larger',function(){set(zoom*1.25)}],
['fit','as wide as the page',function(){set((svg.parentNode.clientWidth-2)/width)}]].forEach(function(b){
var e=document.createElement('button');e.type='button';e.textContent=b[0];e.title=b[1];e.onclick=b[2];tools.appendChild(e)});
document.body.insertBefore(tools,document.body.firstChild);
})();
)";

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Pixels(double n) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", n);
  return text;
}

// `name="value"` with a space before.
std::string Attribute(const char* name, double n) {
  return std::string(" ") + name + "=\"" + Pixels(n) + "\"";
}

class Page {
 public:
  explicit Page(const Timeline& timeline)
      : timeline_(timeline),
        rows_(TellStory(timeline, {.unfold = true})),
        chart_(ChartLanes(timeline, 0)),
        bars_(MakeBars(timeline, chart_)),
        row_words_(timeline, rows_, TimelineWords(), kWordColumns) {}

  std::string Write() {
    PlaceRows();
    PlaceBars();
    Head();
    if (timeline_.calls.empty()) {
      out_ += "<p>No call is found.</p>\n";
    } else {
      Drawing();
    }
    Foot();
    return std::move(out_);
  }

 private:
  struct PlacedRow {
    double top = 0;
    double height = 0;
    std::vector<std::vector<Span>> lines;
    double anchor() const { return top + kLine / 2; }
  };

  // -- Where things are ---------------------------------------------------------------------------------

  // Words of one tone broken at `kWordColumns`, as the text form does beside its lanes.
  static std::vector<std::vector<Span>> Broken(const std::vector<Span>& words) {
    std::vector<std::vector<Span>> lines(1);
    size_t used = 0;
    for (const Span& span : words) {
      size_t at = 0;
      while (at < span.text.size()) {
        const size_t space = span.whole ? std::string::npos : span.text.find(' ', at);
        const size_t end = space == std::string::npos ? span.text.size() : space;
        std::string piece = span.text.substr(at, end - at);
        at = end + 1;
        if (piece.empty()) continue;
        if (used > 0 && used + 1 + Columns(piece) > kWordColumns) {
          lines.emplace_back();
          used = 0;
        }
        // A key that is longer than a line is cut through.
        for (size_t head = 0; Columns(piece) > kWordColumns; piece.erase(0, head)) {
          head = kWordColumns;
          while ((static_cast<unsigned char>(piece[head]) & 0xC0) == 0x80) --head;
          lines.back().push_back({span.tone, piece.substr(0, head), false});
          lines.emplace_back();
        }
        if (used > 0) piece.insert(0, " ");
        used += Columns(piece);
        if (!lines.back().empty() && lines.back().back().tone == span.tone) {
          lines.back().back().text += piece;
        } else {
          lines.back().push_back({span.tone, piece, false});
        }
      }
    }
    return lines;
  }

  void PlaceRows() {
    double y = kHead + kRowGap;
    request_row_.assign(timeline_.calls.size(), std::nullopt);
    response_row_.assign(timeline_.calls.size(), std::nullopt);
    for (size_t r = 0; r < rows_.size(); ++r) {
      const StoryRow& row = rows_[r];
      PlacedRow placed;
      placed.top = y;
      if (row.kind != StoryRow::Kind::kPause) placed.lines = Broken(row_words_.Of(row));
      placed.height = kLine * static_cast<double>(std::max<size_t>(1, placed.lines.size()));
      y += placed.height + kRowGap;
      if (row.kind != StoryRow::Kind::kPause) {
        if (row.kind != StoryRow::Kind::kResponse) request_row_[row.call] = placed.anchor();
        if (row.kind == StoryRow::Kind::kResponse) response_row_[row.call] = placed.anchor();
        if (row.on_reference && row.time_ns) {
          // Rows come by time; of one time the first counts.
          if (anchors_.empty() || anchors_.back().first < *row.time_ns)
            anchors_.emplace_back(*row.time_ns, placed.anchor());
        }
      }
      placed_.push_back(std::move(placed));
    }
    height_ = y + kRowGap;
  }

  // Between two rows as far as the time is between theirs.
  double YOf(int64_t ns) const {
    const auto after = std::lower_bound(anchors_.begin(), anchors_.end(), ns,
                                        [](const auto& a, int64_t t) { return a.first < t; });
    if (after == anchors_.end()) return anchors_.empty() ? kHead : anchors_.back().second + kLine / 2;
    if (after->first == ns || after == anchors_.begin()) return after->second;
    const auto before = std::prev(after);
    const double share =
        static_cast<double>(ns - before->first) / static_cast<double>(after->first - before->first);
    return before->second + share * (after->second - before->second);
  }

  struct PlacedBar {
    double x = 0;  // middle
    double top = 0;
    double bottom = 0;
  };

  void PlaceBars() {
    std::vector<std::vector<double>> free_at(chart_.lanes.size());  // of a lane: columns, until where in use
    for (const TimelineBar& bar : bars_.bars) {
      PlacedBar placed;
      if (bar.view->on_reference && !anchors_.empty()) {
        placed.top = YOf(bar.begin);
        placed.bottom = YOf(bar.end);
      } else {
        placed.top = request_row_[bar.call].value_or(response_row_[bar.call].value_or(kHead));
        placed.bottom = response_row_[bar.call].value_or(placed.top);
      }
      placed.bottom = std::max(placed.bottom, placed.top + kShortest);
      auto& columns = free_at[bar.lane];
      size_t column = 0;
      while (column < columns.size() && column + 1 < kMostColumns && columns[column] > placed.top - 1)
        ++column;
      if (column == columns.size()) columns.push_back(0);
      columns[column] = std::max(columns[column], placed.bottom);
      // The middle first, then by turns to the left and right.
      const double turn = static_cast<double>((column + 1) / 2) * (column % 2 == 0 ? -1 : 1);
      placed.x = LaneX(bar.lane) + turn * (kBar + 2);
      bar_places_.push_back(placed);
      height_ = std::max(height_, placed.bottom + kRowGap);
    }
  }

  double LaneX(size_t lane) const {
    return kTimeWidth + kLabelWidth + kLanePitch * (static_cast<double>(lane) + 0.5);
  }
  double WordsX() const { return LaneX(chart_.lanes.size()) - kLanePitch / 2 + 12; }
  double Width() const { return WordsX() + kLetter * kWordColumns + 10; }

  // -- What is written ------------------------------------------------------------------------------------

  std::string Title() const {
    if (timeline_.verdict) return PlainText(timeline_.verdict->text);
    const TimelineQuestion& q = timeline_.question;
    switch (q.about) {
      case TimelineQuestion::About::kKey:
        return "Key " + (q.keys.empty() ? "" : TimelineWords().Key(q.keys.front()));
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

  void Head() {
    const std::string title = Escaped(Title());
    out_ += "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
    out_ +=
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'; script-src 'unsafe-inline'\">\n";
    out_ += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    out_ += "<meta name=\"generator\" content=\"keytrail " + Escaped(kVersion) + "\">\n";
    out_ += "<title>" + title + "</title>\n<style>";
    out_ += kStyle;
    out_ += "</style>\n</head>\n<body>\n<h1>" + title + "</h1>\n";
    std::string about;
    if (timeline_.verdict) {
      const Verdict& v = *timeline_.verdict;
      about = std::string(v.certain ? "certain" : "inferred") + ", rule " + PlainText(v.rule) + ", " +
              Count(v.occurrences, "time", "times") + " · ";
    }
    const size_t refused = static_cast<size_t>(std::count_if(
        timeline_.calls.begin(), timeline_.calls.end(), [](const TimelineCall& c) { return c.refused; }));
    about += Count(timeline_.found, "call", "calls") + ", " + Number(refused + timeline_.refused_left) +
             " refused";
    for (const StoryRow& row : rows_) {
      if (!row.time_ns) continue;
      about += " · " + DateText(*row.time_ns) + ", times are UTC";
      if (!timeline_.reference.empty()) about += " by the clock of " + PlainText(timeline_.reference);
      break;
    }
    out_ += "<p class=\"dim\">" + Escaped(about) + "</p>\n";
    if (timeline_.left_out > 0) {
      out_ += "<p class=\"bad\">Left out: " + Count(timeline_.left_out, "call", "calls") + ", " +
              (timeline_.refused_left > 0 ? Number(timeline_.refused_left) : std::string("none")) +
              " of them refused. <code>--calls " + std::to_string(timeline_.found) +
              "</code> shows all.</p>\n";
    }
    if (timeline_.unread > 0) {
      out_ += "<p class=\"bad\">Not looked at: " +
              Count(timeline_.unread, "more observation", "more observations") + ".</p>\n";
    }
    if (!timeline_.calls.empty()) Legend();
  }

  void Legend() {
    const auto sample = [&](const char* shape, const char* words) {
      out_ += std::string("<li><svg width=\"26\" height=\"12\" aria-hidden=\"true\">") + shape + "</svg>" +
              words + "</li>\n";
    };
    out_ += "<ul class=\"key\">\n";
    sample(
        "<rect class=\"bar\" x=\"4\" width=\"8\" height=\"12\"/><rect class=\"bar server\" x=\"15\" "
        "width=\"8\" "
        "height=\"12\"/>",
        "a call as its client and its server saw it");
    sample("<path class=\"sent\" d=\"M0 6H26\"/>", "sent, answered");
    sample("<path class=\"half\" d=\"M0 6H26\"/>", "... seen at one end only");
    sample("<path class=\"answer refused\" d=\"M0 6H26\"/>", "refused");
    sample("<path class=\"led\" d=\"M0 6H26\"/>", "led to");
    sample("<path class=\"guilty\" d=\"M13 0l6 6-6 6-6-6z\"/>", "the statement that is blamed");
    out_ += "</ul>\n";
  }

  void Drawing() {
    out_ += "<div class=\"sheet\">\n<svg xmlns=\"http://www.w3.org/2000/svg\"" + Attribute("width", Width()) +
            Attribute("height", height_) + " viewBox=\"0 0 " + Pixels(Width()) + " " + Pixels(height_) +
            "\" role=\"img\" aria-label=\"" + Escaped(Title()) + "\">\n<defs>";
    for (const char* id : {"tip", "tip-bad", "tip-led"}) {
      out_ += std::string("<marker id=\"") + id +
              "\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" "
              "markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0.5L8 4L0 7.5z\"/></marker>";
    }
    out_ += "</defs>\n";
    Bands();
    Lanes();
    Arrows();
    Bars();
    Chains();
    Guilty();
    Words();
    out_ += "</svg>\n</div>\n";
    Story();
  }

  void Bands() {
    for (size_t r = 0; r < rows_.size(); ++r) {
      const PlacedRow& p = placed_[r];
      if (rows_[r].kind == StoryRow::Kind::kPause) {
        out_ += "<line class=\"pause\"" + Attribute("x1", kTimeWidth) + Attribute("x2", Width()) +
                Attribute("y1", p.anchor()) + Attribute("y2", p.anchor()) + "/>\n";
      } else if (rows_[r].guilty) {
        out_ += "<rect class=\"wrong\" x=\"0\"" + Attribute("y", p.top - 2) + Attribute("width", Width()) +
                Attribute("height", p.height + 4) + "/>\n";
      }
    }
  }

  void Lanes() {
    out_ += "<text class=\"dim\" x=\"8\" y=\"34\">UTC</text>\n";
    for (size_t l = 0; l < chart_.lanes.size(); ++l) {
      const Lane& lane = chart_.lanes[l];
      out_ += "<g class=\"lane\"><title>" + Escaped(std::string(RoleTitle(lane.role)) + " " + lane.name) +
              "</title>" + "<line class=\"lifeline\"" + Attribute("x1", LaneX(l)) +
              Attribute("x2", LaneX(l)) + Attribute("y1", kHead) + Attribute("y2", height_ - 4) + "/>" +
              "<text class=\"role\"" + Attribute("x", LaneX(l)) + " y=\"17\">" +
              Escaped(RoleTitle(lane.role)) + "</text>" + "<text class=\"lane\"" + Attribute("x", LaneX(l)) +
              " y=\"34\">" + Escaped(TailOf(lane.name, kLaneColumns)) + "</text></g>\n";
    }
    out_ += "<line class=\"headline\" x1=\"0\"" + Attribute("x2", Width()) + Attribute("y1", kHead - 3) +
            Attribute("y2", kHead - 3) + "/>\n";
  }

  void Arrow(const char* kind, bool refused, double x1, double y1, double x2, double y2) {
    // The tip ends at the bar's side.
    const double side = x2 > x1 ? kBar / 2 + 1 : -kBar / 2 - 1;
    out_ += std::string("<path class=\"") + kind + (refused ? " refused" : "") + "\" d=\"M" +
            Pixels(x1 + side) + " " + Pixels(y1) + "L" + Pixels(x2 - side) + " " + Pixels(y2) +
            "\" marker-end=\"url(#" + (refused ? "tip-bad" : "tip") + ")\"/>\n";
  }

  void Arrows() {
    std::set<size_t> both;
    for (const auto& [client, server] : bars_.sent) {
      const PlacedBar& c = bar_places_[client];
      const PlacedBar& s = bar_places_[server];
      const TimelineCall& call = timeline_.calls[bars_.bars[client].call];
      both.insert(bars_.bars[client].call);
      Arrow("sent", false, c.x, c.top, s.x, s.top);
      if (call.at_client->times.Answered() && call.at_server->times.Answered() && call.kind != "message") {
        Arrow("answer", call.refused, s.x, s.bottom, c.x, c.bottom);
      }
    }
    // Of what only one end saw the other end's moment is not known: level lines.
    for (size_t b = 0; b < bars_.bars.size(); ++b) {
      const TimelineBar& bar = bars_.bars[b];
      const TimelineCall& call = timeline_.calls[bar.call];
      const LaneOfCall lanes = chart_.of_call[bar.call];
      if (both.contains(bar.call) || lanes.client == lanes.server) continue;
      const PlacedBar& p = bar_places_[b];
      const bool server = bar.lane == lanes.server;
      const double other = LaneX(server ? lanes.client : lanes.server);
      const auto level = [&](bool to_server, bool refused, double y) {
        if (server == to_server) {
          Arrow("half", refused, other, y, p.x, y);
        } else {
          Arrow("half", refused, p.x, y, other, y);
        }
      };
      if (bar.view->times.Asked()) level(true, false, p.top);
      if (bar.view->times.Answered() && call.kind != "message") level(false, call.refused, p.bottom);
    }
  }

  void Bars() {
    for (size_t b = 0; b < bars_.bars.size(); ++b) {
      const TimelineBar& bar = bars_.bars[b];
      const PlacedBar& p = bar_places_[b];
      const TimelineCall& call = timeline_.calls[bar.call];
      std::string kind = std::string("bar ") + bar.side;
      if (call.refused) kind += " refused";
      if (!bar.view->on_reference) kind += " apart";
      out_ += "<g class=\"call\"><title>" + Escaped(Details(call, bar)) + "</title><rect class=\"" + kind +
              "\" data-call=\"" + std::to_string(bar.view->call_id) + "\"" + Attribute("x", p.x - kBar / 2) +
              Attribute("y", p.top) + Attribute("width", kBar) + Attribute("height", p.bottom - p.top) +
              " rx=\"2\"/></g>\n";
    }
  }

  std::string Details(const TimelineCall& call, const TimelineBar& bar) const {
    std::string text = words_.Deed(call);
    const auto line = [&](const std::string& words) { text += "\n" + words; };
    if (const std::string route = words_.Route(call); !route.empty()) line(route);
    line(PlainText(call.client.endpoint) + " → " + PlainText(call.server.endpoint) + ", stream " +
         std::to_string(call.stream) +
         (call.request_id ? ", request " + std::to_string(*call.request_id) : ""));
    line("seen by " + PlainText(bar.view->observer) + " at " + TimeText(bar.begin) +
         (bar.view->times.Asked() && bar.view->times.Answered() ? ", " + DurationText(bar.end - bar.begin)
                                                                : ""));
    if (!bar.view->on_reference) line("by its own clock, which is not related to the others");
    if (!bar.view->times.Asked()) line("request not seen");
    if (!bar.view->times.Answered() && call.kind != "message") line("response not seen");
    if (call.start_ts) line("start_ts " + std::to_string(*call.start_ts));
    for (size_t i = 0; i < call.statements.size() && i < kMostListed; ++i) {
      line(PlainText(call.statements[i].source) + ": " + words_.Statement(call.statements[i]));
    }
    for (size_t i = 0; i < call.errors.size() && i < kMostListed; ++i) line(words_.Error(call.errors[i]));
    for (const TimelineMark& mark : call.marks) {
      line("verdict " + std::to_string(mark.verdict) + ": " + PlainText(mark.label) +
           (mark.guilty ? ", WRONG" : "") + (mark.note.empty() ? "" : ", " + PlainText(mark.note)));
    }
    return text + "\ncall " + std::to_string(bar.view->call_id);
  }

  // From the end of what led to the beginning of what followed, on the left of the bars.
  void Chains() {
    std::set<std::pair<size_t, size_t>> drawn;
    for (const auto& steps : bars_.chains) {
      for (size_t s = 1; s < steps.size(); ++s) {
        const size_t from = steps[s - 1].bar;
        const size_t to = steps[s].bar;
        if (from == to || !drawn.insert({from, to}).second) continue;
        const PlacedBar& a = bar_places_[from];
        const PlacedBar& b = bar_places_[to];
        const double bend = std::min(a.x, b.x) - 16 - std::min(24.0, (b.top - a.bottom) / 20);
        out_ += "<path class=\"led\" data-from=\"" + std::to_string(bars_.bars[from].view->call_id) +
                "\" data-to=\"" + std::to_string(bars_.bars[to].view->call_id) + "\" d=\"M" +
                Pixels(a.x - kBar / 2) + " " + Pixels(a.bottom - 1) + "C" + Pixels(bend) + " " +
                Pixels(a.bottom + 2) + " " + Pixels(bend) + " " + Pixels(b.top - 2) + " " +
                Pixels(b.x - kBar / 2 - 1) + " " + Pixels(b.top + 1) + "\" marker-end=\"url(#tip-led)\"/>\n";
      }
    }
  }

  void Guilty() {
    for (size_t i = 0; i < timeline_.calls.size(); ++i) {
      const TimelineCall& call = timeline_.calls[i];
      for (const TimelineMark& mark : call.marks) {
        if (!mark.guilty) continue;
        const TimelineView& view = ShownView(call);
        const std::optional<int64_t> at = mark.on_request ? view.times.First() : view.times.Last();
        if (!at) continue;
        // Whoever asks speaks in the request, whoever answers in the response.
        const LaneOfCall lanes = chart_.of_call[i];
        const size_t lane = mark.on_request ? lanes.client : lanes.server;
        const size_t own = mark.on_request ? bars_.at_client[i] : bars_.at_server[i];
        double x = LaneX(lane);
        double y = view.on_reference ? YOf(*at) : request_row_[i].value_or(response_row_[i].value_or(kHead));
        if (own != TimelineBars::kNone) {
          x = bar_places_[own].x;
          y = mark.on_request ? bar_places_[own].top : bar_places_[own].bottom;
        }
        out_ += "<path class=\"guilty\" data-verdict=\"" + std::to_string(mark.verdict) + "\" d=\"M" +
                Pixels(x) + " " + Pixels(y - 7) + "l7 7-7 7-7-7z\"><title>WRONG" +
                (mark.note.empty() ? "" : ": " + Escaped(PlainText(mark.note))) + "</title></path>\n";
      }
    }
  }

  // The same words as a list: a narrow page, or one on paper, has no room for them beside the drawing.
  void Story() {
    out_ += "<ol class=\"story\">\n";
    for (size_t r = 0; r < rows_.size(); ++r) {
      const StoryRow& row = rows_[r];
      if (row.kind == StoryRow::Kind::kPause) {
        out_ += "<li class=\"dim\">" + Escaped("… " + DurationText(row.pause_ns)) + "</li>\n";
        continue;
      }
      const LaneOfCall lanes = chart_.of_call[row.call];
      const bool answer = row.kind == StoryRow::Kind::kResponse;
      const std::string from = chart_.lanes[answer ? lanes.server : lanes.client].name;
      const std::string to = chart_.lanes[answer ? lanes.client : lanes.server].name;
      out_ += std::string("<li") + (row.guilty ? " class=\"wrong\"" : "") + "><span class=\"dim\">" +
              Escaped(TimeOf(row)) + "</span> <span class=\"" + (row.guilty || row.refusal ? "bad" : "dim") +
              "\">" + Escaped(LabelOf(row)) + "</span> " + Escaped(from + " → " + to) + ": ";
      for (const std::vector<Span>& line : placed_[r].lines) {
        for (const Span& span : line) {
          const std::string kind = ClassOf(span.tone);
          out_ += kind.empty() ? Escaped(span.text)
                               : "<span class=\"" + kind + "\">" + Escaped(span.text) + "</span>";
        }
        out_ += " ";
      }
      out_ += "</li>\n";
    }
    out_ += "</ol>\n";
  }

  static std::string TimeOf(const StoryRow& row) {
    if (!row.time_ns) return "?";
    return TimeText(*row.time_ns).substr(6) + (!row.on_reference ? "?" : row.moved ? "*" : "");
  }
  static std::string LabelOf(const StoryRow& row) {
    return (row.number == 0 ? "" : std::to_string(row.number) + " ") + row.label;
  }

  static const char* ClassOf(Tone tone) {
    switch (tone) {
      case Tone::kRed:
        return "bad";
      case Tone::kDim:
        return "dim";
      default:
        return "";
    }
  }

  void Words() {
    bool apart = false;
    for (size_t r = 0; r < rows_.size(); ++r) {
      const StoryRow& row = rows_[r];
      const PlacedRow& p = placed_[r];
      const double base = p.anchor() + 4;
      if (row.kind == StoryRow::Kind::kPause) {
        out_ += "<text class=\"dim\" x=\"8\"" + Attribute("y", base) + ">" +
                Escaped("… " + DurationText(row.pause_ns)) + "</text>\n";
        continue;
      }
      apart = apart || !row.on_reference;
      const std::string whole =
          row.time_ns ? DateText(*row.time_ns) + " " + TimeText(*row.time_ns) : "not seen";
      out_ += "<text class=\"dim\" x=\"8\"" + Attribute("y", base) + "><title>" + Escaped(whole) +
              "</title>" + Escaped(TimeOf(row)) + "</text>\n";
      out_ += std::string("<text class=\"label ") + (row.guilty || row.refusal ? "bad" : "dim") + "\"" +
              Attribute("x", kTimeWidth + 4) + Attribute("y", base) + ">" + Escaped(LabelOf(row)) +
              "</text>\n";
      for (size_t l = 0; l < p.lines.size(); ++l) {
        out_ += "<text class=\"words\"" + Attribute("x", WordsX()) +
                Attribute("y", base + kLine * static_cast<double>(l)) + ">";
        for (const Span& span : p.lines[l]) {
          const std::string kind = ClassOf(span.tone);
          out_ += kind.empty() ? Escaped(span.text)
                               : "<tspan class=\"" + kind + "\">" + Escaped(span.text) + "</tspan>";
        }
        out_ += "</text>\n";
      }
    }
    any_apart_ = apart;
  }

  void Foot() {
    if (!timeline_.calls.empty()) {
      std::string text =
          "Time goes down and is stretched: a row for each event. ← is what a row came of; "
          "246|238 µs is from question to answer as the client|the server saw it; a bar tells more under the "
          "pointer.";
      if (std::any_of(rows_.begin(), rows_.end(), [](const StoryRow& r) { return r.moved; }))
        text += " *: moved within the clocks' error, so that it follows what it came of.";
      if (any_apart_) text += " ?: by the observer's own clock, which no call relates to the others.";
      out_ += "<p class=\"dim\">" + Escaped(text) + "</p>\n";
    }
    out_ += "<script>";
    out_ += kScript;
    out_ += "</script>\n</body>\n</html>\n";
  }

  const Timeline& timeline_;
  std::vector<StoryRow> rows_;
  LaneChart chart_;
  TimelineBars bars_;
  TimelineWords words_;
  RowWords row_words_;
  std::vector<PlacedRow> placed_;  // as rows_
  std::vector<PlacedBar> bar_places_;
  std::vector<std::pair<int64_t, double>> anchors_;                // by time
  std::vector<std::optional<double>> request_row_, response_row_;  // of a call: where its rows are
  double height_ = 0;
  bool any_apart_ = false;
  std::string out_;
};

}  // namespace

std::string TimelineHtml(const Timeline& timeline) {
  return Page(timeline).Write();
}

}  // namespace keytrail
