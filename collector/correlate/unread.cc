#include "collector/correlate/unread.h"

#include <algorithm>

namespace keytrail::correlate {

void UnreadCalls::Add(uint32_t agent, const CallRecord& call) {
  // A stream's own record is the envelope of its messages, which are told one by one.
  if (call.kind == CallKind::kStream || call.kind == CallKind::kAmend) return;
  constexpr uint32_t kDamaged = kOverCap | kUnknownEncoding | kMalformed;
  const char* kind = call.method_from == MethodFrom::kUnknown ? kMethodUnread
                     : (call.incomplete & kDamaged) != 0      ? kMessageUnread
                                                              : nullptr;
  if (kind == nullptr) return;
  Entry& entry = entries_[{agent, kind}];
  const int64_t first = call.req_first.known() ? call.req_first.ns : call.resp_first.ns;
  const int64_t last = call.resp_last.known() ? call.resp_last.ns : first;
  entry.first_ns = entry.count == 0 ? first : std::min(entry.first_ns, first);
  entry.last_ns = entry.count == 0 ? last : std::max(entry.last_ns, last);
  ++entry.count;
}

}  // namespace keytrail::correlate
