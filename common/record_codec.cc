#include "common/record_codec.h"

#include <zstd.h>

#include <algorithm>
#include <cassert>
#include <functional>
#include <limits>
#include <unordered_map>

#include "common/limits.h"
#include "common/record_fields.h"
#include "common/record_wire.h"

namespace keytrail {

namespace {

// Fields of Payload.
constexpr uint32_t kNames = 1;
constexpr uint32_t kConnections = 2;
constexpr uint32_t kRecords = 3;
constexpr uint32_t kLosses = 4;

// What a Record says of its connection.
struct ConnectionEntry {
  uint64_t serial = 0;
  Endpoint client;
  Endpoint server;
  bool client_known = true;
  bool joined_at_start = false;
  ProcessName client_process;
  ProcessName server_process;

  friend bool operator==(const ConnectionEntry&, const ConnectionEntry&) = default;
};

struct ConnectionHash {
  size_t operator()(const ConnectionEntry& c) const { return std::hash<uint64_t>()(c.serial); }
};

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};

Bytes AddressBytes(const IpAddress& address) {
  const size_t size = address.family == 4 ? 4 : address.family == 6 ? 16 : 0;
  return Bytes(address.bytes.data(), size);
}

bool AddressFrom(Bytes b, IpAddress& address) {
  if (b.size() != 0 && b.size() != 4 && b.size() != 16) return false;
  address = IpAddress{};
  address.family = b.empty() ? 0 : b.size() == 4 ? 4 : 6;
  std::copy(b.begin(), b.end(), address.bytes.begin());
  return true;
}

// The first `cap` of a list.
template <class T>
std::span<const T> Clipped(const std::vector<T>& list, size_t cap) {
  return std::span<const T>(list).first(std::min(list.size(), cap));
}

// Every field of a message of plain fields, through `visit`.
template <class Visit>
bool ReadFields(Bytes b, ByteArena& arena, const Visit& visit) {
  RecordCursor in(b);
  RecordField field;
  while (in.Next(field)) {
    FieldReader take(field, arena);
    visit(take);
    if (take.bad()) return false;
  }
  return !in.bad();
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------

struct BatchEncoder::State {
  RecordWriter out;
  std::unordered_map<std::string, uint32_t, TextHash, std::equal_to<>> names;
  std::unordered_map<ConnectionEntry, uint32_t, ConnectionHash> connections;
  uint64_t last_time = 0;
  size_t records = 0;
  std::vector<LossRecord> losses;

  // The last name of each place in a record: usually the next one is the same.
  enum Place { kMethod, kCommand, kRequestSource, kRequestCaller, kResponseSource, kResponseCaller, kPlaces };
  struct LastName {
    std::string_view text;  // a key of `names`
    uint32_t number = 0;
  };
  LastName last_names[kPlaces];

  uint32_t Name(Place place, std::string_view text);
  uint32_t Connection(const CallRecord& call);
  void Time(uint32_t field, TimeNs time);
  void Facts(uint32_t field, const MessageFacts* facts, uint32_t source, uint32_t caller);
  void Numbers(uint32_t field, const std::vector<uint64_t>& numbers);
  void Lists(const MessageFacts& facts);
  void Statements(const MessageFacts& facts);
  void Loss(const LossRecord& loss);
};

BatchEncoder::BatchEncoder() : state_(std::make_unique<State>()) {}
BatchEncoder::~BatchEncoder() = default;

uint32_t BatchEncoder::State::Name(Place place, std::string_view text) {
  if (text.empty()) return 0;
  LastName& last = last_names[place];
  if (last.text == text) return last.number;
  auto found = names.find(text);
  if (found == names.end()) {
    out.String(kNames, AsBytes(text));
    found = names.emplace(text, static_cast<uint32_t>(names.size() + 1)).first;
  }
  last = {found->first, found->second};
  return last.number;
}

uint32_t BatchEncoder::State::Connection(const CallRecord& call) {
  const ConnectionEntry entry{call.connection,    call.client,          call.server,
                              call.client_known,  call.joined_at_start, call.client_process,
                              call.server_process};
  const auto [place, added] = connections.try_emplace(entry, static_cast<uint32_t>(connections.size()));
  if (!added) return place->second;
  const size_t begun = out.Begin(kConnections);
  FieldWriter fields(out);
  fields.Number(1, call.connection);
  fields.String(2, AddressBytes(call.client.address));
  fields.Number(3, call.client.port);
  fields.String(4, AddressBytes(call.server.address));
  fields.Number(5, call.server.port);
  fields.Flags(6, !call.client_known);
  fields.Flags(7, call.joined_at_start);
  fields.Number(8, call.client_process.pid);
  fields.String(9, call.client_process.text());
  fields.Number(10, call.server_process.pid);
  fields.String(11, call.server_process.text());
  out.End(begun);
  return place->second;
}

void BatchEncoder::State::Time(uint32_t field, TimeNs time) {
  if (!time.known()) return;
  const uint64_t now = static_cast<uint64_t>(time.ns);
  out.Varint(field, ZigZag(static_cast<int64_t>(now - last_time)));
  last_time = now;
}

void BatchEncoder::State::Numbers(uint32_t field, const std::vector<uint64_t>& numbers) {
  if (numbers.empty()) return;
  const size_t begun = out.Begin(field);
  for (uint64_t n : Clipped(numbers, limits::kMaxKeysPerMessage)) out.Raw(n);
  out.End(begun);
}

void BatchEncoder::State::Statements(const MessageFacts& facts) {
  FieldWriter fields(out);
  size_t peers_left = limits::kMaxPeersPerMessage;
  for (const RegionStatement& statement : Clipped(facts.statements, limits::kMaxStatementsPerMessage)) {
    const size_t begun = out.Begin(3);
    fields.Number(1, static_cast<uint64_t>(statement.source));
    VisitStatement(fields, statement);
    assert(statement.first_peer + statement.peer_count <= facts.peers.size());
    const size_t peers = std::min<size_t>(statement.peer_count, peers_left);
    peers_left -= peers;
    if (peers != 0) {
      const size_t list = out.Begin(10);
      for (size_t i = 0; i < peers; ++i) {
        const RegionStatement::Peer& peer = facts.peers[statement.first_peer + i];
        out.Raw(peer.id);
        out.Raw(peer.store_id);
        out.Raw(peer.role);
      }
      out.End(list);
    }
    out.End(begun);
  }
}

// An index that leads nowhere would make the collector refuse the whole batch, so it is put right here.
void BatchEncoder::State::Lists(const MessageFacts& facts) {
  FieldWriter fields(out);
  for (const Route& route : Clipped(facts.routes, limits::kMaxKeysPerMessage)) {
    const size_t begun = out.Begin(1);
    VisitRoute(fields, route);
    out.End(begun);
  }
  for (const KeyItem& key : Clipped(facts.keys, limits::kMaxKeysPerMessage)) {
    const size_t begun = out.Begin(2);
    KeyItem written = key;
    if (written.route >= facts.routes.size()) written.route = 0;
    VisitKey(fields, written);
    out.End(begun);
  }
  Statements(facts);
  const size_t statements = std::min(facts.statements.size(), limits::kMaxStatementsPerMessage);
  for (const ErrorFact& error : Clipped(facts.errors, limits::kMaxErrorsPerMessage)) {
    const size_t begun = out.Begin(4);
    ErrorFact written = error;
    if (size_t{written.first_statement} + written.statement_count > statements) {
      written.first_statement = written.statement_count = 0;
    }
    fields.Number(1, static_cast<uint64_t>(written.kind));
    VisitFault(fields, written);
    out.End(begun);
  }
  Numbers(5, facts.asked_region_ids);
  Numbers(6, facts.key_id_map);
  Numbers(7, facts.prev_key_id_map);
}

void BatchEncoder::State::Facts(uint32_t field, const MessageFacts* facts, uint32_t source, uint32_t caller) {
  if (facts == nullptr) return;
  const size_t begun = out.Begin(field);
  Lists(*facts);
  FieldWriter fields(out);
  VisitFacts(fields, *facts);
  const bool clipped =
      std::max({facts->routes.size(), facts->keys.size(), facts->asked_region_ids.size(),
                facts->key_id_map.size(), facts->prev_key_id_map.size()}) > limits::kMaxKeysPerMessage ||
      facts->statements.size() > limits::kMaxStatementsPerMessage ||
      facts->errors.size() > limits::kMaxErrorsPerMessage ||
      facts->peers.size() > limits::kMaxPeersPerMessage;
  if (clipped) {  // written again: of a repeated scalar field the last one counts
    fields.Flags(15, facts->not_found, facts->contain_all_key_range, facts->raw_keyspace, true,
                 facts->parse_failed);
  }
  fields.Number(18, source);
  fields.Number(19, caller);
  out.End(begun);
}

void BatchEncoder::Add(const CallRecord& call) {
  State& s = *state_;
  // Names and the connection stand before the record that refers to them.
  const uint32_t connection = s.Connection(call);
  const uint32_t method = s.Name(State::kMethod, call.method);
  const uint32_t command = s.Name(State::kCommand, call.command);
  uint32_t names[4] = {};
  if (call.request != nullptr) {
    names[0] = s.Name(State::kRequestSource, call.request->request_source);
    names[1] = s.Name(State::kRequestCaller, call.request->caller);
  }
  if (call.response != nullptr) {
    names[2] = s.Name(State::kResponseSource, call.response->request_source);
    names[3] = s.Name(State::kResponseCaller, call.response->caller);
  }
  const size_t size_before = s.out.size();
  const uint64_t time_before = s.last_time;
  const auto write = [&](const CallRecord& r) {
    const size_t begun = s.out.Begin(kRecords);
    FieldWriter fields(s.out);
    fields.Number(1, connection);
    fields.Number(2, method);
    fields.Number(3, command);
    s.Time(8, r.req_first);
    s.Time(9, r.req_last);
    s.Time(10, r.resp_first);
    s.Time(11, r.resp_last);
    VisitRecord(fields, r);
    s.Facts(14, r.request, names[0], names[1]);
    s.Facts(15, r.response, names[2], names[3]);
    fields.String(23, r.request_message);
    fields.String(24, r.response_message);
    s.out.End(begun);
  };
  write(call);
  if (s.out.size() - size_before > limits::kMaxRecordBytes) {
    s.out.Truncate(size_before);
    s.last_time = time_before;
    CallRecord cut = call;
    cut.request = cut.response = nullptr;
    cut.request_message = cut.response_message = {};
    cut.incomplete |= kOverCap;
    write(cut);
  }
  ++s.records;
}

void BatchEncoder::AddLoss(const LossRecord& loss) {
  std::vector<LossRecord>& losses = state_->losses;
  if (losses.size() < limits::kMaxBatchLosses) {
    losses.push_back(loss);
    return;
  }
  for (LossRecord& other : losses) {
    if (other.kind != loss.kind) continue;
    other.count += loss.count;
    other.first_ns = other.last_ns = 0;
    return;
  }
}

void BatchEncoder::State::Loss(const LossRecord& loss) {
  const size_t begun = out.Begin(kLosses);
  FieldWriter fields(out);
  fields.String(1, std::string_view(loss.kind));
  fields.Number(2, loss.count);
  fields.Number(3, ZigZag(loss.first_ns));
  fields.Number(4, ZigZag(loss.last_ns));
  out.End(begun);
}

size_t BatchEncoder::records() const {
  return state_->records;
}
bool BatchEncoder::empty() const {
  return state_->records == 0 && state_->losses.empty();
}
size_t BatchEncoder::bytes() const {
  return state_->out.size();
}

std::string BatchEncoder::Finish() {
  State& s = *state_;
  for (const LossRecord& loss : s.losses) s.Loss(loss);
  s.losses.clear();
  for (State::LastName& last : s.last_names) last = {};
  s.names.clear();
  s.connections.clear();
  s.last_time = 0;
  s.records = 0;
  return s.out.Take();
}

// ---------------------------------------------------------------------------------------------------------

struct BatchReader::State {
  explicit State(Bytes payload) : cursor(payload) {}

  RecordCursor cursor;
  std::vector<Bytes> names;
  std::vector<ConnectionEntry> connections;
  std::vector<LossRecord> losses;
  std::vector<uint64_t> peers;
  uint64_t last_time = 0;
  ByteArena scratch;

  bool Name(const RecordField& field, ByteArena& arena, std::string_view& text);
  bool Connection(Bytes b);
  bool Loss(Bytes b);
  bool Record(Bytes b, OwnedRecord& record);
  bool Time(const RecordField& field, TimeNs& time);
  bool Facts(Bytes b, MessageFacts& facts);
  static bool Numbers(const RecordField& field, size_t cap, std::vector<uint64_t>& numbers);
  bool Statement(Bytes b, MessageFacts& facts);
  static bool Fault(Bytes b, MessageFacts& facts);
  bool ListItem(const RecordField& field, MessageFacts& facts);
};

BatchReader::BatchReader(Bytes payload) : state_(std::make_unique<State>(payload)) {}
BatchReader::~BatchReader() = default;

const std::vector<LossRecord>& BatchReader::losses() const {
  return state_->losses;
}

bool BatchReader::State::Name(const RecordField& field, ByteArena& arena, std::string_view& text) {
  if (field.type != RecordWireType::kVarint || field.value > names.size()) return false;
  text = field.value == 0 ? std::string_view() : AsText(arena.Copy(names[field.value - 1]));
  return true;
}

// What is longer than Linux keeps is cut.
void SetName(std::string_view from, ProcessName& to) {
  const std::string_view kept = from.substr(0, from.find('\0'));
  kept.copy(to.name.data(), to.name.size() - 1);
}

bool BatchReader::State::Connection(Bytes b) {
  if (connections.size() == limits::kMaxBatchConnections) return false;
  ConnectionEntry entry;
  Bytes client;
  Bytes server;
  std::string_view client_name;
  std::string_view server_name;
  bool unknown = false;
  scratch.Reset();
  const bool good = ReadFields(b, scratch, [&](FieldReader& take) {
    take.Number(1, entry.serial);
    take.String(2, client);
    take.Number(3, entry.client.port);
    take.String(4, server);
    take.Number(5, entry.server.port);
    take.Flags(6, unknown);
    take.Flags(7, entry.joined_at_start);
    take.Number(8, entry.client_process.pid);
    take.String(9, client_name);
    take.Number(10, entry.server_process.pid);
    take.String(11, server_name);
  });
  entry.client_known = !unknown;
  SetName(client_name, entry.client_process);
  SetName(server_name, entry.server_process);
  if (!good || !AddressFrom(client, entry.client.address) || !AddressFrom(server, entry.server.address)) {
    return false;
  }
  connections.push_back(entry);
  return true;
}

bool BatchReader::State::Loss(Bytes b) {
  if (losses.size() == limits::kMaxBatchLosses) return false;
  LossRecord loss;
  Bytes kind;
  uint64_t first = 0;
  uint64_t last = 0;
  scratch.Reset();
  const bool good = ReadFields(b, scratch, [&](FieldReader& take) {
    take.String(1, kind);
    take.Number(2, loss.count);
    take.Number(3, first);
    take.Number(4, last);
  });
  loss.kind = ToString(kind);
  loss.first_ns = UnZigZag(first);
  loss.last_ns = UnZigZag(last);
  losses.push_back(std::move(loss));
  return good;
}

bool BatchReader::State::Time(const RecordField& field, TimeNs& time) {
  if (field.type != RecordWireType::kVarint) return false;
  last_time += static_cast<uint64_t>(UnZigZag(field.value));
  time.ns = static_cast<int64_t>(last_time);
  return true;
}

bool BatchReader::State::Numbers(const RecordField& field, size_t cap, std::vector<uint64_t>& numbers) {
  if (field.type == RecordWireType::kVarint) {
    numbers.push_back(field.value);
    return numbers.size() <= cap;
  }
  if (field.type != RecordWireType::kBytes) return false;
  RecordCursor in(field.bytes);
  uint64_t n = 0;
  while (in.NextRaw(n)) {
    if (numbers.size() == cap) return false;
    numbers.push_back(n);
  }
  return !in.bad();
}

bool BatchReader::State::Statement(Bytes b, MessageFacts& facts) {
  RegionStatement& statement = facts.statements.emplace_back();
  statement.first_peer = static_cast<uint32_t>(facts.peers.size());
  uint64_t source = 0;
  peers.clear();
  const size_t cap = 3 * (limits::kMaxPeersPerMessage - facts.peers.size());
  bool peers_good = true;
  const bool good = ReadFields(b, facts.arena, [&](FieldReader& take) {
    take.Number(1, source);
    VisitStatement(take, statement);
    if (take.field().number == 10 && !Numbers(take.field(), cap, peers)) peers_good = false;
  });
  if (!good || !peers_good || peers.size() % 3 != 0) return false;
  for (size_t i = 0; i < peers.size(); i += 3) {
    if (peers[i + 2] > 0xFFFFFFFF) return false;
    facts.peers.push_back({peers[i], peers[i + 1], static_cast<uint32_t>(peers[i + 2])});
  }
  statement.peer_count = static_cast<uint32_t>(peers.size() / 3);
  // A source that only a newer agent knows is no evidence for us.
  const bool known = source <= static_cast<uint64_t>(StatementSource::kOther);
  statement.source = known ? static_cast<StatementSource>(source) : StatementSource::kUnknown;
  return true;
}

bool BatchReader::State::Fault(Bytes b, MessageFacts& facts) {
  ErrorFact& error = facts.errors.emplace_back();
  uint64_t kind = 0;
  const bool good = ReadFields(b, facts.arena, [&](FieldReader& take) {
    take.Number(1, kind);
    VisitFault(take, error);
  });
  const bool known =
      kind == 0 || (kind <= 0xFF && ErrorKindName(static_cast<ErrorKind>(kind)) != ErrorKindName({}));
  error.kind = known ? static_cast<ErrorKind>(kind) : ErrorKind::kOtherError;
  return good;
}

// One element of the four lists of messages.
bool BatchReader::State::ListItem(const RecordField& field, MessageFacts& facts) {
  if (field.type != RecordWireType::kBytes) return false;
  switch (field.number) {
    case 1: {
      if (facts.routes.size() == limits::kMaxKeysPerMessage) return false;
      Route& route = facts.routes.emplace_back();
      return ReadFields(field.bytes, facts.arena, [&](FieldReader& take) { VisitRoute(take, route); });
    }
    case 2: {
      if (facts.keys.size() == limits::kMaxKeysPerMessage) return false;
      KeyItem& key = facts.keys.emplace_back();
      return ReadFields(field.bytes, facts.arena, [&](FieldReader& take) { VisitKey(take, key); });
    }
    case 3:
      return facts.statements.size() < limits::kMaxStatementsPerMessage && Statement(field.bytes, facts);
    default:
      return facts.errors.size() < limits::kMaxErrorsPerMessage && Fault(field.bytes, facts);
  }
}

bool BatchReader::State::Facts(Bytes b, MessageFacts& facts) {
  RecordCursor in(b);
  RecordField field;
  while (in.Next(field)) {
    if (field.number <= 4) {
      if (!ListItem(field, facts)) return false;
      continue;
    }
    FieldReader take(field, facts.arena);
    VisitFacts(take, facts);
    if (take.bad()) return false;
    bool good = true;
    if (field.number == 5) good = Numbers(field, limits::kMaxKeysPerMessage, facts.asked_region_ids);
    if (field.number == 6) good = Numbers(field, limits::kMaxKeysPerMessage, facts.key_id_map);
    if (field.number == 7) good = Numbers(field, limits::kMaxKeysPerMessage, facts.prev_key_id_map);
    if (field.number == 18) good = Name(field, facts.arena, facts.request_source);
    if (field.number == 19) good = Name(field, facts.arena, facts.caller);
    if (!good) return false;
  }
  if (in.bad()) return false;
  // Indices that a receiver would follow without asking again.
  for (const KeyItem& key : facts.keys) {
    if (!facts.routes.empty() && key.route >= facts.routes.size()) return false;
  }
  for (const ErrorFact& error : facts.errors) {
    if (uint64_t{error.first_statement} + error.statement_count > facts.statements.size()) return false;
  }
  return true;
}

bool BatchReader::State::Record(Bytes b, OwnedRecord& record) {
  record.strings.Reset();
  record.request.Reset();
  record.response.Reset();
  CallRecord& call = record.call;
  call = CallRecord{};
  call.kind = CallKind{};
  uint64_t connection = 0;
  RecordCursor in(b);
  RecordField field;
  while (in.Next(field)) {
    FieldReader take(field, record.strings);
    bool good = true;
    switch (field.number) {
      case 1:
        take.Number(1, connection);
        break;
      case 2:
        good = Name(field, record.strings, call.method);
        break;
      case 3:
        good = Name(field, record.strings, call.command);
        break;
      case 8:
        good = Time(field, call.req_first);
        break;
      case 9:
        good = Time(field, call.req_last);
        break;
      case 10:
        good = Time(field, call.resp_first);
        break;
      case 11:
        good = Time(field, call.resp_last);
        break;
      case 14:
        good = field.type == RecordWireType::kBytes && call.request == nullptr &&
               Facts(field.bytes, record.request);
        call.request = &record.request;
        break;
      case 15:
        good = field.type == RecordWireType::kBytes && call.response == nullptr &&
               Facts(field.bytes, record.response);
        call.response = &record.response;
        break;
      case 23:
        take.String(23, call.request_message);
        break;
      case 24:
        take.String(24, call.response_message);
        break;
      default:
        VisitRecord(take, call);
    }
    if (!good || take.bad()) return false;
  }
  if (in.bad() || call.kind == CallKind{} || connection >= connections.size()) return false;
  const ConnectionEntry& entry = connections[connection];
  call.connection = entry.serial;
  call.client = entry.client;
  call.server = entry.server;
  call.client_known = entry.client_known;
  call.joined_at_start = entry.joined_at_start;
  call.client_process = entry.client_process;
  call.server_process = entry.server_process;
  return true;
}

Result<bool> BatchReader::Next(OwnedRecord& record) {
  State& s = *state_;
  RecordField field;
  for (;;) {
    const size_t offset = s.cursor.offset();
    const auto damaged = [&](const char* what) {
      return Error{std::string(what) + " damaged at offset " + std::to_string(offset) + " of the batch"};
    };
    if (!s.cursor.Next(field)) {
      if (s.cursor.bad()) return damaged("field");
      return false;
    }
    if (field.number >= kNames && field.number <= kLosses && field.type != RecordWireType::kBytes) {
      return damaged("field");
    }
    switch (field.number) {
      case kNames:
        if (s.names.size() == limits::kMaxBatchNames || field.bytes.empty()) return damaged("name");
        s.names.push_back(field.bytes);
        break;
      case kConnections:
        if (!s.Connection(field.bytes)) return damaged("connection");
        break;
      case kRecords:
        if (!s.Record(field.bytes, record)) return damaged("record");
        return true;
      case kLosses:
        if (!s.Loss(field.bytes)) return damaged("loss");
        break;
      default:
        break;  // of a newer agent
    }
  }
}

// ---------------------------------------------------------------------------------------------------------

std::string CompressBatch(const std::string& payload) {
  std::string out;
  out.resize(ZSTD_compressBound(payload.size()));
  // Level 1: at higher levels a batch becomes a few per cent smaller and several times slower.
  const size_t size = ZSTD_compress(out.data(), out.size(), payload.data(), payload.size(), 1);
  out.resize(ZSTD_isError(size) ? 0 : size);
  return out;
}

Status DecompressBatch(Bytes compressed, size_t payload_size, std::string& payload) {
  if (payload_size > limits::kMaxPayloadBytes) {
    return Error{"batch claims " + std::to_string(payload_size) + " bytes, more than the limit of " +
                 std::to_string(limits::kMaxPayloadBytes)};
  }
  // Both are asked before anything is allocated.
  if (ZSTD_getFrameContentSize(compressed.data(), compressed.size()) != payload_size ||
      ZSTD_findFrameCompressedSize(compressed.data(), compressed.size()) != compressed.size()) {
    return Error{"batch is not one zstd frame of " + std::to_string(payload_size) + " bytes"};
  }
  payload.resize(payload_size);
  const size_t size = ZSTD_decompress(payload.data(), payload.size(), compressed.data(), compressed.size());
  if (ZSTD_isError(size)) return Error{std::string("zstd: ") + ZSTD_getErrorName(size)};
  if (size != payload_size) return Error{"batch is shorter than it claims"};
  return Done{};
}

}  // namespace keytrail
