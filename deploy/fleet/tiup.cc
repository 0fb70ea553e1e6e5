// Keys and defaults are those of pkg/cluster/spec of github.com/pingcap/tiup: spec.go (GlobalOptions),
// tidb.go, pd.go, tikv.go, tiflash.go.
#include <algorithm>
#include <map>

#include "deploy/fleet/readers.h"

namespace keytrail {

namespace {

struct PortKey {
  const char* key;
  uint16_t usual;
};

// Where a component serves gRPC. Its other ports (MySQL 4000, etcd's peers 2380, status pages 20180 and
// 20292, TiFlash's own 9000, 8123 and 8234) carry none, and what is captured there would cost and tell
// nothing.
struct Component {
  const char* section;
  const char* name;
  std::vector<PortKey> grpc;
  std::vector<PortKey> others;  // checked alone
};

const std::vector<Component>& Components() {
  static const std::vector<Component> components = {
      {"tidb_servers", "tidb", {{"status_port", 10080}}, {{"port", 4000}}},
      {"pd_servers", "pd", {{"client_port", 2379}}, {{"peer_port", 2380}}},
      {"tikv_servers", "tikv", {{"port", 20160}}, {{"status_port", 20180}}},
      {"tiflash_servers",
       "tiflash",
       {{"flash_service_port", 3930}, {"flash_proxy_port", 20170}},
       {{"tcp_port", 9000}, {"http_port", 8123}, {"flash_proxy_status_port", 20292}, {"metrics_port", 8234}}},
  };
  return components;
}

struct Global {
  std::string user = "tidb";
  int ssh_port = 22;
  std::string arch = "amd64";
  bool tls = false;
};

Global ReadGlobal(const YamlFields& file) {
  Global global;
  const std::optional<YamlFields> fields = file.Below("global");
  if (!fields) return global;
  if (fields->Has("user")) global.user = UserOf(*fields, "user");
  global.ssh_port = fields->Port("ssh_port").value_or(22);
  global.arch = fields->Text("arch").value_or("amd64");
  global.tls = fields->Flag("enable_tls").value_or(false);
  return global;
}

void Add(const YamlFields& entry, const Component& component, const Global& global, Topology& topology) {
  const std::string address = HostOf(entry, "host");
  auto host = std::find_if(topology.hosts.begin(), topology.hosts.end(),
                           [&](const FleetHost& other) { return other.address == address; });
  const int ssh_port = entry.Port("ssh_port").value_or(global.ssh_port);
  const std::string arch = entry.Text("arch").value_or(global.arch);
  if (host == topology.hosts.end()) {
    FleetHost added;
    added.name = NameOf(address);
    added.address = added.access.ssh_host = address;
    added.access.ssh_user = global.user;
    added.access.ssh_port = ssh_port;
    added.arch = arch;
    host = topology.hosts.insert(topology.hosts.end(), std::move(added));
  } else if (host->access.ssh_port != ssh_port) {
    entry.Fail("ssh_port", "host '" + address + "' has ssh port " + std::to_string(host->access.ssh_port) +
                               " elsewhere in the file, and " + std::to_string(ssh_port) + " here");
  }
  if (std::find(host->components.begin(), host->components.end(), component.name) == host->components.end()) {
    host->components.push_back(component.name);
  }
  for (const PortKey& port : component.grpc) {
    const uint16_t number = entry.Port(port.key).value_or(port.usual);
    if (std::find(host->ports.begin(), host->ports.end(), number) == host->ports.end()) {
      host->ports.push_back(number);
    }
  }
  for (const PortKey& port : component.others) (void)entry.Port(port.key);
}

}  // namespace

bool IsTiup(const YamlFields& file) {
  return std::any_of(Components().begin(), Components().end(),
                     [&](const Component& component) { return file.Has(component.section); });
}

Topology ReadTiup(const YamlFields& file) {
  Topology topology;
  topology.tiup = true;
  const Global global = ReadGlobal(file);
  for (const Component& component : Components()) {
    for (const YamlFields& entry : file.List(component.section)) Add(entry, component, global, topology);
  }
  if (global.tls) {
    topology.notes.push_back(
        "global.enable_tls is true: the cluster speaks TLS, which can be recognised and not read");
  }
  return topology;
}

}  // namespace keytrail
