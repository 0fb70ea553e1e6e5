#include "collector/report/report.h"

namespace keytrail {

std::string ReportText(const InvestigationReport&, const ReportTextOptions&) {
  return "No verdict.\n";
}

}  // namespace keytrail
