#include "agent/ship/line_writer.h"

#include <cerrno>
#include <cstring>

namespace keytrail {

Status LineWriter::Flush() {
  if (failed_) {
    buffer_.clear();
    return Done{};
  }
  const size_t written = std::fwrite(buffer_.data(), 1, buffer_.size(), file_);
  const bool ok = written == buffer_.size() && std::fflush(file_) == 0;
  buffer_.clear();
  if (ok) return Done{};
  failed_ = true;
  return Error{std::string("standard output: ") + std::strerror(errno)};
}

}  // namespace keytrail
