#include "collector/cli/paged_output.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "collector/cli/terminal.h"

namespace keytrail {

namespace {

bool IsInPath(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (access((folder + "/" + name).c_str(), X_OK) == 0) return true;
  }
  return false;
}

// Empty: none is wanted, or there is none.
std::string PagerCommand() {
  const char* wanted = std::getenv("PAGER");
  if (wanted != nullptr) return std::string(wanted) == "cat" ? "" : wanted;
  if (!IsInPath("less")) return "";
  // R: our colours; the rest of what a reader of less has set stays.
  return "less -S -R";
}

}  // namespace

PagedOutput::PagedOutput(bool may_page) : may_page_(may_page) {}

PagedOutput::~PagedOutput() {
  if (pager_ != nullptr) pclose(pager_);
}

bool PagedOutput::Write(std::string& text) {
  if (left_) return false;
  held_ += text;
  lines_ += static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  text.clear();
  if (pager_ == nullptr && may_page_) {
    // The prompt wants a line, too.
    if (lines_ + 1 < static_cast<size_t>(TerminalLines())) return true;
    const std::string command = PagerCommand();
    if (!command.empty()) pager_ = popen(command.c_str(), "w");
    if (pager_ == nullptr) may_page_ = false;
  }
  return Flush();
}

bool PagedOutput::Flush() {
  std::FILE* to = pager_ != nullptr ? pager_ : stdout;
  const bool written = std::fwrite(held_.data(), 1, held_.size(), to) == held_.size() && std::fflush(to) == 0;
  held_.clear();
  if (!written && pager_ != nullptr) left_ = true;
  return written;
}

bool PagedOutput::Finish() {
  const bool written = left_ || Flush();
  if (pager_ != nullptr) pclose(pager_);
  pager_ = nullptr;
  return written || left_;
}

}  // namespace keytrail
