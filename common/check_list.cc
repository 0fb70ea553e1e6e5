#include "common/check_list.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/plain_text.h"

namespace keytrail {

namespace {

constexpr size_t kLevelWidth = 9;
constexpr size_t kNameWidth = 13;
constexpr size_t kMargin = kLevelWidth + kNameWidth;
// Words are broken there; a command never is.
constexpr size_t kWordsWidth = 90;

std::string Padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

// Behind a margin, with "fix: " before the first line.
std::string Lines(const std::string& text, size_t width, const std::string& head) {
  const std::string margin(kMargin, ' ');
  const std::string below(head.size(), ' ');
  std::string lines;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.size();
    if (end - at > width) {
      end = text.rfind(' ', at + width);
      if (end == std::string::npos || end <= at) end = std::min(text.find(' ', at), text.size());
    }
    lines += margin + (lines.empty() ? head : below) + text.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return lines;
}

std::string CountOf(size_t n, const std::string& one) {
  return std::to_string(n) + " " + one + (n == 1 ? "" : "s");
}

}  // namespace

const char* CheckLevelName(CheckLevel level) {
  switch (level) {
    case CheckLevel::kOk:
      return "ok";
    case CheckLevel::kWarning:
      return "warning";
    case CheckLevel::kFault:
      return "fault";
    case CheckLevel::kNotChecked:
      return "not_checked";
  }
  return "";
}

void CheckList::Add(const Check& check) {
  ++checks_;
  faults_ += check.level == CheckLevel::kFault ? 1 : 0;
  warnings_ += check.level == CheckLevel::kWarning ? 1 : 0;
  if (check.level == CheckLevel::kFault || check.level == CheckLevel::kWarning) found_.push_back(check.name);
  const std::string found = PlainText(check.found);
  const std::string command = PlainText(check.command);
  const std::string fix = PlainText(check.fix);
  std::string text;
  if (json_) {
    nlohmann::ordered_json line = {
        {"kind", "check"}, {"check", check.name}, {"level", CheckLevelName(check.level)}, {"found", found}};
    if (!command.empty()) line["command"] = command;
    if (!fix.empty()) line["fix"] = fix;
    text = line.dump() + "\n";
  } else {
    const std::string level = check.level == CheckLevel::kNotChecked ? "-" : CheckLevelName(check.level);
    text = Padded(level, kLevelWidth) + Padded(check.name, kNameWidth) + found + "\n";
    if (!command.empty()) text += std::string(kMargin, ' ') + "fix: " + command + "\n";
    text += Lines(fix, kWordsWidth, command.empty() ? "fix: " : "     ");
  }
  written_ = std::fputs(text.c_str(), out_) >= 0 && std::fflush(out_) == 0 && written_;
}

bool CheckList::fine(const std::string& name) const {
  return std::find(found_.begin(), found_.end(), name) == found_.end();
}

int CheckList::Finish() {
  const int status = faults_ != 0 || !written_ ? 1 : warnings_ != 0 ? 3 : 0;
  std::string text;
  if (json_) {
    const nlohmann::ordered_json line = {
        {"kind", "summary"}, {"checks", checks_}, {"faults", faults_}, {"warnings", warnings_}};
    text = line.dump() + "\n";
  } else if (faults_ + warnings_ == 0) {
    text = CountOf(checks_, "check") + ", nothing found.\n";
  } else {
    text = CountOf(checks_, "check") + ": " + CountOf(faults_, "fault") + ", " +
           CountOf(warnings_, "warning") + ".\n";
  }
  const bool told = std::fputs(text.c_str(), out_) >= 0 && std::fflush(out_) == 0;
  return told ? status : 1;
}

}  // namespace keytrail
