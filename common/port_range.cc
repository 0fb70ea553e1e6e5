#include "common/port_range.h"

#include <charconv>

#include "common/limits.h"

namespace keytrail {

namespace {

bool ParsePort(const std::string& text, uint16_t& port) {
  const char* const end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, port);
  return failure == std::errc() && stop == end && port != 0;
}

}  // namespace

Result<std::vector<PortRange>> ParsePortRanges(const std::string& text) {
  std::vector<PortRange> ranges;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, comma - at);
    const size_t dash = word.find('-');
    PortRange range;
    const bool good = ParsePort(word.substr(0, dash), range.first) &&
                      ParsePort(dash == std::string::npos ? word : word.substr(dash + 1), range.last);
    if (!good || range.last < range.first) {
      return Error{"'" + word + "' is no port or range of ports such as 20160 or 20160-20170"};
    }
    ranges.push_back(range);
    if (ranges.size() > limits::kMaxPortRanges) {
      return Error{"more than " + std::to_string(limits::kMaxPortRanges) + " ports and ranges"};
    }
    at = comma + 1;
  }
  return ranges;
}

}  // namespace keytrail
