// The part of Judge that looks at the order of versions (rules 7, 8 and 10), at requests that nobody refused
// (rules 0 and 14), and at captures that hold several clusters.
#include <algorithm>
#include <tuple>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {

const RegionCase& Judge::CaseFor(const RegionVersion& region) {
  auto it = cases_.find(region);
  if (it == cases_.end()) it = cases_.emplace(region, BuildCase(scene_, *neighbours_, region, {})).first;
  return it->second;
}

std::optional<ToldAt> Judge::AsTold(const RegionVersion& region, const Mention& mention) {
  const uint32_t logical = scene_.pairing.Logical(mention.observation);
  for (const Said& s : CaseFor(region).said) {
    if (s.range != mention.range || s.source != mention.source || s.speaker_host != mention.speaker_host ||
        s.listener_host != mention.listener_host) {
      continue;
    }
    for (const Telling& t : s.tellings) {
      if (t.logical == logical) return ToldAt{&s, t};
    }
    // Tellings are capped; the statement itself stays.
    if (!s.tellings.empty()) return ToldAt{&s, s.tellings.back()};
  }
  return std::nullopt;
}

std::optional<RouteOrigin> Judge::OriginOf(const RegionVersion& region, uint32_t client_host,
                                           uint32_t logical) const {
  const RouteCache& cache = route_caches_.try_emplace(client_host, scene_, client_host).first->second;
  return cache.OriginOf(region, scene_.Best(logical, View::kClient));
}

void Judge::JudgeVersions() {
  JudgeRelapses();
  JudgeLag();
  JudgeKeptOld();
}

void Judge::JudgeRelapses() {
  for (const Relapse& r : history_.Relapses()) {
    const RegionVersion old{r.region_id, r.answers.front().version};
    const RegionVersion newer{r.region_id, r.newer.version};
    const RegionCase& c = CaseFor(old);
    Blame blame;
    blame.component = Component::kPd;
    blame.rule = r.went_back || r.carried ? "10" : "7";
    blame.reason = r.went_back ? Reason::kPdWentBack : Reason::kPdStale;
    blame.certain = false;
    blame.weakened.push_back("whether PD was started anew in between was not seen");
    Cause& cause = CauseFor(c, blame, r.answers.front().listener_host, r.answers.front().speaker);
    for (const Mention& m : r.answers) {
      if (auto told = AsTold(old, m)) cause.wrong.push_back(*told);
    }
    cause.neighbour = AsTold(newer, r.newer);
    cause.neighbour_region = newer;
    if (!r.carried) continue;
    Blame store;
    store.component = Component::kTikv;
    store.rule = "10";
    store.reason = Reason::kTikvWentBack;
    store.certain = false;
    store.weakened.push_back(
        "a leader that was cut off may report what it last knew; PD should not believe it");
    Cause& sent = CauseFor(c, store, r.answers.front().speaker_host,
                           ServingEndpoint(r.carried->speaker_host, r.carried->speaker));
    if (auto told = AsTold(old, *r.carried)) sent.wrong.push_back(*told);
    sent.neighbour = AsTold(newer, r.newer);
    sent.neighbour_region = newer;
  }
}

CaseComplaint Judge::MakeComplaint(const Setback& setback) {
  Complaint& complaint = made_complaints_.emplace_back();
  complaint.observation = setback.observation;
  complaint.kind = setback.kind;
  complaint.region = setback.region;
  complaint.version_known = true;
  return {&complaint, scene_.pairing.Logical(setback.observation)};
}

void Judge::SortByTime(std::vector<const Setback*>& setbacks) const {
  std::sort(setbacks.begin(), setbacks.end(), [&](const Setback* a, const Setback* b) {
    return std::pair(scene_.ResponseTime(a->observation), scene_.At(a->observation).call_id) <
           std::pair(scene_.ResponseTime(b->observation), scene_.At(b->observation).call_id);
  });
}

// Rule 8: refusals of one store for one region, by an older version than the clients use, for too long.
void Judge::JudgeLag() {
  std::map<std::pair<uint32_t, uint64_t>, std::vector<const Setback*>> behind;
  for (const Setback& s : scene_.findings.setbacks()) {
    if (s.kind != ErrorKind::kEpochNotMatch || s.server_version == 0) continue;
    behind[{scene_.ServerEndpoint(s.observation), s.region.region_id}].push_back(&s);
  }
  for (auto& [place, list] : behind) {
    SortByTime(list);
    const auto caught_up = std::find_if(
        list.rbegin(), list.rend(), [](const Setback* s) { return s->server_version >= s->region.version; });
    list.erase(list.begin(), caught_up.base());
    if (list.size() < 2) continue;
    const Setback& first = *list.front();
    const Setback& last = *list.back();
    if (last.server_version >= first.region.version || scene_.At(last.observation).req_first == kNoTime ||
        !scene_.After(scene_.Answered(first.observation), scene_.Asked(last.observation),
                      graces_.store_lag_ns)) {
      continue;
    }
    // That the newer version exists somebody else has to say.
    const RegionCase& c = CaseFor(first.region);
    const uint32_t host = scene_.hosts.OfEndpoint(place.first);
    const bool known =
        std::any_of(c.said.begin(), c.said.end(), [&](const Said& s) { return s.speaker_host != host; });
    if (!known) continue;
    Blame blame;
    blame.component = Component::kTikv;
    blame.rule = "8";
    blame.reason = Reason::kTikvLag;
    blame.certain = false;
    blame.weakened.push_back("why the store is behind was not seen");
    Cause& cause = CauseFor(c, blame, scene_.ClientHost(first.observation), place.first);
    std::set<uint32_t> seen;
    for (const Setback* s : list) {
      if (seen.insert(scene_.pairing.Logical(s->observation)).second)
        cause.complaints.push_back(MakeComplaint(*s));
    }
  }
}

// Rule 7: one connection belongs to one process. What it was told there and nobody took back, it knew.
void Judge::JudgeKeptOld() {
  std::map<std::pair<uint32_t, uint64_t>, std::vector<const Setback*>> by_connection;
  for (const Setback& s : scene_.findings.setbacks()) {
    if (s.kind != ErrorKind::kEpochNotMatch || s.server_version <= s.region.version) continue;
    by_connection[{scene_.At(s.observation).connection, s.region.region_id}].push_back(&s);
  }
  for (auto& [place, list] : by_connection) {
    if (list.size() < 2) continue;
    SortByTime(list);
    const Setback* told = nullptr;  // the first that named a newer version
    std::set<uint32_t> seen;
    for (const Setback* s : list) {
      const uint32_t logical = scene_.pairing.Logical(s->observation);
      const uint32_t asking = scene_.Best(logical, View::kClient);
      if (told == nullptr) {
        told = s;
        continue;
      }
      const uint32_t hearing = scene_.Best(scene_.pairing.Logical(told->observation), View::kClient);
      if (told->server_version <= s->region.version) {
        told = s;
        continue;
      }
      const uint32_t client = scene_.ClientHost(s->observation);
      if (scene_.At(asking).req_first == kNoTime ||
          !scene_.After(scene_.Answered(hearing), scene_.Asked(asking), graces_.client_ns) ||
          !seen.insert(logical).second) {
        continue;
      }
      // PD, or another store, may have told it the old version again.
      if (history_.ToldOldBetween(s->region, client, hearing, asking)) continue;
      if (!NotCovered(client, scene_.ServerHost(s->observation)).empty() || !Unread(client).empty() ||
          !Lost(client, logical).empty()) {
        continue;
      }
      Blame blame;
      blame.component = Component::kTidb;
      blame.rule = "7";
      blame.reason = Reason::kTidbKeptOld;
      blame.certain = false;
      blame.weakened.push_back("the request may have waited in a queue of the client");
      Cause& cause = CauseFor(CaseFor(s->region), blame, client, scene_.ServerEndpoint(s->observation));
      cause.complaints.push_back(MakeComplaint(*s));
    }
  }
}

void Judge::JudgeOddRequests() {
  std::map<uint32_t, const OddRequest*> by_call;  // one view speaks for both
  for (const OddRequest& odd : scene_.findings.odd_requests()) {
    const uint32_t logical = scene_.pairing.Logical(odd.observation);
    const OddRequest*& chosen = by_call[logical];
    const auto rank = [&](const OddRequest& x) {
      return std::pair(x.observation != scene_.Best(logical, View::kClient),
                       scene_.At(x.observation).call_id);
    };
    if (chosen == nullptr || rank(odd) < rank(*chosen)) chosen = &odd;
  }
  std::vector<std::pair<uint32_t, const OddRequest*>> order(by_call.begin(), by_call.end());
  std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    const auto rank = [&](const OddRequest& x) {
      return std::pair(scene_.RequestTime(x.observation), scene_.At(x.observation).call_id);
    };
    return rank(*a.second) < rank(*b.second);
  });
  for (const auto& [logical, chosen] : order) {
    const OddRequest& odd = *chosen;
    const uint32_t client = scene_.ClientHost(odd.observation);
    Blame blame;
    blame.component = Component::kTidb;
    if (odd.kind == OddRequest::Kind::kTwice) {
      blame.rule = "0";
      blame.reason = Reason::kTidbTwice;
    } else {
      // Rule 14 stands on a range on which PD and the store agree, and which the client was told.
      const auto entries = scene_.ledger.entries().find(odd.region);
      if (entries == scene_.ledger.entries().end()) continue;
      const RegionCase& c = CaseFor(odd.region);
      if (!c.truth || !c.OneRange()) continue;
      const Range& range = scene_.ledger.ranges().Get(*c.truth);
      if (std::all_of(odd.items.begin(), odd.items.end(), [&](const Item& i) { return i.InsideOf(range); }))
        continue;
      if (ToldBefore(c, client, logical).empty()) continue;
      blame.rule = "14";
      blame.reason = Reason::kTidbReset;
      blame.certain = false;
      blame.weakened.push_back("why the connection was reset was not seen");
    }
    Complaint& complaint = made_complaints_.emplace_back();
    complaint.observation = odd.observation;
    complaint.region = odd.region;
    complaint.version_known = complaint.items_known = true;
    complaint.items = odd.items;
    complaint.item_count = static_cast<uint32_t>(odd.items.size());
    Cause& cause = CauseFor(CaseFor(odd.region), blame, client, scene_.ServerEndpoint(odd.observation));
    cause.complaints.push_back({&complaint, logical});
  }
}

std::optional<ToldAt> Judge::LeftOut(const FaceFault& fault, RegionVersion& region) {
  // A report that was not seen may have dropped it.
  if (!ReportsHidden(scene_.ServerHost(fault.observation)).empty()) return std::nullopt;
  const Range hole = HoleOf(scene_.ledger.ranges(), fault);
  const auto found = neighbours_->KnownAround(hole, fault.observation);
  if (!found) return std::nullopt;
  region = *found;
  for (const Said& s : CaseFor(region).said) {
    if (IsPdAnswer(s.source) && !s.tellings.empty()) return ToldAt{&s, s.tellings.front()};
  }
  return std::nullopt;
}

// Two clusters give the same numbers to their regions: what one says of 7 is no word about 7 of the other.
void Judge::DoubtMixedClusters() {
  std::set<uint64_t> all;
  for (const auto& [host, ids] : scene_.clusters) all.insert(ids.begin(), ids.end());
  if (all.size() < 2) return;
  for (auto& [key, cause] : causes_) {
    std::set<uint64_t> touched;
    bool unknown = false;
    const auto touch = [&](uint32_t host) {
      const auto it = scene_.clusters.find(host);
      if (it == scene_.clusters.end()) {
        unknown = true;
      } else {
        touched.insert(it->second.begin(), it->second.end());
      }
    };
    touch(cause.client_host);
    touch(scene_.hosts.OfEndpoint(cause.server));
    for (const Said& s : cause.region_case->said) {
      touch(s.speaker_host);
      touch(s.listener_host);
    }
    if (touched.size() == 1 && !unknown) continue;
    cause.decided = false;
    cause.suspects = {Component::kTidb, Component::kPd, Component::kTikv};
    cause.missing.insert("captures of one cluster alone: these hold " + std::to_string(all.size()) +
                         ", which may give the same number to their regions");
  }
}

}  // namespace keytrail::correlate
