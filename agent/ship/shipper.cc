#include "agent/ship/shipper.h"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "agent/ship/batch_queue.h"
#include "agent/ship/ship_session.h"
#include "agent/ship/spool_source.h"
#include "agent/ship/zmq_dealer.h"
#include "common/clock.h"
#include "common/plain_text.h"

namespace keytrail {

namespace {

// How long the thread sleeps at most; due times of the session and the age of a batch are met with this
// precision.
constexpr int kTickMs = 50;

std::string Hostname() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

uint64_t RandomEpoch() {
  std::random_device random;
  uint64_t epoch = 0;
  while (epoch == 0) epoch = uint64_t{random()} << 32 | random();
  return epoch;
}

std::string Seconds(int64_t ns) {
  return std::to_string(ns / 1'000'000'000) + " s";
}

}  // namespace

struct Shipper::State {
  State(const ShipperOptions& o, ShipIdentity i)
      : options(o), identity(std::move(i)), queue(o.queue_bytes, o.batch_records, o.block_when_full, [this] {
          if (spool != nullptr) {
            spool->Wake();
          } else {
            dealer->Wake();
          }
        }) {}

  const ShipperOptions options;
  const ShipIdentity identity;
  std::string where;  // for error messages
  std::unique_ptr<ZmqDealer> dealer;
  BatchQueue queue;
  QueueSource memory{queue};
  std::unique_ptr<SpoolSource> spool;    // null: batches are in memory alone
  std::unique_ptr<ShipSession> session;  // the thread's alone
  ShipperStats done;                     // of the sessions before it
  std::string kept;
  std::thread thread;
  std::atomic<bool> stop = false;
  std::atomic<bool> finishing = false;
  std::atomic<bool> waits = true;  // at the end, for a collector that is away

  mutable std::mutex mutex;  // guards what follows
  std::string failure;
  std::string trouble;
  bool open = false;
  std::string turned_away;
  ShipperStats stats;
  size_t unacknowledged_records = 0;

  std::array<uint64_t, kCounterCount> told{};  // by ShipLosses

  void Run();
  void RunSession();
  void Exchange(std::string& unsent);
  std::optional<std::string> GivesUp(int64_t now_ns) const;
  void Publish();
  void Fail(const std::string& why);
};

// Sends what is due, takes what has arrived.
void Shipper::State::Exchange(std::string& unsent) {
  Bytes received;
  while (dealer->Receive(received)) session->OnMessage(SteadyNs(), received);
  while (!unsent.empty() || session->Next(SteadyNs(), unsent)) {
    if (!dealer->Send(unsent)) return;
    unsent.clear();
    while (dealer->Receive(received)) session->OnMessage(SteadyNs(), received);
  }
}

std::optional<std::string> Shipper::State::GivesUp(int64_t now_ns) const {
  if (!session->failure().empty()) return where + " refuses: " + session->failure();
  // With a spool there is no hurry before its end, or until it is full.
  const bool blocks = options.block_when_full && (spool == nullptr || spool->stuck());
  if (!blocks && !finishing.load()) return std::nullopt;
  const bool hurry = finishing.load() && !waits.load() && (!session->open() || !dealer->trouble().empty());
  const int64_t waited = now_ns - session->progress_ns();
  if (!session->welcomed()) {
    if (!hurry && waited < options.connect_timeout_ns) return std::nullopt;
    const std::string& why = dealer->trouble();
    return where + " does not answer (tried for " + Seconds(waited) + ")" + (why.empty() ? "" : ": " + why);
  }
  if (!hurry && waited < options.finish_timeout_ns) return std::nullopt;
  return where + " has acknowledged nothing for " + Seconds(waited);
}

void Shipper::State::Publish() {
  const std::lock_guard lock(mutex);
  stats = done;
  stats.batches_sent += session->batches_sent();
  stats.batches_acknowledged += session->batches_acknowledged();
  stats.records_acknowledged += session->records_acknowledged();
  stats.payload_bytes += session->payload_bytes();
  stats.wire_bytes += session->wire_bytes();
  stats.hellos += session->hellos();
  stats.records_dropped += session->records_refused();
  unacknowledged_records = session->unacknowledged_records();
  trouble = dealer->trouble();
  open = session->open();
  turned_away = session->turned_away();
}

void Shipper::State::Fail(const std::string& why) {
  {
    const std::lock_guard lock(mutex);
    failure = why;
  }
  if (spool == nullptr) {
    queue.Abandon();
  } else {
    spool->ShippingEnded();
  }
}

void Shipper::State::RunSession() {
  std::string unsent;
  while (!stop.load() && !session->done()) {
    Exchange(unsent);
    Publish();
    if (const std::optional<std::string> why = GivesUp(SteadyNs())) {
      Fail(*why);
      return;
    }
    if (!session->done()) dealer->Wait(kTickMs, !unsent.empty());
  }
}

// A session an epoch: without a spool there is one.
void Shipper::State::Run() {
  if (spool == nullptr) {
    session = std::make_unique<ShipSession>(identity, memory);
    return RunSession();
  }
  for (uint64_t active; (active = spool->active()) != 0;) {
    session = std::make_unique<ShipSession>(spool->identity(), *spool);
    // While draining, this start may turn out to have nothing to say: then nobody hears of it.
    while (options.drain && session->hellos() == 0 && spool->active() == active &&
           spool->identity().epoch == identity.epoch && spool->idle() && !spool->drained() && !stop.load()) {
      dealer->Wait(kTickMs, false);
    }
    if (spool->active() != active) continue;
    RunSession();
    if (!session->done() || stop.load()) return;
    {
      const std::lock_guard lock(mutex);
      done = stats;
    }
    spool->EpochDone();
    while (spool->active() == active && !stop.load()) dealer->Wait(kTickMs, false);
  }
}

Shipper::Shipper() = default;

Result<std::unique_ptr<Shipper>> Shipper::Start(const ShipperOptions& options) {
  ShipIdentity identity;
  identity.hostname = Hostname();
  identity.agent_key = !options.agent_key.empty()    ? options.agent_key
                       : !options.agent_name.empty() ? options.agent_name
                                                     : identity.hostname;
  identity.name = options.agent_name;
  identity.role = options.role;
  identity.input = options.input;
  identity.redaction = options.redaction;
  identity.epoch = options.epoch != 0 ? options.epoch : RandomEpoch();
  // Names that the user gave may be anything; the collector takes plain text only.
  for (std::string* text : {&identity.agent_key, &identity.name, &identity.hostname, &identity.input}) {
    *text = PlainText(*text);
  }
  for (std::string* text : {&identity.agent_key, &identity.name, &identity.role}) {
    if (text->size() > limits::kMaxHelloTextBytes) {
      return Error{"agent name or role is longer than " + std::to_string(limits::kMaxHelloTextBytes) +
                   " bytes"};
    }
  }
  // What is told for people only need not be whole.
  if (identity.input.size() > limits::kMaxHelloTextBytes) {
    identity.input.erase(0, identity.input.size() - limits::kMaxHelloTextBytes);
  }
  Result<std::unique_ptr<ZmqDealer>> dealer =
      ZmqDealer::Connect(options.address, options.zmq_context, options.keys);
  if (!dealer) return Error{dealer.error()};

  std::unique_ptr<Shipper> shipper(new Shipper);
  shipper->state_ = std::make_unique<State>(options, std::move(identity));
  State& s = *shipper->state_;
  s.where = "collector '" + options.address + "'";
  s.dealer = std::move(*dealer);
  if (!options.spool.empty()) {
    SpoolSource::Options spool;
    spool.spool.folder = options.spool;
    spool.spool.max_bytes = options.spool_bytes;
    // A file waits, as it does for a collector.
    spool.spool.shed_when_full = !options.block_when_full;
    spool.drain = options.drain;
    // Each start's records go out under what it was.
    spool.spool.one_redaction = !options.drain;
    spool.tell = options.tell;
    if (options.drain) s.queue.Close();
    Result<std::unique_ptr<SpoolSource>> source =
        SpoolSource::Start(std::move(spool), s.identity, s.queue, [&s] { s.dealer->Wake(); });
    if (!source) return Error{source.error()};
    s.spool = std::move(*source);
  }
  // Signals are for the thread that captures.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  s.thread = std::thread([&s] { s.Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return shipper;
}

Shipper::~Shipper() {
  if (!state_) return;
  state_->stop.store(true);
  state_->dealer->Wake();
  if (state_->thread.joinable()) state_->thread.join();
  if (state_->spool != nullptr) {
    state_->queue.Abandon();
    state_->queue.Close();
    state_->spool->Stop();
  }
}

void Shipper::Submit(const CallRecord& call) {
  if (state_->options.ship_messages || (call.request_message.empty() && call.response_message.empty())) {
    state_->queue.Put(call);
    return;
  }
  CallRecord without = call;
  without.request_message = without.response_message = {};
  state_->queue.Put(without);
}

void Shipper::SubmitLoss(const LossRecord& loss) {
  state_->queue.PutLoss(loss);
}

Status Shipper::Finish(bool wait) {
  State& s = *state_;
  s.waits.store(wait);
  s.finishing.store(true);
  s.queue.Close();
  if (s.thread.joinable()) s.thread.join();
  uint64_t lost = 0;
  uint64_t left = 0;
  if (s.spool != nullptr) {
    s.spool->Stop();
    lost = s.spool->stats().records_lost;
    left = s.spool->stats().records_left;
  }
  const std::lock_guard lock(s.mutex);
  if (s.failure.empty()) return Done{};
  if (s.spool == nullptr) lost = s.unacknowledged_records + s.queue.records_dropped();
  if (left != 0) {
    s.kept = s.failure + "; the spool '" + s.options.spool + "' keeps " + std::to_string(left) +
             " records; ship them later with: keytrail-agent --drain --spool " + s.options.spool +
             " --collector " + s.options.address;
  }
  if (s.spool != nullptr && lost == 0 && (left != 0 || s.options.drain)) {
    return left != 0 ? Status(Done{}) : Status(Error{s.failure});
  }
  if (left != 0) return Error{std::to_string(lost) + " records are neither stored nor in the spool"};
  return Error{s.failure + "; " + std::to_string(lost) + " records are not stored"};
}

const std::string& Shipper::kept() const {
  return state_->kept;
}

std::string Shipper::failure() const {
  const std::lock_guard lock(state_->mutex);
  return state_->failure;
}

std::string Shipper::trouble() const {
  const std::lock_guard lock(state_->mutex);
  return state_->trouble.empty() ? "" : state_->where + ": " + state_->trouble;
}

std::string Shipper::not_taken() const {
  const State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (!s.failure.empty()) return s.failure;
  if (!s.trouble.empty()) return s.where + ": " + s.trouble;
  if (s.open) return {};
  return s.where + (s.turned_away.empty() ? " does not answer" : " takes nothing now: " + s.turned_away);
}

std::string Shipper::spool_problem() const {
  return state_->spool != nullptr ? state_->spool->problem() : std::string();
}

ShipperStats Shipper::stats() const {
  ShipperStats stats;
  {
    const std::lock_guard lock(state_->mutex);
    stats = state_->stats;
  }
  stats.records = state_->queue.records();
  stats.records_dropped += state_->queue.records_dropped();
  if (state_->spool != nullptr) {
    const SpoolSourceStats spool = state_->spool->stats();
    stats.spool_records_lost = spool.spool.records_lost;
    stats.spool_torn_tails = spool.spool.torn_tails;
    stats.spool_disk_failures = spool.disk_failures;
    stats.spool_batches_written = spool.spool.batches_written;
    stats.spool_batches_read = spool.spool.batches_read;
    stats.spool_batches_damaged = spool.spool.damaged_batches;
    stats.spool_records_shed = spool.spool.records_shed;
    stats.spool_bytes = spool.spool.bytes;
    stats.spool_segments = spool.spool.segments;
    stats.spool_records_left = spool.records_left;
  }
  return stats;
}

void ShipLosses(const Counters& counters, Shipper& shipper, int64_t since_ns, int64_t until_ns) {
  for (size_t i = 0; i < kCounterCount; ++i) {
    const Counter c = static_cast<Counter>(i);
    const bool drops = c == Counter::kKernelDrops || c == Counter::kInterfaceDrops;
    const bool is_loss = drops || c == Counter::kGaps || c == Counter::kPacketsCut ||
                         c == Counter::kIpDatagramsIncomplete || c == Counter::kIpDatagramsConflicting ||
                         CounterName(c).starts_with("cap_");
    uint64_t& told = shipper.state_->told[i];
    if (!is_loss || counters.Get(c) <= told) continue;
    shipper.SubmitLoss(
        {std::string(CounterName(c)), counters.Get(c) - told, drops ? since_ns : 0, drops ? until_ns : 0});
    told = counters.Get(c);
  }
}

}  // namespace keytrail
