// The version that all programs print.
#pragma once

namespace keytrail {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace keytrail
