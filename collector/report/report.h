// Prints what the correlator concluded: one JSON object for programs, a page of text for people.
//
// Pure functions of the report: no clock, no terminal, no locale. Keys leave as lower-case hex of their
// encoded form in JSON, in human form (common/key_codec.h) in text. Times are UTC.
#pragma once

#include <string>

#include "collector/correlate/report_model.h"

namespace keytrail {

// The object of `keytrail investigate --json` and `keytrail verdicts --json`, one line, with a final newline.
std::string ReportJson(const InvestigationReport& report);

struct ReportTextOptions {
  bool color = false;     // ANSI colours
  int width = 100;        // columns that the reader has; 60 at least is assumed
  bool hex_keys = false;  // keys as encoded hex instead of their human form
};

// The page for people, ends with a newline.
std::string ReportText(const InvestigationReport& report, const ReportTextOptions& options);

}  // namespace keytrail
