// The plan of a fleet: which commands are run where, for each verb. Pure; what a plan says is what is run.
//
// A host has a folder DIR/keytrail-fleet-NAME, and so has the collector. Every command on a host is host.sh
// with a verb, given to `sh -s` on stdin, or takes one file in. Secrets go over stdin, and are in no command.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "deploy/fleet/command.h"
#include "deploy/fleet/topology.h"

namespace keytrail {

struct FleetOptions {
  std::string file;      // the topology's, for people
  std::string state;     // folder on this machine, an absolute path: host.sh and keys/
  std::string keytrail;  // the program that makes keys
  std::string archive;   // of the agent
  std::string archive_sha256;
  uint64_t archive_bytes = 0;
  std::string agent_program;      // on this machine, for --drain
  std::string collector_program;  // on this machine, if it is there

  std::string dir = "/var/lib";
  std::string sudo = "auto";  // auto: over ssh, unless as root; always; never
  std::string ssh = "ssh";
  std::string ssh_config;
  std::vector<std::string> ssh_options;  // -o of ssh
  int jobs = 16;
  int timeout_s = 60;         // of a command
  int push_timeout_s = 600;   // of one that brings the archive or fetches
  int grace_s = 90;           // that an agent has to end; it ships what it has
  int64_t duration_s = 1800;  // of the agents
  int64_t give_up_after_s = 600;
  int64_t linger_s = 600;  // of a started collector, behind the agents
  uint64_t spool_bytes = 0;
  std::string redact_secret;
  std::vector<std::string> agent_options;
  bool leave_nothing = false;
  bool replace = false;
  bool rollback = false;
  bool discard = false;
  bool keep_collector = false;
  bool drain = false;
  std::string into;  // of collect: a folder on this machine
};

enum class StepKind : uint8_t { kHere, kPrepare, kArchive, kPut, kAdmit, kLaunch };

struct Step {
  StepKind kind = StepKind::kHere;
  Command command;
  std::string why;  // "not if it is there already"; empty: nothing to say
};

// What is done for a host, or for the collector.
struct UnitPlan {
  std::string name;
  std::string address;
  FleetAccess access;
  std::string folder;
  std::string about;    // "tidb, tikv; captures with …", for people
  std::string refused;  // not empty: this host cannot be done, and why
  std::vector<Step> steps;
};

struct FleetPlan {
  std::vector<Step> setup;
  std::optional<UnitPlan> collector;  // only if the fleet starts it
  std::vector<UnitPlan> hosts;
  std::vector<std::string> notes;
};

// What the collector is in the end: defaults filled in. Error: something is missing, and what to say.
Result<FleetCollector> CompleteCollector(const Topology& topology, const FleetOptions& options);

// The fleet's `start`.
Result<FleetPlan> PlanStart(const Topology& topology, const FleetOptions& options);
// Folders alone, without steps: for the other verbs. Hosts of a foreign arch are left out.
Result<FleetPlan> PlanPlaces(const Topology& topology, const FleetOptions& options);

// host.sh with `verb` and its arguments, on the host of the unit.
Command OnHost(const UnitPlan& unit, const FleetOptions& options, const std::string& verb,
               const std::vector<std::string>& arguments);
// `words` there, with stdin from a file.
Command WordsOn(const FleetAccess& access, const FleetOptions& options,
                const std::vector<std::string>& words);

Command StopCommand(const UnitPlan& unit, const FleetOptions& options);
Command StatusCommand(const UnitPlan& unit, const FleetOptions& options);
// Takes the key of a host out of a running collector's folder.
Command UnadmitCommand(const FleetCollector& collector, const FleetOptions& options, const std::string& name);

// A shell script, with comments.
std::string PlanText(const FleetPlan& plan, const FleetOptions& options);

// What an agent captures: the ports of all hosts, since the client's end of a call has the server's port,
// too.
std::vector<std::string> CaptureOf(const Topology& topology, const FleetHost& host);
// Of a host's key, and of the collector's.
std::string KeyNameOf(const std::string& host_name);

}  // namespace keytrail
