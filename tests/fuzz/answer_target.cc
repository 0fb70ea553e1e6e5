// What an agent hears from a collector, which may be none: any bytes, at any time.
//
// Input: steps, each 1 byte kind. Even: an envelope, 2 bytes length and the bytes. Odd: time passes, 1 byte,
// in quarters of a second, and all that is due is sent.
#include <string>

#include "agent/ship/batch_queue.h"
#include "agent/ship/ship_session.h"
#include "proto/keytrail/record.pb.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  Input input(data, size);
  ShipIdentity identity;
  identity.agent_key = "fuzz";
  identity.epoch = 7;
  BatchQueue queue(1 << 20, 1, false, [] {});  // a batch a record
  CallRecord call;
  for (int i = 0; i < 3; ++i) queue.Put(call);
  queue.Close();
  QueueSource source(queue);
  ShipSession session(identity, source);
  int64_t now = 0;
  std::string message;
  for (int step = 0; !input.empty() && step < 64; ++step) {
    if (input.Byte() % 2 == 0) {
      session.OnMessage(now, input.Take(input.Two() % 512));
    } else {
      now += int64_t{input.Byte()} * 250'000'000;
      for (int n = 0; session.Next(now, message); ++n) {
        KEYTRAIL_REQUIRE(n < 64);
        protocol::Envelope envelope;
        KEYTRAIL_REQUIRE(envelope.ParseFromString(message));
      }
    }
    Touch(session.failure());
    // A welcome may know of batches that were sent before a restart, but not of more than there are.
    KEYTRAIL_REQUIRE(session.batches_acknowledged() <= 3);
  }
  return 0;
}
