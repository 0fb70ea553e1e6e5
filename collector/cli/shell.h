// The loops of `keytrail sql` without a query: statements from a terminal, or from a file or pipe on stdin.
#pragma once

#include "collector/cli/sql_session.h"

namespace keytrail {

// With editing, history and completion. The exit status is 0: what failed was told where it was asked.
int RunShell(AnswerSource& source, SqlSession& session);

// Statement by statement, and commands on lines of their own, until one fails. The exit status of that one;
// else the last that was not 0.
int RunScript(SqlSession& session);

}  // namespace keytrail
