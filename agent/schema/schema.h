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

using MessageType = int32_t;
inline constexpr MessageType kNoType = -1;

enum class MethodClass : uint8_t {
  kPlain,
  kBatchCommands,  // tikvpb.Tikv/BatchCommands: split by sub-command, paired by request id
  kQueryRegion,    // pdpb.PD/QueryRegion, routerpb.Router/QueryRegion: answer n belongs to question n
  kCountOnly,      // Tso and etcd: counted in the stream's (or call's) record unless asked for (--all)
};

struct Method {
  std::string path;      // "/tikvpb.Tikv/KvGet"
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

class Schema {
 public:
  Schema();
  ~Schema();
  Schema(const Schema&) = delete;
  Schema& operator=(const Schema&) = delete;

  static Result<std::unique_ptr<Schema>> Bundled();
  // Error: file, line and protoc's own words.
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

  // protobuf text format on one line (single_line) or indented. Falls back on RawText for kNoType or
  // damage. For people: slow, allocates.
  std::string FullText(MessageType type, Bytes message, bool single_line) const;

 private:
  struct Tables;
  std::unique_ptr<Tables> tables_;
};

// The schema-less dump: "tag=1 struct" then its fields indented, "tag=2 varint=7", "tag=3 bytes=\"…\"",
// fixed32/fixed64. A length-delimited field is a struct if its bytes parse as fields to the end, else bytes.
std::string RawText(Bytes message, bool single_line);

}  // namespace keytrail
