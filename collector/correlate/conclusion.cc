#include "collector/correlate/conclusion.h"

#include <algorithm>
#include <cstdio>
#include <tuple>

#include "collector/correlate/clock_report.h"
#include "collector/correlate/evidence.h"
#include "collector/correlate/words.h"
#include "common/limits.h"

namespace keytrail::correlate {
namespace {

std::string RegionText(const RegionVersion& region) {
  return "region " + std::to_string(region.region_id) + " (version " + std::to_string(region.version) + ")";
}

std::vector<Occurrence> Occurrences(const Scene& scene, const Cause& cause) {
  std::vector<Occurrence> out;
  const auto range = [&](uint32_t r) -> const Range& { return scene.ledger.ranges().Get(r); };
  const auto base = [&](const char* what, uint32_t observation, int64_t t) {
    Occurrence o;
    o.what = what;
    o.t_ns = t == kNoTime ? 0 : t;
    o.call_id = scene.At(observation).call_id;
    o.region_id = cause.region.region_id;
    o.version = cause.region.version;
    return o;
  };
  for (const CaseComplaint& k : cause.complaints) {
    // A client's fault is made when it asks, a store's when it refuses.
    const bool by_client = cause.decided && cause.component == Component::kTidb;
    const uint32_t i = by_client ? scene.Best(k.logical, View::kClient) : k.complaint->observation;
    Occurrence o = base("complaint", i, by_client ? scene.RequestTime(i) : scene.ResponseTime(i));
    o.key = EvidenceWriter::KeyOf(*k.complaint);
    if (k.complaint->bounds != kNone) {
      o.range_start = range(k.complaint->bounds).start;
      o.range_end = range(k.complaint->bounds).end;
    }
    out.push_back(std::move(o));
  }
  for (const ToldAt& w : cause.wrong) {
    Occurrence o = base("wrong_statement", w.telling.observation, w.telling.ref_ns);
    o.statement_id = Correlator::StatementId(o.call_id, w.telling.index);
    o.range_start = range(w.said->range).start;
    o.range_end = range(w.said->range).end;
    if (const std::string* asked = scene.ledger.AskedKey(w.telling.observation)) o.key = *asked;
    out.push_back(std::move(o));
  }
  for (const FaceFault* f : cause.faults) {
    Occurrence o = base("wrong_statement", f->observation, scene.ResponseTime(f->observation));
    o.statement_id = Correlator::StatementId(o.call_id, f->statement);
    const bool told = std::any_of(out.begin(), out.end(),
                                  [&](const Occurrence& x) { return x.statement_id == o.statement_id; });
    if (told) continue;
    o.range_start = range(f->range).start;
    o.range_end = range(f->range).end;
    if (!f->key.empty()) o.key = f->key;
    out.push_back(std::move(o));
  }
  for (const ServedOutside& s : cause.served) {
    Occurrence o = base("served", s.observation, scene.ResponseTime(s.observation));
    o.key = s.key;
    out.push_back(std::move(o));
  }
  std::sort(out.begin(), out.end(), [](const Occurrence& a, const Occurrence& b) {
    return std::tie(a.t_ns, a.call_id, a.statement_id) < std::tie(b.t_ns, b.call_id, b.statement_id);
  });
  return out;
}

class Sentence {
 public:
  Sentence(const Scene& scene, const Judge& judge, const Cause& cause)
      : scene_(scene), cause_(cause), lines_(scene, judge, cause) {}

  std::string Text() const {
    switch (cause_.reason) {
      case Reason::kPdWrongRange:
        return PdWrong();
      case Reason::kPdContradictsItself:
        return PdContradicts();
      case Reason::kPdFaceFault:
        return PdFace();
      case Reason::kTidbOutsideRoute:
      case Reason::kTidbKnewBetter:
      case Reason::kTidbNeverTold:
        return Tidb();
      case Reason::kTidbMalformed:
        return TidbMalformed();
      case Reason::kTidbUnsorted:
      case Reason::kTidbTwice:
        return TidbOdd();
      case Reason::kTidbReset:
        return TidbReset();
      case Reason::kTidbKeptOld:
        return TidbKeptOld();
      case Reason::kTikvEpochUnchecked:
        return TikvUnchecked();
      case Reason::kTikvLag:
        return TikvLag();
      case Reason::kTikvWentBack:
        return TikvWentBack();
      case Reason::kPdStale:
      case Reason::kPdWentBack:
        return PdBehind();
      case Reason::kPdOldAddress:
        return PdOldAddress();
      case Reason::kTidbReadAround:
        return TidbReadAround();
      case Reason::kTikvNarrow:
      case Reason::kTikvInsideBounds:
        return TikvRefused();
      case Reason::kTikvToldWrong:
      case Reason::kTikvContradictsItself:
        return TikvTold();
      case Reason::kTikvServedOutside:
        return TikvServed();
      case Reason::kUndecided:
        break;
    }
    return Undecided();
  }

  std::string Culprit() const {
    switch (cause_.component) {
      case Component::kTidb:
        return scene_.Label(cause_.client_host);
      case Component::kTikv:
        return scene_.Label(scene_.hosts.OfEndpoint(cause_.server));
      case Component::kPd:
        if (!cause_.wrong.empty()) return scene_.Label(cause_.wrong.front().said->speaker_host);
        if (!cause_.faults.empty())
          return scene_.Label(scene_.ServerHost(cause_.faults.front()->observation));
        break;
    }
    return "PD";
  }

 private:
  const Range& RangeOf(uint32_t r) const { return scene_.ledger.ranges().Get(r); }
  std::string Client() const { return scene_.Label(cause_.client_host); }
  std::string Server() const { return scene_.Label(scene_.hosts.OfEndpoint(cause_.server)); }

  std::string Refusals() const {
    const size_t n = cause_.complaints.size();
    if (n == 0) return "";
    // Who refuses is not always who said the wrong thing.
    const std::string who = scene_.Label(scene_.ServerHost(cause_.complaints.front().complaint->observation));
    return " " + who + " refused " + std::to_string(n) + (n == 1 ? " request" : " requests") + " for it.";
  }

  std::string PdWrong() const {
    if (cause_.wrong.empty()) {
      return "PD is wrong: it says that " + RegionText(cause_.region) + " " +
             Difference(RangeOf(cause_.told_range), RangeOf(cause_.right_range)) + "." + Refusals();
    }
    const ToldAt& w = cause_.wrong.front();
    return "PD is wrong: at " + ClockText(w.telling.ref_ns) + " it told " +
           scene_.Label(w.said->listener_host) + " that " + RegionText(cause_.region) + " " +
           Difference(RangeOf(w.said->range), RangeOf(cause_.right_range)) + "." + Refusals();
  }

  std::string PdContradicts() const {
    std::string text = "PD contradicts itself: it said that " + RegionText(cause_.region) + " spans ";
    const char* joint = "";
    std::vector<Range> ranges;
    for (uint32_t r : cause_.region_case->pd_ranges) ranges.push_back(RangeOf(r));
    std::sort(ranges.begin(), ranges.end());
    for (const Range& r : ranges) {
      text += joint + RangeText(r);
      joint = " and also ";
    }
    return text + "; which of them is wrong the captures do not show." + Refusals();
  }

  std::string PdFace() const {
    if (cause_.faults.empty()) {
      const auto key = lines_.First() ? EvidenceWriter::KeyOf(*lines_.First()->complaint) : std::nullopt;
      return "PD is wrong: it answered " + Client() + ", which asked for " + KeyText(key.value_or("")) +
             ", with " + RegionText(cause_.region) + ", which does not hold that key." + Refusals();
    }
    const FaceFault& f = *cause_.faults.front();
    const std::string at = ClockText(scene_.ResponseTime(f.observation));
    const std::string what = scene_.log.ShortMethod(scene_.At(f.observation));
    const std::string start = "PD is wrong: at " + at + " its " + what + " answer to " + Client() + " ";
    switch (f.kind) {
      case FaceFault::Kind::kKeyOutside:
        return start + "gave " + RegionText(f.region) + ", " + RangeText(RangeOf(f.range)) +
               ", for the key " + KeyText(f.key) + ", which lies outside of it." + Refusals();
      case FaceFault::Kind::kOtherRegion:
        return start + "gave " + RegionText(f.region) + ", which is not the region asked for.";
      case FaceFault::Kind::kOverlap:
        return start + "lists " + RegionText(f.region) + ", " + RangeText(RangeOf(f.range)) +
               ", and then a region that overlaps it, " + RangeText(RangeOf(f.other_range)) + ".";
      case FaceFault::Kind::kQuietHole:
        return start + "leaves out " + RegionText(cause_.neighbour_region) +
               ", which PD knew before and after: there is a hole after " + RegionText(f.region) + ", " +
               RangeText(Range{RangeOf(f.range).end, RangeOf(f.other_range).start}) + ".";
      case FaceFault::Kind::kTooMany:
        return start + "lists more regions than were asked for.";
      case FaceFault::Kind::kMapLength:
        return start + "holds another number of regions than keys were asked for.";
      case FaceFault::Kind::kHole:
        return start + "promised to be whole and leaves a hole after " + RegionText(f.region) + ", from " +
               RangeText(RangeOf(f.range)) + " to " + RangeText(RangeOf(f.other_range)) + ".";
    }
    return start + "does not fit its question.";
  }

  // "BatchCommands/Get t53_r8012"
  std::string RequestText() const {
    const CaseComplaint& k = *lines_.First();
    const Complaint& c = *k.complaint;
    const Item* item = c.complained && (c.complained_in_request || c.items.empty()) ? &*c.complained
                       : c.items.empty()                                            ? nullptr
                                                                                    : &c.items.front();
    const Observation& o = scene_.At(c.observation);
    std::string text = scene_.log.command(o).empty() ? scene_.log.ShortMethod(o) : scene_.log.command(o);
    if (item == nullptr) return text;
    return text + " " + (item->is_range ? RangeText(Range{item->start, item->end}) : KeyText(item->start));
  }

  std::string Asked() const {
    return "at " + ClockText(scene_.RequestTime(scene_.Best(lines_.First()->logical, View::kClient)));
  }

  std::string Tidb() const {
    std::string text = "TiDB is wrong: " + Asked() + " " + Client() + " sent " + RequestText() + " to " +
                       RegionText(cause_.region);
    if (auto source = lines_.Source()) {
      const std::string who =
          IsPdAnswer(source->said->source) ? "PD" : scene_.Label(source->said->speaker_host);
      return text + ", although " + who + " had told it that this region spans " +
             RangeText(RangeOf(source->said->range)) + ".";
    }
    if (cause_.reason == Reason::kTidbKnewBetter) {
      return text + ", which does not hold that key, while it used the right region for its neighbours.";
    }
    return text + ", which does not hold that key, and nobody had told it so.";
  }

  std::string TidbMalformed() const {
    return "TiDB is wrong: " + Asked() + " " + Client() + " sent a request to " + RegionText(cause_.region) +
           " with a range that ends before it begins: " + RequestText() + ".";
  }

  std::string TidbOdd() const {
    const char* what = cause_.reason == Reason::kTidbTwice ? " that names it twice for the same place: "
                                                           : " with ranges that are not in order: ";
    return "TiDB is wrong: " + Asked() + " " + Client() + " sent a request to " + RegionText(cause_.region) +
           what + RequestText() + ".";
  }

  std::string TidbReset() const {
    return "TiDB is wrong: " + Asked() + " " + Client() + " sent " + RequestText() + " to " +
           RegionText(cause_.region) + ", which spans " + RangeText(RangeOf(*cause_.region_case->truth)) +
           " by all that was said; the connection was reset instead of an answer.";
  }

  std::string TidbReadAround() const {
    const Range hole = HoleOf(scene_.ledger.ranges(), *cause_.hole);
    return "TiDB is wrong: " + Asked() + " " + Client() + " read both sides of " + RangeText(hole) +
           ", which PD's answer had left out after " + RegionText(cause_.region) +
           ", and never read or asked for what lies between: its rows are missing without an error.";
  }

  std::string PdOldAddress() const {
    return "PD is wrong, or two stores were given one address: clients that asked PD only later still look "
           "for "
           "store " +
           std::to_string(cause_.store_looked_for) + " at " +
           scene_.hosts.EndpointText(scene_.log, cause_.server) + ", where store " +
           std::to_string(cause_.store_there) + " lives.";
  }

  // The newest version that was stated, with who said it and when; "" if nothing was kept of it.
  std::string Newer(const char* joint) const {
    if (!cause_.neighbour) return "";
    return joint + scene_.Label(cause_.neighbour->said->speaker_host) + " had said version " +
           std::to_string(cause_.neighbour_region.version) + " at " +
           ClockText(cause_.neighbour->telling.ref_ns);
  }

  std::string PdBehind() const {
    const bool back = cause_.reason == Reason::kPdWentBack;
    std::string text = back ? "PD went back: " : "PD is behind: ";
    if (!cause_.wrong.empty()) {
      const ToldAt& w = cause_.wrong.front();
      text +=
          "at " + ClockText(w.telling.ref_ns) + " it told " + scene_.Label(w.said->listener_host) + " of ";
    }
    return text + RegionText(cause_.region) + Newer(", although ") + ".";
  }

  std::string TikvWentBack() const {
    std::string text = "TiKV went back: ";
    if (!cause_.wrong.empty()) {
      const ToldAt& w = cause_.wrong.front();
      text += "at " + ClockText(w.telling.ref_ns) + " " + scene_.Label(w.said->speaker_host) + " reported ";
    }
    return text + RegionText(cause_.region) + Newer(", although ") + ", and PD believed it.";
  }

  std::string TikvLag() const {
    const int64_t from = scene_.ResponseTime(cause_.complaints.front().complaint->observation);
    const int64_t to = scene_.ResponseTime(cause_.complaints.back().complaint->observation);
    return "TiKV is behind: " + Server() + " refused " + std::to_string(cause_.complaints.size()) +
           " requests to " + RegionText(cause_.region) + " from " + ClockText(from) + " to " + ClockText(to) +
           ", being at an older version itself.";
  }

  std::string TikvUnchecked() const {
    const Complaint& c = *lines_.First()->complaint;
    std::string text = "TiKV is wrong: at " + ClockText(scene_.ResponseTime(c.observation)) + " " + Server() +
                       " refused " + RequestText() + " of " + Client() + " in " + RegionText(cause_.region);
    if (c.bounds != kNone) text += " as outside of " + RangeText(RangeOf(c.bounds));
    return text + ", although it was at another version of the region itself and had to say that instead.";
  }

  std::string TidbKeptOld() const {
    return "TiDB kept an old route: " + Asked() + " " + Client() + " sent " + RequestText() + " to " +
           RegionText(cause_.region) + ", although " + Server() +
           " had told it of a newer version on the same connection.";
  }

  std::string TikvRefused() const {
    const Complaint& c = *lines_.First()->complaint;
    std::string text = "TiKV is wrong: at " + ClockText(scene_.ResponseTime(c.observation)) + " " + Server() +
                       " refused " + RequestText() + " of " + Client() + " in " + RegionText(cause_.region);
    if (c.bounds != kNone) text += " as outside of " + RangeText(RangeOf(c.bounds));
    if (cause_.reason == Reason::kTikvInsideBounds) return text + ", but it lies inside of them.";
    if (cause_.region_case->truth) {
      return text + "; the region " +
             (c.bounds == kNone ? "spans " + RangeText(RangeOf(*cause_.region_case->truth))
                                : Difference(RangeOf(c.bounds), RangeOf(*cause_.region_case->truth), true)) +
             ".";
    }
    return text +
           ", but it named other bounds, or served keys outside of them, for the same region and version.";
  }

  std::string TikvTold() const {
    if (cause_.wrong.empty()) {
      return "TiKV is wrong: " + Server() + " stated a range of " + RegionText(cause_.region) +
             " that it does not hold to itself." + Refusals();
    }
    const ToldAt& w = cause_.wrong.front();
    const std::string who = scene_.Label(w.said->speaker_host);
    if (!cause_.region_case->truth) {
      return "TiKV contradicts itself: at " + ClockText(w.telling.ref_ns) + " " + who + " said that " +
             RegionText(cause_.region) + " spans " + RangeText(RangeOf(w.said->range)) +
             ", and something else at another time." + Refusals();
    }
    return "TiKV is wrong: at " + ClockText(w.telling.ref_ns) + " " + who + " told " +
           scene_.Label(w.said->listener_host) + " that " + RegionText(cause_.region) + " " +
           Difference(RangeOf(w.said->range), RangeOf(*cause_.region_case->truth)) + "." + Refusals();
  }

  std::string TikvServed() const {
    const ServedOutside& s = cause_.served.front();
    return "TiKV contradicts itself: at " + ClockText(scene_.ResponseTime(s.observation)) + " " + Server() +
           " answered " + Client() + " for " + KeyText(s.key) + " in " + RegionText(cause_.region) +
           ", which by its own words spans " + RangeText(RangeOf(s.range)) + ".";
  }

  std::string Undecided() const {
    std::string text = RegionText(cause_.region) + ": ";
    text[0] = 'R';
    if (const CaseComplaint* k = lines_.First()) {
      text += Server() + " refused " + RequestText() + " of " + Client();
      if (k->complaint->bounds != kNone) text += " as outside of " + RangeText(RangeOf(k->complaint->bounds));
      text += ", and the captures do not show who is wrong";
    } else {
      text += "different ranges were stated for it, and the captures do not show who is wrong";
    }
    return text + ".";
  }

  const Scene& scene_;
  const Cause& cause_;
  EvidenceWriter lines_;
};

// When the cause first showed itself, on the reference's clock.
int64_t MomentOf(const Scene& scene, const Cause& cause) {
  if (!cause.complaints.empty()) return scene.ResponseTime(cause.complaints.front().complaint->observation);
  if (!cause.wrong.empty()) return cause.wrong.front().telling.ref_ns;
  if (!cause.faults.empty()) return scene.ResponseTime(cause.faults.front()->observation);
  return cause.served.empty() ? 0 : scene.ResponseTime(cause.served.front().observation);
}

// "clocks (tidb1 +0.2 ± 0.04 ms, ... against pd1)" for the machines that the cause touches.
std::string ClocksText(const Scene& scene, const Cause& cause) {
  std::set<uint32_t> touched = {cause.client_host, scene.hosts.OfEndpoint(cause.server)};
  for (const ToldAt& w : cause.wrong) touched.insert(w.said->speaker_host);
  std::string text;
  const uint32_t reference = scene.pairing.reference_host();
  if (reference == kNone) return "";
  const int64_t at = MomentOf(scene, cause);
  if (at <= 0) return "";
  std::vector<std::pair<std::string, uint32_t>> named;
  for (uint32_t h : touched) named.push_back({scene.Label(h), h});
  std::sort(named.begin(), named.end());
  for (const auto& [name, h] : named) {
    if (h == reference || !scene.hosts.Captured(h)) continue;
    const auto clock = ClockAgainstReference(scene, h, at);
    char line[96];
    if (clock) {
      std::snprintf(line, sizeof line, " %+.3f ± %.3f ms", static_cast<double>(clock->value) / 1e6,
                    static_cast<double>(clock->error()) / 1e6);
    } else {
      std::snprintf(line, sizeof line, " not related");
    }
    text += (text.empty() ? "" : ", ") + name + line;
  }
  if (text.empty()) return "";
  return "clocks (" + text + " against " + scene.Label(reference) + ")";
}

// What makes a verdict sure, for people: the clocks, the sides seen, what was lost.
std::vector<std::string> SureOf(const Scene& scene, const Judge& judge, const Cause& cause) {
  std::vector<std::string> out;
  if (const std::string clocks = ClocksText(scene, cause); !clocks.empty()) out.push_back(clocks);
  const bool told = EvidenceWriter(scene, judge, cause).Source().has_value();
  if (told && !cause.complaints.empty()) {
    out.push_back("what was told, asked and refused was all seen");
  } else if (cause.complaints.empty() && !cause.wrong.empty()) {
    out.push_back("nobody was refused because of it so far");
  }
  std::set<uint32_t> touched = {cause.client_host, scene.hosts.OfEndpoint(cause.server)};
  for (const ToldAt& w : cause.wrong) touched.insert(w.said->speaker_host);
  const bool lost = std::any_of(scene.losses.begin(), scene.losses.end(), [&](const LossDescription& loss) {
    if (!HidesMessages(loss.kind, loss.count)) return false;
    for (uint16_t a = 0; a < scene.log.agents().size(); ++a) {
      if (scene.log.agents()[a].number == loss.agent && touched.contains(scene.hosts.OfAgent(a))) return true;
    }
    return false;
  });
  if (!lost) out.push_back("no packet lost in their captures");
  return out;
}

template <typename T>
void FillCommon(const Scene& scene, const Judge& judge, const Cause& cause, T& out,
                std::vector<Occurrence>& occurrences) {
  out.rule = cause.rule;
  out.client = FormatAddress(scene.hosts[cause.client_host].address);
  out.server = scene.hosts.EndpointText(scene.log, cause.server);
  out.region_id = cause.region.region_id;
  out.version = cause.region.version;
  occurrences = Occurrences(scene, cause);
  out.occurrences = occurrences.size();
  if (!occurrences.empty()) {
    out.first_ns = occurrences.front().t_ns;
    out.last_ns = occurrences.back().t_ns;
  }
  // The refused key says more than one that PD was asked for.
  for (const Occurrence& o : occurrences) {
    if (o.what == "complaint" && o.key) {
      out.key = *o.key;
      break;
    }
    if (out.key.empty() && o.key) out.key = *o.key;
  }
  if (occurrences.size() > limits::kMaxOccurrencesListed) occurrences.resize(limits::kMaxOccurrencesListed);
  out.evidence = EvidenceWriter(scene, judge, cause).Lines();
  out.text = Sentence(scene, judge, cause).Text();
}

}  // namespace

Verdict MakeVerdict(const Scene& scene, const Judge& judge, const Cause& cause) {
  Verdict v;
  v.component = cause.component;
  v.certain = cause.certain;
  FillCommon(scene, judge, cause, v, v.occurrence_list);
  v.weakened_by.assign(cause.weakened.begin(), cause.weakened.end());
  v.culprit = Sentence(scene, judge, cause).Culprit();
  v.sure_of = SureOf(scene, judge, cause);
  return v;
}

Inconclusive MakeInconclusive(const Scene& scene, const Judge& judge, const Cause& cause) {
  Inconclusive v;
  v.suspects = cause.suspects;
  v.missing.assign(cause.missing.begin(), cause.missing.end());
  // What a person can do something about comes first.
  std::stable_partition(v.missing.begin(), v.missing.end(),
                        [](const std::string& m) { return m.rfind("no capture of", 0) == 0; });
  std::vector<Occurrence> occurrences;
  FillCommon(scene, judge, cause, v, occurrences);
  return v;
}

}  // namespace keytrail::correlate
