// All that the judge looks at: records in brief, ledger, findings, machines, pairs. Borrowed, read only.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "collector/correlate/call_log.h"
#include "collector/correlate/correlator.h"
#include "collector/correlate/findings.h"
#include "collector/correlate/hosts.h"
#include "collector/correlate/ledger.h"
#include "collector/correlate/pairing.h"

namespace keytrail::correlate {

enum class View : uint8_t { kClient, kServer };

// Something that an observation stamped, by its agent's clock.
struct Event {
  uint32_t observation = kNone;
  int64_t t_ns = kNoTime;
};

struct Scene {
  const CallLog& log;
  const RouteLedger& ledger;
  const Findings& findings;
  const std::vector<LossDescription>& losses;
  const HostTable& hosts;
  const Pairing& pairing;
  std::vector<uint32_t> store_endpoints;  // that serve routed requests
  // By machine: the clusters of its messages from and to PDs. Not there: not known.
  std::map<uint32_t, std::set<uint64_t>> clusters;

  const Observation& At(uint32_t observation) const { return log[observation]; }
  uint32_t ClientEndpoint(uint32_t observation) const { return log.connection_of(log[observation]).client; }
  uint32_t ServerEndpoint(uint32_t observation) const { return log.connection_of(log[observation]).server; }
  uint32_t ClientHost(uint32_t observation) const { return hosts.OfEndpoint(ClientEndpoint(observation)); }
  uint32_t ServerHost(uint32_t observation) const { return hosts.OfEndpoint(ServerEndpoint(observation)); }
  const std::string& Label(uint32_t host) const { return hosts[host].name; }

  // Of a logical call the view of that side's machine, else the other one; the same for any order of input.
  uint32_t Best(uint32_t logical, View side) const;
  // "both", "client", "server", or "between" when no observer's machine is an end of the call.
  std::string Observer(uint32_t logical) const;
  // Times on the reference's clock, for showing and sorting; kNoTime if not seen. Within a call that was seen
  // at both ends nothing arrives before it was sent, whatever the estimate of the clocks leaves open.
  int64_t RequestTime(uint32_t observation) const;
  int64_t ResponseTime(uint32_t observation) const;
  // Both machines are known to belong to one and the same cluster.
  bool SameCluster(uint32_t a, uint32_t b) const;

  // What decides an order of events is Compare() alone.
  Event Asked(uint32_t observation) const { return {observation, log[observation].first()}; }
  Event Answered(uint32_t observation) const { return {observation, log[observation].last()}; }
  // Whether `a` came before `b`, as far as the clocks' bounds allow to say it. Not known if one was not seen.
  Order Compare(const Event& a, const Event& b) const;
  // `b` surely came more than `grace_ns` after `a`.
  bool After(const Event& a, const Event& b, int64_t grace_ns) const {
    return b.t_ns != kNoTime && Compare(a, {b.observation, b.t_ns - grace_ns}) == Order::kBefore;
  }
};

}  // namespace keytrail::correlate
