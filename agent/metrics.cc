#include "agent/metrics.h"

#include <utility>
#include <vector>

#include "agent/attention_ticker.h"
#include "common/clock.h"

namespace keytrail {

namespace {

constexpr auto kCounter = Measure::Kind::kCounter;
constexpr auto kGauge = Measure::Kind::kGauge;

const char* Meaning(Counter counter) {
  switch (counter) {
    case Counter::kPackets:
      return "Packets read";
    case Counter::kBytes:
      return "Bytes of these packets on the wire";
    case Counter::kPacketsNotTcp:
      return "Packets of other protocols than TCP, and foreign bytes on a tunnel's port";
    case Counter::kPacketsMalformed:
      return "Packets whose headers contradict themselves";
    case Counter::kPacketsUnknownLink:
      return "Packets of a link type that is not read";
    case Counter::kPacketsCut:
      return "Packets that the snapshot length cut";
    case Counter::kIpFragments:
      return "Fragments of IP datagrams";
    case Counter::kKernelDrops:
      return "Packets that the kernel dropped because they were not read in time";
    case Counter::kInterfaceDrops:
      return "Packets that the device dropped";
    case Counter::kConnections:
      return "TCP connections seen";
    case Counter::kConnectionsHttp2Start:
      return "Connections that ended, HTTP/2 seen from its start";
    case Counter::kConnectionsHttp2Late:
      return "Connections that ended, HTTP/2 joined late";
    case Counter::kConnectionsHttp1:
      return "Connections that ended, HTTP/1";
    case Counter::kConnectionsTls:
      return "Connections that ended, TLS, which cannot be read";
    case Counter::kConnectionsOther:
      return "Connections that ended, of another protocol";
    case Counter::kConnectionsEmpty:
      return "Connections that ended without a byte";
    case Counter::kSegments:
      return "TCP segments";
    case Counter::kSegmentsRetransmitted:
      return "Segments whose bytes were there already";
    case Counter::kSegmentsOutOfOrder:
      return "Segments that came before an earlier one";
    case Counter::kSegmentsOverlapping:
      return "Segments of which a part was there already";
    case Counter::kSegmentsForeign:
      return "Segments with sequence numbers outside the window";
    case Counter::kGaps:
      return "Holes in streams that were given up";
    case Counter::kGapBytes:
      return "Bytes of these holes, as far as their length is known";
    case Counter::kBytesSkipped:
      return "Bytes passed over while the protocol or its next frame was sought";
    case Counter::kFrames:
      return "HTTP/2 frames";
    case Counter::kFramesMalformed:
      return "Times that bytes turned out to be no HTTP/2 frames";
    case Counter::kHeaderBlocks:
      return "Header blocks";
    case Counter::kHeaderBlocksMalformed:
      return "Header blocks that could not be decoded";
    case Counter::kHeaderFieldsUnknown:
      return "Header fields that stand in a part of the table that was not seen";
    case Counter::kStreams:
      return "HTTP/2 streams";
    case Counter::kStreamsNotGrpc:
      return "HTTP/2 streams that were no gRPC calls";
    case Counter::kMessages:
      return "gRPC messages";
    case Counter::kMessagesCompressed:
      return "gRPC messages that were compressed";
    case Counter::kMessagesUndecodable:
      return "Compressed messages that could not be unpacked";
    case Counter::kMessagesMalformed:
      return "Messages that are none of gRPC or of their type";
    case Counter::kMessagesLost:
      return "Messages of which a part is missing";
    case Counter::kCallsHeader:
      return "Calls named by their headers";
    case Counter::kCallsSlot:
      return "Calls named by the slot of the header table";
    case Counter::kCallsShape:
      return "Calls named by the shape of their messages";
    case Counter::kCallsUnknown:
      return "Calls without a name";
    case Counter::kNamesRefuted:
      return "Names that were taken back";
    case Counter::kAmendments:
      return "Calls that were named after they had been told";
    case Counter::kResponsesWithoutRequest:
      return "Calls of which only the response was seen";
    case Counter::kRequestsWithoutResponse:
      return "Calls of which only the request was seen";
    case Counter::kCapConnections:
      return "Connections ended because there were too many";
    case Counter::kCapHeldBytes:
      return "Holes given up because too many bytes waited behind them";
    case Counter::kCapHeaderBlock:
      return "Header blocks over the cap";
    case Counter::kCapStreams:
      return "Calls told early because there were too many streams";
    case Counter::kCapMessageBytes:
      return "Messages over the cap";
    case Counter::kCapPartialBytes:
      return "Messages left out because too much of others was held";
    case Counter::kCapInflatedBytes:
      return "Compressed messages that unpack to more than the cap";
    case Counter::kCapPendingRequests:
      return "Requests told early because too many waited";
    case Counter::kCapFacts:
      return "Messages told with a part of their facts";
    case Counter::kCapWaiting:
      return "Times that no more calls could wait for their name";
    case Counter::kCapEncapsulations:
      return "Packets with too many headers around each other";
    case Counter::kIpDatagramsReassembled:
      return "IP datagrams put together from fragments";
    case Counter::kIpDatagramsIncomplete:
      return "IP datagrams of which fragments are missing";
    case Counter::kIpDatagramsConflicting:
      return "IP datagrams whose fragments contradict each other";
    case Counter::kIpFragmentsRepeated:
      return "Fragments of datagrams that were whole already";
    case Counter::kCapFragments:
      return "IP datagrams left out because too many fragments waited";
    case Counter::kCapInterfaces:
      return "Interfaces of a pcapng file beyond the cap";
    case Counter::kCapHeldSegments:
      return "Holes given up because too many segments waited behind them";
    case Counter::kCapDetectBytes:
      return "Times that less was kept of undecided connections for want of room";
    case Counter::kConnectionsIdle:
      return "Connections ended because nothing came for long";
    case Counter::kConnectionsForgotten:
      return "Closed connections forgotten early because there were too many";
    case Counter::kCapOpenBlocks:
      return "Header blocks under way that were dropped for want of room";
    case Counter::kCapHeaderTables:
      return "Header tables that were kept smaller for want of room";
    case Counter::kDegradations:
      return "Steps of self-restraint to reading less";
    case Counter::kPayloadsDropped:
      return "Messages whose bytes were not kept, by self-restraint";
    case Counter::kMessagesSampledOut:
      return "Messages left out by sampling, by self-restraint";
    case Counter::kMessagesHeadersOnly:
      return "Messages followed by their length alone, by self-restraint";
    case Counter::kPacketsCountedOnly:
      return "Packets that were counted and not decoded, by self-restraint";
    case Counter::kInterfaceDowns:
      return "Times that a device went down or was removed";
    case Counter::kSegmentsUnread:
      return "Segments of connections or ports that are known to carry something else";
    case Counter::kConnectionsExcluded:
      return "Connections of other protocols that the kernel's filter leaves out";
    case Counter::kPortsExcluded:
      return "Ports of other protocols that the kernel's filter leaves out";
    case Counter::kPortsFound:
      return "Ports on which gRPC was found though they were not captured";
    case Counter::kFilterUpdates:
      return "Times that the kernel's filter was changed";
    case Counter::kCapPorts:
      return "Packets that looked like gRPC on a port for which the kernel's filter had no room";
    case Counter::kCount:
      break;
  }
  return "";
}

class Measures {
 public:
  void Count(const std::string& name, const char* help, uint64_t value) {
    all.push_back({name + "_total", help, kCounter, static_cast<double>(value), {}});
  }
  void Gauge(const char* name, const char* help, double value) {
    all.push_back({name, help, kGauge, value, {}});
  }

  std::vector<Measure> all;
};

void AddShipping(const ShipperStats& s, bool taken, Measures& to) {
  to.Gauge("ship_connected", "1: the collector takes batches; 0: it does not, and /readyz says why", taken);
  to.Count("ship_records", "Call records given to shipping", s.records);
  to.Count("ship_records_acknowledged",
           "Records that the collector has stored; with a spool also those of earlier starts",
           s.records_acknowledged);
  to.Count("ship_records_dropped", "Records lost to a full queue or to a failure, or refused for good",
           s.records_dropped);
  to.Count("ship_batches_sent", "Batches sent, resends included", s.batches_sent);
  to.Count("ship_batches_acknowledged", "Batches that the collector has stored", s.batches_acknowledged);
  to.Count("ship_payload_bytes",
           "Bytes of distinct batches before compression; of those read back from the spool none",
           s.payload_bytes);
  to.Count("ship_wire_bytes", "Bytes of distinct batches as sent", s.wire_bytes);
  to.Count("ship_hellos", "Hellos said: one, and one for each time that the connection was in doubt",
           s.hellos);
}

void AddSpool(const ShipperStats& s, uint64_t room, bool healthy, Measures& to) {
  to.Gauge("spool_healthy", "1: the spool takes what it is given; 0: it fails or sheds, and /readyz says how",
           healthy);
  to.Gauge("spool_bytes", "Bytes of the spool on disk", static_cast<double>(s.spool_bytes));
  to.Gauge("spool_room_bytes", "Bytes that the spool may have", static_cast<double>(room));
  to.Gauge("spool_segments", "Files of the spool", static_cast<double>(s.spool_segments));
  to.Count("spool_batches_written", "Batches written to the spool", s.spool_batches_written);
  to.Count("spool_batches_read", "Batches read back from the spool", s.spool_batches_read);
  to.Count("spool_batches_damaged", "Batches of the spool that could not be read", s.spool_batches_damaged);
  to.Count("spool_records_shed", "Records deleted because the spool was full", s.spool_records_shed);
  to.Count("spool_records_lost", "Records shed or damaged on disk", s.spool_records_lost);
  to.Count("spool_torn_tails", "Segments whose end was cut off because it was written in part",
           s.spool_torn_tails);
  to.Count("spool_disk_failures", "Times that the disk stopped taking batches", s.spool_disk_failures);
}

}  // namespace

Result<std::unique_ptr<AgentMetrics>> AgentMetrics::Open(const std::string& address) {
  std::unique_ptr<AgentMetrics> metrics(new AgentMetrics);
  Result<std::unique_ptr<OperationsPort>> port =
      OperationsPort::Open(address, kAgentMetricPrefix, [m = metrics.get()] { return m->State(); });
  if (!port) return Error{port.error()};
  metrics->port_ = std::move(*port);
  return metrics;
}

void AgentMetrics::Ships(const Shipper& shipper, uint64_t spool_bytes) {
  const std::lock_guard lock(mutex_);
  shipper_ = &shipper;
  spool_bytes_ = spool_bytes;
}

void AgentMetrics::Drains() {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::kDraining;
}

void AgentMetrics::Attend(const AgentPipeline& pipeline, const SelfRestraint& restraint) {
  const int64_t now = SteadyNs();
  if (now < next_ns_) return;
  next_ns_ = now + kAttentionEveryNs / 2;
  Copy(Phase::kCapturing, pipeline, restraint);
}

void AgentMetrics::Ended(const AgentPipeline& pipeline, const SelfRestraint& restraint) {
  Copy(Phase::kEnded, pipeline, restraint);
}

void AgentMetrics::Copy(Phase phase, const AgentPipeline& pipeline, const SelfRestraint& restraint) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  counters_ = pipeline.counters();
  level_ = restraint.level();
  lasted_ns_ = restraint.lasted_ns();
}

OperationsState AgentMetrics::State() const {
  const std::lock_guard lock(mutex_);
  OperationsState state;
  Measures measures;
  if (phase_ != Phase::kDraining) {
    for (size_t i = 0; i < kCounterCount; ++i) {
      const Counter counter = static_cast<Counter>(i);
      measures.Count(std::string(CounterName(counter)), Meaning(counter), counters_.Get(counter));
    }
    measures.Gauge("detail_level",
                   "How much is read: 0 everything, each step of self-restraint one more, 4 packets counted",
                   static_cast<double>(level_));
    for (size_t i = 1; i < kDetailLevels; ++i) {
      measures.Count("degraded_seconds", "Seconds spent at a step of self-restraint", 0);
      measures.all.back().value = static_cast<double>(lasted_ns_[i]) / 1e9;
      measures.all.back().labels = {{"level", std::string(DetailLevelName(static_cast<DetailLevel>(i)))}};
    }
  }
  if (phase_ == Phase::kStarting) state.not_ready = "the capture has not begun";
  if (phase_ == Phase::kEnded) state.not_ready = "the capture has ended; what is left is being shipped";
  if (shipper_ != nullptr) {
    const ShipperStats stats = shipper_->stats();
    const std::string not_taken = shipper_->not_taken();
    const std::string spool = shipper_->spool_problem();
    AddShipping(stats, not_taken.empty(), measures);
    if (spool_bytes_ != 0) AddSpool(stats, spool_bytes_, spool.empty(), measures);
    for (const std::string& why : {not_taken, spool}) {
      if (why.empty()) continue;
      state.not_ready += (state.not_ready.empty() ? "" : "; ") + why;
    }
  }
  state.measures = std::move(measures.all);
  return state;
}

}  // namespace keytrail
