// Finds the beginning of a frame among bytes of unknown phase, and keeps the bytes meanwhile.
//
// Holds the bytes of one run (no gap within) of one direction, at most a window; follows every chain of
// plausible frame headers in it and weighs each chain in bits of evidence (see the table in frame_search.cc).
// One thread.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "agent/http2/frame.h"
#include "common/bytes.h"
#include "common/time.h"

namespace keytrail {

// What is known besides the bytes.
struct SearchContext {
  // The connection is HTTP/2 for certain: the other direction is in step, or this one was before a loss.
  bool is_http2 = false;
  uint32_t max_frame_bytes = kDefaultMaxFrameBytes;
  // The newest stream of each direction, 0 if none was seen.
  std::array<uint32_t, 2> newest_streams{};
};

class FrameSearch {
 public:
  // A chain is believed from here on. Each bit halves the chance that bytes which are no frames agree; up to
  // 2^16 positions of a window and several windows are tried, so 60 leaves 2^-40 for a connection of which
  // nothing is known. In a connection that is HTTP/2 for certain the question is only where, and asked
  // seldom.
  static constexpr int kEnoughBits = 60;
  static constexpr int kEnoughBitsKnown = 40;
  // Never fewer frames than this for a connection of which nothing is known.
  static constexpr int kEnoughFrames = 3;

  struct Piece {
    size_t begin = 0;  // in the buffer
    TimeNs time;
    uint64_t order = 0;
  };

  // `order` tells which of two pieces of both directions came first.
  void Append(TimeNs time, uint64_t order, Bytes bytes);

  // True: a frame begins at the front; what lay before it has been dropped (see TakeDropped).
  bool Find(const SearchContext& context);

  // The bytes held, from the front on, and the piece that byte `offset` of them belongs to.
  size_t size() const { return buffer_.size() - front_; }
  Bytes bytes() const { return Bytes(buffer_).subspan(front_); }
  // The front piece (size() > 0): its bytes and when they came.
  Bytes FrontPiece() const;
  TimeNs front_time() const { return pieces_[front_piece_].time; }
  uint64_t front_order() const { return pieces_[front_piece_].order; }

  // Gives up `count` bytes at the front. Consume: they were used; Drop: they are skipped.
  void Consume(size_t count);
  void Drop(size_t count);
  // Takes back the last `count` bytes that were consumed since the last Append.
  void GiveBack(size_t count);
  // They are still here.
  bool CanGiveBack(size_t count) const { return count <= front_; }
  // Bytes skipped since the last call.
  // What all this takes.
  size_t memory() const {
    return buffer_.capacity() + pieces_.capacity() * sizeof(Piece) + chains_.capacity() * sizeof(Chain) +
           claims_.capacity() / 8;
  }
  // Gives back what the bytes that were given up took.
  void Shrink();
  uint64_t TakeDropped() { return std::exchange(dropped_, 0); }

  // Forgets what was concluded so far: the next Find begins at the front, which is in the middle of a run.
  void Restart();
  // The same, when more is known of the connection than before.
  void Reconsider();

  // The newest stream among the first frames of the chain that the last Find believed.
  uint32_t newest_stream() const { return newest_stream_; }

 private:
  struct Seen {
    size_t at = 0;
    uint32_t length = 0;
    uint32_t stream = 0;
    uint32_t content = 0;   // hash of the header and the first bytes of the payload
    bool strong = false;    // could hardly be anything else, taken alone
    bool repeated = false;  // came before, word for word
  };
  // One chain: where its next header must stand, and what speaks for it.
  struct Chain {
    size_t first = 0;  // of its bytes that are still held
    size_t next = 0;
    int bits = 0;
    int repeated_bits = 0;
    int frames = 0;
    uint32_t open_block = 0;              // stream of a HEADERS without END_HEADERS: CONTINUATION must follow
    std::array<Seen, 8> seen;             // the first frames
    std::array<uint32_t, 32> contents{};  // Seen::content of the last ones
  };
  enum class Step { kAdvanced, kNeedMore, kBroken };

  Step Extend(Chain& chain, const SearchContext& context);
  int Weigh(const Chain& chain, const FrameHeader& header, Bytes payload, const SearchContext& context,
            Seen& seen) const;
  bool Believed(const Chain& chain, const SearchContext& context) const;
  bool Follow(Chain& chain, const SearchContext& context, bool& broken);
  size_t StartOf(const Chain& chain, const SearchContext& context) const;
  bool Claim(size_t at);
  bool Claimed(size_t at) const { return at < claims_.size() && claims_[at]; }
  void Keep(const Chain& chain);
  void Compact();

  std::vector<uint8_t> buffer_;
  std::vector<Piece> pieces_;
  size_t front_ = 0;  // offsets below are into buffer_
  size_t front_piece_ = 0;
  size_t scanned_ = 0;         // no untried header begins before
  std::vector<Chain> chains_;  // alive, waiting for more bytes
  std::vector<bool> claims_;   // header positions that some chain went through or waits for
  bool front_begins_run_ = true;
  uint32_t newest_stream_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace keytrail
