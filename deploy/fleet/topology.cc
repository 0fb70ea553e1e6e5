#include "deploy/fleet/topology.h"

#include <algorithm>
#include <set>

#include "common/curve_key.h"
#include "common/limits.h"
#include "deploy/fleet/readers.h"

namespace keytrail {

namespace {

bool IsWord(const std::string& text, const std::string& others) {
  return !text.empty() && text.size() <= 255 && text[0] != '-' &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  others.find(c) != std::string::npos;
         });
}

// Each a name of its own; the folder and the key of a host are called by it.
Status CheckNames(const Topology& topology, const std::string& path) {
  std::set<std::string> seen;
  for (const FleetHost& host : topology.hosts) {
    if (!IsKeyName("fleet-" + host.name)) {
      return Error{path + ": host '" + host.name +
                   "': a name has letters, digits, '.', '_' and '-', at most 58; give it one with name:"};
    }
    if (host.name == "collector") {
      return Error{path + ": a host cannot be called 'collector': the collector's own folder is"};
    }
    if (!seen.insert(host.name).second) {
      return Error{path + ": two hosts are called '" + host.name + "'; tell them apart with name:"};
    }
  }
  return Done{};
}

}  // namespace

bool IsHostWord(const std::string& text) {
  return IsWord(text, ".-_:%[]");
}

bool IsUserWord(const std::string& text) {
  return IsWord(text, ".-_$");
}

std::string NameOf(const std::string& address) {
  std::string name = address;
  for (char& c : name) {
    if (c == ':' || c == '%' || c == '[' || c == ']') c = '-';
  }
  return name.empty() || name[0] == '-' || name[0] == '.' || name[0] == '_' ? "h" + name : name;
}

std::string HostOf(const YamlFields& entry, const std::string& key) {
  const std::optional<std::string> host = entry.Text(key);
  if (!host) entry.Fail("there is no " + key + ":");
  if (!IsHostWord(*host)) entry.Fail(key, "'" + *host + "' is no name or address of a host");
  return *host;
}

std::string UserOf(const YamlFields& entry, const std::string& key) {
  const std::optional<std::string> user = entry.Text(key);
  if (!user) return {};
  if (!IsUserWord(*user)) entry.Fail(key, "'" + *user + "' is no name of a user");
  return *user;
}

Result<Topology> ReadTopology(const std::string& text, const std::string& path) {
  Topology topology;
  try {
    YAML::Node root = YAML::Load(text);
    // What TiUP keeps of a cluster (meta.yaml) has the topology below.
    if (root.IsMap() && root["topology"] && root["topology"].IsMap()) root.reset(root["topology"]);
    if (!root.IsMap()) {
      return Error{path +
                   ": neither a TiUP topology (pd_servers:, tikv_servers:, …) nor an inventory (hosts:)"};
    }
    const YamlFields file(root, path, "the file");
    if (IsTiup(file)) {
      topology = ReadTiup(file);
    } else if (file.Has("hosts")) {
      topology = ReadInventory(file);
    } else {
      return Error{path +
                   ": neither a TiUP topology (pd_servers:, tikv_servers:, …) nor an inventory (hosts:)"};
    }
  } catch (const WrongTopology& wrong) {
    return Error{wrong.what()};
  } catch (const YAML::Exception& wrong) {
    return Error{path + ":" + std::to_string(wrong.mark.line + 1) + ":" +
                 std::to_string(wrong.mark.column + 1) + ": " + wrong.msg};
  } catch (const std::exception& wrong) {
    return Error{path + ": " + wrong.what()};
  }
  if (topology.hosts.empty()) return Error{path + ": there is no host in it"};
  if (topology.hosts.size() > limits::kMaxFleetHosts) {
    return Error{path + ": " + std::to_string(topology.hosts.size()) + " hosts are more than the " +
                 std::to_string(limits::kMaxFleetHosts) + " that a collector has room for"};
  }
  const Status names = CheckNames(topology, path);
  if (!names.ok()) return Error{names.error()};
  return topology;
}

}  // namespace keytrail
