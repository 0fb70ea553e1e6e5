#include "collector/cli/row_printer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "collector/report/layout.h"
#include "common/key_codec.h"

namespace keytrail {

namespace {

using Type = Store::QueryValue::Type;

// For a terminal: line ends become spaces, other control characters question marks; what is no UTF-8 stays.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) c = c == '\n' ? ' ' : '?';
  }
  return text;
}

// Rows that are looked at before the widths of a table are fixed.
constexpr size_t kWidthRows = 1000;

std::string RealText(double d) {
  char text[64];
  // Shortest that reads back as the same number; without an exponent where people would not write one.
  const double size = std::fabs(d);
  const bool plain = size == 0 || (size >= 1e-6 && size < 1e15);
  const auto end = plain ? std::to_chars(text, text + sizeof text, d, std::chars_format::fixed)
                         : std::to_chars(text, text + sizeof text, d);
  return std::string(text, end.ptr);
}

using report::Paint;
using report::Tone;

// A column is made no narrower than this; the head of a time or of a key still says something.
constexpr size_t kNarrowest = 14;
constexpr size_t kGap = 2;

std::string Cell(const Store::QueryValue& v) {
  switch (v.type) {
    case Type::kNull:
      return "null";
    case Type::kInteger:
      return std::to_string(v.integer);
    case Type::kReal:
      return RealText(v.real);
    case Type::kBlob:
      return "0x" + HexLower(AsBytes(v.bytes));
    case Type::kText:
      break;
  }
  // A cell stays in its line, and does nothing to the terminal.
  return Printable(v.bytes);
}

struct Shown {
  std::string text;
  Type type = Type::kNull;
};

// A block a row: names to the left, values to the right.
class LinePrinter final : public RowPrinter {
 public:
  explicit LinePrinter(const TableLook& look) : look_(look) {}

  void Columns(const std::vector<std::string>& names, std::string&) override {
    names_ = names;
    for (const std::string& name : names) widest_ = std::max(widest_, report::Columns(name));
  }
  void Row(const std::vector<Store::QueryValue>& values, std::string& out) override {
    std::vector<Shown> row;
    for (const Store::QueryValue& v : values) row.push_back({Cell(v), v.type});
    Print(row, out);
  }
  void Print(const std::vector<Shown>& row, std::string& out) {
    const Paint paint(look_.color);
    if (++rows_ > 1) out += '\n';
    const size_t room = static_cast<size_t>(look_.width) > widest_ + kGap + kNarrowest
                            ? static_cast<size_t>(look_.width) - widest_ - kGap
                            : 0;
    for (size_t i = 0; i < row.size(); ++i) {
      std::vector<std::string> lines = {row[i].text};
      if (room != 0 && row[i].type == Type::kBlob) lines = {report::Shorten(row[i].text, room)};
      if (room != 0 && row[i].type == Type::kText) lines = report::Wrap(row[i].text, room);
      out.append(widest_ - report::Columns(names_[i]), ' ');
      out += paint(Tone::kBold, names_[i]);
      for (size_t n = 0; n < lines.size(); ++n) {
        if (!lines[n].empty()) out.append(n == 0 ? kGap : widest_ + kGap, ' ');
        out += paint(row[i].type == Type::kNull ? Tone::kDim : Tone::kPlain, lines[n]) + "\n";
      }
    }
  }
  void End(std::string&) override {}

 private:
  TableLook look_;
  std::vector<std::string> names_;
  size_t widest_ = 0;
  size_t rows_ = 0;
};

class TablePrinter final : public RowPrinter {
 public:
  explicit TablePrinter(const TableLook& look) : look_(look), lines_(look) {}

  void Columns(const std::vector<std::string>& names, std::string& out) override {
    names_ = names;
    for (const std::string& name : names) widths_.push_back(report::Columns(name));
    numeric_.assign(names.size(), true);
    lines_.Columns(names, out);
  }

  void Row(const std::vector<Store::QueryValue>& values, std::string& out) override {
    std::vector<Shown> cells;
    for (size_t i = 0; i < values.size(); ++i) {
      cells.push_back({Cell(values[i]), values[i].type});
      if (printed_) continue;
      widths_[i] = std::max(widths_[i], report::Columns(cells[i].text));
      const Type type = values[i].type;
      if (type != Type::kInteger && type != Type::kReal && type != Type::kNull) numeric_[i] = false;
    }
    if (printed_) return Print(cells, out);
    waiting_.push_back(std::move(cells));
    if (waiting_.size() == kWidthRows) Flush(out);
  }

  void End(std::string& out) override {
    if (!printed_) Flush(out);
  }

 private:
  size_t TableWidth() const {
    size_t width = widths_.empty() ? 0 : (widths_.size() - 1) * kGap;
    for (const size_t w : widths_) width += w;
    return width;
  }

  // Takes from the widest column that may be shortened, until the table fits. False: it cannot.
  bool Fit() {
    const size_t room = static_cast<size_t>(look_.width);
    while (TableWidth() > room) {
      size_t widest = widths_.size();
      for (size_t i = 0; i < widths_.size(); ++i) {
        if (numeric_[i] || widths_[i] <= kNarrowest) continue;
        if (widest == widths_.size() || widths_[i] > widths_[widest]) widest = i;
      }
      if (widest == widths_.size()) return false;
      --widths_[widest];
    }
    return true;
  }

  void Flush(std::string& out) {
    printed_ = true;
    // An empty table shows its columns, whatever their number.
    as_lines_ = look_.width > 0 && !Fit() && !waiting_.empty();
    if (!as_lines_) {
      std::vector<Shown> head;
      for (const std::string& name : names_) head.push_back({name, Type::kText});
      PrintCells(head, Tone::kBold, out);
      for (size_t i = 0; i < widths_.size(); ++i) {
        if (i != 0) out.append(kGap, ' ');
        out.append(widths_[i], '-');
      }
      out += '\n';
    }
    for (const std::vector<Shown>& cells : waiting_) Print(cells, out);
    waiting_.clear();
  }

  void Print(const std::vector<Shown>& cells, std::string& out) {
    if (as_lines_) return lines_.Print(cells, out);
    PrintCells(cells, Tone::kPlain, out);
  }

  void PrintCells(const std::vector<Shown>& cells, Tone tone, std::string& out) {
    const Paint paint(look_.color);
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i != 0) out.append(kGap, ' ');
      const std::string text =
          look_.width > 0 ? report::Shorten(cells[i].text, std::max(widths_[i], size_t{5})) : cells[i].text;
      const size_t width = report::Columns(text);
      const size_t pad = width < widths_[i] ? widths_[i] - width : 0;
      if (numeric_[i]) out.append(pad, ' ');
      out += paint(cells[i].type == Type::kNull ? Tone::kDim : tone, text);
      // Nothing behind the last cell: lines that are copied have no blank tail.
      if (!numeric_[i] && i + 1 < cells.size()) out.append(pad, ' ');
    }
    out += '\n';
  }

  TableLook look_;
  LinePrinter lines_;
  bool as_lines_ = false;
  std::vector<std::string> names_;
  std::vector<size_t> widths_;
  std::vector<bool> numeric_;
  std::vector<std::vector<Shown>> waiting_;
  bool printed_ = false;
};

class CsvPrinter final : public RowPrinter {
 public:
  void Columns(const std::vector<std::string>& names, std::string& out) override {
    for (size_t i = 0; i < names.size(); ++i) {
      if (i != 0) out += ',';
      Field(names[i], out);
    }
    out += '\n';
  }

  void Row(const std::vector<Store::QueryValue>& values, std::string& out) override {
    for (size_t i = 0; i < values.size(); ++i) {
      if (i != 0) out += ',';
      const Store::QueryValue& v = values[i];
      if (v.type == Type::kInteger) out += std::to_string(v.integer);
      if (v.type == Type::kReal) out += RealText(v.real);
      if (v.type == Type::kBlob) out += HexLower(AsBytes(v.bytes));
      if (v.type == Type::kText) Field(v.bytes, out);
    }
    out += '\n';
  }

  void End(std::string&) override {}

 private:
  static void Field(const std::string& text, std::string& out) {
    if (!text.empty() && text.find_first_of(",\"\r\n") == std::string::npos) {
      out += text;
      return;
    }
    out += '"';  // empty text, too: NULL is nothing at all
    for (char c : text) {
      if (c == '"') out += '"';
      out += c;
    }
    out += '"';
  }
};

class JsonPrinter final : public RowPrinter {
 public:
  void Columns(const std::vector<std::string>& names, std::string& out) override {
    for (const std::string& name : names) names_.push_back(Quoted(name));
    out += '[';
  }

  void Row(const std::vector<Store::QueryValue>& values, std::string& out) override {
    out += first_ ? "\n{" : ",\n{";
    first_ = false;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i != 0) out += ',';
      out += names_[i] + ':';
      const Store::QueryValue& v = values[i];
      switch (v.type) {
        case Type::kNull:
          out += "null";
          break;
        case Type::kInteger:
          out += std::to_string(v.integer);
          break;
        case Type::kReal:
          out += std::isfinite(v.real) ? RealText(v.real) : "null";
          break;
        case Type::kText:
          out += Quoted(v.bytes);
          break;
        case Type::kBlob:
          out += '"' + HexLower(AsBytes(v.bytes)) + '"';
          break;
      }
    }
    out += '}';
  }

  void End(std::string& out) override { out += first_ ? "]\n" : "\n]\n"; }

 private:
  static std::string Quoted(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  std::vector<std::string> names_;
  bool first_ = true;
};

}  // namespace

std::unique_ptr<RowPrinter> MakeRowPrinter(const std::string& format, const TableLook& look) {
  if (format == "csv") return std::make_unique<CsvPrinter>();
  if (format == "json") return std::make_unique<JsonPrinter>();
  if (format == "line") return std::make_unique<LinePrinter>(look);
  return std::make_unique<TablePrinter>(look);
}

}  // namespace keytrail
