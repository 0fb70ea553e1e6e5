#include "agent/ship/ship_session.h"

#include <algorithm>

#include "common/key_codec.h"
#include "common/limits.h"
#include "common/version.h"
#include "proto/keytrail/record.pb.h"

namespace keytrail {

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kFirstHelloWaitNs = 250 * kMs;
constexpr int64_t kLongestHelloWaitNs = 4000 * kMs;
// Longer than any commit; a needless Hello only costs a resend.
constexpr int64_t kAcknowledgeWaitNs = 5000 * kMs;
constexpr int64_t kHeartbeatNs = 2000 * kMs;
// While batches wait for an acknowledgement: a connection that was cut and made again answers NO_SESSION.
constexpr int64_t kProbeNs = 500 * kMs;
constexpr int64_t kByeWaitNs = 500 * kMs;
// Everything is stored by then: a goodbye that nobody answers is no failure.
constexpr int64_t kLongestByeNs = 3000 * kMs;
constexpr int64_t kUnavailableRetryNs = 1000 * kMs;
// A batch that arrives damaged this often is damaged here.
constexpr int kMaxRefusals = 3;

}  // namespace

ShipSession::ShipSession(ShipIdentity identity, BatchSource& source)
    : identity_(std::move(identity)), source_(source), hello_wait_ns_(kFirstHelloWaitNs) {}

std::string ShipSession::Hello() {
  protocol::Envelope envelope;
  protocol::Hello& hello = *envelope.mutable_hello();
  hello.set_protocol_version(kProtocolVersion);
  hello.set_agent_key(identity_.agent_key);
  hello.set_name(identity_.name);
  hello.set_role(identity_.role);
  hello.set_epoch(identity_.epoch);
  offered_ = in_flight_.empty() ? last_sequence_ + 1 : in_flight_.front().sequence;
  hello.set_first_available(offered_);
  hello.set_redaction(static_cast<protocol::Hello::Redaction>(identity_.redaction.mode));
  hello.set_secret_fingerprint(FromHex(identity_.redaction.secret).value_or(""));
  hello.mutable_host()->set_hostname(identity_.hostname);
  hello.mutable_host()->set_agent_version(kVersion);
  hello.mutable_host()->set_input(identity_.input);
  return envelope.SerializeAsString();
}

void ShipSession::SayHelloAt(int64_t when_ns) {
  state_ = State::kHello;
  hello_due_ns_ = when_ns;
}

// Moves one batch from the source to in_flight_.
bool ShipSession::TakeNext(int64_t now_ns) {
  NumberedBatch batch;
  do {
    if (in_flight_.size() >= credit_ || !source_.Next(now_ns, batch)) return false;
    // Of an earlier life of the agent: the collector may have it.
  } while (batch.sequence <= committed_);
  last_sequence_ = batch.sequence;
  payload_bytes_ += batch.payload_bytes;
  wire_bytes_ += batch.message.size();
  InFlight& entry = in_flight_.emplace_back();
  entry.sequence = batch.sequence;
  entry.records = batch.records;
  entry.first_ns = batch.first_ns;
  entry.last_ns = batch.last_ns;
  entry.message = std::move(batch.message);
  return true;
}

// The next one in flight may be sent. If batches before it do not exist any more, the collector must be told
// so by a Hello first, and not before it has all that does exist.
bool ShipSession::MayGo(int64_t now_ns) {
  const uint64_t sequence = in_flight_[next_to_send_].sequence;
  if (sequence <= expected_) return true;
  // Offered and still not passed over: no collector of this protocol does that; ask it now and then.
  if (next_to_send_ == 0) SayHelloAt(offered_ == sequence ? now_ns + kUnavailableRetryNs : now_ns);
  return false;
}

bool ShipSession::Next(int64_t now_ns, std::string& message) {
  if (!started_) {
    started_ = true;
    hello_due_ns_ = heard_ns_ = progress_ns_ = acknowledged_ns_ = now_ns;
  }
  if (state_ == State::kDone || state_ == State::kFailed) return false;
  if (welcomed_ && in_flight_.empty() && source_.idle()) progress_ns_ = now_ns;
  const bool all_stored = welcomed_ && in_flight_.empty() && source_.drained();
  if (all_stored) {
    if (bye_since_ns_ == 0) bye_since_ns_ = now_ns;
    if (now_ns - bye_since_ns_ >= kLongestByeNs) state_ = State::kDone;
    if (state_ == State::kDone) return false;
  }
  const bool waits = !in_flight_.empty() && next_to_send_ > 0;
  if (state_ != State::kHello && now_ns - heard_ns_ >= kAcknowledgeWaitNs &&
      (waits || state_ == State::kBye || now_ns - heard_ns_ >= 3 * kAcknowledgeWaitNs)) {
    SayHelloAt(now_ns);
  }
  // Answered heartbeats do not say that an acknowledgement was not lost.
  if (state_ == State::kOpen && waits && now_ns - acknowledged_ns_ >= 3 * kAcknowledgeWaitNs) {
    acknowledged_ns_ = now_ns;
    SayHelloAt(now_ns);
  }
  if (state_ != State::kHello && (next_to_send_ < in_flight_.size() || TakeNext(now_ns)) && MayGo(now_ns)) {
    state_ = State::kOpen;
    message = in_flight_[next_to_send_++].message;
    expected_ = std::max(expected_, in_flight_[next_to_send_ - 1].sequence + 1);
    ++batches_sent_;
    // The wait for an acknowledgement begins with the first batch that goes out.
    if (next_to_send_ == 1) heard_ns_ = acknowledged_ns_ = now_ns;
    sent_ns_ = now_ns;
    return true;
  }
  if (state_ == State::kHello) {
    if (now_ns < hello_due_ns_) return false;
    hello_due_ns_ = now_ns + hello_wait_ns_;
    hello_wait_ns_ = std::min(2 * hello_wait_ns_, kLongestHelloWaitNs);
    ++hellos_;
    sent_ns_ = now_ns;
    message = Hello();
    return true;
  }
  protocol::Envelope envelope;
  if (all_stored) {
    if (state_ != State::kBye) bye_due_ns_ = now_ns;
    state_ = State::kBye;
    if (now_ns < bye_due_ns_) return false;
    bye_due_ns_ = now_ns + kByeWaitNs;
    envelope.mutable_bye()->set_last_sequence(last_sequence_);
  } else if (now_ns - sent_ns_ >= (waits ? kProbeNs : kHeartbeatNs)) {
    envelope.mutable_heartbeat();
  } else {
    return false;
  }
  sent_ns_ = now_ns;
  message = envelope.SerializeAsString();
  return true;
}

void ShipSession::AcknowledgeUpTo(int64_t now_ns, uint64_t sequence) {
  while (!in_flight_.empty() && in_flight_.front().sequence <= sequence) {
    records_acknowledged_ += in_flight_.front().records;
    in_flight_.pop_front();
    if (next_to_send_ > 0) --next_to_send_;
    ++batches_acknowledged_;
    progress_ns_ = acknowledged_ns_ = now_ns;
  }
  committed_ = std::max(committed_, sequence);
  last_sequence_ = std::max(last_sequence_, committed_);
  source_.Acknowledged(committed_);
}

// Gives up a batch that the collector cannot read, and has the next one say so.
void ShipSession::DropRefused(uint64_t sequence) {
  if (in_flight_.empty() || in_flight_.front().sequence != sequence) return;
  InFlight& front = in_flight_.front();
  if (++front.refused < kMaxRefusals) return;
  records_refused_ += front.records;
  source_.Lost({"batch_refused", front.records, front.first_ns, front.last_ns});
  in_flight_.pop_front();
}

void ShipSession::OnMessage(int64_t now_ns, Bytes bytes) {
  protocol::Envelope envelope;
  if (bytes.size() > limits::kMaxWireMessageBytes ||
      !envelope.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return;
  }
  heard_ns_ = now_ns;
  switch (envelope.body_case()) {
    case protocol::Envelope::kWelcome: {
      const protocol::Welcome& welcome = envelope.welcome();
      if (welcome.epoch() != identity_.epoch || state_ != State::kHello) return;
      AcknowledgeUpTo(now_ns, welcome.last_committed());
      next_to_send_ = 0;
      expected_ = welcome.last_committed() + 1;
      credit_ = welcome.credit();
      welcomed_ = true;
      turned_away_.clear();
      hello_wait_ns_ = kFirstHelloWaitNs;
      progress_ns_ = now_ns;
      state_ = State::kOpen;
      return;
    }
    case protocol::Envelope::kAck:
      // Before the welcome it is about the epoch that this connection shipped before.
      if (!welcomed_) return;
      credit_ = envelope.ack().credit();
      AcknowledgeUpTo(now_ns, envelope.ack().sequence());
      return;
    case protocol::Envelope::kBye:
      if (state_ == State::kBye) state_ = State::kDone;
      return;
    case protocol::Envelope::kRefusal: {
      const protocol::Refusal& refusal = envelope.refusal();
      switch (refusal.code()) {
        case protocol::Refusal::VERSION:
        case protocol::Refusal::MALFORMED:
        case protocol::Refusal::UNACCEPTED:
          failure_ = refusal.text();
          if (failure_.empty()) failure_ = "refused without a reason";
          state_ = State::kFailed;
          return;
        case protocol::Refusal::UNAVAILABLE:
          turned_away_ = refusal.text().empty() ? "refused without a reason" : refusal.text();
          SayHelloAt(now_ns + kUnavailableRetryNs);
          return;
        case protocol::Refusal::CORRUPT:
          if (state_ == State::kOpen) DropRefused(refusal.expected());
          [[fallthrough]];
        default:
          // Refusals of the batches behind the first refused one follow; one Hello answers all of them.
          if (state_ != State::kHello) SayHelloAt(now_ns);
          return;
      }
    }
    default:
      return;
  }
}

size_t ShipSession::unacknowledged_records() const {
  size_t n = 0;
  for (const InFlight& entry : in_flight_) n += entry.records;
  return n;
}

}  // namespace keytrail
