// A random cluster's life as a script (script.h), with a known truth: regions that split and merge, PD that
// learns of it late, clients with region caches, and one kind of fault or none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collector/correlate/report_model.h"

namespace keytrail::testing {

enum class Fault {
  kNone,
  kPdWide,         // some answers reach to the right neighbour's end
  kPdNarrow,       // ... end before the region does
  kPdShifted,      // ... begin and end too far left
  kPdOtherRegion,  // ... are a true region that does not hold the key
  kPdAlwaysWide,   // every answer about one region and version is too wide
  kPdOldVersion,   // ... carry an older range under the newer version
  kPdHole,         // some scans leave a region out; the client sees that and asks again
  kTidbHole,       // ... and the client does not: it reads both sides
  kTidbNeighbour,  // some requests go to the region on the left of the right one
  kTidbBeyond,     // some coprocessor ranges reach beyond the region
  kTidbInverted,   // some coprocessor ranges end before they begin
  kTikvNarrow,     // some keys are refused against a range cut short
  kTikvInside,     // some keys are refused although the named bounds hold them
  kTikvHeartbeat,  // some heartbeats are too wide, PD believes them for a while
  kTikvEpoch,      // some EpochNotMatch answers give a wrong range
  kCount,
};
const char* FaultName(Fault fault);
std::optional<Component> GuiltyOf(Fault fault);
// Whom else a verdict may name: PD made the hole that TiDB read around.
bool MayBeBlamed(Fault fault, Component component);

struct RandomCluster {
  std::string script;
  uint64_t faults = 0;      // times that the fault was made
  uint64_t complaints = 0;  // refusals of keys and ranges
};

// The same for the same seed.
RandomCluster MakeCluster(uint32_t seed, Fault fault, size_t calls);

}  // namespace keytrail::testing
