// Naming by evidence: which method a call or stream is of which no :path was seen, from its messages alone.
//
// Every method of the schema is a candidate until its types refuse a message. What is left is weighed in bits
// (plausible.h, and the table in naming.cc with its reasons); a name is given only to a candidate that has
// enough of them, leads every other that is left by a margin, and has nothing implausible in any message.
// Methods that look alike stay unknown.
//
// Pure: the same calls in the same order give the same answer. One MethodEvidence is for one unknown thing: a
// slot of an HPACK table, or a stream. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "agent/schema/schema.h"

namespace keytrail {

// Which kind of server is spoken to, as far as it is known: bits. kNobody: contradictory.
using ServerRoles = uint16_t;
inline constexpr ServerRoles kAnyServer = 0xFFFF;
// The servers that offer this method's service.
ServerRoles RolesOfService(std::string_view path);
// By the default port (tidb-wire.md section 7); kAnyServer for others.
ServerRoles RolesOfPort(uint16_t port);

// A finished call with one message each way at most. Spans live during the call of Observe.
struct SeenCall {
  Bytes request;
  Bytes response;
  bool has_request = false;
  bool has_response = false;
};

class MethodEvidence {
 public:
  enum class Shape : uint8_t {
    kCall,    // a slot: whole calls are observed
    kStream,  // a stream: its messages are observed one by one
  };

  MethodEvidence(const Schema& schema, Shape shape);

  void Observe(const SeenCall& call);
  // One message of a stream; `is_response` as far as the caller knows who is the client.
  void Observe(bool is_response, Bytes message);

  // Null: not proved. `roles`: what is known of the server besides.
  const Method* Proved(ServerRoles roles) const;
  // Is it `method`, of which it is likely already (an HPACK entry of the same place before a loss)? One whole
  // call that fits it is enough, unless one that is `known` to be spoken here fits as well, or any other much
  // better.
  bool Confirms(const Method& method, ServerRoles roles,
                const std::function<bool(const Method&)>& known) const;
  // What it may still be, best first, at most `most` of them. Empty if all are refuted, or too many are left
  // for the list to say anything.
  std::vector<const Method*> Candidates(ServerRoles roles, size_t most) const;
  // Nothing of the schema fits: more messages will not help.
  bool refuted() const { return observed_ != 0 && candidates_.empty(); }
  uint32_t observed() const { return observed_; }

 private:
  struct Candidate {
    const Method* method = nullptr;
    int32_t bits = 0;
    bool implausible = false;  // never seen like this: it is not named, but stands in the way of others
    bool anchored = false;
  };
  struct Weighed {
    bool known = false;
    StrictResult result;
  };

  const StrictResult& Weigh(MessageType type, Bytes message, std::vector<Weighed>& memo) const;
  void Doubt(Candidate& candidate) const;
  bool Add(Candidate& candidate, const StrictResult& result) const;
  void Place(const SeenCall& call);
  bool IsNoPrevious() const;
  bool Relate(Candidate& candidate, const SeenCall& call) const;

  const Schema& schema_;
  Shape shape_;
  uint32_t observed_ = 0;
  uint32_t whole_calls_ = 0;       // with both messages
  uint32_t messages_[2] = {0, 0};  // of a stream: requests, responses
  struct {
    uint32_t before = 0, holding = 0, after = 0;
  } placed_;  // answers that are one region, against the key that was asked for
  std::vector<Candidate> candidates_;
};

// Does a message that came under an inferred name contradict it?
bool Contradicts(const Schema& schema, MessageType type, Bytes message);

}  // namespace keytrail
