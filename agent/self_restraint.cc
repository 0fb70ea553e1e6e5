#include "agent/self_restraint.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "agent/attention_ticker.h"

namespace keytrail {

namespace {

constexpr int64_t kTellEveryNs = 1'000'000'000;

int64_t ClockNs(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

std::string Use(const RestraintStep& step, const RestraintLimits& limits) {
  char text[160];
  if (step.by_memory) {
    std::snprintf(text, sizeof text, "%.1f MiB resident, limit %.1f MiB",
                  static_cast<double>(step.memory_bytes) / (1 << 20),
                  static_cast<double>(limits.memory_bytes) / (1 << 20));
  } else {
    std::snprintf(text, sizeof text, "%.1f %% of a core, limit %.1f %%", step.cpu_share * 100,
                  limits.cpu_share * 100);
  }
  return text;
}

const char* Meaning(DetailLevel level) {
  switch (level) {
    case DetailLevel::kFull:
      return "everything is read";
    case DetailLevel::kDropPayloads:
      return "whole messages are not kept";
    case DetailLevel::kSampleTso:
      return "of Tso, etcd and Raft messages one in 64 is read";
    case DetailLevel::kHeadersOnly:
      return "gRPC messages are not read, only their times and sizes";
    case DetailLevel::kCountOnly:
      return "packets are counted, nothing is decoded";
  }
  return "";
}

}  // namespace

Result<RestraintReading> ReadOwnUse() {
  RestraintReading reading;
  reading.at_ns = ClockNs(CLOCK_MONOTONIC);
  reading.cpu_ns = ClockNs(CLOCK_PROCESS_CPUTIME_ID);
  const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  char text[128] = {};
  const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  const int error = errno;
  if (fd >= 0) close(fd);
  unsigned long long size = 0;
  unsigned long long resident = 0;
  if (n <= 0 || std::sscanf(text, "%llu %llu", &size, &resident) != 2) {
    return Error{std::string("/proc/self/statm: ") + (n < 0 ? std::strerror(error) : "unreadable")};
  }
  reading.memory_bytes = resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return reading;
}

SelfRestraint::SelfRestraint(const RestraintLimits& limits, AgentPipeline& pipeline, TellLoss tell_loss,
                             Say say)
    : restraint_(limits),
      limits_(limits),
      pipeline_(pipeline),
      tell_loss_(std::move(tell_loss)),
      say_(std::move(say)) {}

// What a level has left out since the start, as it is counted.
uint64_t SelfRestraint::LeftOut(DetailLevel level) const {
  const Counters& counters = pipeline_.counters();
  switch (level) {
    case DetailLevel::kFull:
      return 0;
    case DetailLevel::kDropPayloads:
      return counters.Get(Counter::kPayloadsDropped);
    case DetailLevel::kSampleTso:
      return counters.Get(Counter::kMessagesSampledOut);
    case DetailLevel::kHeadersOnly:
      return counters.Get(Counter::kMessagesHeadersOnly);
    case DetailLevel::kCountOnly:
      return counters.Get(Counter::kPacketsCountedOnly);
  }
  return 0;
}

void SelfRestraint::Tell(DetailLevel level, uint64_t count, int64_t first_ns, int64_t last_ns) {
  // The time of day may have been set back.
  tell_loss_(
      {"degraded." + std::string(DetailLevelName(level)), count, first_ns, std::max(first_ns, last_ns)});
}

// Of all levels: a message that began unread may end after the step back.
void SelfRestraint::TellSlice() {
  const int64_t now = ClockNs(CLOCK_REALTIME);
  for (size_t i = 1; i < kDetailLevels; ++i) {
    const uint64_t left_out = LeftOut(static_cast<DetailLevel>(i));
    if (left_out == told_[i]) continue;
    Tell(static_cast<DetailLevel>(i), left_out - told_[i], slice_from_ns_, now);
    told_[i] = left_out;
  }
  slice_from_ns_ = now;
}

void SelfRestraint::Take(const RestraintStep& step) {
  const bool up = step.to > step.from;
  if (up) pipeline_.CountDegradation();
  // Before anything is left out, so that no verdict is built on what is not there.
  const int64_t now = ClockNs(CLOCK_REALTIME);
  if (step.to != DetailLevel::kFull) Tell(step.to, 0, now, now);
  pipeline_.SetDetail(step.to);
  TellSlice();
  std::string words = up ? "over its limit (" + Use(step, limits_) + "), reads less: "
                         : "below its limits again, reads more: ";
  words += std::string(DetailLevelName(step.to)) + " (" + Meaning(step.to) + ")";
  if (step.from != DetailLevel::kFull) {
    words += "; " + std::string(DetailLevelName(step.from)) + " left out " +
             std::to_string(LeftOut(step.from) - at_step_) +
             (step.from == DetailLevel::kCountOnly ? " packets" : " messages");
  }
  say_(words);
  at_step_ = LeftOut(step.to);
  told_exhausted_ = false;
  // What is free goes back to the system, or the next reading would not know.
  malloc_trim(0);
}

void SelfRestraint::Attend() {
  if (!limits_.any()) return;
  const int64_t now = ClockNs(CLOCK_MONOTONIC);
  if (now < next_ns_) return;
  next_ns_ = now + kAttentionEveryNs / 2;
  const Result<RestraintReading> reading = ReadOwnUse();
  if (!reading) {
    if (!failed_) say_("its limits cannot be kept: " + reading.error());
    failed_ = true;
    return;
  }
  const DetailLevel before = restraint_.level();
  if (read_at_ns_ != 0) lasted_ns_[static_cast<size_t>(before)] += reading->at_ns - read_at_ns_;
  read_at_ns_ = reading->at_ns;
  if (now - told_at_ns_ >= kTellEveryNs) {
    told_at_ns_ = now;
    TellSlice();
    if (before != DetailLevel::kFull && limits_.memory_bytes != 0) malloc_trim(0);
  }
  if (const std::optional<RestraintStep> step = restraint_.Observe(*reading)) {
    Take(*step);
  } else if (restraint_.exhausted() && !told_exhausted_) {
    told_exhausted_ = true;
    say_("still over its limits at the last step, count_only: there is nothing more to leave out");
  }
}

void SelfRestraint::Finish() {
  TellSlice();
}

}  // namespace keytrail
