// A cluster's calls as text, for tests of the correlator. One call a line:
//
//   10 tidb1 > pd1 GetRegion f = 7.3[a,m)
//   12 tidb1 > tikv1 Get 7.3 f = ok
//   14 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
//
// First the time of the request in ms, by true time; then client > server; the call; = the answer, which
// comes half a millisecond later. `7.3` is region 7 at version 3; `[a,m)` a range of raw keys, `-` an
// infinite bound. Blank lines and those that begin with # mean nothing.
//
// Times may be written in seconds: `70s`. Hosts: tidbN, pdN, tikvN.
//
// Calls: GetRegion K | GetPrevRegion K | GetRegionByID ID | ScanRegions [a,z) | ScanAll [a,z) (promises to be
//        whole) | QueryRegion K K | Heartbeat 7.3[a,m) | ReportSplit 7.3[a,m) 8.3[m,z) (from a store to PD)
//        Get|Prewrite|Commit|BatchGet|RawGet 7.3 K K ... | Cop 7.3 [a,b) [c,d) | Scan 7.3 [a,b) |
//        GetStore ID | GetAllStores | ScanLock 7.3 [a,-) | BatchCop 7.3[a,b) 8.3[m,n) (to TiFlash) | Mystery
//        (no name)
// Answers: none | ok | 7.3[a,m) ... | outside K [a,m) | notin K [a,m) | exceeds [a,b) [a,m) | inverted [b,a)
// |
//        redacted | epoch 7.4[a,f) 8.4[f,m) | epoch (no region named) | not_leader | busy | not_found |
//        store_not_match [N, the store that is there] | lost (not seen) | reset (the connection ended
//        instead)
// Options at the end of a line: `port=N` the client's port (default: one per pair), `late` joined late,
//        `stream=N`, `id=N` the request id (default: counts up), `limit=N`, `cluster=N`,
//        `store=N` the store that a request is for, `ts=N` its start_ts.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "collector/correlate/correlator.h"
#include "common/record_codec.h"

namespace keytrail::testing {

struct ScriptOptions {
  // Hosts whose agent's records are fed; empty: all that appear.
  std::set<std::string> captured;
  // Clock of a host minus true time, in ns.
  std::map<std::string, int64_t> clock_ns;
  // Names given to the agents; empty names by default, so that hosts are told by address.
  std::map<std::string, std::string> names;
  int64_t network_ns = 50'000;  // one way
  bool raw_bounds = false;      // RawKV V1: bounds are not encoded
  Graces graces;
  uint32_t shuffle_seed = 0;    // order in which records are fed; 0: as written, host by host
  bool reverse_agents = false;  // agents get their numbers the other way round
};

// A record as one agent saw it.
struct ScriptRecord {
  std::string host;
  uint64_t call_id = 0;
  std::unique_ptr<OwnedRecord> record;
};

// tidb1 is 10.0.0.11, tidb2 10.0.0.12, pd1 10.0.0.21, tikv1 10.0.0.31, ...
std::string AddressOf(const std::string& host);
std::vector<ScriptRecord> ParseScript(const std::string& text, const ScriptOptions& options);

// What stands between the hosts.
struct Network {
  bool hide_clients = false;  // all clients behind one address, 10.9.0.1, each with ports of its own
  bool hide_servers = false;  // each server behind an address that only clients know, 10.8.0.x
};
// The records as agents would have seen them there.
void Translate(std::vector<ScriptRecord>& records, const Network& network);
void Feed(Correlator& correlator, const std::vector<ScriptRecord>& records, const ScriptOptions& options);
InvestigationReport Investigate(const std::string& text, const ScriptOptions& options = {});

// "tidb certain 2 7.3 x4; inconclusive pd,tikv 3 7.3 x1": all verdicts and inconclusive entries.
std::string Summary(const InvestigationReport& report);

}  // namespace keytrail::testing
