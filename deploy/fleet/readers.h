// The two forms that ReadTopology knows. Of this room alone; both throw WrongTopology.
#pragma once

#include <string>

#include "deploy/fleet/topology.h"
#include "deploy/fleet/yaml_fields.h"

namespace keytrail {

bool IsTiup(const YamlFields& file);
Topology ReadTiup(const YamlFields& file);
Topology ReadInventory(const YamlFields& file);

// A name for a host of this address.
std::string NameOf(const std::string& address);

// Checked `host`, `ssh_user` and `ssh_port` of an entry.
std::string HostOf(const YamlFields& entry, const std::string& key);
std::string UserOf(const YamlFields& entry, const std::string& key);

}  // namespace keytrail
