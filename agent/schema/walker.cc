#include "agent/schema/walker.h"

#include <cstring>
#include <limits>

#include "agent/schema/error_text.h"
#include "agent/schema/facts_finish.h"
#include "agent/schema/wire_cursor.h"
#include "common/limits.h"

namespace keytrail::schema {

namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
constexpr uint8_t kNoSlot = 0xFF;

// In the order of IdList.
constexpr std::vector<uint64_t> MessageFacts::*kIdLists[] = {
    &MessageFacts::asked_region_ids, &MessageFacts::key_id_map, &MessageFacts::prev_key_id_map};

// memcpy without the call for what keys, sources and tags are: two overlapping moves of a fixed size.
inline void CopyShort(const uint8_t* from, size_t n, uint8_t* to) {
  if (n > 32) {
    std::memcpy(to, from, n);
  } else if (n >= 16) {
    uint8_t both[32];
    std::memcpy(both, from, 16);
    std::memcpy(both + 16, from + n - 16, 16);
    std::memcpy(to, both, 16);
    std::memcpy(to + n - 16, both + 16, 16);
  } else if (n >= 8) {
    uint64_t first;
    uint64_t last;
    std::memcpy(&first, from, 8);
    std::memcpy(&last, from + n - 8, 8);
    std::memcpy(to, &first, 8);
    std::memcpy(to + n - 8, &last, 8);
  } else {
    for (size_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

class Walker {
 public:
  Walker(const Tables& tables, MessageFacts& facts) : t_(tables), facts_(facts) {
    targets_[static_cast<size_t>(Target::kFacts)] = reinterpret_cast<uint8_t*>(&facts);
  }

  bool Run(const MessageTable& root, Bytes message) {
    finish_.first_key = facts_.keys.size();
    finish_.first_statement = facts_.statements.size();
    finish_.first_error = facts_.errors.size();
    finish_.first_route = facts_.routes.size();
    Frame frame;
    // An empty message may have no address, and nullptr says damage here.
    static constexpr uint8_t kEmpty = 0;
    const uint8_t* const begin = message.empty() ? &kEmpty : message.data();
    const bool valid = InFrame(root, begin, begin + message.size(), frame) != nullptr;
    finish_.route = frame.route;
    FinishFacts(facts_, finish_);
    if (!valid) facts_.parse_failed = true;
    return valid;
  }

 private:
  // What belongs to one message: the objects that its singular fields fill.
  struct Frame {
    uint32_t route = kNone;  // of keys in it
    uint32_t key = kNone;
    uint32_t id = kNone;  // in the list of ids that a singular field adds to
    uint32_t statements[2] = {kNone, kNone};
    uint32_t errors[4] = {kNone, kNone, kNone, kNone};
    bool reverse = false;
    bool has_leader = false;
    bool list_broken = false;
    uint32_t list_first = 0;  // regions whose leaders stand in a list beside them
    uint32_t list_count = 0;
    uint32_t next_leader = 0;
    uint64_t numbers[3] = {0, 0, 0};  // by FrameNumber
  };

  // A message with a frame of its own: begins it, reads, ends it.
  const uint8_t* InFrame(const MessageTable& table, const uint8_t* p, const uint8_t* end, Frame& frame) {
    if (table.ops == 0) return Fields(table, p, end, frame);
    const FrameEnd mark{facts_.keys.size(), facts_.statements.size(), facts_.errors.size()};
    if ((table.ops & (kOpRange | kOpPoint)) != 0) AddOwnKey(KeyFlagsOf(table.ops), frame);
    if ((table.ops & kOpRaw) != 0) facts_.raw_keyspace = true;
    p = Fields(table, p, end, frame);
    EndFrame(table, frame, mark, p != nullptr);
    return p;
  }

  struct FrameEnd {
    size_t first_key;
    size_t first_statement;
    size_t first_error;
  };

  void EndFrame(const MessageTable& table, const Frame& frame, const FrameEnd& mark, bool whole) {
    // A key that was there before the Context could be read.
    if (frame.key != kNone && facts_.keys[frame.key].route == kPendingRoute && frame.route != kNone) {
      facts_.keys[frame.key].route = static_cast<uint16_t>(frame.route);
    } else if (frame.key != kNone && frame.route == kNone) {
      finish_.pending_routes = true;
    }
    if (!whole) {
      // Neither its end nor `reverse` need have been seen.
      for (size_t i = mark.first_key; i < facts_.keys.size(); ++i) {
        if (facts_.keys[i].is_range) ForgetKey(i);
      }
    } else if (frame.reverse) {
      ReverseRanges(facts_, mark.first_key);
    }
    if ((table.ops & kOpLeader) != 0 && frame.has_leader && frame.statements[0] != kNone) {
      RegionStatement& statement = facts_.statements[frame.statements[0]];
      statement.leader_peer_id = frame.numbers[kFrameLeaderPeer];
      statement.leader_store_id = frame.numbers[kFrameLeaderStore];
    }
    if ((table.ops & kOpTaskId) != 0) {
      for (size_t i = mark.first_error; i < facts_.errors.size(); ++i) {
        facts_.errors[i].task_id = frame.numbers[kFrameTaskId];
      }
    }
    if ((table.ops & kOpDropPairs) != 0 && !frame.list_broken) {
      DropPairedStatements(facts_, mark.first_statement, frame.list_count);
    }
    if ((table.ops & kOpDropSplits) != 0) {
      DropRepeatedSplits(facts_, mark.first_statement, frame.statements[0], frame.statements[1]);
    }
  }

  static uint16_t KeyFlagsOf(uint16_t ops) {
    return static_cast<uint16_t>(((ops & kOpEncoded) != 0 ? kEncodedKey : 0) |
                                 ((ops & kOpPrevious) != 0 ? kPreviousKey : 0) |
                                 ((ops & kOpRange) != 0 ? kRangeItem : 0));
  }

  const uint8_t* Fields(const MessageTable& table, const uint8_t* p, const uint8_t* const end, Frame& frame) {
    static constexpr Field kUnknown;
    const Field* const dense = t_.fields.data() + table.first;
    const uint32_t dense_count = table.dense;
    while (p < end) {
      uint32_t tag;
      p = wire::ReadTag(p, end, tag);
      if (!p) [[unlikely]]
        return nullptr;
      const Field* field = &kUnknown;
      if (tag >> 3 < dense_count) [[likely]] {
        field = dense + (tag >> 3);
      } else if (const SparseField* sparse = FindSparse(table, tag >> 3)) {
        field = &sparse->field;
      }
      const uint32_t wire = tag & 7;
      if (field->action == Action::kSkip || field->wire != wire) {
        p = Pass(*field, tag, p, end);
      } else if (wire == wire::kVarint) {
        uint64_t value;
        p = wire::ReadVarint(p, end, value);
        if (!p) [[unlikely]]
          return nullptr;
        if (field->action == Action::kStore64) {
          std::memcpy(targets_[static_cast<size_t>(field->target)] + field->arg, &value, sizeof value);
        } else {
          OnNumber(*field, value, frame);
        }
      } else {
        uint32_t length;
        p = wire::ReadLength(p, end, length);
        if (!p) [[unlikely]]
          return nullptr;
        const uint8_t* const value_end = p + length;
        if (field->type != ValueType::kMessage) {
          OnBytes(*field, Bytes(p, length), frame);
        } else if (!OnMessage(*field, p, value_end, frame)) [[unlikely]] {
          return nullptr;
        }
        p = value_end;
      }
      if (!p) [[unlikely]]
        return nullptr;
    }
    return p;
  }

  const SparseField* FindSparse(const MessageTable& table, uint32_t number) const {
    return table.sparse_count == 0 ? nullptr : t_.FindSparse(table, number);
  }

  // A field that says nothing, or that has another wire type than the schema says.
  const uint8_t* Pass(const Field& field, uint32_t tag, const uint8_t* p, const uint8_t* end) {
    if (tag < 8) [[unlikely]]
      return nullptr;
    if (field.action == Action::kAddId && field.packable && (tag & 7) == wire::kLen) {
      return PackedIds(field, p, end);
    }
    return wire::SkipValue(p, end, tag, limits::kMaxMessageDepth - depth_);
  }

  void OnNumber(const Field& field, uint64_t value, Frame& frame) {
    uint8_t* const to = targets_[static_cast<size_t>(field.target)] + field.arg;
    switch (field.action) {
      case Action::kStore32: {
        const uint32_t narrow = static_cast<uint32_t>(value);
        std::memcpy(to, &narrow, sizeof narrow);
        break;
      }
      case Action::kStoreFlag: {
        const bool flag = value != 0;
        std::memcpy(to, &flag, sizeof flag);
        break;
      }
      case Action::kFactLimit:
        // PD's limits are int32, and 0 or less means none.
        facts_.limit = value > std::numeric_limits<int64_t>::max() ? 0 : static_cast<uint32_t>(value);
        break;
      case Action::kStmtNumber:
        finish_.stmt[field.arg] = value;
        break;
      case Action::kFrameNumber:
        frame.numbers[field.arg] = value;
        break;
      case Action::kFrameReverse:
        frame.reverse = value != 0;
        break;
      case Action::kAddId:
        if (field.repeated) {
          AddId(field, value);
        } else {
          SetId(field, value, frame);
        }
        break;
      default:
        break;
    }
  }

  void OnBytes(const Field& field, Bytes value, Frame& frame) {
    switch (field.action) {
      case Action::kFactBytes:
        CopyTo(value, field.arg == kTraceId ? facts_.trace_id : facts_.resource_group_tag);
        break;
      case Action::kFactText:
        if (field.arg == kCallerId) {
          finish_.caller_id = value;
        } else if (field.arg == kCallerComponent) {
          finish_.caller_component = value;
        } else {
          Bytes copy;
          CopyTo(value, copy);
          facts_.request_source = AsText(copy);
        }
        break;
      case Action::kKey:
        if (KeyItem* item = KeyOf(field, frame)) CopyKey(value, item, item->start);
        break;
      case Action::kRangeStart:
        if (frame.key != kNone) CopyKey(value, &facts_.keys[frame.key], facts_.keys[frame.key].start);
        break;
      case Action::kRangeEnd:
        if (frame.key != kNone) CopyKey(value, &facts_.keys[frame.key], facts_.keys[frame.key].end);
        break;
      case Action::kItemStart:
        CopyKey(value, key_, key_->start);
        break;
      case Action::kItemEnd:
        CopyKey(value, key_, key_->end);
        break;
      case Action::kStatementStart:
        CopyBound(value, statement_->start);
        break;
      case Action::kStatementEnd:
        CopyBound(value, statement_->end);
        break;
      case Action::kErrorKey:
      case Action::kErrorStart:
      case Action::kErrorEnd:
        OnErrorBytes(field.action, value);
        break;
      case Action::kErrorText:
        error_->text = value;
        break;  // copied when the walk ends
      case Action::kErrorTextKind:
        SetErrorKind(static_cast<ErrorKind>(field.arg));
        error_->text = value;
        break;
      case Action::kStringError:
        if (ErrorFact* error = BeginError(field, frame)) error->text = value;
        break;
      case Action::kValue:
        facts_.value_bytes += value.size();
        break;
      default:
        break;
    }
  }

  bool OnMessage(const Field& field, const uint8_t* p, const uint8_t* end, Frame& frame) {
    switch (field.action) {
      case Action::kEnter: {
        if (field.arg == 0) return Descend(field, p, end, frame);
        const uint16_t outer = source_;
        source_ = field.arg;
        const bool ok = Descend(field, p, end, frame);
        source_ = outer;
        return ok;
      }
      case Action::kEnterEpoch:
        (field.arg != 0 ? statement_->has_epoch : route_->has_epoch) = true;
        return Descend(field, p, end, frame);
      case Action::kEnterKeyspace:
        route_->keyspace_id = Route().keyspace_id;
        return Descend(field, p, end, frame);
      case Action::kEnterRoute:
        return OnRoute(field, p, end, frame);
      case Action::kEnterItem:
        return OnItem(field, p, end, frame);
      case Action::kEnterPair:
        ++facts_.pairs;
        return Descend(field, p, end, frame);
      case Action::kEnterStatement:
        return OnStatement(field, p, end, frame);
      case Action::kEnterPeer:
        return OnPeer(field, p, end, frame);
      case Action::kEnterLeader:
        frame.has_leader = true;
        return Descend(field, p, end, frame);
      case Action::kEnterLeaderItem: {
        const uint32_t i = frame.next_leader++;
        if (frame.list_broken || i >= frame.list_count) return true;
        SetStatement(facts_.statements[frame.list_first + i]);
        return Descend(field, p, end, frame);
      }
      case Action::kEnterError: {
        ErrorFact* const error = BeginError(field, frame);
        if (!error) return true;
        error_ = error;
        targets_[static_cast<size_t>(Target::kError)] = reinterpret_cast<uint8_t*>(error);
        return Descend(field, p, end, frame);
      }
      case Action::kEnterErrorKind: {
        SetErrorKind(static_cast<ErrorKind>(field.arg));
        if (field.arg == static_cast<uint16_t>(ErrorKind::kKeyNotInRegion)) {
          error_->has_key = error_->has_bounds = true;
        }
        ErrorFact* const error = error_;
        const bool ok = Descend(field, p, end, frame);
        if (!ok) error->has_key = error->has_bounds = false;
        return ok;
      }
      default:
        return true;
    }
  }

  // Reads a submessage with the field's table, in a frame of its own if the table wants one.
  bool Descend(const Field& field, const uint8_t* p, const uint8_t* end, Frame& frame) {
    if (field.child < 0) return true;
    if (depth_ >= limits::kMaxMessageDepth) [[unlikely]] {
      facts_.over_cap = true;
      return true;
    }
    const MessageTable& table = t_.tables[static_cast<size_t>(field.child)];
    ++depth_;
    if (table.own_frame) {
      Frame inner;
      inner.route = frame.route;
      p = InFrame(table, p, end, inner);
    } else {
      p = Fields(table, p, end, frame);
    }
    --depth_;
    return p != nullptr;
  }

  void SetRoute(Route& route) {
    route_ = &route;
    targets_[static_cast<size_t>(Target::kRoute)] = reinterpret_cast<uint8_t*>(&route);
  }

  void SetStatement(RegionStatement& statement) {
    statement_ = &statement;
    targets_[static_cast<size_t>(Target::kStatement)] = reinterpret_cast<uint8_t*>(&statement);
  }

  bool OnRoute(const Field& field, const uint8_t* p, const uint8_t* end, Frame& frame) {
    const auto kind = static_cast<Route::Kind>(field.arg);
    const bool shared = kind == Route::Kind::kContext && !field.repeated;
    if (shared && frame.route != kNone) {
      SetRoute(facts_.routes[frame.route]);
      return Descend(field, p, end, frame);
    }
    if (facts_.routes.size() >= limits::kMaxRoutesPerMessage) {
      facts_.over_cap = true;
      return true;
    }
    const uint32_t index = static_cast<uint32_t>(facts_.routes.size());
    SetRoute(facts_.routes.emplace_back());
    route_->kind = kind;
    if (shared) {
      frame.route = index;
      return Descend(field, p, end, frame);
    }
    Frame inner;
    inner.route = index;
    return Descend(field, p, end, inner);
  }

  bool OnItem(const Field& field, const uint8_t* p, const uint8_t* end, Frame& frame) {
    KeyItem* const item = KeyOf(field, frame);
    if (!item) return true;
    key_ = item;
    const size_t index = static_cast<size_t>(item - facts_.keys.data());
    const bool ok = Descend(field, p, end, frame);
    if (!ok) ForgetKey(index);
    return ok;
  }

  bool OnStatement(const Field& field, const uint8_t* p, const uint8_t* end, Frame& frame) {
    uint32_t index = field.slot == kNoSlot ? kNone : frame.statements[field.slot];
    if (index == kNone) {
      if (facts_.statements.size() >= limits::kMaxStatementsPerMessage) {
        facts_.over_cap = true;
        return true;
      }
      index = static_cast<uint32_t>(facts_.statements.size());
      RegionStatement& added = facts_.statements.emplace_back();
      const uint16_t source = field.arg & 0xFF;
      added.source = static_cast<StatementSource>(source == kInheritSource ? source_ : source);
      added.first_peer = static_cast<uint32_t>(facts_.peers.size());
      if (field.slot != kNoSlot) frame.statements[field.slot] = index;
      if ((field.arg & kListed) != 0) ListStatement(index, frame);
      if (added.source == StatementSource::kEpochNotMatch) {
        if (error_->statement_count == 0) error_->first_statement = index;
        if (error_->first_statement + error_->statement_count == index) ++error_->statement_count;
      }
    }
    SetStatement(facts_.statements[index]);
    const bool ok = Descend(field, p, end, frame);
    RegionStatement& statement = facts_.statements[index];
    if (!ok) statement.source = StatementSource::kUnknown;
    if (!ok || statement.region_id == 0 || statement.source == StatementSource::kUnknown) {
      finish_.prune = true;
    }
    return ok;
  }

  static void ListStatement(uint32_t index, Frame& frame) {
    if (frame.list_count == 0) frame.list_first = index;
    if (frame.list_first + frame.list_count == index) {
      ++frame.list_count;
    } else {
      frame.list_broken = true;
    }
  }

  bool OnPeer(const Field& field, const uint8_t* p, const uint8_t* end, Frame& frame) {
    if (facts_.peers.size() >= limits::kMaxPeersPerMessage) {
      facts_.over_cap = true;
      return true;
    }
    RegionStatement& statement = *statement_;
    // A region that comes in two parts, with another one in between: its peers must stand together.
    if (statement.peer_count != 0 && statement.first_peer + statement.peer_count != facts_.peers.size()) {
      const uint32_t moved = static_cast<uint32_t>(facts_.peers.size());
      for (uint32_t i = 0; i < statement.peer_count; ++i) {
        facts_.peers.push_back(RegionStatement::Peer(facts_.peers[statement.first_peer + i]));
      }
      statement.first_peer = moved;
    } else if (statement.peer_count == 0) {
      statement.first_peer = static_cast<uint32_t>(facts_.peers.size());
    }
    ++statement.peer_count;
    targets_[static_cast<size_t>(Target::kPeer)] = reinterpret_cast<uint8_t*>(&facts_.peers.emplace_back());
    return Descend(field, p, end, frame);
  }

  // Null if a cap is hit.
  ErrorFact* BeginError(const Field& field, Frame& frame) {
    uint32_t index = field.slot == kNoSlot ? kNone : frame.errors[field.slot];
    if (index == kNone) {
      if (facts_.errors.size() >= limits::kMaxErrorsPerMessage) {
        facts_.over_cap = true;
        return nullptr;
      }
      index = static_cast<uint32_t>(facts_.errors.size());
      facts_.errors.emplace_back().kind = static_cast<ErrorKind>(field.arg);
      if (field.slot != kNoSlot) frame.errors[field.slot] = index;
    }
    return &facts_.errors[index];
  }

  // The kind seen last counts, with nothing left of an earlier one but errorpb's message.
  void SetErrorKind(ErrorKind kind) {
    if (error_->kind == kind) return;
    const Bytes message = kind < ErrorKind::kKeyLocked ? error_->text : Bytes{};
    *error_ = ErrorFact{};
    error_->kind = kind;
    error_->text = message;
  }

  void OnErrorBytes(Action action, Bytes value) {
    Bytes copy;
    const bool kept = CopyTo(value, copy);
    if (action == Action::kErrorKey) {
      error_->key = copy;
      if (!kept) error_->has_key = false;
    } else {
      (action == Action::kErrorStart ? error_->start : error_->end) = copy;
      if (!kept) error_->has_bounds = false;
    }
  }

  KeyItem* AddKey(uint16_t flags, const Frame& frame) {
    if (facts_.keys.size() >= limits::kMaxKeysPerMessage) [[unlikely]] {
      facts_.over_cap = true;
      return nullptr;
    }
    KeyItem& item = facts_.keys.emplace_back();
    item.form = (flags & kEncodedKey) != 0 ? KeyForm::kEncoded : KeyForm::kRaw;
    item.previous = (flags & kPreviousKey) != 0;
    item.is_range = (flags & kRangeItem) != 0;
    if (frame.route != kNone) {
      item.route = static_cast<uint16_t>(frame.route);
    } else {
      item.route = kPendingRoute;
    }
    return &item;
  }

  void AddOwnKey(uint16_t flags, Frame& frame) {
    const size_t index = facts_.keys.size();
    if (AddKey(flags, frame)) frame.key = static_cast<uint32_t>(index);
  }

  // A key of a repeated field, or the one key of a message, however often it comes.
  KeyItem* KeyOf(const Field& field, Frame& frame) {
    KeyItem* item;
    if (field.repeated) {
      item = AddKey(field.arg, frame);
    } else {
      if (frame.key == kNone) AddOwnKey(field.arg, frame);
      item = frame.key == kNone ? nullptr : &facts_.keys[frame.key];
    }
    if (frame.route == kNone) finish_.pending_routes = true;
    return item;
  }

  void ForgetKey(size_t index) {
    facts_.keys[index].form = KeyForm::kNone;
    finish_.prune = true;
  }

  // False if the message's share of memory is used up.
  bool CopyTo(Bytes from, Bytes& to) {
    if (facts_.arena.bytes_used() + from.size() > limits::kMaxFactBytesPerMessage) [[unlikely]] {
      facts_.over_cap = true;
      to = {};
      return false;
    }
    to = {};
    if (from.empty()) return true;
    uint8_t* const room = facts_.arena.Take(from.size());
    CopyShort(from.data(), from.size(), room);
    to = Bytes(room, from.size());
    return true;
  }

  void CopyKey(Bytes from, KeyItem* item, Bytes& to) {
    if (!CopyTo(from, to)) [[unlikely]]
      ForgetKey(static_cast<size_t>(item - facts_.keys.data()));
  }

  void CopyBound(Bytes from, Bytes& to) {
    if (!CopyTo(from, to)) [[unlikely]]
      statement_->source = StatementSource::kUnknown;
  }

  void AddId(const Field& field, uint64_t id) {
    std::vector<uint64_t>& list = facts_.*kIdLists[field.arg];
    if (list.size() >= limits::kMaxKeysPerMessage) {
      facts_.over_cap = true;
    } else {
      list.push_back(id);
    }
  }

  void SetId(const Field& field, uint64_t id, Frame& frame) {
    std::vector<uint64_t>& list = facts_.*kIdLists[field.arg];
    if (frame.id != kNone) {
      list[frame.id] = id;
      return;
    }
    const size_t before = list.size();
    AddId(field, id);
    if (list.size() != before) frame.id = static_cast<uint32_t>(before);
  }

  const uint8_t* PackedIds(const Field& field, const uint8_t* p, const uint8_t* end) {
    uint32_t length;
    p = wire::ReadLength(p, end, length);
    if (!p) return nullptr;
    const uint8_t* const packed_end = p + length;
    while (p < packed_end) {
      uint64_t id;
      p = wire::ReadVarint(p, packed_end, id);
      if (!p) return nullptr;
      AddId(field, id);
    }
    return p;
  }

  const Tables& t_;
  MessageFacts& facts_;
  // The objects being filled, by Target. Each is set by the field that begins it; roles see to it that no
  // field which needs one is read before (meanings.h).
  uint8_t* targets_[static_cast<size_t>(Target::kCount)] = {};
  Route* route_ = nullptr;
  KeyItem* key_ = nullptr;
  RegionStatement* statement_ = nullptr;
  ErrorFact* error_ = nullptr;
  uint16_t source_ = static_cast<uint16_t>(StatementSource::kOther);
  int depth_ = 0;
  Finish finish_;
};

}  // namespace

bool WalkMessage(const Tables& tables, const MessageTable& root, Bytes message, MessageFacts& facts) {
  return Walker(tables, facts).Run(root, message);
}

}  // namespace keytrail::schema
