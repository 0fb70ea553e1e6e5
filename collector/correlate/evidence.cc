#include "collector/correlate/evidence.h"

#include <algorithm>
#include <tuple>

#include "collector/correlate/words.h"

namespace keytrail::correlate {
namespace {

// Enough to convince; all others are told as a count.
constexpr size_t kMostWitnesses = 3;

const char* SourceName(StatementSource source) {
  switch (source) {
    case StatementSource::kHeartbeat:
      return "RegionHeartbeat";
    case StatementSource::kSplitReport:
      return "split report";
    case StatementSource::kEpochNotMatch:
      return "EpochNotMatch";
    case StatementSource::kSplitResponse:
      return "SplitRegion";
    case StatementSource::kRetryRegions:
      return "retry_regions";
    default:
      return nullptr;
  }
}

}  // namespace

std::optional<std::string> EvidenceWriter::KeyOf(const Complaint& k) {
  if (k.complained && (k.complained_in_request || k.items.empty())) return k.complained->start;
  if (!k.items.empty()) return k.items.front().start;
  return std::nullopt;
}

Evidence EvidenceWriter::Line(uint32_t observation, uint32_t logical, int64_t t_ns) const {
  const Observation& o = scene_.At(observation);
  Evidence e;
  const uint32_t host = scene_.hosts.OfAgent(o.agent);
  e.host = host == kNone ? scene_.log.agents()[o.agent].name : scene_.Label(host);
  e.observer = scene_.Observer(logical);
  e.method = scene_.log.ShortMethod(o);
  e.call_id = o.call_id;
  e.t_ns = t_ns == kNoTime ? 0 : t_ns;
  if (t_ns != kNoTime) {
    e.ref_ns = t_ns == o.first() ? scene_.RequestTime(observation) : scene_.ResponseTime(observation);
  }
  e.region_id = cause_.region.region_id;
  e.version = cause_.region.version;
  return e;
}

Evidence EvidenceWriter::Statement(const ToldAt& told, const char* label) const {
  const bool report = IsReportToPd(told.said->source);
  const Observation& o = scene_.At(told.telling.observation);
  Evidence e = Line(told.telling.observation, told.telling.logical, report ? o.first() : o.last());
  e.what = IsPdAnswer(told.said->source) ? "route" : "statement";
  e.label = label;
  e.speaker = scene_.Label(told.said->speaker_host);
  e.listener = scene_.Label(told.said->listener_host);
  if (const char* name = SourceName(told.said->source)) e.method = name;
  e.statement_id = Correlator::StatementId(o.call_id, told.telling.index);
  const Range& r = scene_.ledger.ranges().Get(told.said->range);
  e.range_start = r.start;
  e.range_end = r.end;
  if (const std::string* asked = scene_.ledger.AskedKey(told.telling.observation)) e.key = *asked;
  const RegionCase& c = *cause_.region_case;
  if (c.truth && *c.truth != told.said->range)
    e.note = DifferenceNote(r, scene_.ledger.ranges().Get(*c.truth));
  return e;
}

Evidence EvidenceWriter::Fault(const FaceFault& f) const {
  const uint32_t logical = scene_.pairing.Logical(f.observation);
  Evidence e = Line(f.observation, logical, scene_.At(f.observation).last());
  e.what = "route";
  e.label = "said";
  e.speaker = scene_.Label(scene_.ServerHost(f.observation));
  e.listener = scene_.Label(scene_.ClientHost(f.observation));
  e.statement_id = Correlator::StatementId(e.call_id, f.statement);
  e.region_id = f.region.region_id;
  e.version = f.region.version;
  if (!f.key.empty()) e.key = f.key;
  e.range_start = scene_.ledger.ranges().Get(f.range).start;
  e.range_end = scene_.ledger.ranges().Get(f.range).end;
  return e;
}

Evidence EvidenceWriter::RouteSource(const ToldAt& told, const CaseComplaint& k) const {
  Evidence e = Statement(told, "said");
  const auto origin = judge_.OriginOf(cause_.region, scene_.ClientHost(k.complaint->observation), k.logical);
  if (!origin || scene_.pairing.Logical(origin->by.observation) != told.telling.logical) return e;
  std::string what;
  if (origin->state == RouteOrigin::State::kOnce) {
    what = "older than what its cache held: good for one call";
  } else if (origin->state == RouteOrigin::State::kReplaced) {
    what = "dropped from its cache at " + ClockText(origin->dropped_ns);
    if (origin->replaced_by.region_id != 0) {
      what += " for region " + std::to_string(origin->replaced_by.region_id) + " (version " +
              std::to_string(origin->replaced_by.version) + ")";
    }
  }
  if (!what.empty()) e.note += (e.note.empty() ? "" : "; ") + what;
  return e;
}

Evidence EvidenceWriter::Request(const CaseComplaint& k) const {
  const uint32_t i = scene_.Best(k.logical, View::kClient);
  Evidence e = Line(i, k.logical, scene_.At(i).first());
  e.what = "request";
  e.label = "used";
  e.speaker = scene_.Label(scene_.ClientHost(i));
  e.listener = scene_.Label(scene_.ServerHost(i));
  e.key = KeyOf(*k.complaint);
  const Complaint& complaint = *k.complaint;
  const Item* item = complaint.complained && complaint.complained_in_request ? &*complaint.complained
                     : complaint.items.empty()                               ? nullptr
                                                                             : &complaint.items.front();
  if (item != nullptr && item->is_range) {
    e.key.reset();
    e.range_start = item->start;
    e.range_end = item->end;
  }
  if (auto source = Source()) {
    const bool inside = item != nullptr && item->InsideOf(scene_.ledger.ranges().Get(source->said->range));
    const std::string who =
        IsPdAnswer(source->said->source) ? "PD" : scene_.Label(source->said->speaker_host);
    e.note = (inside ? "inside what " : "outside of what ") + who + " said";
  }
  return e;
}

Evidence EvidenceWriter::Refusal(const CaseComplaint& k) const {
  const uint32_t i = k.complaint->observation;
  Evidence e = Line(i, k.logical, scene_.At(i).last());
  e.what = "complaint";
  e.label = "refused";
  e.speaker = scene_.Label(scene_.ServerHost(i));
  e.listener = scene_.Label(scene_.ClientHost(i));
  e.method = ErrorKindName(k.complaint->kind);
  e.key = KeyOf(*k.complaint);
  if (k.complaint->bounds != kNone) {
    const Range& r = scene_.ledger.ranges().Get(k.complaint->bounds);
    e.range_start = r.start;
    e.range_end = r.end;
    const RegionCase& c = *cause_.region_case;
    if (c.truth && *c.truth != k.complaint->bounds) {
      e.note = DifferenceNote(r, scene_.ledger.ranges().Get(*c.truth));
    }
  }
  return e;
}

Evidence EvidenceWriter::Served(const ServedOutside& s) const {
  Evidence e = Line(s.observation, scene_.pairing.Logical(s.observation), scene_.At(s.observation).last());
  e.what = "served";
  e.label = "served";
  e.speaker = scene_.Label(scene_.ServerHost(s.observation));
  e.listener = scene_.Label(scene_.ClientHost(s.observation));
  e.key = s.key;
  e.note = "answered, although outside of its own bounds";
  return e;
}

std::optional<ToldAt> EvidenceWriter::Source() const {
  const CaseComplaint* k = First();
  if (k == nullptr) return std::nullopt;
  const auto told =
      judge_.ToldBefore(*cause_.region_case, scene_.ClientHost(k->complaint->observation), k->logical);
  // The newest that explains the request, else the newest.
  for (const ToldAt& t : told) {
    if (cause_.told_range == kNone || t.said->range == cause_.told_range) return t;
  }
  if (told.empty()) return std::nullopt;
  return told.front();
}

// Whoever else stated another range than the wrong one: other speakers first, the closest in time of each.
void EvidenceWriter::AddWitnesses(std::vector<Evidence>& lines, uint32_t not_range) const {
  const RegionCase& c = *cause_.region_case;
  const int64_t at = lines.empty() ? 0 : lines.front().ref_ns;
  std::vector<ToldAt> witnesses;
  for (const Said& s : c.said) {
    if (s.range == not_range || (c.truth && s.range != *c.truth) || s.tellings.empty()) continue;
    const Telling* closest = &s.tellings.front();
    for (const Telling& t : s.tellings) {
      if (std::abs(t.ref_ns - at) < std::abs(closest->ref_ns - at)) closest = &t;
    }
    const bool shown = std::any_of(lines.begin(), lines.end(), [&](const Evidence& e) {
      return e.statement_id ==
             Correlator::StatementId(scene_.At(closest->observation).call_id, closest->index);
    });
    if (!shown) witnesses.push_back({&s, *closest});
  }
  const bool pd_blamed = cause_.component == Component::kPd;
  std::stable_sort(witnesses.begin(), witnesses.end(), [&](const ToldAt& a, const ToldAt& b) {
    const auto rank = [&](const ToldAt& t) {
      // Against PD its own words weigh most, then what the stores told it; against a store PD's.
      const bool pd = IsPdAnswer(t.said->source);
      return std::tuple(pd_blamed ? !pd : pd && !IsReportToPd(t.said->source),
                        std::abs(t.telling.ref_ns - at));
    };
    return rank(a) < rank(b);
  });
  std::vector<StatementSource> sources;
  for (const ToldAt& w : witnesses) {
    if (sources.size() == kMostWitnesses) break;
    if (std::find(sources.begin(), sources.end(), w.said->source) != sources.end()) continue;
    sources.push_back(w.said->source);
    lines.push_back(Statement(w, "witness"));
  }
}

std::vector<Evidence> EvidenceWriter::Lines() const {
  std::vector<Evidence> lines;
  const CaseComplaint* k = First();
  uint32_t wrong_range = kNone;
  if (cause_.component == Component::kTikv && k != nullptr && cause_.reason != Reason::kTikvToldWrong) {
    wrong_range = k->complaint->bounds;
  } else if (cause_.component != Component::kTidb || !cause_.decided) {
    wrong_range = cause_.told_range;
  }
  if (cause_.hole != nullptr) {
    lines.push_back(Fault(*cause_.hole));
  } else if (k != nullptr) {
    if (auto source = Source()) lines.push_back(RouteSource(*source, *k));
  } else {
    // One statement proves a fault with its witnesses; where nothing is decided, all sides are told.
    for (const ToldAt& w : cause_.wrong) {
      if (lines.empty() || !cause_.decided) lines.push_back(Statement(w, "said"));
    }
  }
  for (const FaceFault* f : cause_.faults) {
    if (!lines.empty()) break;
    lines.push_back(Fault(*f));
  }
  if (k != nullptr) {
    lines.push_back(Request(*k));
    if (cause_.hole == nullptr) lines.push_back(Refusal(*k));
  }
  if (cause_.other_side) {
    lines.push_back(Request(*cause_.other_side));
    lines.back().region_id = cause_.other_side->complaint->region.region_id;
    lines.back().version = cause_.other_side->complaint->region.version;
    lines.back().note = "behind the hole";
  }
  if (cause_.hole == nullptr && (cause_.decided || k != nullptr)) AddWitnesses(lines, wrong_range);
  if (cause_.neighbour) {
    Evidence e = Statement(*cause_.neighbour, "witness");
    // Observation of a statement about the neighbour: which region it is the statement itself tells.
    e.region_id = cause_.neighbour_region.region_id;
    e.version = cause_.neighbour_region.version;
    const bool same_region = cause_.neighbour_region.region_id == cause_.region.region_id;
    const bool hole = !cause_.faults.empty() && cause_.faults.front()->kind == FaceFault::Kind::kQuietHole;
    e.note = same_region ? "a newer version" : hole ? "left out, though PD knew it" : "leaves no room for it";
    lines.push_back(std::move(e));
  }
  if (cause_.component == Component::kTikv) {
    const auto& served = cause_.served.empty() ? cause_.region_case->served_outside : cause_.served;
    for (const ServedOutside& s : served) {
      if (k != nullptr && s.range != k->complaint->bounds) continue;
      lines.push_back(Served(s));
      break;
    }
  }
  return lines;
}

}  // namespace keytrail::correlate
