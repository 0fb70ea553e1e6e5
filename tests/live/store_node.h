// A TiKV of the live test's cluster: it holds regions, splits and moves them, and refuses what is not in
// them.
#pragma once

#include <string>

namespace keytrail::live {

// Runs until standard input ends. Orders on standard input:
//   cut REGIONS              halve regions at once until there are so many
//   splits MILLISECONDS      how often a region is split; 0: never
//   fault tikv_narrow SHARE  some regions are cut short, and this share of requests is held against that
//   fault none
// Exit status.
int RunStore(const std::string& address, const std::string& pd, uint64_t seed);

}  // namespace keytrail::live
