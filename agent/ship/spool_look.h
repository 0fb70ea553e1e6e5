// What is in a spool's folder, without being its owner: for `--doctor`. Changes nothing.
//
// Waits for the disk. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/redaction.h"
#include "common/result.h"

namespace keytrail {

struct SpoolLook {
  bool held = false;   // an agent uses it now
  std::string holder;  // its process, as the lock says; empty: not told
  uint64_t segments = 0;
  uint64_t bytes = 0;
  uint64_t batches = 0;               // whole ones
  uint64_t damaged = 0;               // batches, or headers of segments, that cannot be read
  uint64_t newer = 0;                 // segments of a later version of this program
  uint64_t not_read = 0;              // segments that there was no time for, or that could not be opened
  std::vector<Redaction> redactions;  // how the starts that wrote it tell keys, each once
};

// Reads segments until `deadline_ns` (SteadyNs); none of them while an agent holds the folder. To find that
// out it takes a shared lock for a moment: an agent that starts in just that moment would take the folder for
// used. Error: the folder and why it cannot be looked into.
Result<SpoolLook> LookAtSpool(const std::string& folder, int64_t deadline_ns);

}  // namespace keytrail
