// The device: there, up, of a kind that is decoded, its filter, its ring, and what it joins before we see it.

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "agent/capture/device_look.h"
#include "agent/doctor/checks.h"
#include "agent/doctor/interfaces.h"
#include "agent/packet/packet_decoder.h"
#include "common/limits.h"
#include "common/shell_word.h"

namespace keytrail {

namespace {

constexpr const char* kAny = "any";

class NoSegments final : public SegmentSink {
 public:
  void OnSegment(const Segment&) override {}
};

// The decoder's own answer, so that no second list of link types can fall behind.
bool IsDecoded(int link_type) {
  Counters counters;
  PacketDecoder decoder(counters);
  NoSegments nowhere;
  RawPacket empty;
  empty.link_type = link_type;
  decoder.Feed(empty, nowhere);
  return counters.Get(Counter::kPacketsUnknownLink) == 0;
}

const Interface* Find(const std::vector<Interface>& all, const std::string& name) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Interface& i) { return i.name == name; });
  return found == all.end() ? nullptr : &*found;
}

std::string Names(const std::vector<Interface>& all) {
  std::string names;
  for (const Interface& i : all) names += (names.empty() ? "" : ", ") + i.name + (i.up ? "" : " (down)");
  return names;
}

// True: it can be captured on.
bool CheckDevice(const std::string& device, const std::string& filter, const std::vector<Interface>& all,
                 CheckList& list) {
  const Interface* interface = Find(all, device);
  if (interface == nullptr && device != kAny) {
    list.Add({"device",
              CheckLevel::kFault,
              "there is no device '" + device + "' here",
              {},
              "start it with -i and one of these: " + Names(all) + "; or with -i any"});
    return false;
  }
  if (interface != nullptr && !interface->up) {
    list.Add({"device",
              CheckLevel::kFault,
              device + " is down",
              "ip link set dev " + ShellWord(device) + " up",
              {}});
    return false;
  }
  const DeviceLook look = LookAtDevice(device, filter);
  if (!look.filter_problem.empty()) {
    list.Add({"filter",
              CheckLevel::kFault,
              look.filter_problem,
              {},
              "write it as pcap-filter(7) says, such as -f 'tcp port 2379 or tcp port 20160'"});
  }
  if (look.trouble == DeviceLook::Trouble::kNoRights) {
    if (list.fine("privileges")) {
      list.Add(
          {"privileges",
           CheckLevel::kFault,
           device + ": " + look.reason,
           {},
           "a sandbox (seccomp, AppArmor, RestrictAddressFamilies= of a unit) forbids packet sockets: allow "
           "AF_PACKET to it"});
    }
    list.NotChecked("device", device + " cannot be opened without CAP_NET_RAW");
    return false;
  }
  if (look.trouble != DeviceLook::Trouble::kNone) {
    list.Add({"device",
              CheckLevel::kFault,
              device + " cannot be captured on: " + look.reason,
              {},
              "start it with -i and another of these: " + Names(all)});
    return false;
  }
  if (!IsDecoded(look.link_type)) {
    list.Add({"device",
              CheckLevel::kFault,
              device + " has packets of the kind " + look.link_name + ", which the agent does not decode",
              {},
              "start it with -i and the device below or above it: " + Names(all)});
    return false;
  }
  if (interface != nullptr && !interface->running) {
    list.Add({"device",
              CheckLevel::kWarning,
              device + " is up, but has no carrier: nothing comes in over it",
              {},
              "look at its cable, its switch, or the other end of the pair (ip link show)"});
    return look.filter_problem.empty();
  }
  list.Ok("device", device + " is up, " + look.link_name +
                        (interface != nullptr ? ", MTU " + std::to_string(interface->mtu) : ""));
  if (!filter.empty() && look.filter_problem.empty()) list.Ok("filter", "'" + filter + "' is a filter");
  return look.filter_problem.empty();
}

std::string OnOff(const char* name, int value) {
  return value < 0 ? "" : std::string(name) + (value != 0 ? " on, " : " off, ");
}

void CheckOffload(const Interface& interface, CheckList& list) {
  const auto snap = static_cast<uint32_t>(limits::kSnapLen);
  std::string sizes;
  const std::pair<uint32_t, const char*> bounds[] = {{interface.gro_max, "gro_max_size"},
                                                     {interface.gso_max, "gso_max_size"},
                                                     {interface.gro_ipv4_max, "gro_ipv4_max_size"},
                                                     {interface.gso_ipv4_max, "gso_ipv4_max_size"}};
  uint32_t largest = 0;
  for (const auto& [bytes, name] : bounds) {
    largest = std::max(largest, bytes);
    if (bytes > snap) sizes += std::string(" ") + name + " 65536";
  }
  if (!sizes.empty()) {
    list.Add({"offload",
              CheckLevel::kWarning,
              interface.name + " may join segments to " + std::to_string(largest) +
                  " bytes (BIG TCP); a capture keeps " + std::to_string(snap) +
                  " of each, the rest would be a gap",
              "ip link set dev " + ShellWord(interface.name) + sizes,
              {}});
    return;
  }
  const Offload offload = OffloadOf(interface.name);
  const std::string words = OnOff("GRO", offload.gro) + OnOff("LRO", offload.lro) +
                            OnOff("TSO", offload.tso) + OnOff("GSO", offload.gso);
  list.Ok("offload", interface.name + ": " + words + "joined segments of " +
                         (largest == 0 ? "64 KiB" : SizeText(largest)) +
                         " at most fit the snapshot length of " + SizeText(snap));
}

// Bytes of rings that are mapped into this process: libpcap takes a smaller one in silence when memory is
// short.
uint64_t MappedRings() {
  std::ifstream maps("/proc/self/maps");
  uint64_t bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("socket:[") == std::string::npos) continue;
    unsigned long long from = 0;
    unsigned long long to = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx", &from, &to) == 2) bytes += to - from;
  }
  return bytes;
}

}  // namespace

bool CheckDevices(const DoctorOptions& options, CheckList& list) {
  const Result<std::vector<Interface>> all = Interfaces();
  if (!all) {
    list.NotChecked("device", all.error());
    return true;
  }
  bool good = true;
  for (const std::string& device : options.devices) {
    const bool this_one = CheckDevice(device, options.filter, *all, list);
    good = good && this_one;
    const Interface* interface = Find(*all, device);
    if (this_one && interface != nullptr) CheckOffload(*interface, list);
  }
  return good;
}

std::unique_ptr<PacketSource> CheckRing(const DoctorOptions& options, CheckList& list) {
  Result<std::unique_ptr<PacketSource>> source = options.open();
  if (!source) {
    list.Add(
        {"ring",
         CheckLevel::kFault,
         "the capture does not begin: " + source.error(),
         {},
         "free memory, or raise the limits of this session (ulimit -v, LimitAS= of a unit): the ring wants " +
             SizeText(options.ring_bytes)});
    return nullptr;
  }
  const uint64_t mapped = MappedRings();
  if (mapped != 0 && mapped < options.ring_bytes / 2) {
    list.Add({"ring",
              CheckLevel::kWarning,
              "the kernel gave a ring of " + SizeText(mapped) + " instead of " +
                  SizeText(options.ring_bytes) + ": bursts will be dropped sooner",
              {},
              "free memory on the host, and start the agent again"});
  } else {
    list.Ok("ring", mapped == 0 ? "the capture begins (no ring is mapped, packets are copied)"
                                : "a ring of " + SizeText(mapped) + " is mapped");
  }
  return std::move(*source);
}

}  // namespace keytrail
