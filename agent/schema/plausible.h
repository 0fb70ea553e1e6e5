// What the fields of TiDB's messages can reasonably hold: the evidence by which a message is recognised whose
// method nobody named. Data, bound by name like meanings.h. Internal to this room.
//
// Every row has its reason beside it in plausible.cc; bits are a rough log2 of how seldom bytes of another
// message agree.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace keytrail::schema {

enum class Domain : uint8_t {
  kAny,
  kUint32,  // a varint of a 32-bit type: more bits are another message's
  kInt32,
  kTimestamp,  // a TSO timestamp: physical milliseconds << 18 | logical; also "the latest", 2^64-1
  kPhysicalMs,
  kId,        // allocated by PD, one by one
  kRandomId,  // drawn at random from 63 or 64 bits
  kClusterId,
};

// `message` empty: any message of packages kvrpcpb, coprocessor, pdpb. Fields that are not of a varint type
// are left alone.
struct DomainRow {
  std::string_view message;
  std::string_view field;
  Domain domain;
};
std::span<const DomainRow> Domains();

// A message that is never sent without these fields (all of `fields`, separated by spaces); complete and
// plausible it is worth `bits` more. anchor: it cannot be mistaken for anything else, and so says which
// system is speaking.
struct ShapeRow {
  std::string_view message;
  std::string_view fields;
  int bits;
  bool anchor;
  bool demanded = true;  // false: it also comes without them, and then is worth nothing
};
std::span<const ShapeRow> Shapes();

// A number that the answer repeats from the question: path in the request, path in the response (names
// separated by dots, all singular).
struct EchoRow {
  std::string_view method;  // full path; empty: every method that has both fields
  std::string_view request;
  std::string_view response;
};
std::span<const EchoRow> Echoes();

// What one of several methods with the same types always sends: if the message has all fields of `when`, it
// has those of `fields` too.
struct DemandRow {
  std::string_view method;  // full path
  bool response;
  std::string_view when;
  std::string_view fields;
};
std::span<const DemandRow> Demands();

bool IsPlausible(Domain domain, uint64_t value);
// What a plausible value is worth.
int BitsOf(Domain domain);

}  // namespace keytrail::schema
