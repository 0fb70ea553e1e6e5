// Keeps the correlator's memory bounded: what came long ago is gone through once, and dropped unless
// something refers to it.
//
// The two views of a call arrive within seconds of each other, as agents ship. So the last observations are
// all held, and of older ones those that carry a statement, a served key or a finding, with their other
// views. What is dropped has been counted and has told the clocks what it knew. A view that comes after its
// other one was dropped is a call of its own. Pure.
#pragma once

#include <cstdint>

#include "collector/correlate/scene.h"

namespace keytrail::correlate {

// Logical calls of which no observation is held any more.
struct Settled {
  uint64_t calls = 0;
  uint64_t unread = 0;
  uint64_t routed = 0;

  // Counts the calls of which `gone` holds all observations.
  template <class Gone>
  void Count(const CallLog& log, const Pairing& pairing, Gone gone);
};

template <class Gone>
void Settled::Count(const CallLog& log, const Pairing& pairing, Gone gone) {
  for (uint32_t l = 0; l < pairing.logical_count(); ++l) {
    bool all = true;
    bool call = false;
    bool named = false;
    bool is_routed = false;
    for (uint32_t i : pairing.Members(l)) {
      const Observation& o = log[i];
      all = all && gone(i);
      call |= o.kind != CallKind::kStream;
      named |= o.kind == CallKind::kStream || (o.flags & kMethodUnknown) == 0;
      is_routed |= o.region_id != 0;
    }
    if (!all) continue;
    calls += call ? 1 : 0;
    unread += named ? 0 : 1;
    routed += is_routed ? 1 : 0;
  }
}

// Drops what is not needed of all but the last `window` observations, folds former connections if there are
// more than `connections`, and keeps ledger and findings to their caps. `scene` is made of these very parts,
// and is no good afterwards.
void Settle(const Scene& scene, size_t window, size_t connections, CallLog& log, RouteLedger& ledger,
            Findings& findings, Settled& settled);

}  // namespace keytrail::correlate
