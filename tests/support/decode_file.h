// A capture file through all rooms of the agent, for tests: capture, packet, tcp, http2, grpc.
//
// The CallSink is the test's; it is called during DecodeFile only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/grpc/grpc_decoder.h"
#include "common/counters.h"
#include "common/result.h"

namespace keytrail::testing {

struct DecodedFile {
  std::unique_ptr<Counters> counters;
  std::unique_ptr<GrpcDecoder> grpc;  // for its counts; the input has ended
};

// The file may be compressed with zstd. An Error is the capture room's. `keep`, if given, says which packets
// (counted from 0) the agent sees.
Result<DecodedFile> DecodeFile(const std::string& path, const Schema& schema, const GrpcOptions& options,
                               CallSink& sink, const std::function<bool(uint64_t)>& keep = {});

// The large shared captures: env KEYTRAIL_SHARED_DATA, or the given default. Empty if they are not there.
std::string SharedDataFolder();

// Forgets everything: for tests that look at counts alone.
class NoCalls final : public CallSink {
 public:
  void OnMessage(const MessageEvent&) override {}
  void OnCall(const CallRecord&, MessageType, MessageType) override {}
};

}  // namespace keytrail::testing
