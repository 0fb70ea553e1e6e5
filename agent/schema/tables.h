// The compiled form of a schema: for each message, what the walker does at each field number.
//
// Built once from a FileDescriptorSet and the meanings (agent/schema/meanings.h), then immutable: threads may
// share it. Internal to this room. A table belongs to a message and a role: the same metapb.Peer is a
// region's peer in one place and an error's new leader in another, so each place has a table of its own.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/schema/meanings.h"
#include "agent/schema/plausible.h"
#include "agent/schema/schema.h"

namespace google::protobuf {
class FileDescriptorSet;
}

namespace keytrail::schema {

// How a field's value is encoded, as far as the walker and the strict check tell apart.
enum class ValueType : uint8_t {
  kUnknown,
  kVarint,
  kBool,
  kEnum,
  kFixed32,
  kFixed64,
  kBytes,
  kString,
  kMessage
};

// Which object a plain number is stored into (MessageFacts or the current one of its kind).
enum class Target : uint8_t { kFacts, kRoute, kStatement, kPeer, kError, kCount };

// How the walker handles one field. 16 bytes, so that an index is a shift.
struct Field {
  Action action = Action::kSkip;
  uint8_t wire = 0;  // wire::Type that `action` reads
  ValueType type = ValueType::kUnknown;
  bool repeated : 1 = false;
  bool packable : 1 = false;       // a repeated scalar: also accepted as one length-delimited value
  uint8_t oneof = 0;               // 1-based within the message; 0: none
  uint8_t slot = 0;                // of a singular object: which one of its frame
  Target target = Target::kFacts;  // of kStore64, kStore32, kStoreFlag
  uint16_t arg = 0;                // of `action`; of a store: offset in the target
  int32_t child = -1;              // table that the action descends with

  bool known() const { return type != ValueType::kUnknown; }
};
static_assert(sizeof(Field) == 16);

inline constexpr uint32_t kDenseFields = 64;

struct MessageTable {
  uint32_t first = 0;  // dense fields: fields[first + number], number < dense
  uint32_t dense = 0;
  uint32_t sparse = 0;  // fields with larger numbers: sparse_fields[sparse .. sparse + sparse_count)
  uint32_t sparse_count = 0;
  uint16_t ops = 0;         // Op bits
  bool own_frame = false;   // keys, routes and errors in it belong to it and not to its parent
  bool meaningful = false;  // it or something in it has a meaning
  Role role = Role::kPlain;
  uint32_t message = 0;  // index in `messages`
  // Of the plain table: the message's ShapeRow.
  uint64_t required = 0;  // bits of field numbers below 64
  bool demanded = false;  // they are never absent
  int16_t shape_bits = 0;
  bool anchor = false;
};

struct SparseField {
  uint32_t number = 0;
  int32_t plain_child = -1;
  Domain domain = Domain::kAny;
  Field field;
};

struct MessageName {
  std::string full_name;
  int32_t plain_table = -1;
};

struct Tables {
  std::vector<MessageTable> tables;
  std::vector<Field> fields;
  // Beside `fields`: the table of the message type in no particular role, or of an enum its index in `enums`.
  std::vector<int32_t> plain_children;
  std::vector<Domain> domains;  // beside `fields`
  std::vector<SparseField> sparse_fields;
  std::vector<MessageName> messages;
  std::vector<std::vector<int32_t>> enums;                         // sorted numbers
  std::unordered_map<std::string_view, uint32_t> message_by_name;  // into `messages`
  std::vector<Method> methods;
  std::unordered_map<std::string_view, uint32_t> method_by_path;
  std::vector<BatchCommand> request_commands;  // by oneof number
  std::vector<BatchCommand> response_commands;
  std::vector<std::string> command_names;  // owns the names in the two above
  // A number that both messages of a method repeat: field numbers down to it, 0 at the end.
  struct Echo {
    uint32_t method = 0;
    std::array<uint32_t, 4> request{};
    std::array<uint32_t, 4> response{};
  };
  std::vector<Echo> echoes;
  // DemandRow, as bits of field numbers.
  struct Demand {
    uint32_t method = 0;
    bool response = false;
    uint64_t when = 0;
    uint64_t fields = 0;
  };
  std::vector<Demand> demands;

  // Null if there is none with this number.
  const SparseField* FindSparse(const MessageTable& table, uint32_t number) const;
};

// Types that a field refers to and that the set does not define count as bytes; methods with such types are
// left out.
void BuildTables(const google::protobuf::FileDescriptorSet& set, Tables& tables);

}  // namespace keytrail::schema
