#include "agent/ship/zmq_dealer.h"

#include <netdb.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <zmq.hpp>

#include "common/limits.h"

namespace keytrail {

namespace {

// What a collector sends is small; anything else is not one.
constexpr int64_t kMaxAnswerBytes = 1 << 20;

// The host's name must be known to the name service now: libzmq would try for ever without a word.
Status CheckHost(const std::string& address) {
  const std::string rest = address.substr(std::strlen("tcp://"));
  const size_t colon = rest.rfind(':');
  std::string host = rest.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), rest.c_str() + colon + 1, nullptr, &found);
  if (failed != 0) return Error{"collector '" + address + "': " + gai_strerror(failed)};
  freeaddrinfo(found);
  return Done{};
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
};

ZmqDealer::ZmqDealer() : state_(std::make_unique<State>()) {}

ZmqDealer::~ZmqDealer() {
  if (state_->wake_fd >= 0) close(state_->wake_fd);
}

Result<std::unique_ptr<ZmqDealer>> ZmqDealer::Connect(const std::string& address, void* zmq_context) {
  Result<std::string> full = ZmqAddress(address);
  if (!full) return Error{full.error()};
  if (full->starts_with("tcp://")) {
    const Status known = CheckHost(*full);
    if (!known.ok()) return Error{known.error()};
  }
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
    // Messages go to established connections only, so that none piles up for a collector that is away.
    s.socket.set(zmq::sockopt::immediate, true);
    s.socket.set(zmq::sockopt::sndhwm, static_cast<int>(2 * limits::kCreditBatches));
    s.socket.set(zmq::sockopt::maxmsgsize, kMaxAnswerBytes);
    s.socket.set(zmq::sockopt::ipv6, true);
    s.socket.set(zmq::sockopt::reconnect_ivl, 100);
    s.socket.set(zmq::sockopt::reconnect_ivl_max, 2000);
    s.socket.set(zmq::sockopt::heartbeat_ivl, 3000);
    s.socket.set(zmq::sockopt::heartbeat_timeout, 10000);
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
  if (zmq_poll(items, 2, timeout_ms) <= 0 || items[1].revents == 0) return;
  uint64_t n = 0;
  (void)!read(state_->wake_fd, &n, sizeof n);
}

void ZmqDealer::Wake() {
  const uint64_t n = 1;
  (void)!write(state_->wake_fd, &n, sizeof n);
}

}  // namespace keytrail
