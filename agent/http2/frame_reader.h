// Frames of one direction that is in step (RFC 9113 sections 4 and 6): DATA goes out in pieces as it comes,
// header blocks as soon as they are whole.
//
// Holds a frame header or a header block that is split over deliveries, nothing else. One thread. What the
// bytes mean beyond frames (streams' states, flow control) is not checked: both ends have done so.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "agent/http2/frame.h"
#include "agent/http2/frame_search.h"
#include "agent/http2/hpack_decoder.h"
#include "agent/http2/stream_events.h"
#include "common/counters.h"

namespace keytrail {

// What one direction has told about itself, for the benefit of the other.
struct DirectionFacts {
  // All its SETTINGS since the beginning were seen, so the two limits below are certain.
  bool settings_complete = false;
  // The largest values announced: what the peer's frames and blocks can make use of at any time.
  uint32_t header_table_bytes = kDefaultHeaderTableBytes;
  uint32_t max_frame_bytes = kDefaultMaxFrameBytes;
  uint32_t newest_stream = 0;
};

struct ConnectionFacts {
  int client_direction = -1;
  std::array<DirectionFacts, 2> directions;

  // Limits for what `direction` sends.
  uint32_t MaxFrameBytes(int direction) const;
  uint32_t MaxHeaderTableBytes(int direction) const;
  SearchContext Search(int direction, bool is_http2) const;
};

// Where the events of a delivery go.
struct FrameContext {
  const ConnectionRef& connection;
  int direction;
  ConnectionFacts& facts;
  HpackDecoder& hpack;
  HeaderScratch& scratch;
  Http2Sink& sink;
  Counters& counters;
  bool short_of_room;  // header blocks of all connections hold limits::kMaxOpenBlockBytes already
};

class FrameReader {
 public:
  // The next byte is the first of a frame header.
  void Start();

  // Reads frames. Returns how many bytes were used: all, unless failed(). Then the direction is out of step
  // from the frame under way on, rejected() holds what was read as a header and is none (or nothing), and
  // Start must come next.
  size_t Feed(const FrameContext& context, TimeNs time, Bytes bytes);
  bool failed() const { return failed_; }
  Bytes rejected() const { return Bytes(header_bytes_).first(rejected_); }
  // Time of the first byte of rejected().
  TimeNs rejected_time() const { return first_; }

  // `length` bytes are missing here. True if the frames stay in step, because all of them are payload of the
  // DATA frame under way; it has been told then.
  bool Skip(const FrameContext& context, TimeNs time, uint64_t length);

  // The stream whose header block was begun and cannot be finished, 0 if there is none.
  uint32_t open_block_stream() const { return block_stream_; }
  TimeNs open_block_time() const { return block_first_; }

  // Memory of the header block or frame under way.
  size_t held_bytes() const { return payload_.capacity() + block_.capacity(); }

 private:
  bool IsExpected(const FrameContext& context) const;
  void BeginFrame(const FrameContext& context, TimeNs time);
  void ReadPadding(const FrameContext& context, TimeNs time, uint8_t padding);
  void ReadData(const FrameContext& context, TimeNs time, Bytes data);
  size_t FeedPayload(const FrameContext& context, TimeNs time, Bytes bytes);
  void EndFrame(const FrameContext& context, TimeNs time, Bytes payload);
  void DropBlock(const FrameContext& context);
  void ReadHeaders(const FrameContext& context, TimeNs time, Bytes payload);
  void ReadContinuation(const FrameContext& context, TimeNs time, Bytes payload);
  void EndBlock(const FrameContext& context, TimeNs time, Bytes block);
  void ReadSettings(const FrameContext& context, Bytes payload);

  enum class State : uint8_t {
    kHeader,   // the frame header
    kPadding,  // the Pad Length byte of DATA
    kData,     // content of DATA
    kPayload,  // payload of a frame that is read whole
    kIgnored,  // bytes that mean nothing to us
  };

  State state_ = State::kHeader;
  uint8_t header_have_ = 0;
  uint8_t rejected_ = 0;
  bool failed_ = false;
  std::array<uint8_t, kFrameHeaderBytes> header_bytes_{};
  FrameHeader header_;
  TimeNs first_;                  // of the frame's first byte
  uint32_t left_ = 0;             // bytes of the state
  uint32_t pad_left_ = 0;         // padding after the content of DATA
  std::vector<uint8_t> payload_;  // kPayload: what has come so far, if it was split
  bool payload_cut_ = false;      // ... up to a cap

  // The header block under way: the stream of its HEADERS, 0 if none.
  uint32_t block_stream_ = 0;
  bool block_end_stream_ = false;
  bool block_promised_ = false;  // of a PUSH_PROMISE: only the table matters
  bool block_over_cap_ = false;
  TimeNs block_first_;
  std::vector<uint8_t> block_;
};

}  // namespace keytrail
