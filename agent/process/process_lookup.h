// Which process of this host has the socket of a connection: sock_diag(7), and /proc/PID/fd of all processes.
//
// Runs in a process of its own, which keeps the rights for it (process_names.h). Of this network and process
// namespace. Never a guess: a socket that several processes have, or one that was closed, has none.
#pragma once

#include <cstdint>
#include <vector>

#include "common/call_record.h"
#include "common/flow_key.h"

namespace keytrail {

struct ProcessQuestion {
  uint64_t id = 0;
  Endpoint local;
  Endpoint remote;
};
struct ProcessAnswer {
  uint64_t id = 0;
  ProcessName process;
};

// Answers in the order of the questions. `diag`: an open NETLINK_SOCK_DIAG socket.
std::vector<ProcessAnswer> LookUp(int diag, const std::vector<ProcessQuestion>& questions);

// Reads questions from a SOCK_SEQPACKET socket and answers them, until it is closed. Several that come within
// a tenth of a second are answered together; at most a tenth of its time is spent looking.
void ServeLookups(int questions, int diag);

}  // namespace keytrail
