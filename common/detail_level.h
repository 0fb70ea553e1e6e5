// How much an agent reads: the steps by which it saves work when it uses more than it may, each cheaper than
// the one before. Pure rooms get the level as a value; who decides it is agent/restraint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace keytrail {

enum class DetailLevel : uint8_t {
  kFull,
  kDropPayloads,  // message bytes are not kept, whole messages not printed
  kSampleTso,     // of Tso, etcd and Raft messages one in limits::kSampledOneIn is read
  kHeadersOnly,   // gRPC messages are not read: method, times, sizes and status alone
  kCountOnly,     // packets are counted; every connection has ended and is joined late afterwards
};
inline constexpr size_t kDetailLevels = 5;

// Names are a contract: of the summary, and behind "degraded." as kinds of losses.
inline std::string_view DetailLevelName(DetailLevel level) {
  static constexpr std::string_view kNames[kDetailLevels] = {"full", "drop_payloads", "sample_tso",
                                                             "headers_only", "count_only"};
  return kNames[static_cast<size_t>(level)];
}

}  // namespace keytrail
