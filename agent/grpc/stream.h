// The state of one HTTP/2 stream and of its connection, as the gRPC room keeps it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/grpc/decompressor.h"
#include "agent/grpc/held_message.h"
#include "agent/grpc/message_assembler.h"
#include "agent/grpc/message_search.h"
#include "agent/grpc/method_directory.h"
#include "agent/grpc/nameless.h"
#include "agent/grpc/pending_requests.h"
#include "agent/http2/stream_events.h"

namespace keytrail::grpc {

// One direction of a stream.
struct StreamHalf {
  // Where the next byte stands within the messages.
  enum class Place : uint8_t {
    kKnown,
    kSearched,  // `search` looks for it
    kGivenUp,   // what follows cannot be read: the one message of a unary call is damaged
  };

  MessageAssembler assembler;
  std::unique_ptr<MessageSearch> search;
  TimeNs first;  // of anything of this direction, HEADERS included
  TimeNs last;
  uint64_t bytes = 0;  // of messages, without their prefixes
  uint64_t messages = 0;
  uint32_t losses = 0;  // that this direction had while the stream was open
  Place place = Place::kSearched;
  Encoding encoding = Encoding::kUnknown;
  bool headers_seen = false;
  bool at_frame_start = true;
  bool some_data = false;  // data was seen, or may have been lost
  bool ended = false;      // END_STREAM
  HeldMessage held;        // of a unary call, or of a stream of which nobody knows yet what it is
};

enum class Answer : uint8_t { kNotKnown, kYes, kNo };

struct Stream {
  uint32_t id = 0;
  Answer grpc = Answer::kNotKnown;
  // Of calls whose method nobody knows: a second message in one direction makes it a stream.
  bool is_stream = false;
  bool counted = false;  // in the path's counts
  bool headers_unreadable = false;
  bool forwarded = false;
  bool follower_allowed = false;
  bool foreign_coding = false;   // application/grpc+json and the like: names yes, contents no
  bool answer_not_grpc = false;  // a proxy's HTML and the like
  bool order_lost = false;       // QueryRegion after a loss: nobody knows which answer is next
  uint32_t incomplete = 0;       // Incomplete bits of the whole call
  uint32_t path_slot = 0;        // HeaderField::slot of a :path that is not known; else 0
  int grpc_status = -1;
  int http_status = -1;
  TimeNs last_message;                         // of either direction, or when something was lost
  uint64_t next_question = 0;                  // QueryRegion: questions are numbered in their order
  MethodEntry* entry = nullptr;                // null: the path is not known
  MethodFrom name_from = MethodFrom::kHeader;  // of `entry`
  uint32_t agreed = 0;                         // messages that fit an inferred name
  std::string grpc_message;
  std::unique_ptr<PendingRequests> pending;
  std::unique_ptr<NamelessStream> nameless;  // what waits for a name
  StreamHalf halves[2];                      // by tcp direction
  Stream* older = nullptr;                   // by creation, within the connection
  Stream* newer = nullptr;

  const Method* method() const { return entry == nullptr ? nullptr : entry->method; }
};

// What a request's header block says, remembered by HeaderBlock::identity.
struct RequestHeaders {
  uint64_t identity = 0;
  MethodEntry* entry = nullptr;
  uint32_t path_slot = 0;
  MethodEntry* former_entry = nullptr;  // HeaderBlock::former_path
  uint32_t former_slot = 0;
  Answer grpc = Answer::kNotKnown;
  Encoding encoding = Encoding::kUnknown;
  bool forwarded = false;
  bool follower_allowed = false;
  bool foreign_coding = false;
  bool path_over_cap = false;
  bool unreadable = false;
};

// Streams by id: open addressing, ids of a client are dense so that the low bits are a perfect hash.
class StreamTable {
 public:
  size_t size() const { return size_; }
  Stream* oldest() { return oldest_; }

  Stream* Find(uint32_t id) {
    if (size_ == 0) return nullptr;
    for (size_t at = Home(id);; at = (at + 1) & mask_) {
      if (table_[at] == nullptr) return nullptr;
      if (table_[at]->id == id) return table_[at].get();
    }
  }

  void Add(std::unique_ptr<Stream> stream);
  std::unique_ptr<Stream> Remove(Stream& stream);

 private:
  size_t Home(uint32_t id) const { return (id >> 1) & mask_; }

  std::vector<std::unique_ptr<Stream>> table_;
  size_t mask_ = 0;
  size_t size_ = 0;
  Stream* oldest_ = nullptr;
  Stream* newest_ = nullptr;
};

struct Connection {
  uint64_t serial = 0;
  const FlowKey* key = nullptr;
  bool open = false;
  bool from_start = false;
  int client_direction = -1;
  // Streams that were not opened before our eyes may exist above this id (all of them when joined late, none
  // when nothing was lost).
  uint32_t unseen_above = 0xFFFFFFFF;
  uint32_t highest_id = 0;
  uint32_t closed[16] = {};  // ids of the last streams that ended: a late frame of theirs opens nothing
  uint32_t closed_count = 0;
  Stream* last_used = nullptr;
  StreamTable streams;
  RequestHeaders remembered[4];
  // By HeaderField::slot of :path. A number is not used again when the table is lost.
  std::unordered_map<uint32_t, SlotName> slots;
  uint64_t slots_used = 0;  // how often: the clock of SlotName::used
  // What its named calls say of the server.
  ServerRoles roles = kAnyServer;
  bool waiting = false;  // something may wait for a name

  // The direction of requests; the lower endpoint's if nobody knows.
  int request_direction() const { return client_direction == 1 ? 1 : 0; }
};

}  // namespace keytrail::grpc
