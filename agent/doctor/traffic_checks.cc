// What passes on the device while we look: is it seen, kept, and readable?

#include <array>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "agent/doctor/checks.h"
#include "agent/doctor/interfaces.h"
#include "common/shell_word.h"

namespace keytrail {

namespace {

// Where TiDB's components speak gRPC unless they are told otherwise (docs.pingcap.com, "Port" of each
// component).
constexpr std::array<std::pair<uint16_t, const char*>, 5> kUsualPorts = {
    {{2379, "PD"}, {20160, "TiKV"}, {3930, "TiFlash"}, {20170, "TiFlash proxy"}, {10080, "TiDB status"}}};

bool IsUsual(uint16_t port) {
  for (const auto& [usual, name] : kUsualPorts) {
    if (usual == port) return true;
  }
  return false;
}

// TCP ports of this network namespace with a listener or a connection, of those that TiDB usually has.
std::vector<uint16_t> UsualPortsHere() {
  std::vector<uint16_t> found;
  std::set<uint16_t> seen;
  for (const char* path : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
      unsigned local = 0;
      unsigned remote = 0;
      unsigned state = 0;
      if (std::sscanf(line.c_str(), " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%x %x", &local, &remote, &state) !=
          3)
        continue;
      if (state != 0x01 && state != 0x0A) continue;  // established, listening
      seen.insert(static_cast<uint16_t>(local));
      seen.insert(static_cast<uint16_t>(remote));
    }
  }
  for (const auto& [port, name] : kUsualPorts) {
    if (seen.contains(port)) found.push_back(port);
  }
  return found;
}

template <typename Ports>
std::string FilterFor(const Ports& ports) {
  std::string filter;
  for (const uint16_t port : ports)
    filter += (filter.empty() ? "tcp port " : " or tcp port ") + std::to_string(port);
  return filter;
}

// How to see what this host has; where that is.
std::string WhereToLook() {
  const std::vector<uint16_t> here = UsualPortsHere();
  if (!here.empty()) {
    return "this host has connections or listeners at ports of TiDB: start it with -i any -f '" +
           FilterFor(here) + "'";
  }
  return "no port of TiDB, PD or TiKV is in use here: look at the right host, or name the cluster's own "
         "ports with "
         "--ports or -f (ss -tn)";
}

uint64_t PacketsOf(const DoctorOptions& options, const std::vector<Interface>& all,
                   uint64_t Interface::*what) {
  uint64_t n = 0;
  for (const Interface& i : all) {
    for (const std::string& device : options.devices) n += device == i.name || device == "any" ? i.*what : 0;
  }
  return n;
}

// What lets packets through.
std::string What(const DoctorOptions& options) {
  if (!options.filter.empty()) return "the filter '" + options.filter + "'";
  return options.ports.empty() ? "the capture" : "the ports " + options.ports + " (--ports)";
}

std::string Seconds(int64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ns) / 1e9);
  return text;
}

std::string Names(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

void CheckDrops(const DoctorOptions& options, const TrafficLook& look, uint64_t missed, CheckList& list) {
  const uint64_t kernel = look.counters.Get(Counter::kKernelDrops);
  const uint64_t card = std::max(missed, look.counters.Get(Counter::kInterfaceDrops));
  const uint64_t packets = look.counters.Get(Counter::kPackets);
  if (kernel != 0) {
    list.Add({"drops",
              CheckLevel::kWarning,
              std::to_string(kernel) + " packets were dropped because the ring was full, beside " +
                  std::to_string(packets) + " that were read in " + Seconds(look.lasted_ns),
              {},
              "let less through: a narrower -f (only the ports of PD and TiKV); and leave the agent a core "
              "of its own "
              "(CPUQuota=, limits.cpu and cpusets hold it back)"});
  }
  if (card != 0) {
    Check check{
        "drops",
        CheckLevel::kWarning,
        std::to_string(card) + " packets were dropped by the card or its driver in " +
            Seconds(look.lasted_ns),
        {},
        "raise its buffers (ethtool -g and -G) or spread its interrupts over more cores (irqbalance)"};
    for (const std::string& device : options.devices) {
      const Offload offload = OffloadOf(device);
      if (offload.rx_ring_max <= offload.rx_ring) continue;
      check.command = "ethtool -G " + ShellWord(device) + " rx " + std::to_string(offload.rx_ring_max);
    }
    list.Add(check);
  }
  if (look.counters.Get(Counter::kPacketsCut) != 0) {
    list.Add({"offload",
              CheckLevel::kWarning,
              std::to_string(look.counters.Get(Counter::kPacketsCut)) +
                  " packets were longer than a capture keeps",
              {},
              "bound what the host joins: ip link set dev DEV gro_max_size 65536 gso_max_size 65536"});
  }
  if (kernel == 0 && card == 0) {
    list.Ok("drops", "none among " + std::to_string(packets) + " packets in " + Seconds(look.lasted_ns));
  }
}

// TLS at ports where nothing else was understood.
std::vector<uint16_t> EncryptedPorts(const DoctorOptions& options, const TrafficLook& look, bool any_http2) {
  std::vector<uint16_t> ports;
  for (const auto& [port, at] : look.ports) {
    // Without a filter TLS of other programs passes too; it matters where nothing of the cluster can be read.
    const bool matters = IsUsual(port) || !options.filter.empty() || !any_http2;
    if (at.tls != 0 && at.http2 == 0 && matters) ports.push_back(port);
  }
  return ports;
}

void CheckProtocol(const DoctorOptions& options, const TrafficLook& look, CheckList& list) {
  std::vector<std::string> readable;
  std::set<std::string> services;
  uint64_t others = 0;
  for (const auto& [port, at] : look.ports) {
    if (at.http2 != 0) readable.push_back(std::to_string(port));
    services.insert(at.services.begin(), at.services.end());
    others += at.unread;
  }
  const std::vector<uint16_t> encrypted = EncryptedPorts(options, look, !readable.empty());
  if (!encrypted.empty()) {
    std::vector<std::string> names;
    std::string without;
    for (const uint16_t port : encrypted) {
      names.push_back(std::to_string(port));
      without += (without.empty() ? "not tcp port " : " and not tcp port ") + names.back();
    }
    list.Add(
        {"traffic",
         readable.empty() ? CheckLevel::kFault : CheckLevel::kWarning,
         "TLS at port " + Names(names) + ": what is said there cannot be read" +
             (readable.empty() ? ", and nothing that can be read was seen" : ""),
         {},
         "keytrail reads plain text only. A cluster whose components speak without TLS can be read "
         "(tiup cluster tls NAME disable, which restarts it; its traffic is open from then on); or leave "
         "these ports out: " +
             (options.filter.empty() ? "name the others with --ports"
                                     : "-f '(" + options.filter + ") and " + without + "'")});
    return;
  }
  if (!readable.empty()) {
    std::string found = "HTTP/2 in plain text at port " + Names(readable);
    if (!services.empty()) found += ", calls of " + Names({services.begin(), services.end()});
    return list.Ok("traffic", found);
  }
  list.Add({"traffic",
            CheckLevel::kWarning,
            others == 0 ? "TCP passes, but no connection said anything that shows its protocol in " +
                              Seconds(look.lasted_ns)
                        : std::to_string(others) +
                              " connections, none of which is HTTP/2: no call can be read of them",
            {},
            WhereToLook()});
}

}  // namespace

void CheckTraffic(const DoctorOptions& options, PacketSource& source, CheckList& list) {
  const Result<std::vector<Interface>> before = Interfaces();
  const Result<TrafficLook> look = LookAtTraffic(source, options.look_ns);
  const Result<std::vector<Interface>> after = Interfaces();
  if (!look) {
    return list.Add({"device",
                     CheckLevel::kFault,
                     "while it was looked at: " + look.error(),
                     {},
                     "see whether the device goes down or is taken away (ip monitor link)"});
  }
  uint64_t passed = 0;
  uint64_t missed = 0;
  if (before && after) {
    passed =
        PacketsOf(options, *after, &Interface::packets) - PacketsOf(options, *before, &Interface::packets);
    missed = PacketsOf(options, *after, &Interface::missed) - PacketsOf(options, *before, &Interface::missed);
  }
  const uint64_t packets = look->counters.Get(Counter::kPackets);
  if (packets == 0) {
    list.Ok("drops", "none; no packet was read in " + Seconds(look->lasted_ns));
    if (passed == 0) {
      return list.Add({"traffic",
                       CheckLevel::kWarning,
                       "nothing passed on " + Names(options.devices) + " in " + Seconds(look->lasted_ns),
                       {},
                       WhereToLook()});
    }
    return list.Add({"traffic",
                     CheckLevel::kWarning,
                     std::to_string(passed) + " packets passed on " + Names(options.devices) + " in " +
                         Seconds(look->lasted_ns) + ", and " + What(options) + " took none of them",
                     {},
                     look->left_out.empty()
                         ? WhereToLook()
                         : "HTTP/2 was seen: start it with -f '" + FilterFor(look->left_out) + "'"});
  }
  if (!look->left_out.empty()) {
    std::vector<std::string> ports;
    for (const uint16_t port : look->left_out) ports.push_back(std::to_string(port));
    list.Add({"filter",
              CheckLevel::kWarning,
              "HTTP/2 passes at port " + Names(ports) +
                  ", and -f leaves it out: what is said there is not heard, and "
                  "the agent will tell a loss",
              {},
              "if it is the cluster's: start it with -f '(" + options.filter + ") or " +
                  FilterFor(look->left_out) + "'"});
  }
  CheckDrops(options, *look, missed, list);
  if (const uint64_t downs = look->counters.Get(Counter::kInterfaceDowns); downs != 0) {
    list.Add({"device",
              CheckLevel::kWarning,
              "a device went down while it was looked at (" + std::to_string(downs) +
                  " times): what passed meanwhile is lost",
              {},
              "see what takes it down (ip monitor link), and look at its cable and driver (dmesg)"});
  }
  if (look->counters.Get(Counter::kSegments) == 0) {
    return list.Add({"traffic",
                     CheckLevel::kWarning,
                     std::to_string(packets) + " packets, none with TCP in it",
                     {},
                     WhereToLook()});
  }
  CheckProtocol(options, *look, list);
}

}  // namespace keytrail
