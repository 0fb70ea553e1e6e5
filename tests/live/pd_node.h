// PD of the live test's cluster: it knows what stores report, answers clients from that, and moves regions.
#pragma once

#include <string>

namespace keytrail::live {

// Runs until standard input ends. Orders on standard input:
//   moves MILLISECONDS       how often a region is sent to the other store; 0: never
//   fault pd_wide SHARE      this share of GetRegion answers gives the region its right neighbour's end
//   fault none
// Exit status.
int RunPd(const std::string& address, uint64_t seed);

}  // namespace keytrail::live
