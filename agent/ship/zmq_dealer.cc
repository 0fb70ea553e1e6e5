#include "agent/ship/zmq_dealer.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <zmq.hpp>

#include "common/limits.h"

namespace keytrail {

namespace {

// What a collector sends is small; anything else is not one.
constexpr int64_t kMaxAnswerBytes = 1 << 20;

constexpr int kHandshakeMs = 5000;
// libzmq does not come back to a peer that ended the handshake, but keys may be admitted and collectors
// restarted.
constexpr std::chrono::seconds kTryAgain{1};
constexpr int kMonitored = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |
                           ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED;

bool IsLoopback(const addrinfo& found) {
  if (found.ai_family == AF_INET) {
    const auto& in = *reinterpret_cast<const sockaddr_in*>(found.ai_addr);
    return ntohl(in.sin_addr.s_addr) >> 24 == 127;
  }
  if (found.ai_family != AF_INET6) return false;
  const in6_addr& in6 = reinterpret_cast<const sockaddr_in6*>(found.ai_addr)->sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&in6) || (IN6_IS_ADDR_V4MAPPED(&in6) && in6.s6_addr[12] == 127);
}

// Where to connect to. The host's name must be known to the name service now: libzmq would try for ever
// without a word. Without keys all that the name means must be this host, and the answer is a number: a name
// could mean something else at the next attempt.
Result<std::string> Resolve(const std::string& address, bool with_keys) {
  const std::string rest = address.substr(std::strlen("tcp://"));
  const size_t colon = rest.rfind(':');
  const std::string port = rest.substr(colon + 1);
  std::string host = rest.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (failed != 0) return Error{"collector '" + address + "': " + gai_strerror(failed)};
  bool loopback = true;
  bool ipv4 = false;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    loopback = loopback && IsLoopback(*at);
    ipv4 = ipv4 || at->ai_family == AF_INET;
  }
  char number[INET6_ADDRSTRLEN] = {};
  if (getnameinfo(found->ai_addr, found->ai_addrlen, number, sizeof number, nullptr, 0, NI_NUMERICHOST) !=
      0) {
    loopback = false;
  }
  freeaddrinfo(found);
  if (with_keys) return address;
  if (!loopback) {
    return Error{
        "collector '" + address +
        "' is not on this host, and without keys everybody on the way could read and change what is sent;"
        " give --key FILE (`keytrail keys new` makes it) and --server-key FILE (the collector's .pub file)"};
  }
  // As the collector takes "localhost".
  if (host == "localhost" && ipv4) return "tcp://127.0.0.1:" + port;
  const std::string text = number;
  return "tcp://" + (text.find(':') == std::string::npos ? text : "[" + text + "]") + ":" + port;
}

}  // namespace

Result<std::string> ZmqAddress(const std::string& address) {
  const auto wrong = [&] {
    return Error{"'" + address + "' is no collector address; HOST:PORT, tcp://HOST:PORT or ipc://PATH is"};
  };
  for (const char* scheme : {"ipc://", "inproc://"}) {
    if (address.starts_with(scheme)) {
      return address.size() > std::strlen(scheme) ? Result<std::string>(address) : wrong();
    }
  }
  const std::string rest = address.starts_with("tcp://") ? address.substr(6) : address;
  const size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0 || rest.find('/') != std::string::npos) return wrong();
  // An IPv6 address needs brackets: "::1:7450" would be read as something else.
  if (rest.find(':') != colon && rest[0] != '[') return wrong();
  const std::string port = rest.substr(colon + 1);
  if (port.empty() || port.size() > 5 || port.find_first_not_of("0123456789") != std::string::npos)
    return wrong();
  const int number = std::stoi(port);
  if (number == 0 || number > 65535) return wrong();
  return "tcp://" + rest;
}

struct ZmqDealer::State {
  std::optional<zmq::context_t> own_context;
  zmq::socket_t socket;
  zmq::message_t received;
  int wake_fd = -1;
  void* monitor = nullptr;  // PAIR: what libzmq says of the connection
  std::optional<AgentKeys> keys;
  std::string trouble;
  Link link = Link::kNothingYet;
  std::string connected_to;
  std::optional<std::chrono::steady_clock::time_point> try_again_at;

  void TryAgain();
  Status Watch(zmq::context_t& context);
  void TakeEvents();
  void OnEvent(uint64_t event);
};

Status ZmqDealer::State::Watch(zmq::context_t& context) {
  static std::atomic<uint64_t> dealers = 0;
  const std::string events = "inproc://keytrail.dealer." + std::to_string(++dealers);
  if (zmq_socket_monitor(socket.handle(), events.c_str(), kMonitored) != 0)
    return Error{zmq_strerror(zmq_errno())};
  monitor = zmq_socket(context.handle(), ZMQ_PAIR);
  const int none = 0;
  if (monitor == nullptr) return Error{zmq_strerror(zmq_errno())};
  zmq_setsockopt(monitor, ZMQ_LINGER, &none, sizeof none);
  // libzmq's thread would wait for room.
  zmq_setsockopt(monitor, ZMQ_RCVHWM, &none, sizeof none);
  if (zmq_connect(monitor, events.c_str()) != 0) return Error{zmq_strerror(zmq_errno())};
  return Done{};
}

void ZmqDealer::State::OnEvent(uint64_t event) {
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      link = Link::kUp;
      trouble.clear();
      try_again_at.reset();
      return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      link = Link::kNotAdmitted;
      trouble = "it does not admit the key of '" + keys->own.public_key.name + "' (" +
                keys->own.public_key.key + "); there, `keytrail keys admit` does";
      try_again_at = std::chrono::steady_clock::now() + kTryAgain;
      return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      link = Link::kHandshakeEnded;
      trouble = keys ? "it ends the handshake: --server-key '" + keys->collector.name +
                           "' is not its key, or it has no keys at all, or it is no collector"
                     : "it ends the handshake: it wants keys (--key, --server-key), or it is no collector";
      try_again_at = std::chrono::steady_clock::now() + kTryAgain;
      return;
    case ZMQ_EVENT_CLOSED:
      link = Link::kAway;
      trouble = "nobody takes the connection";
      return;
    default:
      if (event == ZMQ_EVENT_DISCONNECTED && link == Link::kUp) link = Link::kAway;
      return;
  }
}

void ZmqDealer::State::TryAgain() {
  if (!try_again_at || std::chrono::steady_clock::now() < *try_again_at) return;
  try_again_at.reset();
  try {
    socket.disconnect(connected_to);
  } catch (const zmq::error_t&) {
    // libzmq gave it up already.
  }
  try {
    socket.connect(connected_to);
  } catch (const zmq::error_t& e) {
    trouble = e.what();
    try_again_at = std::chrono::steady_clock::now() + kTryAgain;
  }
}

void ZmqDealer::State::TakeEvents() {
  for (;;) {
    zmq_msg_t part;
    zmq_msg_init(&part);
    const int size = zmq_msg_recv(&part, monitor, ZMQ_DONTWAIT);
    uint16_t event = 0;  // the first two bytes of the first part; the second is the address
    if (size == 6) std::memcpy(&event, zmq_msg_data(&part), sizeof event);
    const bool first = size == 6 && zmq_msg_more(&part) != 0;
    zmq_msg_close(&part);
    if (size < 0) return;
    if (first) OnEvent(event);
  }
}

ZmqDealer::ZmqDealer() : state_(std::make_unique<State>()) {}

ZmqDealer::~ZmqDealer() {
  if (state_->monitor != nullptr) {
    // In this order: libzmq's thread would wait for ever for a reader that is gone.
    zmq_socket_monitor(state_->socket.handle(), nullptr, 0);
    zmq_close(state_->monitor);
  }
  if (state_->wake_fd >= 0) close(state_->wake_fd);
}

Result<std::unique_ptr<ZmqDealer>> ZmqDealer::Connect(const std::string& address, void* zmq_context,
                                                      const std::optional<AgentKeys>& keys) {
  Result<std::string> full = ZmqAddress(address);
  if (!full) return Error{full.error()};
  if (full->starts_with("tcp://")) full = Resolve(*full, keys.has_value());
  if (!full) return Error{full.error()};
  std::unique_ptr<ZmqDealer> dealer(new ZmqDealer);
  State& s = *dealer->state_;
  s.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (s.wake_fd < 0) return Error{std::string("eventfd: ") + std::strerror(errno)};
  try {
    if (zmq_context == nullptr) s.own_context.emplace(1);
    zmq::context_t& context =
        zmq_context != nullptr ? *static_cast<zmq::context_t*>(zmq_context) : *s.own_context;
    s.socket = zmq::socket_t(context, zmq::socket_type::dealer);
    s.socket.set(zmq::sockopt::linger, 0);
    s.keys = keys;
    if (keys) {
      s.socket.set(zmq::sockopt::curve_serverkey, keys->collector.key);
      s.socket.set(zmq::sockopt::curve_publickey, keys->own.public_key.key);
      s.socket.set(zmq::sockopt::curve_secretkey, keys->own.secret);
    }
    s.socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    // Messages go to established connections only, so that none piles up for a collector that is away.
    s.socket.set(zmq::sockopt::immediate, true);
    s.socket.set(zmq::sockopt::sndhwm, static_cast<int>(2 * limits::kCreditBatches));
    s.socket.set(zmq::sockopt::maxmsgsize, kMaxAnswerBytes);
    s.socket.set(zmq::sockopt::ipv6, true);
    s.socket.set(zmq::sockopt::reconnect_ivl, 100);
    s.socket.set(zmq::sockopt::reconnect_ivl_max, 2000);
    s.socket.set(zmq::sockopt::heartbeat_ivl, 3000);
    s.socket.set(zmq::sockopt::heartbeat_timeout, 10000);
    if (!full->starts_with("inproc://")) {
      const Status watched = s.Watch(context);
      if (!watched.ok()) return Error{"collector '" + address + "': " + watched.error()};
    }
    s.connected_to = *full;
    s.socket.connect(*full);
  } catch (const zmq::error_t& e) {
    return Error{"collector '" + address + "': " + e.what()};
  }
  return dealer;
}

bool ZmqDealer::Send(const std::string& message) {
  try {
    return state_->socket.send(zmq::buffer(message), zmq::send_flags::dontwait).has_value();
  } catch (const zmq::error_t&) {
    return false;  // a context that ends; the owner gives up by time
  }
}

bool ZmqDealer::Receive(Bytes& message) {
  try {
    if (!state_->socket.recv(state_->received, zmq::recv_flags::dontwait)) return false;
  } catch (const zmq::error_t&) {
    return false;
  }
  message = Bytes(static_cast<const uint8_t*>(state_->received.data()), state_->received.size());
  return true;
}

void ZmqDealer::Wait(int timeout_ms, bool until_can_send) {
  const int events = ZMQ_POLLIN | (until_can_send ? ZMQ_POLLOUT : 0);
  zmq_pollitem_t items[2] = {{state_->socket.handle(), 0, static_cast<short>(events), 0},
                             {nullptr, state_->wake_fd, ZMQ_POLLIN, 0}};
  // The C call: cppzmq's throws on a signal.
  const int ready = zmq_poll(items, 2, timeout_ms);
  if (state_->monitor != nullptr) {
    state_->TakeEvents();
    state_->TryAgain();
  }
  if (ready <= 0 || items[1].revents == 0) return;
  uint64_t n = 0;
  (void)!read(state_->wake_fd, &n, sizeof n);
}

void ZmqDealer::Wake() {
  const uint64_t n = 1;
  (void)!write(state_->wake_fd, &n, sizeof n);
}

ZmqDealer::Link ZmqDealer::link() const {
  return state_->link;
}

const std::string& ZmqDealer::trouble() const {
  return state_->trouble;
}

}  // namespace keytrail
