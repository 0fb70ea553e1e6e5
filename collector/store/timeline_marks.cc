#include "collector/store/timeline_marks.h"

#include <algorithm>

namespace keytrail {

namespace {

bool OnRequest(const Evidence& e) {
  // A heartbeat states its region in the request.
  return e.what == "request" || e.method == "RegionHeartbeat" || e.method == "split report";
}

}  // namespace

void JoinMark(std::vector<TimelineMark>& marks, const TimelineMark& mark) {
  const auto same = std::find_if(marks.begin(), marks.end(), [&](const TimelineMark& m) {
    return m.verdict == mark.verdict && m.on_request == mark.on_request;
  });
  if (same == marks.end()) {
    marks.push_back(mark);
    return;
  }
  const bool guilty = same->guilty || mark.guilty;
  if (same->label == "again") *same = mark;
  same->guilty = guilty;
}

const Evidence* GuiltyLine(const Verdict& verdict) {
  const auto first = [&](const auto& wanted) -> const Evidence* {
    const auto it = std::find_if(verdict.evidence.begin(), verdict.evidence.end(), wanted);
    return it == verdict.evidence.end() ? nullptr : &*it;
  };
  const auto labelled = [&](const char* label) {
    return first([&](const Evidence& e) { return e.label == label; });
  };
  if (verdict.component == Component::kTidb) return labelled("used");
  if (verdict.component == Component::kPd) return labelled("said");
  // A store may have told the right range and refused by a wrong one, or the other way round: the note tells.
  const Evidence* noted = first([&](const Evidence& e) {
    return (e.label == "said" || e.label == "refused") && e.speaker == verdict.culprit && !e.note.empty();
  });
  if (noted != nullptr) return noted;
  for (const char* label : {"refused", "said", "served"}) {
    const Evidence* e = labelled(label);
    if (e != nullptr && e->speaker == verdict.culprit) return e;
  }
  return nullptr;
}

std::map<uint64_t, std::vector<TimelineMark>> MarksOf(const InvestigationReport& report,
                                                      uint64_t only_verdict) {
  std::map<uint64_t, std::vector<TimelineMark>> marks;
  for (const Verdict& v : report.verdicts) {
    if (only_verdict != 0 && v.id != only_verdict) continue;
    const Evidence* guilty = GuiltyLine(v);
    for (const Evidence& e : v.evidence) {
      if (only_verdict == 0 && e.label == "witness") continue;
      JoinMark(marks[e.call_id],
               {v.id, e.label, e.note, OnRequest(e), &e == guilty, e.statement_id, e.ref_ns});
    }
    for (const Occurrence& o : v.occurrence_list) {
      if (o.what == "complaint") {
        // TiDB's fault is the request that was refused; TiKV's the refusal, if it is not what it told PD.
        const bool wrong_refusal = guilty != nullptr && guilty->label == "refused";
        if (v.component == Component::kTidb) {
          JoinMark(marks[o.call_id], {v.id, "again", "", true, true, 0, 0});
        }
        JoinMark(marks[o.call_id],
                 {v.id, "again", "", false, v.component == Component::kTikv && wrong_refusal, 0, 0});
      } else if (o.what == "wrong_statement") {
        JoinMark(marks[o.call_id], {v.id, "again", "", false, true, o.statement_id, o.t_ns});
      } else {
        JoinMark(marks[o.call_id], {v.id, "served", "", false, v.component == Component::kTikv, 0, o.t_ns});
      }
    }
  }
  return marks;
}

}  // namespace keytrail
