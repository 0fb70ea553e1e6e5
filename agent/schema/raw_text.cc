#include <cstdio>

#include "agent/schema/schema.h"
#include "agent/schema/wire_cursor.h"
#include "common/limits.h"

namespace keytrail {

namespace {

using wire::ReadTag;

// True if the bytes are a sequence of fields to their end, with no groups (nothing of TiDB uses them, and a
// byte string is easily taken for one).
bool ParsesAsFields(const uint8_t* p, const uint8_t* end) {
  while (p < end) {
    uint32_t tag;
    p = ReadTag(p, end, tag);
    if (!p || (tag >> 3) == 0 || (tag & 7) == wire::kStartGroup) return false;
    p = wire::SkipValue(p, end, tag, 0);
    if (!p) return false;
  }
  return true;
}

class RawPrinter {
 public:
  explicit RawPrinter(bool single_line) : single_line_(single_line) {}

  void Fields(const uint8_t* p, const uint8_t* end, int depth) {
    while (p < end) {
      uint32_t tag;
      const uint8_t* const value = ReadTag(p, end, tag);
      if (!value || (tag >> 3) == 0) return Damaged(p, end, depth);
      const uint8_t* const next = wire::SkipValue(value, end, tag, limits::kMaxMessageDepth);
      if (!next) return Damaged(p, end, depth);
      Field(tag, value, next, depth);
      p = next;
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  void Begin(int depth) {
    if (single_line_) {
      if (!out_.empty() && out_.back() != '{') out_ += ' ';
      return;
    }
    if (!out_.empty()) out_ += '\n';
    out_.append(static_cast<size_t>(depth) * 2, ' ');
  }

  void Field(uint32_t tag, const uint8_t* p, const uint8_t* end, int depth) {
    Begin(depth);
    out_ += "tag=" + std::to_string(tag >> 3);
    switch (tag & 7) {
      case wire::kVarint: {
        uint64_t value = 0;
        wire::ReadVarint(p, end, value);
        out_ += " varint=" + std::to_string(value);
        break;
      }
      case wire::kFixed64:
        Hex(" fixed64=", LittleEndian(p, 8), 16);
        break;
      case wire::kFixed32:
        Hex(" fixed32=", LittleEndian(p, 4), 8);
        break;
      case wire::kLen: {
        uint32_t length = 0;
        p = wire::ReadLength(p, end, length);
        Length(p, p + length, depth);
        break;
      }
      default:
        out_ += " group";
        break;
    }
  }

  void Length(const uint8_t* p, const uint8_t* end, int depth) {
    if (p == end || depth + 1 >= limits::kMaxMessageDepth || !ParsesAsFields(p, end)) {
      out_ += " bytes=\"";
      Escaped(p, end);
      out_ += '"';
      return;
    }
    out_ += " struct";
    if (single_line_) out_ += " {";
    Fields(p, end, depth + 1);
    if (single_line_) out_ += '}';
  }

  void Damaged(const uint8_t* p, const uint8_t* end, int depth) {
    Begin(depth);
    out_ += "damaged=\"";
    Escaped(p, end);
    out_ += '"';
  }

  void Escaped(const uint8_t* p, const uint8_t* end) {
    for (; p < end; ++p) {
      if (*p == '"' || *p == '\\') {
        out_ += '\\';
        out_ += static_cast<char>(*p);
      } else if (*p >= 0x20 && *p <= 0x7E) {
        out_ += static_cast<char>(*p);
      } else {
        char text[5];
        std::snprintf(text, sizeof text, "\\x%02x", *p);
        out_ += text;
      }
    }
  }

  static uint64_t LittleEndian(const uint8_t* p, int n) {
    uint64_t value = 0;
    for (int i = 0; i < n; ++i) value |= uint64_t{p[i]} << (8 * i);
    return value;
  }

  void Hex(const char* label, uint64_t value, int digits) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%0*llx", digits, static_cast<unsigned long long>(value));
    out_ += label;
    out_ += text;
  }

  bool single_line_;
  std::string out_;
};

}  // namespace

std::string RawText(Bytes message, bool single_line) {
  RawPrinter printer(single_line);
  printer.Fields(message.data(), message.data() + message.size(), 0);
  return printer.Take();
}

}  // namespace keytrail
