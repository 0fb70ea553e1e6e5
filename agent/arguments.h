// What keytrail-agent is told on its command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/limits.h"

namespace CLI {
class App;
}

namespace keytrail {

// PD with its peers and services, TiFlash, TiDB's status port, TiKV (several on a host), TiFlash's proxy.
inline constexpr char kDefaultPorts[] = "2379,2380,3379,3930,10080,20160-20170";

struct AgentArguments {
  std::vector<std::string> devices;
  std::string device;  // all of them, for people
  uint64_t ring_bytes = limits::kDefaultRingBytes;
  bool promiscuous = false;
  std::string ports = kDefaultPorts;
  bool filter_given = false;
  bool keep_foreign = false;
  bool no_processes = false;
  std::string file;
  std::string filter;
  std::string write_file;
  std::string proto_dir;
  std::string descriptor_set;
  std::string keys = "tidb";
  std::string collector;
  std::string key_file;
  std::string server_key_file;
  std::string agent_name;
  std::string role;
  std::string redact = "off";
  std::string redact_secret;
  std::string spool;
  std::string user;
  std::string wait;
  std::string give_up_after;
  uint64_t spool_bytes = limits::kDefaultSpoolBytes;
  int64_t wait_ns = 0;
  int64_t give_up_after_ns = 0;
  bool drain = false;
  std::string metrics;
  std::string log_level;
  double cpu_limit = 0;  // percent of one core
  uint64_t memory_limit = 0;
  std::string duration;
  uint64_t count = 0;
  int64_t duration_ns = 0;
  bool json = false;
  bool full = false;
  bool raw = false;
  bool all = false;
  bool quiet = false;
  bool verbose = false;
  bool doctor = false;
};

// Describes the options to `app`, which writes into `arguments` when it parses; both must live until then.
void DescribeArguments(CLI::App& app, AgentArguments& arguments);

// After parsing: turns times into numbers, sets the level of the log, and says in a sentence which options do
// not go together. Empty: they do.
std::string CheckArguments(const CLI::App& app, AgentArguments& arguments);

}  // namespace keytrail
