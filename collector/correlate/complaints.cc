// Rules 0 to 5: who is to blame for a refused key or range.
#include <algorithm>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {
namespace {

bool AllInside(const std::vector<Item>& items, const Range& range) {
  return std::all_of(items.begin(), items.end(), [&](const Item& i) { return i.InsideOf(range); });
}

// What the complaint is about, as far as the request bears it out.
std::vector<Item> DisputedItems(const Complaint& k) {
  if (k.complained && (k.complained_in_request || k.items.empty())) return {*k.complained};
  return k.items;
}

}  // namespace

Judge::Blame Judge::JudgeComplaint(const RegionCase& c, const CaseComplaint& k) const {
  const Complaint& complaint = *k.complaint;
  Blame blame;
  if (complaint.inverted) {
    blame.rule = "0";
    blame.reason = Reason::kTidbMalformed;
    return blame;
  }
  if (!complaint.version_known || (!complaint.items_known && !complaint.complained)) {
    blame.decided = false;
    blame.rule = "15";
    blame.suspects = {Component::kTidb, Component::kPd, Component::kTikv};
    blame.missing.push_back(complaint.version_known
                                ? "the keys of the refused request (cut, over a cap or redacted)"
                                : "the refused request itself: its first bytes were not captured");
    return blame;
  }
  // Rule 4: all that was asked lies inside the bounds that the server itself names.
  const bool named_inside = complaint.bounds != kNone && complaint.complained &&
                            complaint.complained->InsideOf(scene_.ledger.ranges().Get(complaint.bounds));
  if (complaint.bounds != kNone && complaint.items_known && complaint.all_inside_bounds) {
    blame.component = Component::kTikv;
    blame.rule = "4";
    blame.reason = Reason::kTikvInsideBounds;
    if (!named_inside && complaint.complained && !complaint.complained_in_request) {
      const std::string& command = scene_.log.ShortMethod(scene_.At(complaint.observation));
      blame.certain = command.find("Coprocessor") != std::string::npos;
      if (!blame.certain)
        blame.weakened.push_back("the refused key stands in no part of the request that we read");
    }
    return blame;
  }
  const std::vector<Item> items = DisputedItems(complaint);
  const auto range = [&](uint32_t r) -> const Range& { return scene_.ledger.ranges().Get(r); };
  if (items.empty()) {
    blame.decided = false;
    blame.rule = "15";
    blame.suspects = {Component::kTidb, Component::kPd, Component::kTikv};
    blame.missing.push_back("the refused key: the text is redacted and the request names none");
    return blame;
  }
  const std::vector<ToldAt> told = ToldBefore(c, scene_.ClientHost(complaint.observation), k.logical);
  std::vector<ToldAt> holding;
  for (const ToldAt& t : told) {
    if (AllInside(items, range(t.said->range))) holding.push_back(t);
  }
  // The range is known and holds the key: it does not matter what the client was told.
  if (c.truth && AllInside(items, range(*c.truth)) && *c.truth != complaint.bounds) {
    blame.component = Component::kTikv;
    blame.rule = told.empty() ? "5" : "3";
    blame.reason = Reason::kTikvNarrow;
    blame.certain = c.tikv_contradicts || c.tikv_ranges.contains(*c.truth);
    if (!blame.certain) blame.weakened.push_back("the store is refuted by PD alone");
    return blame;
  }
  if (!holding.empty()) return JudgeDispute(c, k, holding);
  if (!told.empty()) return JudgeOutsideRoute(c, k, items);
  return JudgeWithoutRoute(c, k, items);
}

// The key lies in a range that the client was told, and the server refuses it: one of the two is wrong.
Judge::Blame Judge::JudgeDispute(const RegionCase& c, const CaseComplaint& k,
                                 const std::vector<ToldAt>& holding) const {
  const uint32_t used = holding.front().said->range;
  const bool from_pd = std::any_of(holding.begin(), holding.end(), [&](const ToldAt& t) {
    return IsPdAnswer(t.said->source) && c.PdInvented(t.said->range);
  });
  // The truth, where it is known, does not hold the key: then whoever said so is wrong.
  if (c.truth || !c.tikv_contradicts) {
    for (const ToldAt& t : holding) {
      if (!IsPdAnswer(t.said->source)) continue;
      if (auto pd = BlamePd(c, t.said->range, k.complaint->bounds)) return *pd;
    }
  }
  Blame blame;
  blame.told_range = used;
  if (!from_pd || (!c.truth && c.tikv_contradicts && !c.pd_contradicts)) {
    // A store told the range to PD or to the client, or contradicts itself.
    blame.component = Component::kTikv;
    blame.rule = "3";
    blame.reason = from_pd || !c.truth ? Reason::kTikvNarrow : Reason::kTikvToldWrong;
    if (!c.tikv_contradicts) {
      // The complaint names no bounds (redacted), and only stores spoke.
      blame.certain = false;
      blame.weakened.push_back("the complaint does not name the store's bounds");
    }
    return blame;
  }
  blame.decided = false;
  blame.rule = "3";
  blame.suspects = {Component::kPd, Component::kTikv};
  const std::string region =
      "region " + std::to_string(c.region.region_id) + " (version " + std::to_string(c.region.version) + ")";
  if (k.complaint->bounds == kNone)
    blame.missing.push_back("the bounds in the store's complaint (redacted or unread)");
  for (const ToldAt& t : holding) {
    if (!IsPdAnswer(t.said->source)) continue;
    const auto hidden_reports = ReportsHidden(t.said->speaker_host);
    blame.missing.insert(blame.missing.end(), hidden_reports.begin(), hidden_reports.end());
    break;
  }
  blame.missing.push_back("a third witness of the range of " + region +
                          ": a heartbeat of its leader to PD, or an answer of PD about it to somebody else");
  return blame;
}

bool Judge::AnsweredWithoutItsKey(const CaseComplaint& k, const std::vector<Item>& items) const {
  const auto faults = faults_of_region_.find(k.complaint->region);
  if (faults == faults_of_region_.end()) return false;
  for (const FaceFault* fault : faults->second) {
    const FaceFault& f = *fault;
    if (f.kind != FaceFault::Kind::kKeyOutside) continue;
    if (scene_.ClientHost(f.observation) != scene_.ClientHost(k.complaint->observation)) continue;
    for (const Item& item : items) {
      if (item.start == f.key || (item.is_range && item.end == f.key)) return true;
    }
  }
  return false;
}

// Rule 2: the client was told the range and asked for a key outside of it.
Judge::Blame Judge::JudgeOutsideRoute(const RegionCase& c, const CaseComplaint& k,
                                      const std::vector<Item>& items) const {
  Blame blame;
  const uint32_t client = scene_.ClientHost(k.complaint->observation);
  if (AnsweredWithoutItsKey(k, items)) {
    blame.component = Component::kPd;
    blame.rule = "1";
    blame.reason = Reason::kPdFaceFault;
    return blame;
  }
  const auto hidden = NotCovered(client, scene_.ServerHost(k.complaint->observation));
  // PD lied about this region to somebody in a way that would explain the request.
  const bool explained = std::any_of(c.said.begin(), c.said.end(), [&](const Said& s) {
    return IsPdAnswer(s.source) && AllInside(items, scene_.ledger.ranges().Get(s.range));
  });
  const auto unread = Unread(client);
  const auto lost = Lost(client, k.logical);
  const bool blind = !unread.empty() || (!lost.empty() && !KnewBetter(k, items));
  if (!hidden.empty() || explained || blind) {
    blame.decided = false;
    blame.rule = "2";
    blame.suspects = {Component::kTidb, Component::kPd};
    blame.missing = hidden;
    blame.missing.insert(blame.missing.end(), unread.begin(), unread.end());
    blame.missing.insert(blame.missing.end(), lost.begin(), lost.end());
    blame.only_losses = hidden.empty() && !explained && unread.empty();
    if (explained) {
      blame.missing.push_back("proof that PD did not give " + HostText(client) +
                              ", too, the wide range that it gave to others");
    }
    return blame;
  }
  blame.component = Component::kTidb;
  blame.rule = "2";
  blame.reason = Reason::kTidbOutsideRoute;
  blame.weakened = lost;
  blame.certain = lost.empty();
  return blame;
}

// Rule 5: nothing that told the client about this (region, version) was captured.
Judge::Blame Judge::JudgeWithoutRoute(const RegionCase& c, const CaseComplaint& k,
                                      const std::vector<Item>& items) const {
  Blame blame;
  const uint32_t client = scene_.ClientHost(k.complaint->observation);
  const auto range = [&](uint32_t r) -> const Range& { return scene_.ledger.ranges().Get(r); };
  bool pd_holds = false;
  bool store_holds = false;
  for (const Said& s : c.said) {
    if (!AllInside(items, range(s.range))) continue;
    (IsPdAnswer(s.source) && c.PdInvented(s.range) ? pd_holds : store_holds) = true;
    blame.told_range = s.range;
  }
  if (AnsweredWithoutItsKey(k, items)) {
    blame.component = Component::kPd;
    blame.rule = "1";
    blame.reason = Reason::kPdFaceFault;
    return blame;
  }
  if (c.tikv_contradicts && !c.pd_contradicts) {
    const bool bounds_doubtful =
        k.complaint->bounds != kNone && (!c.truth || *c.truth != k.complaint->bounds);
    if (bounds_doubtful || store_holds || pd_holds) {
      blame.component = Component::kTikv;
      blame.rule = "5";
      blame.reason = store_holds && c.truth ? Reason::kTikvToldWrong : Reason::kTikvNarrow;
      blame.certain = bounds_doubtful;  // the store's own words or deeds refute its bounds
      blame.weakened.push_back("the answer that gave " + HostText(client) + " this route was not captured");
      return blame;
    }
  }
  blame.told_range = kNone;
  blame.decided = false;
  blame.rule = "5";
  const auto hidden = NotCovered(client, scene_.ServerHost(k.complaint->observation));
  if (pd_holds && c.pd_contradicts && !c.tikv_contradicts) {
    // PD gave the wrong range to others; whether to this client, too, was not seen.
    blame.suspects = {Component::kTidb, Component::kPd};
    blame.missing = hidden;
    blame.missing.push_back("the answer that gave " + HostText(client) + " this route");
    return blame;
  }
  if (pd_holds || store_holds) {
    blame.suspects = {Component::kPd, Component::kTikv};
    blame.missing = hidden;
    blame.missing.push_back("a third witness of the range of region " + std::to_string(c.region.region_id) +
                            " (version " + std::to_string(c.region.version) +
                            "): a heartbeat of its leader to PD, or another answer of PD about it");
    return blame;
  }
  const bool clear = hidden.empty() && Unread(client).empty() && Lost(client, k.logical).empty();
  if (clear && WholeLifeSeen(client) && !c.said.empty()) {
    blame.decided = true;
    blame.component = Component::kTidb;
    blame.reason = Reason::kTidbNeverTold;
    blame.certain = false;
    blame.weakened.push_back("no message that told " + HostText(client) + " about this region was seen");
    return blame;
  }
  if (clear && !c.said.empty() && KnewBetter(k, items)) {
    blame.decided = true;
    blame.component = Component::kTidb;
    blame.reason = Reason::kTidbKnewBetter;
    blame.certain = false;
    blame.weakened.push_back(
        "the answer that gave " + HostText(client) +
        " its routes was not captured; it sent this key's neighbours to another region before "
        "and after, and was told nothing in between");
    return blame;
  }
  blame.suspects = {Component::kTidb, Component::kPd};
  blame.missing = hidden;
  if (hidden.empty()) {
    blame.missing.push_back("the answer from which " + HostText(client) + " learnt region " +
                            std::to_string(c.region.region_id) + " (version " +
                            std::to_string(c.region.version) +
                            "): it came before the capture began, or could not be read");
  }
  if (c.said.empty()) {
    blame.missing.push_back("any statement about that region and version: a heartbeat, or an answer of PD");
  }
  return blame;
}

}  // namespace keytrail::correlate
