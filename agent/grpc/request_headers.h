// What gRPC reads out of the header block that opens a call (gRPC over HTTP/2, "Request-Headers").
#pragma once

#include "agent/grpc/method_directory.h"
#include "agent/grpc/stream.h"
#include "agent/http2/stream_events.h"

namespace keytrail::grpc {

// "application/grpc", "application/grpc+proto", "application/grpc;…"; grpc-web is another protocol.
// foreign_coding: a coding other than protobuf.
bool IsGrpcContentType(std::string_view content_type, bool& foreign_coding);

RequestHeaders ReadRequestHeaders(const HeaderBlock& block, MethodDirectory& methods);

// Percent-decoding of grpc-message; bytes that are no valid escape stay as they are.
void DecodeGrpcMessage(std::string_view text, std::string& out);

}  // namespace keytrail::grpc
