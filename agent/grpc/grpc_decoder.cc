#include "agent/grpc/grpc_decoder.h"

#include <memory>
#include <vector>

#include "agent/grpc/call_tracker.h"
#include "agent/grpc/request_headers.h"
#include "agent/grpc/stream.h"
#include "common/limits.h"

namespace keytrail {

namespace g = grpc;

struct GrpcDecoder::State {
  State(const Schema& schema, const GrpcOptions& options, CallSink& sink, Counters& all_counters)
      : counters(all_counters), tracker(schema, options, sink, all_counters) {}

  g::Connection* Find(const ConnectionRef& ref) {
    if (ref.slot >= connections.size()) return nullptr;
    g::Connection* connection = connections[ref.slot].get();
    if (connection == nullptr || !connection->open || connection->serial != ref.serial) return nullptr;
    return connection;
  }

  g::Stream* FindStream(g::Connection& connection, uint32_t id) {
    if (connection.last_used != nullptr && connection.last_used->id == id) return connection.last_used;
    g::Stream* stream = connection.streams.Find(id);
    if (stream != nullptr) connection.last_used = stream;
    return stream;
  }

  g::Stream* OpenIfUnseen(g::Connection& connection, uint32_t id);
  g::Stream& Open(g::Connection& connection, uint32_t id);
  void Close(g::Connection& connection, g::Stream& stream, bool reset, uint32_t ended);
  void CloseAll(g::Connection& connection, bool reset, uint32_t ended);

  void ReadRequest(g::Connection& connection, g::Stream& stream, int direction, const HeaderBlock& block);
  void ReadResponse(g::Connection& connection, g::Stream& stream, int direction, const HeaderBlock& block,
                    bool end_stream);
  void SetGrpc(g::Connection& connection, g::Stream& stream, g::Answer answer);

  void FeedKnown(g::Connection& connection, g::Stream& stream, int direction, Bytes data, TimeNs time);
  void FeedSearch(g::Connection& connection, g::Stream& stream, int direction, Bytes data, TimeNs time,
                  bool frame_end);
  // Nothing waits for a name longer than its limit, wherever packets come from.
  void Expire(TimeNs now) {
    if (tracker.next_expiry().known() && now >= tracker.next_expiry()) ExpireAll(now);
  }
  void ExpireAll(TimeNs now);
  void LosePlace(g::Stream& stream, g::StreamHalf& half);
  void EndSearch(g::StreamHalf& half);
  void EndHalf(g::Connection& connection, g::Stream& stream, int direction);
  void MarkLoss(g::Connection& connection, g::Stream& stream, int direction, TimeNs time);

  Counters& counters;
  g::CallTracker tracker;
  std::vector<std::unique_ptr<g::Connection>> connections;  // by ConnectionRef::slot
  g::Pool<g::Stream> stream_pool;
  g::Pool<g::MessageSearch> search_pool{256};
  size_t open_streams = 0;
};

namespace {

void Touch(g::StreamHalf& half, TimeNs first, TimeNs last) {
  if (!half.first.known()) half.first = first;
  half.last = last;
}

// gRPC's streams are the client's: odd ids (RFC 9113 section 5.1.1). Even ones would be pushes.
bool IsClientStream(uint32_t id) {
  return (id & 1) != 0;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------
// Streams

g::Stream& GrpcDecoder::State::Open(g::Connection& connection, uint32_t id) {
  if (connection.streams.size() >= limits::kMaxStreamsPerConnection ||
      (open_streams >= limits::kMaxStreams && connection.streams.size() != 0)) {
    counters.Add(Counter::kCapStreams);
    Close(connection, *connection.streams.oldest(), false, kOverCap);
  }
  std::unique_ptr<g::Stream> stream = stream_pool.Take();
  stream->id = id;
  g::Stream& opened = *stream;
  connection.streams.Add(std::move(stream));
  connection.last_used = &opened;
  ++open_streams;
  if (id > connection.highest_id) connection.highest_id = id;
  counters.Add(Counter::kStreams);
  return opened;
}

// A frame of a stream that is not in the table: one that was opened where we did not see it, or a late frame
// of one that is over (null).
g::Stream* GrpcDecoder::State::OpenIfUnseen(g::Connection& connection, uint32_t id) {
  if (id <= connection.highest_id && id <= connection.unseen_above) return nullptr;
  for (const uint32_t closed : connection.closed) {
    if (closed == id) return nullptr;
  }
  return &Open(connection, id);
}

void GrpcDecoder::State::Close(g::Connection& connection, g::Stream& stream, bool reset, uint32_t ended) {
  const bool over = tracker.Finish(connection, stream, reset, ended);
  for (g::StreamHalf& half : stream.halves) EndSearch(half);
  if (over) tracker.Release(stream);
  connection.closed[connection.closed_count++ % std::size(connection.closed)] = stream.id;
  if (connection.last_used == &stream) connection.last_used = nullptr;
  std::unique_ptr<g::Stream> closed = connection.streams.Remove(stream);
  --open_streams;
  if (!over) return tracker.Keep(connection, std::move(closed), reset, ended);
  // As new, without a temporary: this is done once a call.
  std::destroy_at(closed.get());
  std::construct_at(closed.get());
  stream_pool.Give(std::move(closed));
}

void GrpcDecoder::State::CloseAll(g::Connection& connection, bool reset, uint32_t ended) {
  while (connection.streams.oldest() != nullptr) {
    Close(connection, *connection.streams.oldest(), reset, ended);
  }
}

void GrpcDecoder::State::SetGrpc(g::Connection& connection, g::Stream& stream, g::Answer answer) {
  if (stream.grpc != g::Answer::kYes) stream.grpc = answer;
  if (stream.grpc == g::Answer::kYes && stream.entry != nullptr && !stream.counted) {
    stream.counted = true;
    ++stream.entry->counts[connection.from_start].streams;
  }
}

void GrpcDecoder::State::ExpireAll(TimeNs now) {
  bool waiting = false;
  for (const std::unique_ptr<g::Connection>& connection : connections) {
    if (connection == nullptr || !connection->open || !connection->waiting) continue;
    tracker.ExpireWaiting(*connection, now);
    waiting |= connection->waiting;
  }
  tracker.set_next_expiry(waiting ? TimeNs{now.ns + limits::kMaxWaitForNameNs / 4} : kTimeUnknown);
}

// ---------------------------------------------------------------------------------------------------------
// Headers

void GrpcDecoder::State::ReadRequest(g::Connection& connection, g::Stream& stream, int direction,
                                     const HeaderBlock& block) {
  g::StreamHalf& half = stream.halves[direction];
  g::RequestHeaders& remembered = connection.remembered[block.identity % std::size(connection.remembered)];
  if (block.identity == 0 || remembered.identity != block.identity) {
    remembered = g::ReadRequestHeaders(block, tracker.methods());
  }
  const g::RequestHeaders& headers = remembered;
  if (stream.nameless != nullptr || stream.entry != nullptr) tracker.Reopen(connection, stream);
  half.headers_seen = true;
  // What was lost before it was not of this direction of this stream.
  half.losses = 0;
  half.some_data = false;
  half.at_frame_start = true;
  EndSearch(half);
  half.place = g::StreamHalf::Place::kKnown;
  half.encoding = headers.encoding;
  stream.entry = headers.entry;
  stream.path_slot = headers.path_slot;
  stream.headers_unreadable = headers.unreadable;
  stream.forwarded = headers.forwarded;
  stream.follower_allowed = headers.follower_allowed;
  stream.foreign_coding = headers.foreign_coding;
  if (headers.path_over_cap) stream.incomplete |= kOverCap;
  tracker.OnRequestHeaders(connection, stream, headers);
  // A slot that was proved to name a method of gRPC opens calls of gRPC.
  const bool bound = headers.entry == nullptr && stream.entry != nullptr;
  SetGrpc(connection, stream, bound ? g::Answer::kYes : headers.grpc);
}

void GrpcDecoder::State::ReadResponse(g::Connection& connection, g::Stream& stream, int direction,
                                      const HeaderBlock& block, bool end_stream) {
  g::StreamHalf& half = stream.halves[direction];
  // Trailers have no :status (RFC 9113 section 8.1), so a block with one is the response's first.
  const bool initial = block.http_status >= 0 || (!half.headers_seen && !end_stream);
  if (initial && !half.headers_seen) {
    half.headers_seen = true;
    // What was lost before it was not of this direction of this stream.
    if (stream.pending == nullptr) half.losses = 0;
    EndSearch(half);
    half.place = g::StreamHalf::Place::kKnown;
    half.some_data = false;
    half.at_frame_start = true;
    const bool hidden = block.has_unknown || block.undecodable;
    half.encoding = block.grpc_encoding.empty() && hidden ? g::Encoding::kUnknown
                                                          : g::EncodingByName(block.grpc_encoding);
    stream.http_status = block.http_status;
    if (!block.content_type.empty()) {
      bool foreign_coding = false;
      if (g::IsGrpcContentType(block.content_type, foreign_coding)) {
        stream.foreign_coding |= foreign_coding;
        SetGrpc(connection, stream, g::Answer::kYes);
      } else if (stream.grpc == g::Answer::kYes) {
        stream.answer_not_grpc = true;
      } else {
        SetGrpc(connection, stream, g::Answer::kNo);
      }
    }
  }
  if (block.grpc_status >= 0) {
    stream.grpc_status = block.grpc_status;
    if (stream.grpc == g::Answer::kNotKnown) SetGrpc(connection, stream, g::Answer::kYes);
  }
  if (!block.grpc_message.empty()) g::DecodeGrpcMessage(block.grpc_message, stream.grpc_message);
}

// ---------------------------------------------------------------------------------------------------------
// Data

void GrpcDecoder::State::EndSearch(g::StreamHalf& half) {
  if (half.search == nullptr) return;
  half.search->End(tracker.bodies());
  search_pool.Give(std::move(half.search));
}

void GrpcDecoder::State::LosePlace(g::Stream& stream, g::StreamHalf& half) {
  if (half.assembler.in_message() || (half.search != nullptr && half.search->in_message())) {
    counters.Add(Counter::kMessagesLost);
  }
  half.assembler.Drop(tracker.bodies());
  EndSearch(half);
  const bool over = g::CallTracker::IsUnary(stream) && half.some_data;
  half.place = over ? g::StreamHalf::Place::kGivenUp : g::StreamHalf::Place::kSearched;
}

void GrpcDecoder::State::FeedKnown(g::Connection& connection, g::Stream& stream, int direction, Bytes data,
                                   TimeNs time) {
  g::StreamHalf& half = stream.halves[direction];
  const auto on_message = [&](const g::WireMessage& message) {
    tracker.OnMessage(connection, stream, direction, message);
  };
  const bool keep = tracker.KeepsBodies(stream);
  if (half.assembler.Feed(data, time, keep, tracker.bodies(), on_message) == g::AssemblyEnd::kBadPrefix) {
    counters.Add(Counter::kMessagesMalformed);
    stream.incomplete |= kMalformed;
    LosePlace(stream, half);
    tracker.OnLoss(connection, stream, time);
  }
  if (const uint8_t caps = half.assembler.TakeCapsHit(); caps != 0) {
    if (caps & g::MessageAssembler::kHitMessageCap) counters.Add(Counter::kCapMessageBytes);
    if (caps & g::MessageAssembler::kHitPartialCap) counters.Add(Counter::kCapPartialBytes);
  }
}

void GrpcDecoder::State::FeedSearch(g::Connection& connection, g::Stream& stream, int direction, Bytes data,
                                    TimeNs time, bool frame_end) {
  g::StreamHalf& half = stream.halves[direction];
  if (half.search == nullptr) {
    if (data.empty()) return;
    half.search = search_pool.Take();
    half.search->Begin(half.place == g::StreamHalf::Place::kKnown);
  }
  g::MessageSearch& search = *half.search;
  const auto proves = [&](std::span<const g::MessageSearch::Found> found, Bytes bytes) {
    return tracker.Proves(connection, stream, direction, found, bytes);
  };
  const bool found = search.Feed(data, time, half.at_frame_start, frame_end, tracker.bodies(), proves);
  if (search.TakeCapHit()) counters.Add(Counter::kCapPartialBytes);
  if (search.refuted()) {
    EndSearch(half);
    if (stream.grpc == g::Answer::kYes) {
      half.place = g::StreamHalf::Place::kGivenUp;
    } else {
      SetGrpc(connection, stream, g::Answer::kNo);
    }
    return;
  }
  if (!found) return;
  SetGrpc(connection, stream, g::Answer::kYes);
  for (const g::MessageSearch::Found& f : search.messages()) {
    g::WireMessage message;
    message.body = search.bytes().subspan(f.offset, f.size);
    message.size = f.size;
    message.compressed = f.compressed;
    message.first = f.first;
    message.last = f.last;
    tracker.OnMessage(connection, stream, direction, message);
  }
  EndSearch(half);
  half.place = g::StreamHalf::Place::kKnown;
}

void GrpcDecoder::State::EndHalf(g::Connection& connection, g::Stream& stream, int direction) {
  g::StreamHalf& half = stream.halves[direction];
  half.ended = true;
  // The server's end is the end of a gRPC call, whether the client has finished or not.
  const bool by_server = connection.client_direction >= 0 && direction != connection.client_direction;
  if (by_server || stream.halves[1 - direction].ended || stream.grpc_status >= 0) {
    Close(connection, stream, false, 0);
  }
}

void GrpcDecoder::State::MarkLoss(g::Connection& connection, g::Stream& stream, int direction, TimeNs time) {
  g::StreamHalf& half = stream.halves[direction];
  if (half.ended) return;
  ++half.losses;
  LosePlace(stream, half);
  half.some_data = true;
  half.at_frame_start = true;
  tracker.OnLoss(connection, stream, time);
}

// ---------------------------------------------------------------------------------------------------------
// Events

GrpcDecoder::GrpcDecoder(const Schema& schema, const GrpcOptions& options, CallSink& sink, Counters& counters)
    : state_(std::make_unique<State>(schema, options, sink, counters)) {}

GrpcDecoder::~GrpcDecoder() = default;

void GrpcDecoder::SetDetail(DetailLevel level) {
  state_->tracker.SetDetail(level);
}

void GrpcDecoder::OnHttp2(const ConnectionRef& connection, Protocol protocol, int client_direction, TimeNs) {
  // Frames were found again on a connection that we know: it stays what it was.
  if (state_->Find(connection) != nullptr) return;
  if (connection.slot >= state_->connections.size()) state_->connections.resize(connection.slot + 1);
  std::unique_ptr<g::Connection>& slot = state_->connections[connection.slot];
  if (slot == nullptr) slot = std::make_unique<g::Connection>();
  *slot = g::Connection();
  slot->serial = connection.serial;
  slot->key = connection.key;
  slot->open = true;
  slot->from_start = protocol == Protocol::kHttp2Start;
  slot->client_direction = client_direction;
  slot->unseen_above = slot->from_start ? 0xFFFFFFFF : 0;
  state_->tracker.LearnServer(*slot);
}

void GrpcDecoder::OnClientKnown(const ConnectionRef& connection, int client_direction) {
  g::Connection* const c = state_->Find(connection);
  if (c == nullptr) return;
  c->client_direction = client_direction;
  state_->tracker.LearnServer(*c);
}

void GrpcDecoder::OnHeaders(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first,
                            TimeNs last, const HeaderBlock& block, bool end_stream) {
  g::Connection* const c = state_->Find(connection);
  if (c == nullptr || !IsClientStream(stream)) return;
  state_->Expire(last);
  const bool request_fields = !block.path.empty() || !block.method.empty();
  if (c->client_direction < 0) {
    if (request_fields) c->client_direction = direction;
    if (!request_fields && block.http_status >= 0) c->client_direction = 1 - direction;
  }
  // An interim answer (RFC 9110 section 15.2) says nothing about the call.
  if (block.http_status >= 100 && block.http_status < 200 && !end_stream) return;
  const bool from_client = c->client_direction >= 0 && direction == c->client_direction;
  g::Stream* s = state_->FindStream(*c, stream);
  if (s == nullptr) {
    const bool opens = from_client && stream > c->highest_id;
    s = opens ? &state_->Open(*c, stream) : state_->OpenIfUnseen(*c, stream);
    if (s == nullptr) return;
  }
  g::StreamHalf& half = s->halves[direction];
  Touch(half, first, last);
  if (from_client) {
    // The client sends no trailers in gRPC; a second block of its is none of ours.
    if (!half.headers_seen && (request_fields || !half.some_data)) {
      state_->ReadRequest(*c, *s, direction, block);
    }
  } else if (c->client_direction >= 0) {
    state_->ReadResponse(*c, *s, direction, block, end_stream);
  }
  if (end_stream) state_->EndHalf(*c, *s, direction);
}

void GrpcDecoder::OnData(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first,
                         TimeNs last, Bytes data, bool frame_end, bool end_stream) {
  g::Connection* const c = state_->Find(connection);
  if (c == nullptr || !IsClientStream(stream)) return;
  state_->Expire(last);
  g::Stream* s = state_->FindStream(*c, stream);
  if (s == nullptr) {
    // Nothing can be learnt from an empty frame of a stream that we know nothing about.
    if (data.empty()) return;
    s = state_->OpenIfUnseen(*c, stream);
    if (s == nullptr) return;
  }
  g::StreamHalf& half = s->halves[direction];
  Touch(half, first, last);
  using Place = g::StreamHalf::Place;
  const bool readable = s->grpc != g::Answer::kNo && half.place != Place::kGivenUp &&
                        !(s->answer_not_grpc && direction != c->request_direction());
  if (readable) {
    if (state_->tracker.headers_only() && (half.place != Place::kKnown || s->grpc != g::Answer::kYes)) {
      // A place is found by reading; it is looked for when that is done again.
      s->incomplete |= kDegraded;
      state_->LosePlace(*s, half);
    } else if (s->grpc == g::Answer::kYes && half.place == Place::kKnown && half.search == nullptr) {
      state_->FeedKnown(*c, *s, direction, data, last);
    } else {
      state_->FeedSearch(*c, *s, direction, data, last, frame_end);
    }
  }
  if (!data.empty()) {
    half.some_data = true;
    half.at_frame_start = false;
  }
  if (frame_end) half.at_frame_start = true;
  if (end_stream) state_->EndHalf(*c, *s, direction);
}

void GrpcDecoder::OnReset(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs time,
                          uint32_t) {
  g::Connection* const c = state_->Find(connection);
  if (c == nullptr) return;
  g::Stream* const s = state_->FindStream(*c, stream);
  if (s == nullptr) return;
  g::StreamHalf& half = s->halves[direction];
  if (half.first.known()) half.last = time;
  state_->Close(*c, *s, true, 0);
}

void GrpcDecoder::OnGoaway(const ConnectionRef& connection, int direction, TimeNs, uint32_t last_stream,
                           uint32_t) {
  g::Connection* const c = state_->Find(connection);
  if (c == nullptr || c->client_direction < 0 || direction == c->client_direction) return;
  // The server will not answer streams above last_stream (RFC 9113 section 6.8).
  for (g::Stream* s = c->streams.oldest(); s != nullptr;) {
    g::Stream* const next = s->newer;
    if (s->id > last_stream) state_->Close(*c, *s, true, 0);
    s = next;
  }
}

void GrpcDecoder::OnLoss(const ConnectionRef& connection, int direction, TimeNs time, uint64_t lost_bytes,
                         uint32_t affected_stream) {
  g::Connection* const c = state_->Find(connection);
  if (c == nullptr) return;
  if (affected_stream == 0) {
    // The client may have opened streams in what is lost.
    if (c->client_direction < 0 || direction == c->client_direction) {
      c->unseen_above = std::min(c->unseen_above, c->highest_id);
    }
    for (g::Stream* s = c->streams.oldest(); s != nullptr; s = s->newer) {
      state_->MarkLoss(*c, *s, direction, time);
    }
    return;
  }
  g::Stream* const s = state_->FindStream(*c, affected_stream);
  if (s == nullptr) return;
  g::StreamHalf& half = s->halves[direction];
  if (half.ended) return;
  if (half.place != g::StreamHalf::Place::kKnown || half.search != nullptr || s->grpc != g::Answer::kYes) {
    state_->MarkLoss(*c, *s, direction, time);
    // The rest of the frame follows: no message begins with it that could be proved.
    half.at_frame_start = false;
    return;
  }
  const auto on_message = [&](const g::WireMessage& message) {
    state_->tracker.OnMessage(*c, *s, direction, message);
  };
  ++half.losses;
  half.some_data = true;
  half.at_frame_start = false;
  if (half.assembler.Lose(lost_bytes, time, state_->tracker.bodies(), on_message)) return;
  state_->LosePlace(*s, half);
  state_->tracker.OnLoss(*c, *s, time);
}

void GrpcDecoder::OnEnd(const ConnectionRef& connection, TimeNs, CloseReason reason) {
  g::Connection* const c = state_->Find(connection);
  if (c == nullptr) return;
  const bool forgotten = reason == CloseReason::kForgotten;
  const bool by_us = reason == CloseReason::kInputEnd || reason == CloseReason::kCap || forgotten;
  const uint32_t why = reason == CloseReason::kCap ? uint32_t{kOverCap} : forgotten ? uint32_t{kDegraded} : 0;
  state_->CloseAll(*c, !by_us, kCut | why);
  state_->tracker.EndSlots(*c);
  *c = g::Connection();
}

const std::map<std::string, PathCounts, std::less<>>& GrpcDecoder::counts_from_start() const {
  return state_->tracker.methods().Counts(true);
}

const std::map<std::string, PathCounts, std::less<>>& GrpcDecoder::counts_late() const {
  return state_->tracker.methods().Counts(false);
}

const std::map<uint32_t, PathCounts>& GrpcDecoder::sub_counts_from_start() const {
  return state_->tracker.SubCounts();
}

}  // namespace keytrail
