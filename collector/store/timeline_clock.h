// Puts times of observers onto one clock, and views of one call into an order that can be.
//
// Pure but for reading; one thread. The only place where a timeline corrects a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collector/store/timeline_model.h"

namespace keytrail {

// "From `from_ns` to `to_ns` by the host's clock, it shows offset_ns + drift_ppb * (t - from_ns) / 10^9 more
// than the reference's, right within error_ns."
struct ClockStretch {
  std::string host;
  std::optional<int64_t> from_ns;  // nothing: always
  std::optional<int64_t> to_ns;
  int64_t offset_ns = 0;
  int64_t error_ns = 0;
  int64_t drift_ppb = 0;
};

class HostClocks {
 public:
  HostClocks() = default;
  // Stretches of one host may come in any order. Outside of all of them the nearest one's end counts.
  explicit HostClocks(std::vector<ClockStretch> stretches);

  // Nothing if the host's clock is not related to the reference.
  std::optional<int64_t> ToReference(const std::string& host, int64_t t_ns) const;
  // What the host's clock showed at a time of the reference's, for windows: inverse of the above but for
  // rounding.
  std::optional<int64_t> FromReference(const std::string& host, int64_t t_ns) const;
  int64_t ErrorNs(const std::string& host, int64_t t_ns) const;
  bool Related(const std::string& host) const { return Find(host, 0) != nullptr; }

 private:
  const ClockStretch* Find(const std::string& host, int64_t t_ns) const;
  std::vector<ClockStretch> stretches_;
};

// Within a view no answer precedes its question. The server's view is moved as little as needed so that
// nothing arrives before it was sent; moved_ns says by how much. Does nothing to a view whose clock is
// unrelated.
void OrderViews(TimelineCall& call);

}  // namespace keytrail
