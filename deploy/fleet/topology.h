// The hosts of a fleet, read from a TiUP topology or from an inventory of plain hosts.
//
// Pure: text in, hosts out; an Error names file, line and column. Keys that are not known are passed over, as
// files of other releases have more of them; a value of a wrong type is an Error. Of TiUP it is known what
// pkg/cluster/spec of github.com/pingcap/tiup says (tiup.cc names the files); docs/fleet.md has the
// inventory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/result.h"

namespace keytrail {

// How commands get to a host.
struct FleetAccess {
  bool local = false;            // on this machine, for tests and for the collector beside its user
  std::vector<std::string> run;  // local: what stands before each command, e.g. nsenter --net=… --
  std::string ssh_host;
  std::string ssh_user;  // empty: ssh's own choice
  int ssh_port = 0;      // 0: ssh's own choice
};

inline FleetAccess OnThisMachine() {
  FleetAccess access;
  access.local = true;
  return access;
}

struct FleetHost {
  std::string name;     // unique, and fit for a file and a key: IsKeyName
  std::string address;  // as in the file
  FleetAccess access;
  std::vector<std::string> components;  // "tikv", "pd", … of a TiUP topology
  std::vector<uint16_t> ports;          // that it serves gRPC at
  std::string device = "any";
  std::string filter;  // BPF, instead of all hosts' ports
  std::string dir;     // above its folder; empty: the fleet's
  std::string arch = "amd64";
};

// Where the agents ship to. Empty members: not said.
struct FleetCollector {
  bool start = false;   // by the fleet; else one that runs already
  std::string address;  // that agents connect to
  std::string listen;
  std::string query;
  std::string data;
  std::string program;
  std::string server_key;  // of one that runs: its .pub file, on this machine
  std::string admitted;    // of one that runs: its folder of admitted keys, on its host
  std::string dir;
  FleetAccess access = OnThisMachine();
};

struct Topology {
  bool tiup = false;
  std::vector<FleetHost> hosts;
  FleetCollector collector;
  std::vector<std::string> notes;  // what a person should know of what was read
};

Result<Topology> ReadTopology(const std::string& text, const std::string& path);

// Fit to be a word of ssh's: a name or an address, and not an option.
bool IsHostWord(const std::string& text);
bool IsUserWord(const std::string& text);

}  // namespace keytrail
