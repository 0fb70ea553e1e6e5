#include "collector/cli/row_printer.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/key_codec.h"

namespace keytrail {

namespace {

using Type = Store::QueryValue::Type;

// Rows that are looked at before the widths of a table are fixed.
constexpr size_t kWidthRows = 1000;

std::string RealText(double d) {
  char text[64];
  return std::string(text, std::to_chars(text, text + sizeof text, d).ptr);
}

// Code points: near enough to columns for host names, keys and sentences.
size_t Width(const std::string& text) {
  size_t n = 0;
  for (char c : text) n += (static_cast<uint8_t>(c) & 0xC0) != 0x80 ? 1 : 0;
  return n;
}

class TablePrinter final : public RowPrinter {
 public:
  void Columns(const std::vector<std::string>& names, std::string&) override {
    names_ = names;
    for (const std::string& name : names) widths_.push_back(Width(name));
    numeric_.assign(names.size(), true);
  }

  void Row(const std::vector<Store::QueryValue>& values, std::string& out) override {
    std::vector<std::string> cells;
    for (size_t i = 0; i < values.size(); ++i) {
      cells.push_back(Cell(values[i]));
      if (printed_) continue;
      widths_[i] = std::max(widths_[i], Width(cells[i]));
      const Type type = values[i].type;
      if (type != Type::kInteger && type != Type::kReal && type != Type::kNull) numeric_[i] = false;
    }
    if (printed_) return Line(cells, out);
    waiting_.push_back(std::move(cells));
    if (waiting_.size() == kWidthRows) Flush(out);
  }

  void End(std::string& out) override {
    if (!printed_) Flush(out);
  }

 private:
  static std::string Cell(const Store::QueryValue& v) {
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
    std::string text = v.bytes;
    for (char& c : text) {
      // A cell stays in its line, and does nothing to the terminal.
      if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) c = c == '\n' ? ' ' : '?';
    }
    return text;
  }

  void Flush(std::string& out) {
    printed_ = true;
    Line(names_, out);
    for (size_t i = 0; i < widths_.size(); ++i) {
      if (i != 0) out += "  ";
      out.append(widths_[i], '-');
    }
    out += '\n';
    for (const std::vector<std::string>& cells : waiting_) Line(cells, out);
    waiting_.clear();
  }

  void Line(const std::vector<std::string>& cells, std::string& out) {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i != 0) out += "  ";
      const size_t width = Width(cells[i]);
      const size_t pad = width < widths_[i] ? widths_[i] - width : 0;
      if (numeric_[i]) out.append(pad, ' ');
      out += cells[i];
      // Nothing behind the last cell: lines that are copied have no blank tail.
      if (!numeric_[i] && i + 1 < cells.size()) out.append(pad, ' ');
    }
    out += '\n';
  }

  std::vector<std::string> names_;
  std::vector<size_t> widths_;
  std::vector<bool> numeric_;
  std::vector<std::vector<std::string>> waiting_;
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

std::unique_ptr<RowPrinter> MakeRowPrinter(const std::string& format) {
  if (format == "csv") return std::make_unique<CsvPrinter>();
  if (format == "json") return std::make_unique<JsonPrinter>();
  return std::make_unique<TablePrinter>();
}

}  // namespace keytrail
