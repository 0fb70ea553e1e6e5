#include "collector/correlate/history.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace keytrail::correlate {
Mention MentionOf(const Scene& scene, const RegionVersion& region, const LedgerEntry& entry,
                  const StatementUse& use) {
  Mention m;
  m.version = region.version;
  m.source = entry.source;
  m.speaker = entry.speaker;
  m.speaker_host = scene.hosts.OfEndpoint(entry.speaker);
  m.listener_host = scene.hosts.OfEndpoint(entry.listener);
  m.range = entry.range;
  m.observation = use.observation;
  m.index = use.index;
  m.begun = scene.Asked(use.observation);
  if (scene.At(use.observation).req_first == kNoTime) m.begun.t_ns = kNoTime;
  const bool report = IsReportToPd(entry.source);
  m.told = report ? m.begun : scene.Answered(use.observation);
  m.told_ns = report ? scene.RequestTime(use.observation) : scene.ResponseTime(use.observation);
  return m;
}

VersionHistory::VersionHistory(const Scene& scene, const Graces& graces) : scene_(scene), graces_(graces) {
  std::map<uint64_t, std::set<uint64_t>> versions;
  for (const auto& [region, entries] : scene.ledger.entries())
    versions[region.region_id].insert(region.version);
  for (const auto& [region, entries] : scene.ledger.entries()) {
    for (const LedgerEntry& e : entries) {
      if (e.source == StatementSource::kHeartbeat) heartbeats_to_.insert(scene.hosts.OfEndpoint(e.listener));
      if (versions[region.region_id].size() < 2) continue;
      if (e.has_gap()) gaps_.insert({region.region_id, scene.hosts.OfEndpoint(e.listener)});
      for (const StatementUse& use : e.uses) {
        mentions_[region.region_id].push_back(MentionOf(scene, region, e, use));
      }
    }
  }
  for (auto& [id, mentions] : mentions_) {
    std::sort(mentions.begin(), mentions.end(), [&](const Mention& a, const Mention& b) {
      const auto rank = [&](const Mention& m) {
        return std::tuple(m.told_ns, m.version, scene.At(m.observation).call_id, m.index);
      };
      return rank(a) < rank(b);
    });
  }
}

std::vector<Relapse> VersionHistory::Relapses() const {
  std::vector<Relapse> out;
  for (const auto& [id, mentions] : mentions_) RelapsesOf(id, mentions, out);
  return out;
}

void VersionHistory::RelapsesOf(uint64_t region_id, const std::vector<Mention>& mentions,
                                std::vector<Relapse>& out) const {
  std::map<std::tuple<uint32_t, uint32_t, uint64_t>, Relapse> found;  // by PD, client and old version
  std::set<std::pair<uint32_t, uint64_t>> seen;  // call and version: of two views one counts
  for (const Mention& answer : mentions) {
    if (!IsPdLookup(answer.source)) continue;
    const uint32_t pd = answer.speaker_host;
    const bool leader = heartbeats_to_.contains(pd);
    for (const Mention& newer : mentions) {
      if (newer.version <= answer.version) continue;
      const bool own = IsPdLookup(newer.source) && newer.speaker_host == pd;
      // A split report is only logged by PD; what its tree holds comes by heartbeats.
      const bool report = newer.source == StatementSource::kHeartbeat;
      const bool to_pd = report && newer.listener_host == pd;
      const bool to_its_leader = report && !leader && scene_.SameCluster(newer.listener_host, pd);
      if (!own && !to_pd && !to_its_leader) continue;
      const int64_t grace = own || to_pd ? graces_.pd_ns : graces_.follower_ns;
      if (!scene_.After(newer.told, answer.begun, grace)) continue;
      Relapse& relapse = found[{pd, answer.listener_host, answer.version}];
      if (relapse.newer.version == 0) {
        relapse.region_id = region_id;
        relapse.newer = newer;
        relapse.went_back = own;
      }
      if (seen.insert({scene_.pairing.Logical(answer.observation), answer.version}).second) {
        relapse.answers.push_back(answer);
      }
      break;  // mentions are in time order: the first one that PD knew
    }
  }
  for (auto& [key, relapse] : found) {
    if (relapse.answers.empty()) continue;
    const Mention& first = relapse.answers.front();
    for (const Mention& m : mentions) {
      if (m.source != StatementSource::kHeartbeat || m.listener_host != first.speaker_host ||
          m.version != first.version) {
        continue;
      }
      if (scene_.After(relapse.newer.told, m.told, 0) && scene_.After(m.told, first.told, 0)) {
        relapse.carried = m;
      }
    }
    out.push_back(std::move(relapse));
  }
}

std::optional<Mention> VersionHistory::ElsewhereDuring(uint32_t server, const RegionVersion& region,
                                                       uint32_t observation) const {
  const auto it = mentions_.find(region.region_id);
  if (it == mentions_.end()) return std::nullopt;
  const Observation& call = scene_.At(observation);
  if (call.req_first == kNoTime || call.resp_first == kNoTime) return std::nullopt;
  for (const Mention& m : it->second) {
    // Only the store's own words at that very address: a machine may have several stores.
    if (m.source != StatementSource::kEpochNotMatch || m.speaker != server) continue;
    const bool older_after =
        m.version < region.version && scene_.After(scene_.Answered(observation), m.begun, 0);
    const bool newer_before =
        m.version > region.version && scene_.After(m.told, scene_.Asked(observation), 0);
    if (older_after || newer_before) return m;
  }
  return std::nullopt;
}

bool VersionHistory::ToldOldBetween(const RegionVersion& region, uint32_t client_host, uint32_t heard,
                                    uint32_t asked) const {
  const auto it = mentions_.find(region.region_id);
  if (it == mentions_.end()) return false;
  if (gaps_.contains({region.region_id, client_host})) return true;
  return std::any_of(it->second.begin(), it->second.end(), [&](const Mention& m) {
    if (m.listener_host != client_host || m.version > region.version) return false;
    return !scene_.After(m.told, scene_.Answered(heard), 0) && !scene_.After(scene_.Asked(asked), m.told, 0);
  });
}

}  // namespace keytrail::correlate
