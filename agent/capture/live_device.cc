#include "agent/capture/live_device.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "agent/capture/filter.h"
#include "common/bytes.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// Enough to make the cost of a call of libpcap small, little enough to stay in the caches.
constexpr int kBatchPackets = 64;
constexpr size_t kBatchBytes = 256 << 10;

// A capture socket's memory in this process, as it is mapped: the ring. libpcap asks the kernel for less if
// it cannot have all of it, and does not say so.
uint64_t MappedBytes(int fd) {
  struct stat about {};
  if (fstat(fd, &about) != 0) return 0;
  const std::string socket = "socket:[" + std::to_string(about.st_ino) + "]";
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with(socket)) continue;
    unsigned long long from = 0;
    unsigned long long to = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx", &from, &to) == 2) return to - from;
  }
  return 0;
}

// `inbound`, for one, asks for what is not in the packet (SKF_AD_OFF and above); elsewhere the answer is no.
bool NeedsTheKernel(const bpf_program& program) {
  return std::any_of(program.bf_insns, program.bf_insns + program.bf_len, [](const bpf_insn& in) {
    const bool loads = BPF_CLASS(in.code) == BPF_LD || BPF_CLASS(in.code) == BPF_LDX;
    const bool in_packet = BPF_MODE(in.code) == BPF_ABS || BPF_MODE(in.code) == BPF_IND;
    return loads && in_packet && in.k >= static_cast<bpf_u_int32>(SKF_LL_OFF);
  });
}

}  // namespace

Result<std::unique_ptr<LiveDevice>> LiveDevice::Open(const std::string& name,
                                                     const LiveSourceOptions& options, int timeout_ms) {
  std::unique_ptr<LiveDevice> device(new LiveDevice(name));
  const Status active = device->Activate(options, timeout_ms);
  if (!active.ok()) return Error{"device " + name + ": " + active.error()};
  device->Learn();
  device->LeaveOutWhatLoopbackSends();
  return device;
}

LiveDevice::~LiveDevice() {
  if (own_) pcap_freecode(&*own_);
  if (pcap_ != nullptr) pcap_close(pcap_);
}

Status LiveDevice::Activate(const LiveSourceOptions& options, int timeout_ms) {
  char problem[PCAP_ERRBUF_SIZE] = {};
  pcap_ = pcap_create(name_.c_str(), problem);
  if (pcap_ == nullptr) return Error{problem};
  pcap_set_snaplen(pcap_, limits::kSnapLen);
  promiscuous_ = options.promiscuous;
  pcap_set_promisc(pcap_, promiscuous_ ? 1 : 0);
  // Each packet at once would wake the agent for each packet; the kernel hands over blocks.
  pcap_set_immediate_mode(pcap_, 0);
  pcap_set_timeout(pcap_, timeout_ms);
  pcap_set_buffer_size(pcap_, options.ring_bytes);
  // Not every device has nanoseconds; ask, and look at what it is.
  pcap_set_tstamp_precision(pcap_, PCAP_TSTAMP_PRECISION_NANO);
  const int activated = pcap_activate(pcap_);
  if (activated < 0) {
    const char* detail = pcap_geterr(pcap_);
    std::string reason = detail != nullptr && *detail != 0 ? detail : pcap_statustostr(activated);
    if (activated == PCAP_ERROR_PERM_DENIED) reason += "; capture needs root or CAP_NET_RAW";
    return Error{reason};
  }
  nanoseconds_ = pcap_get_tstamp_precision(pcap_) == PCAP_TSTAMP_PRECISION_NANO;
  link_type_ = pcap_datalink(pcap_);
  // With a memory-mapped ring libpcap waits without end for the first packet, whatever its timeout says. So
  // it never waits; whoever reads does.
  if (pcap_setnonblock(pcap_, 1, problem) != 0) return Error{problem};
  fd_ = pcap_get_selectable_fd(pcap_);
  return SetBaseFilter(options);
}

Status LiveDevice::SetBaseFilter(const LiveSourceOptions& options) {
  if (options.ports.empty()) {
    const Status set = SetFilter(pcap_, options.filter);
    if (!set.ok() || options.filter.empty()) return set;
    user_filter_ = true;
    // The one in the kernel may rest on what only the kernel knows of a packet.
    pcap_t* const dead = pcap_open_dead(link_type_, limits::kSnapLen);
    bpf_program own{};
    if (CompileFilterText(dead, options.filter, own).ok()) {
      if (NeedsTheKernel(own)) {
        pcap_freecode(&own);
      } else {
        own_ = own;
      }
    }
    pcap_close(dead);
  } else if (!SetFilter(pcap_, PortFilterText(options.ports, true)).ok()) {
    const Status set = SetFilter(pcap_, PortFilterText(options.ports, false));
    if (!set.ok()) return set;
  }
  // libpcap has fitted it to what the kernel sees of a packet, and keeps that to itself; the kernel tells.
  base_.resize(BPF_MAXINSNS);
  socklen_t instructions = BPF_MAXINSNS;
  const bool got =
      getsockopt(pcap_fileno(pcap_), SOL_SOCKET, SO_GET_FILTER, base_.data(), &instructions) == 0;
  base_.resize(got ? instructions : 0);
  if (base_.empty()) not_refined_ = "the kernel does not tell its filter";
  // gRPC on other ports is to be noticed from the first packet on. If that cannot be, the next one says so.
  FilterRefinement first;
  first.find_http2 = !options.ports.empty() || own_;
  if (first.find_http2) (void)Refine(first);
  return Done{};
}

Status LiveDevice::Refine(const FilterRefinement& refinement) {
  if (!not_refined_.empty()) return Error{"device " + name_ + ": " + not_refined_};
  FilterLink link = FilterLink::kNetwork;
  switch (link_type_) {
    case DLT_EN10MB:
      link = FilterLink::kEthernet;
      break;
    case DLT_LINUX_SLL:
    case DLT_LINUX_SLL2:
    case DLT_RAW:
      break;
    default:
      return Error{"device " + name_ + ": its link type has no refined filter"};
  }
  FilterRefinement possible = refinement;
  // Of what comes past a filter that cannot be run here nobody could say that it did.
  if (user_filter_ && !own_) possible.find_http2 = false;
  std::vector<sock_filter> program = RefinedProgram(link, possible, base_);
  const sock_fprog told{static_cast<unsigned short>(program.size()), program.data()};
  if (setsockopt(pcap_fileno(pcap_), SOL_SOCKET, SO_ATTACH_FILTER, &told, sizeof told) == 0) return Done{};
  return Error{"device " + name_ + ": a filter of " + std::to_string(program.size()) +
               " instructions: " + std::strerror(errno)};
}

void LiveDevice::Learn() {
  const int socket = pcap_fileno(pcap_);
  sockaddr_ll bound{};
  socklen_t size = sizeof bound;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) == 0) {
    index_ = bound.sll_ifindex;
    hardware_ = bound.sll_hatype;
  }
  int version = 0;
  size = sizeof version;
  if (getsockopt(socket, SOL_PACKET, PACKET_VERSION, &version, &size) == 0) ring_version_ = version;
  ring_bytes_ = MappedBytes(socket);
}

// A loopback device receives it as well, and libpcap leaves it out, when it has been cloned, filtered and
// copied into the ring. The kernel (4.20 and later) can do without all that.
void LiveDevice::LeaveOutWhatLoopbackSends() {
  const int ignore = 1;
  if (hardware_ == ARPHRD_LOOPBACK)
    setsockopt(pcap_fileno(pcap_), SOL_PACKET, PACKET_IGNORE_OUTGOING, &ignore, sizeof ignore);
}

std::string LiveDevice::Description() const {
  char ring[64] = "a ring of unknown size";
  if (ring_bytes_ != 0) {
    std::snprintf(ring, sizeof ring, "a ring of %.2f MiB", static_cast<double>(ring_bytes_) / (1 << 20));
  }
  static constexpr const char* kVersions[] = {"TPACKET_V1", "TPACKET_V2", "TPACKET_V3"};
  const char* const version =
      ring_version_ >= 0 && ring_version_ < 3 ? kVersions[ring_version_] : "no TPACKET";
  const char* const type = pcap_datalink_val_to_name(link_type_);
  return "device " + name_ + ": " + ring + " (" + version + "), stamps in " +
         (nanoseconds_ ? "nanoseconds" : "microseconds") + ", link type " +
         (type != nullptr ? type : std::to_string(link_type_)) + ", " +
         (promiscuous_ ? "promiscuous" : "not promiscuous");
}

// What the kernel let through past a user's filter, because it looks like HTTP/2.
bool LiveDevice::OutsideFilter(const pcap_pkthdr& header, const u_char* bytes) {
  if (!own_ || pcap_offline_filter(&*own_, &header, bytes) != 0) return false;
  // The kernel holds a VLAN tag beside the packet, where its filter does not see it; libpcap puts it back.
  const size_t type = link_type_ == DLT_EN10MB ? 12 : link_type_ == DLT_LINUX_SLL ? 14 : 0;
  const size_t tag = link_type_ == DLT_LINUX_SLL2 ? 20 : type + 2;
  if (header.caplen < tag + 4 || link_type_ == DLT_RAW) return true;
  const uint16_t ether_type = LoadBe16(bytes + type);
  if (ether_type != 0x8100 && ether_type != 0x88A8) return true;
  untagged_.assign(bytes, bytes + header.caplen);
  std::copy(bytes + tag + 2, bytes + tag + 4, untagged_.begin() + static_cast<ptrdiff_t>(type));
  const auto at = untagged_.begin() + static_cast<ptrdiff_t>(tag);
  untagged_.erase(at, at + 4);
  pcap_pkthdr shorter = header;
  shorter.caplen -= 4;
  shorter.len -= 4;
  return pcap_offline_filter(&*own_, &shorter, untagged_.data()) == 0;
}

void LiveDevice::OnPacket(u_char* self, const pcap_pkthdr* header, const u_char* bytes) {
  LiveDevice& device = *reinterpret_cast<LiveDevice*>(self);
  RawPacket& packet = device.packets_.emplace_back();
  packet.time = TimeNs{int64_t{header->ts.tv_sec} * 1'000'000'000 +
                       header->ts.tv_usec * (device.nanoseconds_ ? 1 : 1000)};
  packet.bytes = Bytes(bytes, header->caplen);
  packet.wire_length = header->len;
  packet.link_type = device.link_type_;
  packet.outside_filter = device.OutsideFilter(*header, bytes);
  device.places_.push_back(device.bytes_.size());
  device.bytes_.insert(device.bytes_.end(), bytes, bytes + header->caplen);
  if (device.bytes_.size() >= kBatchBytes) pcap_breakloop(device.pcap_);
}

Status LiveDevice::Fill() {
  packets_.clear();
  places_.clear();
  bytes_.clear();
  at_ = 0;
  if (state_ == State::kGone) return Done{};
  const int got = pcap_dispatch(pcap_, kBatchPackets, OnPacket, reinterpret_cast<u_char*>(this));
  for (size_t i = 0; i < packets_.size(); ++i) {
    packets_[i].bytes = Bytes(bytes_.data() + places_[i], packets_[i].bytes.size());
  }
  if (got >= 0 || got == PCAP_ERROR_BREAK) return Done{};
  const std::string reason = pcap_geterr(pcap_);
  // What the kernel tells of the device says more, and comes as well.
  if (index_ != 0 && LookAtLink(name_).index != index_) return Done{};
  return Error{"device " + name_ + ": " + reason};
}

Status LiveDevice::ListenAgain(int index) {
  const int socket = pcap_fileno(pcap_);
  ifreq request{};
  name_.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (ioctl(socket, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family != hardware_) {
    return Error{"it is of another kind now, and its packets cannot be read as those of before"};
  }
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = index;
  if (bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Error{std::strerror(errno)};
  }
  if (promiscuous_) {
    packet_mreq member{};
    member.mr_ifindex = index;
    member.mr_type = PACKET_MR_PROMISC;
    if (setsockopt(socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &member, sizeof member) != 0) {
      return Error{std::string("promiscuous mode: ") + std::strerror(errno)};
    }
  }
  index_ = index;
  return Done{};
}

void LiveDevice::ReadDrops(Counters& counters) {
  pcap_stat now{};
  if (pcap_stats(pcap_, &now) != 0) return;
  // The kernel's numbers are 32 bits wide and only grow: unsigned differences survive a wrap. Those of a
  // device that was made again begin anew.
  const uint32_t dropped = now.ps_ifdrop - told_.ps_ifdrop;
  counters.Add(Counter::kKernelDrops, now.ps_drop - told_.ps_drop);
  if (dropped < 1u << 31) counters.Add(Counter::kInterfaceDrops, dropped);
  told_ = now;
}

}  // namespace keytrail
