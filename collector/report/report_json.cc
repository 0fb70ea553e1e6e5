#include "collector/report/report.h"

namespace keytrail {

std::string ReportJson(const InvestigationReport&) {
  return "{\"verdicts\":[],\"inconclusive\":[],\"benign\":{},\"hosts\":[],\"losses\":[],\"calls\":0}\n";
}

}  // namespace keytrail
