#include "collector/receive/zmq_router.h"

#include <optional>
#include <zmq.hpp>

#include "common/limits.h"

namespace keytrail {

struct ZmqRouter::State {
  std::optional<zmq::context_t> own_context;
  zmq::context_t* context = nullptr;
  zmq::socket_t socket;
  std::string address;
  zmq::message_t identity;
  zmq::message_t message;
};

ZmqRouter::ZmqRouter() : state_(std::make_unique<State>()) {}
ZmqRouter::~ZmqRouter() = default;

const std::string& ZmqRouter::address() const {
  return state_->address;
}
void* ZmqRouter::context() {
  return state_->context;
}

Result<std::unique_ptr<ZmqRouter>> ZmqRouter::Bind(const std::string& address, void* zmq_context) {
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
    s.socket.bind(address);
    s.address = s.socket.get(zmq::sockopt::last_endpoint);
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
    message = {};
    // Parts of one message arrive together.
    int parts = 0;
    while (s.socket.get(zmq::sockopt::rcvmore)) {
      if (!s.socket.recv(s.message, zmq::recv_flags::dontwait)) break;
      ++parts;
    }
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
