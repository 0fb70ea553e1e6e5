// The serialized google.protobuf.FileDescriptorSet of the .proto files in this folder, compiled in.
// Static storage; thread-safe.
#pragma once

#include <cstdint>
#include <span>

namespace keytrail {

std::span<const uint8_t> BundledDescriptorSet();

}  // namespace keytrail
