#include "collector/correlate/correlator.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "collector/correlate/call_log.h"
#include "collector/correlate/clock_report.h"
#include "collector/correlate/conclusion.h"
#include "collector/correlate/findings.h"
#include "collector/correlate/hosts.h"
#include "collector/correlate/judge.h"
#include "collector/correlate/ledger.h"
#include "collector/correlate/pairing.h"
#include "collector/correlate/scene.h"
#include "collector/correlate/unread.h"

namespace keytrail {

using namespace correlate;  // NOLINT: this file is the room's door

struct Correlator::State {
  CallLog log;
  RouteLedger ledger;
  Findings findings;
  UnreadCalls unread;
  std::vector<LossDescription> losses;
  Graces graces;
};

namespace {

std::vector<HostReport> HostReports(const Scene& scene) {
  std::vector<HostReport> out;
  for (uint32_t h = 0; h < scene.hosts.hosts().size(); ++h) {
    const Host& host = scene.hosts[h];
    if (host.agents.empty()) continue;
    HostReport r;
    r.host = host.name;
    r.address = FormatAddress(host.address);
    r.role = host.role;
    DescribeClock(scene, h, r);
    out.push_back(std::move(r));
  }
  std::sort(out.begin(), out.end(), [](const HostReport& a, const HostReport& b) {
    return std::tie(a.address, a.host) < std::tie(b.address, b.host);
  });
  return out;
}

std::vector<LossReport> LossReports(const Scene& scene, const UnreadCalls& unread) {
  std::vector<LossDescription> all = scene.losses;
  for (const auto& [what, entry] : unread.entries()) {
    all.push_back({what.first, what.second, entry.count, entry.first_ns, entry.last_ns});
  }
  std::vector<LossReport> out;
  for (const LossDescription& loss : all) {
    LossReport r;
    for (uint16_t a = 0; a < scene.log.agents().size(); ++a) {
      if (scene.log.agents()[a].number != loss.agent) continue;
      const uint32_t host = scene.hosts.OfAgent(a);
      r.host = host == kNone ? scene.log.agents()[a].name : scene.Label(host);
    }
    r.kind = loss.kind;
    r.count = loss.count;
    r.first_ns = loss.first_ns;
    r.last_ns = loss.last_ns;
    out.push_back(std::move(r));
  }
  std::sort(out.begin(), out.end(), [](const LossReport& a, const LossReport& b) {
    return std::tie(a.host, a.kind, a.first_ns, a.last_ns, a.count) <
           std::tie(b.host, b.kind, b.first_ns, b.last_ns, b.count);
  });
  return out;
}

void Count(const Scene& scene, InvestigationReport& report) {
  std::vector<bool> call(scene.pairing.logical_count());
  std::vector<bool> routed(scene.pairing.logical_count());
  std::vector<bool> named(scene.pairing.logical_count());
  for (uint32_t i = 0; i < scene.log.observations().size(); ++i) {
    const Observation& o = scene.log[i];
    if (o.kind != CallKind::kStream) call[scene.pairing.Logical(i)] = true;
    if (o.kind == CallKind::kStream || (o.flags & kMethodUnknown) == 0)
      named[scene.pairing.Logical(i)] = true;
    if (o.region_id != 0) routed[scene.pairing.Logical(i)] = true;
  }
  report.calls = static_cast<uint64_t>(std::count(call.begin(), call.end(), true));
  report.unread = static_cast<uint64_t>(std::count(named.begin(), named.end(), false));
  report.routed_requests = static_cast<uint64_t>(std::count(routed.begin(), routed.end(), true));
  for (const auto& [region, entries] : scene.ledger.entries()) {
    ++report.regions;
    std::set<std::tuple<uint32_t, StatementSource, uint32_t, uint32_t>> distinct;
    for (const LedgerEntry& e : entries) {
      distinct.insert(
          {e.range, e.source, scene.hosts.OfEndpoint(e.speaker), scene.hosts.OfEndpoint(e.listener)});
    }
    report.statements += distinct.size();
  }
}

}  // namespace

Correlator::Correlator(const Graces& graces) : state_(std::make_unique<State>()) {
  state_->graces = graces;
}
Correlator::~Correlator() = default;

void Correlator::AddAgent(const AgentDescription& agent) {
  state_->log.AddAgent(agent.agent, agent.name, agent.role);
}

void Correlator::Add(uint32_t agent, uint64_t call_id, const CallRecord& call) {
  // A name that comes late brings no facts with it: what was not read stays unread.
  if (call.kind == CallKind::kAmend) return;
  const uint32_t index = state_->log.Add(agent, call_id, call);
  state_->ledger.Add(state_->log, index, call);
  state_->unread.Add(agent, call);
  state_->findings.Add(state_->log, state_->ledger.ranges(), index, call);
}

void Correlator::AddLoss(const LossDescription& loss) {
  state_->losses.push_back(loss);
}

uint64_t Correlator::signs() const {
  const Findings& findings = state_->findings;
  return findings.complaints().size() + findings.complaints_over_cap() + findings.face_faults().size() +
         findings.odd_requests().size() + state_->ledger.contradictions();
}

InvestigationReport Correlator::Judge() const {
  const HostTable hosts(state_->log);
  const Pairing pairing(state_->log, hosts);
  Scene scene{state_->log, state_->ledger, state_->findings, state_->losses, hosts, pairing, {}, {}};
  std::set<uint32_t> stores;
  for (size_t c = 0; c < state_->log.connections().size(); ++c) {
    const ConnectionUse& use = state_->log.uses()[c];
    const SeenConnection& connection = state_->log.connections()[c];
    if (use.serves_tikv) stores.insert(connection.server);
    if (use.cluster_id == 0) continue;
    scene.clusters[hosts.OfEndpoint(connection.client)].insert(use.cluster_id);
    scene.clusters[hosts.OfEndpoint(connection.server)].insert(use.cluster_id);
  }
  scene.store_endpoints.assign(stores.begin(), stores.end());

  correlate::Judge judge(scene, state_->graces);
  judge.Run();
  InvestigationReport report;
  for (const Cause* cause : judge.causes()) {
    if (cause->decided) {
      report.verdicts.push_back(MakeVerdict(scene, judge, *cause));
      report.verdicts.back().id = report.verdicts.size();
    } else {
      report.inconclusive.push_back(MakeInconclusive(scene, judge, *cause));
    }
  }
  report.benign = judge.benign();
  report.complaints = judge.complaint_count();
  report.hosts = HostReports(scene);
  report.clocks = ClockReports(scene);
  report.losses = LossReports(scene, state_->unread);
  for (const Host& host : hosts.hosts()) {
    if (host.agents.empty() && (host.role == "pd" || host.role == "tikv" || host.role == "tidb")) {
      report.not_captured.push_back(host.role + " " + FormatAddress(host.address));
    }
  }
  std::sort(report.not_captured.begin(), report.not_captured.end());
  Count(scene, report);
  return report;
}

}  // namespace keytrail
