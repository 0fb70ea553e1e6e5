// Batches of records as a collector gets them from an agent that it does not trust.
//
// Input: 1 byte; if bit 0 is set 2 bytes length of the payload and its compressed form, else the payload.
#include "common/record_codec.h"
#include "tests/fuzz/call_checks.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

// Reads all records, writes them again and counts them. False if the payload is damaged.
bool Copy(Bytes payload, size_t& records, std::string& written) {
  BatchReader reader(payload);
  BatchEncoder encoder;
  OwnedRecord record;
  for (records = 0;; ++records) {
    const Result<bool> next = reader.Next(record);
    if (!next) {
      KEYTRAIL_REQUIRE(!next.error().empty());
      return false;
    }
    if (!*next) break;
    for (const MessageFacts* facts : {record.call.request, record.call.response}) {
      if (facts != nullptr) CheckReferences(*facts);
    }
    for (const std::string_view text : {record.call.method, record.call.command, record.call.grpc_message}) {
      Touch(text);
    }
    encoder.Add(record.call);
  }
  for (const LossRecord& loss : reader.losses()) encoder.AddLoss(loss);
  written = encoder.Finish();
  return true;
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  Input input(data, size);
  std::string payload;
  if (input.Byte() & 1) {
    const size_t length = input.Two();
    if (!DecompressBatch(input.Rest(), length, payload).ok()) return 0;
    KEYTRAIL_REQUIRE(payload.size() == length);
  } else {
    payload = ToString(input.Rest());
  }
  // Exactly as large as the payload, for AddressSanitizer.
  const std::vector<uint8_t> exact(payload.begin(), payload.end());
  size_t records = 0;
  std::string first;
  if (!Copy(exact, records, first)) return 0;
  size_t records_again = 0;
  std::string second;
  KEYTRAIL_REQUIRE(Copy(AsBytes(first), records_again, second));
  KEYTRAIL_REQUIRE(records_again == records && second == first);
  return 0;
}
