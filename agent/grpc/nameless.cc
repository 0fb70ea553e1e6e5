// The part of CallTracker that names by evidence what no header named.
#include "agent/grpc/nameless.h"

#include <algorithm>

#include "agent/grpc/call_tracker.h"
#include "common/limits.h"

namespace keytrail::grpc {

namespace {

// An inferred name is checked against every message at first, then against one in so many.
constexpr uint32_t kAlwaysChecked = 256;
constexpr uint32_t kCheckedOneIn = 16;

const Endpoint& ServerOf(const Connection& connection, int request_direction) {
  return request_direction == 1 ? connection.key->a : connection.key->b;
}

bool OneMessageEachWay(const Stream& stream) {
  return stream.halves[0].messages <= 1 && stream.halves[1].messages <= 1;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------
// The server

void CallTracker::LearnServer(Connection& connection) {
  if (connection.client_direction < 0) return;
  const auto it = servers_.find(ServerOf(connection, connection.client_direction));
  if (it != servers_.end()) connection.roles &= it->second;
}

void CallTracker::NarrowServer(Connection& connection, ServerRoles roles) {
  connection.roles &= roles;
  if (connection.client_direction < 0) return;
  const Endpoint& server = ServerOf(connection, connection.client_direction);
  const auto it = servers_.find(server);
  if (it != servers_.end()) {
    it->second &= roles;
  } else if (servers_.size() < limits::kMaxServers) {
    servers_.emplace(server, roles);
  }
}

ServerRoles CallTracker::RolesFor(const Connection& connection, int request_direction) const {
  ServerRoles roles = connection.roles;
  const Endpoint& server = ServerOf(connection, request_direction);
  if (const auto it = servers_.find(server); it != servers_.end()) roles &= it->second;
  // Contradictory: several services behind one address.
  if (roles == 0) return kAnyServer;
  const ServerRoles by_port = roles & RolesOfPort(server.port);
  return by_port != 0 ? by_port : roles;
}

// ---------------------------------------------------------------------------------------------------------
// Streams

void CallTracker::SetExpiry(TimeNs now) {
  if (!next_expiry_.known()) next_expiry_ = TimeNs{now.ns + limits::kMaxWaitForNameNs};
}

void CallTracker::DropWaiting(NamelessStream& nameless) {
  for (WaitingMessage& message : nameless.waiting) bodies_.Give(std::move(message.body));
  nameless.waiting.clear();
  nameless.waiting_bytes = 0;
}

void CallTracker::Wait(Connection& connection, Stream& stream, int direction, const WireMessage& message) {
  if (stream.nameless == nullptr) stream.nameless = std::make_unique<NamelessStream>();
  NamelessStream& nameless = *stream.nameless;
  WaitingMessage waiting;
  waiting.direction = direction;
  waiting.wire = message;
  waiting.wire.body = {};
  bool kept = true;
  if (!message.body.empty()) {
    waiting.body = bodies_.Take();
    kept = bodies_.Append(*waiting.body, message.body);
  }
  const bool is_stream =
      !OneMessageEachWay(stream) || !stream.halves[connection.request_direction()].headers_seen;
  if (!nameless.told && kept) {
    nameless.waiting_bytes += message.body.size();
    nameless.waiting.push_back(std::move(waiting));
    if (is_stream) {
      // A first message may have waited for a second to come.
      while (nameless.observed < nameless.waiting.size()) {
        ObserveStream(connection, stream, nameless.waiting[nameless.observed++]);
      }
      if (TryNameStream(connection, stream)) return;
    }
    if (nameless.waiting.size() >= limits::kMaxWaitingMessages ||
        nameless.waiting_bytes > limits::kMaxWaitingBytes) {
      counters_.Add(Counter::kCapWaiting);
      TellWaiting(connection, stream);
    } else {
      connection.waiting = true;
      SetExpiry(message.last);
    }
    return;
  }
  if (!nameless.told) {
    counters_.Add(Counter::kCapPartialBytes);
    TellWaiting(connection, stream);
  }
  bool named = false;
  if (kept && nameless.observed < limits::kMaxObserved) {
    ++nameless.observed;
    ObserveStream(connection, stream, waiting);
    named = TryNameStream(connection, stream);
  }
  bodies_.Give(std::move(waiting.body));
  named ? Dispatch(connection, stream, direction, message)
        : TellUnknown(connection, stream, direction, message);
}

void CallTracker::ObserveStream(Connection& connection, Stream& stream, const WaitingMessage& message) {
  const Readable readable = Read(stream, stream.halves[message.direction], message.Message());
  if (readable.incomplete != 0) return;
  for (int request = 0; request < 2; ++request) {
    if (connection.client_direction >= 0 && connection.client_direction != request) continue;
    std::unique_ptr<MethodEvidence>& evidence = stream.nameless->evidence[static_cast<size_t>(request)];
    if (evidence == nullptr) {
      evidence = std::make_unique<MethodEvidence>(schema_, MethodEvidence::Shape::kStream);
    }
    evidence->Observe(message.direction != request, readable.body);
  }
}

bool CallTracker::TryNameStream(Connection& connection, Stream& stream) {
  const Method* proved = nullptr;
  int request = -1;
  for (int r = 0; r < 2; ++r) {
    const MethodEvidence* evidence = stream.nameless->evidence[static_cast<size_t>(r)].get();
    if (evidence == nullptr || (connection.client_direction >= 0 && connection.client_direction != r))
      continue;
    const Method* method = evidence->Proved(RolesFor(connection, r));
    if (method == nullptr) continue;
    if (proved != nullptr) return false;  // both ways round: then neither
    proved = method;
    request = r;
  }
  if (proved == nullptr) return false;
  connection.client_direction = request;
  bool over_cap = false;
  MethodEntry& entry = *methods_.Find(proved->path, over_cap);
  SlotName* const slot = SlotOf(connection, stream);
  if (slot != nullptr && slot->bound == nullptr) BindSlot(connection, *slot, entry);
  NameStream(connection, stream, entry, slot != nullptr ? MethodFrom::kSlot : MethodFrom::kShape);
  return true;
}

// The stream goes on under this name; what waited goes the way of a named stream's messages.
void CallTracker::NameStream(Connection& connection, Stream& stream, MethodEntry& entry, MethodFrom from) {
  stream.entry = &entry;
  stream.name_from = from;
  stream.is_stream = false;
  const StreamHalf& request = stream.halves[connection.request_direction()];
  const StreamHalf& response = stream.halves[1 - connection.request_direction()];
  // Joined in the middle, it is not known which answer comes next.
  if (!request.headers_seen || request.losses + response.losses != 0) stream.order_lost = true;
  PathCounts& counts = entry.counts[connection.from_start];
  if (!stream.counted) {
    stream.counted = true;
    ++counts.streams;
  }
  counts.request_messages += request.messages;
  counts.response_messages += response.messages;
  if ((connection.roles & entry.roles) != connection.roles) NarrowServer(connection, entry.roles);
  if (stream.nameless == nullptr) return;
  const std::unique_ptr<NamelessStream> nameless = std::move(stream.nameless);
  if (nameless->told) writer_.Amend(connection, stream.id, entry, from);
  for (const WaitingMessage& message : nameless->waiting) {
    Dispatch(connection, stream, message.direction, message.Message());
  }
  DropWaiting(*nameless);
}

void CallTracker::TellWaiting(Connection& connection, Stream& stream) {
  NamelessStream& nameless = *stream.nameless;
  nameless.told = true;
  for (const WaitingMessage& message : nameless.waiting) {
    TellUnknown(connection, stream, message.direction, message.Message());
  }
  DropWaiting(nameless);
}

// A message that came under an inferred name must fit it; else the name is taken back.
bool CallTracker::Agrees(Connection& connection, Stream& stream, int direction, const WireMessage& message) {
  SlotName* const slot = SlotOf(connection, stream);
  const bool is_response = direction != connection.request_direction();
  uint32_t& agreed = slot != nullptr ? slot->agreed : stream.agreed;
  if (agreed++ >= kAlwaysChecked && agreed % kCheckedOneIn != 0) return true;
  const Readable readable = Read(stream, stream.halves[direction], message);
  if (readable.incomplete != 0 || stream.foreign_coding) return true;
  const Method& method = *stream.method();
  if (!Contradicts(schema_, is_response ? method.response : method.request, readable.body)) return true;
  counters_.Add(Counter::kNamesRefuted);
  EndAllPending(connection, stream, false, kMalformed);
  stream.entry = nullptr;
  stream.name_from = MethodFrom::kHeader;
  stream.agreed = 0;
  stream.nameless.reset();
  for (StreamHalf& half : stream.halves) {
    // Read under the wrong name.
    if (!half.held.present) continue;
    facts_.DropFacts(half.held);
    half.held.type = kNoType;
  }
  if (slot != nullptr) {
    slot->bound = nullptr;
    slot->hint = nullptr;
    slot->agreed = 0;
    slot->evidence = std::make_unique<MethodEvidence>(schema_, MethodEvidence::Shape::kCall);
  }
  return false;
}

// ---------------------------------------------------------------------------------------------------------
// Slots

SlotName* CallTracker::SlotOf(Connection& connection, const Stream& stream) {
  if (stream.path_slot == 0) return nullptr;
  auto it = connection.slots.find(stream.path_slot);
  if (it == connection.slots.end()) {
    if (connection.slots.size() >= limits::kMaxNamedSlots && !DropIdleSlot(connection)) {
      counters_.Add(Counter::kCapWaiting);
      return nullptr;
    }
    it = connection.slots.try_emplace(stream.path_slot, schema_).first;
  }
  it->second.used = ++connection.slots_used;
  return &it->second;
}

// Each loss of the table brings new numbers, and the old ones come never again.
bool CallTracker::DropIdleSlot(Connection& connection) {
  auto idle = connection.slots.end();
  for (auto it = connection.slots.begin(); it != connection.slots.end(); ++it) {
    if (!it->second.waiting.empty()) continue;
    if (idle == connection.slots.end() || it->second.used < idle->second.used) idle = it;
  }
  if (idle == connection.slots.end()) return false;
  connection.slots.erase(idle);
  return true;
}

void CallTracker::OnRequestHeaders(Connection& connection, Stream& stream, const RequestHeaders& headers) {
  if (stream.entry != nullptr) {
    if ((connection.roles & stream.entry->roles) != connection.roles) {
      NarrowServer(connection, stream.entry->roles);
    }
    return;
  }
  if (stream.path_slot == 0) return;
  const auto it = connection.slots.find(stream.path_slot);
  if (it == connection.slots.end()) {
    TakeHint(connection, stream, headers);
    return;
  }
  if (it->second.bound == nullptr) return;
  stream.entry = it->second.bound;
  stream.name_from = MethodFrom::kSlot;
}

void CallTracker::TakeHint(Connection& connection, Stream& stream, const RequestHeaders& headers) {
  MethodEntry* hint = headers.former_entry;
  const auto former = connection.slots.find(headers.former_slot);
  if (headers.former_slot != 0 && former != connection.slots.end()) {
    const SlotName& slot = former->second;
    if (slot.bound != nullptr || slot.hint != nullptr) hint = slot.bound != nullptr ? slot.bound : slot.hint;
  }
  if (hint == nullptr || hint->method == nullptr) return;
  if (SlotName* const slot = SlotOf(connection, stream)) slot->hint = hint;
}

void CallTracker::Reopen(Connection& connection, Stream& stream) {
  if (stream.nameless != nullptr && !stream.nameless->told) TellWaiting(connection, stream);
  stream.nameless.reset();
  if (stream.entry == nullptr) return;
  EndAllPending(connection, stream, false, kMalformed);
  stream.entry = nullptr;
  stream.name_from = MethodFrom::kHeader;
  stream.agreed = 0;
}

void CallTracker::ObserveCall(SlotName& slot, const Connection& connection, const Stream& stream) {
  SeenCall call;
  Body inflated;
  for (const WaitingMessage& message : stream.nameless->waiting) {
    Readable readable = Read(stream, stream.halves[message.direction], message.Message());
    if (readable.incomplete != 0) continue;
    if (message.direction == connection.request_direction()) {
      call.has_request = true;
      call.request = readable.body;
      if (message.wire.compressed) {
        // The next one inflates into the same buffer.
        inflated.assign(readable.body.begin(), readable.body.end());
        call.request = inflated;
      }
    } else {
      call.has_response = true;
      call.response = readable.body;
    }
  }
  slot.evidence->Observe(call);
}

bool CallTracker::Confirmed(const SlotName& slot, ServerRoles roles) const {
  return slot.evidence->Confirms(*slot.hint->method, roles,
                                 [this](const Method& rival) { return methods_.Seen(rival); });
}

// `stream` is finished. True: it was named or told, and may be written. False: it may wait.
bool CallTracker::NameCall(Connection& connection, Stream& stream) {
  SlotName* const slot = OneMessageEachWay(stream) ? SlotOf(connection, stream) : nullptr;
  if (slot != nullptr && slot->bound != nullptr) {
    NameStream(connection, stream, *slot->bound, MethodFrom::kSlot);
    return true;
  }
  if (slot == nullptr || slot->evidence == nullptr || stream.nameless->told) {
    if (!stream.nameless->told) TellWaiting(connection, stream);
    if (slot != nullptr && slot->told.size() < limits::kMaxAmended) slot->told.push_back(stream.id);
    return true;
  }
  ObserveCall(*slot, connection, stream);
  const int request = connection.request_direction();
  const ServerRoles roles = RolesFor(connection, request);
  MethodEntry* entry = nullptr;
  bool over_cap = false;
  if (const Method* method = slot->evidence->Proved(roles); method != nullptr) {
    entry = methods_.Find(method->path, over_cap);
  } else if (slot->hint != nullptr && Confirmed(*slot, roles)) {
    entry = slot->hint;
  }
  if (entry != nullptr) {
    BindSlot(connection, *slot, *entry);
    NameStream(connection, stream, *entry, MethodFrom::kSlot);
    return true;
  }
  const bool hopeless = slot->evidence->refuted() || slot->evidence->observed() >= limits::kMaxObserved;
  if (hopeless) slot->evidence.reset();
  if (!hopeless && slot->told.empty()) return false;
  // It took too long already: this one does not wait, but what it says has been heard.
  WriteWaiting(connection, *slot);
  TellWaiting(connection, stream);
  if (slot->told.size() < limits::kMaxAmended) slot->told.push_back(stream.id);
  return true;
}

void CallTracker::Keep(Connection& connection, std::unique_ptr<Stream> stream, bool reset, uint32_t ended) {
  SlotName& slot = connection.slots.at(stream->path_slot);
  slot.waiting_bytes += stream->nameless->waiting_bytes;
  WaitingCall call;
  call.finished = std::max(stream->halves[0].last, stream->halves[1].last);
  call.stream = std::move(stream);
  call.reset = reset;
  call.ended = ended;
  SetExpiry(call.finished);
  connection.waiting = true;
  slot.waiting.push_back(std::move(call));
  if (slot.waiting.size() >= limits::kMaxWaitingMessages || slot.waiting_bytes > limits::kMaxWaitingBytes) {
    counters_.Add(Counter::kCapWaiting);
    WriteWaiting(connection, slot);
  }
}

void CallTracker::BindSlot(Connection& connection, SlotName& slot, MethodEntry& entry) {
  slot.bound = &entry;
  slot.evidence.reset();
  WriteWaiting(connection, slot);
  for (const uint32_t id : slot.told) writer_.Amend(connection, id, entry, MethodFrom::kSlot);
  slot.told.clear();
}

// The calls that waited for the slot's name go out: with it, or without.
void CallTracker::WriteWaiting(Connection& connection, SlotName& slot) {
  while (!slot.waiting.empty()) {
    const WaitingCall call = std::move(slot.waiting.front());
    slot.waiting.pop_front();
    Stream& stream = *call.stream;
    if (slot.bound != nullptr) {
      NameStream(connection, stream, *slot.bound, MethodFrom::kSlot);
    } else {
      TellWaiting(connection, stream);
      if (slot.told.size() < limits::kMaxAmended) slot.told.push_back(stream.id);
    }
    Write(connection, stream, call.reset, call.ended);
    Release(stream);
  }
  slot.waiting_bytes = 0;
}

void CallTracker::ExpireWaiting(Connection& connection, TimeNs now) {
  connection.waiting = false;
  for (auto& [id, slot] : connection.slots) {
    if (slot.waiting.empty()) continue;
    if (now - slot.waiting.front().finished >= limits::kMaxWaitForNameNs) {
      WriteWaiting(connection, slot);
    } else {
      connection.waiting = true;
    }
  }
  for (Stream* stream = connection.streams.oldest(); stream != nullptr; stream = stream->newer) {
    if (stream->nameless == nullptr || stream->nameless->waiting.empty()) continue;
    if (now - stream->nameless->waiting.front().wire.last >= limits::kMaxWaitForNameNs) {
      TellWaiting(connection, *stream);
    } else {
      connection.waiting = true;
    }
  }
}

void CallTracker::EndSlots(Connection& connection) {
  for (auto& [id, slot] : connection.slots) WriteWaiting(connection, slot);
  connection.slots.clear();
}

}  // namespace keytrail::grpc
