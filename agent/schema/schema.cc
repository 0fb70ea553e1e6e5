#include "agent/schema/schema.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/descriptor.pb.h>

#include "agent/schema/descriptor_source.h"
#include "agent/schema/full_text.h"
#include "agent/schema/strict_check.h"
#include "agent/schema/tables.h"
#include "agent/schema/walker.h"

namespace keytrail {

namespace pb = google::protobuf;

struct Schema::State {
  schema::Tables tables;
  std::unique_ptr<schema::TextPrinter> printer;

  bool Has(MessageType type) const { return type >= 0 && static_cast<size_t>(type) < tables.tables.size(); }
  const schema::MessageName& MessageOf(MessageType type) const {
    return tables.messages[tables.tables[static_cast<size_t>(type)].message];
  }
};

Schema::Schema() : state_(std::make_unique<State>()) {}
Schema::~Schema() = default;

Result<std::unique_ptr<Schema>> Schema::Bundled() {
  auto made = std::make_unique<Schema>();
  pb::Arena arena;
  auto& set = *pb::Arena::CreateMessage<pb::FileDescriptorSet>(&arena);
  const Status read = schema::ReadBundled(set);
  if (!read) return Error{read.error()};
  schema::BuildTables(set, made->state_->tables);
  made->state_->printer = std::make_unique<schema::TextPrinter>("");
  return made;
}

Result<std::unique_ptr<Schema>> Schema::FromProtoDir(const std::string& dir) {
  auto made = std::make_unique<Schema>();
  pb::FileDescriptorSet set;
  const Status read = schema::ReadProtoDir(dir, set);
  if (!read) return Error{read.error()};
  schema::BuildTables(set, made->state_->tables);
  made->state_->printer = std::make_unique<schema::TextPrinter>(set.SerializeAsString());
  return made;
}

Result<std::unique_ptr<Schema>> Schema::FromDescriptorSet(const std::string& path) {
  auto made = std::make_unique<Schema>();
  pb::FileDescriptorSet set;
  const Status read = schema::ReadDescriptorSet(path, set);
  if (!read) return Error{read.error()};
  schema::BuildTables(set, made->state_->tables);
  made->state_->printer = std::make_unique<schema::TextPrinter>(set.SerializeAsString());
  return made;
}

const Method* Schema::FindMethod(std::string_view path) const {
  const auto it = state_->tables.method_by_path.find(path);
  return it == state_->tables.method_by_path.end() ? nullptr : &state_->tables.methods[it->second];
}

size_t Schema::method_count() const {
  return state_->tables.methods.size();
}
const Method& Schema::method(size_t i) const {
  return state_->tables.methods[i];
}

BatchCommand Schema::FindBatchCommand(uint32_t oneof_number, bool request) const {
  const auto& commands = request ? state_->tables.request_commands : state_->tables.response_commands;
  return oneof_number < commands.size() ? commands[oneof_number] : BatchCommand{};
}

MessageType Schema::FindMessage(std::string_view full_name) const {
  const auto it = state_->tables.message_by_name.find(full_name);
  return it == state_->tables.message_by_name.end() ? kNoType
                                                    : state_->tables.messages[it->second].plain_table;
}

std::string_view Schema::MessageName(MessageType type) const {
  return state_->Has(type) ? std::string_view(state_->MessageOf(type).full_name) : std::string_view{};
}

bool Schema::Walk(MessageType type, Bytes message, MessageFacts& facts) const {
  if (!state_->Has(type)) {
    facts.parse_failed = true;
    return false;
  }
  const schema::Tables& tables = state_->tables;
  return schema::WalkMessage(tables, tables.tables[static_cast<size_t>(type)], message, facts);
}

StrictResult Schema::Check(MessageType type, Bytes message) const {
  if (!state_->Has(type)) return {};
  return schema::CheckMessage(state_->tables, state_->MessageOf(type).plain_table, message);
}

const schema::Tables& Schema::tables() const {
  return state_->tables;
}

std::string Schema::FullText(MessageType type, Bytes message, bool single_line) const {
  std::string text;
  if (state_->Has(type) &&
      state_->printer->Print(state_->MessageOf(type).full_name, message, single_line, text)) {
    return text;
  }
  return RawText(message, single_line);
}

}  // namespace keytrail
