#include "agent/grpc/batch_split.h"

#include "agent/grpc/wire_fields.h"
#include "common/limits.h"

namespace keytrail::grpc {

namespace {

constexpr uint32_t kItems = 1;
constexpr uint32_t kIds = 2;
constexpr uint8_t kVarint = 0;
constexpr uint8_t kLengthDelimited = 2;

}  // namespace

bool BatchSplitter::ReadItem(Bytes item, bool request) {
  WireFields fields(item);
  WireField field;
  BatchItem found;
  bool several = false;
  while (fields.Next(field)) {
    if (field.type != kLengthDelimited) continue;  // no member of the oneof, whatever a later release adds
    if (found.number != 0) {
      several = true;
      // A field beside the oneof is possible in a later release; two known commands are not.
      const bool known_before = !schema_.FindBatchCommand(found.number, request).name.empty();
      const bool known_now = !schema_.FindBatchCommand(field.number, request).name.empty();
      if (known_before == known_now) return false;
      if (known_before) continue;
    }
    found = BatchItem{field.number, field.bytes};
  }
  if (!fields.ok() || found.number == 0) return false;
  if (several && schema_.FindBatchCommand(found.number, request).name.empty()) return false;
  items_.push_back(found);
  return true;
}

SplitOutcome BatchSplitter::Split(Bytes batch, bool request) {
  items_.clear();
  ids_.clear();
  WireFields fields(batch);
  WireField field;
  while (fields.Next(field)) {
    if (field.number == kItems) {
      if (field.type != kLengthDelimited || !ReadItem(field.bytes, request)) return SplitOutcome::kMalformed;
      if (items_.size() > limits::kMaxPendingRequestsPerStream) return SplitOutcome::kTooMany;
    } else if (field.number == kIds) {
      if (field.type == kVarint) {
        ids_.push_back(field.varint);
      } else if (field.type == kLengthDelimited) {
        const uint8_t* at = field.bytes.data();
        const uint8_t* const end = at + field.bytes.size();
        while (at != end) {
          if (!ReadVarint(at, end, ids_.emplace_back())) return SplitOutcome::kMalformed;
          if (ids_.size() > limits::kMaxPendingRequestsPerStream) return SplitOutcome::kTooMany;
        }
      } else {
        return SplitOutcome::kMalformed;
      }
      if (ids_.size() > limits::kMaxPendingRequestsPerStream) return SplitOutcome::kTooMany;
    }
  }
  return fields.ok() && items_.size() == ids_.size() ? SplitOutcome::kDone : SplitOutcome::kMalformed;
}

}  // namespace keytrail::grpc
