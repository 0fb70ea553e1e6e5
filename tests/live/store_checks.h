// Where TiKV looks at the keys of a request, and the words in which it refuses them (tidb-wire.md section 3).
// Pure.
#pragma once

#include <string>

#include "coprocessor.pb.h"
#include "kvrpcpb.pb.h"
#include "tikvpb.pb.h"

namespace keytrail::live {

// The range that a store holds a request's keys against, encoded.
struct CheckedRange {
  uint64_t region_id = 0;
  std::string start;
  std::string end;
};

// The first key (or end of a range) of the request that lies outside, raw; nothing if all are inside.
// `at_end`: an end of a range, which may equal the end of the region.
struct Outside {
  bool found = false;
  std::string start;  // a key alone, or the start of a range
  std::string end;    // empty: a key alone
};
Outside FirstOutside(const tikvpb::BatchCommandsRequest::Request& request, const CheckedRange& range);

// The context of whichever command it is; null for those that have none here.
const kvrpcpb::Context* ContextOf(const tikvpb::BatchCommandsRequest::Request& request);
kvrpcpb::Context* MutableContextOf(tikvpb::BatchCommandsRequest::Request& request);

using Answer = tikvpb::BatchCommandsResponse::Response;
using Question = tikvpb::BatchCommandsRequest::Request;

// The answer of that command with this region error, with TiKV's text for keys outside, or as it should be.
Answer WithRegionError(const Question& question, const errorpb::Error& error);
Answer Refused(const Question& question, const Outside& outside, const CheckedRange& range);
Answer Served(const Question& question);

// Of an answer: its region error, or null; the text of its other error, or empty.
const errorpb::Error* RegionErrorOf(const Answer& answer);
std::string OtherErrorOf(const Answer& answer);

}  // namespace keytrail::live
