// Calls that were seen and not read, by who observed them: a method that nobody could name, a message that
// was damaged, too large, or compressed in a way that we cannot read.
//
// Counted by record: what one end could not read the other may have read. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/call_record.h"

namespace keytrail::correlate {

// Kinds of LossReport.
inline constexpr char kMethodUnread[] = "method_unread";
inline constexpr char kMessageUnread[] = "message_unread";

class UnreadCalls {
 public:
  struct Entry {
    uint64_t count = 0;
    int64_t first_ns = 0;  // the agent's clock
    int64_t last_ns = 0;
  };

  void Add(uint32_t agent, const CallRecord& call);
  // By the caller's number of the agent, and kind.
  const std::map<std::pair<uint32_t, std::string>, Entry>& entries() const { return entries_; }

 private:
  std::map<std::pair<uint32_t, std::string>, Entry> entries_;
};

}  // namespace keytrail::correlate
