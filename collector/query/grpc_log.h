// gRPC's own log lines: kept off stderr, where people read ours, unless GRPC_VERBOSITY asks for them. For
// this room.
#pragma once

#include <string>

namespace keytrail {

// Any thread; again does nothing.
void QuietGrpc();
// The operating system's words in the last error that gRPC logged on this thread, or empty.
std::string LastSystemError();

}  // namespace keytrail
