// The tables of several windows as one: virtual tables over schemas that are attached to one connection.
//
// A view of UNION ALL over nine schemas makes SQLite plan each pair of windows of a join (81 joins for two
// tables, and no index at all for three). A virtual table is planned once; conditions on columns go to the
// statement that reads each window, where its own indexes serve them, and a condition on a call's number goes
// to the one window that has it.
//
// For this room. Same thread contract as the connection, which must go before the WindowTables do.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "collector/store/sqlite_handle.h"

namespace keytrail {

// A schema of the connection, and the numbers of the calls in it.
struct WindowPart {
  std::string schema;
  std::string file;
  int64_t first_call_id = std::numeric_limits<int64_t>::min();
  int64_t last_call_id = std::numeric_limits<int64_t>::max();
  int64_t version = 0;  // of its layout
};

struct WindowTables {
  std::vector<WindowPart> parts;  // in the order of the calls' numbers

  // Makes the tables in the schema `temp`. `parts` may change while no statement reads them. Error: SQLite's
  // words.
  Status Register(sqlite3* db);
};

}  // namespace keytrail
