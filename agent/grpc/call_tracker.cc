#include "agent/grpc/call_tracker.h"

#include "agent/grpc/wire_fields.h"
#include "common/limits.h"

namespace keytrail::grpc {

namespace {

// Bits that say that the body could not be had.
constexpr uint32_t kNotReadable = kGap | kOverCap | kUnknownEncoding | kMalformed | kDegraded;

MessageType TypeOf(const Stream& stream, bool is_response) {
  const Method* method = stream.method();
  if (method == nullptr || stream.foreign_coding) return kNoType;
  return is_response ? method->response : method->request;
}

}  // namespace

CallTracker::CallTracker(const Schema& schema, const GrpcOptions& options, CallSink& sink, Counters& counters)
    : schema_(schema),
      options_(options),
      counters_(counters),
      writer_(sink, counters),
      methods_(schema),
      splitter_(schema) {
  for (uint32_t i = 0; i < kDirectCommands; ++i) {
    request_commands_[i] = schema.FindBatchCommand(i, true);
    response_commands_[i] = schema.FindBatchCommand(i, false);
  }
}

BatchCommand CallTracker::CommandOf(uint32_t number, bool request) const {
  if (number >= kDirectCommands) return schema_.FindBatchCommand(number, request);
  return request ? request_commands_[number] : response_commands_[number];
}

PathCounts& CallTracker::SubCount(uint32_t number) {
  return number < kDirectCommands ? sub_counts_[number] : sub_counts_map_[number];
}

const std::map<uint32_t, PathCounts>& CallTracker::SubCounts() {
  for (uint32_t i = 0; i < kDirectCommands; ++i) {
    if (sub_counts_[i].request_messages + sub_counts_[i].response_messages != 0) {
      sub_counts_map_[i] = sub_counts_[i];
    }
  }
  return sub_counts_map_;
}

bool CallTracker::WantsBodies(const Stream& stream) const {
  const Method* method = stream.method();
  if (stream.entry == nullptr) return true;  // they are the evidence of what it is
  if (method == nullptr) return options_.keep_messages || options_.wants_messages;
  return method->cls != MethodClass::kCountOnly || options_.all;
}

CallTracker::Readable CallTracker::Read(const Stream& stream, const StreamHalf& half,
                                        const WireMessage& message) {
  Readable result{message.body, message.incomplete};
  if (result.incomplete != 0) {
    result.body = {};
    return result;
  }
  if (!message.compressed || !WantsBodies(stream)) return result;
  result.body = {};
  switch (decompressor_.Inflate(half.encoding, message.body, result.body)) {
    case Decompressor::Outcome::kDone:
      return result;
    case Decompressor::Outcome::kTooLarge:
      counters_.Add(Counter::kCapInflatedBytes);
      result.incomplete = kOverCap;
      break;
    case Decompressor::Outcome::kDamaged:
      result.incomplete = half.encoding == Encoding::kUnknown ? kUnknownEncoding : kMalformed;
      break;
    case Decompressor::Outcome::kUnreadable:
      result.incomplete = kUnknownEncoding;
      break;
  }
  counters_.Add(Counter::kMessagesUndecodable);
  result.body = {};
  return result;
}

void CallTracker::Fill(HeldMessage& held, const WireMessage& message, const Readable& readable,
                       MessageType type) {
  held.present = true;
  held.first = message.first;
  held.last = message.last;
  held.bytes = message.size;
  held.incomplete = readable.incomplete;
  held.type = type;
  if (readable.incomplete & kNotReadable) return;
  if (type != kNoType) {
    held.facts = facts_.Take();
    if (!schema_.Walk(type, readable.body, *held.facts)) {
      held.incomplete |= kMalformed;
      counters_.Add(Counter::kMessagesMalformed);
    }
    if (held.facts->over_cap) {
      held.incomplete |= kOverCap;
      counters_.Add(Counter::kCapFacts);
    }
    facts_.Hold(held);
    if (facts_.held_bytes() > limits::kMaxHeldFactBytes) {
      facts_.DropFacts(held);
      held.incomplete |= kOverCap;
      counters_.Add(Counter::kCapFacts);
    }
  }
  if (options_.keep_messages && detail_ != DetailLevel::kFull) {
    counters_.Add(Counter::kPayloadsDropped);
  } else if (options_.keep_messages) {
    held.body = bodies_.Take();
    if (!bodies_.Append(*held.body, readable.body)) {
      held.incomplete |= kOverCap;
      counters_.Add(Counter::kCapPartialBytes);
    }
  }
}

void CallTracker::OnMessage(Connection& connection, Stream& stream, int direction,
                            const WireMessage& message) {
  StreamHalf& half = stream.halves[direction];
  const bool is_response = direction != connection.request_direction();
  ++half.messages;
  half.bytes += message.size;
  counters_.Add(Counter::kMessages);
  if (message.compressed) counters_.Add(Counter::kMessagesCompressed);
  if (stream.entry != nullptr) {
    PathCounts& counts = stream.entry->counts[connection.from_start];
    ++(is_response ? counts.response_messages : counts.request_messages);
  }
  // One that began while nothing was read has no body, whatever the level is by now.
  const bool unread = message.size != 0 && message.body.empty() && message.incomplete == 0;
  if ((detail_ != DetailLevel::kFull || unread) && LeavesOut(connection, stream, direction, message)) return;
  Dispatch(connection, stream, direction, message);
}

void CallTracker::Dispatch(Connection& connection, Stream& stream, int direction,
                           const WireMessage& message) {
  const bool is_response = direction != connection.request_direction();
  if (stream.name_from != MethodFrom::kHeader && WantsBodies(stream) &&
      !Agrees(connection, stream, direction, message)) {
    return OnNameless(connection, stream, direction, message);
  }
  const Method* method = stream.method();
  if (method == nullptr) {
    OnNameless(connection, stream, direction, message);
  } else if (method->unary()) {
    OnUnary(connection, stream, direction, message);
  } else if (method->cls == MethodClass::kCountOnly && !options_.all) {
    return;
  } else if (method->cls == MethodClass::kBatchCommands) {
    OnBatch(connection, stream, direction, message);
  } else if (method->cls == MethodClass::kQueryRegion) {
    is_response ? OnAnswer(connection, stream, message) : OnQuestion(connection, stream, message);
    stream.last_message = message.last;
  } else {
    OnStreamed(connection, stream, direction, message);
  }
}

void CallTracker::OnUnary(Connection& connection, Stream& stream, int direction, const WireMessage& message) {
  StreamHalf& half = stream.halves[direction];
  const bool is_response = direction != connection.request_direction();
  if (half.held.present) {
    stream.incomplete |= kMalformed;
    counters_.Add(Counter::kMessagesMalformed);
    return;
  }
  if (!WantsBodies(stream)) {
    half.held.present = true;
    half.held.first = message.first;
    half.held.last = message.last;
    half.held.bytes = message.size;
    return;
  }
  const Readable readable = Read(stream, half, message);
  Fill(half.held, message, readable, TypeOf(stream, is_response));
  if (!options_.wants_messages) return;
  const HeldMessage& request = stream.halves[connection.request_direction()].held;
  writer_.Event(connection, stream, CallKind::kUnary, {}, {}, request.present ? &request : nullptr, half.held,
                is_response, readable.body);
}

void CallTracker::OnStreamed(Connection& connection, Stream& stream, int direction,
                             const WireMessage& message) {
  const bool is_response = direction != connection.request_direction();
  const Readable readable = Read(stream, stream.halves[direction], message);
  Fill(scratch_, message, readable, TypeOf(stream, is_response));
  if (options_.wants_messages) {
    writer_.Event(connection, stream, CallKind::kMessage, {}, {}, nullptr, scratch_, is_response,
                  readable.body);
  }
  writer_.Message(connection, stream, is_response, scratch_);
  facts_.Release(scratch_, bodies_);
}

void CallTracker::OnNameless(Connection& connection, Stream& stream, int direction,
                             const WireMessage& message) {
  // With an entry it has a name, but of a method that no schema has.
  if (stream.entry != nullptr) return TellUnknown(connection, stream, direction, message);
  Wait(connection, stream, direction, message);
}

void CallTracker::TellUnknown(Connection& connection, Stream& stream, int direction,
                              const WireMessage& message) {
  StreamHalf& half = stream.halves[direction];
  if (stream.is_stream) return OnStreamed(connection, stream, direction, message);
  if (half.held.present) {
    // A second message: this is no unary call. What was held comes first.
    stream.is_stream = true;
    const int request = connection.request_direction();
    StreamHalf& other = stream.halves[1 - direction];
    const bool other_first = other.held.present && other.held.first < half.held.first;
    for (const int d : {other_first ? 1 - direction : direction, other_first ? direction : 1 - direction}) {
      HeldMessage& held = stream.halves[d].held;
      if (held.present) writer_.Message(connection, stream, d != request, held);
      facts_.Release(held, bodies_);
    }
    return OnStreamed(connection, stream, direction, message);
  }
  const bool is_response = direction != connection.request_direction();
  const Readable readable = Read(stream, half, message);
  Fill(half.held, message, readable, kNoType);
  if (!options_.wants_messages) return;
  const HeldMessage& request = stream.halves[connection.request_direction()].held;
  writer_.Event(connection, stream, CallKind::kUnary, {}, {}, request.present ? &request : nullptr, half.held,
                is_response, readable.body);
}

void CallTracker::OnLoss(Connection& connection, Stream& stream, TimeNs time) {
  const Method* method = stream.method();
  if (method == nullptr || method->cls != MethodClass::kQueryRegion) return;
  stream.order_lost = true;
  stream.last_message = time;
  EndAllPending(connection, stream, false, kGap);
}

bool CallTracker::Finish(Connection& connection, Stream& stream, bool reset, uint32_t ended) {
  if (stream.grpc != Answer::kYes) {
    counters_.Add(Counter::kStreamsNotGrpc);
    return true;
  }
  for (StreamHalf& half : stream.halves) {
    const bool partial = half.assembler.in_message() || (half.search != nullptr && half.search->in_message());
    if (!partial) continue;
    counters_.Add(Counter::kMessagesLost);
    // END_STREAM in mid-message: nothing is missing from the capture, the sender broke off.
    if (half.ended && half.losses == 0) stream.incomplete |= kMalformed;
  }
  if (stream.nameless != nullptr && !NameCall(connection, stream)) return false;
  Write(connection, stream, reset, ended);
  return true;
}

void CallTracker::Write(Connection& connection, Stream& stream, bool reset, uint32_t ended) {
  EndAllPending(connection, stream, reset, ended);
  const Method* method = stream.method();
  const bool unary = method == nullptr ? !stream.is_stream : method->unary();
  if (unary) {
    writer_.Unary(connection, stream, reset, ended);
  } else {
    writer_.StreamEnd(connection, stream, reset, ended);
  }
}

void CallTracker::Release(Stream& stream) {
  if (stream.nameless != nullptr) DropWaiting(*stream.nameless);
  for (StreamHalf& half : stream.halves) {
    half.assembler.Drop(bodies_);
    if (half.search != nullptr) half.search->End(bodies_);
    if (half.held.present) facts_.Release(half.held, bodies_);
  }
  if (stream.pending == nullptr) return;
  while (stream.pending->oldest() != nullptr) DropPending(stream, *stream.pending->oldest());
  pending_tables_.Give(std::move(stream.pending));
}

bool CallTracker::Fits(MessageType type, Bytes message, uint32_t& known_fields) const {
  const StrictResult result = schema_.Check(type, message);
  known_fields += result.known_fields;
  return result.valid && result.wrong_wire_types == 0 && result.repeated_singular == 0 &&
         result.oneof_conflicts == 0 && result.bad_bools == 0 && result.bad_strings == 0;
}

bool CallTracker::Proves(const Connection& connection, const Stream& stream, int direction,
                         std::span<const MessageSearch::Found> found, Bytes bytes) {
  const bool is_response = direction != connection.request_direction();
  const Method* method = stream.method();
  // One message each way is all that a unary call has.
  if (method != nullptr && method->unary() && found.size() != 1) return false;
  const MessageType type = TypeOf(stream, is_response);
  const bool batch = method != nullptr && method->cls == MethodClass::kBatchCommands;
  uint32_t known_fields = 0;
  for (const MessageSearch::Found& f : found) {
    Bytes body = bytes.subspan(f.offset, f.size);
    if (f.compressed) {
      const Encoding encoding = stream.halves[direction].encoding;
      if (decompressor_.Inflate(encoding, body, body) != Decompressor::Outcome::kDone) return false;
    }
    if (stream.foreign_coding) continue;
    if (type == kNoType ? !ParsesAsFields(body) : !Fits(type, body, known_fields)) return false;
    if (batch && splitter_.Split(body, !is_response) != SplitOutcome::kDone) return false;
  }
  // Fields that nobody knows fit anywhere.
  return type == kNoType || known_fields != 0;
}

}  // namespace keytrail::grpc
