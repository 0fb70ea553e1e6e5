#include "collector/receive/quota.h"

#include <algorithm>

#include "common/limits.h"

namespace keytrail {

namespace {
constexpr int64_t kSecond = 1'000'000'000;
// Traffic is uneven; an agent that was quiet may send what it was spared.
constexpr int64_t kBurstSeconds = 2;
}  // namespace

int64_t Quota::full() const {
  return static_cast<int64_t>(rate_) * kBurstSeconds;
}

void Quota::Fill(Bucket& bucket, int64_t now_ns) const {
  const int64_t passed = now_ns - bucket.filled_ns;
  const int64_t rate = static_cast<int64_t>(rate_);
  const int64_t lacks = full() - bucket.calls;
  // Seconds first: no product here exceeds 2^63 at the largest quota.
  const int64_t earned = passed / kSecond * rate + passed % kSecond * rate / kSecond;
  if (earned >= lacks) {
    bucket = {full(), now_ns};
    return;
  }
  // The time of whole calls alone: a bucket that is asked often fills, too.
  bucket.calls += earned;
  bucket.filled_ns += earned / rate * kSecond + earned % rate * kSecond / rate;
}

void Quota::Spend(const std::string& agent, uint64_t calls, int64_t now_ns) {
  if (rate_ == 0) return;
  if (buckets_.size() >= limits::kMaxSessions && !buckets_.contains(agent)) {
    for (auto& [name, bucket] : buckets_) Fill(bucket, now_ns);
    std::erase_if(buckets_, [&](const auto& entry) { return entry.second.calls == full(); });
  }
  Bucket& bucket = buckets_.try_emplace(agent, Bucket{full(), now_ns}).first->second;
  Fill(bucket, now_ns);
  bucket.calls -= static_cast<int64_t>(calls);
}

bool Quota::Within(const std::string& agent, int64_t now_ns) {
  const auto found = buckets_.find(agent);
  if (found == buckets_.end()) return true;
  Fill(found->second, now_ns);
  return found->second.calls > 0;
}

}  // namespace keytrail
