// BPF filters, for both kinds of source. Inside this room only.
#pragma once

#include <pcap/pcap.h>

#include <string>

#include "common/result.h"

namespace keytrail {

// Empty text: no filter. The Error quotes the filter and libpcap's reason.
inline Status SetFilter(pcap_t* pcap, const std::string& text) {
  if (text.empty()) return Done{};
  bpf_program program{};
  if (pcap_compile(pcap, &program, text.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0) {
    return Error{"filter '" + text + "': " + pcap_geterr(pcap)};
  }
  const int set = pcap_setfilter(pcap, &program);
  pcap_freecode(&program);
  if (set != 0) return Error{"filter '" + text + "': " + pcap_geterr(pcap)};
  return Done{};
}

}  // namespace keytrail
