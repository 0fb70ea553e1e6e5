// `keytrail fleet`: agents on all hosts of a cluster and a collector, for a bounded time.

#include "deploy/fleet/fleet.h"

#include <cstdio>
#include <memory>

#include "collector/cli/commands.h"
#include "collector/cli/fleet_options.h"
#include "collector/cli/fleet_output.h"
#include "collector/cli/interrupt.h"
#include "collector/cli/terminal.h"
#include "common/shell_word.h"
#include "deploy/fleet/host_script.h"

namespace keytrail {

namespace {

int FailFleet(const std::string& message) {
  return Fail("fleet: " + message);
}

void TellHost(const HostResult& host, size_t done, size_t of) {
  std::fprintf(stderr, "keytrail fleet: [%zu/%zu] %s", done, of, HostLine(host).c_str());
}

// 0: as wanted; 3: not on all hosts, and which was told; 1: nothing came of it.
int ExitOf(const FleetResult& result) {
  if (result.AllWell()) return kExitDone;
  if (result.interrupted) return kExitIncomplete;
  for (const HostResult& unit : result.units) {
    const bool host = unit.name != "collector";
    if (host && unit.outcome != Outcome::kFailed && unit.outcome != Outcome::kNotBegun) {
      return kExitIncomplete;
    }
  }
  return kExitFailed;
}

// Runs a verb; Ctrl-C is heard meanwhile.
FleetResult RunInterruptibly(Fleet& fleet, FleetResult (Fleet::*verb)()) {
  bool told = false;
  const Interrupt interrupt([&fleet, &told] {
    std::fputs(told ? "keytrail fleet: ending the commands that run\n"
                    : "keytrail fleet: interrupted: begins nothing more, and waits for the commands that run "
                      "(again: ends them)\n",
               stderr);
    told = true;
    fleet.Interrupt();
  });
  return (fleet.*verb)();
}

int Finish(const FleetResult& result, const std::string& verb) {
  std::fputs(SummaryOf(result, verb).c_str(), stderr);
  return ExitOf(result);
}

int RunPlan(FleetArguments& arguments) {
  const StateFolder state(StatePathOf(arguments));
  const Result<Topology> topology = ReadFleet(arguments, state.SavedOptions());
  if (!topology) return FailFleet(topology.error());
  const Status archive = FindArchive(arguments.options);
  if (!archive.ok()) return FailFleet(archive.error());
  const Result<FleetPlan> plan = PlanStart(*topology, arguments.options);
  if (!plan) return FailFleet(plan.error());
  if (!WriteOut(PlanText(*plan, arguments.options))) return FailFleet("standard output: cannot write");
  int status = kExitDone;
  for (const UnitPlan& host : plan->hosts) {
    if (host.refused.empty()) continue;
    FailFleet(host.name + ": " + host.refused);
    status = kExitIncomplete;
  }
  return status;
}

int RunStart(FleetArguments& arguments) {
  if (arguments.dry_run) return RunPlan(arguments);
  StateFolder state(StatePathOf(arguments));
  const Result<Topology> topology = ReadFleet(arguments, state.SavedOptions());
  if (!topology) return FailFleet(topology.error());
  const Status archive = FindArchive(arguments.options);
  if (!archive.ok()) return FailFleet(archive.error());
  if (const Result<FleetPlan> plan = PlanStart(*topology, arguments.options); !plan)
    return FailFleet(plan.error());
  const Status locked = state.Lock();
  if (!locked.ok()) return FailFleet(locked.error());
  const Status saved = state.SaveOptions(OptionsToSave(arguments));
  if (!saved.ok()) return FailFleet(saved.error());
  for (const std::string& note : topology->notes)
    std::fprintf(stderr, "keytrail fleet: note: %s\n", note.c_str());
  Fleet fleet(*topology, arguments.options, state, TellHost);
  const FleetResult result = RunInterruptibly(fleet, &Fleet::Start);
  return Finish(result, "start");
}

// status, stop and collect work on what start left.
struct Opened {
  std::unique_ptr<StateFolder> state;
  Topology topology;
  bool was_there = false;
};

Result<Opened> Open(FleetArguments& arguments, bool changes) {
  Opened opened;
  opened.state = std::make_unique<StateFolder>(StatePathOf(arguments));
  opened.was_there = opened.state->there();
  Result<Topology> topology = ReadFleet(arguments, opened.state->SavedOptions());
  if (!topology) return Error{topology.error()};
  opened.topology = std::move(*topology);
  if (arguments.dry_run) return opened;
  if (changes || !opened.was_there) {
    const Status locked = opened.state->Lock();
    if (!locked.ok()) return Error{locked.error()};
  }
  const Status written = opened.state->WriteScript();
  if (!written.ok()) return Error{written.error()};
  return opened;
}

// What status, or a look that changed nothing, made for itself.
void CloseAfterLook(Opened& opened) {
  if (!opened.was_there) (void)opened.state->Remove();
}

int RunStatus(FleetArguments& arguments) {
  Result<Opened> opened = Open(arguments, false);
  if (!opened) return FailFleet(opened.error());
  Fleet fleet(opened->topology, arguments.options, *opened->state, nullptr);
  const FleetResult result = RunInterruptibly(fleet, &Fleet::Look);
  CloseAfterLook(*opened);
  if (!WriteOut(arguments.json ? StatusJson(result) : StatusTable(result))) {
    return FailFleet("standard output: cannot write");
  }
  for (const HostResult& unit : result.units) {
    if (unit.outcome == Outcome::kFailed) std::fprintf(stderr, "keytrail fleet: %s", HostLine(unit).c_str());
  }
  return ExitOf(result);
}

int PrintCommands(const Opened& opened, const FleetOptions& options) {
  const Result<FleetPlan> plan = PlanPlaces(opened.topology, options);
  if (!plan) return FailFleet(plan.error());
  std::string text =
      ShellWords({options.keytrail, "fleet", "script"}) + " >" + ShellWord(options.state + "/host.sh") + "\n";
  for (const UnitPlan& unit : plan->hosts) text += ShellLine(StopCommand(unit, options)) + "\n";
  const Result<FleetCollector> collector = CompleteCollector(opened.topology, options);
  if (collector && !collector->start) {
    for (const UnitPlan& unit : plan->hosts) {
      text += ShellLine(UnadmitCommand(*collector, options, unit.name)) + "\n";
    }
  }
  if (plan->collector && !options.keep_collector)
    text += ShellLine(StopCommand(*plan->collector, options)) + "\n";
  return WriteOut(text) ? kExitDone : FailFleet("standard output: cannot write");
}

int RunStop(FleetArguments& arguments) {
  Result<Opened> opened = Open(arguments, true);
  if (!opened) return FailFleet(opened.error());
  if (arguments.dry_run) return PrintCommands(*opened, arguments.options);
  Fleet fleet(opened->topology, arguments.options, *opened->state, TellHost);
  const FleetResult result = RunInterruptibly(fleet, &Fleet::Stop);
  return Finish(result, "stop");
}

int RunCollect(FleetArguments& arguments) {
  Result<Opened> opened = Open(arguments, true);
  if (!opened) return FailFleet(opened.error());
  Fleet fleet(opened->topology, arguments.options, *opened->state, TellHost);
  const FleetResult result = RunInterruptibly(fleet, &Fleet::Collect);
  CloseAfterLook(*opened);
  return Finish(result, "collect");
}

int RunScript(FleetArguments&) {
  return WriteOut(std::string(HostScript())) ? kExitDone : FailFleet("standard output: cannot write");
}

}  // namespace

void AddFleetCommand(CLI::App& app, int& exit_status) {
  CLI::App* fleet = app.add_subcommand(
      "fleet", "Run agents on all hosts of a TiUP topology or an inventory, for a bounded time");
  fleet->require_subcommand(1);
  fleet->footer(
      "docs/fleet.md has the inventory's format. Exit status: 0 done; 1 failed; 2 wrong usage; 3 not on all "
      "hosts, and which is told.");
  const auto add = [&](const char* name, const char* help, int (*run)(FleetArguments&)) {
    auto arguments = std::make_shared<FleetArguments>();
    CLI::App* command = fleet->add_subcommand(name, help);
    command->callback([arguments, run, &exit_status] { exit_status = run(*arguments); });
    return std::make_pair(command, arguments);
  };
  const auto [plan, plan_arguments] =
      add("plan", "Print the commands that start would run, as a shell script", RunPlan);
  AddFleetOptions(*plan, *plan_arguments);
  AddStartOptions(*plan, *plan_arguments);
  const auto [start, start_arguments] = add(
      "start", "Start the collector, if wanted, and an agent on each host; what runs already is left alone",
      RunStart);
  AddFleetOptions(*start, *start_arguments);
  AddStartOptions(*start, *start_arguments);
  start->add_flag("--rollback", start_arguments->options.rollback,
                  "If not all hosts could be started, stop those that this start began");
  start->add_flag("--dry-run", start_arguments->dry_run, "Print the commands, as plan does");
  const auto [status, status_arguments] = add("status", "Print what runs on each host", RunStatus);
  AddFleetOptions(*status, *status_arguments);
  status->add_flag("--json", status_arguments->json, "Print one JSON object");
  const auto [stop, stop_arguments] =
      add("stop", "End all agents and a started collector, and remove what they have on the hosts", RunStop);
  AddFleetOptions(*stop, *stop_arguments);
  stop->add_option("--grace", stop_arguments->options.grace_s,
                   "Seconds that an agent has to ship what it has, before it is killed")
      ->type_name("N")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  stop->add_flag("--discard", stop_arguments->options.discard,
                 "Remove records, too, that the collector has not taken");
  stop->add_flag("--keep-collector", stop_arguments->options.keep_collector,
                 "A started collector runs on until its own time is over");
  stop->add_flag("--dry-run", stop_arguments->dry_run, "Print the commands");
  const auto [collect, collect_arguments] =
      add("collect", "Fetch logs, and the records that ended agents could not ship", RunCollect);
  AddFleetOptions(*collect, *collect_arguments);
  collect
      ->add_option("--into", collect_arguments->options.into,
                   "Where to; a folder for each host (FILE.collected if not given)")
      ->type_name("DIR");
  collect->add_flag("--drain", collect_arguments->options.drain,
                    "Ship these records to the collector from here");
  add("script", "Print the shell script that runs on the hosts", RunScript);
}

}  // namespace keytrail
