// BatchCommandsRequest and BatchCommandsResponse taken apart (tikvpb.proto, tidb-wire.md section 2): field 1
// holds the commands, each a message with one member of a oneof; field 2 their ids, packed or not. Both
// messages and both oneofs have the same numbers.
#pragma once

#include <vector>

#include "agent/schema/schema.h"
#include "common/bytes.h"

namespace keytrail::grpc {

struct BatchItem {
  uint32_t number = 0;  // of the oneof member
  Bytes message;        // of that member; points into the batch
};

enum class SplitOutcome : uint8_t {
  kDone,       // items and ids have the same length
  kMalformed,  // not such a message, or the counts differ: nothing can be paired
  kTooMany,    // more than limits::kMaxPendingRequestsPerStream
};

// Not thread-safe; the vectors are used again.
class BatchSplitter {
 public:
  explicit BatchSplitter(const Schema& schema) : schema_(schema) {}

  // Items point into `batch` and stay until the next call.
  SplitOutcome Split(Bytes batch, bool request);

  const std::vector<BatchItem>& items() const { return items_; }
  const std::vector<uint64_t>& ids() const { return ids_; }

 private:
  bool ReadItem(Bytes item, bool request);

  const Schema& schema_;
  std::vector<BatchItem> items_;
  std::vector<uint64_t> ids_;
};

}  // namespace keytrail::grpc
