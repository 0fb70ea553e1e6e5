// The slow truth: facts read out of a parsed protobuf message by field names, through reflection.
//
// Written from tidb-wire.md and common/call_record.h, not from the walker: it shares no table and no wire
// code with it (only ParseErrorText and the key codec, which have tests of their own).
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "common/call_record.h"

namespace keytrail::testing {

// `previous`: a GetRegionRequest that was sent to GetPrevRegion.
void ReadFacts(const google::protobuf::Message& m, bool previous, MessageFacts& facts);

// One line for each route, key, statement, error and number. References are printed by content, so that
// sorted lines of two facts compare.
std::vector<std::string> FactLines(const MessageFacts& facts);

}  // namespace keytrail::testing
