#include "agent/pipeline.h"

#include "agent/http2/http2_decoder.h"
#include "agent/packet/packet_decoder.h"
#include "agent/tcp/tcp_tracker.h"
#include "common/clock.h"

namespace keytrail {

namespace {

// The port of the end that did not open the connection; 0: nobody knows.
uint16_t ServerPort(const FlowKey& key, int8_t opened_by) {
  return opened_by < 0 ? uint16_t{0} : opened_by == 0 ? key.b.port : key.a.port;
}

}  // namespace

struct AgentPipeline::Rooms final : ProtocolSink {
  Rooms(GrpcDecoder& grpc, const PipelineOptions& options, Counters& counters)
      : http2(grpc, counters, options.focus ? this : nullptr), tcp(http2, counters), packets(counters) {
    if (options.focus) focus.emplace(*options.focus, tcp, counters, WallClockNs());
  }

  // From within the tracker, which is told afterwards.
  void OnProtocol(const ConnectionRef& connection, Protocol protocol) override {
    const uint16_t port = ServerPort(*connection.key, connection.opened_by);
    if (protocol == Protocol::kHttp2Start || protocol == Protocol::kHttp2Late) {
      focus->OnHttp2(port);
    } else {
      focus->OnForeign(port);
      foreign.push_back(*connection.key);
    }
  }

  void Feed(const RawPacket& packet) {
    if (!focus) return packets.Feed(packet, tcp);
    packets.Feed(packet, *focus);
    if (foreign.empty()) return;
    for (const FlowKey& key : foreign) tcp.Disregard(key);
    foreign.clear();
  }

  // What a filter leaves out, and shows that it should not have.
  struct Noticed final : SegmentSink {
    explicit Noticed(Focus& f) : focus(f) {}
    void OnSegment(const Segment& segment) override { focus.Notice(segment); }
    Focus& focus;
  };
  void Notice(const RawPacket& packet) {
    if (!focus) return;
    Noticed sink(*focus);
    noticed.Feed(packet, sink);
  }

  Http2Decoder http2;
  TcpTracker tcp;
  PacketDecoder packets;
  Counters uncounted;
  PacketDecoder noticed{uncounted};
  std::optional<Focus> focus;
  std::vector<FlowKey> foreign;  // just recognised
  std::vector<UnreadConnection> unread;
};

AgentPipeline::AgentPipeline(std::unique_ptr<PacketSource> source, const Schema& schema,
                             const PipelineOptions& options, CallSink& sink, PacketWriter* writer)
    : source_(std::move(source)),
      options_(options),
      writer_(writer),
      grpc_(std::make_unique<GrpcDecoder>(schema, options.grpc, sink, counters_)),
      rooms_(std::make_unique<Rooms>(*grpc_, options_, counters_)) {}

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

void AgentPipeline::Attend(const std::function<void()>& on_idle) {
  source_->ReadDrops(counters_);
  if (rooms_->focus) Refocus();
  on_idle();
}

void AgentPipeline::Refocus() {
  rooms_->tcp.TakeUnread(rooms_->unread);
  std::vector<ForeignConnection> foreign;
  for (const UnreadConnection& c : rooms_->unread) {
    foreign.push_back({c.key, ServerPort(c.key, c.opened_by), c.segments});
  }
  const std::optional<FilterRefinement> wanted = rooms_->focus->Look(SteadyNs(), WallClockNs(), foreign);
  const auto say = [this](LogLevel level, const std::string& words) {
    if (options_.say) options_.say(level, words);
  };
  for (const std::string& words : rooms_->focus->TakeWords()) say(LogLevel::kDebug, words);
  for (const FoundPort& found : rooms_->focus->TakeFound()) {
    say(LogLevel::kWarn,
        "gRPC on port " + std::to_string(found.port) +
            (found.captured
                 ? ", which was not captured: it is from now on; what was said there before is not known "
                   "(--ports names ports from the start)"
                 : ", which -f leaves out: a collector counts that as a loss, since nobody knows what is "
                   "said "
                   "there"));
    if (options_.tell_loss)
      options_.tell_loss({"port_not_captured", 1, found.missed_from_ns, found.found_ns});
  }
  if (!wanted) return;
  const Status refined = source_->Refine(*wanted);
  if (refined.ok() || refine_failed_) return;
  refine_failed_ = true;
  say(LogLevel::kWarn, "the kernel's filter stays as it is, so more than needed is read: " + refined.error());
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
      Attend(on_idle);
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
      // A quiet device has no packet that could tell the time.
      rooms_->tcp.Advance(TimeNs{WallClockNs()});
      Attend(on_idle);
      continue;
    }
    if (packet.outside_filter) {
      rooms_->Notice(packet);
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
      rooms_->Feed(packet);
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
                    Counter::kInterfaceDowns, Counter::kPortsFound}) {
    if (counters_.Get(c) != 0) return true;
  }
  for (size_t i = 0; i < kCounterCount; ++i) {
    const Counter c = static_cast<Counter>(i);
    if (CounterName(c).starts_with("cap_") && counters_.Get(c) != 0) return true;
  }
  return false;
}

}  // namespace keytrail
