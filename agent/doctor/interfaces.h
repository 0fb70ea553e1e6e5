// What the kernel says of network interfaces, by rtnetlink(7): of this process's network namespace, whatever
// /sys shows. Needs no rights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/result.h"

namespace keytrail {

struct Interface {
  std::string name;
  int index = 0;
  bool up = false;       // administratively
  bool running = false;  // has a carrier
  uint32_t mtu = 0;
  // Largest packets that the host joins before a capture sees them, bytes.
  uint32_t gro_max = 0;
  uint32_t gso_max = 0;
  uint32_t gro_ipv4_max = 0;
  uint32_t gso_ipv4_max = 0;
  uint64_t packets = 0;  // both ways
  uint64_t missed = 0;   // that the card had no room for
};

// Error: netlink does not answer.
Result<std::vector<Interface>> Interfaces();

// How the card is set (ethtool(8)); -1: it does not say.
struct Offload {
  int gro = -1;
  int gso = -1;
  int tso = -1;
  int lro = -1;
  uint32_t rx_ring = 0;      // slots; 0: not told
  uint32_t rx_ring_max = 0;  // slots that it could have
};
Offload OffloadOf(const std::string& device);

}  // namespace keytrail
