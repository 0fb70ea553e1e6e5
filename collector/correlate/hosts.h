// Which machine each agent stands on, which machine each endpoint belongs to, and what each machine does.
//
// A machine is told by its address. A loopback address belongs to the agent that saw it. Pure values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "collector/correlate/call_log.h"

namespace keytrail::correlate {

struct Host {
  IpAddress address;
  std::string name;              // given, else the address
  std::string role;              // "tidb", "pd", "tikv", "client", "unknown"
  std::vector<uint16_t> agents;  // that captured on it
  bool serves_pd = false;
  bool serves_tikv = false;
};

// Numbers of machines by address, the same for every HostTable of one correlator.
class HostNumbers {
 public:
  uint32_t Of(const IpAddress& address);
  const std::vector<IpAddress>& addresses() const { return addresses_; }

 private:
  std::map<IpAddress, uint32_t> numbers_;
  std::vector<IpAddress> addresses_;
};

class HostTable {
 public:
  HostTable(const CallLog& log, HostNumbers& numbers);

  const std::vector<Host>& hosts() const { return hosts_; }
  const Host& operator[](uint32_t host) const { return hosts_[host]; }
  uint32_t OfEndpoint(uint32_t endpoint) const { return of_endpoint_[endpoint]; }
  // kNone: the agent's own machine could not be told.
  uint32_t OfAgent(uint16_t agent) const { return of_agent_[agent]; }
  const std::vector<uint32_t>& of_agents() const { return of_agent_; }
  bool Captured(uint32_t host) const { return !hosts_[host].agents.empty(); }
  // The endpoint as people should read it: a loopback address becomes its host's.
  std::string EndpointText(const CallLog& log, uint32_t endpoint) const;

 private:
  void FindAgents(const CallLog& log);
  void FindRoles(const CallLog& log);
  uint32_t HostOf(const IpAddress& address);

  HostNumbers& numbers_;
  std::vector<Host> hosts_;
  std::vector<uint32_t> of_endpoint_;
  std::vector<uint32_t> of_agent_;
};

}  // namespace keytrail::correlate
