// Ports that programs of keytrail listen at if nobody says otherwise, as far as others must know them.
#pragma once

#include <cstdint>

namespace keytrail {

// The collector's, for questions (gRPC). `keytrail sql` and the others ask there.
inline constexpr uint16_t kDefaultQueryPort = 7451;
inline constexpr char kDefaultQueryAddress[] = "127.0.0.1:7451";

}  // namespace keytrail
