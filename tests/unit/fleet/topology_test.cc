#include "deploy/fleet/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/limits.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Topology Read(const std::string& text) {
  Result<Topology> topology = ReadTopology(text, "t.yaml");
  EXPECT_TRUE(topology.ok()) << (topology.ok() ? "" : topology.error());
  return topology.ok() ? *topology : Topology();
}

std::string ErrorOf(const std::string& text) {
  const Result<Topology> topology = ReadTopology(text, "t.yaml");
  return topology.ok() ? "no error" : topology.error();
}

// As `tiup cluster template --full` shapes it: defaults of a section above, what differs below.
constexpr char kCluster[] = R"(
# comments, and keys that keytrail does not know
global:
  user: "deploy"
  ssh_port: 2222
  deploy_dir: "/tidb-deploy"
  data_dir: "/tidb-data"
  arch: "amd64"
  resource_control:
    memory_limit: "2G"
monitored:
  node_exporter_port: 9100
server_configs:
  tikv:
    readpool.unified.max-thread-count: 8
    server.grpc-concurrency: 4
pd_servers:
  - host: 10.0.1.11
    name: "pd-1"
    client_port: 2379
    peer_port: 2380
    config:
      schedule.max-merge-region-size: 20
  - host: 10.0.1.12
    client_port: 12379
tidb_servers:
  - host: 10.0.1.11
  - host: 10.0.1.12
    port: 4001
    status_port: 10081
    ssh_port: 2222
tikv_servers:
  - host: 10.0.1.13
    ssh_port: 22
    port: 20161
    status_port: 20181
    numa_node: "0,1"
    arch: arm64
    config:
      server.labels: { zone: "zone1", host: "host1" }
  - host: 10.0.1.13
    ssh_port: 22
    port: 20162
    arch: arm64
tiflash_servers:
  - host: tiflash-1.example
    flash_proxy_port: 20171
cdc_servers:
  - host: 10.0.1.99
monitoring_servers:
  - host: 10.0.1.98
)";

TEST(TiupTopology, OneAgentAHostWithThePortsOfAllItsComponents) {
  const Topology topology = Read(kCluster);
  EXPECT_TRUE(topology.tiup);
  std::map<std::string, FleetHost> hosts;
  for (const FleetHost& host : topology.hosts) hosts[host.name] = host;
  ASSERT_EQ(hosts.size(), 4u);
  EXPECT_THAT(hosts["10.0.1.11"].components, ElementsAre("tidb", "pd"));
  EXPECT_THAT(hosts["10.0.1.11"].ports, ElementsAre(10080, 2379));
  EXPECT_THAT(hosts["10.0.1.12"].ports, ElementsAre(10081, 12379));
  EXPECT_THAT(hosts["10.0.1.13"].components, ElementsAre("tikv"));
  EXPECT_THAT(hosts["10.0.1.13"].ports, ElementsAre(20161, 20162));
  EXPECT_THAT(hosts["tiflash-1.example"].ports, ElementsAre(3930, 20171));
  EXPECT_EQ(hosts["10.0.1.11"].access.ssh_user, "deploy");
  EXPECT_EQ(hosts["10.0.1.11"].access.ssh_port, 2222);
  EXPECT_EQ(hosts["10.0.1.13"].access.ssh_port, 22);
  EXPECT_EQ(hosts["10.0.1.13"].arch, "arm64");
  EXPECT_EQ(hosts["10.0.1.11"].arch, "amd64");
  EXPECT_FALSE(hosts["10.0.1.11"].access.local);
  EXPECT_THAT(topology.notes, IsEmpty());
}

TEST(TiupTopology, DefaultsOfTiup) {
  const Topology topology = Read("tikv_servers:\n  - host: a\npd_servers: []\ntidb_servers:\n");
  ASSERT_EQ(topology.hosts.size(), 1u);
  const FleetHost& host = topology.hosts[0];
  EXPECT_THAT(host.ports, ElementsAre(20160));
  EXPECT_EQ(host.access.ssh_user, "tidb");
  EXPECT_EQ(host.access.ssh_port, 22);
  EXPECT_EQ(host.arch, "amd64");
  EXPECT_EQ(host.device, "any");
}

TEST(TiupTopology, WhatTiupKeepsOfAClusterHasItBelow) {
  const Topology topology = Read(
      "user: tidb\ntidb_version: v7.5.1\ntopology:\n  global:\n    user: me\n  pd_servers:\n  - host: b\n    "
      "ssh_port: 0\n");
  ASSERT_EQ(topology.hosts.size(), 1u);
  EXPECT_EQ(topology.hosts[0].access.ssh_user, "me");
  EXPECT_EQ(topology.hosts[0].access.ssh_port, 22);
}

TEST(TiupTopology, AnIpv6AddressMakesAName) {
  const Topology topology = Read("pd_servers:\n  - host: \"fd00::1\"\n  - host: \"::1\"\n");
  ASSERT_EQ(topology.hosts.size(), 2u);
  EXPECT_EQ(topology.hosts[0].name, "fd00--1");
  EXPECT_EQ(topology.hosts[1].name, "h--1");
  EXPECT_EQ(topology.hosts[1].access.ssh_host, "::1");
}

TEST(TiupTopology, TlsIsTold) {
  const Topology topology = Read("global:\n  enable_tls: true\npd_servers:\n  - host: a\n");
  ASSERT_EQ(topology.notes.size(), 1u);
  EXPECT_THAT(topology.notes[0], HasSubstr("TLS"));
}

TEST(Inventory, AllThatAHostCanHave) {
  const Topology topology = Read(R"(
collector:
  start: true
  host: c.example
  ssh_user: root
  ssh_port: 2022
  address: c.example:7450
  listen: 0.0.0.0:7450
  query: 127.0.0.1:7451
  data: /data/keytrail
  dir: /srv
  program: /opt/keytrail-collector
hosts:
  - host: 10.0.0.1
  - {name: tikv1, transport: local, run: [nsenter, "--net=/proc/1/ns/net", --], ports: [20160, 20170],
     device: eth1, filter: "tcp port 1", dir: /scratch, arch: x86_64}
  - {host: b, name: pd1, ssh_user: me, ssh_port: 23, ports: [2379]}
)");
  EXPECT_FALSE(topology.tiup);
  const FleetCollector& collector = topology.collector;
  EXPECT_TRUE(collector.start);
  EXPECT_FALSE(collector.access.local);
  EXPECT_EQ(collector.access.ssh_host, "c.example");
  EXPECT_EQ(collector.access.ssh_port, 2022);
  EXPECT_EQ(collector.data, "/data/keytrail");
  EXPECT_EQ(collector.program, "/opt/keytrail-collector");
  ASSERT_EQ(topology.hosts.size(), 3u);
  EXPECT_EQ(topology.hosts[0].name, "10.0.0.1");
  EXPECT_TRUE(topology.hosts[0].access.ssh_user.empty());
  EXPECT_EQ(topology.hosts[0].access.ssh_port, 0);
  EXPECT_TRUE(topology.hosts[1].access.local);
  EXPECT_THAT(topology.hosts[1].access.run, ElementsAre("nsenter", "--net=/proc/1/ns/net", "--"));
  EXPECT_THAT(topology.hosts[1].ports, ElementsAre(20160, 20170));
  EXPECT_EQ(topology.hosts[1].filter, "tcp port 1");
  EXPECT_EQ(topology.hosts[1].dir, "/scratch");
  EXPECT_EQ(topology.hosts[2].name, "pd1");
  EXPECT_EQ(topology.hosts[2].access.ssh_host, "b");
  EXPECT_EQ(topology.hosts[2].access.ssh_user, "me");
}

TEST(Inventory, TheCollectorIsOnThisMachineUnlessItHasAHost) {
  const Topology topology =
      Read("collector: {start: true, address: 10.0.0.9:1, data: /d}\nhosts:\n  - host: a\n");
  EXPECT_TRUE(topology.collector.access.local);
}

TEST(Topology, ErrorsSayWhere) {
  const struct {
    const char* text;
    const char* error;
  } cases[] = {
      {"pd_servers:\n  - host: a\n    client_port: many\n",
       "t.yaml:3:18: pd_servers[0]: client_port 'many' is no port"},
      {"pd_servers:\n  - host: a\n    client_port: 65536\n",
       "t.yaml:3:18: pd_servers[0]: client_port '65536' is no port"},
      {"pd_servers:\n  - host: a\n    client_port: -1\n", "t.yaml:3:18: "},
      {"pd_servers:\n  - host: a\n    client_port: [1]\n",
       "t.yaml:3:18: pd_servers[0]: client_port must be one word or number"},
      {"pd_servers:\n  - name: a\n", "t.yaml:2:5: pd_servers[0]: there is no host:"},
      {"pd_servers:\n  - a\n", "t.yaml:2:5: pd_servers[0] must have keys and values"},
      {"pd_servers:\n  host: a\n", "t.yaml:2:3: pd_servers must be a list"},
      {"global: 5\npd_servers:\n  - host: a\n", "t.yaml:1:9: global must have keys and values"},
      {"global:\n  enable_tls: perhaps\npd_servers:\n  - host: a\n",
       "t.yaml:2:15: global: enable_tls must be true or false"},
      {"pd_servers:\n  - host: -oProxyCommand=x\n",
       "t.yaml:2:11: pd_servers[0]: '-oProxyCommand=x' is no name or address of a host"},
      {"pd_servers:\n  - host: a b\n", "t.yaml:2:11: "},
      {"global:\n  user: -l\npd_servers:\n  - host: a\n", "t.yaml:2:9: global: '-l' is no name of a user"},
      {"pd_servers:\n  - host: a\ntikv_servers:\n  - host: a\n    ssh_port: 23\n",
       "t.yaml:5:15: tikv_servers[0]: host 'a' has ssh port 22 elsewhere in the file, and 23 here"},
      {"hosts:\n  - host: a\n    transport: rsh\n",
       "t.yaml:3:16: hosts[0]: transport 'rsh' is neither ssh nor local"},
      {"hosts:\n  - host: a\n    run: [x]\n", "t.yaml:3:10: hosts[0]: run: is for transport: local"},
      {"hosts:\n  - host: a\n    ports: 20160\n", "t.yaml:3:12: hosts[0]: ports must be a list of ports"},
      {"hosts:\n  - host: a\n    dir: here\n", "t.yaml:3:10: hosts[0]: dir 'here' must begin with '/'"},
      {"hosts:\n  - host: a\n    device: -w\n", "t.yaml:3:13: "},
      {"hosts:\n  - ports: [1]\n", "t.yaml:2:5: hosts[0]: there is neither host: nor name:"},
      {"hosts:\n  - host: a\n  - host: a\n", "t.yaml: two hosts are called 'a'"},
      {"hosts:\n  - host: a\n    name: collector\n", "t.yaml: a host cannot be called 'collector'"},
      {"hosts:\n  - host: a\n    name: ../../etc\n", "t.yaml: host '../../etc': a name has letters"},
      {"hosts: []\n", "t.yaml: there is no host in it"},
      {"hosts:\n  - host: [\n", "t.yaml:3:1: "},
      {"- a\n- b\n", "neither a TiUP topology"},
      {"", "neither a TiUP topology"},
      {"a: 1\n", "neither a TiUP topology"},
  };
  for (const auto& one : cases) EXPECT_THAT(ErrorOf(one.text), HasSubstr(one.error)) << one.text;
}

TEST(Topology, AFleetIsBounded) {
  std::string text = "hosts:\n";
  for (size_t i = 0; i <= limits::kMaxFleetHosts; ++i) text += "  - host: h" + std::to_string(i) + "\n";
  EXPECT_THAT(ErrorOf(text), HasSubstr("4097 hosts are more than the 4096"));
}

// No exception leaves the reader, whatever a file is cut to.
TEST(Topology, AFileCutAnywhereIsReadOrRefused) {
  const std::string text = kCluster;
  for (size_t n = 0; n < text.size(); ++n) {
    const Result<Topology> topology = ReadTopology(text.substr(0, n), "t.yaml");
    if (!topology.ok()) {
      EXPECT_THAT(topology.error(), HasSubstr("t.yaml")) << n;
    }
  }
}

}  // namespace
}  // namespace keytrail
