// One connection: which protocol it is, and the way of its bytes to frames.
//
// A direction is undecided, searched for frames, or in step. Undecided and searched bytes are held in a
// FrameSearch; once a frame is found they are replayed, both directions in the order of arrival, and freed.
// One thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "agent/http2/frame_reader.h"
#include "agent/http2/frame_search.h"
#include "agent/http2/hpack_decoder.h"
#include "agent/http2/stream_events.h"
#include "common/counters.h"
#include "common/limits.h"

namespace keytrail {

// What all connections of one decoder share.
struct Http2Shared {
  Http2Shared(Http2Sink& s, Counters& c) : sink(s), counters(c), scratch(c) {}

  Http2Sink& sink;
  Counters& counters;
  HeaderScratch scratch;
  ProtocolSink* protocols = nullptr;  // may be null
  size_t held_bytes = 0;              // memory of the searches of all connections
  size_t block_bytes = 0;             // ... of their header blocks under way
  size_t table_bytes = 0;             // what their header tables may take beyond the default
  uint64_t next_order = 0;            // of a held piece
};

class Http2Connection {
 public:
  explicit Http2Connection(Http2Shared& shared) : shared_(shared) {}

  void OnBytes(const ConnectionRef& ref, int direction, TimeNs time, Bytes bytes) {
    Direction& d = directions_[direction];
    d.has_bytes = true;
    if (d.mode == Mode::kFrames) {
      const size_t used = d.reader.Feed(Context(ref, direction), time, bytes);
      if (d.reader.failed()) FallOut(ref, direction, time, bytes.subspan(used));
      CountHeaders(d);
    } else if (d.mode != Mode::kIgnored) {
      Hold(ref, direction, time, bytes);
    }
  }
  void OnGap(const ConnectionRef& ref, int direction, TimeNs time, uint64_t length);
  void OnClose(const ConnectionRef& ref, TimeNs time, CloseReason reason);

 private:
  enum class Mode : uint8_t {
    kUndecided,
    kSearch,  // the connection is HTTP/2, this direction's frames are not found (again) yet
    kReplay,  // ... and are being read from what was held
    kBehind,  // in step, but held for a moment: the client's frames before it are being looked for
    kFrames,  // in step
    kIgnored,
  };

  struct Direction {
    Mode mode = Mode::kUndecided;
    bool has_bytes = false;
    // Undecided: the first byte that the tracker knew of is still held, and nothing is missing since.
    bool at_start = true;
    FrameReader reader;
    HpackDecoder hpack;
    std::unique_ptr<FrameSearch> search;
    size_t held = 0;        // bytes counted in Http2Shared::held_bytes
    size_t block = 0;       // ... in block_bytes
    size_t table = 0;       // ... and in table_bytes
    uint64_t searched = 0;  // bytes held so far while undecided
    uint64_t skipped = 0;   // bytes given up while undecided
  };

  FrameContext Context(const ConnectionRef& ref, int direction) {
    return {ref,
            direction,
            facts_,
            directions_[direction].hpack,
            shared_.scratch,
            shared_.sink,
            shared_.counters,
            shared_.block_bytes > limits::kMaxOpenBlockBytes};
  }
  void Hold(const ConnectionRef& ref, int direction, TimeNs time, Bytes bytes);
  void Append(int direction, TimeNs time, Bytes bytes);
  void Trim(int direction);
  void CountHeld();
  void CountHeaders(Direction& d) {
    if (d.reader.held_bytes() == d.block && d.hpack.extra_table_bytes() == d.table) return;
    CountHeaders(d, d.reader.held_bytes(), d.hpack.extra_table_bytes());
  }
  void CountHeaders(Direction& d, size_t block, size_t table);

  void Decide(const ConnectionRef& ref, int direction, TimeNs time, Bytes newest);
  bool DecideByOpening(const ConnectionRef& ref, int direction, TimeNs time);
  void DecideUpgrade(const ConnectionRef& ref, TimeNs time);
  void DecideBySightings(Bytes newest);
  void BeginFromStart(const ConnectionRef& ref, TimeNs time, int client, size_t client_skip,
                      size_t server_skip);
  void BeginLate(const ConnectionRef& ref, TimeNs time, int found);
  void Ignore(Protocol protocol);
  void TellProtocol(const ConnectionRef& ref, Protocol before) const;

  bool Find(int direction);
  void Pump(const ConnectionRef& ref, TimeNs time);
  bool MayStayBehind(int direction, TimeNs time) const;
  void KeepBehind();
  void ReleaseBehind(const ConnectionRef& ref, int direction, TimeNs time);
  void ReplayPiece(const ConnectionRef& ref, int direction);
  void FallOut(const ConnectionRef& ref, int direction, TimeNs time, Bytes rest);
  void LoseFrames(const ConnectionRef& ref, int direction, TimeNs time, uint64_t lost);
  void TellSkipped(const ConnectionRef& ref, int direction, TimeNs time, uint64_t more);

  Http2Shared& shared_;
  Protocol protocol_ = Protocol::kUndecided;
  int8_t upgrade_client_ = -1;  // h2c was offered by this direction
  uint8_t http1_sightings_ = 0;
  uint8_t tls_sightings_ = 0;
  size_t upgrade_end_ = 0;  // where the client's preface must begin
  ConnectionFacts facts_;
  std::array<Direction, 2> directions_;
};

}  // namespace keytrail
