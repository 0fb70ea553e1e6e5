// Does what a plan says: each verb of `keytrail fleet`, on all hosts at once.
//
// A Fleet is used by one thread; it runs up to `jobs` hosts at a time on threads of its own, which call
// `told` one at a time. Interrupt() may be called from any thread: hosts that are not begun are left, those
// under way end after the command that runs; called again, these commands are ended as well. What fails is in
// the results, with what to do.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/result.h"
#include "deploy/fleet/advice.h"
#include "deploy/fleet/command.h"
#include "deploy/fleet/host_facts.h"
#include "deploy/fleet/plan.h"
#include "deploy/fleet/state_folder.h"
#include "deploy/fleet/topology.h"

namespace keytrail {

enum class Outcome { kNotBegun, kDone, kAlready, kKept, kFailed };

struct HostResult {
  std::string name;
  std::string address;
  Outcome outcome = Outcome::kNotBegun;
  std::string said;        // "started, pid 4711"
  std::string what_to_do;  // if it failed
  HostFacts facts;
  double seconds = 0;
};

struct FleetResult {
  std::string failure;  // not empty: it ended before the hosts, and why
  std::string what_to_do;
  std::vector<HostResult> units;  // the collector, if the fleet starts it, and then the hosts
  bool interrupted = false;
  bool AllWell() const;
};

class Fleet {
 public:
  using Told = std::function<void(const HostResult&, size_t done, size_t of)>;
  Fleet(Topology topology, FleetOptions options, StateFolder& state, Told told);

  FleetResult Start();
  FleetResult Look();
  FleetResult Stop();
  FleetResult Collect();
  void Interrupt() { runner_.Cancel(); }

 private:
  using Work = std::function<void(const UnitPlan&, Runner&, HostResult&)>;
  void ForEach(const std::vector<UnitPlan>& units, Runner& runner, const Work& work,
               std::vector<HostResult>& results);
  void One(const UnitPlan& unit, Runner& runner, const Work& work, HostResult& result);
  std::string Setup(const FleetPlan& plan);
  void StartUnit(const UnitPlan& unit, Runner& runner, HostResult& result);
  void StopUnit(const UnitPlan& unit, Runner& runner, HostResult& result);
  void StatusUnit(const UnitPlan& unit, Runner& runner, HostResult& result);
  void CollectUnit(const UnitPlan& unit, Runner& runner, HostResult& result);
  bool FetchSpool(const UnitPlan& unit, Runner& runner, const std::string& into, HostResult& result);
  void DrainUnit(const UnitPlan& unit, Runner& runner, const std::string& into, HostResult& result);
  void RollBack(const FleetPlan& plan, FleetResult& result);
  bool ForgetKey(const UnitPlan& unit, const FleetCollector& collector, HostResult& result);
  void Forget(const FleetPlan& plan, FleetResult& result);
  bool RunStep(const Command& command, const UnitPlan& unit, Runner& runner, HostResult& result,
               HostFacts* facts);

  const Topology topology_;
  const FleetOptions options_;
  StateFolder& state_;
  const Told told_;
  Runner runner_;
  std::vector<std::string> new_keys_;  // made by this start
};

}  // namespace keytrail
