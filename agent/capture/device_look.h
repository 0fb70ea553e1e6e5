// What libpcap says of a device before an agent captures on it: for `--doctor`.
//
// A device is opened for a moment with a small ring; nothing of it is changed and nothing is read. One
// thread.
#pragma once

#include <string>

namespace keytrail {

struct DeviceLook {
  enum class Trouble { kNone, kNoDevice, kNoRights, kDown, kOther };
  Trouble trouble = Trouble::kNone;
  std::string reason;          // libpcap's words for the trouble
  int link_type = -1;          // DLT_*, if it could be opened
  std::string link_name;       // "EN10MB"
  std::string filter_problem;  // empty: the filter is one; also looked at when the device cannot be opened
};

DeviceLook LookAtDevice(const std::string& device, const std::string& filter);

}  // namespace keytrail
