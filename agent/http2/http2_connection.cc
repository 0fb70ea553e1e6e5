#include "agent/http2/http2_connection.h"

#include <algorithm>

#include "agent/http2/protocol_probe.h"
#include "common/limits.h"

namespace keytrail {
namespace {

// HTTP/1 lines or TLS records at the front of this many segments of a connection joined late say what it is.
constexpr uint8_t kEnoughSightings = 2;

}  // namespace

// Bytes held and bytes given up ----------------------------------------------------------------------------

void Http2Connection::Append(int direction, TimeNs time, Bytes bytes) {
  Direction& d = directions_[direction];
  if (d.search == nullptr) d.search = std::make_unique<FrameSearch>();
  d.search->Append(time, shared_.next_order++, bytes);
  if (protocol_ == Protocol::kUndecided) d.searched += bytes.size();
}

void Http2Connection::CountHeld() {
  for (Direction& d : directions_) {
    const size_t held = d.search != nullptr ? d.search->memory() : 0;
    shared_.held_bytes += held - d.held;
    d.held = held;
  }
}

void Http2Connection::CountHeaders(Direction& d, size_t block, size_t table) {
  shared_.block_bytes += block - d.block;
  shared_.table_bytes += table - d.table;
  d.block = block;
  d.table = table;
  shared_.scratch.short_of_room = shared_.table_bytes > limits::kMaxHeaderTableBytesTotal;
}

// Keeps the newest half of a full window.
void Http2Connection::Trim(int direction) {
  Direction& d = directions_[direction];
  if (d.search == nullptr) return;
  const bool short_of_room = shared_.held_bytes > limits::kMaxDetectBytesTotal;
  const size_t window = short_of_room ? limits::kMinDetectBytes : limits::kMaxDetectBytes;
  if (d.search->size() <= window) return;
  if (short_of_room) shared_.counters.Add(Counter::kCapDetectBytes);
  d.search->Drop(d.search->size() - window / 2);
  if (short_of_room) d.search->Shrink();
  d.at_start = false;
}

void Http2Connection::Hold(const ConnectionRef& ref, int direction, TimeNs time, Bytes bytes) {
  Append(direction, time, bytes);
  if (protocol_ == Protocol::kUndecided) {
    Decide(ref, direction, time, bytes);
    TellProtocol(ref, Protocol::kUndecided);
  } else {
    Pump(ref, time);
  }
  if (directions_[direction].mode != Mode::kBehind) Trim(direction);
  CountHeld();
}

// Which protocol -------------------------------------------------------------------------------------------

void Http2Connection::Decide(const ConnectionRef& ref, int direction, TimeNs time, Bytes newest) {
  if (upgrade_client_ >= 0) {
    DecideUpgrade(ref, time);
    return;
  }
  if (DecideByOpening(ref, direction, time)) return;
  if (Find(direction)) {
    BeginLate(ref, time, direction);
    return;
  }
  DecideBySightings(newest);
  if (protocol_ == Protocol::kUndecided && directions_[direction].searched > limits::kMaxSearchBytes) {
    Ignore(Protocol::kOther);
  }
}

// By the first bytes of the connection. True: decided, or to be decided by bytes that are to come.
bool Http2Connection::DecideByOpening(const ConnectionRef& ref, int direction, TimeNs time) {
  Direction& d = directions_[direction];
  const bool opener = ref.opened_by == direction;
  if (d.at_start && (opener || ref.opened_by < 0)) {
    const Probe probe = ProbeClient(d.search->bytes());
    switch (probe.opening) {
      case Opening::kNeedMore:
        return true;
      case Opening::kPreface:
        BeginFromStart(ref, time, direction, probe.end, 0);
        return true;
      case Opening::kUpgrade:
        upgrade_client_ = static_cast<int8_t>(direction);
        upgrade_end_ = probe.end;
        DecideUpgrade(ref, time);
        return true;
      case Opening::kHttp1:
        if (opener) Ignore(Protocol::kHttp1);
        break;
      case Opening::kTls:
        if (opener) Ignore(Protocol::kTls);
        break;
      case Opening::kOther:
        // The SYN was seen, so these are a client's very first bytes: RFC 9113 demands the preface.
        if (opener) Ignore(Protocol::kOther);
        break;
    }
    return opener;
  }
  // A server may speak first; the client's first bytes decide.
  return ref.opened_by == 1 - direction && directions_[1 - direction].at_start;
}

void Http2Connection::DecideUpgrade(const ConnectionRef& ref, TimeNs time) {
  const Direction& client = directions_[upgrade_client_];
  const Direction& server = directions_[1 - upgrade_client_];
  if (!client.at_start || !server.at_start) {
    Ignore(Protocol::kHttp1);
    return;
  }
  Probe answer;
  if (server.search != nullptr) answer = ProbeUpgradeAnswer(server.search->bytes());
  if (answer.opening == Opening::kHttp1) {
    Ignore(Protocol::kHttp1);
    return;
  }
  const Bytes sent = client.search->bytes();
  const Bytes after = sent.size() > upgrade_end_ ? sent.subspan(upgrade_end_) : Bytes{};
  const size_t n = std::min(after.size(), kClientPreface.size());
  if (AsText(after.first(n)) != kClientPreface.substr(0, n)) {
    Ignore(Protocol::kHttp1);
  } else if (n == kClientPreface.size() && answer.opening == Opening::kUpgrade) {
    BeginFromStart(ref, time, upgrade_client_, upgrade_end_ + n, answer.end);
  }
}

// For connections joined late that are no HTTP/2: segments often begin with a line or a record.
void Http2Connection::DecideBySightings(Bytes newest) {
  if (BeginsHttp1(newest)) {
    if (++http1_sightings_ >= kEnoughSightings) Ignore(Protocol::kHttp1);
  } else if (BeginsTlsRecord(newest)) {
    const size_t next = 5 + size_t{LoadBe16(newest.data() + 3)};
    if (newest.size() > next && BeginsTlsRecord(newest.subspan(next))) ++tls_sightings_;
    if (++tls_sightings_ >= kEnoughSightings) Ignore(Protocol::kTls);
  }
}

void Http2Connection::Ignore(Protocol protocol) {
  protocol_ = protocol;
  for (Direction& d : directions_) {
    d.mode = Mode::kIgnored;
    d.search.reset();
  }
}

void Http2Connection::TellProtocol(const ConnectionRef& ref, Protocol before) const {
  if (shared_.protocols != nullptr && protocol_ != before) shared_.protocols->OnProtocol(ref, protocol_);
}

void Http2Connection::BeginFromStart(const ConnectionRef& ref, TimeNs time, int client, size_t client_skip,
                                     size_t server_skip) {
  protocol_ = Protocol::kHttp2Start;
  facts_.client_direction = client;
  shared_.sink.OnHttp2(ref, protocol_, client, time);
  for (int i = 0; i < 2; ++i) {
    Direction& d = directions_[i];
    if (!d.at_start) {
      d.mode = Mode::kSearch;
      d.hpack.Forget();
      continue;
    }
    facts_.directions[static_cast<size_t>(i)].settings_complete = true;
    d.mode = d.search != nullptr ? Mode::kReplay : Mode::kFrames;
    if (d.search != nullptr) d.search->Consume(i == client ? client_skip : server_skip);
  }
  Pump(ref, time);
}

void Http2Connection::BeginLate(const ConnectionRef& ref, TimeNs time, int found) {
  protocol_ = Protocol::kHttp2Late;
  // Who opens the TCP connection is the HTTP/2 client (RFC 9113 section 3).
  facts_.client_direction = ref.opened_by;
  shared_.sink.OnHttp2(ref, protocol_, facts_.client_direction, time);
  for (int i = 0; i < 2; ++i) {
    Direction& d = directions_[i];
    if (i != found && ref.opened_by >= 0 && d.at_start) {
      // Only the other direction has lost its beginning.
      facts_.directions[static_cast<size_t>(i)].settings_complete = true;
      d.mode = d.search != nullptr ? Mode::kReplay : Mode::kFrames;
      continue;
    }
    d.hpack.Forget();
    d.mode = i == found ? Mode::kReplay : Mode::kSearch;
    if (i == found) {
      facts_.directions[static_cast<size_t>(i)].newest_stream = d.search->newest_stream();
    } else if (d.search != nullptr) {
      d.search->Reconsider();
    }
  }
  TellSkipped(ref, found, time, 0);
  Pump(ref, time);
}

// In and out of step ---------------------------------------------------------------------------------------

bool Http2Connection::Find(int direction) {
  Direction& d = directions_[direction];
  if (d.search == nullptr || d.search->size() == 0) return false;
  return d.search->Find(facts_.Search(direction, protocol_ != Protocol::kUndecided));
}

// Bytes of an HTTP/2 connection that were passed over.
void Http2Connection::TellSkipped(const ConnectionRef& ref, int direction, TimeNs time, uint64_t more) {
  Direction& d = directions_[direction];
  uint64_t skipped = std::exchange(d.skipped, 0);
  if (d.search != nullptr) skipped += d.search->TakeDropped();
  shared_.counters.Add(Counter::kBytesSkipped, skipped);
  d.hpack.LoseMore(skipped + more);
  if (skipped + more > 0) shared_.sink.OnLoss(ref, direction, time, skipped + more, 0);
}

// Finds frames where they are looked for, and reads what is held where they are found.
void Http2Connection::Pump(const ConnectionRef& ref, TimeNs time) {
  while (true) {
    int next = -1;
    for (int i = 0; i < 2; ++i) {
      Direction& d = directions_[i];
      if (d.mode == Mode::kSearch && Find(i)) {
        d.mode = Mode::kReplay;
        TellSkipped(ref, i, time, 0);
      }
      if (d.mode == Mode::kBehind && !MayStayBehind(i, time)) d.mode = Mode::kReplay;
      if (d.mode != Mode::kReplay) continue;
      if (d.search == nullptr || d.search->size() == 0) {
        d.search.reset();
        d.mode = Mode::kFrames;
      } else if (next < 0 || d.search->front_order() < directions_[next].search->front_order()) {
        next = i;
      }
    }
    if (next < 0) break;
    ReplayPiece(ref, next);
  }
  KeepBehind();
}

// While requests are held, answers are too: an answer that is read before its question finds none.
void Http2Connection::KeepBehind() {
  if (facts_.client_direction < 0) return;
  const Direction& client = directions_[facts_.client_direction];
  Direction& server = directions_[1 - facts_.client_direction];
  if (client.mode != Mode::kSearch || client.search == nullptr || client.search->size() == 0) return;
  if (server.mode == Mode::kFrames) server.mode = Mode::kBehind;
}

void Http2Connection::ReleaseBehind(const ConnectionRef& ref, int direction, TimeNs time) {
  if (directions_[direction].mode != Mode::kBehind) return;
  directions_[direction].mode = Mode::kReplay;
  Pump(ref, time);
}

bool Http2Connection::MayStayBehind(int direction, TimeNs time) const {
  const Direction& client = directions_[1 - direction];
  if (client.mode != Mode::kSearch || client.search == nullptr || client.search->size() == 0) return false;
  const FrameSearch* const held = directions_[direction].search.get();
  if (held == nullptr || held->size() == 0) return true;
  return held->size() <= limits::kMaxBehindBytes && time - held->front_time() <= limits::kMaxBehindNs &&
         shared_.held_bytes <= limits::kMaxDetectBytesTotal;
}

void Http2Connection::ReplayPiece(const ConnectionRef& ref, int direction) {
  Direction& d = directions_[direction];
  const TimeNs time = d.search->front_time();
  const Bytes piece = d.search->FrontPiece();
  const size_t used = d.reader.Feed(Context(ref, direction), time, piece);
  d.search->Consume(used);
  CountHeaders(d);
  if (!d.reader.failed()) return;
  shared_.counters.Add(Counter::kFramesMalformed);
  if (d.search->CanGiveBack(d.reader.rejected().size())) {
    d.search->GiveBack(d.reader.rejected().size());
  } else {
    // The frame began before anything was held (kBehind).
    const std::unique_ptr<FrameSearch> rest = std::move(d.search);
    Append(direction, d.reader.rejected_time(), d.reader.rejected());
    while (rest->size() > 0) {
      const Bytes next = rest->FrontPiece();
      Append(direction, rest->front_time(), next);
      rest->Consume(next.size());
    }
  }
  LoseFrames(ref, direction, time, 0);
  d.search->Restart();
}

void Http2Connection::FallOut(const ConnectionRef& ref, int direction, TimeNs time, Bytes rest) {
  Direction& d = directions_[direction];
  shared_.counters.Add(Counter::kFramesMalformed);
  d.search = std::make_unique<FrameSearch>();
  if (!d.reader.rejected().empty()) Append(direction, d.reader.rejected_time(), d.reader.rejected());
  if (!rest.empty()) Append(direction, time, rest);
  d.search->Restart();
  LoseFrames(ref, direction, time, 0);
  Pump(ref, time);
  Trim(direction);
  CountHeld();
}

// The frames of this direction are not known from here on; `lost` bytes are missing.
void Http2Connection::LoseFrames(const ConnectionRef& ref, int direction, TimeNs time, uint64_t lost) {
  Direction& d = directions_[direction];
  if (const uint32_t stream = d.reader.open_block_stream(); stream != 0) {
    HeaderBlock block;
    block.undecodable = true;
    shared_.counters.Add(Counter::kHeaderBlocks);
    shared_.counters.Add(Counter::kHeaderBlocksMalformed);
    shared_.sink.OnHeaders(ref, direction, stream, d.reader.open_block_time(), time, block, false);
  }
  d.reader.Start();
  // Frames that made no sense may have been out of step for long.
  d.hpack.Forget(lost != 0 ? lost : UINT64_MAX);
  CountHeaders(d);
  d.mode = Mode::kSearch;
  facts_.directions[static_cast<size_t>(direction)].settings_complete = false;
  shared_.sink.OnLoss(ref, direction, time, lost, 0);
}

void Http2Connection::OnGap(const ConnectionRef& ref, int direction, TimeNs time, uint64_t length) {
  Direction& d = directions_[direction];
  if (d.mode == Mode::kIgnored) return;
  const Protocol before = protocol_;
  ReleaseBehind(ref, direction, time);
  // Held again at once, perhaps, but with nothing in it.
  if (d.mode == Mode::kBehind) d.mode = Mode::kFrames;
  if (d.mode == Mode::kFrames) {
    if (!d.reader.Skip(Context(ref, direction), time, length)) LoseFrames(ref, direction, time, length);
    return;
  }
  if (d.search != nullptr) {
    d.search->Drop(d.search->size());
    d.skipped += d.search->TakeDropped();
    d.search.reset();
  }
  d.at_start = false;
  if (protocol_ != Protocol::kUndecided) {
    TellSkipped(ref, direction, time, length);
  } else if (upgrade_client_ >= 0) {
    Ignore(Protocol::kHttp1);
  } else if (directions_[1 - direction].search != nullptr) {
    // The other direction may have waited for the bytes that are lost.
    Decide(ref, 1 - direction, time, {});
  }
  TellProtocol(ref, before);
  CountHeld();
}

void Http2Connection::OnClose(const ConnectionRef& ref, TimeNs time, CloseReason reason) {
  const bool has_bytes = directions_[0].has_bytes || directions_[1].has_bytes;
  Counter counter = Counter::kConnectionsOther;
  switch (protocol_) {
    case Protocol::kHttp2Start:
      counter = Counter::kConnectionsHttp2Start;
      break;
    case Protocol::kHttp2Late:
      counter = Counter::kConnectionsHttp2Late;
      break;
    case Protocol::kHttp1:
      counter = Counter::kConnectionsHttp1;
      break;
    case Protocol::kTls:
      counter = Counter::kConnectionsTls;
      break;
    case Protocol::kOther:
      break;
    case Protocol::kUndecided:
      if (!has_bytes) counter = Counter::kConnectionsEmpty;
      if (upgrade_client_ >= 0 || http1_sightings_ > 0) counter = Counter::kConnectionsHttp1;
      break;
  }
  shared_.counters.Add(counter);
  const bool is_http2 = protocol_ == Protocol::kHttp2Start || protocol_ == Protocol::kHttp2Late;
  for (int i = 0; is_http2 && i < 2; ++i) {
    Direction& d = directions_[i];
    ReleaseBehind(ref, i, time);
    if (d.search != nullptr) d.search->Drop(d.search->size());
    TellSkipped(ref, i, time, 0);
  }
  if (is_http2) shared_.sink.OnEnd(ref, time, reason);
  for (Direction& d : directions_) {
    d.search.reset();
    CountHeaders(d, 0, 0);
  }
  CountHeld();
}

}  // namespace keytrail
