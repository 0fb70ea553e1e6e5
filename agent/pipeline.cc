#include "agent/pipeline.h"

#include <chrono>

#include "agent/http2/http2_decoder.h"
#include "agent/packet/packet_decoder.h"
#include "agent/tcp/tcp_tracker.h"

namespace keytrail {

namespace {

// A quiet device has no packet that could tell the time.
TimeNs Now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return TimeNs{std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()};
}

}  // namespace

struct AgentPipeline::Rooms {
  Rooms(GrpcDecoder& grpc, Counters& counters)
      : http2(grpc, counters), tcp(http2, counters), packets(counters) {}
  Http2Decoder http2;
  TcpTracker tcp;
  PacketDecoder packets;
};

AgentPipeline::AgentPipeline(std::unique_ptr<PacketSource> source, const Schema& schema,
                             const PipelineOptions& options, CallSink& sink, PacketWriter* writer)
    : source_(std::move(source)),
      options_(options),
      writer_(writer),
      grpc_(std::make_unique<GrpcDecoder>(schema, options.grpc, sink, counters_)),
      rooms_(std::make_unique<Rooms>(*grpc_, counters_)) {}

AgentPipeline::~AgentPipeline() = default;

void AgentPipeline::Interrupt() {
  interrupted_.store(true, std::memory_order_relaxed);
  source_->Interrupt();
}

void AgentPipeline::SetDetail(DetailLevel level) {
  grpc_->SetDetail(level);
  const bool counts_only = level == DetailLevel::kCountOnly;
  if (counts_only && !counts_only_) {
    rooms_->packets.Finish();
    rooms_->tcp.Forget();
  }
  counts_only_ = counts_only;
}

Status AgentPipeline::Run(const std::function<void()>& on_idle) {
  Status status = Done{};
  RawPacket packet;
  TimeNs first;
  uint64_t packets = 0;
  for (;;) {
    const Result<PacketSource::Next> next = source_->Read(packet);
    // Looked at first: an exchange locks the bus for each packet.
    if (statistics_wanted_.load(std::memory_order_relaxed)) {
      statistics_wanted_.store(false, std::memory_order_relaxed);
      source_->ReadDrops(counters_);
      on_idle();
    }
    if (!next) {
      status = Error{next.error()};
      break;
    }
    if (*next == PacketSource::Next::kEnd) {
      if (interrupted_.load(std::memory_order_relaxed)) stopped_by_ = "interrupted";
      break;
    }
    if (*next == PacketSource::Next::kTimeout) {
      source_->ReadDrops(counters_);
      rooms_->tcp.Advance(Now());
      on_idle();
      continue;
    }
    if (!first.known()) first = packet.time;
    if (options_.duration_ns != 0 && packet.time - first >= options_.duration_ns) {
      stopped_by_ = "--duration reached";
      break;
    }
    ++packets;
    counters_.Add(Counter::kPackets);
    counters_.Add(Counter::kBytes, packet.wire_length);
    if (writer_ != nullptr) {
      const Status written = writer_->Write(packet);
      if (!written.ok()) {
        status = Error{written.error()};
        break;
      }
    }
    if (counts_only_) {
      counters_.Add(Counter::kPacketsCountedOnly);
    } else {
      rooms_->packets.Feed(packet, rooms_->tcp);
    }
    if (packets == options_.max_packets) {
      stopped_by_ = "-c reached";
      break;
    }
  }
  if (!status.ok()) stopped_by_ = status.error();
  source_->ReadDrops(counters_);
  rooms_->packets.Finish();
  rooms_->tcp.Finish();
  return status;
}

bool AgentPipeline::lost_something() const {
  for (Counter c : {Counter::kKernelDrops, Counter::kInterfaceDrops, Counter::kGaps, Counter::kDegradations,
                    Counter::kInterfaceDowns}) {
    if (counters_.Get(c) != 0) return true;
  }
  for (size_t i = 0; i < kCounterCount; ++i) {
    const Counter c = static_cast<Counter>(i);
    if (CounterName(c).starts_with("cap_") && counters_.Get(c) != 0) return true;
  }
  return false;
}

}  // namespace keytrail
