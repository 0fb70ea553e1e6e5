// Messages of an agent that the collector does not trust, through a real socket into a real database.
//
// Input: messages, each as 1 byte kind and 2 bytes length. Kind 0: as it is. Kind 1: an Envelope that the
// bytes merge into a Hello of this program's. Kind 2: the payload of a Batch, compressed and with its right
// checksum. Kind 3: a Batch around bytes that are no zstd.
#include <memory>
#include <string>
#include <zmq.hpp>

#include "collector/receive/receiver.h"
#include "collector/store/store.h"
#include "common/crc32c.h"
#include "common/record_codec.h"
#include "proto/keytrail/record.pb.h"
#include "tests/fuzz/input.h"
#include "tests/support/scratch_dir.h"

namespace keytrail::fuzz {
namespace {

class Nobody final : public ReceiveObserver {
 public:
  void OnAgent(const AgentRow&) override {}
  void OnCall(uint32_t, uint64_t, const CallRecord& call) override { Touch(call.method); }
  void OnLoss(const LossRow&) override {}
};

template <class T>
T Must(Result<T> result) {
  KEYTRAIL_REQUIRE(result.ok());
  return std::move(*result);
}

// One collector for many inputs, as it is in life; a new one before its database grows large.
struct Collector {
  ScratchDir dir;
  zmq::context_t context{1};
  Nobody nobody;
  std::unique_ptr<Store> store;
  std::unique_ptr<Receiver> receiver;
  uint64_t inputs = 0;

  Collector() {
    store = Must(Store::Open(dir / "fuzz.db"));
    ReceiverOptions options;
    options.listen = "inproc://fuzz";
    options.zmq_context = &context;
    receiver = Must(Receiver::Open(options, *store, nobody));
  }
};

Collector& TheCollector() {
  static auto* collector = new std::unique_ptr<Collector>();
  if (*collector == nullptr || ++(*collector)->inputs % 2000 == 0) {
    collector->reset();
    *collector = std::make_unique<Collector>();
  }
  return **collector;
}

std::string Made(uint8_t kind, Bytes bytes, uint64_t epoch, uint64_t& sequence) {
  protocol::Envelope envelope;
  switch (kind % 4) {
    case 1: {
      protocol::Hello& hello = *envelope.mutable_hello();
      hello.set_protocol_version(1);
      hello.set_agent_key("fuzz");
      hello.set_epoch(epoch);
      hello.set_first_available(1);
      std::string whole = envelope.SerializeAsString();
      whole.append(AsText(bytes));
      return whole;
    }
    case 2: {
      const std::string payload(AsText(bytes));
      const std::string compressed = CompressBatch(payload);
      protocol::Batch& batch = *envelope.mutable_batch();
      batch.set_sequence(++sequence);
      batch.set_payload(compressed);
      batch.set_payload_size(static_cast<uint32_t>(payload.size()));
      batch.set_crc32c(Crc32c(AsBytes(compressed)));
      size_t records = 0;
      BatchReader reader(AsBytes(payload));
      OwnedRecord record;
      while (reader.Next(record).ok() && records < 4096) {
        ++records;
        if (records > bytes.size()) break;
      }
      batch.set_records(static_cast<uint32_t>(records == 0 ? 0 : records - 1));
      return envelope.SerializeAsString();
    }
    case 3: {
      protocol::Batch& batch = *envelope.mutable_batch();
      batch.set_sequence(++sequence);
      batch.set_payload(bytes.data(), bytes.size());
      batch.set_payload_size(1000);
      batch.set_crc32c(Crc32c(bytes));
      return envelope.SerializeAsString();
    }
    default:
      return ToString(bytes);
  }
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  Collector& collector = TheCollector();
  Input input(data, size);
  zmq::socket_t agent(collector.context, zmq::socket_type::dealer);
  agent.set(zmq::sockopt::linger, 0);
  agent.set(zmq::sockopt::sndhwm, 0);
  agent.connect("inproc://fuzz");
  // What was sent for an earlier input may come as late as now: libzmq passes it on by its own threads.
  static uint64_t sent_by_all = 0;
  uint64_t sequence = 0;
  uint64_t sent = 0;
  for (; !input.empty() && sent < 16; ++sent) {
    const uint8_t kind = input.Byte();
    const size_t length = input.Two() % 2048;
    const std::string message = Made(kind, input.Take(length), collector.inputs + 1, sequence);
    KEYTRAIL_REQUIRE(agent.send(zmq::buffer(message), zmq::send_flags::dontwait).has_value());
  }
  sent_by_all += sent;
  while (collector.receiver->Poll(0)) {
  }
  const ReceiverStats stats = collector.receiver->stats();
  // Every message is handled, unless the peer was put out for garbage.
  KEYTRAIL_REQUIRE(stats.messages <= sent_by_all);
  KEYTRAIL_REQUIRE(collector.receiver->store_error().empty());
  for (const std::string& notice : collector.receiver->TakeNotices()) Touch(notice);
  return 0;
}
