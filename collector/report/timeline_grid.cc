#include "collector/report/timeline_grid.h"

#include <algorithm>

namespace keytrail::report {
namespace {

// The least distance of lanes: "tikv1", and an arrow that is seen as one.
size_t LeastPitch(size_t width) {
  return width < 76 ? 5 : 6;
}
constexpr size_t kMostPitch = 11;
constexpr size_t kHangingIndent = 2;

// Words that a range of keys needs to be read on one or two lines.
size_t LeastWords(size_t width) {
  return std::max<size_t>(19, width * 7 / 20 - (width < 76 ? 2 : 0));
}

bool IsResponse(Arrow a) {
  return a == Arrow::kResponse || a == Arrow::kRefusal || a == Arrow::kWrongResponse;
}
bool IsWrong(Arrow a) {
  return a == Arrow::kWrongRequest || a == Arrow::kWrongResponse;
}

}  // namespace

size_t GridShape::MostLanes(size_t width) {
  const GridShape shape = For(width, 2, 2);
  const size_t left = shape.left();
  const size_t words = LeastWords(width);
  return width > left + words ? std::max<size_t>(2, (width - left - words) / LeastPitch(width)) : 2;
}

GridShape GridShape::For(size_t width, size_t lanes, size_t number_columns) {
  GridShape shape;
  shape.width = width;
  shape.whole_time = width >= 110;
  shape.number_columns = number_columns;
  shape.lanes = std::max<size_t>(1, lanes);
  const size_t words = LeastWords(width) + (width >= 140 ? 10 : 0);
  const size_t room = width > shape.left() + words ? width - shape.left() - words : 0;
  shape.pitch = std::clamp(room / shape.lanes, LeastPitch(width), kMostPitch);
  return shape;
}

std::string TailOf(const std::string& name, size_t columns) {
  const size_t have = Columns(name);
  if (have <= columns || columns < 2) return name;
  size_t skip = have - columns + 1;
  size_t at = 0;
  while (at < name.size() && skip > 0) {
    ++at;
    while (at < name.size() && (static_cast<unsigned char>(name[at]) & 0xC0) == 0x80) ++at;
    --skip;
  }
  return "…" + name.substr(at);
}

Grid::Grid(GridShape shape, const std::vector<Lane>& lanes, Paint paint)
    : shape_(shape), lanes_(lanes), paint_(paint) {}

std::vector<Grid::Cell> Grid::Lanes(const std::vector<bool>& open) const {
  std::vector<Cell> cells(shape_.lanes * shape_.pitch + 1);
  for (size_t i = 0; i < lanes_.size(); ++i) {
    const bool busy = i < open.size() && open[i];
    cells[LaneColumn(i)] = {busy ? "┃" : "│", busy ? Tone::kPlain : Tone::kDim};
  }
  return cells;
}

void Grid::Draw(const GridRow& row, std::vector<Cell>& cells) const {
  if (row.arrow == Arrow::kNone) return;
  const size_t client = LaneColumn(row.client);
  const size_t server = LaneColumn(row.server);
  const bool refusal = row.arrow == Arrow::kRefusal || row.arrow == Arrow::kWrongResponse;
  const Tone tone = IsWrong(row.arrow) || refusal || row.arrow == Arrow::kRefused ? Tone::kRed
                    : row.arrow == Arrow::kBoth                                   ? Tone::kDim
                                                                                  : Tone::kPlain;
  if (client == server) {
    cells[client] = {"●", tone};
    return;
  }
  const size_t from = IsResponse(row.arrow) ? server : client;
  const size_t to = IsResponse(row.arrow) ? client : server;
  const bool right = to > from;
  const bool heavy = IsWrong(row.arrow);
  const char* line = heavy ? "━" : IsResponse(row.arrow) ? "╌" : "─";
  const char* crossing = heavy ? "┿" : "┼";
  for (size_t x = std::min(from, to) + 1; x < std::max(from, to); ++x) {
    const bool lane = x % shape_.pitch == shape_.pitch / 2;
    cells[x] = {lane ? crossing : line, tone};
  }
  cells[from] = {heavy ? (right ? "┝" : "┥") : (right ? "├" : "┤"), tone};
  cells[right ? to - 1 : to + 1] = {right ? "▶" : "◀", tone};
  if (row.arrow == Arrow::kRefused) cells[right ? to - 2 : to + 2] = {"✗", tone};
  if (row.arrow == Arrow::kRefusal) {
    // Beside the one who refuses: also where the arrow crosses other lanes.
    cells[right ? from + 1 : from - 1] = {"✗", tone};
  }
}

std::string Grid::Painted(const std::vector<Cell>& cells) const {
  std::string out;
  for (size_t i = 0; i < cells.size();) {
    std::string run;
    const Tone tone = cells[i].tone;
    for (; i < cells.size() && cells[i].tone == tone; ++i) run += cells[i].glyph;
    out += paint_(tone, run);
  }
  return out;
}

// Broken at spaces; a word that is wider than the column is broken where it must be.
std::vector<std::vector<Span>> Grid::WrapWords(const std::vector<Span>& words) const {
  std::vector<std::vector<Span>> lines(1);
  size_t used = 0;
  const auto next_line = [&] {
    lines.emplace_back();
    used = 0;
  };
  for (const Span& span : words) {
    for (size_t at = 0; at < span.text.size();) {
      const size_t space = span.whole ? std::string::npos : span.text.find(' ', at);
      std::string word = span.text.substr(at, space == std::string::npos ? std::string::npos : space - at);
      at = space == std::string::npos ? span.text.size() : space + 1;
      if (word.empty()) continue;
      while (!word.empty()) {
        const size_t room = shape_.words_columns() - (lines.size() > 1 ? kHangingIndent : 0);
        const size_t gap = used == 0 ? 0 : 1;
        const size_t need = Columns(word);
        if (used + gap + need <= room) {
          lines.back().push_back({span.tone, (gap != 0 ? " " : "") + word});
          used += gap + need;
          word.clear();
        } else if (need <= room - (lines.size() > 1 ? 0 : kHangingIndent) || used > 0) {
          next_line();
        } else {
          const std::string head = word.substr(0, [&] {
            size_t bytes = 0;
            for (size_t n = 0; bytes < word.size() && n < room; ++n) {
              ++bytes;
              while (bytes < word.size() && (static_cast<unsigned char>(word[bytes]) & 0xC0) == 0x80) ++bytes;
            }
            return bytes;
          }());
          lines.back().push_back({span.tone, head});
          word.erase(0, head.size());
          next_line();
        }
      }
    }
  }
  if (lines.size() > 1 && lines.back().empty()) lines.pop_back();
  return lines;
}

void Grid::Head(const std::string& time_title, std::string& out) const {
  const auto line = [&](const std::string& left, const auto& name_of, Tone tone) {
    std::string text;
    size_t at = 0;
    for (size_t i = 0; i < lanes_.size(); ++i) {
      const std::string name = TailOf(name_of(lanes_[i]), shape_.pitch - 1);
      const size_t columns = Columns(name);
      const size_t centre = LaneColumn(i);
      const size_t begin = std::max(at, centre > columns / 2 ? centre - columns / 2 : 0);
      text += std::string(begin - at, ' ') + name;
      at = begin + columns;
    }
    std::string whole = Pad(left, shape_.left()) + text;
    while (!whole.empty() && whole.back() == ' ') whole.pop_back();
    out += paint_(tone, whole) + "\n";
  };
  line(
      "", [](const Lane& lane) { return std::string(RoleTitle(lane.role)); }, Tone::kDim);
  line(
      time_title, [](const Lane& lane) { return lane.name; }, Tone::kBold);
}

void Grid::Row(const GridRow& row, const std::vector<bool>& open, const std::vector<bool>& open_after,
               std::string& out) const {
  const auto lines = WrapWords(row.words);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::vector<Cell> cells = Lanes(i == 0 ? open : open_after);
    std::string left;
    if (i == 0) {
      Draw(row, cells);
      left = paint_(Tone::kDim, Pad(row.time, shape_.time_columns())) + " " +
             (row.guilty ? paint_(Tone::kRed, "!!") : std::string("  ")) + " " +
             paint_(Tone::kBold,
                    std::string(shape_.number_columns - std::min(shape_.number_columns, row.number.size()),
                                ' ') +
                        row.number) +
             " " + paint_(row.label_tone, Pad(row.label, shape_.label_columns()));
    } else {
      left = std::string(shape_.left(), ' ');
    }
    std::string words = i == 0 ? "" : std::string(kHangingIndent, ' ');
    for (const Span& span : lines[i]) words += paint_(span.tone, span.text);
    out += left + Painted(cells) + words + "\n";
  }
}

void Grid::Break(const std::string& text, std::string& out) const {
  std::string line = Pad("", shape_.time_columns() + 1) + text;
  out += paint_(Tone::kDim, line) + "\n";
}

std::string Grid::NamesInFull() const {
  std::string names;
  bool cut = false;
  for (const Lane& lane : lanes_) {
    cut |= TailOf(lane.name, shape_.pitch - 1) != lane.name;
    names += (names.empty() ? "" : ", ") + lane.name;
  }
  return cut ? names : "";
}

}  // namespace keytrail::report
