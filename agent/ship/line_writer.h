// Buffered text to a stdio stream, with one place that notices a closed pipe or a full disk.
//
// Single thread. Flush() at the latest when the process should be seen to have said something: the pipeline
// calls it when a live capture is idle and at the end.
#pragma once

#include <cstdio>
#include <string>

#include "common/result.h"

namespace keytrail {

class LineWriter {
 public:
  explicit LineWriter(std::FILE* file) : file_(file) {}

  // Where to append the next line(s); call Commit() after.
  std::string& buffer() { return buffer_; }
  void Commit() {
    if (buffer_.size() >= kFlushBytes) (void)Flush();
  }
  // An Error once, with errno's text; later calls drop what is buffered.
  Status Flush();
  bool failed() const { return failed_; }

 private:
  static constexpr size_t kFlushBytes = 1 << 16;
  std::FILE* file_;
  std::string buffer_;
  bool failed_ = false;
};

}  // namespace keytrail
