#include "agent/capture/link_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/descriptor.h"

namespace keytrail {

namespace {

// A message of a device with hundreds of virtual functions has some tens of KiB; one that does not fit is
// told as lost.
constexpr size_t kReceiveBytes = 64 << 10;

void ReadMessage(const nlmsghdr& message, std::vector<LinkEvent>& events) {
  if (message.nlmsg_type != RTM_NEWLINK && message.nlmsg_type != RTM_DELLINK) return;
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg))) return;
  const auto* about = static_cast<const ifinfomsg*>(NLMSG_DATA(&message));
  // A bridge says of each of its ports that it is one no more: that is no end of the device.
  if (about->ifi_family != AF_UNSPEC) return;
  LinkEvent event;
  event.index = about->ifi_index;
  event.removed = message.nlmsg_type == RTM_DELLINK;
  event.up = !event.removed && (about->ifi_flags & IFF_UP) != 0;
  const auto* attribute =
      reinterpret_cast<const rtattr*>(reinterpret_cast<const char*>(about) + NLMSG_ALIGN(sizeof(ifinfomsg)));
  auto left = static_cast<int>(message.nlmsg_len - NLMSG_LENGTH(sizeof(ifinfomsg)));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type != IFLA_IFNAME) continue;
    const char* name = static_cast<const char*>(RTA_DATA(attribute));
    event.name.assign(name, strnlen(name, RTA_PAYLOAD(attribute)));
  }
  events.push_back(std::move(event));
}

}  // namespace

LinkWatch::~LinkWatch() {
  if (fd_ >= 0) close(fd_);
}

Status LinkWatch::Open() {
  fd_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  buffer_ = std::make_unique<char[]>(kReceiveBytes);
  if (fd_ >= 0 && bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return Done{};
  const int error = errno;
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  return Error{std::string("netlink: ") + std::strerror(error)};
}

bool LinkWatch::Read(std::vector<LinkEvent>& events) {
  for (;;) {
    sockaddr_nl from{};
    iovec room{buffer_.get(), kReceiveBytes};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &room;
    message.msg_iovlen = 1;
    const ssize_t got = recvmsg(fd_, &message, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    if ((message.msg_flags & MSG_TRUNC) != 0) return false;
    if (from.nl_pid != 0) continue;  // not the kernel
    auto left = static_cast<unsigned>(got);
    for (const auto* at = reinterpret_cast<const nlmsghdr*>(buffer_.get()); NLMSG_OK(at, left);
         at = NLMSG_NEXT(at, left)) {
      ReadMessage(*at, events);
    }
  }
}

LinkEvent LookAtLink(const std::string& name) {
  LinkEvent link;
  link.name = name;
  const Descriptor some(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (ioctl(some.get(), SIOCGIFINDEX, &request) != 0) {
    link.removed = true;
    return link;
  }
  link.index = request.ifr_ifindex;
  link.up = ioctl(some.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
  return link;
}

}  // namespace keytrail
