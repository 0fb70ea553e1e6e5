// Calls and streams of which nobody knows the method, through naming by evidence.
//
// Input: 1 byte (bit 0: messages of one stream instead of whole calls; bits 1 to 3: what is known of the
// server), then for each call 1 byte (bit 0: has a request, bit 1: has a response; of a stream bit 0: it is a
// response) and each message with its length in 2 bytes.
//
// What was proved must fit every message that was observed, be a candidate, and not depend on anything else.
#include "agent/schema/naming.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

const Schema& TheSchema() {
  static const Result<std::unique_ptr<Schema>> schema = Schema::Bundled();
  KEYTRAIL_REQUIRE(schema.ok());
  return **schema;
}

constexpr size_t kMaxCalls = 32;

struct Seen {
  bool is_response = false;
  Bytes message;
};

void Run(Input& input) {
  const uint8_t mode = input.Byte();
  const bool stream = (mode & 1) != 0;
  const ServerRoles roles =
      (mode >> 1 & 7) == 0 ? kAnyServer : static_cast<ServerRoles>(1 << ((mode >> 1 & 7) - 1));
  const auto shape = stream ? MethodEvidence::Shape::kStream : MethodEvidence::Shape::kCall;
  MethodEvidence evidence(TheSchema(), shape);
  MethodEvidence again(TheSchema(), shape);
  std::vector<Seen> seen;
  for (size_t i = 0; i < kMaxCalls && !input.empty(); ++i) {
    const uint8_t what = input.Byte();
    const size_t size = input.Two();
    const Bytes first = input.Take(size);
    if (stream) {
      evidence.Observe((what & 1) != 0, first);
      again.Observe((what & 1) != 0, first);
      seen.push_back({(what & 1) != 0, first});
    } else {
      SeenCall call;
      call.has_request = (what & 1) != 0;
      call.has_response = (what & 2) != 0;
      if (call.has_request) seen.push_back({false, call.request = first});
      if (call.has_response) {
        const size_t more = input.Two();
        seen.push_back({true, call.response = input.Take(more)});
      }
      evidence.Observe(call);
      again.Observe(call);
    }
    const Method* const proved = evidence.Proved(roles);
    KEYTRAIL_REQUIRE(proved == again.Proved(roles));
    if (proved == nullptr) continue;
    KEYTRAIL_REQUIRE(!proved->path.ends_with("/GetPrevRegion"));
    KEYTRAIL_REQUIRE((RolesOfService(proved->path) & roles) != 0);
    const std::vector<const Method*> candidates = evidence.Candidates(roles, TheSchema().method_count());
    KEYTRAIL_REQUIRE(std::find(candidates.begin(), candidates.end(), proved) != candidates.end());
    for (const Seen& s : seen) {
      const MessageType type = s.is_response ? proved->response : proved->request;
      KEYTRAIL_REQUIRE(!Contradicts(TheSchema(), type, s.message));
    }
  }
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keytrail::fuzz::Input input(data, size);
  keytrail::fuzz::Run(input);
  return 0;
}
