// ZmqDealer: a DEALER socket and a way to wake the thread that waits on it. Where cppzmq's exceptions end.
//
// One thread owns it; Wake() alone may be called from any.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/bytes.h"
#include "common/curve_key.h"
#include "common/result.h"

namespace keytrail {

// "HOST:PORT" becomes "tcp://HOST:PORT"; tcp, ipc and inproc addresses stay. Error: neither.
Result<std::string> ZmqAddress(const std::string& address);

class ZmqDealer {
 public:
  // zmq_context: a zmq::context_t of this process, for inproc://; null: an own one. Without `keys` what is
  // sent is plain text: then only tcp addresses of this host (names of which mean nothing else), ipc and
  // inproc will do. Error: the address and why.
  static Result<std::unique_ptr<ZmqDealer>> Connect(const std::string& address, void* zmq_context,
                                                    const std::optional<AgentKeys>& keys = {});
  ~ZmqDealer();

  // False if there is no connection or its buffer is full: try again when CanSend.
  bool Send(const std::string& message);
  // False if nothing has arrived. The bytes live until the next call.
  bool Receive(Bytes& message);
  // Until a message arrives, Wake() was called, `until_can_send` came true, or the time is over.
  void Wait(int timeout_ms, bool until_can_send);
  void Wake();
  // Why there is no connection to speak through, as far as the other end or the system says; empty if there
  // is one, or nothing is known. As of the last Wait().
  const std::string& trouble() const;
  // The same for programs. As of the last Wait(); inproc stays kNothingYet.
  enum class Link : uint8_t { kNothingYet, kUp, kAway, kHandshakeEnded, kNotAdmitted };
  Link link() const;

 private:
  ZmqDealer();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
