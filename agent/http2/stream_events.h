// HTTP/2 streams: header blocks, data, resets, as the gRPC room needs them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "agent/tcp/byte_events.h"
#include "common/bytes.h"
#include "common/time.h"

namespace keytrail {

enum class Protocol : uint8_t {
  kUndecided,
  kHttp2Start,  // the client's preface (RFC 9113 section 3.4) or an h2c upgrade was seen
  kHttp2Late,   // joined late, or frames found again: chains of valid frames
  kHttp1,
  kTls,  // told, never decoded
  kOther,
};

struct HeaderField {
  std::string_view name;   // empty: the name is not known (an entry of before we came)
  std::string_view value;  // meaningless if unknown_value
  bool unknown_value = false;
  // Not 0: the field came from a table entry that was inserted before we joined. The number names that
  // entry for as long as it lives (unique in this connection and direction).
  uint32_t slot = 0;
};

// The fields of one header block (HEADERS with its CONTINUATIONs). Valid during the call.
struct HeaderBlock {
  std::span<const HeaderField> fields;
  // The ones that gRPC needs, picked out of `fields`; empty or -1 if absent or unknown.
  std::string_view method;
  std::string_view path;
  std::string_view authority;
  std::string_view content_type;
  std::string_view grpc_encoding;
  std::string_view grpc_message;
  int http_status = -1;
  int grpc_status = -1;
  bool has_unknown = false;  // some field is unknown; so an absent one above may be hidden there
  bool undecodable = false;  // nothing of the block could be read (table lost, HPACK error, over cap)
  // Without :path: the slot of the first field that is not known at all and so may bear it; else 0.
  uint32_t path_slot = 0;
  // What that slot was known as before the last loss, as far as the table of before leads there (a hint that
  // has to be confirmed): a :path, and the number of its slot then.
  std::string_view former_path;
  uint32_t former_slot = 0;
  // A value that changes whenever anything in this direction's table may have changed: two blocks with
  // equal `identity` (never 0) have the same fields. 0: no promise. Lets the receiver remember a lookup.
  uint64_t identity = 0;
};

// Hears, once a connection, what protocol it turned out to have. Not kUndecided.
class ProtocolSink {
 public:
  virtual ~ProtocolSink() = default;
  virtual void OnProtocol(const ConnectionRef& connection, Protocol protocol) = 0;
};

// What the HTTP/2 room tells. `from_client`: sent by the HTTP/2 client, once that is known.
class Http2Sink {
 public:
  virtual ~Http2Sink() = default;
  // A connection turned out to be HTTP/2. client_direction: 0 or 1, the tcp direction in which the client
  // sends; -1: not known yet (a late join may learn it later, see OnClientKnown).
  virtual void OnHttp2(const ConnectionRef& connection, Protocol protocol, int client_direction,
                       TimeNs time) = 0;
  virtual void OnClientKnown(const ConnectionRef& connection, int client_direction) = 0;
  // first/last: times of the first and the last byte of the frame(s).
  virtual void OnHeaders(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first,
                         TimeNs last, const HeaderBlock& block, bool end_stream) = 0;
  // Data of one DATA frame, padding removed, as it arrives: a frame may come in several calls;
  // frame_end is true with its last. `first` is the time of the frame's first byte (header), `last` that
  // of the last byte in `data`. end_stream only together with frame_end. An empty DATA frame gives one
  // call with empty data.
  virtual void OnData(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first,
                      TimeNs last, Bytes data, bool frame_end, bool end_stream) = 0;
  virtual void OnReset(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs time,
                       uint32_t error_code) = 0;
  virtual void OnGoaway(const ConnectionRef& connection, int direction, TimeNs time, uint32_t last_stream,
                        uint32_t error_code) = 0;
  // Bytes of this direction were lost or skipped: any stream of it may miss frames and be in mid-message.
  // affected_stream: not 0 if the loss lies wholly within one DATA frame's payload of that stream (frames
  // stay in step; lost_bytes of its data are missing, and OnData goes on with that stream). Else 0.
  virtual void OnLoss(const ConnectionRef& connection, int direction, TimeNs time, uint64_t lost_bytes,
                      uint32_t affected_stream) = 0;
  virtual void OnEnd(const ConnectionRef& connection, TimeNs time, CloseReason reason) = 0;
};

}  // namespace keytrail
