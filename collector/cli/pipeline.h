// The wiring of `keytrail investigate`: agents and a collector in one process, over the same records and the
// same ZeroMQ messages (inproc) as between hosts. No logic of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collector/correlate/correlator.h"
#include "collector/correlate/report_model.h"
#include "common/key_token.h"
#include "common/result.h"

namespace keytrail {

// One capture file: that of one host.
struct CaptureSource {
  std::string path;
  std::string host;  // as the user names it, or empty
  std::string role;  // "tidb", "pd", "tikv", or empty: found from the traffic
};

struct InvestigationOptions {
  std::vector<CaptureSource> sources;
  std::string database;                       // path; empty: in memory
  std::string proto_dir;                      // as for the agent
  std::string descriptor_set;                 // as for the agent
  std::optional<RedactSecret> redact_secret;  // keys as tokens of it, as the agent's --redact on
  unsigned workers = 0;                       // agents that run at once; 0: one a core
  Graces graces;
};

// What became of one capture.
struct SourceOutcome {
  std::string path;
  std::string problem;          // damage of the input, a sentence; empty: read to its end
  bool lost_something = false;  // gaps, drops, caps: told in the report's losses
  uint64_t packets = 0;
};

struct InvestigationOutcome {
  InvestigationReport report;
  std::vector<SourceOutcome> sources;  // in the order of the options
};

// Error: a capture that cannot be opened or is none, a schema or database that cannot be used. A capture that
// is damaged later is no Error: what came before counts, and the outcome says so.
Result<InvestigationOutcome> RunInvestigation(const InvestigationOptions& options);

}  // namespace keytrail
