// From what was asked to the statement that answers it; for this room.
#pragma once

#include "collector/query/answer_source.h"

namespace keytrail {

// Looks up a saved query, applies standard limits. Error: no such query, or its parameters are wrong.
Result<SqlQuestion> StatementOf(const SqlRequest& request);

}  // namespace keytrail
