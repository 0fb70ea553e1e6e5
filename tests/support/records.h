// Call records for tests: random ones that use every field, and ones as a busy TiDB host makes them.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>

#include "common/call_record.h"
#include "common/record_codec.h"

namespace keytrail {

// Every field of a record and its facts as text: equal texts, equal records. The order of peers in memory
// does not count, what the statements see of them does.
std::string DescribeCall(const CallRecord& call);

// Makes one record at a time; what it returns lives until the next call.
class RandomRecords {
 public:
  explicit RandomRecords(uint64_t seed) : random_(seed) {}

  // Every field set at random: extremes, absent values, empty and long strings.
  const CallRecord& Any();
  // A KvGet through BatchCommands, a millisecond after the one before.
  const CallRecord& Get();

 private:
  uint64_t Number();
  bool Coin() { return (random_() & 1) != 0; }
  size_t Below(size_t n) { return static_cast<size_t>(random_() % n); }
  Bytes String(ByteArena& arena, size_t longest);
  std::string_view Text(ByteArena& arena, size_t longest) { return AsText(String(arena, longest)); }
  TimeNs Time();
  void FillFacts(MessageFacts& facts);
  void FillError(MessageFacts& facts);

  std::mt19937_64 random_;
  OwnedRecord record_;
  int64_t now_ns_ = 1'795'451'331'000'000'000;
  uint64_t request_id_ = 0;
};

}  // namespace keytrail
