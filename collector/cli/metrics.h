// What a collector says of itself at --metrics (docs/metrics.md).
//
// Called on the receiver's thread between two polls, so its counters are read without a lock.
#pragma once

#include <string>

#include "collector/query/service.h"
#include "collector/receive/receiver.h"
#include "common/operations_port.h"

namespace keytrail {

inline constexpr char kCollectorMetricPrefix[] = "keytrail_collector_";

// service may be null: no queries are answered. problem: why nothing can be stored; empty: nothing is known.
OperationsState CollectorState(const ReceiverStats& receiver, const QueryService* service, size_t verdicts,
                               const std::string& problem);

}  // namespace keytrail
