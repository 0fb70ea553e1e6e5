// What `keytrail fleet` says of a run. Pure.
#pragma once

#include <string>

#include "deploy/fleet/fleet.h"

namespace keytrail {

// "tikv1: started, pid 4711 (1.2 s)", and what to do on a line of its own. Ends with a line break.
std::string HostLine(const HostResult& host);
// At the end: how many, and what to do about the others. Lines, or empty.
std::string SummaryOf(const FleetResult& result, const std::string& verb);
std::string StatusTable(const FleetResult& result);
std::string StatusJson(const FleetResult& result);

}  // namespace keytrail
