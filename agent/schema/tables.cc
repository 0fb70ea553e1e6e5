#include "agent/schema/tables.h"

#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <functional>

#include "agent/schema/wire_cursor.h"
#include "common/call_record.h"

namespace keytrail::schema {

namespace {

namespace pb = google::protobuf;

constexpr uint8_t kErrorSlots = 4;
constexpr uint8_t kStatementSlots = 2;
constexpr uint8_t kNoSlot = 0xFF;
// BatchCommands numbers are below 1,200 in every release; a table for more is not worth its memory.
constexpr uint32_t kMaxCommandNumber = 4096;

uint64_t TableKey(int32_t message, Role role) {
  return static_cast<uint64_t>(message) << 8 | static_cast<uint64_t>(role);
}

struct EncodingOfType {
  ValueType type;
  uint8_t wire;
  bool plain_number;  // the varint is the number itself (no zigzag)
};

EncodingOfType EncodingOf(pb::FieldDescriptorProto::Type type) {
  using F = pb::FieldDescriptorProto;
  switch (type) {
    case F::TYPE_INT32:
    case F::TYPE_INT64:
    case F::TYPE_UINT32:
    case F::TYPE_UINT64:
      return {ValueType::kVarint, wire::kVarint, true};
    case F::TYPE_SINT32:
    case F::TYPE_SINT64:
      return {ValueType::kVarint, wire::kVarint, false};
    case F::TYPE_BOOL:
      return {ValueType::kBool, wire::kVarint, true};
    case F::TYPE_ENUM:
      return {ValueType::kEnum, wire::kVarint, true};
    case F::TYPE_DOUBLE:
    case F::TYPE_FIXED64:
    case F::TYPE_SFIXED64:
      return {ValueType::kFixed64, wire::kFixed64, false};
    case F::TYPE_FLOAT:
    case F::TYPE_FIXED32:
    case F::TYPE_SFIXED32:
      return {ValueType::kFixed32, wire::kFixed32, false};
    case F::TYPE_STRING:
      return {ValueType::kString, wire::kLen, false};
    case F::TYPE_MESSAGE:
      return {ValueType::kMessage, wire::kLen, false};
    case F::TYPE_BYTES:
      return {ValueType::kBytes, wire::kLen, false};
    case F::TYPE_GROUP:
      break;
  }
  return {ValueType::kBytes, wire::kStartGroup, false};
}

// Which kind of field an action can read.
bool CanRead(Action action, const Field& field, bool plain_number) {
  switch (action) {
    case Action::kSkip:
      return true;
    case Action::kAddId:
      return plain_number;
    case Action::kFactNumber:
    case Action::kFactFlag:
    case Action::kFactLimit:
    case Action::kStmtNumber:
    case Action::kRouteNumber:
    case Action::kRouteNumber32:
    case Action::kRouteFlag:
    case Action::kStatementNumber:
    case Action::kPeerNumber:
    case Action::kErrorNumber:
    case Action::kErrorNumber32:
    case Action::kFrameNumber:
    case Action::kFrameReverse:
      return plain_number && !field.repeated;
    case Action::kKey:
    case Action::kValue:
      return (field.type == ValueType::kBytes || field.type == ValueType::kString) &&
             field.wire == wire::kLen;
    case Action::kFactBytes:
    case Action::kFactText:
    case Action::kRangeStart:
    case Action::kRangeEnd:
    case Action::kItemStart:
    case Action::kItemEnd:
    case Action::kStatementStart:
    case Action::kStatementEnd:
    case Action::kErrorKey:
    case Action::kErrorStart:
    case Action::kErrorEnd:
    case Action::kErrorText:
    case Action::kErrorTextKind:
    case Action::kStringError:
      return (field.type == ValueType::kBytes || field.type == ValueType::kString) &&
             field.wire == wire::kLen && !field.repeated;
    case Action::kEnter:
    case Action::kEnterRoute:
    case Action::kEnterItem:
    case Action::kEnterPair:
    case Action::kEnterStatement:
    case Action::kEnterPeer:
    case Action::kEnterLeader:
    case Action::kEnterLeaderItem:
    case Action::kEnterEpoch:
    case Action::kEnterKeyspace:
    case Action::kEnterError:
    case Action::kEnterErrorKind:
      return field.type == ValueType::kMessage;
    default:
      return false;
  }
}

bool NeedsOwnFrame(Action action) {
  switch (action) {
    case Action::kAddId:
    case Action::kKey:
    case Action::kRangeStart:
    case Action::kRangeEnd:
    case Action::kFrameReverse:
    case Action::kStringError:
    case Action::kEnterItem:
    case Action::kEnterRoute:
    case Action::kEnterStatement:
    case Action::kEnterLeader:
    case Action::kEnterLeaderItem:
    case Action::kEnterError:
      return true;
    default:
      return false;
  }
}

uint16_t OpsOf(const Meaning& meaning) {
  const uint16_t encoded = (meaning.arg & kEncodedKey) != 0 ? kOpEncoded : 0;
  switch (meaning.action) {
    case Action::kRangeStart:
    case Action::kRangeEnd:
      return kOpRange | encoded;
    case Action::kKey:
      return encoded | ((meaning.arg & kPreviousKey) != 0 ? kOpPrevious : 0);
    case Action::kFrameReverse:
      return kOpReverse;
    case Action::kEnterLeader:
      return kOpLeader;
    case Action::kMessageIsRaw:
      return kOpRaw;
    case Action::kMessageIsPoint:
      return kOpPoint;
    case Action::kMessageHasTaskId:
      return kOpTaskId;
    case Action::kMessageDropsPairs:
      return kOpDropPairs;
    case Action::kMessageDropsSplits:
      return kOpDropSplits;
    default:
      return 0;
  }
}

template <typename Object, typename Member>
uint16_t OffsetOf(Member Object::*member) {
  static const Object kObject{};
  return static_cast<uint16_t>(reinterpret_cast<const char*>(&(kObject.*member)) -
                               reinterpret_cast<const char*>(&kObject));
}

void Store(Field& field, Action how, Target target, uint16_t offset) {
  field.action = how;
  field.target = target;
  field.arg = offset;
}

// Turns the actions that only put a number somewhere into stores. Arrays stand in the order of the enums in
// meanings.h.
void MakeStore(Field& field) {
  static const uint16_t kFacts[] = {
      OffsetOf(&MessageFacts::cluster_id), OffsetOf(&MessageFacts::start_ts),
      OffsetOf(&MessageFacts::commit_ts),  OffsetOf(&MessageFacts::connection_id),
      OffsetOf(&MessageFacts::task_id),    OffsetOf(&MessageFacts::store_id)};
  static const uint16_t kFactFlags[] = {OffsetOf(&MessageFacts::not_found),
                                        OffsetOf(&MessageFacts::contain_all_key_range)};
  static const uint16_t kRoutes[] = {OffsetOf(&Route::region_id),      OffsetOf(&Route::conf_ver),
                                     OffsetOf(&Route::version),        OffsetOf(&Route::peer_id),
                                     OffsetOf(&Route::store_id),       OffsetOf(&Route::task_id),
                                     OffsetOf(&Route::buckets_version)};
  static const uint16_t kRoutes32[] = {OffsetOf(&Route::api_version), OffsetOf(&Route::keyspace_id)};
  static const uint16_t kRouteFlags[] = {OffsetOf(&Route::replica_read), OffsetOf(&Route::stale_read),
                                         OffsetOf(&Route::is_retry)};
  using S = RegionStatement;
  static const uint16_t kStatements[] = {OffsetOf(&S::region_id), OffsetOf(&S::conf_ver),
                                         OffsetOf(&S::version), OffsetOf(&S::leader_peer_id),
                                         OffsetOf(&S::leader_store_id)};
  static const uint16_t kPeers[] = {OffsetOf(&S::Peer::id), OffsetOf(&S::Peer::store_id),
                                    OffsetOf(&S::Peer::role)};
  using E = ErrorFact;
  static const uint16_t kErrors[] = {OffsetOf(&E::region_id), OffsetOf(&E::leader_peer_id),
                                     OffsetOf(&E::leader_store_id), OffsetOf(&E::request_store_id),
                                     OffsetOf(&E::actual_store_id)};
  const uint16_t arg = field.arg;
  switch (field.action) {
    case Action::kFactNumber:
      return Store(field, Action::kStore64, Target::kFacts, kFacts[arg]);
    case Action::kFactFlag:
      return Store(field, Action::kStoreFlag, Target::kFacts, kFactFlags[arg]);
    case Action::kRouteNumber:
      return Store(field, Action::kStore64, Target::kRoute, kRoutes[arg]);
    case Action::kRouteNumber32:
      return Store(field, Action::kStore32, Target::kRoute, kRoutes32[arg]);
    case Action::kRouteFlag:
      return Store(field, Action::kStoreFlag, Target::kRoute, kRouteFlags[arg]);
    case Action::kStatementNumber:
      return Store(field, Action::kStore64, Target::kStatement, kStatements[arg]);
    case Action::kPeerNumber:
      return Store(field, arg == kPeerRole ? Action::kStore32 : Action::kStore64, Target::kPeer, kPeers[arg]);
    case Action::kErrorNumber:
      return Store(field, Action::kStore64, Target::kError, kErrors[arg]);
    case Action::kErrorNumber32:
      return Store(field, Action::kStore32, Target::kError, OffsetOf(&E::pd_error_type));
    default:
      return;
  }
}

class Builder {
 public:
  Builder(const pb::FileDescriptorSet& set, Tables& tables) : set_(set), t_(tables) {}

  void Build() {
    Collect();
    for (const Meaning& m : Meanings()) {
      const auto message = t_.message_by_name.find(m.message);
      if (message == t_.message_by_name.end()) continue;
      meanings_[TableKey(static_cast<int32_t>(message->second), m.role)].push_back(&m);
    }
    for (uint32_t i = 0; i < protos_.size(); ++i) {
      t_.messages[i].plain_table = TableOf(static_cast<int32_t>(i), Role::kPlain);
    }
    for (const MethodRole& special : MethodRoles()) {
      const int32_t request = MessageOf(special.request);
      if (request >= 0) TableOf(request, special.role);
    }
    for (size_t i = 0; i < t_.tables.size(); ++i) Compile(i);  // grows while it runs
    MarkMeaningful();
    AddMethods();
    AddShapes();
    AddRelations();
    AddCommands("tikvpb.BatchCommandsRequest.Request", t_.request_commands);
    AddCommands("tikvpb.BatchCommandsResponse.Response", t_.response_commands);
  }

 private:
  void Collect() {
    size_t count = 0;
    const std::function<void(const pb::DescriptorProto&)> count_in = [&](const pb::DescriptorProto& m) {
      ++count;
      for (const auto& nested : m.nested_type()) count_in(nested);
    };
    for (const auto& file : set_.file()) {
      for (const auto& m : file.message_type()) count_in(m);
    }
    t_.messages.reserve(count);
    protos_.reserve(count);
    t_.message_by_name.reserve(count);
    t_.tables.reserve(count + count / 8);
    for (const auto& file : set_.file()) {
      const std::string prefix = file.package().empty() ? "" : file.package() + ".";
      for (const auto& m : file.message_type()) CollectMessage(m, prefix);
      for (const auto& e : file.enum_type()) CollectEnum(e, prefix);
    }
    for (uint32_t i = 0; i < t_.messages.size(); ++i) {
      t_.message_by_name.try_emplace(t_.messages[i].full_name, i);
    }
  }

  void CollectMessage(const pb::DescriptorProto& m, const std::string& prefix) {
    t_.messages.push_back(MessageName{prefix + m.name(), -1});
    protos_.push_back(&m);
    const std::string inner = prefix + m.name() + ".";
    for (const auto& nested : m.nested_type()) CollectMessage(nested, inner);
    for (const auto& e : m.enum_type()) CollectEnum(e, inner);
  }

  void CollectEnum(const pb::EnumDescriptorProto& e, const std::string& prefix) {
    std::vector<int32_t> numbers;
    for (const auto& value : e.value()) numbers.push_back(value.number());
    std::sort(numbers.begin(), numbers.end());
    enum_by_name_.try_emplace(prefix + e.name(), static_cast<int32_t>(t_.enums.size()));
    t_.enums.push_back(std::move(numbers));
  }

  int32_t MessageOf(std::string_view type_name) const {
    if (!type_name.empty() && type_name.front() == '.') type_name.remove_prefix(1);
    const auto it = t_.message_by_name.find(type_name);
    return it == t_.message_by_name.end() ? -1 : static_cast<int32_t>(it->second);
  }

  int32_t TableOf(int32_t message, Role role) {
    const auto [it, added] =
        table_by_key_.try_emplace(TableKey(message, role), static_cast<int32_t>(t_.tables.size()));
    if (added) {
      MessageTable table;
      table.message = static_cast<uint32_t>(message);
      table.role = role;
      t_.tables.push_back(table);
    }
    return it->second;
  }

  void Compile(size_t index) {
    const uint32_t message = t_.tables[index].message;
    const pb::DescriptorProto& proto = *protos_[message];
    MessageTable table = t_.tables[index];
    uint32_t highest = 0;
    for (const auto& f : proto.field()) {
      const uint32_t number = static_cast<uint32_t>(f.number());
      if (number < kDenseFields) highest = std::max(highest, number);
    }
    table.first = static_cast<uint32_t>(t_.fields.size());
    table.dense = proto.field_size() == 0 ? 0 : highest + 1;
    t_.fields.resize(t_.fields.size() + table.dense);
    t_.plain_children.resize(t_.fields.size(), -1);
    t_.domains.resize(t_.fields.size(), Domain::kAny);
    table.sparse = static_cast<uint32_t>(t_.sparse_fields.size());

    static const std::vector<const Meaning*> kNone;
    const auto rows = meanings_.find(TableKey(static_cast<int32_t>(message), table.role));
    rows_ = rows == meanings_.end() ? &kNone : &rows->second;
    error_slots_ = 0;
    statement_slots_ = 0;
    for (const Meaning* m : *rows_) {
      if (m->field.empty()) table.ops |= OpsOf(*m);
    }
    for (const auto& f : proto.field()) {
      int32_t plain_child = -1;
      const Field field = CompileField(f, table, plain_child);
      const uint32_t number = static_cast<uint32_t>(f.number());
      if (number < table.dense) {
        t_.fields[table.first + number] = field;
        t_.plain_children[table.first + number] = plain_child;
        t_.domains[table.first + number] = DomainOf(t_.messages[message].full_name, f);
      } else {
        t_.sparse_fields.push_back(
            SparseField{number, plain_child, DomainOf(t_.messages[message].full_name, f), field});
      }
    }
    table.sparse_count = static_cast<uint32_t>(t_.sparse_fields.size()) - table.sparse;
    std::sort(t_.sparse_fields.begin() + table.sparse, t_.sparse_fields.end(),
              [](const SparseField& a, const SparseField& b) { return a.number < b.number; });
    t_.tables[index] = table;
  }

  static Domain DomainOf(std::string_view message, const pb::FieldDescriptorProto& f) {
    using F = pb::FieldDescriptorProto;
    const bool number64 = f.type() == F::TYPE_UINT64 || f.type() == F::TYPE_INT64;
    const bool of_tikv_or_pd = message.starts_with("kvrpcpb.") || message.starts_with("coprocessor.") ||
                               message.starts_with("pdpb.");
    for (const DomainRow& row : Domains()) {
      if (!number64 || row.field != f.name()) continue;
      if (row.message.empty() ? of_tikv_or_pd : row.message == message) return row.domain;
    }
    if (f.type() == F::TYPE_UINT32) return Domain::kUint32;
    if (f.type() == F::TYPE_INT32) return Domain::kInt32;
    return Domain::kAny;
  }

  void AddShapes() {
    for (const ShapeRow& row : Shapes()) {
      const int32_t message = MessageOf(row.message);
      if (message < 0) continue;
      MessageTable& table = t_.tables[static_cast<size_t>(t_.messages[message].plain_table)];
      uint64_t required = 0;
      // A user's older schema may lack a field: then nothing is demanded.
      if (!MaskOf(message, row.fields, required)) continue;
      table.required = required;
      table.shape_bits = static_cast<int16_t>(row.bits);
      table.anchor = row.anchor;
      table.demanded = row.demanded;
    }
  }

  // Bits of the numbers of `fields`; false if the message lacks one of them, or its number is too large.
  bool MaskOf(int32_t message, std::string_view fields, uint64_t& mask) const {
    mask = 0;
    while (!fields.empty()) {
      const std::string_view name = fields.substr(0, fields.find(' '));
      fields.remove_prefix(std::min(fields.size(), name.size() + 1));
      const uint32_t number = NumberOf(message, name);
      if (number == 0 || number >= kDenseFields) return false;
      mask |= uint64_t{1} << number;
    }
    return true;
  }

  uint32_t NumberOf(int32_t message, std::string_view field) const {
    for (const auto& f : protos_[static_cast<size_t>(message)]->field()) {
      if (f.name() == field) return static_cast<uint32_t>(f.number());
    }
    return 0;
  }

  // The field numbers of "store.id"; false if the message has no such field.
  bool PathOf(int32_t message, std::string_view path, std::array<uint32_t, 4>& numbers) const {
    numbers = {};
    for (size_t i = 0; i + 1 < numbers.size() && message >= 0; ++i) {
      const std::string_view name = path.substr(0, path.find('.'));
      path.remove_prefix(std::min(path.size(), name.size() + 1));
      numbers[i] = NumberOf(message, name);
      if (numbers[i] == 0) return false;
      if (path.empty()) return true;
      for (const auto& f : protos_[static_cast<size_t>(message)]->field()) {
        if (f.name() == name) {
          message = MessageOf(f.type_name());
          break;
        }
      }
    }
    return false;
  }

  void AddRelations() {
    for (uint32_t i = 0; i < t_.methods.size(); ++i) {
      const Method& method = t_.methods[i];
      const int32_t request = static_cast<int32_t>(t_.tables[static_cast<size_t>(method.request)].message);
      const int32_t response = static_cast<int32_t>(t_.tables[static_cast<size_t>(method.response)].message);
      for (const EchoRow& row : Echoes()) {
        Tables::Echo echo;
        echo.method = i;
        if (!row.method.empty() && row.method != method.path) continue;
        if (PathOf(request, row.request, echo.request) && PathOf(response, row.response, echo.response)) {
          t_.echoes.push_back(echo);
        }
      }
      for (const DemandRow& row : Demands()) {
        Tables::Demand demand{i, row.response};
        const int32_t message = row.response ? response : request;
        if (row.method == method.path && MaskOf(message, row.when, demand.when) &&
            MaskOf(message, row.fields, demand.fields)) {
          t_.demands.push_back(demand);
        }
      }
    }
  }

  Field CompileField(const pb::FieldDescriptorProto& f, MessageTable& table, int32_t& plain_child) {
    Field field;
    const EncodingOfType encoding = EncodingOf(f.type());
    field.type = encoding.type;
    field.wire = encoding.wire;
    field.repeated = f.label() == pb::FieldDescriptorProto::LABEL_REPEATED;
    field.packable = field.repeated && field.type != ValueType::kBytes && field.type != ValueType::kString &&
                     field.type != ValueType::kMessage;
    if (f.has_oneof_index() && !f.proto3_optional()) {
      field.oneof = static_cast<uint8_t>(std::min(f.oneof_index() + 1, 255));
    }
    int32_t child = -1;
    if (field.type == ValueType::kMessage) {
      child = MessageOf(f.type_name());
      if (child < 0) {
        field.type = ValueType::kBytes;
      } else {
        plain_child = TableOf(child, Role::kPlain);
      }
    } else if (field.type == ValueType::kEnum) {
      const auto it = enum_by_name_.find(f.type_name().substr(f.type_name().empty() ? 0 : 1));
      if (it != enum_by_name_.end()) plain_child = it->second;
    }

    const Meaning meaning = MeaningOf(f, field, child, encoding.plain_number, table);
    field.action = meaning.action;
    field.arg = meaning.arg;
    if (meaning.action == Action::kSkip) return field;
    MakeStore(field);
    if (field.type == ValueType::kMessage) field.child = TableOf(child, meaning.child_role);
    if (meaning.action == Action::kEnterEpoch) field.arg = meaning.child_role == Role::kStatement;
    table.ops |= OpsOf(meaning);
    table.own_frame = table.own_frame || NeedsOwnFrame(meaning.action);
    field.slot = kNoSlot;
    if (!field.repeated) {
      if ((meaning.action == Action::kEnterError || meaning.action == Action::kStringError) &&
          error_slots_ < kErrorSlots) {
        field.slot = error_slots_++;
      } else if (meaning.action == Action::kEnterStatement && statement_slots_ < kStatementSlots) {
        field.slot = statement_slots_++;
      } else if (meaning.action == Action::kEnterItem || meaning.action == Action::kKey) {
        field.slot = 0;
      }
    }
    return field;
  }

  Meaning MeaningOf(const pb::FieldDescriptorProto& f, const Field& field, int32_t child, bool plain_number,
                    const MessageTable& table) const {
    const Meaning skip{{}, Role::kPlain, {}, Action::kSkip};
    const std::string_view child_name = child < 0 ? std::string_view{} : t_.messages[child].full_name;
    for (const Meaning* m : *rows_) {
      if (m->field != f.name()) continue;
      if (!CanRead(m->action, field, plain_number)) break;
      Meaning meaning = *m;
      // kvproto 4.0: ScanRegionsResponse.regions were metapb.Region.
      if (m->action == Action::kEnter && m->arg != 0 && child_name == "metapb.Region") {
        meaning.action = Action::kEnterStatement;
        meaning.child_role = Role::kStatement;
      }
      return meaning;
    }
    // Outside kPlain nothing is bound by type, so that no object is begun while another is being filled.
    if (table.role != Role::kPlain) return skip;
    if (child < 0) {
      const std::string_view name = t_.messages[table.message].full_name;
      if (field.type == ValueType::kString && !field.repeated && f.name() == "error" &&
          name.starts_with("kvrpcpb.") && name.ends_with("Response")) {
        return {{}, {}, {}, Action::kStringError, static_cast<uint16_t>(ErrorKind::kOtherError)};
      }
      return skip;
    }
    if (child_name == "kvrpcpb.Context") {
      return {{}, {}, {}, Action::kEnterRoute, static_cast<uint16_t>(Route::Kind::kContext), Role::kRoute};
    }
    if (child_name == "metapb.Region") {
      return {{},
              {},
              {},
              Action::kEnterStatement,
              static_cast<uint16_t>(StatementSource::kOther),
              Role::kStatement};
    }
    if (child_name == "errorpb.Error") {
      return {{},          {}, {}, Action::kEnterError, static_cast<uint16_t>(ErrorKind::kOtherRegionError),
              Role::kError};
    }
    if (child_name == "kvrpcpb.KeyError") {
      return {{},          {}, {}, Action::kEnterError, static_cast<uint16_t>(ErrorKind::kOtherKeyError),
              Role::kError};
    }
    return {{}, {}, {}, Action::kEnter};
  }

  template <typename F>
  void ForEachField(const MessageTable& table, F&& f) {
    for (uint32_t i = 0; i < table.dense; ++i) f(t_.fields[table.first + i]);
    for (uint32_t i = 0; i < table.sparse_count; ++i) f(t_.sparse_fields[table.sparse + i].field);
  }

  // Least fixed point: messages may contain each other.
  void MarkMeaningful() {
    for (bool changed = true; changed;) {
      changed = false;
      for (MessageTable& table : t_.tables) {
        if (table.meaningful) continue;
        bool meaningful = table.ops != 0;
        ForEachField(table, [&](const Field& f) {
          if (f.action == Action::kSkip) return;
          if (f.action != Action::kEnter || t_.tables[f.child].meaningful) meaningful = true;
        });
        if (meaningful) table.meaningful = changed = true;
      }
    }
    for (const MessageTable& table : t_.tables) {
      ForEachField(table, [&](Field& f) {
        if (f.child < 0 || t_.tables[f.child].meaningful) return;
        f.child = -1;
        if (f.action == Action::kEnter) f.action = Action::kSkip;
      });
    }
  }

  static MethodClass ClassOf(std::string_view service, std::string_view method) {
    if (service == "tikvpb.Tikv" && method == "BatchCommands") return MethodClass::kBatchCommands;
    if ((service == "pdpb.PD" || service == "routerpb.Router") && method == "QueryRegion") {
      return MethodClass::kQueryRegion;
    }
    if ((service == "pdpb.PD" || service == "tsopb.TSO") && method == "Tso") return MethodClass::kCountOnly;
    if (service.starts_with("etcdserverpb.") || service.starts_with("v3electionpb.") ||
        service.starts_with("v3lockpb.")) {
      return MethodClass::kCountOnly;
    }
    return MethodClass::kPlain;
  }

  void AddMethods() {
    for (const auto& file : set_.file()) {
      for (const auto& service : file.service()) {
        const std::string name =
            file.package().empty() ? service.name() : file.package() + "." + service.name();
        for (const auto& m : service.method()) AddMethod(name, m);
      }
    }
    t_.method_by_path.reserve(t_.methods.size());
    for (uint32_t i = 0; i < t_.methods.size(); ++i) t_.method_by_path.try_emplace(t_.methods[i].path, i);
  }

  void AddMethod(const std::string& service, const pb::MethodDescriptorProto& m) {
    Method method;
    const int32_t request = MessageOf(m.input_type());
    const int32_t response = MessageOf(m.output_type());
    if (request < 0 || response < 0) return;
    Role role = Role::kPlain;
    for (const MethodRole& special : MethodRoles()) {
      if (special.method == m.name() && special.request == t_.messages[request].full_name)
        role = special.role;
    }
    method.path = "/" + service + "/" + m.name();
    method.request = t_.messages[request].plain_table;
    if (role != Role::kPlain) {
      const auto variant = table_by_key_.find(TableKey(request, role));
      if (variant != table_by_key_.end()) method.request = variant->second;
    }
    method.response = t_.messages[response].plain_table;
    method.client_stream = m.client_streaming();
    method.server_stream = m.server_streaming();
    method.cls = ClassOf(service, m.name());
    t_.methods.push_back(std::move(method));
  }

  void AddCommands(std::string_view message_name, std::vector<BatchCommand>& commands) {
    const int32_t message = MessageOf(message_name);
    if (message < 0) return;
    t_.command_names.reserve(2 * 256);
    for (const auto& f : protos_[message]->field()) {
      const int32_t type = MessageOf(f.type_name());
      const uint32_t number = static_cast<uint32_t>(f.number());
      if (!f.has_oneof_index() || type < 0 || number > kMaxCommandNumber ||
          t_.command_names.size() == t_.command_names.capacity()) {
        continue;
      }
      if (commands.size() <= number) commands.resize(number + 1);
      t_.command_names.push_back(CommandName(f.name()));
      commands[number] = BatchCommand{t_.command_names.back(), t_.messages[type].plain_table};
    }
  }

  // The oneof's members are written like Get and BatchGet; older kvproto had get and batch_get.
  static std::string CommandName(const std::string& field) {
    std::string name;
    bool upper = true;
    for (const char c : field) {
      if (c == '_') {
        upper = true;
        continue;
      }
      name += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
      upper = false;
    }
    return name;
  }

  const pb::FileDescriptorSet& set_;
  Tables& t_;
  std::vector<const pb::DescriptorProto*> protos_;  // parallel to Tables::messages
  std::unordered_map<std::string, int32_t> enum_by_name_;
  std::unordered_map<uint64_t, int32_t> table_by_key_;
  std::unordered_map<uint64_t, std::vector<const Meaning*>> meanings_;
  const std::vector<const Meaning*>* rows_ = nullptr;  // of the table being compiled
  uint8_t error_slots_ = 0;
  uint8_t statement_slots_ = 0;
};

}  // namespace

const SparseField* Tables::FindSparse(const MessageTable& table, uint32_t number) const {
  const SparseField* begin = sparse_fields.data() + table.sparse;
  const SparseField* end = begin + table.sparse_count;
  const SparseField* it =
      std::lower_bound(begin, end, number, [](const SparseField& f, uint32_t n) { return f.number < n; });
  return it != end && it->number == number ? it : nullptr;
}

void BuildTables(const pb::FileDescriptorSet& set, Tables& tables) {
  Builder(set, tables).Build();
}

}  // namespace keytrail::schema
