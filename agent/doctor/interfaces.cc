#include "agent/doctor/interfaces.h"

#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/descriptor.h"

namespace keytrail {

namespace {

// linux/if_link.h of Linux 6.3; Debian 12 has an earlier one.
constexpr int kGsoIpv4MaxSize = 63;
constexpr int kGroIpv4MaxSize = 64;

uint32_t NumberOf(const rtattr* attribute) {
  uint32_t value = 0;
  if (RTA_PAYLOAD(attribute) >= sizeof value) std::memcpy(&value, RTA_DATA(attribute), sizeof value);
  return value;
}

void TakeAttribute(const rtattr* attribute, Interface& found) {
  switch (attribute->rta_type & NLA_TYPE_MASK) {
    case IFLA_IFNAME: {
      const char* name = static_cast<const char*>(RTA_DATA(attribute));
      found.name.assign(name, strnlen(name, RTA_PAYLOAD(attribute)));
      return;
    }
    case IFLA_MTU:
      found.mtu = NumberOf(attribute);
      return;
    case IFLA_GSO_MAX_SIZE:
      found.gso_max = NumberOf(attribute);
      return;
    case IFLA_GRO_MAX_SIZE:
      found.gro_max = NumberOf(attribute);
      return;
    case kGsoIpv4MaxSize:
      found.gso_ipv4_max = NumberOf(attribute);
      return;
    case kGroIpv4MaxSize:
      found.gro_ipv4_max = NumberOf(attribute);
      return;
    case IFLA_STATS64: {
      rtnl_link_stats64 stats{};
      std::memcpy(&stats, RTA_DATA(attribute), std::min(sizeof stats, size_t{RTA_PAYLOAD(attribute)}));
      found.packets = stats.rx_packets + stats.tx_packets;
      // rx_dropped is left out: it counts what no protocol of the host wanted, which a capture sees all the
      // same.
      found.missed = stats.rx_missed_errors + stats.rx_fifo_errors;
      return;
    }
    default:
      return;
  }
}

Interface Parse(const nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(header));
  Interface found;
  found.index = info->ifi_index;
  found.up = (info->ifi_flags & IFF_UP) != 0;
  found.running = (info->ifi_flags & IFF_RUNNING) != 0;
  auto left = static_cast<int>(header->nlmsg_len) - static_cast<int>(NLMSG_LENGTH(sizeof *info));
  for (const rtattr* a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) TakeAttribute(a, found);
  return found;
}

bool Ask(int fd, const char* device, uint32_t command, void* data) {
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  request.ifr_data = static_cast<char*>(data);
  *static_cast<uint32_t*>(data) = command;
  return ioctl(fd, SIOCETHTOOL, &request) == 0;
}

int Flag(int fd, const char* device, uint32_t command) {
  ethtool_value value{};
  return Ask(fd, device, command, &value) ? (value.data != 0 ? 1 : 0) : -1;
}

}  // namespace

Result<std::vector<Interface>> Interfaces() {
  const auto failed = [] { return Error{std::string("netlink: ") + std::strerror(errno)}; };
  const Descriptor netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (netlink.get() < 0) return failed();
  const timeval patience{2, 0};
  (void)setsockopt(netlink.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  struct {
    nlmsghdr header;
    ifinfomsg info;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  if (send(netlink.get(), &request, sizeof request, 0) < 0) return failed();
  std::vector<Interface> all;
  alignas(nlmsghdr) static char bytes[64 << 10];
  for (;;) {
    const ssize_t got = recv(netlink.get(), bytes, sizeof bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed();
    auto left = static_cast<unsigned>(got);
    for (auto* h = reinterpret_cast<nlmsghdr*>(bytes); NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
      if (h->nlmsg_type == NLMSG_DONE) return all;
      if (h->nlmsg_type == NLMSG_ERROR) return Error{"netlink: the kernel does not list the interfaces"};
      if (h->nlmsg_type == RTM_NEWLINK) all.push_back(Parse(h));
    }
  }
}

Offload OffloadOf(const std::string& device) {
  Offload offload;
  const Descriptor any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (any.get() < 0) return offload;
  offload.gro = Flag(any.get(), device.c_str(), ETHTOOL_GGRO);
  offload.gso = Flag(any.get(), device.c_str(), ETHTOOL_GGSO);
  offload.tso = Flag(any.get(), device.c_str(), ETHTOOL_GTSO);
  ethtool_value flags{};
  if (Ask(any.get(), device.c_str(), ETHTOOL_GFLAGS, &flags)) {
    offload.lro = (flags.data & ETH_FLAG_LRO) != 0 ? 1 : 0;
  }
  ethtool_ringparam ring{};
  if (Ask(any.get(), device.c_str(), ETHTOOL_GRINGPARAM, &ring)) {
    offload.rx_ring = ring.rx_pending;
    offload.rx_ring_max = ring.rx_max_pending;
  }
  return offload;
}

}  // namespace keytrail
