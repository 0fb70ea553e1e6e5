// The text of host.sh, which `keytrail fleet` gives to the shell of each host.
#pragma once

#include <string_view>

namespace keytrail {

std::string_view HostScript();

}  // namespace keytrail
