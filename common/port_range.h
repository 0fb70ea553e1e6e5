// Ranges of TCP ports as a user writes them: "2379,20160-20170". Values without ownership.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/result.h"

namespace keytrail {

struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;

  friend bool operator==(const PortRange&, const PortRange&) = default;
};

// At least one range, at most limits::kMaxPortRanges. An Error names what is no port.
Result<std::vector<PortRange>> ParsePortRanges(const std::string& text);

}  // namespace keytrail
