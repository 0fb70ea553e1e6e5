// Addresses of the service: without TLS of this host only.

#include "collector/query/answer_source.h"
#include "common/flow_key.h"

namespace keytrail {

Status CheckQueryAddress(const std::string& address, bool with_tls) {
  if (address.starts_with("unix:")) {
    if (address.size() > 5 && address.back() != '/') return Done{};
    return Error{"'" + address + "' names no socket"};
  }
  const Error none{"'" + address + "' is no address; HOST:PORT or unix:PATH is"};
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return none;
  const std::string port = address.substr(colon + 1);
  if (port.empty() || port.size() > 5 || port.find_first_not_of("0123456789") != std::string::npos ||
      std::stoi(port) > 65535) {
    return none;
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return none;
  }
  if (with_tls || host == "localhost") return Done{};
  const Result<IpAddress> ip = ParseAddress(host);
  if (ip.ok() && ip->is_loopback()) return Done{};
  return Error{"'" + address +
               "' is not of this host alone, and without TLS anybody on the way could read the queries and "
               "answers, and ask"
               " their own; give certificates (keytrail-collector --query-cert and --query-key, keytrail "
               "--tls-ca), or use"
               " 127.0.0.1, [::1] or unix:PATH (from another host, through ssh -L 7451:127.0.0.1:7451)"};
}

}  // namespace keytrail
