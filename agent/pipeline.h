// One agent: a packet source through all rooms to a sink. Wiring only.
//
// Run() is single-threaded (the kernel's ring or the file is the queue before it; a Shipper behind the sink
// has a thread of its own). Interrupt() and RequestStatistics() may be called from signal handlers.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/capture/packet_source.h"
#include "agent/focus/focus.h"
#include "agent/grpc/grpc_decoder.h"
#include "common/counters.h"
#include "common/detail_level.h"
#include "common/result.h"

namespace keytrail {

struct PipelineOptions {
  GrpcOptions grpc;
  uint64_t max_packets = 0;  // 0: no limit
  int64_t duration_ns = 0;   // of capture time, from the first packet; 0: no limit
  // Of a live capture: what is not worth reading is left out, in the kernel as far as it can.
  std::optional<FocusOptions> focus;
  // On the thread of Run(); may be null.
  std::function<void(LogLevel, const std::string&)> say;
  std::function<void(const LossRecord&)> tell_loss;
};

class AgentPipeline {
 public:
  // `schema`, `sink` and `writer` (may be null) must outlive the pipeline.
  AgentPipeline(std::unique_ptr<PacketSource> source, const Schema& schema, const PipelineOptions& options,
                CallSink& sink, PacketWriter* writer);
  ~AgentPipeline();

  // Until the input ends, a limit is reached or Interrupt() is called; everything decoded was then handed to
  // the sink, also when an Error (damaged input, failed write) ended it. on_idle is called when a live device
  // is quiet and after RequestStatistics(), on the thread of Run().
  Status Run(const std::function<void()>& on_idle);

  void Interrupt();
  void RequestStatistics() { statistics_wanted_.store(true, std::memory_order_relaxed); }

  // How much is read from now on; from on_idle only. Below kCountOnly every connection begins anew.
  void SetDetail(DetailLevel level);
  void CountDegradation() { counters_.Add(Counter::kDegradations); }

  const Counters& counters() const { return counters_; }
  const GrpcDecoder& grpc() const { return *grpc_; }
  // Empty if the input ended by itself.
  const std::string& stopped_by() const { return stopped_by_; }
  // Something of the input is not in the output: drops, gaps, caps.
  bool lost_something() const;

 private:
  struct Rooms;
  void Attend(const std::function<void()>& on_idle);
  void Refocus();
  std::unique_ptr<PacketSource> source_;
  PipelineOptions options_;
  PacketWriter* writer_;
  Counters counters_;
  std::unique_ptr<GrpcDecoder> grpc_;
  std::unique_ptr<Rooms> rooms_;
  std::string stopped_by_;
  bool counts_only_ = false;
  bool refine_failed_ = false;
  std::atomic<bool> interrupted_ = false;
  std::atomic<bool> statistics_wanted_ = false;
};

}  // namespace keytrail
