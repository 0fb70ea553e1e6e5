#include "collector/receive/door.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "common/clock.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr int kTickMs = 100;
constexpr int64_t kLookAtKeysNs = 300'000'000;
// Before somebody is denied, but not for each of a crowd.
constexpr int64_t kLookAgainNs = 20'000'000;
// What was sent before leaves within this time.
constexpr int64_t kLastWordsNs = 500'000'000;
constexpr int kMonitored = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED | ZMQ_EVENT_DISCONNECTED |
                           ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_SUCCEEDED;

// A socket's end as ADDR:PORT, or what it is.
std::string EndText(const sockaddr_storage& end) {
  char text[INET6_ADDRSTRLEN] = {};
  if (end.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(end);
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(in.sin_port));
  }
  if (end.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(end);
    inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + std::to_string(ntohs(in.sin6_port));
  }
  return end.ss_family == AF_UNIX ? "a process of this host" : "an unknown address";
}

std::string PeerOf(int fd) {
  sockaddr_storage end{};
  socklen_t size = sizeof end;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&end), &size) != 0) return "a peer that is gone";
  return EndText(end);
}

std::string HandshakeProblem(uint64_t event, uint64_t value) {
  if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) {
    if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) {
      return "it speaks without keys, or with keys where there are none";
    }
    if (value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC) {
      return "it has another public key of this collector, or none at all";
    }
    return "what it sends is not the handshake of an agent";
  }
  return "it did not finish the handshake";
}

// All parts of one message; empty if none is there.
std::vector<std::string> ReceiveParts(void* socket) {
  std::vector<std::string> parts;
  for (int more = 1; more != 0;) {
    zmq_msg_t part;
    zmq_msg_init(&part);
    if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) {
      zmq_msg_close(&part);
      return {};
    }
    parts.emplace_back(static_cast<const char*>(zmq_msg_data(&part)), zmq_msg_size(&part));
    more = zmq_msg_more(&part);
    zmq_msg_close(&part);
  }
  return parts;
}

}  // namespace

struct Door::State {
  struct Connection {
    std::string peer;
    int64_t since_ns = 0;
    bool welcomed = false;
    int malformed = 0;
    int64_t put_out_at_ns = 0;  // 0: not wanted
    bool put_out = false;
  };

  AdmittedKeys* keys = nullptr;
  void* zap = nullptr;      // REP; null without keys
  void* monitor = nullptr;  // PAIR
  std::thread thread;
  std::atomic<bool> stop = false;
  // Of the thread alone.
  uint64_t failed_event = 0;  // a handshake that failed, before its connection's end is told
  uint64_t failed_value = 0;
  int64_t keys_looked_at_ns = 0;

  mutable std::mutex mutex;  // guards what follows
  std::map<int, Connection> connections;
  std::string bound_to;
  int64_t all_heard_ns = 0;
  DoorStats stats;
  std::deque<std::string> notices;
  int notices_left = limits::kMaxNoticesAtOnce;
  int64_t notices_renewed_ns = 0;
  uint64_t notices_held = 0;

  void Run();
  void AnswerZap();
  void TakeEvents();
  void OnEvent(uint64_t event, uint64_t value);
  void Sweep(int64_t now_ns);
  void LookAtKeys(int64_t now_ns, int64_t pause_ns = kLookAtKeysNs);
  void NoticeLocked(const std::string& text);
  bool ShutLocked(int fd);
};

// Under the mutex.
void Door::State::NoticeLocked(const std::string& text) {
  const int64_t now = SteadyNs();
  if (notices_left < limits::kMaxNoticesAtOnce && now - notices_renewed_ns >= limits::kNoticeEveryNs) {
    const int64_t more = (now - notices_renewed_ns) / limits::kNoticeEveryNs;
    notices_left = static_cast<int>(std::min<int64_t>(limits::kMaxNoticesAtOnce, notices_left + more));
    notices_renewed_ns = now;
  }
  if (notices_left == 0) {
    ++notices_held;
    return;
  }
  if (notices_left == limits::kMaxNoticesAtOnce) notices_renewed_ns = now;
  --notices_left;
  notices.push_back(
      notices_held == 0 ? text : text + " (and " + std::to_string(notices_held) + " such events not told)");
  notices_held = 0;
}

// The descriptor may belong to somebody else by now: libzmq closes on its own thread. A copy of it cannot
// change under us, and only libzmq's listener makes sockets of our port, so at worst another peer of that
// port connects again.
bool Door::State::ShutLocked(int fd) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return false;
  sockaddr_storage end{};
  socklen_t size = sizeof end;
  bool ours = getsockname(copy, reinterpret_cast<sockaddr*>(&end), &size) == 0;
  if (ours && end.ss_family == AF_UNIX) {
    const auto& unix_end = reinterpret_cast<const sockaddr_un&>(end);
    ours = bound_to == "ipc://" + std::string(unix_end.sun_path);
  } else if (ours) {
    const std::string text = EndText(end);
    ours = bound_to.starts_with("tcp://") &&
           text.substr(text.rfind(':')) == bound_to.substr(bound_to.rfind(':'));
  }
  if (ours) shutdown(copy, SHUT_RDWR);
  close(copy);
  return ours;
}

void Door::State::AnswerZap() {
  // Version, request id, domain, address, identity, mechanism, and the key.
  for (;;) {
    const std::vector<std::string> request = ReceiveParts(zap);
    if (request.empty()) return;
    std::string status = "400";
    std::string text = "not admitted";
    std::string user;
    const bool whole = request.size() == 7 && request[0] == "1.0" && request[2] == kZapDomain &&
                       request[5] == "CURVE" && request[6].size() == 32;
    if (whole) {
      unsigned char bytes[32];
      std::memcpy(bytes, request[6].data(), sizeof bytes);
      const std::string key = Z85Key(bytes);
      AdmittedKeys::Answer answer = keys->Ask(key);
      // `keytrail keys admit` a moment ago counts already.
      if (answer.standing != AdmittedKeys::Standing::kAdmitted) {
        LookAtKeys(SteadyNs(), kLookAgainNs);
        answer = keys->Ask(key);
      }
      const std::lock_guard lock(mutex);
      if (answer.standing == AdmittedKeys::Standing::kAdmitted) {
        status = "200";
        text = "OK";
        user = key;
        ++stats.keys_admitted;
      } else {
        ++stats.keys_denied;
        if (answer.standing == AdmittedKeys::Standing::kRevoked) {
          NoticeLocked("refused " + request[3] + ": the key of '" + answer.name + "' (" + key +
                       ") is revoked");
        } else {
          NoticeLocked("refused " + request[3] + ": its key " + key + " is not admitted in '" +
                       keys->folder() + "' (keytrail keys admit)");
        }
      }
    }
    const std::string version = "1.0";
    const std::string id = request.size() > 1 ? request[1] : std::string();
    const std::string nothing;
    const std::string* const reply[] = {&version, &id, &status, &text, &user, &nothing};
    for (const std::string* const& part : reply) {
      const int flags = ZMQ_DONTWAIT | (part == &nothing ? 0 : ZMQ_SNDMORE);
      if (zmq_send(zap, part->data(), part->size(), flags) < 0) break;
    }
  }
}

void Door::State::OnEvent(uint64_t event, uint64_t value) {
  const std::lock_guard lock(mutex);
  const int fd = static_cast<int>(value);
  switch (event) {
    case ZMQ_EVENT_ACCEPTED: {
      ++stats.connections;
      Connection& connection = connections[fd];
      connection = {};
      connection.peer = PeerOf(fd);
      connection.since_ns = SteadyNs();
      return;
    }
    case ZMQ_EVENT_ACCEPT_FAILED:
      ++stats.accepts_failed;
      NoticeLocked("cannot take a connection: " + std::string(zmq_strerror(fd)));
      return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      failed_event = event;
      failed_value = value;
      return;
    case ZMQ_EVENT_DISCONNECTED: {
      const auto found = connections.find(fd);
      // One I/O thread: the end of a connection follows its failure, nothing of others between. Nobody is
      // told of what we did ourselves, nor of those that only look whether somebody listens.
      if (failed_event != 0 && found != connections.end() && !found->second.put_out) {
        ++stats.handshakes_failed;
        NoticeLocked("refused " + found->second.peer + ": " + HandshakeProblem(failed_event, failed_value));
      }
      if (failed_event == 0 && found != connections.end() && !found->second.put_out &&
          !found->second.welcomed) {
        ++stats.left_without_hello;
      }
      failed_event = 0;
      if (found != connections.end()) connections.erase(found);
      return;
    }
    default:  // denied keys were counted when they were asked for
      failed_event = 0;
      return;
  }
}

void Door::State::TakeEvents() {
  for (;;) {
    const std::vector<std::string> parts = ReceiveParts(monitor);
    if (parts.empty()) return;
    // 16 bits of event, 32 of value, in the host's order (zmq_socket_monitor(3)).
    if (parts[0].size() < 6) continue;
    uint16_t event = 0;
    uint32_t value = 0;
    std::memcpy(&event, parts[0].data(), sizeof event);
    std::memcpy(&value, parts[0].data() + sizeof event, sizeof value);
    OnEvent(event, value);
  }
}

void Door::State::Sweep(int64_t now_ns) {
  const std::lock_guard lock(mutex);
  size_t without_hello = 0;
  for (auto& [fd, connection] : connections) {
    if (connection.put_out) continue;
    if (connection.put_out_at_ns != 0) {
      if (now_ns < connection.put_out_at_ns) continue;
      connection.put_out = true;
      if (ShutLocked(fd)) ++stats.put_out_wanted;
      continue;
    }
    if (connection.welcomed) continue;
    // The receiver must have had the time to hear it, or a slow disk would be held against the agents.
    if (all_heard_ns - connection.since_ns >= limits::kMaxHelloWaitNs) {
      connection.put_out = true;
      if (!ShutLocked(fd)) continue;
      ++stats.put_out_silent;
      NoticeLocked("put out " + connection.peer + ": connected for " +
                   std::to_string((now_ns - connection.since_ns) / 1'000'000'000) + " s and no hello");
      continue;
    }
    ++without_hello;
  }
  while (without_hello > limits::kMaxConnectionsWithoutHello) {
    auto oldest = connections.end();
    for (auto at = connections.begin(); at != connections.end(); ++at) {
      if (at->second.welcomed || at->second.put_out || at->second.put_out_at_ns != 0) continue;
      if (oldest == connections.end() || at->second.since_ns < oldest->second.since_ns) oldest = at;
    }
    if (oldest == connections.end()) return;
    --without_hello;
    oldest->second.put_out = true;
    if (!ShutLocked(oldest->first)) continue;
    ++stats.put_out_crowd;
    NoticeLocked("put out " + oldest->second.peer + ": more than " +
                 std::to_string(limits::kMaxConnectionsWithoutHello) + " connections without hello");
  }
}

void Door::State::LookAtKeys(int64_t now_ns, int64_t pause_ns) {
  if (keys == nullptr || now_ns - keys_looked_at_ns < pause_ns) return;
  keys_looked_at_ns = now_ns;
  if (!keys->Reload()) return;
  const std::vector<std::string> problems = keys->problems();
  const size_t admitted = keys->admitted();
  const std::lock_guard lock(mutex);
  notices.push_back(std::to_string(admitted) + (admitted == 1 ? " key is" : " keys are") + " admitted now");
  for (const std::string& problem : problems) NoticeLocked(problem);
}

void Door::State::Run() {
  while (!stop.load()) {
    zmq_pollitem_t items[2] = {{monitor, 0, ZMQ_POLLIN, 0}, {zap, 0, ZMQ_POLLIN, 0}};
    (void)zmq_poll(items, zap == nullptr ? 1 : 2, kTickMs);
    if (zap != nullptr) AnswerZap();
    TakeEvents();
    const int64_t now = SteadyNs();
    LookAtKeys(now);
    Sweep(now);
  }
  zmq_close(monitor);
  if (zap != nullptr) zmq_close(zap);
}

Door::Door() : state_(std::make_unique<State>()) {}

Result<std::unique_ptr<Door>> Door::Open(void* context, void* socket, AdmittedKeys* keys) {
  std::unique_ptr<Door> door(new Door);
  State& s = *door->state_;
  s.keys = keys;
  const auto failed = [&](const std::string& what) {
    const std::string why = zmq_strerror(zmq_errno());
    if (s.zap != nullptr) zmq_close(s.zap);
    if (s.monitor != nullptr) {
      zmq_socket_monitor(socket, nullptr, 0);
      zmq_close(s.monitor);
    }
    return Error{what + ": " + why};
  };
  const int none = 0;
  if (keys != nullptr) {
    s.zap = zmq_socket(context, ZMQ_REP);
    if (s.zap == nullptr) return failed("cannot check keys");
    zmq_setsockopt(s.zap, ZMQ_LINGER, &none, sizeof none);
    if (zmq_bind(s.zap, "inproc://zeromq.zap.01") != 0)
      return failed("cannot check keys: another ZAP handler");
  }
  static std::atomic<uint64_t> doors = 0;
  const std::string events = "inproc://keytrail.door." + std::to_string(++doors);
  if (zmq_socket_monitor(socket, events.c_str(), kMonitored) != 0) return failed("cannot watch connections");
  s.monitor = zmq_socket(context, ZMQ_PAIR);
  if (s.monitor == nullptr) {
    zmq_socket_monitor(socket, nullptr, 0);
    return failed("cannot watch connections");
  }
  zmq_setsockopt(s.monitor, ZMQ_LINGER, &none, sizeof none);
  // libzmq's thread would wait for room.
  zmq_setsockopt(s.monitor, ZMQ_RCVHWM, &none, sizeof none);
  if (zmq_connect(s.monitor, events.c_str()) != 0) return failed("cannot watch connections");
  // Signals are for the main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  s.thread = std::thread([&s] { s.Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return door;
}

Door::~Door() {
  state_->stop.store(true);
  if (state_->thread.joinable()) state_->thread.join();
}

void Door::BoundTo(const std::string& address) {
  const std::lock_guard lock(state_->mutex);
  state_->bound_to = address;
}

void Door::Welcomed(int fd) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->connections.find(fd);
  if (found != state_->connections.end()) found->second.welcomed = true;
}

void Door::Malformed(int fd) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->connections.find(fd);
  if (found == state_->connections.end() || ++found->second.malformed < limits::kMaxMalformedMessages) return;
  if (found->second.put_out_at_ns != 0) return;
  found->second.put_out_at_ns = SteadyNs() + kLastWordsNs;
  state_->NoticeLocked("put out " + found->second.peer + ": " +
                       std::to_string(limits::kMaxMalformedMessages) +
                       " messages that are none of an agent's");
}

void Door::PutOut(int fd) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->connections.find(fd);
  if (found == state_->connections.end() || found->second.put_out_at_ns != 0) return;
  found->second.put_out_at_ns = SteadyNs() + kLastWordsNs;
}

void Door::AllHeard() {
  const std::lock_guard lock(state_->mutex);
  state_->all_heard_ns = SteadyNs();
}

std::string Door::AddressOf(int fd) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->connections.find(fd);
  return found == state_->connections.end() ? "a peer that is gone" : found->second.peer;
}

void Door::Notice(const std::string& text) {
  const std::lock_guard lock(state_->mutex);
  state_->NoticeLocked(text);
}

std::vector<std::string> Door::TakeNotices() {
  const std::lock_guard lock(state_->mutex);
  std::vector<std::string> out(state_->notices.begin(), state_->notices.end());
  state_->notices.clear();
  return out;
}

DoorStats Door::stats() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stats;
}

}  // namespace keytrail
