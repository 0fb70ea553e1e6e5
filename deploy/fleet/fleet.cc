#include "deploy/fleet/fleet.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <initializer_list>
#include <thread>
#include <utility>

#include "common/clock.h"

namespace keytrail {

namespace {

void FailWith(HostResult& result, const Advice& advice) {
  result.outcome = Outcome::kFailed;
  result.said = advice.why;
  result.what_to_do = advice.what_to_do;
}

// What host.sh finds a host in.
constexpr std::initializer_list<const char*> kStates = {"none",    "prepared", "starting",
                                                        "running", "ended",    "died"};

// host.sh has said one of these states. A shell that read nothing ends well, too.
bool Answered(const HostFacts& facts, std::initializer_list<const char*> states, HostResult& result) {
  const std::string state = Fact(facts, "state");
  if (std::find(states.begin(), states.end(), state) != states.end()) return true;
  FailWith(result, {"it did not answer what was asked", "try again"});
  return false;
}

std::string Pid(const HostFacts& facts) {
  const std::string pid = Fact(facts, "pid");
  return pid.empty() ? "" : ", pid " + pid;
}

std::string Minutes(int64_t seconds) {
  if (seconds < 0) return "?";
  return seconds < 120 ? std::to_string(seconds) + " s" : std::to_string((seconds + 30) / 60) + " min";
}

}  // namespace

bool FleetResult::AllWell() const {
  return failure.empty() && !interrupted &&
         std::all_of(units.begin(), units.end(), [](const HostResult& unit) {
           return unit.outcome == Outcome::kDone || unit.outcome == Outcome::kAlready;
         });
}

Fleet::Fleet(Topology topology, FleetOptions options, StateFolder& state, Told told)
    : topology_(std::move(topology)), options_(std::move(options)), state_(state), told_(std::move(told)) {}

void Fleet::One(const UnitPlan& unit, Runner& runner, const Work& work, HostResult& result) {
  result.name = unit.name;
  result.address = unit.address;
  if (!unit.refused.empty()) {
    FailWith(result, {unit.refused, "leave it out of the file, or run an agent of its own there"});
    return;
  }
  if (runner.cancelled()) return;
  const int64_t begun = SteadyNs();
  work(unit, runner, result);
  result.seconds = static_cast<double>(SteadyNs() - begun) / 1e9;
}

void Fleet::ForEach(const std::vector<UnitPlan>& units, Runner& runner, const Work& work,
                    std::vector<HostResult>& results) {
  const size_t first = results.size();
  results.resize(first + units.size());
  std::atomic<size_t> next = 0;
  std::mutex told;
  size_t done = 0;
  const auto take = [&] {
    for (size_t i = 0; (i = next++) < units.size();) {
      HostResult& result = results[first + i];
      One(units[i], runner, work, result);
      const std::lock_guard lock(told);
      ++done;
      if (told_ && result.outcome != Outcome::kNotBegun) told_(result, done, units.size());
    }
  };
  std::vector<std::thread> threads;
  const size_t jobs = std::min<size_t>(units.size(), static_cast<size_t>(std::max(1, options_.jobs)));
  for (size_t i = 1; i < jobs; ++i) threads.emplace_back(take);
  take();
  for (std::thread& thread : threads) thread.join();
}

bool Fleet::RunStep(const Command& command, const UnitPlan& unit, Runner& runner, HostResult& result,
                    HostFacts* facts) {
  const CommandResult ran = runner.Run(command);
  if (facts != nullptr) *facts = ReadFacts(ran.out);
  if (ran.ok()) return true;
  FailWith(result, AdviceFor(ran, command, unit));
  return false;
}

// Error text, or empty.
std::string Fleet::Setup(const FleetPlan& plan) {
  for (const Step& step : plan.setup) {
    if (runner_.cancelled()) return "interrupted before anything was started";
    const CommandResult ran = runner_.Run(step.command);
    if (!ran.ok()) {
      return ShellLine(step.command) + ": " + (ran.failure.empty() ? ran.err : ran.failure);
    }
    const std::vector<std::string>& argv = step.command.argv;
    if (argv.size() > 3 && argv[1] == "keys" && ran.out.rfind("made ", 0) == 0) new_keys_.push_back(argv[3]);
  }
  return {};
}

void Fleet::StartUnit(const UnitPlan& unit, Runner& runner, HostResult& result) {
  bool same_archive = false;
  for (const Step& step : unit.steps) {
    if (runner.cancelled()) {
      result.outcome = Outcome::kFailed;
      result.said = "interrupted before the agent was started; its folder is there";
      result.what_to_do = "keytrail fleet start goes on, keytrail fleet stop cleans up";
      return;
    }
    if (step.kind == StepKind::kArchive && same_archive) continue;
    HostFacts facts;
    // At the collector: the advice must be about that place, not about this host.
    UnitPlan place = unit;
    if (step.kind == StepKind::kAdmit) place.access = topology_.collector.access;
    if (!RunStep(step.command, place, runner, result, &facts)) {
      if (!facts.empty()) result.facts = facts;
      if (step.kind == StepKind::kAdmit)
        result.said = "its key could not be admitted at the collector: " + result.said;
      return;
    }
    if (step.kind != StepKind::kPrepare && step.kind != StepKind::kLaunch) continue;
    for (const auto& [key, value] : facts) result.facts[key] = value;
    const bool prepared = step.kind == StepKind::kPrepare;
    if (!Answered(facts, {prepared ? "ready" : "running", "same"}, result)) return;
    same_archive = Fact(facts, "archive") == "same";
    if (Fact(facts, "state") != "same") continue;
    if (std::find(new_keys_.begin(), new_keys_.end(), KeyNameOf(unit.name)) != new_keys_.end()) {
      FailWith(result,
               {"it runs since an earlier start, with keys that are not in '" + options_.state + "' any more",
                "keytrail fleet stop, and start again"});
      return;
    }
    // The collector may be one that was started anew, and knows nobody.
    for (const Step& admit : unit.steps) {
      if (admit.kind != StepKind::kAdmit) continue;
      place.access = topology_.collector.access;
      if (RunStep(admit.command, place, runner, result, nullptr)) continue;
      result.said = "it runs, but its key could not be admitted at the collector: " + result.said;
      return;
    }
    result.outcome = Outcome::kAlready;
    result.said = "already running" + Pid(facts) + ", " + Minutes(SecondsLeft(facts)) + " left";
    return;
  }
  result.outcome = Outcome::kDone;
  const std::string replaced = Fact(result.facts, "replaced");
  result.said = "started" + Pid(result.facts) + (replaced.empty() ? "" : ", in place of " + replaced);
}

FleetResult Fleet::Start() {
  FleetResult result;
  const Result<FleetPlan> plan = PlanStart(topology_, options_);
  if (!plan) {
    result.failure = plan.error();
    return result;
  }
  result.failure = Setup(*plan);
  if (!result.failure.empty()) {
    result.interrupted = runner_.cancelled();
    return result;
  }
  const Work start = [this](const UnitPlan& unit, Runner& runner, HostResult& one) {
    StartUnit(unit, runner, one);
  };
  if (plan->collector) {
    ForEach({*plan->collector}, runner_, start, result.units);
    if (result.units[0].outcome == Outcome::kFailed) {
      result.failure = "the collector could not be started, and without it no agent is";
      result.interrupted = runner_.cancelled();
      return result;
    }
  }
  ForEach(plan->hosts, runner_, start, result.units);
  result.interrupted = runner_.cancelled();
  if (options_.rollback && !result.AllWell()) RollBack(*plan, result);
  return result;
}

// Ends again what this start began, and leaves alone what ran before.
void Fleet::RollBack(const FleetPlan& plan, FleetResult& result) {
  Runner runner;
  const Work stop = [this](const UnitPlan& unit, Runner& r, HostResult& one) { StopUnit(unit, r, one); };
  const auto undo = [&](const UnitPlan& unit, HostResult& was) {
    const bool began = was.outcome == Outcome::kDone ||
                       (was.outcome == Outcome::kFailed && Fact(was.facts, "state") == "ready");
    if (!began) return;
    HostResult stopped;
    One(unit, runner, stop, stopped);
    was.said += "; rolled back: " + stopped.said;
    if (stopped.outcome == Outcome::kFailed) was.what_to_do = stopped.what_to_do;
    if (was.outcome == Outcome::kDone) was.outcome = Outcome::kKept;
  };
  const size_t first = plan.collector ? 1 : 0;
  bool others = false;
  for (size_t i = 0; i < plan.hosts.size(); ++i) {
    HostResult& was = result.units[first + i];
    others = others || was.outcome == Outcome::kAlready;
    undo(plan.hosts[i], was);
    if (told_ && was.said.find("rolled back") != std::string::npos) told_(was, i + 1, plan.hosts.size());
  }
  // Behind the agents, which ship to it what they have.
  if (plan.collector && !others) undo(*plan.collector, result.units[0]);
}

void Fleet::StatusUnit(const UnitPlan& unit, Runner& runner, HostResult& result) {
  if (!RunStep(StatusCommand(unit, options_), unit, runner, result, &result.facts)) return;
  if (!Answered(result.facts, kStates, result)) return;
  const std::string state = Fact(result.facts, "state");
  result.outcome = state == "running" ? Outcome::kDone : Outcome::kKept;
  if (state == "running") {
    result.said = "running";
  } else if (state == "none") {
    result.said = "not running, and nothing left there";
  } else if (state == "prepared") {
    result.said = "not running: a start was cut off";
  } else if (state == "starting") {
    result.said = "starting";
  } else if (state == "ended") {
    result.said = "ended with status " + Fact(result.facts, "ended_status");
  } else {
    result.said = "not running: it was killed, or the host was restarted";
  }
}

FleetResult Fleet::Look() {
  FleetResult result;
  const Result<FleetPlan> plan = PlanPlaces(topology_, options_);
  if (!plan) {
    result.failure = plan.error();
    return result;
  }
  std::vector<UnitPlan> units = plan->hosts;
  if (plan->collector) units.insert(units.begin(), *plan->collector);
  ForEach(
      units, runner_,
      [this](const UnitPlan& unit, Runner& runner, HostResult& one) { StatusUnit(unit, runner, one); },
      result.units);
  result.interrupted = runner_.cancelled();
  return result;
}

void Fleet::StopUnit(const UnitPlan& unit, Runner& runner, HostResult& result) {
  if (!RunStep(StopCommand(unit, options_), unit, runner, result, &result.facts)) return;
  if (!Answered(result.facts, {"records_left", "none", "removed"}, result)) return;
  const std::string state = Fact(result.facts, "state");
  if (state == "records_left") {
    result.outcome = Outcome::kKept;
    result.said = "stopped; records that the collector did not take are left there";
    result.what_to_do = "keytrail fleet collect fetches them, keytrail fleet stop --discard removes them";
    return;
  }
  if (state == "none") {
    result.outcome = Outcome::kAlready;
    result.said = "nothing runs, and nothing was left there";
    return;
  }
  result.outcome = Outcome::kDone;
  const std::string was = Fact(result.facts, "was");
  result.said = was == "running" ? "stopped, nothing left there" : "nothing ran any more; cleaned up";
  if (!Fact(result.facts, "killed").empty()) result.said += " (it did not end by itself, and was killed)";
}

// The key of a host where nothing is left is of no use any more: not to the collector, if that one goes on,
// and not here.
bool Fleet::ForgetKey(const UnitPlan& unit, const FleetCollector& collector, HostResult& result) {
  if (!collector.start) {
    UnitPlan place = unit;
    place.access = collector.access;
    HostResult unadmitted;
    if (!RunStep(UnadmitCommand(collector, options_, unit.name), place, runner_, unadmitted, nullptr)) {
      result.outcome = Outcome::kFailed;
      result.said += "; its key is still admitted at the collector: " + unadmitted.said;
      result.what_to_do =
          "there: keytrail keys revoke " + KeyNameOf(unit.name) + " --admitted " + collector.admitted;
      return false;
    }
  }
  state_.ForgetKey(KeyNameOf(unit.name));
  return true;
}

// After stop: keys, and the state folder when there is nothing anywhere.
void Fleet::Forget(const FleetPlan& plan, FleetResult& result) {
  const Result<FleetCollector> collector = CompleteCollector(topology_, options_);
  if (!collector) {
    result.failure = "hosts were looked after, the collector was not: " + collector.error();
    return;
  }
  bool all = result.AllWell();
  for (size_t i = 0; i < plan.hosts.size(); ++i) {
    HostResult& host = result.units[i];
    if (host.outcome != Outcome::kDone && host.outcome != Outcome::kAlready) continue;
    if (!ForgetKey(plan.hosts[i], *collector, host)) {
      all = false;
      if (told_) told_(host, i + 1, plan.hosts.size());
    }
  }
  if (!all || options_.keep_collector) return;
  const Status removed = state_.Remove();
  if (!removed.ok()) result.failure = removed.error();
}

FleetResult Fleet::Stop() {
  FleetResult result;
  const Result<FleetPlan> plan = PlanPlaces(topology_, options_);
  if (!plan) {
    result.failure = plan.error();
    return result;
  }
  const Work stop = [this](const UnitPlan& unit, Runner& runner, HostResult& one) {
    StopUnit(unit, runner, one);
  };
  ForEach(plan->hosts, runner_, stop, result.units);
  result.interrupted = runner_.cancelled();
  // Behind the agents, which ship to it what they have; and not while some of them may still run.
  if (plan->collector && !options_.keep_collector) {
    if (result.AllWell()) {
      ForEach({*plan->collector}, runner_, stop, result.units);
    } else {
      HostResult kept;
      kept.name = plan->collector->name;
      kept.address = plan->collector->address;
      kept.outcome = Outcome::kKept;
      kept.said = "runs on until its own time is over, as not all hosts are done";
      kept.what_to_do = "keytrail fleet stop again, when they are";
      result.units.push_back(kept);
    }
  }
  Forget(*plan, result);
  return result;
}

// The folder of a host in `into`. False: `result` says why.
bool Fleet::FetchSpool(const UnitPlan& unit, Runner& runner, const std::string& into, HostResult& result) {
  Command fetch = OnHost(unit, options_, "spool", {});
  fetch.output = into + "/spool.tar";
  fetch.timeout_s = options_.push_timeout_s;
  Command unpack;
  unpack.argv = {"tar", "-xf", fetch.output, "--no-same-owner", "-C", into};
  unpack.timeout_s = options_.push_timeout_s;
  // An earlier fetch that was cut off.
  std::error_code ignored;
  std::filesystem::remove_all(into + "/spool", ignored);
  if (!RunStep(fetch, unit, runner, result, nullptr)) return false;
  if (!RunStep(unpack, unit, runner, result, nullptr)) return false;
  std::filesystem::remove(fetch.output, ignored);
  return true;
}

void Fleet::DrainUnit(const UnitPlan& unit, Runner& runner, const std::string& into, HostResult& result) {
  const Result<FleetCollector> collector = CompleteCollector(topology_, options_);
  if (!collector) return FailWith(result, {collector.error(), ""});
  const std::string keys = options_.state + "/keys/";
  Command drain;
  drain.argv = {options_.agent_program,
                "--drain",
                "--spool",
                into + "/spool",
                "--collector",
                collector->address,
                "--key",
                keys + KeyNameOf(unit.name) + ".key",
                "--server-key",
                collector->start ? keys + KeyNameOf("collector") + ".pub" : collector->server_key};
  // The folder is this user's, and so must the agent be.
  if (geteuid() == 0) drain.argv.insert(drain.argv.end(), {"--user", "root"});
  drain.timeout_s = options_.push_timeout_s;
  const CommandResult ran = runner.Run(drain);
  if (ran.ok()) {
    std::error_code ignored;
    std::filesystem::remove_all(into + "/spool", ignored);
    result.said += "; its records were shipped to the collector";
    return;
  }
  UnitPlan here;
  here.access = OnThisMachine();
  result.outcome = Outcome::kKept;
  result.said += "; shipping its records failed: " +
                 (ran.failure.empty() ? AdviceFor(ran, drain, here).why : ran.failure);
  result.what_to_do = "when the collector is there again: " + ShellWords(drain.argv);
}

void Fleet::CollectUnit(const UnitPlan& unit, Runner& runner, HostResult& result) {
  if (!RunStep(StatusCommand(unit, options_), unit, runner, result, &result.facts)) return;
  if (!Answered(result.facts, kStates, result)) return;
  const std::string state = Fact(result.facts, "state");
  result.outcome = Outcome::kAlready;
  result.said = "nothing there to fetch";
  if (state == "none" || state == "prepared") return;
  const std::string into = options_.into + "/" + unit.name;
  std::error_code error;
  std::filesystem::create_directories(into, error);
  if (error) return FailWith(result, {"'" + into + "': " + error.message(), ""});
  Command log = OnHost(unit, options_, "log", {});
  log.output = into + "/log";
  log.timeout_s = options_.push_timeout_s;
  if (!RunStep(log, unit, runner, result, nullptr)) return;
  result.outcome = Outcome::kDone;
  result.said = "its log is in " + into;
  if (state == "running" || state == "starting") {
    result.said += "; it runs on";
    return;
  }
  const bool records = !Fact(result.facts, "records_left").empty();
  if (records) {
    if (!FetchSpool(unit, runner, into, result)) return;
    result.said = "its log and the records that were not shipped are in " + into;
  }
  HostResult forgotten;
  if (!RunStep(OnHost(unit, options_, "forget", {}), unit, runner, forgotten, nullptr)) {
    result.outcome = Outcome::kKept;
    result.said += ", but it could not be removed there: " + forgotten.said;
    result.what_to_do = "keytrail fleet stop --discard removes it";
    return;
  }
  result.said += "; nothing is left there";
  if (records && options_.drain) DrainUnit(unit, runner, into, result);
}

FleetResult Fleet::Collect() {
  FleetResult result;
  const Result<FleetPlan> plan = PlanPlaces(topology_, options_);
  if (!plan) {
    result.failure = plan.error();
    return result;
  }
  std::error_code error;
  std::filesystem::create_directories(options_.into, error);
  // Records tell keys of the database.
  if (error || chmod(options_.into.c_str(), 0700) != 0) {
    result.failure = "'" + options_.into + "' cannot be made";
    return result;
  }
  std::vector<UnitPlan> units = plan->hosts;
  if (plan->collector) units.push_back(*plan->collector);
  ForEach(
      units, runner_,
      [this](const UnitPlan& unit, Runner& runner, HostResult& one) { CollectUnit(unit, runner, one); },
      result.units);
  result.interrupted = runner_.cancelled();
  return result;
}

}  // namespace keytrail
