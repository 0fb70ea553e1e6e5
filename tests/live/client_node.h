// A TiDB of the live test's cluster, without its SQL: statements at a rate, routes, requests.
#pragma once

#include <string>

namespace keytrail::live {

// Runs until standard input ends. Orders on standard input:
//   load RATE                   statements a second; 0: none
//   fault tidb_neighbour SHARE  this share of point reads goes to the region on the left of the right one
//   fault none
//   reconnect                   every connection is closed and opened anew
//   report                      says what was done so far
// `batch`: BatchCommands streams, as TiDB has them by default; else unary calls. Exit status.
int RunClient(const std::string& pd, bool batch, uint64_t seed);

}  // namespace keytrail::live
