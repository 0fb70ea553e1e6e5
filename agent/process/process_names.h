// Names of the processes at the ends of connections on this host, found by a small process of its own.
//
// That process is made before the agent gives up its rights, and keeps the two capabilities that /proc/PID/fd
// of other users takes, and nothing else (common/confinement.h, ConfineLookup). It hears addresses and says
// numbers and names. The agent asks once a connection and never waits: what is not known yet is not known.
// One thread. The process ends with the agent.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "agent/process/process_lookup.h"
#include "common/call_record.h"
#include "common/confinement.h"
#include "common/result.h"

namespace keytrail {

class ProcessNames {
 public:
  // While there is one thread, and before anything is opened that the other process should not have. Error:
  // why there can be no names.
  static Result<std::unique_ptr<ProcessNames>> Start(const Account& account);
  ~ProcessNames();
  ProcessNames(const ProcessNames&) = delete;
  ProcessNames& operator=(const ProcessNames&) = delete;

  // False: only processes of the agent's own user are found.
  bool sees_all() const { return sees_all_; }

  // What is known of the call's connection; asks if it is new.
  void Fill(CallRecord& call);
  // Takes what has been answered; now and then. `tell` hears each process that was found.
  void Attend(const std::function<void(const Endpoint&, const ProcessName&)>& tell);

 private:
  struct Ends {
    Endpoint first;  // of the two, whatever it is
    ProcessName processes[2];
    Endpoint second;
    uint8_t asked = 0;
  };

  ProcessNames(int socket, pid_t child) : socket_(socket), child_(child) {}
  void Ask(uint64_t connection, Ends& ends);

  const int socket_;
  const pid_t child_;
  bool sees_all_ = false;
  std::unordered_map<uint64_t, Ends> connections_;
};

}  // namespace keytrail
