// What the verdicts of a report say of calls: who said, used, refused, and which statement is the wrong one.
//
// Pure.
#pragma once

#include <map>
#include <vector>

#include "collector/correlate/report_model.h"
#include "collector/store/timeline_model.h"

namespace keytrail {

// By calls.id. `only_verdict` 0: the guilty statements, requests and refusals of all verdicts, without
// witnesses.
std::map<uint64_t, std::vector<TimelineMark>> MarksOf(const InvestigationReport& report,
                                                      uint64_t only_verdict);

// Adds a mark, or joins it with one of the same verdict about the same half of the call: what the evidence
// calls it counts more than "again".
void JoinMark(std::vector<TimelineMark>& marks, const TimelineMark& mark);

// The line of evidence that is the wrong statement itself; null: none of them is.
const Evidence* GuiltyLine(const Verdict& verdict);

}  // namespace keytrail
