#include "agent/capture/device_look.h"

#include <pcap/pcap.h>

#include <memory>

#include "agent/capture/filter.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr int kSmallRing = 2 << 20;

using Pcap = std::unique_ptr<pcap_t, void (*)(pcap_t*)>;

DeviceLook::Trouble TroubleOf(int status) {
  switch (status) {
    case PCAP_ERROR_NO_SUCH_DEVICE:
      return DeviceLook::Trouble::kNoDevice;
    case PCAP_ERROR_PERM_DENIED:
    case PCAP_ERROR_PROMISC_PERM_DENIED:
      return DeviceLook::Trouble::kNoRights;
    case PCAP_ERROR_IFACE_NOT_UP:
      return DeviceLook::Trouble::kDown;
    default:
      return DeviceLook::Trouble::kOther;
  }
}

std::string FilterProblem(pcap_t* pcap, const std::string& filter) {
  if (filter.empty()) return {};
  bpf_program code{};
  const Status compiled = CompileFilterText(pcap, filter, code);
  if (!compiled.ok()) return compiled.error();
  pcap_freecode(&code);
  return {};
}

}  // namespace

DeviceLook LookAtDevice(const std::string& device, const std::string& filter) {
  DeviceLook look;
  char problem[PCAP_ERRBUF_SIZE] = {};
  const Pcap pcap(pcap_create(device.c_str(), problem), pcap_close);
  if (pcap == nullptr) {
    look.trouble = DeviceLook::Trouble::kOther;
    look.reason = problem;
    return look;
  }
  pcap_set_snaplen(pcap.get(), limits::kSnapLen);
  pcap_set_promisc(pcap.get(), 0);
  pcap_set_buffer_size(pcap.get(), kSmallRing);
  const int activated = pcap_activate(pcap.get());
  if (activated < 0) {
    look.trouble = TroubleOf(activated);
    const char* detail = pcap_geterr(pcap.get());
    look.reason = detail != nullptr && *detail != 0 ? detail : pcap_statustostr(activated);
    const Pcap dead(pcap_open_dead(DLT_EN10MB, limits::kSnapLen), pcap_close);
    if (dead != nullptr) look.filter_problem = FilterProblem(dead.get(), filter);
    return look;
  }
  look.link_type = pcap_datalink(pcap.get());
  const char* name = pcap_datalink_val_to_name(look.link_type);
  look.link_name = name != nullptr ? name : std::to_string(look.link_type);
  look.filter_problem = FilterProblem(pcap.get(), filter);
  return look;
}

}  // namespace keytrail
