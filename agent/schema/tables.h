// The compiled form of a schema: for each message, what the walker does at each field number.
//
// Built once from a FileDescriptorSet and the meanings (agent/schema/meanings.h), then immutable: threads may
// share it. Internal to this room. A table belongs to a message and a role: the same metapb.Peer is a
// region's peer in one place and an error's new leader in another, so each place has a table of its own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/schema/meanings.h"
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

struct Field {
  Action action = Action::kSkip;
  uint8_t wire = 0;  // wire::Type that `action` reads
  ValueType type = ValueType::kUnknown;
  bool repeated = false;
  bool packable = false;     // a repeated scalar: also accepted as one length-delimited value
  uint8_t oneof = 0;         // 1-based within the message; 0: none
  uint8_t slot = 0;          // of a singular object: which one of its frame
  uint16_t arg = 0;          // of `action`
  int32_t child = -1;        // table that the action descends with
  int32_t plain_child = -1;  // table of the message type without a role; of an enum: index in `enums`

  bool known() const { return type != ValueType::kUnknown; }
};

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
};

struct SparseField {
  uint32_t number = 0;
  Field field;
};

struct MessageName {
  std::string full_name;
  int32_t plain_table = -1;
};

struct Tables {
  std::vector<MessageTable> tables;
  std::vector<Field> fields;
  std::vector<SparseField> sparse_fields;
  std::vector<MessageName> messages;
  std::vector<std::vector<int32_t>> enums;                         // sorted numbers
  std::unordered_map<std::string_view, uint32_t> message_by_name;  // into `messages`
  std::vector<Method> methods;
  std::unordered_map<std::string_view, uint32_t> method_by_path;
  std::vector<BatchCommand> request_commands;  // by oneof number
  std::vector<BatchCommand> response_commands;
  std::vector<std::string> command_names;  // owns the names in the two above

  const Field* Find(const MessageTable& table, uint32_t number) const {
    if (number < table.dense) return &fields[table.first + number];
    if (table.sparse_count == 0) return nullptr;
    return FindSparse(table, number);
  }
  const Field* FindSparse(const MessageTable& table, uint32_t number) const;
};

// Types that a field refers to and that the set does not define count as bytes; methods with such types are
// left out.
void BuildTables(const google::protobuf::FileDescriptorSet& set, Tables& tables);

}  // namespace keytrail::schema
