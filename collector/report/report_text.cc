#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "collector/report/layout.h"
#include "collector/report/report.h"
#include "common/bytes.h"
#include "common/key_codec.h"

namespace keytrail {
namespace {

using namespace report;  // NOLINT: the room's own pieces

// A verdict fits a screen: the worst of a component in full, the others in a line each.
constexpr size_t kMostBriefLines = 8;
constexpr size_t kMostLossLines = 3;
constexpr size_t kLabelColumns = 10;

class Page {
 public:
  Page(const InvestigationReport& report, const ReportTextOptions& options)
      : report_(report),
        options_(options),
        paint_(options.color),
        width_(static_cast<size_t>(std::max(60, options.width))) {}

  std::string Write() {
    for (Component c : {Component::kTidb, Component::kPd, Component::kTikv}) order_.push_back(c);
    // The component of the worst verdict first.
    std::stable_sort(order_.begin(), order_.end(),
                     [&](Component a, Component b) { return FirstOf(a) < FirstOf(b); });
    for (Component c : order_) ComponentPart(c);
    InconclusivePart();
    Closing();
    Dates();
    return std::move(out_);
  }

 private:
  size_t FirstOf(Component c) const {
    for (size_t i = 0; i < report_.verdicts.size(); ++i) {
      if (report_.verdicts[i].component == c) return i;
    }
    return report_.verdicts.size();
  }

  void Line(const std::string& text) { out_ += text + "\n"; }

  // A label and text wrapped beside it.
  void Labelled(const std::string& label, const std::string& text, Tone tone = Tone::kDim) {
    const auto lines = Wrap(text, width_ - 2 - kLabelColumns);
    for (size_t i = 0; i < lines.size(); ++i) {
      const std::string head = Pad(i == 0 ? label : "", kLabelColumns);
      Line("  " + paint_(tone, head) + lines[i]);
    }
  }

  void Dates() {
    std::set<std::string> dates;
    const auto add = [&](int64_t first, int64_t last) {
      if (first != 0) dates.insert(DateText(first));
      if (last != 0) dates.insert(DateText(last));
    };
    for (const Verdict& v : report_.verdicts) add(v.first_ns, v.last_ns);
    for (const Inconclusive& v : report_.inconclusive) add(v.first_ns, v.last_ns);
    if (dates.empty()) return;
    std::string text = "Times are UTC, " + *dates.begin();
    if (dates.size() > 1) text += " to " + *dates.rbegin();
    for (const HostReport& h : report_.hosts) {
      if (!h.reference.empty()) {
        text += ", by the clock of " + h.reference;
        break;
      }
    }
    Line(paint_(Tone::kDim, text + "."));
  }

  std::string Key(const std::string& key) const {
    if (options_.hex_keys) return Shorten(HexLower(AsBytes(key)), 44);
    return Shorten(EncodedKeyText(AsBytes(key)), 32);
  }
  std::string Range(const std::string& start, const std::string& end) const {
    return "[" + (start.empty() ? "-inf" : Key(start)) + ", " + (end.empty() ? "+inf" : Key(end)) + ")";
  }

  // What was said or asked: the command's own name is enough for BatchCommands. A refusal repeats the key of
  // the request above it.
  std::string Deed(const Evidence& e) const {
    if (e.what == "complaint") {
      std::string words = e.method;
      std::replace(words.begin(), words.end(), '_', ' ');
      return words;
    }
    const size_t slash = e.method.find('/');
    std::string text = slash == std::string::npos ? e.method : e.method.substr(slash + 1);
    if (e.key) text += " " + Key(*e.key);
    return text;
  }

  // The sentence names the region; a line names it only if it is another one.
  std::string RegionPart(const Evidence& e, uint64_t region_id, uint64_t version) const {
    std::string text;
    if (e.region_id != region_id || e.version != version) {
      text = "region " + std::to_string(e.region_id) + " v" + std::to_string(e.version) + " ";
    }
    if (e.range_start && e.range_end) text += Range(*e.range_start, *e.range_end);
    return text;
  }

  void EvidenceLines(const std::vector<Evidence>& evidence, uint64_t region_id, uint64_t version) {
    size_t who_columns = 0;
    size_t deed_columns = 0;
    for (const Evidence& e : evidence) {
      who_columns = std::max(who_columns, Columns(e.speaker + " → " + e.listener));
      deed_columns = std::max(deed_columns, Columns(Deed(e)));
    }
    for (const Evidence& e : evidence) {
      const bool wrong = e.label == "said" || e.label == "refused";
      const std::string head = Pad(e.label, kLabelColumns);
      const std::string body =
          TimeText(e.ref_ns) + "  " + Pad(e.speaker + " → " + e.listener, who_columns) + "  ";
      const std::string region = RegionPart(e, region_id, version);
      const std::string note = e.note.empty() ? "" : (region.empty() ? "" : "   ") + e.note;
      const std::string one = body + Pad(Deed(e), deed_columns) + "  " + region;
      if (2 + kLabelColumns + Columns(one) + Columns(note) <= width_) {
        Line("  " + paint_(Tone::kDim, head) + one + paint_(wrong ? Tone::kRed : Tone::kPlain, note));
        continue;
      }
      Line("  " + paint_(Tone::kDim, head) + body + Deed(e));
      Line(std::string(2 + kLabelColumns + 4, ' ') + region +
           paint_(wrong ? Tone::kRed : Tone::kPlain, note));
    }
  }

  void Sentence(const std::string& text, const std::string& verdict, Tone tone) {
    const size_t colon = text.find(':');
    auto lines = Wrap(text, width_);
    if (Columns(lines.back()) + 3 + Columns(verdict) > width_) {
      lines.push_back("  " + verdict);
    } else {
      lines.back() += "   " + verdict;
    }
    for (size_t i = 0; i < lines.size(); ++i) {
      std::string line = lines[i];
      if (i == 0 && colon != std::string::npos && colon < line.size()) {
        line = paint_(Tone::kRed, line.substr(0, colon)) + line.substr(colon);
      }
      const size_t at = line.rfind(verdict);
      if (i + 1 == lines.size() && at != std::string::npos) {
        line = line.substr(0, at) + paint_(tone, verdict);
      }
      Line(line);
    }
  }

  const std::string& HostAt(const std::string& address) const {
    for (const HostReport& h : report_.hosts) {
      if (h.address == address) return h.host;
    }
    return address;
  }

  static std::string Joined(const std::vector<std::string>& parts, const char* joint) {
    std::string text;
    for (const std::string& p : parts) text += (text.empty() ? "" : joint) + p;
    return text;
  }

  std::string Again(const Verdict& v) const {
    std::map<std::string, uint64_t> by_kind;
    for (const Occurrence& o : v.occurrence_list) ++by_kind[o.what];
    std::vector<std::string> parts;
    if (by_kind["wrong_statement"] > 0) {
      parts.push_back(Count(by_kind["wrong_statement"], "wrong statement", "wrong statements"));
    }
    if (by_kind["complaint"] > 0)
      parts.push_back(Count(by_kind["complaint"], "refused request", "refused requests"));
    if (by_kind["served"] > 0) parts.push_back(Count(by_kind["served"], "key served", "keys served"));
    std::string text = Joined(parts, ", ") + " in all";
    if (v.last_ns != v.first_ns) text += ", until " + TimeText(v.last_ns);
    return text;
  }

  void ComponentPart(Component component) {
    std::vector<const Verdict*> all;
    for (const Verdict& v : report_.verdicts) {
      if (v.component == component) all.push_back(&v);
    }
    if (all.empty()) return;
    Full(*all.front());
    if (all.size() > 1) Brief(all);
    Line("");
  }

  void Full(const Verdict& v) {
    Sentence(v.text, (v.certain ? "certain, rule " : "inferred, rule ") + v.rule,
             v.certain ? Tone::kGreen : Tone::kYellow);
    EvidenceLines(v.evidence, v.region_id, v.version);
    if (v.occurrences > 1) Labelled("again", Again(v));
    if (!v.sure_of.empty()) Labelled("sure of", Joined(v.sure_of, "; "));
    if (!v.weakened_by.empty()) Labelled("not sure", Joined(v.weakened_by, "; "), Tone::kYellow);
    Labelled("next", "investigate with --db FILE, then keytrail timeline --db FILE --verdict " +
                         std::to_string(v.id));
  }

  void Brief(const std::vector<const Verdict*>& all) {
    uint64_t occurrences = 0;
    for (size_t i = 1; i < all.size(); ++i) occurrences += all[i]->occurrences;
    const size_t more = all.size() - 1;
    Line("  " + paint_(Tone::kBold, "also") + "      the same of " +
         Count(more, "other region or client", "other regions or clients") + ", " +
         Count(occurrences, "time", "times") + ":");
    for (size_t i = 1; i < all.size() && i <= kMostBriefLines; ++i) {
      const Verdict& v = *all[i];
      std::string text = "#" + std::to_string(v.id) + "  region " + std::to_string(v.region_id) + " v" +
                         std::to_string(v.version) + ", " + HostAt(v.client) + ", " +
                         Count(v.occurrences, "time", "times") + " from " +
                         TimeText(v.first_ns).substr(0, 12) +
                         (v.certain == all.front()->certain ? ""
                          : v.certain                       ? ", certain"
                                                            : ", inferred") +
                         (v.rule == all.front()->rule ? "" : ", rule " + v.rule);
      Line(std::string(2 + kLabelColumns, ' ') + Shorten(text, width_ - 2 - kLabelColumns));
    }
    if (more > kMostBriefLines) {
      Line(std::string(2 + kLabelColumns, ' ') + "and " + Number(more - kMostBriefLines) +
           " more: keytrail verdicts --json");
    }
  }

  void InconclusivePart() {
    size_t shown = 0;
    for (const Inconclusive& v : report_.inconclusive) {
      if (shown++ == 2) break;
      std::vector<std::string> suspects;
      for (Component c : v.suspects) suspects.push_back(ComponentName(c));
      Sentence("Not decided: " + v.text, Joined(suspects, " or ") + ", rule " + v.rule, Tone::kYellow);
      EvidenceLines(v.evidence, v.region_id, v.version);
      if (v.occurrences > 1) {
        Labelled("again", Count(v.occurrences, "time", "times") + " in all, until " + TimeText(v.last_ns));
      }
      for (const std::string& m : v.missing) Labelled("missing", m, Tone::kYellow);
      Labelled("next", Advice(v));
      Line("");
    }
    if (report_.inconclusive.size() > 2) {
      Line(Number(report_.inconclusive.size() - 2) + " more undecided: keytrail verdicts --json");
      Line("");
    }
  }

  static std::string Advice(const Inconclusive& v) {
    for (const std::string& m : v.missing) {
      if (m.find("no capture of") != std::string::npos) {
        return "capture there at the same time (keytrail-agent -i any -w FILE) and investigate all files "
               "together";
      }
    }
    return "capture for longer (heartbeats repeat every minute), on every TiDB, PD and TiKV host";
  }

  void Closing() {
    std::string text;
    if (report_.calls == 0) {
      text = "No gRPC call was found in this input: nothing could be checked.";
    } else if (report_.routed_requests == 0 && report_.statements == 0) {
      text = "No wrong range found, but nothing about ranges was read either: " +
             Count(report_.calls, "call", "calls") + ", none to a region.";
    } else {
      const bool none = report_.verdicts.empty() && report_.inconclusive.empty();
      const char* found = report_.key_forms > 1 ? "Not compared"
                          : none                ? "No wrong range"
                                                : "No other wrong range";
      text = std::string(found) + " among " + Count(report_.calls, "call", "calls") + ": " +
             Count(report_.routed_requests, "request", "requests") + " to regions, " +
             Count(report_.statements, "statement", "statements") + " about " +
             Count(report_.regions, "region version", "region versions") + ", " +
             Count(report_.complaints, "refusal", "refusals") + " checked.";
    }
    std::vector<std::string> benign;
    for (const auto& [name, count] : report_.benign) {
      if (count == 0) continue;
      std::string words = name;
      std::replace(words.begin(), words.end(), '_', ' ');
      if (name == "stale_route")
        words = count == 1 ? "stale route after a split or merge" : "stale routes after splits or merges";
      if (name == "tikv_lag")
        words = count == 1 ? "answer of a store that lagged" : "answers of stores that lagged";
      benign.push_back(Number(count) + " " + words);
    }
    if (!benign.empty()) text += " Benign: " + Joined(benign, ", ") + ".";
    if (report_.unread > 0) {
      text += " " + Number(report_.unread) +
              (report_.unread == 1 ? " call could not be read" : " calls could not be read") +
              ": their connections were open before the capture began.";
    }
    if (!report_.not_captured.empty()) {
      text += " Not captured, seen only from the other side: " + Joined(report_.not_captured, ", ") + ".";
    }
    if (!report_.translations.empty()) {
      uint64_t connections = 0;
      for (const TranslationReport& t : report_.translations) connections += t.connections;
      const TranslationReport& t = report_.translations.front();
      text += " " + Count(connections, "connection", "connections") + (connections == 1 ? " goes" : " go") +
              " through a NAT or proxy, as their calls show: " + t.host + " (" + t.client + ") reaches " +
              t.server + " as " + t.client_at_server + ", asking for " + t.server_at_client +
              (connections > 1 ? ", and others." : ".");
    }
    for (const std::string& line : Wrap(text, width_)) Line(line);
    size_t shown = 0;
    for (const LossReport& l : report_.losses) {
      if (l.count == 0) continue;
      if (++shown > kMostLossLines) continue;
      Labelled("lost", Number(l.count) + " " + l.kind + " at " + l.host, Tone::kYellow);
    }
    if (shown > kMostLossLines)
      Labelled("lost", Number(shown - kMostLossLines) + " kinds more: keytrail investigate --json");
  }

  const InvestigationReport& report_;
  const ReportTextOptions& options_;
  Paint paint_;
  size_t width_;
  std::vector<Component> order_;
  std::string out_;
};

}  // namespace

std::string ReportText(const InvestigationReport& report, const ReportTextOptions& options) {
  return Page(report, options).Write();
}

}  // namespace keytrail
