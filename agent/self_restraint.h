// An agent that keeps within limits: reads what it uses, takes the steps of agent/restraint, and tells each.
//
// Everything happens on the decoding thread, in Attend() and Finish(), so that nothing is done per packet; an
// AttentionTicker sees to it that Attend() is called. The pipeline, and what the callbacks use, must outlive
// it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "agent/pipeline.h"
#include "agent/restraint/restraint.h"
#include "common/record_codec.h"
#include "common/result.h"

namespace keytrail {

// Of this process now. Error: /proc/self/statm cannot be read.
Result<RestraintReading> ReadOwnUse();

class SelfRestraint {
 public:
  using TellLoss = std::function<void(const LossRecord&)>;
  using Say = std::function<void(const std::string&)>;
  SelfRestraint(const RestraintLimits& limits, AgentPipeline& pipeline, TellLoss tell_loss, Say say);

  // On the decoding thread, as often as one likes, and each kAttentionEveryNs at least.
  void Attend();
  // The run is over: tells the rest.
  void Finish();

  bool limited() const { return limits_.any(); }
  DetailLevel level() const { return restraint_.level(); }
  // How long each level but the first has lasted so far, by DetailLevel.
  const std::array<int64_t, kDetailLevels>& lasted_ns() const { return lasted_ns_; }

 private:
  void Take(const RestraintStep& step);
  uint64_t LeftOut(DetailLevel level) const;
  void Tell(DetailLevel level, uint64_t count, int64_t first_ns, int64_t last_ns);
  void TellSlice();

  Restraint restraint_;
  const RestraintLimits limits_;
  AgentPipeline& pipeline_;
  const TellLoss tell_loss_;
  const Say say_;
  int64_t next_ns_ = 0;
  int64_t read_at_ns_ = 0;
  int64_t told_at_ns_ = 0;
  int64_t slice_from_ns_ = 0;                   // time of day
  std::array<uint64_t, kDetailLevels> told_{};  // of LeftOut(), by level
  uint64_t at_step_ = 0;                        // LeftOut() of this level when it began
  bool told_exhausted_ = false;
  bool failed_ = false;
  std::array<int64_t, kDetailLevels> lasted_ns_{};
};

}  // namespace keytrail
