// CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of a batch on the wire and of what is spooled.
//
// Pure function. Any byte string; empty gives 0. A running checksum: Crc32c(b, Crc32c(a)) == Crc32c(a + b).
#pragma once

#include <cstdint>

#include "common/bytes.h"

namespace keytrail {

uint32_t Crc32c(Bytes data, uint32_t before = 0);

}  // namespace keytrail
