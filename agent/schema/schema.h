// Methods and message types of TiDB's services, and the table-driven field walker over them.
//
// Built once from a FileDescriptorSet (the bundled one, a user's, or a user's .proto files), immutable and
// shared by threads afterwards. No protobuf type appears in this header. The walker makes one pass, does
// not allocate in the steady state, and never uses reflection; meanings ("this field is a region id") are
// bound by message and field NAME, so a user's own kvproto with other numbers works.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/call_record.h"
#include "common/result.h"

namespace keytrail {

namespace schema {
struct Tables;
}

using MessageType = int32_t;
inline constexpr MessageType kNoType = -1;

enum class MethodClass : uint8_t {
  kPlain,
  kBatchCommands,  // tikvpb.Tikv/BatchCommands: split by sub-command, paired by request id
  kQueryRegion,    // pdpb.PD/QueryRegion, routerpb.Router/QueryRegion: answer n belongs to question n
  kCountOnly,      // Tso and etcd: counted in the stream's (or call's) record unless asked for (--all)
};

struct Method {
  std::string path;  // "/tikvpb.Tikv/KvGet"
  MessageType request = kNoType;
  MessageType response = kNoType;
  bool client_stream = false;
  bool server_stream = false;
  MethodClass cls = MethodClass::kPlain;
  bool unary() const { return !client_stream && !server_stream; }
};

// One member of the oneof of BatchCommandsRequest.Request / BatchCommandsResponse.Response.
struct BatchCommand {
  std::string_view name;  // "Get"; empty: the schema does not know this number
  MessageType type = kNoType;
};

// How well bytes fit a message type: the evidence for naming a method by its messages. Serializers write
// known fields in ascending order, singular ones once, proto3 zeroes not at all, and one member of a oneof.
struct StrictResult {
  bool valid = false;              // a valid encoding, submessages included
  uint32_t fields = 0;             // all fields seen, in all submessages
  uint32_t known_fields = 0;       // of these, number and wire type as in the schema
  uint32_t unknown_fields = 0;     // numbers that the schema does not have
  uint32_t wrong_wire_types = 0;   // numbers that it has, with another wire type
  uint32_t repeated_singular = 0;  // singular fields seen again (numbers below 64)
  uint32_t out_of_order = 0;       // a number smaller than the one before it, outside a oneof (gogoproto
                                   // writes members of a oneof where it likes)
  uint32_t explicit_zeroes = 0;    // singular scalars outside a oneof written although zero or empty
  uint32_t oneof_conflicts = 0;    // a second member of a oneof
  uint32_t unknown_enums = 0;      // enum numbers without a name
  uint32_t bad_bools = 0;          // bools that are neither 0 nor 1
  uint32_t bad_strings = 0;        // strings that are not UTF-8
  bool too_deep = false;           // nested beyond limits::kMaxMessageDepth: what is below was not looked at
  // What the message is worth as evidence that it is of this type (agent/schema/plausible.h).
  int32_t bits = 0;
  uint32_t implausible = 0;     // values that the field never has, and fields that are never absent
  uint32_t unknown_at_top = 0;  // of unknown_fields, those of the message itself
  uint32_t anchors = 0;         // submessages that nothing else is like

  // A valid encoding of this type or of a newer version of it: nothing speaks against it but numbers that the
  // schema does not have, and zeroes (gogoproto writes fields of a type of its own even if they are empty, as
  // coprocessor.Response.data).
  bool fits() const {
    return valid && wrong_wire_types == 0 && repeated_singular == 0 && oneof_conflicts == 0 &&
           bad_bools == 0 && bad_strings == 0 && out_of_order == 0;
  }
};

class Schema {
 public:
  Schema();
  ~Schema();
  Schema(const Schema&) = delete;
  Schema& operator=(const Schema&) = delete;

  static Result<std::unique_ptr<Schema>> Bundled();
  // A folder with .proto files, or one that has such a folder named `proto` (kvproto's repository); imports
  // are also looked for in `include` in or beside it. Error: file, line, column and protoc's own words.
  // In both: packages that the user's files do not have (etcd, health, newer services) come from the bundled
  // schema, as far as the user's files have all that they refer to.
  static Result<std::unique_ptr<Schema>> FromProtoDir(const std::string& dir);
  static Result<std::unique_ptr<Schema>> FromDescriptorSet(const std::string& path);

  // Null if no service has it. The pointer lives as long as the schema.
  const Method* FindMethod(std::string_view path) const;
  size_t method_count() const;
  const Method& method(size_t i) const;

  BatchCommand FindBatchCommand(uint32_t oneof_number, bool request) const;

  // kNoType if unknown. Full name as in "kvrpcpb.GetRequest".
  MessageType FindMessage(std::string_view full_name) const;
  std::string_view MessageName(MessageType type) const;

  // Adds what `message` says to `facts` (which the caller has Reset). False if the bytes are no valid
  // encoding of the type (facts.parse_failed is set, what was read before the damage stays).
  bool Walk(MessageType type, Bytes message, MessageFacts& facts) const;

  // Looks into every submessage, unlike Walk; allocates nothing. kNoType: not valid.
  StrictResult Check(MessageType type, Bytes message) const;

  // protobuf text format on one line (single_line) or indented. Falls back on RawText for kNoType or
  // damage. For people: slow, allocates.
  std::string FullText(MessageType type, Bytes message, bool single_line) const;

  // For this room alone.
  const schema::Tables& tables() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The schema-less dump: "tag=1 struct" then its fields indented, "tag=2 varint=7", "tag=3 bytes=\"…\"",
// fixed32/fixed64. A length-delimited field is a struct if its bytes parse as fields to the end, else bytes.
std::string RawText(Bytes message, bool single_line);

}  // namespace keytrail
