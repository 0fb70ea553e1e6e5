// The agent's half of the protocol against a collector of a few lines, over a wire that loses, delays and
// breaks. No socket, no clock.

#include "agent/ship/ship_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>

#include "agent/ship/batch_queue.h"
#include "common/crc32c.h"
#include "common/limits.h"
#include "proto/keytrail/record.pb.h"
#include "tests/support/records.h"

namespace keytrail {
namespace {

using protocol::Envelope;
using ::testing::HasSubstr;

constexpr int64_t kMs = 1'000'000;

Envelope Parsed(const std::string& message) {
  Envelope envelope;
  EXPECT_TRUE(envelope.ParseFromString(message));
  return envelope;
}

Envelope Welcome(uint64_t epoch, uint64_t last, uint32_t credit) {
  Envelope e;
  e.mutable_welcome()->set_protocol_version(1);
  e.mutable_welcome()->set_epoch(epoch);
  e.mutable_welcome()->set_last_committed(last);
  e.mutable_welcome()->set_credit(credit);
  return e;
}

// Ids of the records in a batch; checks CRC, sizes and count on the way.
std::vector<uint64_t> RecordIds(const protocol::Batch& batch) {
  EXPECT_EQ(Crc32c(AsBytes(batch.payload())), batch.crc32c());
  std::string payload;
  EXPECT_TRUE(DecompressBatch(AsBytes(batch.payload()), batch.payload_size(), payload).ok());
  BatchReader reader(AsBytes(payload));
  OwnedRecord record;
  std::vector<uint64_t> ids;
  for (;;) {
    const Result<bool> more = reader.Next(record);
    EXPECT_TRUE(more.ok()) << more.error();
    if (!more.ok() || !*more) break;
    ids.push_back(*record.call.request_id);
  }
  EXPECT_EQ(ids.size(), batch.records());
  return ids;
}

class ShipSessionTest : public ::testing::Test {
 protected:
  ShipSessionTest()
      : queue_(1 << 20, 10, false, [] {}),
        session_(ShipIdentity{"key", "tidb1", "tidb", 77, "h", "i"}, source_) {}

  std::vector<Envelope> Due(int64_t now_ms) {
    std::vector<Envelope> all;
    std::string message;
    while (session_.Next(now_ms * kMs, message)) all.push_back(Parsed(message));
    return all;
  }
  void Hear(int64_t now_ms, const Envelope& e) {
    const std::string bytes = e.SerializeAsString();
    session_.OnMessage(now_ms * kMs, AsBytes(bytes));
  }
  void HearAck(int64_t now_ms, uint64_t sequence, uint32_t credit = 16) {
    Envelope e;
    e.mutable_ack()->set_sequence(sequence);
    e.mutable_ack()->set_credit(credit);
    Hear(now_ms, e);
  }
  void HearRefusal(int64_t now_ms, protocol::Refusal::Code code, uint64_t expected = 0) {
    Envelope e;
    e.mutable_refusal()->set_code(code);
    e.mutable_refusal()->set_text("because");
    e.mutable_refusal()->set_expected(expected);
    Hear(now_ms, e);
  }
  void PutBatches(int n) {
    for (int i = 0; i < n * 10; ++i) queue_.Put(records_.Get());
  }

  RandomRecords records_{1};
  BatchQueue queue_;
  QueueSource source_{queue_};
  ShipSession session_;
};

TEST_F(ShipSessionTest, SaysHelloFirstAndOnlyThenSends) {
  PutBatches(2);
  std::vector<Envelope> due = Due(1000);
  ASSERT_EQ(due.size(), 1u);
  ASSERT_TRUE(due[0].has_hello());
  EXPECT_EQ(due[0].hello().protocol_version(), 1u);
  EXPECT_EQ(due[0].hello().agent_key(), "key");
  EXPECT_EQ(due[0].hello().epoch(), 77u);
  EXPECT_EQ(due[0].hello().first_available(), 1u);
  EXPECT_TRUE(Due(1100).empty());
  EXPECT_EQ(Due(1300).size(), 1u) << "not heard: hello again";
  Hear(1301, Welcome(76, 0, 16));  // somebody else's
  EXPECT_TRUE(Due(1302).empty());
  Hear(1303, Welcome(77, 0, 16));
  due = Due(1304);
  ASSERT_EQ(due.size(), 2u);
  EXPECT_EQ(due[0].batch().sequence(), 1u);
  EXPECT_EQ(due[1].batch().sequence(), 2u);
  EXPECT_EQ(RecordIds(due[0].batch()).size(), 10u);
}

TEST_F(ShipSessionTest, CreditIsRespected) {
  PutBatches(8);
  Due(0);
  Hear(1, Welcome(77, 0, 3));
  EXPECT_EQ(Due(2).size(), 3u);
  EXPECT_TRUE(Due(3).empty());
  HearAck(4, 2, 3);
  EXPECT_EQ(Due(5).size(), 2u);
  HearAck(6, 3, 4);
  EXPECT_EQ(Due(7).size(), 2u) << "one acknowledged, one more allowed";
  EXPECT_EQ(session_.batches_acknowledged(), 3u);
}

// An agent beyond its quota: heartbeats alone, no doubt about the collector, until it is given credit again.
TEST_F(ShipSessionTest, WithoutCreditItWaits) {
  PutBatches(8);
  Due(0);
  Hear(1, Welcome(77, 0, 2));
  EXPECT_EQ(Due(2).size(), 2u);
  HearAck(3, 2, 0);
  int heartbeats = 0;
  for (int64_t now = 4; now < 30'000; now += 100) {
    for (const Envelope& envelope : Due(now)) {
      ASSERT_TRUE(envelope.has_heartbeat()) << "message " << envelope.body_case();
      ++heartbeats;
      Envelope answer;
      answer.mutable_heartbeat();
      Hear(now + 1, answer);
    }
  }
  EXPECT_GT(heartbeats, 0);
  HearAck(30'001, 2, 16);
  EXPECT_EQ(Due(30'002).size(), 6u);
}

TEST_F(ShipSessionTest, GoesOnFromWhatTheCollectorHas) {
  PutBatches(5);
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  EXPECT_EQ(Due(2).size(), 5u);
  HearAck(3, 1);
  HearRefusal(4, protocol::Refusal::NO_SESSION);
  std::vector<Envelope> due = Due(5);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].hello().first_available(), 2u);
  Hear(6, Welcome(77, 3, 16));
  due = Due(7);
  ASSERT_EQ(due.size(), 2u);
  EXPECT_EQ(due[0].batch().sequence(), 4u);
  EXPECT_EQ(due[1].batch().sequence(), 5u);
  HearAck(8, 5);
  EXPECT_EQ(session_.unacknowledged_records(), 0u);
}

TEST_F(ShipSessionTest, ManyRefusalsBehindAHoleMakeOneHello) {
  PutBatches(6);
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  Due(2);
  for (int i = 0; i < 5; ++i) HearRefusal(3, protocol::Refusal::OUT_OF_ORDER, 1);
  const std::vector<Envelope> due = Due(4);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_TRUE(due[0].has_hello());
}

TEST_F(ShipSessionTest, SilenceAfterABatchMakesAHello) {
  PutBatches(1);
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  EXPECT_EQ(Due(2).size(), 1u);
  for (int64_t ms = 100; ms < 4900; ms += 100) {
    for (const Envelope& e : Due(ms)) EXPECT_TRUE(e.has_heartbeat()) << ms;
  }
  const std::vector<Envelope> due = Due(5100);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_TRUE(due[0].has_hello());
}

TEST_F(ShipSessionTest, HeartbeatsWhenIdle) {
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  int heartbeats = 0;
  for (int64_t ms = 0; ms < 20000; ms += 100) {
    for (const Envelope& e : Due(ms)) {
      ASSERT_TRUE(e.has_heartbeat()) << ms;
      ++heartbeats;
      Envelope answer;
      answer.mutable_heartbeat();
      Hear(ms, answer);
    }
  }
  EXPECT_GE(heartbeats, 9);
  EXPECT_EQ(session_.hellos(), 1u);
}

TEST_F(ShipSessionTest, ABatchThatTheCollectorCannotReadIsGivenUpAndTold) {
  PutBatches(3);
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  Due(2);
  for (int64_t ms = 10; ms <= 30; ms += 10) {
    HearRefusal(ms, protocol::Refusal::CORRUPT, 1);
    HearRefusal(ms, protocol::Refusal::OUT_OF_ORDER, 1);
    const std::vector<Envelope> due = Due(ms + 1);
    ASSERT_EQ(due.size(), 1u);
    EXPECT_EQ(due[0].hello().first_available(), ms == 30 ? 2u : 1u);
    Hear(ms + 2, Welcome(77, ms == 30 ? 1 : 0, 16));
    EXPECT_EQ(Due(ms + 3).size(), ms == 30 ? 2u : 3u);
  }
  EXPECT_EQ(session_.records_refused(), 10u);
  queue_.Close();
  std::vector<Envelope> due = Due(40);
  ASSERT_EQ(due.size(), 1u);
  std::string payload;
  ASSERT_TRUE(
      DecompressBatch(AsBytes(due[0].batch().payload()), due[0].batch().payload_size(), payload).ok());
  BatchReader reader(AsBytes(payload));
  OwnedRecord record;
  EXPECT_FALSE(*reader.Next(record));
  ASSERT_EQ(reader.losses().size(), 1u);
  EXPECT_EQ(reader.losses()[0].kind, "batch_refused");
  EXPECT_EQ(reader.losses()[0].count, 10u);
  EXPECT_NE(reader.losses()[0].first_ns, 0);
}

TEST_F(ShipSessionTest, SaysGoodbyeWhenAllIsAcknowledged) {
  PutBatches(1);
  queue_.Close();
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  EXPECT_EQ(Due(2).size(), 1u);
  HearAck(3, 1);
  std::vector<Envelope> due = Due(4);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].bye().last_sequence(), 1u);
  EXPECT_EQ(session_.records_acknowledged(), 10u);
  EXPECT_FALSE(session_.done());
  Envelope bye;
  bye.mutable_bye();
  Hear(5, bye);
  EXPECT_TRUE(session_.done());
  EXPECT_TRUE(Due(6).empty());
}

TEST_F(ShipSessionTest, AGoodbyeThatNobodyAnswersEndsToo) {
  queue_.Close();
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  for (int64_t ms = 2; ms < 3500; ms += 50) Due(ms);
  EXPECT_TRUE(session_.done());
  EXPECT_EQ(session_.failure(), "");
}

TEST_F(ShipSessionTest, AVersionThatDiffersIsFinal) {
  Due(0);
  HearRefusal(1, protocol::Refusal::VERSION);
  EXPECT_EQ(session_.failure(), "because");
  EXPECT_TRUE(Due(10000).empty());
}

TEST_F(ShipSessionTest, ACollectorThatCannotWriteIsAskedAgain) {
  PutBatches(1);
  Due(0);
  Hear(1, Welcome(77, 0, 16));
  Due(2);
  EXPECT_TRUE(session_.open());
  HearRefusal(3, protocol::Refusal::UNAVAILABLE, 1);
  EXPECT_FALSE(session_.open());
  EXPECT_EQ(session_.turned_away(), "because");
  EXPECT_TRUE(Due(500).empty());
  EXPECT_EQ(Due(1100).size(), 1u);
  Hear(1101, Welcome(77, 0, 16));
  EXPECT_TRUE(session_.open());
  EXPECT_EQ(session_.turned_away(), "");
  EXPECT_EQ(session_.failure(), "");
}

TEST_F(ShipSessionTest, GarbageFromACollectorIsIgnored) {
  PutBatches(1);
  Due(0);
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    Envelope e;
    // A valid refusal by chance is one; everything else must leave the session as it is.
    if (e.ParseFromString(bytes) && e.has_refusal()) continue;
    session_.OnMessage(kMs, AsBytes(bytes));
  }
  Hear(2, Welcome(77, 0, 16));
  EXPECT_EQ(Due(3).size(), 1u);
}

TEST_F(ShipSessionTest, AnAcknowledgementOfTheEpochBeforeIsNotForThisOne) {
  PutBatches(2);
  Due(0);
  HearAck(1, 500);  // under way while the connection changed epochs
  Hear(2, Welcome(77, 0, 16));
  const std::vector<Envelope> due = Due(3);
  ASSERT_EQ(due.size(), 2u);
  EXPECT_EQ(due[0].batch().sequence(), 1u);
}

// Batches of a spool: some are in the collector already, some are gone.
struct ListSource final : BatchSource {
  std::deque<uint64_t> left;
  uint64_t acknowledged = 0;
  bool Next(int64_t, NumberedBatch& batch) override {
    if (left.empty()) return false;
    batch = NumberBatch({"", 0, 0, 0}, left.front());
    left.pop_front();
    return true;
  }
  bool idle() const override { return left.empty(); }
  bool drained() const override { return left.empty(); }
  void Acknowledged(uint64_t sequence) override { acknowledged = sequence; }
  void Lost(const LossRecord&) override {}
};

TEST(ShipSessionSpooled, SkipsWhatIsStoredAndOffersToJumpOverAHole) {
  ListSource source;
  source.left = {3, 4, 5, 9, 10};
  ShipSession session(ShipIdentity{"k", "", "", 5, "", ""}, source);
  const auto due = [&](int64_t ms) {
    std::string message;
    std::vector<Envelope> all;
    while (session.Next(ms * kMs, message)) all.push_back(Parsed(message));
    return all;
  };
  const auto hear = [&](int64_t ms, const Envelope& e) {
    const std::string bytes = e.SerializeAsString();
    session.OnMessage(ms * kMs, AsBytes(bytes));
  };
  ASSERT_EQ(due(0).size(), 1u);
  hear(1, Welcome(5, 4, 16));
  EXPECT_EQ(source.acknowledged, 4u);
  std::vector<Envelope> sent = due(2);
  ASSERT_EQ(sent.size(), 1u) << "9 must wait until 5 is stored";
  EXPECT_EQ(sent[0].batch().sequence(), 5u);
  Envelope ack;
  ack.mutable_ack()->set_sequence(5);
  ack.mutable_ack()->set_credit(16);
  hear(3, ack);
  sent = due(4);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].hello().first_available(), 9u);
  hear(5, Welcome(5, 8, 16));
  sent = due(6);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].batch().sequence(), 9u);
  ack.mutable_ack()->set_sequence(10);
  hear(7, ack);
  sent = due(8);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].has_bye());
}

TEST(ShipSessionSpooled, ACollectorThatDoesNotJumpIsAskedSeldom) {
  ListSource source;
  source.left = {9};
  ShipSession session(ShipIdentity{"k", "", "", 5, "", ""}, source);
  int hellos = 0;
  for (int64_t ms = 0; ms < 10'000; ms += 10) {
    std::string message;
    while (session.Next(ms * kMs, message)) {
      ASSERT_TRUE(Parsed(message).has_hello());
      ++hellos;
      const std::string bytes = Welcome(5, 0, 16).SerializeAsString();
      session.OnMessage(ms * kMs, AsBytes(bytes));
    }
  }
  EXPECT_LE(hellos, 15);
}

// A collector as the protocol describes it, in a few lines, that loses its sessions now and then.
struct SmallCollector {
  std::map<uint64_t, std::vector<uint64_t>> stored;  // record ids by sequence
  uint64_t last = 0;
  bool session = false;

  std::vector<Envelope> Answer(const Envelope& in) {
    Envelope out;
    if (in.has_hello()) {
      session = true;
      EXPECT_LE(in.hello().first_available(), last + 1);
      return {Welcome(in.hello().epoch(), last, 4)};
    }
    if (!session) {
      out.mutable_refusal()->set_code(protocol::Refusal::NO_SESSION);
      return {out};
    }
    if (in.has_bye()) {
      out.mutable_bye();
      return {out};
    }
    if (in.has_heartbeat()) {
      out.mutable_heartbeat();
      return {out};
    }
    const uint64_t sequence = in.batch().sequence();
    if (sequence > last + 1) {
      out.mutable_refusal()->set_code(protocol::Refusal::OUT_OF_ORDER);
      out.mutable_refusal()->set_expected(last + 1);
      return {out};
    }
    if (sequence == last + 1) {
      EXPECT_TRUE(stored.emplace(sequence, RecordIds(in.batch())).second);
      last = sequence;
    }
    out.mutable_ack()->set_sequence(last);
    out.mutable_ack()->set_credit(4);
    return {out};
  }
};

// Every record exactly once, in order, whatever the wire does: loses either way, and forgets the session.
TEST(ShipSessionWire, ExactlyOnceOverABadWire) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    BatchQueue queue(1 << 22, 5, false, [] {});
    QueueSource source(queue);
    ShipSession session(ShipIdentity{"k", "", "", 5, "", ""}, source);
    RandomRecords records(seed);
    constexpr uint64_t kRecords = 300;
    for (uint64_t i = 0; i < kRecords; ++i) queue.Put(records.Get());
    queue.Close();
    SmallCollector collector;
    std::deque<std::string> to_collector;
    std::deque<std::string> to_agent;
    int64_t now = 0;
    while (!session.done() && now < 3'600'000) {
      now += 10;
      // The wire is bad for the first while, then good enough to end.
      const uint64_t loss = now < 600'000 ? seed % 5 * 8 : 0;
      std::string message;
      while (session.Next(now * kMs, message)) {
        if (random() % 100 >= loss) to_collector.push_back(message);
      }
      if (random() % 200 < loss) {
        // The connection breaks: what is under way is lost.
        to_collector.clear();
        to_agent.clear();
        collector.session = false;
      }
      for (uint64_t n = random() % 4; n > 0 && !to_collector.empty(); --n) {
        for (const Envelope& e : collector.Answer(Parsed(to_collector.front()))) {
          if (random() % 100 >= loss) to_agent.push_back(e.SerializeAsString());
        }
        to_collector.pop_front();
      }
      for (uint64_t n = random() % 4; n > 0 && !to_agent.empty(); --n) {
        session.OnMessage(now * kMs, AsBytes(to_agent.front()));
        to_agent.pop_front();
      }
    }
    EXPECT_TRUE(session.done()) << "seed " << seed;
    EXPECT_EQ(session.failure(), "");
    std::vector<uint64_t> all;
    for (const auto& [sequence, ids] : collector.stored) all.insert(all.end(), ids.begin(), ids.end());
    ASSERT_EQ(all.size(), kRecords) << "seed " << seed;
    for (uint64_t i = 0; i < kRecords; ++i) ASSERT_EQ(all[i], i + 1) << "seed " << seed;
  }
}

// ---------------------------------------------------------------------------------------------------------

TEST(BatchQueue, AYoungBatchWaitsAndAnOldOneGoes) {
  BatchQueue queue(1 << 20, 100, false, [] {});
  RandomRecords records(1);
  SealedBatch batch;
  EXPECT_FALSE(queue.Take(kMs, batch));
  queue.Put(records.Get());
  EXPECT_FALSE(queue.Take(1000 * kMs, batch));
  EXPECT_FALSE(queue.Take(1100 * kMs, batch));
  EXPECT_TRUE(queue.Take(1200 * kMs, batch));
  EXPECT_EQ(batch.records, 1u);
  queue.Put(records.Get());
  EXPECT_FALSE(queue.Take(1300 * kMs, batch)) << "a new batch has its own age";
  queue.Close();
  EXPECT_FALSE(queue.drained());
  EXPECT_TRUE(queue.Take(1301 * kMs, batch));
  EXPECT_TRUE(queue.drained());
}

TEST(BatchQueue, AFullQueueDropsCountsAndTells) {
  RandomRecords records(1);
  int sealed = 0;
  BatchQueue queue(3000, 10, false, [&] { ++sealed; });
  for (int i = 0; i < 1000; ++i) queue.Put(records.Get());
  EXPECT_EQ(queue.records(), 1000u);
  EXPECT_GT(queue.records_dropped(), 500u);
  queue.Close();
  uint64_t kept = 0;
  uint64_t told = 0;
  SealedBatch batch;
  OwnedRecord record;
  while (queue.Take(0, batch)) {
    BatchReader reader(AsBytes(batch.payload));
    while (*reader.Next(record)) ++kept;
    for (const LossRecord& loss : reader.losses()) {
      EXPECT_EQ(loss.kind, "ship_queue_full");
      EXPECT_GT(loss.first_ns, 0);
      EXPECT_GE(loss.last_ns, loss.first_ns);
      told += loss.count;
    }
  }
  EXPECT_EQ(kept + told, 1000u);
  EXPECT_EQ(told, queue.records_dropped());
  EXPECT_TRUE(queue.drained());
}

TEST(BatchQueue, AbandonedNobodyWaits) {
  RandomRecords records(1);
  BatchQueue queue(1, 10, true, [] {});
  for (int i = 0; i < 10; ++i) queue.Put(records.Get());
  queue.Abandon();
  for (int i = 0; i < 100; ++i) queue.Put(records.Get());  // would wait for ever
  queue.PutLoss({"gaps", 1, 0, 0});
  queue.Close();
  EXPECT_EQ(queue.records_dropped(), 110u);
  SealedBatch batch;
  EXPECT_FALSE(queue.Take(0, batch));
}

}  // namespace
}  // namespace keytrail
