// A gRPC load on one address, to measure what an agent beside it costs (live_node serve, live_node load).
#pragma once

#include <cstdint>
#include <string>

namespace keytrail::live {

// Answers KvGet at HOST:PORT until standard input ends. Each call takes work_us of processor time, as a
// store's reading would, beside what gRPC takes. Exit status.
int Serve(const std::string& address, uint32_t value_bytes, uint32_t work_us);

struct LoadPlan {
  std::string address;
  double seconds = 5;
  uint32_t concurrency = 8;  // callers, each with one call at a time
  double rate = 0;           // calls a second of all callers together; 0: as many as it takes
  uint32_t connections = 4;  // as many as TiDB opens to a store
};

// Sends KvGet calls and prints {"throughput": …, "median_us": …, "p99_us": …, …} on standard output. With a
// rate a call's latency counts from when it was due, so that a stall is felt by every call that it held up.
// Exit status: 0, or 1 if a call failed.
int Load(const LoadPlan& plan);

}  // namespace keytrail::live
