// Shipper, Receiver and Store together, over real sockets and real files.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <zmq.hpp>

#include "agent/ship/shipper.h"
#include "agent/ship/zmq_dealer.h"
#include "collector/receive/receiver.h"
#include "proto/keytrail/record.pb.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using ::testing::HasSubstr;

class Silent final : public ReceiveObserver {
 public:
  void OnAgent(const AgentRow&) override {}
  void OnCall(uint32_t, uint64_t, const CallRecord&) override { ++calls; }
  void OnLoss(const LossRow&) override {}
  uint64_t calls = 0;
};

// A collector on a thread of its own, which can be stopped (at any point between two messages) and started
// again on the same address and file.
class Collector {
 public:
  explicit Collector(std::string path, uint64_t agent_quota = 0)
      : path_(std::move(path)), agent_quota_(agent_quota) {}
  ~Collector() { Stop(); }

  void Start(const std::string& listen) {
    Result<std::unique_ptr<Store>> store = Store::Open(path_);
    ASSERT_TRUE(store.ok()) << store.error();
    store_ = std::move(*store);
    ReceiverOptions options;
    options.listen = listen;
    options.agent_quota = agent_quota_;
    // An address in use from just before is free again in a moment.
    for (int i = 0; i < 100; ++i) {
      Result<std::unique_ptr<Receiver>> receiver = Receiver::Open(options, *store_, observer_);
      if (receiver.ok()) {
        receiver_ = std::move(*receiver);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ASSERT_NE(receiver_, nullptr);
    address_ = receiver_->address();
    stop_ = false;
    thread_ = std::thread([this] {
      while (!stop_) {
        receiver_->Poll(5, 5);
        batches_ = receiver_->stats().batches;
      }
    });
  }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    if (receiver_) stats_ = receiver_->stats();
    receiver_.reset();
    store_.reset();
  }

  const std::string& address() const { return address_; }
  void* zmq_context() { return receiver_->zmq_context(); }
  uint64_t batches() const { return batches_; }
  const ReceiverStats& last_stats() const { return stats_; }

 private:
  std::string path_;
  const uint64_t agent_quota_;
  std::string address_;
  Silent observer_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Receiver> receiver_;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> batches_ = 0;
  ReceiverStats stats_;
  std::thread thread_;
};

ShipperOptions OptionsFor(const std::string& address, const std::string& key) {
  ShipperOptions options;
  options.address = address;
  options.agent_key = key;
  options.block_when_full = true;
  options.batch_records = 50;
  return options;
}

std::unique_ptr<Shipper> Started(const ShipperOptions& options) {
  Result<std::unique_ptr<Shipper>> shipper = Shipper::Start(options);
  EXPECT_TRUE(shipper.ok()) << shipper.error();
  return std::move(*shipper);
}

// What is in the database is what was submitted, each once, in order.
void ExpectStored(const std::string& path, const std::map<std::string, uint64_t>& seeds, int count) {
  Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(path);
  ASSERT_TRUE(store.ok()) << store.error();
  std::map<uint32_t, std::vector<std::string>> got;
  ASSERT_TRUE((*store)
                  ->ForEachCall([&](uint32_t agent, uint64_t, const CallRecord& call) {
                    got[agent].push_back(DescribeCall(call));
                  })
                  .ok());
  const Result<std::vector<AgentRow>> agents = (*store)->Agents();
  ASSERT_EQ(agents->size(), seeds.size());
  for (const AgentRow& agent : *agents) {
    RandomRecords records(seeds.at(agent.agent_key));
    const std::vector<std::string>& calls = got[agent.id];
    ASSERT_EQ(calls.size(), static_cast<size_t>(count)) << agent.agent_key;
    for (int i = 0; i < count; ++i) {
      CallRecord call = records.Any();
      call.request_message = call.response_message = {};  // stays on the host
      ASSERT_EQ(calls[static_cast<size_t>(i)], DescribeCall(call)) << agent.agent_key << " record " << i;
    }
  }
}

void SubmitAll(Shipper& shipper, uint64_t seed, int count) {
  RandomRecords records(seed);
  for (int i = 0; i < count; ++i) shipper.Submit(records.Any());
}

class ShipReceive : public ::testing::TestWithParam<const char*> {
 protected:
  std::string Listen() const {
    const std::string kind = GetParam();
    return kind == "tcp"   ? "tcp://127.0.0.1:*"
           : kind == "ipc" ? "ipc://" + dir_ / "socket"
                           : "inproc://keytrail";
  }
  ScratchDir dir_;
};

TEST_P(ShipReceive, SeveralAgentsAtOnce) {
  const std::string path = dir_ / "k.db";
  Collector collector(path);
  collector.Start(Listen());
  constexpr int kCount = 1234;
  std::vector<std::thread> agents;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    agents.emplace_back([&, seed] {
      ShipperOptions options = OptionsFor(collector.address(), "agent" + std::to_string(seed));
      if (std::string(GetParam()) == "inproc") options.zmq_context = collector.zmq_context();
      std::unique_ptr<Shipper> shipper = Started(options);
      SubmitAll(*shipper, seed, kCount);
      const Status finished = shipper->Finish();
      EXPECT_TRUE(finished.ok()) << finished.error();
      EXPECT_EQ(shipper->stats().records, static_cast<uint64_t>(kCount));
      EXPECT_EQ(shipper->stats().records_dropped, 0u);
      EXPECT_EQ(shipper->stats().hellos, 1u);
    });
  }
  for (std::thread& agent : agents) agent.join();
  collector.Stop();
  EXPECT_EQ(collector.last_stats().agents_finished, 4u);
  ExpectStored(path, {{"agent1", 1}, {"agent2", 2}, {"agent3", 3}, {"agent4", 4}}, kCount);
}

INSTANTIATE_TEST_SUITE_P(Transports, ShipReceive, ::testing::Values("tcp", "ipc", "inproc"),
                         [](const auto& test) { return std::string(test.param); });

// An agent beyond its quota waits for its next credit, without doubt about the collector; nothing is lost.
TEST(ShipReceiveQuota, WaitsAndLosesNothing) {
  ScratchDir dir;
  const std::string path = dir / "k.db";
  // Twice as much is there at the start; what is under way without an acknowledgement may go beyond.
  constexpr int kCount = 2500;
  Collector collector(path, 500);
  collector.Start("tcp://127.0.0.1:*");
  const std::unique_ptr<Shipper> greedy = Started(OptionsFor(collector.address(), "greedy"));
  SubmitAll(*greedy, 1, kCount);
  const Status finished = greedy->Finish();
  EXPECT_TRUE(finished.ok()) << finished.error();
  EXPECT_EQ(greedy->stats().hellos, 1u);
  EXPECT_EQ(greedy->stats().records_dropped, 0u);
  collector.Stop();
  EXPECT_GE(collector.last_stats().over_quota, 1u);
  EXPECT_EQ(collector.last_stats().calls, static_cast<uint64_t>(kCount));
  EXPECT_EQ(collector.last_stats().batches_repeated, 0u);
}

// The collector goes away in the middle, several times; every record is stored exactly once.
TEST(ShipRestart, TheCollectorIsRestartedInTheMiddle) {
  const ScratchDir dir;
  const std::string path = dir / "k.db";
  Collector collector(path);
  collector.Start("tcp://127.0.0.1:*");
  const std::string address = collector.address();
  constexpr int kCount = 2500;
  std::thread agent([&] {
    std::unique_ptr<Shipper> shipper = Started(OptionsFor(address, "a"));
    RandomRecords records(9);
    for (int i = 0; i < kCount; ++i) {
      shipper->Submit(records.Any());
      if (i % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    const Status finished = shipper->Finish();
    EXPECT_TRUE(finished.ok()) << finished.error();
    EXPECT_GT(shipper->stats().hellos, 1u);
  });
  for (int i = 0; i < 4; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    collector.Stop();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    collector.Start(address);
  }
  agent.join();
  collector.Stop();
  ExpectStored(path, {{"a", 9}}, kCount);
}

// The agent is there before the collector.
TEST(ShipRestart, TheCollectorComesLate) {
  const ScratchDir dir;
  const std::string listen = "ipc://" + dir / "socket";
  std::unique_ptr<Shipper> shipper = Started(OptionsFor(listen, "a"));
  SubmitAll(*shipper, 3, 500);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  Collector collector(dir / "k.db");
  collector.Start(listen);
  const Status finished = shipper->Finish();
  EXPECT_TRUE(finished.ok()) << finished.error();
  collector.Stop();
  ExpectStored(dir / "k.db", {{"a", 3}}, 500);
}

TEST(ShipperFailure, NobodyThere) {
  const ScratchDir dir;
  ShipperOptions options = OptionsFor("ipc://" + dir / "nobody", "a");
  options.connect_timeout_ns = 300'000'000;
  options.queue_bytes = 10'000;
  std::unique_ptr<Shipper> shipper = Started(options);
  SubmitAll(*shipper, 1, 2000);  // does not wait for ever
  EXPECT_THAT(shipper->failure(), HasSubstr("does not answer"));
  const Status finished = shipper->Finish();
  ASSERT_FALSE(finished.ok());
  EXPECT_THAT(finished.error(), HasSubstr("nobody' does not answer (tried for"));
  EXPECT_THAT(finished.error(), HasSubstr("2000 records are not stored"));
}

TEST(ShipperFailure, TheCollectorDiesForGood) {
  const ScratchDir dir;
  Collector collector(dir / "k.db");
  collector.Start("tcp://127.0.0.1:*");
  ShipperOptions options = OptionsFor(collector.address(), "a");
  options.finish_timeout_ns = 500'000'000;
  std::unique_ptr<Shipper> shipper = Started(options);
  SubmitAll(*shipper, 1, 200);
  while (collector.batches() < 4) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  collector.Stop();
  SubmitAll(*shipper, 1, 200);
  const Status finished = shipper->Finish();
  ASSERT_FALSE(finished.ok());
  EXPECT_THAT(finished.error(), HasSubstr("has acknowledged nothing for"));
  EXPECT_THAT(finished.error(), HasSubstr("200 records are not stored"));
}

// A live capture never waits: it drops, counts, and the database says so.
TEST(ShipperLive, AFullQueueBecomesALossRecord) {
  const ScratchDir dir;
  const std::string listen = "ipc://" + dir / "socket";
  ShipperOptions options = OptionsFor(listen, "live");
  options.block_when_full = false;
  options.queue_bytes = 50'000;
  std::unique_ptr<Shipper> shipper = Started(options);
  constexpr int kCount = 20000;
  RandomRecords records(4);
  for (int i = 0; i < kCount; ++i) shipper->Submit(records.Get());
  shipper->SubmitLoss({"kernel_drops", 3, 0, 0});
  const uint64_t dropped = shipper->stats().records_dropped;
  EXPECT_GT(dropped, 1000u);
  Collector collector(dir / "k.db");
  collector.Start(listen);
  const Status finished = shipper->Finish();
  EXPECT_TRUE(finished.ok()) << finished.error();
  collector.Stop();
  Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(dir / "k.db");
  EXPECT_EQ((*store)->CallCount().value(), kCount - dropped);
  std::map<std::string, uint64_t> losses;
  ASSERT_TRUE((*store)->ForEachLoss([&](const LossRow& l) { losses[l.kind] += l.count; }).ok());
  EXPECT_EQ(losses["ship_queue_full"], dropped);
  EXPECT_EQ(losses["kernel_drops"], 3u);
}

TEST(ShipperLive, AQuietHostIsHeard) {
  const ScratchDir dir;
  Collector collector(dir / "k.db");
  collector.Start("ipc://" + dir / "socket");
  ShipperOptions options = OptionsFor(collector.address(), "live");
  options.block_when_full = false;
  std::unique_ptr<Shipper> shipper = Started(options);
  RandomRecords records(4);
  shipper->Submit(records.Get());
  for (int i = 0; i < 100 && collector.batches() == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(collector.batches(), 1u) << "without Finish() and without a full batch";
}

TEST(ShipperLosses, CountersAreToldOnce) {
  const ScratchDir dir;
  Collector collector(dir / "k.db");
  collector.Start("ipc://" + dir / "socket");
  std::unique_ptr<Shipper> shipper = Started(OptionsFor(collector.address(), "a"));
  Counters counters;
  counters.Add(Counter::kPackets, 100);  // no loss
  counters.Add(Counter::kGaps, 2);
  counters.Add(Counter::kCapStreams, 1);
  ShipLosses(counters, *shipper);
  counters.Add(Counter::kGaps, 3);
  ShipLosses(counters, *shipper);
  ShipLosses(counters, *shipper);
  EXPECT_TRUE(shipper->Finish().ok());
  collector.Stop();
  Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(dir / "k.db");
  std::vector<std::string> got;
  ASSERT_TRUE(
      (*store)
          ->ForEachLoss([&](const LossRow& l) { got.push_back(l.kind + " " + std::to_string(l.count)); })
          .ok());
  EXPECT_THAT(got, testing::UnorderedElementsAre("gaps 2", "gaps 3", "cap_streams 1"));
}

// A collector of another version, played by a bare socket.
TEST(ShipperVersion, IsToldAndFinal) {
  zmq::context_t context;
  zmq::socket_t router(context, zmq::socket_type::router);
  router.set(zmq::sockopt::linger, 0);
  router.bind("tcp://127.0.0.1:*");
  std::unique_ptr<Shipper> shipper = Started(OptionsFor(router.get(zmq::sockopt::last_endpoint), "a"));
  zmq::message_t identity;
  zmq::message_t hello;
  ASSERT_TRUE(router.recv(identity));
  ASSERT_TRUE(router.recv(hello));
  protocol::Envelope answer;
  answer.mutable_refusal()->set_code(protocol::Refusal::VERSION);
  answer.mutable_refusal()->set_text("this collector speaks version 9");
  router.send(identity, zmq::send_flags::sndmore);
  router.send(zmq::buffer(answer.SerializeAsString()), zmq::send_flags::none);
  const Status finished = shipper->Finish();
  ASSERT_FALSE(finished.ok());
  EXPECT_THAT(finished.error(), HasSubstr("refuses: this collector speaks version 9"));
}

TEST(ShipperStart, SaysWhatIsWrongWithTheAddress) {
  const auto error = [](const std::string& address) {
    ShipperOptions options;
    options.address = address;
    const Result<std::unique_ptr<Shipper>> shipper = Shipper::Start(options);
    return shipper.ok() ? std::string("started") : shipper.error();
  };
  for (const char* wrong : {"", "localhost", "7450", ":7450", "tcp://", "tcp://host", "host:port", "host:0",
                            "host:70000", "udp://a:1", "ipc://", "http://a:1/", "::1:7450"}) {
    EXPECT_THAT(error(wrong), HasSubstr("is no collector address")) << wrong;
  }
  EXPECT_THAT(error("no-such-host.invalid:7450"), HasSubstr("no-such-host.invalid:7450'"));
  EXPECT_EQ(error("127.0.0.1:1"), "started");
  EXPECT_EQ(error("[::1]:1"), "started");
  // A bare machine may have no /etc/hosts.
  EXPECT_THAT(error("localhost:1"), ::testing::AnyOf("started", HasSubstr("collector 'tcp://localhost:1'")));
}

}  // namespace
}  // namespace keytrail
