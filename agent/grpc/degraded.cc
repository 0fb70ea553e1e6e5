// The part of CallTracker that leaves messages unread, as the level of detail says.
#include <string_view>

#include "agent/grpc/call_tracker.h"
#include "common/limits.h"

namespace keytrail::grpc {

namespace {

// Streams of many messages that no verdict is built on.
bool IsBulk(const Method& method, bool all) {
  if (method.unary()) return false;
  if (method.cls == MethodClass::kCountOnly) return all;
  const std::string_view path = method.path;
  return path == "/tikvpb.Tikv/Raft" || path == "/tikvpb.Tikv/BatchRaft" || path == "/tikvpb.Tikv/Snapshot";
}

}  // namespace

void CallTracker::SetDetail(DetailLevel level) {
  detail_ = level;
  writer_.SetPayloads(level == DetailLevel::kFull || !options_.full_text);
}

bool CallTracker::LeavesOut(Connection& connection, Stream& stream, int direction,
                            const WireMessage& message) {
  const Method* const method = stream.method();
  const bool counted = method != nullptr && method->cls == MethodClass::kCountOnly && !options_.all;
  if (counted) return false;  // nobody reads it anyway
  const bool unread =
      message.size != 0 && message.body.empty() && message.incomplete == 0 && WantsBodies(stream);
  if (headers_only() || unread) {
    Unread(connection, stream, direction, message);
    return true;
  }
  if (detail_ < DetailLevel::kSampleTso || method == nullptr || !IsBulk(*method, options_.all)) return false;
  if (sampled_++ % limits::kSampledOneIn == 0) return false;
  counters_.Add(Counter::kMessagesSampledOut);
  stream.incomplete |= kDegraded;
  return true;
}

// Told with its times and size. What it would have been paired with, or named by, does not wait for it.
void CallTracker::Unread(Connection& connection, Stream& stream, int direction, const WireMessage& message) {
  counters_.Add(Counter::kMessagesHeadersOnly);
  stream.incomplete |= kDegraded;
  WireMessage unread = message;
  unread.body = {};
  unread.incomplete |= kDegraded;
  if (stream.nameless != nullptr && !stream.nameless->told) TellWaiting(connection, stream);
  const Method* const method = stream.method();
  if (method == nullptr) return TellUnknown(connection, stream, direction, unread);
  if (method->unary()) return OnUnary(connection, stream, direction, unread);
  EndAllPending(connection, stream, false, kDegraded);
  if (method->cls == MethodClass::kQueryRegion) {
    stream.order_lost = true;
    stream.last_message = message.last;
  }
  OnStreamed(connection, stream, direction, unread);
}

}  // namespace keytrail::grpc
