// Marks around what is sensitive in a text for people, as TiDB's `tidb_redact_log = MARKER` sets them:
// U+2039 and U+203A (single angle quotation marks) around it, and both doubled inside.
//
// A mark that is never closed (a text that was cut off) hides everything behind it. Pure functions and a
// scanner for one text; nothing is trusted, nothing fails.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace keytrail {

void AppendMarked(std::string_view text, std::string& out);
// Each line of it by itself, for tools that read lines.
void AppendMarkedLines(std::string_view text, std::string& out);

// Has a mark in it: as a text that is not sensitive it would be taken for one that is.
bool HasMark(std::string_view text);

// Takes marked texts out of a text that comes in pieces, split anywhere.
class MarkStripper {
 public:
  enum class Leave : uint8_t {
    kPlaceholder,  // '?' where each marked text was
    kText,         // the text, without marks
  };
  explicit MarkStripper(Leave leave) : leave_(leave) {}

  void Feed(std::string_view piece, std::string& out);
  // Call once. False: the text ends inside a marked one.
  bool Finish(std::string& out);

 private:
  enum class Rune : uint8_t { kOpen, kClose, kOther };
  void Take(Rune rune, std::string_view bytes, std::string& out);
  void Close(std::string& out);
  void Inside(std::string_view bytes, std::string& out);

  const Leave leave_;
  bool inside_ = false;
  Rune half_ = Rune::kOther;  // inside: an opening or closing mark that may be the first of two
  std::string pending_;       // the first bytes of what may be a mark
};

}  // namespace keytrail
