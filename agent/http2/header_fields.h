// The header fields that gRPC needs (gRPC over HTTP/2, "Requests" and "Responses"), picked out of a block.
#pragma once

#include <span>

#include "agent/http2/stream_events.h"

namespace keytrail {

// Fills `block` (fields, the picked ones, has_unknown); of a repeated field the first counts. Returns how
// many fields are without a known name or value.
size_t PickGrpcFields(std::span<const HeaderField> fields, HeaderBlock& block);

// -1: the block does not tell; 0: only a client sends such fields; 1: only a server does (RFC 9113
// section 8.3).
int SenderOf(const HeaderBlock& block);

}  // namespace keytrail
