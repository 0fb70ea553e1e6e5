#include "collector/receive/receiver.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "collector/receive/quota.h"
#include "collector/receive/zmq_router.h"
#include "common/clock.h"
#include "common/crc32c.h"
#include "common/flow_key.h"
#include "common/key_codec.h"
#include "common/key_token.h"
#include "common/plain_text.h"
#include "common/redaction.h"
#include "proto/keytrail/record.pb.h"

namespace keytrail {

namespace {

constexpr uint32_t kProtocolVersion = 1;
// A session that is quiet for longer may be forgotten when there are too many: an agent in doubt says Hello.
constexpr int64_t kQuietSessionNs = 60'000'000'000;

// Host of "tcp://HOST:PORT"; empty if it is none.
std::string TcpHost(const std::string& address) {
  if (!address.starts_with("tcp://")) return {};
  const std::string rest = address.substr(6);
  const size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0) return {};
  const std::string port = rest.substr(colon + 1);
  const bool digits = !port.empty() && port.size() <= 5 &&
                      port.find_first_not_of("0123456789") == std::string::npos && std::stoi(port) <= 65535;
  if (!digits && port != "*") return {};
  const std::string host = rest.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') return host.substr(1, host.size() - 2);
  return host.find(':') == std::string::npos ? host : std::string();
}

bool IsRole(const std::string& role) {
  return role.empty() || role == "tidb" || role == "pd" || role == "tikv";
}

// Fit for a terminal, a log and JSON.
bool IsName(const std::string& text) {
  return text.size() <= limits::kMaxHelloTextBytes && IsPlainText(text);
}

// What is for people only is left out if it is not fit for them.
std::string NameOrNothing(const std::string& text) {
  return IsName(text) ? text : std::string();
}

Redaction RedactionIn(const protocol::Hello& hello) {
  Redaction redaction;
  if (hello.redaction() == protocol::Hello::OFF) redaction.mode = Redaction::Mode::kOff;
  // One that this version does not know, or a fingerprint that is none, is not told.
  if (hello.redaction() != protocol::Hello::ON ||
      hello.secret_fingerprint().size() != kKeyTokenFingerprintBytes) {
    return redaction;
  }
  redaction.mode = Redaction::Mode::kOn;
  redaction.secret = HexLower(AsBytes(hello.secret_fingerprint()));
  return redaction;
}

}  // namespace

Status CheckListenAddress(const std::string& listen, bool with_keys) {
  if (listen.starts_with("ipc://") || listen.starts_with("inproc://")) {
    if (listen.back() != '/') return Done{};
    return Error{"'" + listen + "' names no socket"};
  }
  const std::string host = TcpHost(listen);
  if (host.empty()) return Error{"'" + listen + "' is no address; tcp://ADDR:PORT or ipc://PATH is"};
  if (host == "localhost") return Done{};
  const Result<IpAddress> address = ParseAddress(host);
  if (with_keys || (address.ok() && address->is_loopback())) return Done{};
  return Error{
      "'" + listen +
      "' can be reached from other hosts, and without keys anybody could send records there and read what"
      " agents send; give --key FILE and --admitted DIR (`keytrail keys` makes both), or listen on"
      " 127.0.0.1, [::1] or ipc://PATH"};
}

struct Receiver::State {
  State(Store& s, ReceiveObserver& o, uint64_t agent_quota) : store(s), observer(o), quota(agent_quota) {}

  // An agent behind one connection of the socket.
  struct Session {
    uint32_t agent = 0;
    int64_t heard_ns = 0;
    std::string key;  // that its agent proved to have; empty without keys
    std::string agent_key;
    bool finished = false;
    bool waits = false;  // was given no credit, and is in `waiting`
  };
  struct Progress {
    int64_t batch_ns = 0;
    int64_t newest_call_ns = 0;
  };

  Store& store;
  ReceiveObserver& observer;
  uint32_t credit = 0;
  std::unique_ptr<AdmittedKeys> admitted;  // null: without keys
  std::unique_ptr<ZmqRouter> router;
  std::unordered_map<std::string, Session> sessions;  // by ZeroMQ identity
  std::map<uint32_t, uint64_t> committed;             // last sequence by agent; sessions share it
  std::map<uint32_t, Progress> progress;              // by agent
  std::map<uint32_t, std::string> spoken_for;         // the key of each agent's start, once it said Hello
  std::set<uint32_t> finished;
  Quota quota;
  std::vector<std::string> waiting;              // identities of sessions without credit
  std::map<std::string, int64_t> told_quota_ns;  // by agent_key
  std::map<std::string, AgentRow> redactions;    // the latest start of each agent that told its own, by key
  std::set<std::string> told_forms;
  std::vector<std::string> notices;
  ReceiverStats stats;
  std::string store_error;

  // Kept for their capacity.
  std::string payload;
  OwnedRecord record;
  protocol::Envelope in;

  void Handle(Bytes identity, Bytes message);
  bool IsAdmitted(const std::string& identity);
  void RefuseMalformed(const std::string& identity, const std::string& text);
  void OnHello(const std::string& identity, const protocol::Hello& hello);
  void OnBatch(const std::string& identity, Session& session, const protocol::Batch& batch);
  void OnBye(const std::string& identity, Session& session);

  void NoteRedaction(const AgentRow& agent);
  bool HasRoom();
  bool JumpTo(uint32_t agent, uint64_t sequence);
  enum class Outcome : uint8_t { kStored, kDamaged, kStoreFailed };
  Outcome StoreBatch(uint32_t agent, const protocol::Batch& batch, std::string& why);
  Status Commit(uint32_t agent, uint64_t sequence);
  void TellObserver(uint32_t agent, uint64_t first_call_id);

  void Reply(const std::string& identity, const protocol::Envelope& envelope) {
    router->Send(AsBytes(identity), envelope.SerializeAsString());
  }
  void Acknowledge(const std::string& identity, Session& session);
  uint32_t CreditOf(const std::string& identity, Session& session);
  void GiveCredit();
  void Refuse(const std::string& identity, protocol::Refusal::Code code, const std::string& text,
              uint64_t expected = 0);
};

void Receiver::State::Refuse(const std::string& identity, protocol::Refusal::Code code,
                             const std::string& text, uint64_t expected) {
  protocol::Envelope out;
  protocol::Refusal& refusal = *out.mutable_refusal();
  refusal.set_code(code);
  refusal.set_text(text);
  refusal.set_expected(expected);
  refusal.set_protocol_version(kProtocolVersion);
  Reply(identity, out);
}

// None for an agent beyond its quota; GiveCredit() gives it later.
uint32_t Receiver::State::CreditOf(const std::string& identity, Session& session) {
  const int64_t now = SteadyNs();
  if (quota.Within(session.agent_key, now)) return credit;
  if (!session.waits) {
    session.waits = true;
    waiting.push_back(identity);
    ++stats.over_quota;
    if (told_quota_ns.size() >= limits::kMaxSessions) told_quota_ns.clear();
    const auto [told, first] = told_quota_ns.try_emplace(session.agent_key, now);
    if (first || now - told->second >= limits::kNoticeEveryNs) {
      told->second = now;
      notices.push_back("agent '" + session.agent_key +
                        "' is beyond its quota and waits (--agent-quota; told once in 10 s)");
    }
  }
  return 0;
}

void Receiver::State::GiveCredit() {
  std::erase_if(waiting, [&](const std::string& identity) {
    const auto found = sessions.find(identity);
    if (found == sessions.end() || !found->second.waits) return true;
    if (!quota.Within(found->second.agent_key, SteadyNs())) return false;
    found->second.waits = false;
    Acknowledge(identity, found->second);
    return true;
  });
}

void Receiver::State::Acknowledge(const std::string& identity, Session& session) {
  protocol::Envelope out;
  out.mutable_ack()->set_sequence(committed[session.agent]);
  out.mutable_ack()->set_credit(CreditOf(identity, session));
  Reply(identity, out);
}

// Final for an agent; a peer that goes on is put out.
void Receiver::State::RefuseMalformed(const std::string& identity, const std::string& text) {
  ++stats.malformed;
  Refuse(identity, protocol::Refusal::MALFORMED, text);
  if (Door* door = router->door()) door->Malformed(router->sender_fd());
}

// The handshake let only admitted keys in, but a key may be revoked since.
bool Receiver::State::IsAdmitted(const std::string& identity) {
  if (admitted == nullptr) return true;
  const AdmittedKeys::Answer answer = admitted->Ask(router->sender_key());
  if (answer.standing == AdmittedKeys::Standing::kAdmitted) return true;
  ++stats.unadmitted;
  sessions.erase(identity);
  const std::string what = answer.standing == AdmittedKeys::Standing::kRevoked
                               ? "the key of '" + answer.name + "' is revoked"
                               : "key " + router->sender_key() + " is not admitted any more";
  Refuse(identity, protocol::Refusal::UNACCEPTED, what);
  Door* door = router->door();
  door->Notice("refused a message of " + door->AddressOf(router->sender_fd()) + ": " + what);
  door->PutOut(router->sender_fd());
  return false;
}

void Receiver::State::Handle(Bytes identity_bytes, Bytes message) {
  ++stats.messages;
  stats.bytes += message.size();
  const std::string identity = ToString(identity_bytes);
  if (!IsAdmitted(identity)) return;
  auto found = sessions.find(identity);
  // Names of connections are the peers' to choose: one that comes back with another key is another peer.
  if (found != sessions.end() && found->second.key != router->sender_key()) {
    sessions.erase(found);
    found = sessions.end();
  }
  // A stranger's message costs no more than a Hello.
  if (found == sessions.end() && message.size() > limits::kMaxHelloBytes) {
    ++stats.without_session;
    return Refuse(identity, protocol::Refusal::NO_SESSION, "say hello first");
  }
  // libzmq holds peers to this size on tcp and ipc; inproc has no such check.
  if (message.size() > limits::kMaxWireMessageBytes ||
      !in.ParseFromArray(message.data(), static_cast<int>(message.size())) ||
      in.body_case() == protocol::Envelope::BODY_NOT_SET) {
    return RefuseMalformed(identity, "not a message of keytrail's protocol");
  }
  if (in.has_hello()) return OnHello(identity, in.hello());
  if (found == sessions.end()) {
    ++stats.without_session;
    return Refuse(identity, protocol::Refusal::NO_SESSION, "say hello first");
  }
  Session& session = found->second;
  session.heard_ns = SteadyNs();
  switch (in.body_case()) {
    case protocol::Envelope::kBatch:
      return OnBatch(identity, session, in.batch());
    case protocol::Envelope::kBye:
      return OnBye(identity, session);
    case protocol::Envelope::kHeartbeat: {
      protocol::Envelope out;
      out.mutable_heartbeat();
      return Reply(identity, out);
    }
    default:
      return RefuseMalformed(identity, "a message that only a collector sends");
  }
}

// Makes room for one more session if need be.
bool Receiver::State::HasRoom() {
  if (sessions.size() < limits::kMaxSessions) return true;
  const int64_t now = SteadyNs();
  std::erase_if(sessions, [&](const auto& entry) { return now - entry.second.heard_ns > kQuietSessionNs; });
  return sessions.size() < limits::kMaxSessions;
}

// Batches that the agent does not have any more: said as a loss, and passed over.
bool Receiver::State::JumpTo(uint32_t agent, uint64_t sequence) {
  const LossRow loss{agent, "sequence_gap", sequence - committed[agent], 0, 0};
  Status status = store.Begin();
  if (status.ok()) {
    status = store.AddLoss(agent, loss.kind, loss.count, 0, 0);
    if (status.ok()) status = Commit(agent, sequence);
    if (!status.ok()) store.Rollback();
  }
  if (!status.ok()) {
    store_error = status.error();
    return false;
  }
  committed[agent] = sequence;
  ++stats.losses;
  observer.OnLoss(loss);
  return true;
}

// Keys in two forms cannot be compared, so nothing is decided (correlate/key_forms.h): said when the agent
// that makes them two comes, not when somebody wonders.
void Receiver::State::NoteRedaction(const AgentRow& agent) {
  if (agent.redaction.mode == Redaction::Mode::kUnknown) return;
  AgentRow& latest = redactions[agent.agent_key];
  const bool repeated = latest.id == agent.id && latest.redaction == agent.redaction;
  latest = agent;
  if (repeated) return;
  std::vector<std::pair<std::string, Redaction>> hosts;
  for (const auto& [key, row] : redactions)
    hosts.emplace_back(row.name.empty() ? key : row.name, row.redaction);
  std::set<std::string> forms;
  for (const auto& [host, redaction] : hosts) forms.insert(RedactionText(redaction));
  const std::string differ = RedactionsDiffer(hosts);
  // A hundred agents that all differ from one are told of in one sentence, at the first.
  if (!differ.empty() && forms != told_forms) notices.push_back(differ);
  told_forms = std::move(forms);
}

void Receiver::State::OnHello(const std::string& identity, const protocol::Hello& hello) {
  ++stats.hellos;
  if (hello.protocol_version() != kProtocolVersion) {
    ++stats.wrong_version;
    return Refuse(identity, protocol::Refusal::VERSION,
                  "agent speaks protocol version " + std::to_string(hello.protocol_version()) +
                      ", this collector speaks version " + std::to_string(kProtocolVersion));
  }
  if (hello.agent_key().empty() || !IsName(hello.agent_key()) || !IsName(hello.name()) ||
      !IsRole(hello.role()) || hello.epoch() == 0 || hello.first_available() == 0) {
    return RefuseMalformed(identity, "a hello without key, epoch or sequence, or with a wrong one");
  }
  if (!sessions.contains(identity) && !HasRoom()) {
    ++stats.unavailable;
    return Refuse(identity, protocol::Refusal::UNAVAILABLE, "too many agents");
  }
  AgentRow agent;
  agent.agent_key = hello.agent_key();
  agent.name = hello.name();
  agent.role = hello.role();
  agent.epoch = hello.epoch();
  agent.hostname = NameOrNothing(hello.host().hostname());
  agent.version = NameOrNothing(hello.host().agent_version());
  agent.input = NameOrNothing(hello.host().input());
  agent.redaction = RedactionIn(hello);
  const Result<AgentRow> row = store.RegisterAgent(agent);
  if (!row) {
    store_error = row.error();
    ++stats.unavailable;
    return Refuse(identity, protocol::Refusal::UNAVAILABLE, row.error());
  }
  // Who knows another's name and epoch could acknowledge away what the other has still to send.
  const auto [owner, first] = spoken_for.emplace(row->id, router->sender_key());
  if (!first && owner->second != router->sender_key()) {
    ++stats.unadmitted;
    return Refuse(identity, protocol::Refusal::UNACCEPTED,
                  "agent '" + agent.agent_key +
                      "' speaks with another key; each host needs a name and a key of its own");
  }
  committed[row->id] = row->last_sequence;
  NoteRedaction(*row);
  observer.OnAgent(*row);
  if (hello.first_available() > row->last_sequence + 1 && !JumpTo(row->id, hello.first_available() - 1)) {
    ++stats.unavailable;
    return Refuse(identity, protocol::Refusal::UNAVAILABLE, store_error);
  }
  // A Hello of a session that waits finds it waiting still.
  Session& session = sessions[identity];
  const bool waits = session.waits;
  session = Session{row->id, SteadyNs(), router->sender_key(), agent.agent_key, false, waits};
  if (Door* door = router->door()) door->Welcomed(router->sender_fd());
  protocol::Envelope out;
  protocol::Welcome& welcome = *out.mutable_welcome();
  welcome.set_protocol_version(kProtocolVersion);
  welcome.set_epoch(hello.epoch());
  welcome.set_last_committed(committed[row->id]);
  welcome.set_credit(CreditOf(identity, session));
  Reply(identity, out);
}

Status Receiver::State::Commit(uint32_t agent, uint64_t sequence) {
  const int64_t begun = SteadyNs();
  Status done = store.Commit(agent, sequence);
  stats.commit_ns += SteadyNs() - begun;
  if (done.ok()) ++stats.commits;
  return done;
}

// One transaction: all of the batch, or nothing of it.
Receiver::State::Outcome Receiver::State::StoreBatch(uint32_t agent, const protocol::Batch& batch,
                                                     std::string& why) {
  const auto store_failed = [&](const std::string& error) {
    store.Rollback();
    why = store_error = error;
    return Outcome::kStoreFailed;
  };
  const auto damaged = [&](const std::string& error) {
    store.Rollback();
    why = error;
    return Outcome::kDamaged;
  };
  const Status begun = store.Begin();
  if (!begun.ok()) return store_failed(begun.error());
  BatchReader reader(AsBytes(payload));
  uint64_t first_call_id = 0;
  uint32_t records = 0;
  for (;;) {
    const Result<bool> more = reader.Next(record);
    if (!more) return damaged(more.error());
    if (!*more) break;
    if (records == limits::kMaxBatchRecords) return damaged("more records than a batch may have");
    const Result<uint64_t> id = store.Add(agent, record.call);
    if (!id) return store_failed(id.error());
    if (records++ == 0) first_call_id = *id;
  }
  if (records != batch.records()) return damaged("records are missing");
  for (const LossRecord& loss : reader.losses()) {
    const Status added = store.AddLoss(agent, loss.kind, loss.count, loss.first_ns, loss.last_ns);
    if (!added.ok()) return store_failed(added.error());
  }
  const Status done = Commit(agent, batch.sequence());
  if (!done.ok()) return store_failed(done.error());
  store_error.clear();
  committed[agent] = batch.sequence();
  ++stats.batches;
  stats.calls += records;
  stats.losses += reader.losses().size();
  TellObserver(agent, first_call_id);
  return Outcome::kStored;
}

// Reads the committed payload again: cheaper than keeping all its records until the commit.
void Receiver::State::TellObserver(uint32_t agent, uint64_t first_call_id) {
  BatchReader reader(AsBytes(payload));
  uint64_t id = first_call_id;
  Progress& made = progress[agent];
  made.batch_ns = SteadyNs();
  for (;;) {
    const Result<bool> more = reader.Next(record);
    if (!more || !*more) break;
    made.newest_call_ns = std::max({made.newest_call_ns, record.call.req_last.ns, record.call.resp_last.ns});
    observer.OnCall(agent, id++, record.call);
  }
  for (const LossRecord& loss : reader.losses()) {
    observer.OnLoss({agent, loss.kind, loss.count, loss.first_ns, loss.last_ns});
  }
}

void Receiver::State::OnBatch(const std::string& identity, Session& session, const protocol::Batch& batch) {
  const uint32_t agent = session.agent;
  const uint64_t last = committed[agent];
  if (batch.sequence() == 0) {
    return RefuseMalformed(identity, "a batch without sequence");
  }
  if (batch.sequence() <= last) {
    ++stats.batches_repeated;
    return Acknowledge(identity, session);
  }
  if (batch.sequence() > last + 1) {
    ++stats.out_of_order;
    return Refuse(identity, protocol::Refusal::OUT_OF_ORDER,
                  "batch " + std::to_string(batch.sequence()) + " before batch " + std::to_string(last + 1),
                  last + 1);
  }
  std::string why;
  if (Crc32c(AsBytes(batch.payload())) != batch.crc32c()) {
    why = "CRC-32C does not match";
  } else {
    const Status whole = DecompressBatch(AsBytes(batch.payload()), batch.payload_size(), payload);
    if (!whole.ok()) why = whole.error();
  }
  const int64_t begun = SteadyNs();
  const Outcome outcome = why.empty() ? StoreBatch(agent, batch, why) : Outcome::kDamaged;
  stats.store_ns += SteadyNs() - begun;
  switch (outcome) {
    case Outcome::kStored:
      quota.Spend(session.agent_key, batch.records(), SteadyNs());
      return Acknowledge(identity, session);
    case Outcome::kDamaged:
      ++stats.corrupt;
      return Refuse(identity, protocol::Refusal::CORRUPT,
                    "batch " + std::to_string(batch.sequence()) + ": " + why, batch.sequence());
    case Outcome::kStoreFailed:
      ++stats.unavailable;
      return Refuse(identity, protocol::Refusal::UNAVAILABLE, why, batch.sequence());
  }
}

void Receiver::State::OnBye(const std::string& identity, Session& session) {
  session.finished = true;
  finished.insert(session.agent);
  stats.agents_finished = finished.size();
  protocol::Envelope out;
  out.mutable_bye()->set_last_sequence(committed[session.agent]);
  Reply(identity, out);
}

// ---------------------------------------------------------------------------------------------------------

Receiver::Receiver() = default;
Receiver::~Receiver() = default;

Result<std::unique_ptr<Receiver>> Receiver::Open(const ReceiverOptions& options, Store& store,
                                                 ReceiveObserver& observer) {
  const bool with_keys = options.key.has_value();
  if (with_keys != !options.admitted.empty()) {
    return Error{"a collector's key needs a list of admitted ones, and a list needs a key"};
  }
  const Status checked = CheckListenAddress(options.listen, with_keys);
  if (!checked.ok()) return Error{checked.error()};
  if (with_keys && options.listen.starts_with("inproc://"))
    return Error{"'" + options.listen + "' has no keys"};
  std::unique_ptr<AdmittedKeys> admitted;
  if (with_keys) {
    Result<std::unique_ptr<AdmittedKeys>> opened = AdmittedKeys::Open(options.admitted);
    if (!opened) return Error{opened.error()};
    admitted = std::move(*opened);
  }
  std::string address = options.listen;
  // libzmq asks no name service when it binds.
  if (TcpHost(address) == "localhost") address = "tcp://127.0.0.1" + address.substr(address.rfind(':'));
  Result<std::unique_ptr<ZmqRouter>> router =
      ZmqRouter::Bind(address, options.zmq_context, with_keys ? &*options.key : nullptr, admitted.get());
  if (!router) return Error{router.error()};
  std::unique_ptr<Receiver> receiver(new Receiver);
  receiver->state_ = std::make_unique<State>(store, observer, options.agent_quota);
  receiver->state_->admitted = std::move(admitted);
  receiver->state_->router = std::move(*router);
  receiver->state_->credit = options.credit;
  return receiver;
}

const std::string& Receiver::address() const {
  return state_->router->address();
}
void* Receiver::zmq_context() {
  return state_->router->context();
}
ReceiverStats Receiver::stats() const {
  ReceiverStats stats = state_->stats;
  if (const Door* door = state_->router->door()) stats.door = door->stats();
  return stats;
}
std::vector<AgentSession> Receiver::sessions() const {
  // An agent that was started again, or came back over another connection, is the one that was heard last.
  std::map<std::string, const State::Session*> latest;
  for (const auto& [identity, session] : state_->sessions) {
    const State::Session*& known = latest[session.agent_key];
    if (known == nullptr || known->heard_ns < session.heard_ns) known = &session;
  }
  std::vector<AgentSession> all;
  for (const auto& [agent_key, session] : latest) {
    if (session->finished) continue;
    const auto made = state_->progress.find(session->agent);
    all.push_back({agent_key, session->heard_ns, 0, 0});
    if (made == state_->progress.end()) continue;
    all.back().batch_ns = made->second.batch_ns;
    all.back().newest_call_ns = made->second.newest_call_ns;
  }
  return all;
}
size_t Receiver::admitted_keys() const {
  return state_->admitted == nullptr ? 0 : state_->admitted->admitted();
}
std::vector<std::string> Receiver::TakeNotices() {
  std::vector<std::string> notices = std::exchange(state_->notices, {});
  Door* door = state_->router->door();
  if (door == nullptr) return notices;
  for (std::string& notice : door->TakeNotices()) notices.push_back(std::move(notice));
  return notices;
}
const std::string& Receiver::store_error() const {
  return state_->store_error;
}

bool Receiver::Poll(int timeout_ms, int busy_ms) {
  State& s = *state_;
  s.router->Wait(timeout_ms);
  s.GiveCredit();
  const int64_t until = SteadyNs() + int64_t{busy_ms} * 1'000'000;
  bool handled = false;
  do {
    Bytes identity;
    Bytes message;
    const ZmqRouter::Received received = s.router->Receive(identity, message);
    if (received == ZmqRouter::Received::kNothing) {
      if (Door* door = s.router->door()) door->AllHeard();
      break;
    }
    handled = true;
    if (received == ZmqRouter::Received::kMalformed) {
      ++s.stats.messages;
      if (s.IsAdmitted(ToString(identity))) s.RefuseMalformed(ToString(identity), "not one frame");
      continue;
    }
    s.Handle(identity, message);
  } while (SteadyNs() < until);
  return handled;
}

}  // namespace keytrail
