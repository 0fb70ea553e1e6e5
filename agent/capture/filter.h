// BPF filters, for both kinds of source. Inside this room only.
#pragma once

#include <pcap/pcap.h>

#include <string>

#include "common/result.h"

namespace keytrail {

// `code` is to be freed with pcap_freecode(), if this succeeds. The Error quotes the filter and libpcap's
// reason.
inline Status CompileFilterText(pcap_t* pcap, const std::string& text, bpf_program& code) {
  if (pcap_compile(pcap, &code, text.c_str(), 1, PCAP_NETMASK_UNKNOWN) == 0) return Done{};
  return Error{"filter '" + text + "': " + pcap_geterr(pcap)};
}

// Empty text: no filter.
inline Status SetFilter(pcap_t* pcap, const std::string& text) {
  if (text.empty()) return Done{};
  bpf_program code{};
  const Status compiled = CompileFilterText(pcap, text, code);
  if (!compiled.ok()) return compiled;
  const int set = pcap_setfilter(pcap, &code);
  pcap_freecode(&code);
  if (set != 0) return Error{"filter '" + text + "': " + pcap_geterr(pcap)};
  return Done{};
}

}  // namespace keytrail
