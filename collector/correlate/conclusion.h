// Turns causes into verdicts: the sentence, the evidence lines, the occurrences.
#pragma once

#include "collector/correlate/judge.h"
#include "collector/correlate/report_model.h"

namespace keytrail::correlate {

Verdict MakeVerdict(const Scene& scene, const Judge& judge, const Cause& cause);
Inconclusive MakeInconclusive(const Scene& scene, const Judge& judge, const Cause& cause);

}  // namespace keytrail::correlate
