#include "deploy/fleet/readers.h"

namespace keytrail {

namespace {

FleetAccess ReadAccess(const YamlFields& entry, bool local_by_default) {
  FleetAccess access;
  const std::string transport = entry.Text("transport").value_or(local_by_default ? "local" : "ssh");
  if (transport != "ssh" && transport != "local") {
    entry.Fail("transport", "transport '" + transport + "' is neither ssh nor local");
  }
  access.local = transport == "local";
  access.run = entry.Texts("run");
  if (!access.local && !access.run.empty()) entry.Fail("run", "run: is for transport: local");
  access.ssh_user = UserOf(entry, "ssh_user");
  access.ssh_port = entry.Port("ssh_port").value_or(0);
  if (!access.local) access.ssh_host = HostOf(entry, "host");
  return access;
}

std::string FolderOf(const YamlFields& entry, const std::string& key) {
  const std::string folder = entry.Text(key).value_or("");
  if (!folder.empty() && folder[0] != '/') entry.Fail(key, key + " '" + folder + "' must begin with '/'");
  return folder;
}

FleetHost ReadHost(const YamlFields& entry) {
  FleetHost host;
  const std::optional<std::string> name = entry.Text("name");
  if (!name && !entry.Has("host")) entry.Fail("there is neither host: nor name:");
  host.access = ReadAccess(entry, false);
  host.address = entry.Has("host") ? HostOf(entry, "host") : *name;
  host.name = name.value_or(NameOf(host.address));
  host.ports = entry.Ports("ports");
  host.device = entry.Text("device").value_or("any");
  if (host.device.empty() || host.device[0] == '-') entry.Fail("device", "this is no device");
  host.filter = entry.Text("filter").value_or("");
  host.dir = FolderOf(entry, "dir");
  host.arch = entry.Text("arch").value_or("amd64");
  return host;
}

FleetCollector ReadCollector(const YamlFields& entry) {
  FleetCollector collector;
  collector.start = entry.Flag("start").value_or(false);
  collector.address = entry.Text("address").value_or("");
  collector.listen = entry.Text("listen").value_or("");
  collector.query = entry.Text("query").value_or("");
  collector.data = FolderOf(entry, "data");
  collector.program = entry.Text("program").value_or("");
  collector.server_key = entry.Text("server_key").value_or("");
  collector.admitted = FolderOf(entry, "admitted");
  collector.dir = FolderOf(entry, "dir");
  collector.access = ReadAccess(entry, !entry.Has("host"));
  return collector;
}

}  // namespace

Topology ReadInventory(const YamlFields& file) {
  Topology topology;
  for (const YamlFields& entry : file.List("hosts")) topology.hosts.push_back(ReadHost(entry));
  if (const std::optional<YamlFields> collector = file.Below("collector")) {
    topology.collector = ReadCollector(*collector);
  }
  return topology;
}

}  // namespace keytrail
