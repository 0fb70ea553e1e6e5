// Who comes in at a collector's socket: real CURVE handshakes between real libzmq sockets.

#include "collector/receive/door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <optional>
#include <zmq.hpp>

#include "collector/receive/admitted_keys.h"
#include "collector/receive/receiver.h"
#include "collector/receive/zmq_router.h"
#include "common/crc32c.h"
#include "common/curve_pair.h"
#include "proto/keytrail/record.pb.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using protocol::Envelope;
using protocol::Refusal;
using ::testing::Contains;
using ::testing::HasSubstr;

class Silent final : public ReceiveObserver {
 public:
  void OnAgent(const AgentRow&) override {}
  void OnCall(uint32_t, uint64_t, const CallRecord&) override {}
  void OnLoss(const LossRow&) override {}
};

// A DEALER with keys of its own.
class KeyedPeer {
 public:
  KeyedPeer(const std::string& address, const SecretKey& own, const PublicKey& server)
      : socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::curve_serverkey, server.key);
    socket_.set(zmq::sockopt::curve_publickey, own.public_key.key);
    socket_.set(zmq::sockopt::curve_secretkey, own.secret);
    socket_.connect(address);
  }
  void Send(const std::string& bytes) { socket_.send(zmq::buffer(bytes), zmq::send_flags::none); }
  void Send(const Envelope& e) { Send(e.SerializeAsString()); }
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

Envelope HelloOf(const std::string& agent, uint64_t epoch, uint64_t first_available = 1) {
  Envelope e;
  protocol::Hello& h = *e.mutable_hello();
  h.set_protocol_version(1);
  h.set_agent_key(agent);
  h.set_epoch(epoch);
  h.set_first_available(first_available);
  return e;
}

Envelope BatchOf(uint64_t sequence, RandomRecords& records) {
  BatchEncoder encoder;
  for (int i = 0; i < 3; ++i) encoder.Add(records.Get());
  const std::string payload = encoder.Finish();
  Envelope e;
  protocol::Batch& b = *e.mutable_batch();
  b.set_sequence(sequence);
  b.set_payload(CompressBatch(payload));
  b.set_payload_size(static_cast<uint32_t>(payload.size()));
  b.set_crc32c(Crc32c(AsBytes(b.payload())));
  b.set_records(3);
  return e;
}

class DoorTest : public ::testing::Test {
 protected:
  DoorTest()
      : folder_(dir_ / "admitted"),
        server_(NewKeyPair("collector").value()),
        good_(NewKeyPair("good").value()),
        other_(NewKeyPair("other").value()) {
    EXPECT_TRUE(AdmitKey(folder_, good_.public_key).ok());
  }

  void Open() {
    store_ = Store::Open(dir_ / "k.db").value();
    ReceiverOptions options;
    options.listen = "tcp://127.0.0.1:*";
    options.key = server_;
    options.admitted = folder_;
    Result<std::unique_ptr<Receiver>> receiver = Receiver::Open(options, *store_, observer_);
    ASSERT_TRUE(receiver.ok()) << receiver.error();
    receiver_ = std::move(*receiver);
  }

  // The answer, once it comes; the test's own time limit ends what never comes.
  Envelope Answer(KeyedPeer& peer) {
    for (;;) {
      receiver_->Poll(2);
      if (std::optional<Envelope> e = peer.Receive()) return *e;
    }
  }
  Envelope Ask(KeyedPeer& peer, const Envelope& e) {
    peer.Send(e);
    return Answer(peer);
  }
  template <class Condition>
  void PollUntil(const Condition& condition) {
    while (!condition()) receiver_->Poll(2);
  }
  uint64_t Stored() { return store_->CallCount().value(); }

  ScratchDir dir_;
  std::string folder_;
  SecretKey server_;
  SecretKey good_;
  SecretKey other_;
  RandomRecords records_{3};
  Silent observer_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Receiver> receiver_;
};

// Why there must be a handler: the same socket without one lets any key in.
TEST_F(DoorTest, WithoutAHandlerLibzmqAdmitsAnyKey) {
  zmq::context_t context;
  zmq::socket_t router(context, zmq::socket_type::router);
  router.set(zmq::sockopt::linger, 0);
  router.set(zmq::sockopt::curve_server, true);
  router.set(zmq::sockopt::curve_secretkey, server_.secret);
  router.set(zmq::sockopt::zap_domain, kZapDomain);
  router.bind("tcp://127.0.0.1:*");
  KeyedPeer stranger(router.get(zmq::sockopt::last_endpoint), other_, server_.public_key);
  stranger.Send(std::string("in"));
  zmq::message_t message;
  ASSERT_TRUE(router.recv(message));
  ASSERT_TRUE(router.recv(message));
  EXPECT_EQ(message.to_string(), "in");
}

// ... and with one, that a key is not listed is the end of it, whatever it sends.
TEST_F(DoorTest, OnlyListedKeysComeIn) {
  Open();
  KeyedPeer stranger(receiver_->address(), other_, server_.public_key);
  stranger.Send(HelloOf("stranger", 1));
  PollUntil([&] { return receiver_->stats().door.keys_denied == 1 || receiver_->stats().messages != 0; });
  EXPECT_EQ(receiver_->stats().messages, 0u);
  KeyedPeer good(receiver_->address(), good_, server_.public_key);
  EXPECT_TRUE(Ask(good, HelloOf("good", 1)).has_welcome());
  EXPECT_TRUE(Ask(good, BatchOf(1, records_)).has_ack());
  EXPECT_FALSE(stranger.Receive());
  EXPECT_EQ(Stored(), 3u);
  EXPECT_EQ(receiver_->stats().door.keys_admitted, 1u);
  EXPECT_THAT(receiver_->TakeNotices(),
              Contains(HasSubstr("its key " + other_.public_key.key + " is not admitted")));
}

// The socket insists on a handler: if there is none, nobody comes in.
TEST_F(DoorTest, WithoutTheThreadNobodyComesIn) {
  zmq::context_t context;
  Result<std::unique_ptr<AdmittedKeys>> keys = AdmittedKeys::Open(folder_);
  ASSERT_TRUE(keys.ok());
  // No list, so the Door is no handler.
  Result<std::unique_ptr<ZmqRouter>> router =
      ZmqRouter::Bind("tcp://127.0.0.1:*", &context, &server_, nullptr);
  ASSERT_TRUE(router.ok()) << router.error();
  KeyedPeer good((*router)->address(), good_, server_.public_key);
  good.Send(std::string("in"));
  Bytes identity;
  Bytes message;
  while ((*router)->door()->stats().handshakes_failed == 0) {
    (*router)->Wait(5);
    ASSERT_EQ((*router)->Receive(identity, message), ZmqRouter::Received::kNothing);
  }
}

TEST_F(DoorTest, ARevokedAgentIsRefusedFromTheNextMessageOn) {
  Open();
  KeyedPeer good(receiver_->address(), good_, server_.public_key);
  EXPECT_TRUE(Ask(good, HelloOf("good", 1)).has_welcome());
  EXPECT_TRUE(Ask(good, BatchOf(1, records_)).has_ack());
  ASSERT_TRUE(RevokeKey(folder_, "good").ok());
  PollUntil([&] {
    for (const std::string& notice : receiver_->TakeNotices()) {
      if (notice == "0 keys are admitted now") return true;
    }
    return false;
  });
  const Envelope refused = Ask(good, BatchOf(2, records_));
  EXPECT_EQ(refused.refusal().code(), Refusal::UNACCEPTED);
  EXPECT_THAT(refused.refusal().text(), HasSubstr("'good' is revoked"));
  EXPECT_EQ(Stored(), 3u);
  PollUntil([&] { return receiver_->stats().door.put_out_wanted == 1; });
  EXPECT_EQ(receiver_->stats().unadmitted, 1u);
}

// An admitted client that sends what another one sent, as a whole: known batches are acknowledged, and that
// is all. With the name and start of the other it is not heard at all.
TEST_F(DoorTest, OldBatchesSentAgainAreNotStoredTwice) {
  ASSERT_TRUE(AdmitKey(folder_, other_.public_key).ok());
  Open();
  std::vector<Envelope> recorded = {HelloOf("good", 77)};
  for (uint64_t i = 1; i <= 5; ++i) recorded.push_back(BatchOf(i, records_));
  const auto send_all = [&](const SecretKey& key) {
    KeyedPeer peer(receiver_->address(), key, server_.public_key);
    std::vector<Envelope> answers;
    for (const Envelope& e : recorded) answers.push_back(Ask(peer, e));
    return answers;
  };
  EXPECT_TRUE(send_all(good_)[5].has_ack());
  EXPECT_EQ(Stored(), 15u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(send_all(good_)[5].ack().sequence(), 5u);
  EXPECT_EQ(Stored(), 15u);
  EXPECT_EQ(receiver_->stats().batches_repeated, 15u);
  const std::vector<Envelope> answers = send_all(other_);
  EXPECT_EQ(answers[0].refusal().code(), Refusal::UNACCEPTED);
  EXPECT_EQ(answers[1].refusal().code(), Refusal::NO_SESSION);
  EXPECT_EQ(Stored(), 15u);
}

TEST_F(DoorTest, AnotherHandlerInTheContextIsAnError) {
  zmq::context_t context;
  zmq::socket_t handler(context, zmq::socket_type::rep);
  handler.bind("inproc://zeromq.zap.01");
  store_ = Store::Open(dir_ / "k.db").value();
  ReceiverOptions options;
  options.listen = "tcp://127.0.0.1:*";
  options.zmq_context = &context;
  options.key = server_;
  options.admitted = folder_;
  const Result<std::unique_ptr<Receiver>> receiver = Receiver::Open(options, *store_, observer_);
  ASSERT_FALSE(receiver.ok());
  EXPECT_THAT(receiver.error(), HasSubstr("another ZAP handler"));
}

TEST_F(DoorTest, AFolderThatGoesKeepsTheKeys) {
  const std::unique_ptr<AdmittedKeys> keys = AdmittedKeys::Open(folder_).value();
  EXPECT_FALSE(keys->Reload()) << "nothing changed";
  ASSERT_TRUE(AdmitKey(folder_, other_.public_key).ok());
  EXPECT_TRUE(keys->Reload());
  EXPECT_EQ(keys->admitted(), 2u);
  ASSERT_EQ(rename(folder_.c_str(), (dir_ / "away").c_str()), 0);
  EXPECT_TRUE(keys->Reload());
  EXPECT_EQ(keys->admitted(), 2u);
  EXPECT_THAT(keys->problems(), Contains(HasSubstr("the keys of before stay admitted")));
  ASSERT_EQ(rename((dir_ / "away").c_str(), folder_.c_str()), 0);
  EXPECT_TRUE(keys->Reload());
  // A file that others may change admits nobody.
  ASSERT_EQ(chmod((folder_ + "/other.pub").c_str(), 0666), 0);
  EXPECT_TRUE(keys->Reload());
  EXPECT_EQ(keys->admitted(), 1u);
  EXPECT_EQ(keys->Ask(other_.public_key.key).standing, AdmittedKeys::Standing::kUnknown);
  EXPECT_THAT(keys->problems(), Contains(HasSubstr("chmod go-w")));
}

// Revoked under one name, admitted under another by hand: revoked.
TEST_F(DoorTest, RevokedWins) {
  ASSERT_TRUE(RevokeKey(folder_, "good").ok());
  std::ofstream(folder_ + "/again.pub") << PublicKeyText({"again", good_.public_key.key});
  const std::unique_ptr<AdmittedKeys> keys = AdmittedKeys::Open(folder_).value();
  EXPECT_EQ(keys->Ask(good_.public_key.key).standing, AdmittedKeys::Standing::kRevoked);
  ASSERT_TRUE(AdmitKey(folder_, {"again", good_.public_key.key}).ok());
  EXPECT_TRUE(keys->Reload());
  EXPECT_EQ(keys->Ask(good_.public_key.key).standing, AdmittedKeys::Standing::kAdmitted);
}

TEST(CurveKey, Z85IsLibzmqs) {
  for (int i = 0; i < 200; ++i) {
    const SecretKey key = NewKeyPair("x").value();
    uint8_t bytes[32];
    ASSERT_NE(zmq_z85_decode(bytes, key.secret.c_str()), nullptr);
    EXPECT_EQ(Z85Key(bytes), key.secret);
    EXPECT_TRUE(IsZ85Key(key.secret));
  }
  EXPECT_FALSE(IsZ85Key(std::string(40, '#'))) << "more than 32 bits a group";
  EXPECT_FALSE(IsZ85Key(std::string(39, '0')));
  EXPECT_FALSE(IsZ85Key(std::string(40, '~')));
}

}  // namespace
}  // namespace keytrail
