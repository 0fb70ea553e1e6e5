// In which forms agents tell keys: as they are, or as tokens of some secret (common/key_token.h).
//
// Keys of two forms cannot be compared, and whoever compares them all the same finds people guilty who are
// not. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "collector/correlate/report_model.h"
#include "common/call_record.h"

namespace keytrail::correlate {

class CallLog;

class KeyForms {
 public:
  void Add(uint32_t agent, const CallRecord& call);
  // Forms that were seen; 0 if no key was.
  size_t count() const { return agents_.size(); }
  // Takes everything out of the report that comes of comparing keys, and says why. Only with two forms or
  // more. `log` names the agents.
  void Withhold(const CallLog& log, InvestigationReport& report) const;

 private:
  void AddKey(uint32_t agent, Bytes key);
  void AddFacts(uint32_t agent, const MessageFacts* facts);

  std::map<std::string, std::set<uint32_t>> agents_;  // by fingerprint; "" of keys as they are
  std::optional<uint32_t> last_agent_;
  std::string last_prefix_;  // of its token; empty: its keys come as they are
};

}  // namespace keytrail::correlate
