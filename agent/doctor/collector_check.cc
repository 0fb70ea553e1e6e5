// The other ends: the collector, and the port for Prometheus. With the rights that an agent has left by then.

#include <cstdio>

#include "agent/doctor/checks.h"
#include "agent/ship/collector_probe.h"
#include "common/operations_port.h"
#include "common/shell_word.h"

namespace keytrail {

namespace {

using Outcome = CollectorProbe::Outcome;

std::string PortOf(const std::string& address) {
  return address.substr(address.rfind(':') + 1);
}

Check Finding(const DoctorOptions& options, const std::optional<AgentKeys>& keys,
              const CollectorProbe& probe) {
  const std::string& address = options.collector;
  const std::string port = PortOf(address);
  Check check{"collector", CheckLevel::kFault, "'" + address + "': ", {}, {}};
  switch (probe.outcome) {
    case Outcome::kNoAddress:
      check.found += probe.detail;
      check.fix = "give the collector's HOST:PORT, with a name that this host knows (getent hosts NAME)";
      break;
    case Outcome::kNeedsKeys:
      check.found = probe.detail;
      check.fix =
          "make keys for this host (keytrail keys new NAME), have them admitted, and start it with --key and "
          "--server-key";
      break;
    case Outcome::kRefused:
      check.found += "nothing listens there (" + probe.detail + ")";
      check.fix =
          "on the collector's host: systemctl start keytrail-collector, and --listen with an address that "
          "this "
          "host reaches; ss -ltn there says what listens";
      break;
    case Outcome::kNoWay:
      check.found += "cannot be reached (" + probe.detail + ")";
      check.fix = "look for the way there (ip route get), and let TCP port " + port +
                  " through the firewalls between";
      break;
    case Outcome::kSilent:
      check.found += "takes connections and says nothing: it hangs, or is no collector";
      check.fix =
          "look at the collector's log and load; --collector wants the port of its --listen (7450 by "
          "default)";
      break;
    case Outcome::kOtherProtocol:
      check.found += "what listens there does not speak ZeroMQ: it is no collector, or its --query port";
      check.fix = "give the port of the collector's --listen (7450 by default)";
      break;
    case Outcome::kWantsKeys:
      check.found += "the collector wants keys, and this agent has none";
      check.fix =
          "make keys for this host (keytrail keys new NAME), have them admitted, and start it with --key and "
          "--server-key";
      break;
    case Outcome::kHasNoKeys:
      check.found += "this agent has keys, and what listens there has none";
      check.fix =
          "start the collector with --key and --admitted (its log says what it runs with), or give its right "
          "address";
      break;
    case Outcome::kOtherKey:
      check.found += "its key is not '" + keys->collector.name + "' of --server-key (it ends the handshake)";
      check.fix = "copy the .pub file of the collector that runs there to '" + options.server_key_file +
                  "'; if nobody changed its key, somebody else listens in its place";
      break;
    case Outcome::kNotAdmitted:
      check.found += "it does not admit the key of this agent, '" + keys->own.public_key.name + "' (" +
                     keys->own.public_key.key + ")";
      check.fix = "on the collector's host, with this agent's .pub file: keytrail keys admit " +
                  ShellWord(keys->own.public_key.name + ".pub") +
                  " --admitted DIR (the folder that it was started with)";
      break;
    case Outcome::kNoCollector:
      check.found += "it speaks ZeroMQ, but is no collector of keytrail's (" + probe.detail + ")";
      check.fix = "give the address of the collector's --listen";
      break;
    case Outcome::kVersion:
      check.found += "it is of another version (" + probe.detail + ")";
      check.fix = "install the same version on both hosts; a collector is upgraded first";
      break;
    case Outcome::kAnswers:
      break;
  }
  return check;
}

}  // namespace

void CheckMetricsPort(const DoctorOptions& options, CheckList& list) {
  if (options.metrics.empty()) return;
  const Result<std::unique_ptr<OperationsPort>> port =
      OperationsPort::Open(options.metrics, "keytrail_agent", [] { return OperationsState{}; });
  if (port) return list.Ok("metrics", "'" + options.metrics + "' can be listened at");
  list.Add(
      {"metrics",
       CheckLevel::kFault,
       "--metrics: " + port.error(),
       {},
       "start it with --metrics and another port (above 1023: a lower one is root's); ss -ltnp 'sport = :" +
           PortOf(options.metrics) + "' says who has this one"});
}

void CheckCollector(const DoctorOptions& options, const std::optional<AgentKeys>& keys, CheckList& list) {
  const CollectorProbe probe = ProbeCollector(options.collector, keys);
  if (probe.outcome != Outcome::kAnswers) return list.Add(Finding(options, keys, probe));
  char took[32];
  std::snprintf(took, sizeof took, "%.1f ms", static_cast<double>(probe.connect_ns) / 1e6);
  list.Ok("collector",
          "'" + options.collector + "' answers, reached in " + took +
              (keys ? "; it has the key of --server-key and admits this agent" : "; without keys"));
}

}  // namespace keytrail
