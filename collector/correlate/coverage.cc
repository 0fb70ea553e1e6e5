// What the captures cannot have shown: machines without a capture, connections that could not be read,
// losses.
#include <algorithm>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {
bool HidesMessages(const std::string& kind, uint64_t count) {
  // An agent tells that it leaves messages unread from now on before it can count them.
  if (kind == "degraded.headers_only" || kind == "degraded.count_only") return true;
  // These leave out what no verdict rests on. Everything else that was lost, between wire and agent or
  // between agent and collector, may have been the call in question, also if a newer agent has a new word for
  // it.
  return count != 0 && kind != "degraded.drop_payloads" && kind != "degraded.sample_tso";
}

std::string Judge::HostText(uint32_t host) const {
  const Host& h = scene_.hosts[host];
  const std::string address = FormatAddress(h.address);
  if (h.name != address) return h.name;
  return h.role == "unknown" || h.role == "client" ? address : h.role + " " + address;
}

uint32_t Judge::ServingEndpoint(uint32_t host, uint32_t otherwise) const {
  uint32_t found = kNone;
  for (uint32_t e : scene_.store_endpoints) {
    if (scene_.hosts.OfEndpoint(e) != host) continue;
    if (found == kNone || scene_.log.endpoints()[e] < scene_.log.endpoints()[found]) found = e;
  }
  return found == kNone ? otherwise : found;
}

std::vector<std::string> Judge::NotCovered(uint32_t client_host, uint32_t server_host) const {
  if (scene_.hosts.Captured(client_host)) return {};
  std::vector<std::string> missing;
  bool any_pd = false;
  for (uint32_t h = 0; h < scene_.hosts.hosts().size(); ++h) {
    if (!scene_.hosts[h].serves_pd) continue;
    any_pd = true;
    if (!scene_.hosts.Captured(h)) missing.push_back("no capture of " + HostText(h));
  }
  if (!any_pd) missing.push_back("no capture of PD");
  if (!scene_.hosts.Captured(server_host)) missing.push_back("no capture of " + HostText(server_host));
  if (!missing.empty()) {
    missing.insert(missing.begin(), "no capture of " + HostText(client_host) +
                                        ", where the answer would be that gave it the route");
  }
  std::sort(missing.begin() + (missing.empty() ? 0 : 1), missing.end());
  return missing;
}

std::vector<std::string> Judge::Unread(uint32_t client_host) const {
  std::set<uint32_t> pd_endpoints;
  for (size_t c = 0; c < scene_.log.connections().size(); ++c) {
    if (scene_.log.uses()[c].serves_pd) pd_endpoints.insert(scene_.log.connections()[c].server);
  }
  uint64_t unread = 0;
  for (size_t c = 0; c < scene_.log.connections().size(); ++c) {
    const SeenConnection& connection = scene_.log.connections()[c];
    if (!pd_endpoints.contains(connection.server)) continue;
    if (scene_.hosts.OfEndpoint(connection.client) == client_host)
      unread += scene_.log.uses()[c].unread_connections();
  }
  if (unread == 0) return {};
  return {std::to_string(unread) + " connection" + (unread == 1 ? "" : "s") + " of " + HostText(client_host) +
          " to PD that could not be read whole"};
}

// Losses count where both ends of a conversation could have lost it.
std::vector<std::string> Judge::Lost(uint32_t client_host, uint32_t logical) const {
  std::set<std::string> lost;
  if (!scene_.hosts.Captured(client_host)) return {};
  if (scene_.ledger.forgotten() != 0) lost.insert(Forgotten());
  const uint32_t server = scene_.ServerHost(scene_.Best(logical, View::kClient));
  for (uint32_t h = 0; h < scene_.hosts.hosts().size(); ++h) {
    if (!scene_.hosts[h].serves_pd && h != server) continue;
    // An uncaptured end is no loss if the client's own capture lost nothing.
    for (std::string& word : MayHide(client_host, h)) lost.insert(std::move(word));
  }
  return {lost.begin(), lost.end()};
}

std::string Judge::Forgotten() const {
  return "what was said long ago of " + std::to_string(scene_.ledger.forgotten()) +
         " versions of regions, which had no room any more";
}

bool Judge::Lossy(uint32_t host) const {
  if (!scene_.hosts.Captured(host)) return true;
  return std::any_of(scene_.losses.begin(), scene_.losses.end(), [&](const LossDescription& loss) {
    if (!HidesMessages(loss.kind, loss.count)) return false;
    for (uint16_t a : scene_.hosts[host].agents) {
      if (scene_.log.agents()[a].number == loss.agent) return true;
    }
    return false;
  });
}

std::vector<std::string> Judge::MayHide(uint32_t host, uint32_t other) const {
  if (!Lossy(host) || !Lossy(other)) return {};
  std::vector<std::string> out;
  for (uint32_t h : {host, other}) {
    out.push_back(scene_.hosts.Captured(h) ? "a capture of " + HostText(h) + " without losses"
                                           : "no capture of " + HostText(h));
  }
  return out;
}

std::vector<std::string> Judge::ReportsHidden(uint32_t pd_host) const {
  std::set<std::string> out;
  if (scene_.ledger.forgotten() != 0) out.insert(Forgotten());
  std::set<uint32_t> stores;
  for (uint32_t e : scene_.store_endpoints) stores.insert(scene_.hosts.OfEndpoint(e));
  if (stores.empty() && Lossy(pd_host)) out.insert("no capture of " + HostText(pd_host));
  for (uint32_t store : stores) {
    for (std::string& word : MayHide(pd_host, store)) out.insert(std::move(word));
  }
  return {out.begin(), out.end()};
}

bool Judge::WholeLifeSeen(uint32_t client_host) const {
  if (scene_.ledger.forgotten() != 0) return false;
  bool any = false;
  for (size_t c = 0; c < scene_.log.connections().size(); ++c) {
    const ConnectionUse& use = scene_.log.uses()[c];
    if (scene_.hosts.OfEndpoint(scene_.log.connections()[c].client) != client_host) continue;
    if (!use.from_start) return false;
    any |= use.serves_pd;
  }
  return any;
}

// Rules 7 to 12: errors that tell of routes gone stale and of busy or moved leaders. Counted once a call.
void Judge::JudgeSetbacks() {
  benign_ = scene_.findings.benign();
  std::set<std::tuple<uint32_t, uint64_t, uint8_t>> seen;
  for (const Setback& s : scene_.findings.setbacks()) {
    const uint32_t logical = scene_.pairing.Logical(s.observation);
    if (!seen.insert({logical, s.region.region_id, static_cast<uint8_t>(s.kind)}).second) continue;
    ++benign_[BenignName(s)];
  }
}

}  // namespace keytrail::correlate
