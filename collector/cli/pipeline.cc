#include "collector/cli/pipeline.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "agent/pipeline.h"
#include "agent/schema/schema.h"
#include "agent/ship/redacting_sink.h"
#include "agent/ship/shipper.h"
#include "collector/correlate/correlator.h"
#include "collector/receive/receiver.h"
#include "collector/store/store.h"

namespace keytrail {

namespace {

class CorrelatorFeed final : public ReceiveObserver {
 public:
  explicit CorrelatorFeed(Correlator& correlator) : correlator_(correlator) {}
  void OnAgent(const AgentRow& agent) override { correlator_.AddAgent({agent.id, agent.name, agent.role}); }
  void OnCall(uint32_t agent, uint64_t call_id, const CallRecord& call) override {
    correlator_.Add(agent, call_id, call);
  }
  void OnLoss(const LossRow& loss) override {
    correlator_.AddLoss({loss.agent, loss.kind, loss.count, loss.first_ns, loss.last_ns});
  }

 private:
  Correlator& correlator_;
};

Result<std::unique_ptr<Schema>> LoadSchema(const InvestigationOptions& options) {
  if (!options.proto_dir.empty()) return Schema::FromProtoDir(options.proto_dir);
  if (!options.descriptor_set.empty()) return Schema::FromDescriptorSet(options.descriptor_set);
  return Schema::Bundled();
}

// One agent on one file, from packets to acknowledged batches.
Status RunAgent(const CaptureSource& source, std::unique_ptr<PacketSource> packets, size_t number,
                const Schema& schema, const std::optional<RedactSecret>& secret, const std::string& address,
                void* zmq_context, SourceOutcome& outcome) {
  ShipperOptions ship;
  ship.address = address;
  ship.zmq_context = zmq_context;
  ship.agent_key = "capture " + std::to_string(number) + ": " + source.path;
  ship.agent_name = source.host;
  ship.role = source.role;
  ship.input = source.path;
  ship.redaction = RedactionBy(secret);
  ship.block_when_full = true;
  // The collector in this process commits, it does not vanish; a slow disk is no reason to give up.
  ship.finish_timeout_ns = int64_t{600} * 1'000'000'000;
  Result<std::unique_ptr<Shipper>> shipper = Shipper::Start(ship);
  if (!shipper) return Error{shipper.error()};
  ShipperSink sink(**shipper);
  const std::unique_ptr<RedactingSink> redacting =
      secret ? std::make_unique<RedactingSink>(*secret, sink) : nullptr;
  CallSink& end = redacting != nullptr ? static_cast<CallSink&>(*redacting) : sink;
  AgentPipeline pipeline(std::move(packets), schema, PipelineOptions(), end, nullptr);
  const Status run = pipeline.Run([] {});
  if (!run.ok()) {
    outcome.problem = run.error();
    LossRecord damaged;
    damaged.kind = "input_damaged";
    damaged.count = 1;
    (*shipper)->SubmitLoss(damaged);
  }
  outcome.packets = pipeline.counters().Get(Counter::kPackets);
  outcome.lost_something = pipeline.lost_something();
  ShipLosses(pipeline.counters(), **shipper);
  return (*shipper)->Finish();
}

}  // namespace

Result<InvestigationOutcome> RunInvestigation(const InvestigationOptions& options) {
  Result<std::unique_ptr<Schema>> schema = LoadSchema(options);
  if (!schema) return Error{schema.error()};
  const size_t count = options.sources.size();
  std::vector<std::unique_ptr<PacketSource>> inputs;
  for (const CaptureSource& source : options.sources) {
    Result<std::unique_ptr<PacketSource>> input = OpenFile({source.path, ""});
    if (!input) return Error{input.error()};
    inputs.push_back(std::move(*input));
  }
  Result<std::unique_ptr<Store>> store =
      Store::Open(options.database.empty() ? std::string(":memory:") : options.database);
  if (!store) return Error{store.error()};
  Correlator correlator(options.graces, CorrelatorCaps::ForFiles());
  CorrelatorFeed feed(correlator);
  ReceiverOptions receive;
  receive.listen = "inproc://keytrail";
  Result<std::unique_ptr<Receiver>> receiver = Receiver::Open(receive, **store, feed);
  if (!receiver) return Error{receiver.error()};

  InvestigationOutcome outcome;
  outcome.sources.resize(count);
  std::vector<std::string> failures(count);
  std::atomic<size_t> next = 0;
  std::atomic<size_t> done = 0;
  const auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < count; done.fetch_add(1)) {
      outcome.sources[i].path = options.sources[i].path;
      const Status ran =
          RunAgent(options.sources[i], std::move(inputs[i]), i, **schema, options.redact_secret,
                   (*receiver)->address(), (*receiver)->zmq_context(), outcome.sources[i]);
      if (!ran.ok()) failures[i] = ran.error();
    }
  };
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  const size_t workers = std::min<size_t>(options.workers != 0 ? options.workers : cores, count);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < workers; ++i) threads.emplace_back(work);
  while (done.load() < count) (*receiver)->Poll(20);
  for (std::thread& thread : threads) thread.join();

  for (const std::string& failure : failures) {
    if (!failure.empty()) return Error{failure};
  }
  if (!(*receiver)->store_error().empty()) return Error{(*receiver)->store_error()};
  outcome.report = correlator.Judge();
  const Status written = (*store)->WriteReport(outcome.report);
  if (!written.ok()) return Error{written.error()};
  return outcome;
}

}  // namespace keytrail
