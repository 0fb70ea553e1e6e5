// Complete gRPC messages in, calls out: decompression, field walking, and the pairing of each kind of method.
//
//  - unary: request and response are held until the stream ends;
//  - BatchCommands: each message is split, sub-commands are paired by request id on their stream;
//  - QueryRegion: the nth answer belongs to the nth question;
//  - other streams: each message is a record at once;
//  - a method that no schema has, or whose name was not seen: as unary until a second message comes.
//
// One thread, no clock. Streams belong to the caller; what they hold comes from the pools here, so Release
// must be called before a stream is thrown away.
#pragma once

#include <array>
#include <map>
#include <span>

#include "agent/grpc/batch_split.h"
#include "agent/grpc/call_writer.h"
#include "agent/grpc/stream.h"

namespace keytrail::grpc {

class CallTracker {
 public:
  CallTracker(const Schema& schema, const GrpcOptions& options, CallSink& sink, Counters& counters);

  MethodDirectory& methods() { return methods_; }
  BodyStore& bodies() { return bodies_; }

  // The bytes of this stream's messages are needed (else counting them is enough).
  bool WantsBodies(const Stream& stream) const;
  // ... and are read now (agent/restraint may have said otherwise).
  bool KeepsBodies(const Stream& stream) const { return !headers_only() && WantsBodies(stream); }
  bool headers_only() const { return detail_ >= DetailLevel::kHeadersOnly; }
  void SetDetail(DetailLevel level);
  // The schema says that it has one message each way.
  static bool IsUnary(const Stream& stream) { return stream.method() != nullptr && stream.method()->unary(); }

  void OnMessage(Connection& connection, Stream& stream, int direction, const WireMessage& message);

  // Strict proof that `found` are messages of this stream: every one must be a valid message of its type, or
  // of any type if the method is not known.
  bool Proves(const Connection& connection, const Stream& stream, int direction,
              std::span<const MessageSearch::Found> found, Bytes bytes);

  // Messages of this stream may be missing from now on.
  void OnLoss(Connection& connection, Stream& stream, TimeNs time);

  // The stream is over: its last records. `ended`: Incomplete bits of the way it ended. False: it must be
  // kept (Keep), because its slot may still get a name.
  [[nodiscard]] bool Finish(Connection& connection, Stream& stream, bool reset, uint32_t ended);
  void Keep(Connection& connection, std::unique_ptr<Stream> stream, bool reset, uint32_t ended);
  void Release(Stream& stream);

  // Naming by evidence (nameless.cc).
  // The request's headers have come: names the stream if its slot is bound, and learns of the server.
  void OnRequestHeaders(Connection& connection, Stream& stream, const RequestHeaders& headers);
  // HEADERS come for a stream that was read without: what its messages were taken for does not hold.
  void Reopen(Connection& connection, Stream& stream);
  // Tells what has waited longer than limits::kMaxWaitForNameNs at `now`.
  void ExpireWaiting(Connection& connection, TimeNs now);
  // The connection is over, its streams are finished: what waits for its slots.
  void EndSlots(Connection& connection);
  // The connection's server, as far as other connections to it have told.
  void LearnServer(Connection& connection);
  // The first time at which something may have waited too long; unknown: nothing waits.
  TimeNs next_expiry() const { return next_expiry_; }
  void set_next_expiry(TimeNs time) { next_expiry_ = time; }

  const std::map<uint32_t, PathCounts>& SubCounts();

 private:
  struct Readable {
    Bytes body;               // decompressed
    uint32_t incomplete = 0;  // not 0: body is empty
  };
  // What the level of detail leaves out (degraded.cc). True: it is done with.
  bool LeavesOut(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  void Unread(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  Readable Read(const Stream& stream, const StreamHalf& half, const WireMessage& message);
  // The facts of `body`, if there is a type for it and it is readable.
  void Fill(HeldMessage& held, const WireMessage& message, const Readable& readable, MessageType type);

  void OnUnary(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  void OnStreamed(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  void OnNameless(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  void Dispatch(Connection& connection, Stream& stream, int direction, const WireMessage& message);

  // nameless.cc
  void Wait(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  void ObserveStream(Connection& connection, Stream& stream, const WaitingMessage& message);
  bool TryNameStream(Connection& connection, Stream& stream);
  void NameStream(Connection& connection, Stream& stream, MethodEntry& entry, MethodFrom from);
  void TellWaiting(Connection& connection, Stream& stream);
  void TellUnknown(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  void DropWaiting(NamelessStream& nameless);
  bool Agrees(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  SlotName* SlotOf(Connection& connection, const Stream& stream);
  bool DropIdleSlot(Connection& connection);
  void TakeHint(Connection& connection, Stream& stream, const RequestHeaders& headers);
  bool Confirmed(const SlotName& slot, ServerRoles roles) const;
  void ObserveCall(SlotName& slot, const Connection& connection, const Stream& stream);
  void BindSlot(Connection& connection, SlotName& slot, MethodEntry& entry);
  bool NameCall(Connection& connection, Stream& stream);
  void Write(Connection& connection, Stream& stream, bool reset, uint32_t ended);
  void WriteWaiting(Connection& connection, SlotName& slot);
  ServerRoles RolesFor(const Connection& connection, int request_direction) const;
  void NarrowServer(Connection& connection, ServerRoles roles);
  void SetExpiry(TimeNs now);
  void OnBatch(Connection& connection, Stream& stream, int direction, const WireMessage& message);
  void Ask(Connection& connection, Stream& stream, const WireMessage& message, const BatchItem& item,
           uint64_t id);
  void AnswerTo(Connection& connection, Stream& stream, const WireMessage& message, const BatchItem& item,
                uint64_t id);
  void OnQuestion(Connection& connection, Stream& stream, const WireMessage& message);
  void OnAnswer(Connection& connection, Stream& stream, const WireMessage& message);

  PendingRequest& AddPending(Connection& connection, Stream& stream, uint64_t id);
  void DropPending(Stream& stream, PendingRequest& pending);
  // A request that gets no answer any more.
  void EndPending(Connection& connection, Stream& stream, PendingRequest& pending, bool reset,
                  uint32_t ended);
  void EndAllPending(Connection& connection, Stream& stream, bool reset, uint32_t ended);
  bool Fits(MessageType type, Bytes message, uint32_t& known_fields) const;
  BatchCommand CommandOf(uint32_t number, bool request) const;
  PathCounts& SubCount(uint32_t number);

  const Schema& schema_;
  const GrpcOptions options_;
  Counters& counters_;
  CallWriter writer_;
  MethodDirectory methods_;
  BodyStore bodies_;
  FactsPool facts_;
  Pool<PendingRequest> pending_pool_;
  Pool<PendingRequests> pending_tables_{256};
  DetailLevel detail_ = DetailLevel::kFull;
  uint64_t sampled_ = 0;  // messages that the sample was taken of
  size_t pending_total_ = 0;
  std::map<Endpoint, ServerRoles> servers_;
  TimeNs next_expiry_;
  Decompressor decompressor_;
  BatchSplitter splitter_;
  HeldMessage scratch_;  // a message that is told at once
  static constexpr size_t kDirectCommands = 256;
  std::array<BatchCommand, kDirectCommands> request_commands_;
  std::array<BatchCommand, kDirectCommands> response_commands_;
  std::array<PathCounts, kDirectCommands> sub_counts_{};
  std::map<uint32_t, PathCounts> sub_counts_map_;  // numbers beyond, and what SubCounts returns
};

}  // namespace keytrail::grpc
