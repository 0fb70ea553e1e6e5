// The door of a ROUTER socket: who comes in, who stays, and who is put out.
//
// A thread of its own, so that handshakes are answered while the receiver writes or judges:
// - With keys it is libzmq's ZAP handler (https://rfc.zeromq.org/spec/27): only keys of the list finish the
// handshake.
//   Without a handler libzmq lets any key in; the socket enforces the domain, so that a handler that is gone
//   means nobody. The list is read again when it changes.
// - It knows each connection from libzmq's monitor events, and ends those that say no Hello in time, that are
// too
//   many, or that the receiver wants ended. libzmq has no call for that: the socket of the connection is shut
//   down, after a look that it still is one of ours.
//
// libzmq's rules: ZAP handlers are one a context and must be bound before the first handshake; the socket of
// the monitor must not go before the monitor does, or libzmq's own thread would wait for ever. Hence the
// order: Open(), bind the socket, ... , zmq_socket_monitor(socket, nullptr, 0), end of the Door, close the
// socket. cppzmq and its exceptions stay inside.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "collector/receive/admitted_keys.h"
#include "common/result.h"

namespace keytrail {

// What the router's options and the handler agree on.
inline constexpr char kZapDomain[] = "keytrail";

struct DoorStats {
  uint64_t connections = 0;         // accepted
  uint64_t keys_admitted = 0;       // handshakes with a listed key
  uint64_t keys_denied = 0;         // handshakes with a key that is not listed, or revoked
  uint64_t handshakes_failed = 0;   // plain text, garbage, no end in time, another server key
  uint64_t left_without_hello = 0;  // went, or claimed a message beyond kMaxWireMessageBytes, before a Hello
  uint64_t put_out_silent = 0;      // no Hello in time
  uint64_t put_out_crowd = 0;       // no Hello, and too many of these
  uint64_t put_out_wanted = 0;      // by PutOut(): revoked, or nothing but garbage
  uint64_t accepts_failed = 0;      // no file descriptor left, as a rule
};

class Door {
 public:
  // Before the socket is bound, on its thread. `context` and `socket` are libzmq's; `keys` may be null (no
  // ZAP), and outlives the Door otherwise. Error: another ZAP handler is there, or no thread can be had.
  static Result<std::unique_ptr<Door>> Open(void* context, void* socket, AdmittedKeys* keys);
  // After zmq_socket_monitor(socket, nullptr, 0).
  ~Door();

  // Of the receiver's thread. `fd` is that of the connection a message came over (-1: none, as with inproc).
  // The address that the socket got.
  void BoundTo(const std::string& address);
  // This connection's agent said Hello and was welcomed.
  void Welcomed(int fd);
  // A message that is none; the connection ends after some of them.
  void Malformed(int fd);
  // Ends the connection soon: what was sent to it may still leave.
  void PutOut(int fd);
  // The receiver has nothing to do: whoever said Hello so far was heard.
  void AllHeard();
  std::string AddressOf(int fd) const;

  // A sentence for people; only so many as limits::kNoticeEveryNs allows are told, the others counted.
  void Notice(const std::string& text);
  std::vector<std::string> TakeNotices();
  DoorStats stats() const;

 private:
  Door();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
