// What the field walker does with facts that are not final before a message (or a part of it) has ended.
//
// Internal to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "agent/schema/meanings.h"
#include "common/call_record.h"

namespace keytrail::schema {

// KeyItem::route of a key that came before its message's Context.
inline constexpr uint16_t kPendingRoute = std::numeric_limits<uint16_t>::max();

// Where a walk began in the vectors of MessageFacts, and what it leaves to be done.
struct Finish {
  size_t first_key = 0;
  size_t first_statement = 0;
  size_t first_error = 0;
  size_t first_route = 0;
  uint32_t route = std::numeric_limits<uint32_t>::max();  // the message's own Context
  bool pending_routes = false;
  bool prune = false;  // something was marked as not to be believed
  uint64_t stmt[kStmtNumbers] = {};
  // Into the message.
  Bytes caller_id;
  Bytes caller_component;
};

// Settles routes, ids, caller and errors (their texts are parsed and copied here), drops what was marked:
// keys with KeyForm::kNone, statements with source kUnknown or no region id, errors of kind kNone.
void FinishFacts(MessageFacts& facts, Finish& finish);

// A reverse scan names its upper bound as start.
void ReverseRanges(MessageFacts& facts, size_t first_key);

// ScanRegionsResponse tells the same regions as `region_metas` and as `regions`; if both lists agree, the
// first goes. `first` is where the list of `count` metas begins.
void DropPairedStatements(MessageFacts& facts, size_t first, size_t count);

// SplitRegionResponse tells `left` and `right` again in `regions`. Indices of left and right, or UINT32_MAX.
void DropRepeatedSplits(MessageFacts& facts, size_t first, uint32_t left, uint32_t right);

}  // namespace keytrail::schema
