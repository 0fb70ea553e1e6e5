// The doctor: everything that an agent with these options needs of its host, looked at one by one.
//
// `keytrail-agent --doctor` calls it where an agent would run, as the user that would start it. It opens what
// the agent opens, in the agent's order, gives up the same rights, looks at live traffic for a while, and
// changes nothing: no file is written, nothing is sent but a heartbeat that no collector keeps. Bounded in
// time: the look, and some 15 s for a collector that does not answer.
//
// To be called while there is one thread; the process has given up its rights afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/capture/packet_source.h"
#include "common/result.h"

namespace keytrail {

struct DoctorOptions {
  std::vector<std::string> devices;
  std::string filter;
  std::string ports;  // what is captured instead of a filter: --ports, for people
  std::function<Result<std::unique_ptr<PacketSource>>()> open;  // as the agent opens it
  std::function<Status()> load_schema;
  uint64_t ring_bytes = 0;  // what it asks for, of all devices
  std::string collector;
  std::string key_file;
  std::string server_key_file;
  bool redact = false;
  std::string redact_secret;
  std::string spool;
  uint64_t spool_bytes = 0;
  std::string user;
  std::string metrics;
  std::string write_file;
  int64_t look_ns = 5'000'000'000;
  bool json = false;
};

// Prints to stdout. The exit status of `keytrail doctor`: 0, 1 faults, 3 warnings alone.
int RunDoctor(const DoctorOptions& options);

}  // namespace keytrail
