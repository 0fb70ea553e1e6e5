// What is told of the clocks: one line for each host, and all lines of all pairs.
#pragma once

#include <optional>
#include <vector>

#include "collector/correlate/report_model.h"
#include "collector/correlate/scene.h"

namespace keytrail::correlate {

// The clock of a captured machine into its report: the offset in the middle of the longest stretch without a
// step, and how it drifts there.
void DescribeClock(const Scene& scene, uint32_t host, HostReport& report);

// Each captured host against the reference (or that it is not related to it), and each pair that shares
// calls.
std::vector<ClockReport> ClockReports(const Scene& scene);

// What to add to the reference's clock to get the host's, at a moment of the reference's clock.
std::optional<OffsetClaim> ClockAgainstReference(const Scene& scene, uint32_t host, int64_t ref_ns);

}  // namespace keytrail::correlate
