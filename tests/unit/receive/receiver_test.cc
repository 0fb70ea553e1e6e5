// A Receiver with real sockets against a client that says whatever it likes.

#include "collector/receive/receiver.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>
#include <zmq.hpp>

#include "common/crc32c.h"
#include "proto/keytrail/record.pb.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using protocol::Envelope;
using protocol::Refusal;
using ::testing::HasSubstr;

class Heard final : public ReceiveObserver {
 public:
  void OnAgent(const AgentRow& agent) override { agents.push_back(agent); }
  void OnCall(uint32_t agent, uint64_t call_id, const CallRecord& call) override {
    calls.push_back(std::to_string(agent) + " " + std::to_string(call_id) + " " + DescribeCall(call));
  }
  void OnLoss(const LossRow& loss) override { losses.push_back(loss); }

  std::vector<AgentRow> agents;
  std::vector<std::string> calls;
  std::vector<LossRow> losses;
};

struct SmallBatch {
  std::string payload;
  uint32_t records = 0;
};

SmallBatch MakeBatch(RandomRecords& records, uint32_t count) {
  BatchEncoder encoder;
  for (uint32_t i = 0; i < count; ++i) encoder.Add(records.Any());
  return {encoder.Finish(), count};
}

Envelope BatchMessage(uint64_t sequence, const SmallBatch& batch) {
  Envelope e;
  protocol::Batch& b = *e.mutable_batch();
  b.set_sequence(sequence);
  b.set_payload(CompressBatch(batch.payload));
  b.set_payload_size(static_cast<uint32_t>(batch.payload.size()));
  b.set_crc32c(Crc32c(AsBytes(b.payload())));
  b.set_records(batch.records);
  return e;
}

Envelope HelloMessage(const std::string& key, uint64_t epoch, uint64_t first_available = 1) {
  Envelope e;
  protocol::Hello& h = *e.mutable_hello();
  h.set_protocol_version(1);
  h.set_agent_key(key);
  h.set_epoch(epoch);
  h.set_first_available(first_available);
  return e;
}

class Client {
 public:
  explicit Client(const std::string& address, zmq::socket_type type = zmq::socket_type::dealer)
      : socket_(context_, type) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.connect(address);
  }
  void Send(const std::string& bytes) { socket_.send(zmq::buffer(bytes), zmq::send_flags::none); }
  void Send(const Envelope& e) { Send(e.SerializeAsString()); }
  void SendParts(const std::vector<std::string>& parts) {
    for (size_t i = 0; i < parts.size(); ++i) {
      socket_.send(zmq::buffer(parts[i]),
                   i + 1 < parts.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
  std::optional<Envelope> Receive() {
    zmq::message_t message;
    if (!socket_.recv(message, zmq::recv_flags::dontwait)) return std::nullopt;
    Envelope e;
    EXPECT_TRUE(e.ParseFromArray(message.data(), static_cast<int>(message.size())));
    return e;
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

class ReceiverTest : public ::testing::Test {
 protected:
  void SetUp() override { Start("tcp://127.0.0.1:*"); }

  void Start(const std::string& listen) {
    receiver_.reset();
    store_.reset();
    Result<std::unique_ptr<Store>> store = Store::Open(dir_ / "k.db");
    ASSERT_TRUE(store.ok()) << store.error();
    store_ = std::move(*store);
    ReceiverOptions options;
    options.listen = listen;
    Result<std::unique_ptr<Receiver>> receiver = Receiver::Open(options, *store_, heard_);
    ASSERT_TRUE(receiver.ok()) << receiver.error();
    receiver_ = std::move(*receiver);
  }

  // Lets the receiver work until the client has an answer.
  Envelope Answer(Client& client) {
    for (int i = 0; i < 5000; ++i) {
      receiver_->Poll(1);
      if (std::optional<Envelope> e = client.Receive()) return *e;
    }
    ADD_FAILURE() << "no answer";
    return {};
  }
  Envelope Ask(Client& client, const Envelope& e) {
    client.Send(e);
    return Answer(client);
  }
  Refusal::Code Refused(Client& client, const Envelope& e) {
    const Envelope answer = Ask(client, e);
    EXPECT_TRUE(answer.has_refusal()) << answer.ShortDebugString();
    return answer.refusal().code();
  }
  // A well-behaved agent gets its batch through.
  void ExpectHealthy() {
    Client good(receiver_->address());
    const std::string key = "good" + std::to_string(++good_agents_);
    EXPECT_TRUE(Ask(good, HelloMessage(key, 1)).has_welcome());
    EXPECT_EQ(Ask(good, BatchMessage(1, MakeBatch(records_, 3))).ack().sequence(), 1u);
  }
  uint64_t Stored() { return store_->CallCount().value(); }

  ScratchDir dir_;
  Heard heard_;
  RandomRecords records_{1};
  std::unique_ptr<Store> store_;
  std::unique_ptr<Receiver> receiver_;
  int good_agents_ = 0;
};

TEST_F(ReceiverTest, HowAgentsTellKeysIsKeptAndDifferencesAreTold) {
  Client client(receiver_->address());
  const auto hello = [&](const std::string& key, int redaction, const std::string& fingerprint) {
    Envelope e = HelloMessage(key, 1);
    e.mutable_hello()->set_redaction(static_cast<protocol::Hello::Redaction>(redaction));
    e.mutable_hello()->set_secret_fingerprint(fingerprint);
    EXPECT_TRUE(Ask(client, e).has_welcome());
    std::string notices;
    for (const std::string& notice : receiver_->TakeNotices()) notices += notice + "\n";
    return notices;
  };
  const std::string one("\0\1\2\3\4", 5);
  EXPECT_EQ(hello("tidb1", protocol::Hello::ON, one), "");
  EXPECT_EQ(hello("older", protocol::Hello::NOT_TOLD, ""), "");
  EXPECT_EQ(hello("newer", 7, one), "");
  EXPECT_EQ(hello("damaged", protocol::Hello::ON, "four"), "");
  EXPECT_EQ(hello("pd1", protocol::Hello::ON, one), "");
  EXPECT_EQ(hello("tikv1", protocol::Hello::OFF, ""),
            "agents tell keys in different forms, so nothing can be decided while records of both are kept:"
            " --redact off at tikv1; --redact on (secret 0001020304) at pd1, tidb1\n");
  EXPECT_EQ(hello("tikv1", protocol::Hello::OFF, ""), "") << "once";
  EXPECT_EQ(hello("tikv2", protocol::Hello::OFF, ""), "") << "no third form";
  EXPECT_THAT(hello("tidb2", protocol::Hello::ON, "other"), HasSubstr("(secret 6f74686572) at tidb2"));
  const std::vector<AgentRow> rows = store_->Agents().value();
  ASSERT_EQ(rows.size(), 8u);
  EXPECT_EQ(rows[0].redaction, (Redaction{Redaction::Mode::kOn, "0001020304"}));
  for (size_t i : {1, 2, 3}) EXPECT_EQ(rows[i].redaction, Redaction()) << rows[i].agent_key;
  EXPECT_EQ(rows[5].redaction, (Redaction{Redaction::Mode::kOff, ""}));
}

TEST_F(ReceiverTest, WelcomesStoresAcknowledgesAndTells) {
  Client client(receiver_->address());
  Envelope hello = HelloMessage("tidb1", 9);
  hello.mutable_hello()->set_name("tidb1");
  hello.mutable_hello()->set_role("tidb");
  hello.mutable_hello()->mutable_host()->set_hostname("h");
  const Envelope welcome = Ask(client, hello);
  ASSERT_TRUE(welcome.has_welcome());
  EXPECT_EQ(welcome.welcome().epoch(), 9u);
  EXPECT_EQ(welcome.welcome().last_committed(), 0u);
  EXPECT_EQ(welcome.welcome().credit(), limits::kCreditBatches);
  ASSERT_EQ(heard_.agents.size(), 1u);
  EXPECT_EQ(heard_.agents[0].name, "tidb1");
  EXPECT_EQ(heard_.agents[0].role, "tidb");
  EXPECT_EQ(heard_.agents[0].hostname, "h");

  BatchEncoder encoder;
  std::vector<std::string> expected;
  for (uint64_t i = 1; i <= 50; ++i) {
    const CallRecord& call = records_.Any();
    expected.push_back(std::to_string(heard_.agents[0].id) + " " + std::to_string(i) + " " +
                       DescribeCall(call));
    encoder.Add(call);
  }
  encoder.AddLoss({"gaps", 2, 10, 20});
  EXPECT_EQ(Ask(client, BatchMessage(1, {encoder.Finish(), 50})).ack().sequence(), 1u);
  EXPECT_EQ(heard_.calls, expected);
  ASSERT_EQ(heard_.losses.size(), 1u);
  EXPECT_EQ(heard_.losses[0].kind, "gaps");
  EXPECT_EQ(heard_.losses[0].first_ns, 10);
  EXPECT_EQ(Stored(), 50u);
  Envelope heartbeat;
  heartbeat.mutable_heartbeat();
  EXPECT_TRUE(Ask(client, heartbeat).has_heartbeat());
  Envelope bye;
  bye.mutable_bye()->set_last_sequence(1);
  EXPECT_EQ(Ask(client, bye).bye().last_sequence(), 1u);
  Ask(client, bye);
  EXPECT_EQ(receiver_->stats().agents_finished, 1u) << "said twice, counted once";
}

TEST_F(ReceiverTest, ABatchIsStoredOnceHoweverOftenItArrives) {
  Client client(receiver_->address());
  Ask(client, HelloMessage("a", 1));
  const Envelope first = BatchMessage(1, MakeBatch(records_, 5));
  const Envelope second = BatchMessage(2, MakeBatch(records_, 7));
  EXPECT_EQ(Ask(client, first).ack().sequence(), 1u);
  EXPECT_EQ(Ask(client, first).ack().sequence(), 1u);
  EXPECT_EQ(Ask(client, second).ack().sequence(), 2u);
  EXPECT_EQ(Ask(client, first).ack().sequence(), 2u);
  EXPECT_EQ(Stored(), 12u);
  EXPECT_EQ(heard_.calls.size(), 12u);
  EXPECT_EQ(receiver_->stats().batches_repeated, 2u);
  // The same agent over a second connection shares the progress.
  Client again(receiver_->address());
  EXPECT_EQ(Ask(again, HelloMessage("a", 1)).welcome().last_committed(), 2u);
  EXPECT_EQ(Ask(again, BatchMessage(3, MakeBatch(records_, 1))).ack().sequence(), 3u);
  EXPECT_EQ(Ask(client, BatchMessage(3, MakeBatch(records_, 1))).ack().sequence(), 3u);
  EXPECT_EQ(Stored(), 13u);
}

TEST_F(ReceiverTest, AHoleIsRefusedWithTheSequenceThatIsWanted) {
  Client client(receiver_->address());
  Ask(client, HelloMessage("a", 1));
  const Envelope answer = Ask(client, BatchMessage(2, MakeBatch(records_, 5)));
  EXPECT_EQ(answer.refusal().code(), Refusal::OUT_OF_ORDER);
  EXPECT_EQ(answer.refusal().expected(), 1u);
  EXPECT_EQ(Stored(), 0u);
}

TEST_F(ReceiverTest, WhatAnAgentDoesNotHaveAnyMoreIsALoss) {
  Client client(receiver_->address());
  EXPECT_EQ(Ask(client, HelloMessage("a", 1, 5)).welcome().last_committed(), 4u);
  ASSERT_EQ(heard_.losses.size(), 1u);
  EXPECT_EQ(heard_.losses[0].kind, "sequence_gap");
  EXPECT_EQ(heard_.losses[0].count, 4u);
  EXPECT_EQ(Ask(client, BatchMessage(5, MakeBatch(records_, 1))).ack().sequence(), 5u);
  EXPECT_EQ(Ask(client, HelloMessage("a", 1, 2)).welcome().last_committed(), 5u);
  EXPECT_EQ(heard_.losses.size(), 1u);
}

TEST_F(ReceiverTest, ARestartedCollectorKnowsHowFarItWas) {
  {
    Client client(receiver_->address());
    Ask(client, HelloMessage("a", 1));
    Ask(client, BatchMessage(1, MakeBatch(records_, 5)));
    Ask(client, BatchMessage(2, MakeBatch(records_, 5)));
  }
  Start("tcp://127.0.0.1:*");
  Client client(receiver_->address());
  EXPECT_EQ(Refused(client, BatchMessage(3, MakeBatch(records_, 5))), Refusal::NO_SESSION);
  EXPECT_EQ(Ask(client, HelloMessage("a", 1)).welcome().last_committed(), 2u);
  EXPECT_EQ(Ask(client, BatchMessage(2, MakeBatch(records_, 5))).ack().sequence(), 2u);
  EXPECT_EQ(Ask(client, BatchMessage(3, MakeBatch(records_, 5))).ack().sequence(), 3u);
  EXPECT_EQ(Stored(), 15u);
  // A restarted agent has a new epoch and begins at 1.
  EXPECT_EQ(Ask(client, HelloMessage("a", 2)).welcome().last_committed(), 0u);
  EXPECT_EQ(Ask(client, BatchMessage(1, MakeBatch(records_, 5))).ack().sequence(), 1u);
  EXPECT_EQ(Stored(), 20u);
}

TEST_F(ReceiverTest, DamagedBatchesAreRefusedWhole) {
  Client client(receiver_->address());
  Ask(client, HelloMessage("a", 1));
  const SmallBatch batch = MakeBatch(records_, 20);
  const Envelope good = BatchMessage(1, batch);
  const auto damaged = [&](const std::function<void(protocol::Batch&)>& damage) {
    Envelope e = good;
    damage(*e.mutable_batch());
    const Envelope answer = Ask(client, e);
    EXPECT_EQ(answer.refusal().code(), Refusal::CORRUPT) << answer.ShortDebugString();
    EXPECT_EQ(answer.refusal().expected(), 1u);
    EXPECT_EQ(Stored(), 0u);
  };
  const auto with_crc = [](protocol::Batch& b) { b.set_crc32c(Crc32c(AsBytes(b.payload()))); };
  damaged([](protocol::Batch& b) { b.set_crc32c(b.crc32c() ^ 1); });
  damaged([](protocol::Batch& b) { b.mutable_payload()->back() ^= 1; });
  damaged([&](protocol::Batch& b) {
    b.mutable_payload()->pop_back();
    with_crc(b);
  });
  damaged([](protocol::Batch& b) { b.set_payload_size(b.payload_size() + 1); });
  damaged([](protocol::Batch& b) { b.set_payload_size(0xFFFFFFFF); });
  damaged([](protocol::Batch& b) { b.set_records(b.records() + 1); });
  damaged([](protocol::Batch& b) { b.set_records(b.records() - 1); });
  damaged([&](protocol::Batch& b) {
    b.set_payload("not zstd");
    with_crc(b);
  });
  damaged([&](protocol::Batch& b) {
    b.clear_payload();
    with_crc(b);
  });
  damaged([&](protocol::Batch& b) {
    // The last record's end is cut off: the ones before it must not be stored either.
    const std::string cut = batch.payload.substr(0, batch.payload.size() - 1);
    b.set_payload(CompressBatch(cut));
    b.set_payload_size(static_cast<uint32_t>(cut.size()));
    with_crc(b);
  });
  damaged([&](protocol::Batch& b) {
    // 13 MiB of zeroes in a few hundred bytes.
    const std::string zeroes(limits::kMaxPayloadBytes, '\0');
    b.set_payload(CompressBatch(zeroes));
    b.set_payload_size(static_cast<uint32_t>(zeroes.size()));
    with_crc(b);
  });
  EXPECT_EQ(heard_.calls.size(), 0u);
  EXPECT_EQ(receiver_->stats().corrupt, 11u);
  EXPECT_EQ(Ask(client, good).ack().sequence(), 1u);
  EXPECT_EQ(Stored(), 20u);
}

TEST_F(ReceiverTest, MoreRecordsThanABatchMayHave) {
  Client client(receiver_->address());
  Ask(client, HelloMessage("a", 1));
  BatchEncoder encoder;
  const uint32_t count = limits::kMaxBatchRecords + 1;
  for (uint32_t i = 0; i < count; ++i) encoder.Add(records_.Get());
  EXPECT_EQ(Refused(client, BatchMessage(1, {encoder.Finish(), count})), Refusal::CORRUPT);
  EXPECT_EQ(Stored(), 0u);
}

TEST_F(ReceiverTest, AnotherVersionIsToldClearly) {
  Client client(receiver_->address());
  Envelope hello = HelloMessage("a", 1);
  hello.mutable_hello()->set_protocol_version(2);
  const Envelope answer = Ask(client, hello);
  EXPECT_EQ(answer.refusal().code(), Refusal::VERSION);
  EXPECT_THAT(answer.refusal().text(), HasSubstr("version 2, this collector speaks version 1"));
  EXPECT_EQ(Refused(client, BatchMessage(1, MakeBatch(records_, 1))), Refusal::NO_SESSION);
}

TEST_F(ReceiverTest, HellosOutOfBoundsAreRefused) {
  Client client(receiver_->address());
  const auto refused = [&](const std::function<void(protocol::Hello&)>& change) {
    Envelope hello = HelloMessage("a", 1);
    change(*hello.mutable_hello());
    EXPECT_EQ(Refused(client, hello), Refusal::MALFORMED);
  };
  refused([](protocol::Hello& h) { h.clear_agent_key(); });
  refused([](protocol::Hello& h) { h.set_agent_key(std::string(limits::kMaxHelloTextBytes + 1, 'x')); });
  refused([](protocol::Hello& h) { h.set_name(std::string(limits::kMaxHelloTextBytes + 1, 'x')); });
  refused([](protocol::Hello& h) { h.set_role("root"); });
  refused([](protocol::Hello& h) { h.set_name("\x1B[2J"); });
  refused([](protocol::Hello& h) { h.set_agent_key("\xFF"); });
  refused([](protocol::Hello& h) { h.set_epoch(0); });
  refused([](protocol::Hello& h) { h.set_first_available(0); });
  Envelope zero = BatchMessage(0, MakeBatch(records_, 1));
  Ask(client, HelloMessage("a", 1));
  EXPECT_EQ(Refused(client, zero), Refusal::MALFORMED);
  Envelope ack;
  ack.mutable_ack();
  EXPECT_EQ(Refused(client, ack), Refusal::MALFORMED);
  EXPECT_EQ(heard_.agents.size(), 1u);
  ExpectHealthy();
}

TEST_F(ReceiverTest, GarbageIsCountedAndNobodyElseNotices) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 300; ++i) {
    Client garbage(receiver_->address());
    // Fewer than cost a connection.
    for (int j = 1; j < limits::kMaxMalformedMessages; ++j) {
      std::string bytes(random() % 200, '\0');
      for (char& c : bytes) c = static_cast<char>(random());
      garbage.Send(bytes);
      EXPECT_TRUE(Answer(garbage).has_refusal());
    }
  }
  Client parts(receiver_->address());
  parts.SendParts({"a", "b", "c"});
  parts.SendParts({"", HelloMessage("x", 1).SerializeAsString()});
  Client request(receiver_->address(), zmq::socket_type::req);
  request.Send(std::string("hello"));
  ExpectHealthy();
  for (int i = 0; i < 50; ++i) receiver_->Poll(5);
  EXPECT_EQ(
      receiver_->stats().malformed + receiver_->stats().without_session + receiver_->stats().wrong_version,
      300u * (limits::kMaxMalformedMessages - 1) + 3);
  EXPECT_EQ(receiver_->stats().door.put_out_wanted, 0u);
  EXPECT_EQ(Stored(), 3u);
}

TEST_F(ReceiverTest, NothingButGarbageCostsTheConnection) {
  Client garbage(receiver_->address());
  // The socket connects again and again; what it had not sent yet is lost with the connection.
  while (receiver_->stats().door.put_out_wanted < 3) {
    garbage.Send(std::string("\x7F"));
    receiver_->Poll(10);
    while (garbage.Receive()) {
    }
  }
  EXPECT_THAT(receiver_->TakeNotices(),
              ::testing::Contains(HasSubstr("messages that are none of an agent's")));
  ExpectHealthy();
}

TEST_F(ReceiverTest, AStrangersMessageCostsNoMoreThanAHello) {
  Client stranger(receiver_->address());
  // It would parse as a Hello with a long name.
  stranger.Send(HelloMessage(std::string(limits::kMaxHelloBytes, 'x'), 1));
  EXPECT_EQ(Answer(stranger).refusal().code(), Refusal::NO_SESSION);
  EXPECT_EQ(receiver_->stats().malformed, 0u) << "it was not looked at";
  ExpectHealthy();
}

// Valid messages with bytes flipped: whatever happens, what is stored came through a CRC.
TEST_F(ReceiverTest, DamagedMessages) {
  std::mt19937_64 random(6);
  std::unique_ptr<Client> client;
  const std::string good = BatchMessage(1, MakeBatch(records_, 4)).SerializeAsString();
  for (int i = 0; i < 3000; ++i) {
    // Malformed ones cost the connection in the end.
    if (i % (limits::kMaxMalformedMessages - 1) == 0) {
      client = std::make_unique<Client>(receiver_->address());
      Ask(*client, HelloMessage("a", 1));
    }
    std::string bad = good;
    // Never the sequence alone: that would be a good batch.
    bad[4 + random() % (bad.size() - 4)] ^= static_cast<char>(1 + random() % 255);
    client->Send(bad);
    Answer(*client);
  }
  EXPECT_EQ(Stored() % 4, 0u);
  ExpectHealthy();
}

TEST_F(ReceiverTest, AMessageOverTheLimitCostsItsSenderTheConnection) {
  Client big(receiver_->address());
  Ask(big, HelloMessage("big", 1));
  big.Send(std::string(limits::kMaxWireMessageBytes + 1, 'x'));
  for (int i = 0; i < 20; ++i) receiver_->Poll(10);
  EXPECT_EQ(receiver_->stats().malformed, 0u) << "libzmq did not even take it in";
  ExpectHealthy();
}

// Not even ZeroMQ.
TEST_F(ReceiverTest, BytesOfOtherProtocols) {
  const std::string address = receiver_->address();
  const int port = std::stoi(address.substr(address.rfind(':') + 1));
  for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100000, 'x'),
                                   std::string("\xFF\0\0\0\0\0\0\0\1\x7F", 10),
                                   std::string("\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03", 11)}) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    (void)!send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    receiver_->Poll(20);
    close(fd);
  }
  ExpectHealthy();
}

TEST_F(ReceiverTest, IpcWorksToo) {
  Start("ipc://" + dir_ / "socket");
  ExpectHealthy();
}

TEST(ListenAddress, OnlyThisHostWithoutKeys) {
  for (const char* good : {"tcp://127.0.0.1:7450", "tcp://127.1.2.3:*", "tcp://[::1]:7450",
                           "tcp://localhost:1", "ipc:///run/keytrail", "inproc://x"}) {
    const Status status = CheckListenAddress(good);
    EXPECT_TRUE(status.ok()) << good << ": " << status.error();
  }
  for (const char* open : {"tcp://0.0.0.0:7450", "tcp://*:7450", "tcp://10.0.0.1:7450", "tcp://[::]:7450",
                           "tcp://eth0:7450", "tcp://example.com:7450"}) {
    const Status status = CheckListenAddress(open);
    ASSERT_FALSE(status.ok()) << open;
    EXPECT_THAT(status.error(), HasSubstr("without keys")) << open;
  }
  for (const char* wrong : {"", "7450", "127.0.0.1:7450", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:x",
                            "tcp://127.0.0.1:70000", "udp://127.0.0.1:1", "ipc://", "tcp://::1:7450"}) {
    const Status status = CheckListenAddress(wrong);
    ASSERT_FALSE(status.ok()) << wrong;
    EXPECT_THAT(status.error(), testing::Not(HasSubstr("without keys"))) << wrong;
  }
}

TEST(ReceiverOpen, SaysWhatIsWrong) {
  const Result<std::unique_ptr<Store>> store = Store::Open(":memory:");
  Heard heard;
  const auto error = [&](const std::string& listen) {
    ReceiverOptions options;
    options.listen = listen;
    const Result<std::unique_ptr<Receiver>> receiver = Receiver::Open(options, **store, heard);
    return receiver.ok() ? std::string("opened") : receiver.error();
  };
  ReceiverOptions options;
  options.listen = "tcp://127.0.0.1:*";
  const Result<std::unique_ptr<Receiver>> first = Receiver::Open(options, **store, heard);
  ASSERT_TRUE(first.ok());
  EXPECT_THAT(error((*first)->address()), HasSubstr((*first)->address() + "': Address already in use"));
  EXPECT_THAT(error("ipc:///nonexistent/dir/socket"), HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace keytrail
