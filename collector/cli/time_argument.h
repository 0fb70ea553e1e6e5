// Times and durations as users write them.
//
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace keytrail {

// UTC: "2026-11-23T16:30:10.684", with a blank for the T or a Z behind, or ns since 1970. "16:30:10.684" is
// on the day that makes it fall between `first_ns` and `last_ns`, or is nearest to them. Nothing: it is no
// time.
std::optional<int64_t> ParseTimeArgument(const std::string& text, int64_t first_ns, int64_t last_ns);

// "50ms", "2s", "100us", "1.5m"; a bare number is seconds. Nothing: it is none, negative, or longer than a
// day.
std::optional<int64_t> ParseSpanArgument(const std::string& text);

}  // namespace keytrail
