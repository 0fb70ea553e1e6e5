// The part of CallTracker that pairs within a stream: BatchCommands by request id, QueryRegion by order.
#include "agent/grpc/call_tracker.h"
#include "common/limits.h"

namespace keytrail::grpc {

namespace {

// After a loss on a QueryRegion stream nobody knows which question the next answer belongs to. A question
// that comes after this much silence is alone on its stream: PD's client gives up an answer after 3 s and
// opens a new stream then (pd/client, tidb-wire.md section 1), PD itself answers within milliseconds.
constexpr int64_t kSilenceNs = 10'000'000'000;

// Until then a question and an answer are a pair only if nothing else can be meant: PD's client sends no
// second question before it has the answer (send and recv alternate), so a question ends what waited before
// it, and what comes next must say of each key or id that was asked which region it is.
bool Answers(const MessageFacts* question, const MessageFacts* answer) {
  if (question == nullptr || answer == nullptr || !answer->errors.empty()) return false;
  const auto region = [&](uint64_t id) -> const RegionStatement* {
    for (const RegionStatement& statement : answer->statements) {
      if (statement.region_id == id) return &statement;
    }
    return nullptr;
  };
  size_t keys = 0;
  size_t previous = 0;
  for (const KeyItem& item : question->keys) {
    if (item.previous) {
      ++previous;
      continue;
    }
    if (keys == answer->key_id_map.size()) return false;
    const uint64_t id = answer->key_id_map[keys++];
    if (id == 0) continue;
    const RegionStatement* const found = region(id);
    if (found == nullptr || CompareBytes(found->start, item.start) > 0 ||
        (!found->end.empty() && CompareBytes(item.start, found->end) >= 0)) {
      return false;
    }
  }
  if (keys != answer->key_id_map.size() || previous != answer->prev_key_id_map.size()) return false;
  size_t by_id = 0;
  for (const uint64_t id : question->asked_region_ids) by_id += region(id) != nullptr;
  // An answer without any region that was asked for says nothing about which question it belongs to.
  return keys + previous + by_id != 0;
}

}  // namespace

PendingRequest& CallTracker::AddPending(Connection& connection, Stream& stream, uint64_t id) {
  if (stream.pending == nullptr) stream.pending = pending_tables_.Take();
  PendingRequests& pending = *stream.pending;
  if (pending.size() >= limits::kMaxPendingRequestsPerStream ||
      (pending_total_ >= limits::kMaxPendingRequests && pending.size() != 0)) {
    counters_.Add(Counter::kCapPendingRequests);
    EndPending(connection, stream, *pending.oldest(), false, kOverCap);
  }
  PendingRequest& added = pending.Add(id, pending_pool_);
  ++pending_total_;
  added.number = 0;
  added.response_losses = stream.halves[1 - connection.request_direction()].losses;
  return added;
}

void CallTracker::DropPending(Stream& stream, PendingRequest& pending) {
  std::unique_ptr<PendingRequest> taken = stream.pending->Remove(pending);
  --pending_total_;
  facts_.Release(taken->request, bodies_);
  pending_pool_.Give(std::move(taken));
}

void CallTracker::EndPending(Connection& connection, Stream& stream, PendingRequest& pending, bool reset,
                             uint32_t ended) {
  const bool batch = stream.method()->cls == MethodClass::kBatchCommands;
  const StreamHalf& response = stream.halves[1 - connection.request_direction()];
  if (response.losses != pending.response_losses) ended |= kGap;
  writer_.Sub(connection, stream, batch ? CommandOf(pending.number, true).name : std::string_view(),
              batch ? std::optional<uint64_t>(pending.id) : std::nullopt, &pending.request, nullptr, reset,
              ended);
  DropPending(stream, pending);
}

void CallTracker::EndAllPending(Connection& connection, Stream& stream, bool reset, uint32_t ended) {
  if (stream.pending == nullptr) return;
  while (stream.pending->oldest() != nullptr) {
    EndPending(connection, stream, *stream.pending->oldest(), reset, ended);
  }
}

void CallTracker::OnBatch(Connection& connection, Stream& stream, int direction, const WireMessage& message) {
  const bool is_response = direction != connection.request_direction();
  Readable readable = Read(stream, stream.halves[direction], message);
  if (readable.incomplete == 0 && !stream.foreign_coding) {
    const SplitOutcome outcome = splitter_.Split(readable.body, !is_response);
    if (outcome == SplitOutcome::kDone) {
      for (size_t i = 0; i < splitter_.items().size(); ++i) {
        const BatchItem& item = splitter_.items()[i];
        const uint64_t id = splitter_.ids()[i];
        is_response ? AnswerTo(connection, stream, message, item, id)
                    : Ask(connection, stream, message, item, id);
      }
      return;
    }
    const bool too_many = outcome == SplitOutcome::kTooMany;
    readable.incomplete = too_many ? kOverCap : kMalformed;
    counters_.Add(too_many ? Counter::kCapPendingRequests : Counter::kMessagesMalformed);
  }
  // Nothing in it can be paired: told as one message.
  Fill(scratch_, message, readable, kNoType);
  if (options_.wants_messages) {
    writer_.Event(connection, stream, CallKind::kMessage, {}, {}, nullptr, scratch_, is_response,
                  readable.body);
  }
  writer_.Message(connection, stream, is_response, scratch_);
  facts_.Release(scratch_, bodies_);
}

void CallTracker::Ask(Connection& connection, Stream& stream, const WireMessage& message,
                      const BatchItem& item, uint64_t id) {
  const BatchCommand command = CommandOf(item.number, true);
  if (connection.from_start) ++SubCount(item.number).request_messages;
  if (stream.pending != nullptr) {
    // The same id again: whatever comes back belongs to the newer one, if to any.
    if (PendingRequest* older = stream.pending->Find(id)) EndPending(connection, stream, *older, false, 0);
  }
  PendingRequest& pending = AddPending(connection, stream, id);
  pending.number = item.number;
  Fill(pending.request, message, Readable{item.message, 0}, command.type);
  pending.request.bytes = item.message.size();
  if (options_.wants_messages) {
    writer_.Event(connection, stream, CallKind::kSub, command.name, id, nullptr, pending.request, false,
                  item.message);
  }
}

void CallTracker::AnswerTo(Connection& connection, Stream& stream, const WireMessage& message,
                           const BatchItem& item, uint64_t id) {
  const BatchCommand command = CommandOf(item.number, false);
  if (connection.from_start) ++SubCount(item.number).response_messages;
  PendingRequest* pending = stream.pending == nullptr ? nullptr : stream.pending->Find(id);
  Fill(scratch_, message, Readable{item.message, 0}, command.type);
  scratch_.bytes = item.message.size();
  uint32_t ended = 0;
  if (pending != nullptr && pending->number != item.number) {
    // An answer of another kind is not the answer.
    pending = nullptr;
    ended = kMalformed;
    counters_.Add(Counter::kMessagesMalformed);
  } else if (pending == nullptr && stream.halves[connection.request_direction()].losses != 0) {
    ended = kGap;
  } else if (pending == nullptr) {
    ended = stream.incomplete & kDegraded;
  }
  if (options_.wants_messages) {
    writer_.Event(connection, stream, CallKind::kSub, command.name, id,
                  pending == nullptr ? nullptr : &pending->request, scratch_, true, item.message);
  }
  writer_.Sub(connection, stream, command.name, id, pending == nullptr ? nullptr : &pending->request,
              &scratch_, false, ended);
  facts_.Release(scratch_, bodies_);
  if (pending != nullptr) DropPending(stream, *pending);
}

void CallTracker::OnQuestion(Connection& connection, Stream& stream, const WireMessage& message) {
  const Method& method = *stream.method();
  if (stream.order_lost && stream.last_message.known() && message.first - stream.last_message >= kSilenceNs) {
    stream.order_lost = false;
  }
  if (stream.order_lost) EndAllPending(connection, stream, false, kGap);
  const StreamHalf& half = stream.halves[connection.request_direction()];
  const Readable readable = Read(stream, half, message);
  const MessageType type = stream.foreign_coding ? kNoType : method.request;
  PendingRequest& pending = AddPending(connection, stream, stream.next_question++);
  Fill(pending.request, message, readable, type);
  if (options_.wants_messages) {
    writer_.Event(connection, stream, CallKind::kSub, {}, {}, nullptr, pending.request, false, readable.body);
  }
}

void CallTracker::OnAnswer(Connection& connection, Stream& stream, const WireMessage& message) {
  const Method& method = *stream.method();
  const StreamHalf& half = stream.halves[1 - connection.request_direction()];
  const Readable readable = Read(stream, half, message);
  Fill(scratch_, message, readable, stream.foreign_coding ? kNoType : method.response);
  PendingRequest* pending = stream.pending == nullptr ? nullptr : stream.pending->oldest();
  if (stream.order_lost && pending != nullptr &&
      !Answers(pending->request.facts.get(), scratch_.facts.get())) {
    EndPending(connection, stream, *pending, false, kGap);
    pending = nullptr;
  }
  const HeldMessage* const request = pending == nullptr ? nullptr : &pending->request;
  if (options_.wants_messages) {
    writer_.Event(connection, stream, CallKind::kSub, {}, {}, request, scratch_, true, readable.body);
  }
  writer_.Sub(connection, stream, {}, {}, request, &scratch_, false,
              stream.order_lost && pending == nullptr ? uint32_t{kGap} : 0);
  facts_.Release(scratch_, bodies_);
  if (pending != nullptr) DropPending(stream, *pending);
}

}  // namespace keytrail::grpc
