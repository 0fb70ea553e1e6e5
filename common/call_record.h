// The call record: what an agent knows of one call, and what the collector gets of it.
//
// One CallRecord is a unary call, a BatchCommands sub-command, a QueryRegion question, one message of any
// other stream, or a stream itself when it ends. MessageFacts holds what the field walker read out of one
// protobuf message: routes, keys, statements about regions, errors, ids.
//
// Lifetime: all Bytes and string_view in MessageFacts point into its own arena, those in CallRecord into
// storage of the producer; both are valid only during the call of the sink that receives them. A receiver
// that keeps anything copies it (common/record_codec.h does). Not thread-safe.
//
// Unknown is a value here: a number that was not on the wire is absent (std::optional or a `has_` flag),
// a time that was not seen is kTimeUnknown. Proto3 omits zeroes, so an absent varint inside a message that
// was seen whole reads as 0.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/arena.h"
#include "common/bytes.h"
#include "common/flow_key.h"
#include "common/time.h"

namespace keytrail {

// ---------------------------------------------------------------------------------------------------------
// Facts of one message

enum class KeyForm : uint8_t {
  kNone,
  kRaw,      // as TiKV requests carry it: compare only after memcomparable encoding (Raw* family: as it is)
  kEncoded,  // as PD and region boundaries carry it
};

// A key or a range [start, end) that a message asks for. An empty `end` of a range is +infinity, an empty
// `start` is -infinity.
struct KeyItem {
  Bytes start;
  Bytes end;
  bool is_range = false;
  bool reverse = false;  // of a KvScan/RawScan with reverse set; start < end also then (already swapped)
  KeyForm form = KeyForm::kNone;
  uint16_t route = 0;     // index in MessageFacts::routes; meaningless if there are none
  bool previous = false;  // PD: the region before this key was asked for (GetPrevRegion, prev_keys)
};

// kvrpcpb.Context, coprocessor.StoreBatchTask or coprocessor.RegionInfo: where the client sent the request.
struct Route {
  enum class Kind : uint8_t { kContext, kTask, kRegionInfo };
  Kind kind = Kind::kContext;
  uint64_t region_id = 0;  // 0: not routed by region
  uint64_t conf_ver = 0;
  uint64_t version = 0;
  uint64_t peer_id = 0;
  uint64_t store_id = 0;
  uint64_t task_id = 0;  // StoreBatchTask.task_id
  uint64_t buckets_version = 0;
  uint32_t api_version = 0;  // Context.api_version: 0 V1, 1 V1TTL, 2 V2, 3 V3
  uint32_t keyspace_id = 0xFFFFFFFF;
  bool has_epoch = false;
  bool replica_read = false;
  bool stale_read = false;
  bool is_retry = false;
};

// Who says it, by message. Never renumber: stored and shipped.
enum class StatementSource : uint8_t {
  kUnknown = 0,
  kPdGetRegion = 1,     // GetRegion, GetPrevRegion, GetRegionByID (pdpb and routerpb)
  kPdScanRegions = 2,   // ScanRegions, BatchScanRegions
  kPdQueryRegion = 3,   // QueryRegion
  kPdSyncRegions = 4,   // PD leader to PD follower
  kHeartbeat = 5,       // RegionHeartbeat request: TiKV to PD
  kSplitReport = 6,     // ReportBatchSplit, ReportSplit, AskSplit, AskBatchSplit requests: TiKV to PD
  kEpochNotMatch = 7,   // errorpb.EpochNotMatch.current_regions: TiKV to client
  kSplitResponse = 8,   // kvrpcpb.SplitRegionResponse: TiKV to client
  kKeyNotInRegion = 9,  // errorpb.KeyNotInRegion bounds: TiKV to client; version is the request's
  kErrorText = 10,      // bounds parsed from an error text; version is the request's
  kRetryRegions = 11,   // BatchResponse / DispatchTaskResponse retry_regions: TiFlash to client
  kPdHeartbeatAnswer = 12,
  kRequest = 13,  // a region meta in a client's request (ScatterRegion, ...): not evidence of truth
  kOther = 14,    // a metapb.Region anywhere else
};

// Names are a contract (JSON, SQL): "pd_get_region", "heartbeat", "epoch_not_match", …
std::string_view StatementSourceName(StatementSource source);
std::string_view KeyFormName(KeyForm form);  // "none", "raw", "encoded"

// "Region R at version V spans [start, end)". Bounds are encoded keys, empty means unbounded.
struct RegionStatement {
  StatementSource source = StatementSource::kUnknown;
  uint64_t region_id = 0;
  uint64_t conf_ver = 0;
  uint64_t version = 0;
  bool has_epoch = false;
  Bytes start;
  Bytes end;
  uint64_t leader_peer_id = 0;
  uint64_t leader_store_id = 0;
  struct Peer {
    uint64_t id = 0;
    uint64_t store_id = 0;
    uint32_t role = 0;
  };
  uint32_t first_peer = 0;  // into MessageFacts::peers
  uint32_t peer_count = 0;
};

// Never renumber: stored and shipped. Names in ErrorKindName() are a contract (JSON, SQL).
enum class ErrorKind : uint8_t {
  kNone = 0,
  // errorpb.Error, structured
  kNotLeader = 1,
  kRegionNotFound = 2,
  kKeyNotInRegion = 3,
  kEpochNotMatch = 4,
  kServerIsBusy = 5,
  kStaleCommand = 6,
  kStoreNotMatch = 7,
  kRaftEntryTooLarge = 8,
  kMaxTimestampNotSynced = 9,
  kReadIndexNotReady = 10,
  kProposalInMergingMode = 11,
  kDataIsNotReady = 12,
  kRegionNotInitialized = 13,
  kDiskFull = 14,
  kRecoveryInProgress = 15,
  kFlashbackInProgress = 16,
  kFlashbackNotPrepared = 17,
  kIsWitness = 18,
  kMismatchPeerId = 19,
  kBucketVersionNotMatch = 20,
  kUndeterminedResult = 21,
  kOtherRegionError = 22,  // an errorpb.Error with a message and no kind that we know
  // parsed from a text (tidb-wire.md section 3)
  kKeyOutOfRegion = 30,      // (b) "Key K is out of [region N] [s, e)"
  kRangeExceedsBound = 31,   // (c) "Request range exceeds bound" / InvalidReqRange
  kInvertedRange = 32,       // (d) "range.start should be smaller than range.end"
  kApiVersionMismatch = 33,  // (e)
  kRedacted = 34,            // a range text whose keys are "?"
  kEpochText = 35,           // (h)
  // kvrpcpb.KeyError and strings
  kKeyLocked = 50,
  kKeyRetryable = 51,
  kKeyAbort = 52,  // an abort text that names no range
  kWriteConflict = 53,
  kAlreadyExist = 54,
  kDeadlock = 55,
  kTxnNotFound = 56,
  kOtherKeyError = 57,
  kOtherError = 58,  // coprocessor other_error, Raw* error: a text that names no range
  kPdError = 70,     // pdpb.ResponseHeader.error; pd_error_type says which
};
std::string_view ErrorKindName(ErrorKind kind);

struct ErrorFact {
  ErrorKind kind = ErrorKind::kNone;
  bool from_text = false;  // numbers and keys below were parsed out of `text`
  Bytes text;              // message, abort or other_error, cut at limits::kMaxErrorTextBytes
  uint64_t region_id = 0;  // 0: not said
  uint16_t route = 0;      // index of the request's route that it answers, matched by task id; else 0
  uint64_t task_id = 0;    // StoreBatchTaskResponse.task_id
  // The key or range complained of, and the bounds that the server holds, all ENCODED unless key_form says
  // raw ((d) alone). has_* because an empty bound means infinity.
  Bytes key;          // (a), (b); an MVCC timestamp suffix is already cut off
  Bytes range_start;  // (c), (d): the request range
  Bytes range_end;
  Bytes start;  // the server's bounds
  Bytes end;
  bool has_key = false;
  bool has_range = false;
  bool has_bounds = false;
  KeyForm key_form = KeyForm::kEncoded;
  // not_leader, store_not_match, mismatch_peer_id, epoch text
  uint64_t leader_peer_id = 0;
  uint64_t leader_store_id = 0;
  uint64_t request_store_id = 0;
  uint64_t actual_store_id = 0;
  uint64_t current_conf_ver = 0;
  uint64_t current_version = 0;
  uint32_t pd_error_type = 0;    // pdpb.ErrorType
  uint32_t first_statement = 0;  // epoch_not_match: its current_regions in MessageFacts::statements
  uint32_t statement_count = 0;
};

// Everything that the walker reads out of one message. Reset() keeps the capacity: no allocation in the
// steady state.
struct MessageFacts {
  std::vector<Route> routes;
  std::vector<KeyItem> keys;
  std::vector<RegionStatement> statements;
  std::vector<RegionStatement::Peer> peers;
  std::vector<ErrorFact> errors;
  std::vector<uint64_t> asked_region_ids;  // GetRegionByID, QueryRegion.ids, GetOperator, ...
  std::vector<uint64_t> key_id_map;        // QueryRegionResponse
  std::vector<uint64_t> prev_key_id_map;
  ByteArena arena;

  uint64_t cluster_id = 0;
  uint64_t start_ts = 0;  // start_ts / version / start_version / lock_ts of the request
  uint64_t commit_ts = 0;
  uint64_t connection_id = 0;  // SQL connection
  uint64_t task_id = 0;        // Context.task_id
  uint64_t limit = 0;
  uint64_t store_id = 0;  // GetStore request, PutStore, StoreHeartbeat
  Bytes trace_id;
  Bytes resource_group_tag;
  std::string_view request_source;
  std::string_view caller;   // pdpb.RequestHeader caller_id "/" caller_component
  uint64_t value_bytes = 0;  // bytes of values (not keys) in the message: sizes only, never contents
  uint32_t pairs = 0;        // KvPair count of a response
  bool not_found = false;    // GetResponse.not_found
  bool contain_all_key_range = false;
  bool raw_keyspace = false;  // request of the Raw* family: keys are compared as they are
  bool over_cap = false;      // a limit cut something off
  bool parse_failed = false;  // the bytes are no valid message of the schema's type

  void Reset() {
    routes.clear();
    keys.clear();
    statements.clear();
    peers.clear();
    errors.clear();
    asked_region_ids.clear();
    key_id_map.clear();
    prev_key_id_map.clear();
    arena.Reset();
    cluster_id = start_ts = commit_ts = connection_id = task_id = limit = store_id = value_bytes = 0;
    trace_id = resource_group_tag = {};
    request_source = caller = {};
    pairs = 0;
    not_found = contain_all_key_range = raw_keyspace = over_cap = parse_failed = false;
  }
};

// ---------------------------------------------------------------------------------------------------------
// Calls

// Never renumber: stored and shipped.
// kAmend: no call, but the method of one whose records went out without (same connection and stream).
enum class CallKind : uint8_t { kUnary = 1, kSub = 2, kMessage = 3, kStream = 4, kAmend = 5 };
enum class MethodFrom : uint8_t { kUnknown = 0, kHeader = 1, kSlot = 2, kShape = 3 };
std::string_view CallKindName(CallKind kind);      // "unary", "sub", "message", "stream", "amend"
std::string_view MethodFromName(MethodFrom from);  // "header", "slot", "shape", "unknown"

// Bits of CallRecord::incomplete. Names in IncompleteName() are a contract.
enum Incomplete : uint32_t {
  kRequestNotSeen = 1u << 0,   // request_not_seen
  kResponseNotSeen = 1u << 1,  // response_not_seen
  kHeadersNotSeen = 1u << 2,   // headers_not_seen
  kGap = 1u << 3,              // gap: bytes of this call are missing from the capture
  kCut = 1u << 4,              // cut: the input or the connection ended first
  kOverCap = 1u << 5,          // over_cap
  kUnknownEncoding = 1u << 6,  // unknown_encoding: compressed in a way that we cannot read
  kMalformed = 1u << 7,        // malformed: not a valid message of its type
  kDegraded = 1u << 8,         // degraded: the agent left something unread to stay within its limits
};
inline constexpr int kIncompleteBits = 9;
std::string_view IncompleteName(int bit);

// A process at one end of a connection. Linux keeps no more than 15 bytes of its name (comm), which may be
// any.
struct ProcessName {
  uint32_t pid = 0;             // 0: not known
  std::array<char, 16> name{};  // ends with a zero

  bool known() const { return pid != 0; }
  std::string_view text() const { return name.data(); }
  friend bool operator==(const ProcessName&, const ProcessName&) = default;
};

struct CallRecord {
  uint64_t connection = 0;  // agent-local serial of the TCP connection
  Endpoint client;          // the HTTP/2 client; if nobody knows, the lower endpoint, with client_known false
  Endpoint server;
  ProcessName client_process;  // of the ends that are on the agent's own host
  ProcessName server_process;
  bool client_known = true;
  bool joined_at_start = false;  // the connection's preface was seen
  CallKind kind = CallKind::kUnary;
  MethodFrom method_from = MethodFrom::kUnknown;
  std::string_view method;   // "/service/method"; empty: unknown
  std::string_view command;  // BatchCommands oneof name ("Get"); empty otherwise
  uint32_t stream = 0;
  std::optional<uint64_t> request_id;
  // Capture clock. For unary calls and for streams HEADERS and trailers count as bytes of the call, for the
  // others the message alone (its 5-byte prefix included).
  TimeNs req_first;
  TimeNs req_last;
  TimeNs resp_first;
  TimeNs resp_last;
  uint64_t req_bytes = 0;  // message bytes without the 5-byte prefixes, decompressed size not counted
  uint64_t resp_bytes = 0;
  uint64_t req_messages = 0;  // of a kStream record: all its messages; else 0 or 1
  uint64_t resp_messages = 0;
  std::optional<uint32_t> grpc_status;
  std::optional<uint32_t> http_status;
  std::string_view grpc_message;
  bool reset = false;             // the stream ended by RST_STREAM or with its connection
  bool forwarded = false;         // pd-forwarded-host or tikv-forwarded-host metadata
  bool follower_allowed = false;  // pd-allow-follower-handle metadata
  uint32_t incomplete = 0;        // Incomplete bits

  // Null: the message was not seen, or not read (no schema, counted only, not readable): req_messages tells.
  const MessageFacts* request = nullptr;
  const MessageFacts* response = nullptr;
  // The messages themselves (decompressed), only when the decoder was told to keep them (--full, --raw);
  // of a sub-command the inner message.
  Bytes request_message;
  Bytes response_message;
};

}  // namespace keytrail
