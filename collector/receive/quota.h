// Quota: how many calls a second each agent may have stored (a token bucket an agent).
//
// What came is always stored; an agent that is beyond its quota is given no credit until it is within again.
// What it does meanwhile is its own matter: a spool grows, a queue sheds and says so. Agents go by their
// names, so that a restart buys nothing. Not thread-safe; time is any steady clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>

namespace keytrail {

class Quota {
 public:
  // 0: everybody may always send.
  explicit Quota(uint64_t calls_per_second) : rate_(calls_per_second) {}

  // The agent had so many calls stored.
  void Spend(const std::string& agent, uint64_t calls, int64_t now_ns);
  // The agent may send more. One that was never heard of may.
  bool Within(const std::string& agent, int64_t now_ns);

  size_t agents() const { return buckets_.size(); }

 private:
  struct Bucket {
    int64_t calls = 0;      // that may be stored at once; negative: beyond the quota
    int64_t filled_ns = 0;  // up to when the quota has been added
  };

  void Fill(Bucket& bucket, int64_t now_ns) const;
  int64_t full() const;

  const uint64_t rate_;
  std::unordered_map<std::string, Bucket> buckets_;  // at most kMaxSessions that are not full
};

}  // namespace keytrail
