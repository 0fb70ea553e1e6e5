#include "agent/http2/frame_reader.h"

#include <algorithm>
#include <cstring>

#include "agent/http2/header_fields.h"
#include "common/limits.h"

namespace keytrail {
namespace {

constexpr uint16_t kSettingHeaderTableSize = 1;
constexpr uint16_t kSettingMaxFrameSize = 5;
// A buffer that once held more is given back.
constexpr size_t kKeptBytes = 4096;

void Empty(std::vector<uint8_t>& buffer) {
  buffer.clear();
  if (buffer.capacity() > kKeptBytes) buffer.shrink_to_fit();
}

// A header block, or a frame that is read whole, may take this much.
size_t Room(const FrameContext& context) {
  return context.short_of_room ? kKeptBytes : limits::kMaxHeaderBlockBytes;
}

// Takes the PADDED and PRIORITY parts off (RFC 9113 section 6.2). False if the padding does not fit.
bool StripHeaders(const FrameHeader& header, Bytes& payload) {
  size_t front = 0;
  size_t padding = 0;
  if (header.has(kFlagPadded)) {
    padding = payload[0];
    front = 1;
  }
  if (header.type == kFrameHeaders && header.has(kFlagPriority)) front += 5;
  if (header.type == kFramePushPromise) front += 4;
  if (front + padding > payload.size()) return false;
  payload = payload.subspan(front, payload.size() - front - padding);
  return true;
}

}  // namespace

uint32_t ConnectionFacts::MaxFrameBytes(int direction) const {
  const DirectionFacts& peer = directions[1 - direction];
  return peer.settings_complete ? peer.max_frame_bytes : limits::kMaxFrameBytes;
}

uint32_t ConnectionFacts::MaxHeaderTableBytes(int direction) const {
  const DirectionFacts& peer = directions[1 - direction];
  return peer.settings_complete ? peer.header_table_bytes : UINT32_MAX;
}

SearchContext ConnectionFacts::Search(int direction, bool is_http2) const {
  SearchContext context;
  context.is_http2 = is_http2;
  context.max_frame_bytes = std::max(kDefaultMaxFrameBytes, directions[1 - direction].max_frame_bytes);
  context.newest_streams = {directions[0].newest_stream, directions[1].newest_stream};
  return context;
}

void FrameReader::Start() {
  state_ = State::kHeader;
  header_have_ = 0;
  rejected_ = 0;
  failed_ = false;
  block_stream_ = 0;
  Empty(payload_);
  Empty(block_);
}

size_t FrameReader::Feed(const FrameContext& context, TimeNs time, Bytes bytes) {
  size_t at = 0;
  while (at < bytes.size() && !failed_) {
    if (state_ != State::kHeader) {
      at += FeedPayload(context, time, bytes.subspan(at));
      continue;
    }
    const uint8_t* header = bytes.data() + at;
    if (header_have_ == 0) first_ = time;
    if (header_have_ == 0 && bytes.size() - at >= kFrameHeaderBytes) {
      at += kFrameHeaderBytes;
    } else {
      const size_t n = std::min(kFrameHeaderBytes - header_have_, bytes.size() - at);
      std::memcpy(header_bytes_.data() + header_have_, header, n);
      header_have_ = static_cast<uint8_t>(header_have_ + n);
      at += n;
      if (header_have_ < kFrameHeaderBytes) return at;
      header = header_bytes_.data();
    }
    header_have_ = 0;
    header_ = ReadFrameHeader(header);
    if (IsExpected(context)) {
      BeginFrame(context, time);
    } else {
      std::memmove(header_bytes_.data(), header, kFrameHeaderBytes);
      rejected_ = kFrameHeaderBytes;
      failed_ = true;
    }
  }
  return at;
}

// Whether the header just read may stand here.
bool FrameReader::IsExpected(const FrameContext& context) const {
  // Nine frames in ten.
  if (header_.type == kFrameData && !header_.has(kFlagPadded)) {
    return header_.stream != 0 && header_.length <= context.facts.MaxFrameBytes(context.direction) &&
           block_stream_ == 0;
  }
  const bool continues = header_.type == kFrameContinuation;
  return IsLegalFrame(header_, context.facts.MaxFrameBytes(context.direction)) &&
         continues == (block_stream_ != 0) && (!continues || header_.stream == block_stream_);
}

void FrameReader::BeginFrame(const FrameContext& context, TimeNs time) {
  context.counters.Add(Counter::kFrames);
  left_ = header_.length;
  payload_cut_ = false;
  if (header_.type <= kFrameHeaders) {
    DirectionFacts& facts = context.facts.directions[context.direction];
    facts.newest_stream = std::max(facts.newest_stream, header_.stream);
  }
  switch (header_.type) {
    case kFrameData:
      pad_left_ = 0;
      if (header_.has(kFlagPadded)) {
        state_ = State::kPadding;
        return;
      }
      state_ = State::kData;
      if (left_ == 0) ReadData(context, time, {});
      return;
    case kFrameHeaders:
    case kFramePushPromise:
    case kFrameContinuation:
    case kFrameSettings:
    case kFrameReset:
    case kFrameGoaway:
      state_ = State::kPayload;
      if (left_ == 0) EndFrame(context, time, {});
      return;
    default:
      state_ = left_ == 0 ? State::kHeader : State::kIgnored;
      return;
  }
}

// At least one byte is there. Returns how many were used.
size_t FrameReader::FeedPayload(const FrameContext& context, TimeNs time, Bytes bytes) {
  const size_t n = std::min<size_t>(left_, bytes.size());
  switch (state_) {
    case State::kHeader:
      return 0;
    case State::kPadding:
      ReadPadding(context, time, bytes[0]);
      return failed_ ? 0 : 1;
    case State::kData:
      ReadData(context, time, bytes.first(n));
      return n;
    case State::kIgnored:
      left_ -= static_cast<uint32_t>(n);
      if (left_ == 0) state_ = State::kHeader;
      return n;
    case State::kPayload:
      break;
  }
  if (payload_.empty() && n == left_) {
    EndFrame(context, time, bytes.first(n));
    return n;
  }
  // A frame that a receiver would refuse as over-long is kept up to a cap and then fails as a header block.
  const size_t room = Room(context) - std::min(Room(context), payload_.size());
  payload_cut_ = payload_cut_ || room < n;
  payload_.insert(payload_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(std::min(n, room)));
  left_ -= static_cast<uint32_t>(n);
  if (left_ > 0) return n;
  std::vector<uint8_t> whole = std::move(payload_);
  EndFrame(context, time, whole);
  if (whole.capacity() <= kKeptBytes) {
    whole.clear();
    payload_ = std::move(whole);
  }
  return n;
}

void FrameReader::ReadPadding(const FrameContext& context, TimeNs time, uint8_t padding) {
  if (padding >= left_) {
    failed_ = true;
    return;
  }
  left_ -= 1 + padding;
  pad_left_ = padding;
  state_ = State::kData;
  if (left_ == 0) ReadData(context, time, {});
}

void FrameReader::ReadData(const FrameContext& context, TimeNs time, Bytes data) {
  left_ -= static_cast<uint32_t>(data.size());
  const bool end = left_ == 0;
  if (end) {
    left_ = pad_left_;
    state_ = left_ == 0 ? State::kHeader : State::kIgnored;
  }
  context.sink.OnData(context.connection, context.direction, header_.stream, first_, time, data, end,
                      end && header_.has(kFlagEndStream));
}

// The payload of a frame other than DATA is whole.
void FrameReader::EndFrame(const FrameContext& context, TimeNs time, Bytes payload) {
  state_ = State::kHeader;
  switch (header_.type) {
    case kFrameHeaders:
    case kFramePushPromise:
      ReadHeaders(context, time, payload);
      break;
    case kFrameContinuation:
      ReadContinuation(context, time, payload);
      break;
    case kFrameSettings:
      ReadSettings(context, payload);
      break;
    case kFrameReset:
      context.sink.OnReset(context.connection, context.direction, header_.stream, time,
                           LoadBe32(payload.data()));
      break;
    case kFrameGoaway:
      context.sink.OnGoaway(context.connection, context.direction, time,
                            LoadBe32(payload.data()) & 0x7FFFFFFF, LoadBe32(payload.data() + 4));
      break;
    default:
      break;
  }
}

// What is missing of the block under way makes it undecodable when it ends.
void FrameReader::DropBlock(const FrameContext& context) {
  if (!block_over_cap_ && context.short_of_room) context.counters.Add(Counter::kCapOpenBlocks);
  block_over_cap_ = true;
  Empty(block_);
}

void FrameReader::ReadHeaders(const FrameContext& context, TimeNs time, Bytes payload) {
  block_over_cap_ = false;
  if (payload_cut_ || header_.length > limits::kMaxHeaderBlockBytes) DropBlock(context);
  if (block_over_cap_) {
    payload = {};
  } else if (!StripHeaders(header_, payload)) {
    failed_ = true;
    return;
  }
  block_stream_ = header_.stream;
  block_promised_ = header_.type == kFramePushPromise;
  block_end_stream_ = !block_promised_ && header_.has(kFlagEndStream);
  block_first_ = first_;
  if (header_.has(kFlagEndHeaders)) {
    EndBlock(context, time, payload);
  } else if (payload.size() > Room(context)) {
    DropBlock(context);
  } else {
    block_.assign(payload.begin(), payload.end());
  }
}

void FrameReader::ReadContinuation(const FrameContext& context, TimeNs time, Bytes payload) {
  if (payload_cut_ || block_.size() + header_.length > Room(context)) DropBlock(context);
  if (!block_over_cap_) block_.insert(block_.end(), payload.begin(), payload.end());
  if (!header_.has(kFlagEndHeaders)) return;
  EndBlock(context, time, block_);
  Empty(block_);
}

void FrameReader::EndBlock(const FrameContext& context, TimeNs time, Bytes block) {
  static constexpr HeaderBlock kUndecodable = [] {
    HeaderBlock b;
    b.undecodable = true;
    return b;
  }();
  const uint32_t stream = block_stream_;
  block_stream_ = 0;
  const HeaderBlock* decoded = &kUndecodable;
  if (block_over_cap_) {
    context.counters.Add(Counter::kHeaderBlocks);
    context.counters.Add(Counter::kCapHeaderBlock);
    context.hpack.Forget();
  } else {
    decoded =
        &context.hpack.Decode(block, context.facts.MaxHeaderTableBytes(context.direction), context.scratch);
  }
  if (block_promised_) return;
  if (context.facts.client_direction < 0) {
    const int sender = SenderOf(*decoded);
    if (sender >= 0) {
      context.facts.client_direction = sender == 0 ? context.direction : 1 - context.direction;
      context.sink.OnClientKnown(context.connection, context.facts.client_direction);
    }
  }
  context.sink.OnHeaders(context.connection, context.direction, stream, block_first_, time, *decoded,
                         block_end_stream_);
}

void FrameReader::ReadSettings(const FrameContext& context, Bytes payload) {
  DirectionFacts& facts = context.facts.directions[context.direction];
  for (size_t i = 0; i + 6 <= payload.size(); i += 6) {
    const uint32_t value = LoadBe32(payload.data() + i + 2);
    // The largest of all times: an encoder may still use an older value until it has seen this one, and
    // tells a smaller table by an update in its blocks (RFC 7541 section 4.2).
    switch (LoadBe16(payload.data() + i)) {
      case kSettingHeaderTableSize:
        facts.header_table_bytes = std::max(facts.header_table_bytes, value);
        break;
      case kSettingMaxFrameSize:
        facts.max_frame_bytes =
            std::max(facts.max_frame_bytes, std::min<uint32_t>(value, limits::kMaxFrameBytes));
        break;
      default:
        break;
    }
  }
}

bool FrameReader::Skip(const FrameContext& context, TimeNs time, uint64_t length) {
  if (state_ == State::kIgnored && header_.type == kFrameData && length <= left_) {
    // Padding: nothing that anybody waits for.
    left_ -= static_cast<uint32_t>(length);
    if (left_ == 0) state_ = State::kHeader;
    return true;
  }
  if (state_ != State::kData || length > uint64_t{left_} + pad_left_) return false;
  const uint64_t lost = std::min<uint64_t>(length, left_);
  context.sink.OnLoss(context.connection, context.direction, time, lost, header_.stream);
  left_ -= static_cast<uint32_t>(lost);
  const uint32_t lost_padding = static_cast<uint32_t>(length - lost);
  if (left_ == 0) {
    pad_left_ -= lost_padding;
    ReadData(context, time, {});  // the frame ends with the gap
  }
  return true;
}

}  // namespace keytrail
