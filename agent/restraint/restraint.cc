#include "agent/restraint/restraint.h"

#include <algorithm>

namespace keytrail {

namespace {

constexpr double kCalmShare = 0.75;

}  // namespace

RestraintStep Restraint::Go(DetailLevel to, bool by_memory, double cpu_share,
                            const RestraintReading& reading) {
  const RestraintStep step{level_, to, by_memory, cpu_share, reading.memory_bytes};
  level_ = to;
  window_.assign(1, reading);
  calm_since_ns_.reset();
  exhausted_ = false;
  return step;
}

std::optional<RestraintStep> Restraint::Observe(const RestraintReading& reading) {
  if (!limits_.any()) return std::nullopt;
  window_.push_back(reading);
  while (window_.size() > 2 && reading.at_ns - window_[1].at_ns >= limits::kRestraintWindowNs) {
    window_.pop_front();
  }
  const int64_t span = reading.at_ns - window_.front().at_ns;
  if (span < limits::kRestraintWindowNs) return std::nullopt;
  const double share =
      static_cast<double>(reading.cpu_ns - window_.front().cpu_ns) / static_cast<double>(span);
  const auto [least, most] = std::minmax_element(
      window_.begin(), window_.end(),
      [](const RestraintReading& a, const RestraintReading& b) { return a.memory_bytes < b.memory_bytes; });
  const bool over_memory = limits_.memory_bytes != 0 && least->memory_bytes > limits_.memory_bytes;
  const bool over_cpu = limits_.cpu_share > 0 && share > limits_.cpu_share;
  if (over_memory || over_cpu) {
    calm_since_ns_.reset();
    if (level_ == DetailLevel::kCountOnly) {
      exhausted_ = true;
      return std::nullopt;
    }
    // The last step down was too early.
    if (down_at_ns_ && reading.at_ns - *down_at_ns_ < calm_ns_) {
      calm_ns_ = std::min(calm_ns_ * 2, limits::kRestraintMostCalmNs);
    }
    down_at_ns_.reset();
    return Go(static_cast<DetailLevel>(static_cast<int>(level_) + 1), over_memory, share, reading);
  }
  exhausted_ = false;
  const bool calm = (limits_.cpu_share <= 0 || share <= kCalmShare * limits_.cpu_share) &&
                    (limits_.memory_bytes == 0 || static_cast<double>(most->memory_bytes) <=
                                                      kCalmShare * static_cast<double>(limits_.memory_bytes));
  if (!calm) {
    calm_since_ns_.reset();
    return std::nullopt;
  }
  if (!calm_since_ns_) calm_since_ns_ = reading.at_ns;
  if (reading.at_ns - *calm_since_ns_ < calm_ns_) return std::nullopt;
  if (level_ == DetailLevel::kFull) {
    // It has held: the next step down need not be more careful than the first.
    calm_ns_ = limits::kRestraintCalmNs;
    return std::nullopt;
  }
  down_at_ns_ = reading.at_ns;
  return Go(static_cast<DetailLevel>(static_cast<int>(level_) - 1), false, share, reading);
}

}  // namespace keytrail
