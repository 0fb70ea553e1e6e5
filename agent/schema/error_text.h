// TiKV's error texts with key ranges in them (tidb-wire.md section 3 (a) to (h)), all releases.
#pragma once

#include "common/bytes.h"
#include "common/call_record.h"

namespace keytrail {

// Looks for a range complaint in `text` and fills kind, region_id, key, range and bounds of `error` (bytes
// copied into `arena`), from_text set. False and untouched if the text has none of the known forms.
// Redacted keys ("?") give ErrorKind::kRedacted with region_id if that could be read.
bool ParseErrorText(Bytes text, ByteArena& arena, ErrorFact& error);

}  // namespace keytrail
