#include "agent/schema/naming.h"

#include <algorithm>
#include <bit>

#include "agent/schema/plausible.h"
#include "agent/schema/tables.h"
#include "agent/schema/wire_cursor.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// The bar. A wrong name is worth more than a hundred missing ones, so it is high.
//
// What a name needs in all. A routed request is worth 60 with its Context alone, a question to PD with its
// answer 40; two calls of the poorest method that has a shape of its own pass.
constexpr int kEnoughBits = 48;
// Ahead of every other candidate: a submessage with three fields of its own that the other reads as opaque
// bytes, or one value that the other never has.
constexpr int kMargin = 16;
// One call may be a chance, or one of a newer method that looks like an old one just this time.
constexpr uint32_t kEnoughCalls = 2;
// ... unless it is so rich that nothing else is left at all.
constexpr int kEnoughBitsOfOne = 96;
// Streams are judged by messages; a BatchCommands message of one command has more than this.
constexpr int kEnoughBitsOfStream = 64;
// Bits are added up for this many calls or messages only: more of the same prove little more.
constexpr uint32_t kCountedCalls = 4;
constexpr uint32_t kCountedMessages = 8;
// After so many calls with one message each way, all ended well, it is no method of a stream: those stay open
// or have several messages.
constexpr uint32_t kEnoughUnaryCalls = 3;
// Health checks have nothing but their poverty: an empty question, and the number 1 as the answer.
constexpr uint32_t kEnoughHealthChecks = 4;

// A message like which the method never has one (its plausible.cc row is broken, or the schema is older than
// it): the candidate is not named any more, and counts so much less as a rival.
constexpr int kDoubtBits = 24;
constexpr int kEchoBits = 12;
constexpr int kContainsBits = 4;
// Answers that lie where GetPrevRegion's never lie.
constexpr uint32_t kEnoughPlaced = 2;

constexpr ServerRoles kPd = 1, kTikv = 2, kTidb = 4, kTiflash = 8, kTso = 16, kScheduling = 32,
                      kResource = 64, kRouter = 128, kCdc = 256;

struct ServiceRoles {
  std::string_view service;
  ServerRoles roles;
};
// Source: the ports of tidb-wire.md section 7 and what is registered there. PD offers etcd's services on its
// own port; resource manager, TSO, scheduling and router also run as servers of their own.
constexpr ServiceRoles kServices[] = {
    {"/pdpb.PD/", kPd},
    {"/etcdserverpb.", kPd},
    {"/v3electionpb.", kPd},
    {"/v3lockpb.", kPd},
    {"/keyspacepb.", kPd},
    {"/gcpb.", kPd},
    {"/meta_storagepb.", kPd | kResource},
    {"/resource_manager.", kPd | kResource},
    {"/tsopb.TSO/", kTso},
    {"/schedulingpb.", kScheduling},
    {"/routerpb.", kRouter},
    {"/tikvpb.Tikv/", kTikv | kTidb | kTiflash},
    {"/tikvpb.VersionedKv/", kTikv},
    {"/debugpb.", kTikv | kTiflash},
    {"/import_sstpb.", kTikv | kTiflash},
    {"/cdcpb.", kTikv | kCdc},
    {"/backup.", kTikv},
    {"/logbackup.", kTikv},
    {"/deadlock.", kTikv},
    {"/recover_data.", kTikv},
    {"/raft_serverpb.", kTikv | kTiflash},
    {"/enginepb.", kTiflash},
    {"/autoid.", kTidb},
    {"/configpb.", kPd},
};

constexpr std::string_view kHealthCheck = "/grpc.health.v1.Health/Check";

// Calls f(number, wire type, varint, content) for the fields at the top of a valid message.
template <typename F>
void ForEachField(Bytes message, F&& f) {
  const uint8_t* p = message.data();
  const uint8_t* const end = p + message.size();
  while (p < end) {
    uint32_t tag;
    p = wire::ReadTag(p, end, tag);
    if (p == nullptr) return;
    uint64_t value = 0;
    Bytes content;
    const uint8_t* const at = p;
    p = wire::SkipValue(p, end, tag, limits::kMaxMessageDepth);
    if (p == nullptr) return;
    if ((tag & 7) == wire::kVarint) wire::ReadVarint(at, end, value);
    if ((tag & 7) == wire::kLen) {
      uint32_t length;
      const uint8_t* const begin = wire::ReadLength(at, end, length);
      content = Bytes(begin, length);
    }
    f(tag >> 3, tag & 7, value, content);
  }
}

// The number at `path` (field numbers, 0 at the end) of a valid message; 0 if it is not there.
uint64_t NumberAt(Bytes message, std::span<const uint32_t> path) {
  uint64_t found = 0;
  ForEachField(message, [&](uint32_t number, uint32_t type, uint64_t value, Bytes content) {
    if (number != path[0]) return;
    if (path[1] == 0) {
      if (type == wire::kVarint) found = value;
    } else if (type == wire::kLen) {
      found = NumberAt(content, path.subspan(1));
    }
  });
  return found;
}

uint64_t FieldsOf(Bytes message) {
  uint64_t mask = 0;
  ForEachField(message, [&](uint32_t number, uint32_t, uint64_t, Bytes) {
    if (number < 64) mask |= uint64_t{1} << number;
  });
  return mask;
}

bool NameIs(std::string_view path, std::string_view method) {
  return path.ends_with(method) && path.size() > method.size() &&
         path[path.size() - method.size() - 1] == '/';
}

}  // namespace

ServerRoles RolesOfService(std::string_view path) {
  for (const ServiceRoles& row : kServices) {
    if (path.starts_with(row.service)) return row.roles;
  }
  return kAnyServer;
}

ServerRoles RolesOfPort(uint16_t port) {
  switch (port) {
    case 2379:
      return kPd;
    case 20160:
      return kTikv;
    case 10080:
      return kTidb;
    case 3930:
      return kTiflash;
    default:
      return kAnyServer;
  }
}

bool Contradicts(const Schema& schema, MessageType type, Bytes message) {
  return !schema.Check(type, message).fits();
}

MethodEvidence::MethodEvidence(const Schema& schema, Shape shape) : schema_(schema), shape_(shape) {
  candidates_.reserve(schema.method_count());
  for (size_t i = 0; i < schema.method_count(); ++i) {
    const Method& method = schema.method(i);
    candidates_.push_back(Candidate{&method, 0, false, false});
  }
}

const StrictResult& MethodEvidence::Weigh(MessageType type, Bytes message, std::vector<Weighed>& memo) const {
  const size_t at = static_cast<size_t>(type);
  if (memo.size() <= at) memo.resize(at + 1);
  if (!memo[at].known) {
    memo[at].known = true;
    memo[at].result = schema_.Check(type, message);
  }
  return memo[at].result;
}

void MethodEvidence::Doubt(Candidate& candidate) const {
  candidate.implausible = true;
  const uint32_t counted = shape_ == Shape::kCall ? kCountedCalls : kCountedMessages;
  if (observed_ <= counted) candidate.bits -= kDoubtBits;
}

bool MethodEvidence::Add(Candidate& candidate, const StrictResult& result) const {
  if (!result.fits()) return false;
  const uint32_t counted = shape_ == Shape::kCall ? kCountedCalls : kCountedMessages;
  if (observed_ <= counted) candidate.bits += result.bits;
  if (result.implausible != 0 || result.unknown_at_top != 0) Doubt(candidate);
  candidate.anchored |= result.anchors != 0;
  return true;
}

void MethodEvidence::Observe(const SeenCall& call) {
  if (!call.has_request && !call.has_response) return;
  ++observed_;
  if (call.has_request && call.has_response) ++whole_calls_;
  Place(call);
  std::vector<Weighed> requests, responses;
  std::erase_if(candidates_, [&](Candidate& candidate) {
    const Method& method = *candidate.method;
    if (!method.unary() && whole_calls_ >= kEnoughUnaryCalls) return true;
    if (call.has_request && !Add(candidate, Weigh(method.request, call.request, requests))) return true;
    if (call.has_response && !Add(candidate, Weigh(method.response, call.response, responses))) return true;
    return call.has_request && call.has_response && !Relate(candidate, call);
  });
}

void MethodEvidence::Observe(bool is_response, Bytes message) {
  ++observed_;
  ++messages_[is_response];
  std::vector<Weighed> memo;
  std::erase_if(candidates_, [&](Candidate& candidate) {
    const Method& method = *candidate.method;
    if (messages_[0] > 1 && !method.client_stream) return true;
    if (messages_[1] > 1 && !method.server_stream) return true;
    return !Add(candidate, Weigh(is_response ? method.response : method.request, message, memo));
  });
}

// GetRegion asks for the region that holds a key, GetPrevRegion for the one before it, in the same words:
// where do the answers lie?
void MethodEvidence::Place(const SeenCall& call) {
  const Method* method = nullptr;
  for (const Candidate& candidate : candidates_) {
    if (NameIs(candidate.method->path, "GetPrevRegion")) method = candidate.method;
  }
  if (method == nullptr || !call.has_request || !call.has_response) return;
  MessageFacts question, answer;
  if (!schema_.Walk(method->request, call.request, question) ||
      !schema_.Walk(method->response, call.response, answer) || question.keys.empty() ||
      answer.statements.empty()) {
    return;
  }
  const Bytes key = question.keys[0].start;
  const RegionStatement& region = answer.statements[0];
  if (CompareBytes(key, region.start) < 0) {
    ++placed_.after;
  } else if (region.end.empty() || CompareBytes(key, region.end) < 0) {
    ++placed_.holding;
  } else {
    ++placed_.before;
  }
}

// A PD that is wrong may answer either with anything, so one answer is not enough; and answers of which some
// lie before the key may be GetPrevRegion's with others that are too wide.
bool MethodEvidence::IsNoPrevious() const {
  if (placed_.before == 0) return placed_.holding + placed_.after >= kEnoughPlaced;
  return placed_.after > kEnoughPlaced && placed_.holding + placed_.after >= placed_.before;
}

// What question and answer say together. False: refuted.
bool MethodEvidence::Relate(Candidate& candidate, const SeenCall& call) const {
  const Method& method = *candidate.method;
  for (const schema::Tables::Echo& echo : schema_.tables().echoes) {
    if (&schema_.method(echo.method) != &method) continue;
    const uint64_t asked = NumberAt(call.request, echo.request);
    const uint64_t answered = NumberAt(call.response, echo.response);
    if (asked == 0 || answered == 0) continue;
    if (asked != answered) return false;
    // Small numbers agree by chance: 1 is a store, and it is `true`.
    const int bits = std::min(static_cast<int>(std::bit_width(asked)), kEchoBits);
    if (observed_ <= kCountedCalls) candidate.bits += bits;
    candidate.anchored |= bits == kEchoBits;
  }
  if (NameIs(method.path, "GetPrevRegion")) {
    if (IsNoPrevious()) return false;
    // Nothing says that it is this one, and not GetRegion with answers that are too narrow.
    candidate.implausible = true;
  } else if (NameIs(method.path, "GetRegion") && placed_.holding != 0 && observed_ <= kCountedCalls) {
    candidate.bits += kContainsBits;
  }
  for (const schema::Tables::Demand& demand : schema_.tables().demands) {
    if (&schema_.method(demand.method) != &method) continue;
    const uint64_t fields = FieldsOf(demand.response ? call.response : call.request);
    if ((demand.when & ~fields) == 0 && (demand.fields & ~fields) != 0) Doubt(candidate);
  }
  return true;
}

const Method* MethodEvidence::Proved(ServerRoles roles) const {
  if (observed_ == 0 || candidates_.empty()) return nullptr;
  const Candidate* best = nullptr;
  const Candidate* second = nullptr;
  for (const Candidate& candidate : candidates_) {
    if ((RolesOfService(candidate.method->path) & roles) == 0) continue;
    if (best == nullptr || candidate.bits > best->bits) {
      second = best;
      best = &candidate;
    } else if (second == nullptr || candidate.bits > second->bits) {
      second = &candidate;
    }
  }
  if (best == nullptr || best->implausible) return nullptr;
  if (second != nullptr && best->bits - second->bits < kMargin) return nullptr;
  if (best->method->path == kHealthCheck) {
    return roles != kAnyServer && whole_calls_ >= kEnoughHealthChecks ? best->method : nullptr;
  }
  if (!best->anchored) return nullptr;
  if (shape_ == Shape::kStream) {
    const bool streams =
        messages_[0] > 1 || messages_[1] > 1 || (best->method->client_stream && second == nullptr);
    return streams && best->bits >= kEnoughBitsOfStream ? best->method : nullptr;
  }
  if (whole_calls_ == 0) return nullptr;
  if (whole_calls_ < kEnoughCalls && (second != nullptr || best->bits < kEnoughBitsOfOne)) return nullptr;
  return best->bits >= kEnoughBits ? best->method : nullptr;
}

bool MethodEvidence::Confirms(const Method& method, ServerRoles roles,
                              const std::function<bool(const Method&)>& known) const {
  if (whole_calls_ == 0) return false;
  const auto it = std::find_if(candidates_.begin(), candidates_.end(),
                               [&](const Candidate& c) { return c.method == &method; });
  if (it == candidates_.end() || it->implausible || (RolesOfService(method.path) & roles) == 0) return false;
  for (const Candidate& rival : candidates_) {
    if (rival.method == &method || (RolesOfService(rival.method->path) & roles) == 0) continue;
    const int lead = it->bits - rival.bits;
    if (lead <= -kMargin || (lead < kMargin && known(*rival.method))) return false;
  }
  return true;
}

std::vector<const Method*> MethodEvidence::Candidates(ServerRoles roles, size_t most) const {
  std::vector<const Candidate*> left;
  for (const Candidate& candidate : candidates_) {
    if (!candidate.implausible && (RolesOfService(candidate.method->path) & roles) != 0) {
      left.push_back(&candidate);
    }
  }
  if (observed_ == 0 || left.size() > most) return {};
  std::stable_sort(left.begin(), left.end(),
                   [](const Candidate* a, const Candidate* b) { return a->bits > b->bits; });
  std::vector<const Method*> methods;
  for (const Candidate* candidate : left) methods.push_back(candidate->method);
  return methods;
}

}  // namespace keytrail
