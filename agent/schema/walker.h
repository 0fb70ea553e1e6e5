// The field walker: one pass over a protobuf message, facts out.
//
// Internal to this room. Not thread-safe; the tables are shared, a walker is made for each message (it is a
// few words on the stack). No reflection, no allocation once the vectors of MessageFacts have grown.
//
// Proto3 rules hold: the last value of a scalar counts, submessages that come twice are merged, repeated
// scalars are read packed or not, a known number with another wire type is an unknown field.
// After damage, what was read before stays, except what the damage leaves half-known: a range or a region
// whose end was not reached is taken back, since a missing end would read as "+infinity".
#pragma once

#include "agent/schema/tables.h"
#include "common/call_record.h"

namespace keytrail::schema {

// False if `message` is no valid encoding, as far as it was looked into: submessages without any meaning are
// skipped by their length.
bool WalkMessage(const Tables& tables, const MessageTable& root, Bytes message, MessageFacts& facts);

}  // namespace keytrail::schema
