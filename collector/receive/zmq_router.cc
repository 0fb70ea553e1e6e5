#include "collector/receive/zmq_router.h"

#include <optional>
#include <zmq.hpp>

#include "common/limits.h"

namespace keytrail {

namespace {

// ZMQ_ZAP_ENFORCE_DOMAIN: zmq.h names it in builds with drafts only, but every libzmq 4.3 takes it.
constexpr int kZapEnforceDomain = 93;

}  // namespace

struct ZmqRouter::State {
  std::optional<zmq::context_t> own_context;
  zmq::context_t* context = nullptr;
  zmq::socket_t socket;
  std::unique_ptr<Door> door;
  std::string address;
  zmq::message_t identity;
  zmq::message_t message;
  int sender_fd = -1;
  std::string sender_key;

  void NoteSender(zmq::message_t& from);
};

// What libzmq knows of the connection that a frame came over.
void ZmqRouter::State::NoteSender(zmq::message_t& from) {
  sender_fd = zmq_msg_get(from.handle(), ZMQ_SRCFD);
  // The Door's answer to the handshake.
  const char* key = zmq_msg_gets(from.handle(), "User-Id");
  sender_key = key == nullptr ? "" : key;
}

ZmqRouter::ZmqRouter() : state_(std::make_unique<State>()) {}
ZmqRouter::~ZmqRouter() {
  // The order that door.h gives.
  if (state_->door != nullptr) zmq_socket_monitor(state_->socket.handle(), nullptr, 0);
}

const std::string& ZmqRouter::address() const {
  return state_->address;
}
void* ZmqRouter::context() {
  return state_->context;
}
Door* ZmqRouter::door() {
  return state_->door.get();
}
int ZmqRouter::sender_fd() const {
  return state_->sender_fd;
}
const std::string& ZmqRouter::sender_key() const {
  return state_->sender_key;
}

Result<std::unique_ptr<ZmqRouter>> ZmqRouter::Bind(const std::string& address, void* zmq_context,
                                                   const SecretKey* key, AdmittedKeys* admitted) {
  std::unique_ptr<ZmqRouter> router(new ZmqRouter);
  State& s = *router->state_;
  try {
    s.context = static_cast<zmq::context_t*>(zmq_context);
    if (s.context == nullptr) s.context = &s.own_context.emplace(1);
    s.socket = zmq::socket_t(*s.context, zmq::socket_type::router);
    // The last acknowledgements still leave when the collector ends.
    s.socket.set(zmq::sockopt::linger, 500);
    s.socket.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(limits::kMaxWireMessageBytes));
    s.socket.set(zmq::sockopt::rcvhwm, static_cast<int>(2 * limits::kCreditBatches));
    // Only when asked for: an IPv4 address would become a mapped one.
    s.socket.set(zmq::sockopt::ipv6, address.find('[') != std::string::npos);
    s.socket.set(zmq::sockopt::heartbeat_ivl, 5000);
    s.socket.set(zmq::sockopt::heartbeat_timeout, 15000);
    s.socket.set(zmq::sockopt::handshake_ivl, limits::kMaxHandshakeMs);
    if (key != nullptr) {
      s.socket.set(zmq::sockopt::curve_server, true);
      s.socket.set(zmq::sockopt::curve_secretkey, key->secret);
      s.socket.set(zmq::sockopt::zap_domain, kZapDomain);
      // Without a handler nobody comes in, instead of everybody.
      const int enforce = 1;
      if (zmq_setsockopt(s.socket.handle(), kZapEnforceDomain, &enforce, sizeof enforce) != 0) {
        return Error{"cannot listen on '" + address + "': this libzmq does not insist on checked keys"};
      }
    }
    if (!address.starts_with("inproc://")) {
      Result<std::unique_ptr<Door>> door =
          Door::Open(s.context->handle(), s.socket.handle(), key != nullptr ? admitted : nullptr);
      if (!door) return Error{"cannot listen on '" + address + "': " + door.error()};
      s.door = std::move(*door);
    }
    s.socket.bind(address);
    s.address = s.socket.get(zmq::sockopt::last_endpoint);
    if (s.door != nullptr) s.door->BoundTo(s.address);
  } catch (const zmq::error_t& e) {
    return Error{"cannot listen on '" + address + "': " + e.what()};
  }
  return router;
}

ZmqRouter::Received ZmqRouter::Receive(Bytes& identity, Bytes& message) {
  State& s = *state_;
  try {
    if (!s.socket.recv(s.identity, zmq::recv_flags::dontwait)) return Received::kNothing;
    identity = Bytes(static_cast<const uint8_t*>(s.identity.data()), s.identity.size());
    s.NoteSender(s.identity);
    message = {};
    // Parts of one message arrive together.
    int parts = 0;
    while (s.socket.get(zmq::sockopt::rcvmore)) {
      if (!s.socket.recv(s.message, zmq::recv_flags::dontwait)) break;
      ++parts;
    }
    if (parts > 0) s.NoteSender(s.message);
    if (parts != 1) return Received::kMalformed;
    message = Bytes(static_cast<const uint8_t*>(s.message.data()), s.message.size());
    return Received::kMessage;
  } catch (const zmq::error_t&) {
    return Received::kNothing;
  }
}

void ZmqRouter::Send(Bytes identity, const std::string& message) {
  try {
    const zmq::const_buffer to = zmq::buffer(identity.data(), identity.size());
    if (state_->socket.send(to, zmq::send_flags::sndmore | zmq::send_flags::dontwait)) {
      (void)state_->socket.send(zmq::buffer(message), zmq::send_flags::dontwait);
    }
  } catch (const zmq::error_t&) {
    // The peer is gone.
  }
}

void ZmqRouter::Wait(int timeout_ms) {
  zmq_pollitem_t item = {state_->socket.handle(), 0, ZMQ_POLLIN, 0};
  (void)zmq_poll(&item, 1, timeout_ms);  // the C call: cppzmq's throws on a signal
}

}  // namespace keytrail
