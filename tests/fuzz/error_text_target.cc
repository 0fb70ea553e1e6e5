// TiKV's error texts. Input: the text.
#include <cstring>

#include "agent/schema/error_text.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

bool MayComeFromText(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kKeyNotInRegion:
    case ErrorKind::kKeyOutOfRegion:
    case ErrorKind::kRangeExceedsBound:
    case ErrorKind::kInvertedRange:
    case ErrorKind::kApiVersionMismatch:
    case ErrorKind::kRedacted:
    case ErrorKind::kEpochText:
    case ErrorKind::kOtherError:
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  ByteArena arena;
  ErrorFact error;
  // Marks: what is not found must not be touched.
  error.region_id = 77;
  error.kind = ErrorKind::kOtherKeyError;
  const bool found = ParseErrorText(Bytes(data, size), arena, error);
  for (const Bytes bytes : {error.key, error.range_start, error.range_end, error.start, error.end}) {
    Touch(bytes);
    // A key is written with at least as many characters as it has bytes.
    KEYTRAIL_REQUIRE(bytes.size() <= size);
  }
  if (!found) {
    KEYTRAIL_REQUIRE(error.kind == ErrorKind::kOtherKeyError && error.region_id == 77 && !error.from_text);
    KEYTRAIL_REQUIRE(!error.has_key && !error.has_range && !error.has_bounds);
    KEYTRAIL_REQUIRE(error.key.empty() && error.range_start.empty() && error.range_end.empty());
    KEYTRAIL_REQUIRE(error.start.empty() && error.end.empty());
    return 0;
  }
  KEYTRAIL_REQUIRE(error.from_text && MayComeFromText(error.kind));
  // Redacted keys have no bytes: nothing of them may look like a bound.
  if (error.kind == ErrorKind::kRedacted) {
    KEYTRAIL_REQUIRE(!error.has_key && !error.has_range && !error.has_bounds);
  }
  return 0;
}
