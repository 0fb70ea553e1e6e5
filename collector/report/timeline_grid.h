// The columns of a timeline's text: time, number, label, lanes with their arrows, words.
//
// Pure. Columns are those of a terminal without wide characters.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collector/report/layout.h"
#include "collector/report/timeline_lanes.h"

namespace keytrail::report {

// Words of one tone.
struct Span {
  Tone tone = Tone::kPlain;
  std::string text;
  bool whole = false;  // not broken at its spaces
};

// How a page of some width is divided.
struct GridShape {
  size_t width = 100;
  bool whole_time = false;  // "16:30:10.684628", else "10.684628" and a row for each new minute
  size_t number_columns = 2;
  size_t pitch = 8;  // from one lane to the next
  size_t lanes = 2;

  size_t time_columns() const { return whole_time ? 16 : 10; }  // the mark of a moved time included
  size_t label_columns() const { return 8; }
  // Sign, number and label, each with a space behind it.
  size_t left() const { return time_columns() + 1 + 3 + number_columns + 1 + label_columns(); }
  size_t words_at() const { return left() + lanes * pitch + 1; }
  size_t words_columns() const { return width - words_at(); }

  // Lanes that fit beside words that can be read.
  static size_t MostLanes(size_t width);
  static GridShape For(size_t width, size_t lanes, size_t number_columns);
};

// kRefused and kBoth are question and answer in one.
enum class Arrow : uint8_t {
  kNone,
  kRequest,
  kResponse,
  kRefusal,
  kRefused,
  kWrongRequest,
  kWrongResponse,
  kBoth
};

struct GridRow {
  std::string time;
  bool guilty = false;
  std::string number;
  std::string label;
  Tone label_tone = Tone::kDim;
  Arrow arrow = Arrow::kNone;
  size_t client = 0;  // lanes
  size_t server = 0;
  std::vector<Span> words;
};

class Grid {
 public:
  Grid(GridShape shape, const std::vector<Lane>& lanes, Paint paint);

  // Two lines: what the lanes are, and their names.
  void Head(const std::string& time_title, std::string& out) const;
  // `open` and `open_after` say for each lane whether a call is under way there, in the row's first line and
  // below.
  void Row(const GridRow& row, const std::vector<bool>& open, const std::vector<bool>& open_after,
           std::string& out) const;
  // A row without an arrow, its words over the lanes' columns, too.
  void Break(const std::string& text, std::string& out) const;
  // All names whole, from left to right, if one of them was cut in the head: "10.77.0.11, 10.77.0.21".
  std::string NamesInFull() const;

 private:
  struct Cell {
    std::string glyph = " ";
    Tone tone = Tone::kPlain;
  };
  size_t LaneColumn(size_t lane) const { return lane * shape_.pitch + shape_.pitch / 2; }
  std::vector<Cell> Lanes(const std::vector<bool>& open) const;
  void Draw(const GridRow& row, std::vector<Cell>& cells) const;
  std::string Painted(const std::vector<Cell>& cells) const;
  std::vector<std::vector<Span>> WrapWords(const std::vector<Span>& words) const;

  GridShape shape_;
  const std::vector<Lane>& lanes_;
  Paint paint_;
};

// The end of a name that is too long: hosts differ there, "…0.11", "…tidb-2".
std::string TailOf(const std::string& name, size_t columns);

}  // namespace keytrail::report
