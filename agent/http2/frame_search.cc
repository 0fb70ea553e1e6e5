#include "agent/http2/frame_search.h"

#include <algorithm>
#include <cstring>

#include "agent/http2/hpack_instruction.h"

namespace keytrail {
namespace {

// Evidence of one frame, in bits, against bytes that are rich in zeroes and small numbers (binary records,
// protobuf): a zero is free, a length that may be anything is free, and the first header of a chain, which
// is chosen among all positions, counts only by what its payload proves.
constexpr int kPing = 24;          // 00 00 08 06 0x 00 00 00 00
constexpr int kWindowUpdate = 20;  // 00 00 04 08 00, a legal stream, an increment that is not 0
constexpr int kReset = 20;         // 00 00 04 03 00 and one of the error codes of RFC 9113 section 7
constexpr int kGoaway = 6;         // its length may be anything: an array of 64-bit counters has such runs
constexpr int kSettings = 20;      // type, flags and stream fixed, known identifiers
constexpr int kSettingsAck = 12;   // 00 00 00 04 01 00 00 00 00
constexpr int kPriority = 14;      // 00 00 05 02 00
constexpr int kHeaderBlock = 24;   // type 1, END_HEADERS, and the payload falls exactly into instructions
constexpr int kContinuation = 12;  // of the same stream, right after an open block
constexpr int kMessage = 16;       // DATA that is one or more whole gRPC messages: a length within agrees
constexpr int kEndOfStream = 4;    // an empty DATA frame with END_STREAM
constexpr int kDataFound = 2;      // DATA where the frame before said that one begins
constexpr int kStreamSmall = 8;    // a stream id that was seen in the chain or is near the newest ones
constexpr int kStreamLarge = 14;   // ... above 255: more than one byte agrees
constexpr int kSameLength = 10;    // as long as the frame before and long, with other content
constexpr int kRunStart = 8;       // the run begins with it: TCP segments often begin with a frame
// A frame that came before word for word proves nothing: data repeats itself. If it proves itself (a poll
// that always asks the same), a few of them count a little.
constexpr int kRepeated = 4;
constexpr int kMaxRepeatedBits = 24;
// A payload or stream with so many bits can hardly be anything else, taken alone.
constexpr int kStrong = 16;

// Streams opened while we looked away.
constexpr uint32_t kNearStreams = 4096;
constexpr uint32_t kLongFrame = 256;
constexpr size_t kMaxChains = 32;
constexpr uint32_t kLastErrorCode = 13;
// DATA up to this length is waited for and read whole; of longer frames the beginning.
constexpr uint32_t kReadWhole = 1024;
constexpr size_t kReadBeginning = 32;
constexpr size_t kGone = SIZE_MAX;
// The longest period that is looked for, and in how many bytes.
constexpr size_t kMaxPeriod = 1024;
constexpr size_t kPeriodBytes = 8192;

uint32_t ContentHash(Bytes header, Bytes payload) {
  uint32_t h = 2166136261u;
  for (const uint8_t b : header) h = (h ^ b) * 16777619u;
  for (const uint8_t b : payload.first(std::min<size_t>(payload.size(), 32))) h = (h ^ b) * 16777619u;
  return h;
}

// The same bytes again and again, twice at least. A chain through them holds one coincidence, not many.
bool IsPeriodic(Bytes bytes) {
  bytes = bytes.first(std::min(bytes.size(), kPeriodBytes));
  for (size_t period = 1; period <= std::min(kMaxPeriod, bytes.size() / 2); ++period) {
    if (std::memcmp(bytes.data(), bytes.data() + period, bytes.size() - period) == 0) return true;
  }
  return false;
}

bool NearNewest(uint32_t stream, const SearchContext& context) {
  for (const uint32_t newest : context.newest_streams) {
    if (newest != 0 && stream + kNearStreams >= newest && stream <= newest + kNearStreams) return true;
  }
  return false;
}

// DATA whose payload is exactly one or more length-prefixed messages ("gRPC over HTTP/2", DATA frames).
bool HoldsWholeMessages(Bytes payload) {
  if (payload.size() < 5) return false;
  while (!payload.empty()) {
    if (payload.size() < 5 || payload[0] > 1) return false;
    const uint32_t length = LoadBe32(payload.data() + 1);
    if (length > payload.size() - 5) return false;
    payload = payload.subspan(5 + length);
  }
  return true;
}

bool BeginsWholeMessage(const FrameHeader& header, Bytes payload) {
  return payload[0] <= 1 && LoadBe32(payload.data() + 1) == header.length - 5;
}

bool KnownSettings(Bytes payload) {
  for (size_t i = 0; i + 6 <= payload.size(); i += 6) {
    const uint16_t id = LoadBe16(payload.data() + i);
    // RFC 9113 section 6.5.2, RFC 8441, RFC 9218, and gRPC C-core's own.
    if (!((id >= 1 && id <= 6) || id == 8 || id == 9 || (id >= 0xFE00 && id <= 0xFE0F))) return false;
  }
  return !payload.empty();
}

// A PADDED or PRIORITY prefix and the padding taken off; empty if they do not fit.
Bytes Fragment(const FrameHeader& header, Bytes payload) {
  size_t skip = 0;
  size_t padding = 0;
  if (header.has(kFlagPadded)) {
    padding = payload[0];
    skip = 1;
  }
  if (header.has(kFlagPriority)) skip += 5;
  if (skip + padding > payload.size()) return {};
  return payload.subspan(skip, payload.size() - skip - padding);
}

int FixedFrameBits(const FrameHeader& header, Bytes payload) {
  switch (header.type) {
    case kFramePing:
      return kPing;
    case kFrameWindowUpdate: {
      const uint32_t increment = LoadBe32(payload.data());
      return increment != 0 && increment < 0x80000000 ? kWindowUpdate : -1;
    }
    case kFrameReset:
      return LoadBe32(payload.data()) <= kLastErrorCode ? kReset : -1;
    case kFrameGoaway:
      return LoadBe32(payload.data() + 4) <= kLastErrorCode ? kGoaway : -1;
    case kFrameSettings:
      if (header.has(kFlagAck)) return kSettingsAck;
      if (payload.empty()) return 0;
      return KnownSettings(payload) ? kSettings : -1;
    case kFramePriority:
      return kPriority;
    default:
      return -1;
  }
}

}  // namespace

void FrameSearch::Append(TimeNs time, uint64_t order, Bytes bytes) {
  if (front_ > 0 && (front_ >= buffer_.size() || front_ > 4096)) Compact();
  pieces_.push_back({buffer_.size(), time, order});
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Bytes FrameSearch::FrontPiece() const {
  const size_t end = front_piece_ + 1 < pieces_.size() ? pieces_[front_piece_ + 1].begin : buffer_.size();
  return Bytes(buffer_).subspan(front_, end - front_);
}

void FrameSearch::Consume(size_t count) {
  front_ += count;
  while (front_piece_ + 1 < pieces_.size() && pieces_[front_piece_ + 1].begin <= front_) ++front_piece_;
  scanned_ = std::max(scanned_, front_);
}

void FrameSearch::Drop(size_t count) {
  if (count == 0) return;
  dropped_ += count;
  front_begins_run_ = false;
  Consume(count);
  std::erase_if(chains_, [this](const Chain& chain) { return chain.next < front_; });
}

void FrameSearch::GiveBack(size_t count) {
  front_ -= count;
  while (front_piece_ > 0 && pieces_[front_piece_].begin > front_) --front_piece_;
}

void FrameSearch::Restart() {
  front_begins_run_ = false;
  Reconsider();
}

void FrameSearch::Reconsider() {
  scanned_ = front_;
  chains_.clear();
  claims_.clear();
}

void FrameSearch::Shrink() {
  Compact();
  buffer_.shrink_to_fit();
  pieces_.shrink_to_fit();
  chains_.shrink_to_fit();
  claims_.shrink_to_fit();
}

// Moves the front to the beginning of the buffer.
void FrameSearch::Compact() {
  const size_t by = front_;
  buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(by));
  pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<ptrdiff_t>(front_piece_));
  if (buffer_.empty()) pieces_.clear();
  for (Piece& piece : pieces_) piece.begin -= std::min(piece.begin, by);
  front_piece_ = 0;
  front_ = 0;
  scanned_ -= by;
  if (claims_.size() <= by) {
    claims_.clear();
  } else {
    claims_.erase(claims_.begin(), claims_.begin() + static_cast<ptrdiff_t>(by));
  }
  for (Chain& chain : chains_) {
    chain.next -= by;
    chain.first -= std::min(chain.first, by);
    for (Seen& seen : chain.seen) {
      // Frames before the front cannot be given back; they still count as evidence.
      if (seen.at != kGone) seen.at = seen.at < by ? kGone : seen.at - by;
    }
  }
}

// Bits of evidence of one frame; negative: it is none. `seen` is filled for later frames to compare with.
int FrameSearch::Weigh(const Chain& chain, const FrameHeader& header, Bytes payload,
                       const SearchContext& context, Seen& seen) const {
  const size_t known = std::min<size_t>(static_cast<size_t>(chain.frames), chain.seen.size());
  int bits = 0;
  bool data = false;
  if (header.type == kFrameData) {
    data = true;
    if (header.has(kFlagPadded) && payload[0] >= header.length) return -1;
    if (header.length <= kReadWhole ? HoldsWholeMessages(payload) : BeginsWholeMessage(header, payload)) {
      bits = kMessage;
    } else if (header.length == 0 && header.has(kFlagEndStream)) {
      bits = kEndOfStream;
    }
    if (chain.frames > 0 && header.length > 0) bits += kDataFound;
  } else if (header.type == kFrameHeaders) {
    const Bytes fragment = Fragment(header, payload);
    if (fragment.empty()) return -1;
    if (header.has(kFlagEndHeaders)) {
      if (!IsPlausibleHeaderBlock(fragment)) return -1;
      bits = kHeaderBlock;
    } else {
      bits = kEndOfStream;
    }
  } else if (header.type == kFrameContinuation) {
    bits = kContinuation;
  } else {
    bits = FixedFrameBits(header, payload);
  }
  if (bits < 0) return -1;
  // A whole message of few zeroes is short of proof alone; a lone `00 00 00 00 00` is an empty message.
  seen.strong = bits >= kStrong && !(data && header.length <= 5);
  if (data && header.length == 5 && bits >= kMessage) bits -= kMessage - kEndOfStream;
  const auto end = chain.contents.begin() +
                   static_cast<ptrdiff_t>(std::min(static_cast<size_t>(chain.frames), chain.contents.size()));
  if (std::find(chain.contents.begin(), end, seen.content) != end) {
    seen.repeated = true;
    return bits >= kStrong && chain.repeated_bits < kMaxRepeatedBits ? kRepeated : 0;
  }
  if (header.stream != 0 && (data || header.type == kFrameHeaders)) {
    bool familiar = NearNewest(header.stream, context);
    for (size_t i = 0; i < known; ++i) familiar = familiar || chain.seen[i].stream == header.stream;
    const bool weightless = data && header.length == 0 && !header.has(kFlagEndStream);
    if (familiar && !weightless) bits += header.stream > 255 ? kStreamLarge : kStreamSmall;
  }
  if (data && known > 0 && header.length >= kLongFrame) {
    const Seen& before = chain.seen[known - 1];
    if (before.length == header.length && before.stream == header.stream) bits += kSameLength;
  }
  return bits;
}

FrameSearch::Step FrameSearch::Extend(Chain& chain, const SearchContext& context) {
  if (buffer_.size() < chain.next + kFrameHeaderBytes) return Step::kNeedMore;
  const Bytes rest = Bytes(buffer_).subspan(chain.next);
  const FrameHeader header = ReadFrameHeader(rest.data());
  if (!IsPlausibleFrame(header, context.max_frame_bytes)) return Step::kBroken;
  if (chain.open_block != 0) {
    if (header.type != kFrameContinuation || header.stream != chain.open_block) return Step::kBroken;
  } else if (header.type == kFrameContinuation) {
    return Step::kBroken;
  }
  const Bytes after = rest.subspan(kFrameHeaderBytes);
  const bool by_beginning = header.type == kFrameData && header.length > kReadWhole;
  const size_t needed = by_beginning ? kReadBeginning : header.length;
  if (after.size() < needed) return Step::kNeedMore;
  const Bytes payload = after.first(needed);
  Seen seen;
  seen.at = chain.next;
  seen.length = header.length;
  seen.stream = header.stream;
  seen.content = ContentHash(rest.first(kFrameHeaderBytes), payload);
  const int bits = Weigh(chain, header, payload, context, seen);
  if (bits < 0) return Step::kBroken;
  if (static_cast<size_t>(chain.frames) < chain.seen.size()) {
    chain.seen[static_cast<size_t>(chain.frames)] = seen;
  }
  chain.contents[static_cast<size_t>(chain.frames) % chain.contents.size()] = seen.content;
  ++chain.frames;
  chain.bits += bits;
  if (seen.repeated) chain.repeated_bits += bits;
  if (header.type == kFrameHeaders || header.type == kFrameContinuation) {
    chain.open_block = header.has(kFlagEndHeaders) ? 0 : header.stream;
  }
  chain.next += kFrameHeaderBytes + header.length;
  return Step::kAdvanced;
}

bool FrameSearch::Believed(const Chain& chain, const SearchContext& context) const {
  if (context.is_http2) return chain.frames > 0 && chain.bits >= kEnoughBitsKnown;
  if (chain.bits < kEnoughBits || chain.frames < kEnoughFrames) return false;
  return !IsPeriodic(Bytes(buffer_).first(std::min(chain.next, buffer_.size())).subspan(chain.first));
}

// Extends `chain` as far as the bytes go. True: it is believed.
bool FrameSearch::Follow(Chain& chain, const SearchContext& context, bool& broken) {
  broken = false;
  while (true) {
    if (Believed(chain, context)) return true;
    switch (Extend(chain, context)) {
      case Step::kNeedMore:
        return false;
      case Step::kBroken:
        broken = true;
        return false;
      case Step::kAdvanced:
        break;
    }
    // A younger chain that runs into an older one is its tail, and has no say of its own.
    if (!Claim(chain.next)) {
      broken = true;
      return false;
    }
  }
}

// False: another chain came first.
bool FrameSearch::Claim(size_t at) {
  if (Claimed(at)) return false;
  if (claims_.size() <= at) claims_.resize(at + 1);
  claims_[at] = true;
  return true;
}

// Keeps a chain that waits for bytes; of too many the weakest goes.
void FrameSearch::Keep(const Chain& chain) {
  if (chains_.size() < kMaxChains) {
    chains_.push_back(chain);
    return;
  }
  const auto weakest = std::min_element(chains_.begin(), chains_.end(),
                                        [](const Chain& a, const Chain& b) { return a.bits < b.bits; });
  claims_[weakest->next] = false;
  *weakest = chain;
}

// Where to begin: at the first frame of the chain that does not hang on the chain alone. Bytes before it that
// happen to lead into a real frame are thereby left out.
size_t FrameSearch::StartOf(const Chain& chain, const SearchContext& context) const {
  const size_t count = std::min<size_t>(static_cast<size_t>(chain.frames), chain.seen.size());
  for (size_t i = 0; i < count; ++i) {
    const Seen& seen = chain.seen[i];
    if (seen.at == kGone) continue;
    bool familiar = seen.stream != 0 && NearNewest(seen.stream, context);
    for (size_t j = 0; j < count; ++j) {
      familiar = familiar || (j != i && seen.stream != 0 && chain.seen[j].stream == seen.stream);
    }
    if (seen.strong || familiar) return seen.at;
  }
  return chain.next;
}

bool FrameSearch::Find(const SearchContext& context) {
  const auto found = [&](const Chain& chain) {
    newest_stream_ = 0;
    for (size_t i = 0; i < std::min<size_t>(static_cast<size_t>(chain.frames), chain.seen.size()); ++i) {
      newest_stream_ = std::max(newest_stream_, chain.seen[i].stream);
    }
    const size_t start = std::min(StartOf(chain, context), buffer_.size());
    Drop(start - front_);
    Restart();
    return true;
  };
  bool broken = false;
  for (size_t i = 0; i < chains_.size();) {
    if (Follow(chains_[i], context, broken)) return found(chains_[i]);
    if (broken) {
      chains_[i] = chains_.back();
      chains_.pop_back();
    } else {
      ++i;
    }
  }
  const bool zero_first = context.max_frame_bytes < 0x10000;
  while (buffer_.size() >= scanned_ + kFrameHeaderBytes) {
    if (zero_first && buffer_[scanned_] != 0) {
      // A length below 2^16 begins with a zero.
      const void* zero = std::memchr(buffer_.data() + scanned_, 0, buffer_.size() - scanned_);
      scanned_ = zero == nullptr ? buffer_.size()
                                 : static_cast<size_t>(static_cast<const uint8_t*>(zero) - buffer_.data());
      continue;
    }
    // The header alone decides almost always, and the position is done with.
    const FrameHeader header = ReadFrameHeader(buffer_.data() + scanned_);
    if (header.type != kFrameContinuation && IsPlausibleFrame(header, context.max_frame_bytes) &&
        Claim(scanned_)) {
      Chain chain;
      chain.first = chain.next = scanned_;
      if (context.is_http2 && front_begins_run_ && scanned_ == front_) chain.bits = kRunStart;
      if (Follow(chain, context, broken)) return found(chain);
      if (!broken) Keep(chain);
    }
    ++scanned_;
  }
  return false;
}

}  // namespace keytrail
