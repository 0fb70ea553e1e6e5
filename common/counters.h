// Counters of one agent. Each room adds to its own; the summary prints all of them by name.
//
// Plain numbers, one writer thread; a snapshot for printing is a copy. Names are a contract (summary JSON).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace keytrail {

// X(enumerator, "name_in_the_summary")
#define KEYTRAIL_COUNTERS(X)                               \
  X(kPackets, "packets")                                   \
  X(kBytes, "bytes")                                       \
  X(kPacketsNotTcp, "packets_not_tcp")                     \
  X(kPacketsMalformed, "packets_malformed")                \
  X(kPacketsUnknownLink, "packets_unknown_link")           \
  X(kPacketsCut, "packets_cut")                            \
  X(kIpFragments, "ip_fragments")                          \
  X(kKernelDrops, "kernel_drops")                          \
  X(kInterfaceDrops, "interface_drops")                    \
  X(kConnections, "connections")                           \
  X(kConnectionsHttp2Start, "connections_http2_start")     \
  X(kConnectionsHttp2Late, "connections_http2_late")       \
  X(kConnectionsHttp1, "connections_http1")                \
  X(kConnectionsTls, "connections_tls")                    \
  X(kConnectionsOther, "connections_other")                \
  X(kConnectionsEmpty, "connections_empty")                \
  X(kSegments, "segments")                                 \
  X(kSegmentsRetransmitted, "segments_retransmitted")      \
  X(kSegmentsOutOfOrder, "segments_out_of_order")          \
  X(kSegmentsOverlapping, "segments_overlapping")          \
  X(kSegmentsForeign, "segments_foreign")                  \
  X(kGaps, "gaps")                                         \
  X(kGapBytes, "gap_bytes")                                \
  X(kBytesSkipped, "bytes_skipped")                        \
  X(kFrames, "http2_frames")                               \
  X(kFramesMalformed, "http2_errors")                      \
  X(kHeaderBlocks, "header_blocks")                        \
  X(kHeaderBlocksMalformed, "header_blocks_malformed")     \
  X(kHeaderFieldsUnknown, "header_fields_unknown")         \
  X(kStreams, "http2_streams")                             \
  X(kStreamsNotGrpc, "http2_streams_not_grpc")             \
  X(kMessages, "messages")                                 \
  X(kMessagesCompressed, "messages_compressed")            \
  X(kMessagesUndecodable, "messages_undecodable")          \
  X(kMessagesMalformed, "messages_malformed")              \
  X(kMessagesLost, "messages_lost")                        \
  X(kCallsHeader, "calls_header")                          \
  X(kCallsSlot, "calls_slot")                              \
  X(kCallsShape, "calls_shape")                            \
  X(kCallsUnknown, "calls_unknown")                        \
  X(kNamesRefuted, "names_refuted")                        \
  X(kAmendments, "amendments")                             \
  X(kResponsesWithoutRequest, "responses_without_request") \
  X(kRequestsWithoutResponse, "requests_without_response") \
  X(kCapConnections, "cap_connections")                    \
  X(kCapHeldBytes, "cap_held_bytes")                       \
  X(kCapHeaderBlock, "cap_header_block")                   \
  X(kCapStreams, "cap_streams")                            \
  X(kCapMessageBytes, "cap_message_bytes")                 \
  X(kCapPartialBytes, "cap_partial_bytes")                 \
  X(kCapInflatedBytes, "cap_inflated_bytes")               \
  X(kCapPendingRequests, "cap_pending_requests")           \
  X(kCapFacts, "cap_facts")                                \
  X(kCapWaiting, "cap_waiting")                            \
  X(kCapEncapsulations, "cap_encapsulations")              \
  X(kIpDatagramsReassembled, "ip_datagrams_reassembled")   \
  X(kIpDatagramsIncomplete, "ip_datagrams_incomplete")     \
  X(kIpDatagramsConflicting, "ip_datagrams_conflicting")   \
  X(kIpFragmentsRepeated, "ip_fragments_repeated")         \
  X(kCapFragments, "cap_fragments")                        \
  X(kCapInterfaces, "cap_interfaces")                      \
  X(kCapHeldSegments, "cap_held_segments")                 \
  X(kCapDetectBytes, "cap_detect_bytes")                   \
  X(kConnectionsIdle, "connections_idle")                  \
  X(kConnectionsForgotten, "connections_forgotten")        \
  X(kCapOpenBlocks, "cap_open_blocks")                     \
  X(kCapHeaderTables, "cap_header_tables")                 \
  X(kDegradations, "degradations")                         \
  X(kPayloadsDropped, "payloads_dropped")                  \
  X(kMessagesSampledOut, "messages_sampled_out")           \
  X(kMessagesHeadersOnly, "messages_headers_only")         \
  X(kPacketsCountedOnly, "packets_counted_only")           \
  X(kInterfaceDowns, "interface_downs")                    \
  X(kSegmentsUnread, "segments_unread")                    \
  X(kConnectionsExcluded, "connections_excluded")          \
  X(kPortsExcluded, "ports_excluded")                      \
  X(kPortsFound, "ports_found")                            \
  X(kFilterUpdates, "filter_updates")                      \
  X(kCapPorts, "cap_ports")

enum class Counter : uint16_t {
#define KEYTRAIL_X(id, name) id,
  KEYTRAIL_COUNTERS(KEYTRAIL_X)
#undef KEYTRAIL_X
      kCount
};

inline constexpr size_t kCounterCount = static_cast<size_t>(Counter::kCount);

inline std::string_view CounterName(Counter c) {
  static constexpr std::string_view kNames[] = {
#define KEYTRAIL_X(id, name) name,
      KEYTRAIL_COUNTERS(KEYTRAIL_X)
#undef KEYTRAIL_X
  };
  return kNames[static_cast<size_t>(c)];
}

class Counters {
 public:
  void Add(Counter c, uint64_t n = 1) { values_[static_cast<size_t>(c)] += n; }
  uint64_t Get(Counter c) const { return values_[static_cast<size_t>(c)]; }

 private:
  std::array<uint64_t, kCounterCount> values_{};
};

}  // namespace keytrail
