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
#include "collector/correlate/key_forms.h"
#include "collector/correlate/ledger.h"
#include "collector/correlate/pairing.h"
#include "collector/correlate/scene.h"
#include "collector/correlate/settle.h"
#include "collector/correlate/twins.h"
#include "collector/correlate/unread.h"

namespace keytrail {

using namespace correlate;  // NOLINT: this file is the room's door

struct Correlator::State {
  State(const Graces& with_graces, const CorrelatorCaps& with_caps)
      : graces(with_graces),
        caps(with_caps),
        ledger({caps.ledger_regions, caps.statement_uses, caps.served_places}),
        findings(caps.complaints),
        clocks(0, caps.clock_buckets),
        settle_at(2 * caps.window) {}

  const Graces graces;
  const CorrelatorCaps caps;
  CallLog log;
  RouteLedger ledger;
  Findings findings;
  UnreadCalls unread;
  KeyForms key_forms;
  std::vector<LossDescription> losses;
  HostNumbers numbers;
  ClockGraph clocks;
  std::vector<uint32_t> hosts_of_agents;  // as they were when the clocks were told
  Settled settled;
  size_t settle_at;  // observations

  void SettleAtLast();
  void JoinTwins();
  void JoinLossNotes();
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
  // Its own caps, which no host is to blame for.
  const auto capped = [&](const char* kind, uint64_t count) {
    if (count == 0) return;
    LossReport& r = out.emplace_back();
    r.host = "collector";
    r.kind = kind;
    r.count = count;
  };
  capped("cap_ledger_regions", scene.ledger.forgotten());
  capped("cap_served_keys", scene.ledger.served_forgotten());
  capped("cap_complaints", scene.findings.complaints_over_cap());
  capped("cap_findings", scene.findings.others_over_cap());
  std::sort(out.begin(), out.end(), [](const LossReport& a, const LossReport& b) {
    return std::tie(a.host, a.kind, a.first_ns, a.last_ns, a.count) <
           std::tie(b.host, b.kind, b.first_ns, b.last_ns, b.count);
  });
  return out;
}

std::vector<TranslationReport> Translations(const Scene& scene) {
  std::vector<TranslationReport> out;
  // Port 0: several of them.
  const auto text = [&](uint32_t endpoint) {
    const Endpoint& e = scene.log.endpoints()[endpoint].endpoint;
    return e.port == 0 ? FormatAddress(e.address) : FormatEndpoint(e);
  };
  for (const JoinedConnection& j : scene.log.joined()) {
    out.push_back({scene.Label(scene.hosts.OfEndpoint(j.client)), text(j.client), text(j.client_at_server),
                   text(j.server), text(j.server_at_client), j.connections, j.calls});
  }
  std::sort(out.begin(), out.end(), [](const TranslationReport& a, const TranslationReport& b) {
    return std::tie(a.client, a.server, a.client_at_server, a.server_at_client) <
           std::tie(b.client, b.server, b.client_at_server, b.server_at_client);
  });
  return out;
}

void Count(const Scene& scene, const Settled& settled, InvestigationReport& report) {
  Settled all = settled;
  all.Count(scene.log, scene.pairing, [](uint32_t) { return true; });
  report.calls = all.calls;
  report.unread = all.unread;
  report.routed_requests = all.routed;
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

// Everything that is made anew for one look at what is held. It refers to the correlator's parts.
struct Look {
  HostTable hosts;
  Pairing pairing;
  Scene scene;

  Look(CallLog& log, const RouteLedger& ledger, const Findings& findings,
       const std::vector<LossDescription>& losses, HostNumbers& numbers, ClockGraph& clocks,
       std::vector<uint32_t>& hosts_of_agents, Pairing::Clocks how)
      : hosts(log, numbers),
        pairing(log, hosts, Clocks(log, hosts, clocks, hosts_of_agents), how),
        scene{log, ledger, findings, losses, hosts, pairing, {}, {}} {
    std::set<uint32_t> stores;
    for (size_t c = 0; c < log.connections().size(); ++c) {
      const ConnectionUse& use = log.uses()[c];
      const SeenConnection& connection = log.connections()[c];
      if (use.serves_tikv) stores.insert(connection.server);
      if (use.cluster_id == 0) continue;
      scene.clusters[hosts.OfEndpoint(connection.client)].insert(use.cluster_id);
      scene.clusters[hosts.OfEndpoint(connection.server)].insert(use.cluster_id);
    }
    scene.store_endpoints.assign(stores.begin(), stores.end());
  }
  Look(const Look&) = delete;
  Look& operator=(const Look&) = delete;

 private:
  // Stamps that were told for another machine than the agent's would be lies: then all is told anew.
  static ClockGraph& Clocks(CallLog& log, const HostTable& hosts, ClockGraph& clocks,
                            std::vector<uint32_t>& hosts_of_agents) {
    const std::vector<uint32_t>& now = hosts.of_agents();
    bool same = true;
    for (size_t a = 0; a < hosts_of_agents.size(); ++a) {
      same = same && (hosts_of_agents[a] == kNone || hosts_of_agents[a] == now[a]);
    }
    if (!same) {
      clocks = ClockGraph(0, clocks.most_buckets());
      log.ForgetFedClocks();
    }
    hosts_of_agents = now;
    return clocks;
  }
};

CorrelatorCaps CorrelatorCaps::ForFiles() {
  CorrelatorCaps caps;
  caps.window = limits::kFilesPairingWindow;
  caps.clock_buckets = limits::kMaxFilesClockBuckets;
  return caps;
}

Correlator::Correlator(const Graces& graces, const CorrelatorCaps& caps)
    : state_(std::make_unique<State>(graces, caps)) {}
Correlator::~Correlator() = default;

void Correlator::AddAgent(const AgentDescription& agent) {
  state_->log.AddAgent(agent.agent, agent.name, agent.role);
}

void Correlator::Add(uint32_t agent, uint64_t call_id, const CallRecord& call) {
  if (call.kind == CallKind::kAmend) {
    state_->log.Amend(agent, call);
    return;
  }
  const uint32_t index = state_->log.Add(agent, call_id, call);
  state_->ledger.Add(state_->log, index, call);
  state_->unread.Add(agent, call);
  state_->key_forms.Add(agent, call);
  state_->findings.Add(state_->log, state_->ledger.ranges(), index, call);
  if (state_->log.observations().size() >= state_->settle_at || state_->ledger.far_over_cap()) {
    state_->SettleAtLast();
  }
}

void Correlator::AddLoss(const LossDescription& loss) {
  state_->losses.push_back(loss);
}

// What joined connections tell of the clocks may prove others, so it is done until nothing comes of it.
void Correlator::State::JoinTwins() {
  constexpr int kMostRounds = 4;
  for (int round = 0; round < kMostRounds; ++round) {
    const HostTable hosts(log, numbers);
    clocks.Grow(static_cast<uint32_t>(hosts.hosts().size()));
    std::map<SeenConnection, SeenConnection> ends;
    for (const TwinConnections& twin : FindTwins(log, hosts, clocks)) {
      const SeenConnection client_side = log.connections()[twin.client_side];
      const SeenConnection server_side = log.connections()[twin.server_side];
      log.Join(twin.client_side, twin.server_side, twin.calls);
      ends[client_side] = ends[server_side] = log.connections()[twin.client_side];
    }
    if (ends.empty()) return;
    log.LimitJoined(limits::kMaxTranslationsListed);
    ledger.Rejoin(log, ends);
    const Look told_clocks(log, ledger, findings, losses, numbers, clocks, hosts_of_agents,
                           Pairing::Clocks::kExact);
  }
}

void Correlator::State::SettleAtLast() {
  JoinTwins();
  {
    const Look look(log, ledger, findings, losses, numbers, clocks, hosts_of_agents,
                    Pairing::Clocks::kRoughly);
    Settle(look.scene, caps.window, caps.connections, log, ledger, findings, settled);
  }
  JoinLossNotes();
  // Going through them costs what is held: so it is done when there are half as many again.
  const size_t held = log.observations().size();
  settle_at = held + std::max(caps.window, held / 2);
}

void Correlator::State::JoinLossNotes() {
  if (losses.size() <= limits::kMaxLossNotes) return;
  std::stable_sort(losses.begin(), losses.end(), [](const LossDescription& a, const LossDescription& b) {
    return std::tie(a.agent, a.kind, a.first_ns) < std::tie(b.agent, b.kind, b.first_ns);
  });
  std::vector<LossDescription> joined;
  bool taken = false;  // the last one has its neighbour already
  for (LossDescription& loss : losses) {
    if (joined.empty() || taken || joined.back().agent != loss.agent || joined.back().kind != loss.kind) {
      joined.push_back(std::move(loss));
      taken = false;
      continue;
    }
    joined.back().count += loss.count;
    joined.back().last_ns = std::max(joined.back().last_ns, loss.last_ns);
    taken = true;
  }
  losses = std::move(joined);
}

uint64_t Correlator::signs() const {
  // A second form of keys withdraws all that was decided.
  return state_->findings.signs() + state_->ledger.contradictions() + state_->key_forms.count();
}

size_t Correlator::held() const {
  return state_->log.observations().size();
}

size_t Correlator::held_connections() const {
  return state_->log.connections().size();
}

InvestigationReport Correlator::Judge() {
  state_->JoinTwins();
  const Look look(state_->log, state_->ledger, state_->findings, state_->losses, state_->numbers,
                  state_->clocks, state_->hosts_of_agents, Pairing::Clocks::kExact);
  const Scene& scene = look.scene;
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
  report.translations = Translations(scene);
  report.losses = LossReports(scene, state_->unread);
  for (const Host& host : scene.hosts.hosts()) {
    if (host.agents.empty() && (host.role == "pd" || host.role == "tikv" || host.role == "tidb")) {
      report.not_captured.push_back(host.role + " " + FormatAddress(host.address));
    }
  }
  std::sort(report.not_captured.begin(), report.not_captured.end());
  Count(scene, state_->settled, report);
  state_->key_forms.Withhold(state_->log, report);
  return report;
}

}  // namespace keytrail
