// The command line of `keytrail fleet`: what was typed, what an earlier start left in the state folder, and
// what follows from where this program lies.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/result.h"
#include "deploy/fleet/plan.h"
#include "deploy/fleet/state_folder.h"
#include "deploy/fleet/topology.h"

namespace keytrail {

struct FleetArguments {
  FleetOptions options;
  std::string state;
  // By option; remembered from start to stop, since they say where things are.
  std::map<std::string, std::string> places;
  std::vector<std::string> ssh_options;
  bool collector_start = false;
  bool dry_run = false;
  bool json = false;
};

// Options that each verb has, those that say where things are, and those of a start.
void AddFleetOptions(CLI::App& command, FleetArguments& arguments);
void AddStartOptions(CLI::App& command, FleetArguments& arguments);

// Reads the file, and fills in `arguments.options`. `saved` is StateFolder::SavedOptions(). Error: the file
// or an option is wrong.
Result<Topology> ReadFleet(FleetArguments& arguments, const std::map<std::string, std::string>& saved);
// What start must leave for the other verbs.
std::map<std::string, std::string> OptionsToSave(const FleetArguments& arguments);
// The agent's archive: its checksum and size. Error: there is none, and how to make it.
Status FindArchive(FleetOptions& options);
std::string StatePathOf(const FleetArguments& arguments);

}  // namespace keytrail
