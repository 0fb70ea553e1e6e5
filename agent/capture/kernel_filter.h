// The kernel's filter of a live device: which packets reach the ring at all.
//
// It has two parts. The base is BPF text (the user's, or one of ports), compiled by libpcap. Before it stands
// a part of ours that changes while the capture goes on (FilterRefinement). pcap_setfilter() would let a
// moment pass in which nothing is captured, and nobody would know; so the program is put together here and
// exchanged at once (socket(7), SO_ATTACH_FILTER), which needs no rights.
//
// Inside this room only. Pure functions, no state.
#pragma once

#include <linux/filter.h>

#include <string>
#include <vector>

#include "agent/capture/packet_source.h"
#include "common/port_range.h"

namespace keytrail {

// TCP of these ports, and what may hold it where libpcap's `port` does not look: fragments behind the first,
// IPv6 with extension headers, tunnels; with_vlan: tagged packets, too (not every link type has them).
std::string PortFilterText(const std::vector<PortRange>& ports, bool with_vlan);

// How packets of a socket begin, as its filter sees them.
enum class FilterLink : uint8_t {
  kEthernet,
  kNetwork,  // at the IP header: cooked (`any`) and raw IP sockets
};

// The part of ours and the base behind it. Connections that make it longer than the kernel takes are left
// out, so they are captured.
std::vector<sock_filter> RefinedProgram(FilterLink link, const FilterRefinement& refinement,
                                        const std::vector<sock_filter>& base);

}  // namespace keytrail
