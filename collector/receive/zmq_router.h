// ZmqRouter: a bound ROUTER socket with its Door. Where cppzmq's exceptions end.
//
// Not thread-safe; may be made on one thread and used on another.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "collector/receive/admitted_keys.h"
#include "collector/receive/door.h"
#include "common/bytes.h"
#include "common/curve_key.h"
#include "common/result.h"

namespace keytrail {

class ZmqRouter {
 public:
  // address as libzmq takes it. zmq_context: a zmq::context_t that outlives the router; null: an own one.
  // With `key` everything is encrypted, and `admitted` (which outlives the router) says who may come in; both
  // or neither. Error: the address and why.
  static Result<std::unique_ptr<ZmqRouter>> Bind(const std::string& address, void* zmq_context,
                                                 const SecretKey* key, AdmittedKeys* admitted);
  ~ZmqRouter();

  // The address with the port that was chosen.
  const std::string& address() const;
  void* context();
  // Null for inproc, which only this process reaches.
  Door* door();

  enum class Received : uint8_t { kNothing, kMessage, kMalformed };  // malformed: not one frame
  // Does not wait. Both live until the next call.
  Received Receive(Bytes& identity, Bytes& message);
  // Of what was received last: the descriptor of its connection (-1: none), and the public key (Z85) that its
  // sender proved to have; empty without keys.
  int sender_fd() const;
  const std::string& sender_key() const;
  // Does not wait: what a slow peer does not take is dropped, it will ask again.
  void Send(Bytes identity, const std::string& message);
  // Until a message is there, the time is over or a signal came.
  void Wait(int timeout_ms);

 private:
  ZmqRouter();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
