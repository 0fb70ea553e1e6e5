// Standard output, through a pager if it is a terminal and more comes than fits it.
//
// One thread. The pager is $PAGER, else `less -S` if there is one; PAGER=cat or an empty one means none.
#pragma once

#include <cstdio>
#include <string>

namespace keytrail {

class PagedOutput {
 public:
  // `may_page`: whether stdout is a terminal where somebody reads.
  explicit PagedOutput(bool may_page);
  ~PagedOutput();
  PagedOutput(const PagedOutput&) = delete;
  PagedOutput& operator=(const PagedOutput&) = delete;

  // Takes all of `text`. False: nobody reads it any more.
  bool Write(std::string& text);
  // Waits until the reader has left the pager. False: not all could be written.
  bool Finish();
  // True if the reader left the pager before the end, which is no error.
  bool left() const { return left_; }

 private:
  bool Flush();

  bool may_page_;
  std::string held_;  // as long as it may fit the screen
  size_t lines_ = 0;
  std::FILE* pager_ = nullptr;
  bool left_ = false;
};

}  // namespace keytrail
