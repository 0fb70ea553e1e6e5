// Small pieces of a page of text: width, wrapping, colour, numbers, times.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace keytrail::report {

enum class Tone : uint8_t { kPlain, kBold, kDim, kRed, kGreen, kYellow };

class Paint {
 public:
  explicit Paint(bool on) : on_(on) {}
  std::string operator()(Tone tone, std::string_view text) const;

 private:
  bool on_;
};

// Columns that a terminal needs for UTF-8 text without wide characters.
size_t Columns(std::string_view text);
std::string Pad(std::string text, size_t columns);
// At most `columns` wide, the middle replaced by "…".
std::string Shorten(const std::string& text, size_t columns);
// Lines of at most `columns`, broken at spaces; a longer word stands alone.
std::vector<std::string> Wrap(const std::string& text, size_t columns);

std::string Number(uint64_t n);                                                  // "22,399"
std::string Count(uint64_t n, const std::string& one, const std::string& many);  // "1 region", "2 regions"
std::string TimeText(int64_t ns);                                                // "16:30:09.165324", UTC
std::string DateText(int64_t ns);                                                // "2026-11-23"

}  // namespace keytrail::report
