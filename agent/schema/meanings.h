// What fields mean: the bridge from names in .proto files to the facts of common/call_record.h.
//
// The list in meanings.cc is data: (message, role, field) -> action. Everything is bound by name, so the
// numbers of a user's own kvproto do not matter. Internal to this room.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace keytrail::schema {

// In which place a message stands. kPlain: no particular one (and every message that Walk starts with).
enum class Role : uint8_t {
  kPlain,
  kRoute,            // kvrpcpb.Context and what is in it: writes the current Route
  kTask,             // StoreBatchTask, RegionInfo: a Route with keys of its own
  kItem,             // a key range, Mutation or KvPair that the client asks for: the current KeyItem
  kRangeHolder,      // a message around such a range
  kStatement,        // metapb.Region and what is in it: the current RegionStatement
  kStatementLeader,  // a Peer in a list of leaders beside the list of regions
  kPeer,             // a Peer of the current RegionStatement
  kLeader,           // a Peer beside one region: leader of the frame's statement
  kError,            // errorpb.Error, KeyError, ... and what is in it: the current ErrorFact
  kErrorLeader,      // the Peer in NotLeader
  kStore,            // metapb.Store or pdpb.StoreStats of the one store that a request is about
  kPrevious,         // GetRegionRequest when GetPrevRegion is called
};

enum class Action : uint8_t {
  kSkip,  // no meaning here; a submessage is not even looked into
  // what tables.cc makes of kFactNumber ... kErrorNumber32: a number that just goes somewhere
  kStore64,
  kStore32,
  kStoreFlag,
  // numbers; arg: a FactNumber, RouteNumber, ...
  kFactNumber,
  kFactFlag,
  kFactLimit,
  kStmtNumber,  // from Context.source_stmt: counts only if the request itself has none
  kRouteNumber,
  kRouteNumber32,
  kRouteFlag,
  kStatementNumber,
  kPeerNumber,
  kErrorNumber,
  kErrorNumber32,
  kFrameNumber,
  kFrameReverse,
  kAddId,  // arg: an IdList
  // strings
  kFactBytes,
  kFactText,
  kKey,         // arg: key flags; repeated: a key each, else the frame's one key
  kRangeStart,  // arg: key flags; the frame's one range
  kRangeEnd,
  kItemStart,  // of the current KeyItem
  kItemEnd,
  kStatementStart,
  kStatementEnd,
  kErrorKey,
  kErrorStart,
  kErrorEnd,
  kErrorText,
  kErrorTextKind,  // arg: ErrorKind; a text that says which kind
  kStringError,    // arg: ErrorKind; the field itself is an error
  kValue,          // a size, never the contents
  // submessages
  kEnter,           // arg: StatementSource for regions in it, 0 to leave it as it is
  kEnterRoute,      // arg: Route::Kind
  kEnterItem,       // arg: key flags
  kEnterPair,       // a KvPair of a response
  kEnterStatement,  // arg: statement flags and StatementSource
  kEnterPeer,
  kEnterLeader,
  kEnterLeaderItem,
  kEnterEpoch,      // of a Route or a RegionStatement, by role
  kEnterKeyspace,   // in the same oneof as a Route's keyspace_id
  kEnterError,      // arg: ErrorKind to begin with
  kEnterErrorKind,  // arg: ErrorKind
  // of a message as a whole (field name empty)
  kMessageIsRaw,        // Raw* family
  kMessageIsPoint,      // its one key counts also when it is empty and so absent
  kMessageHasTaskId,    // errors in it belong to frame task id
  kMessageDropsPairs,   // regions stand in it twice: a list of metas and a list of pdpb.Region
  kMessageDropsSplits,  // left and right repeat what regions says
};

enum KeyFlags : uint16_t { kRawKey = 0, kEncodedKey = 1, kPreviousKey = 2, kRangeItem = 4 };

// In the arg of kEnterStatement, above the StatementSource.
enum StatementFlags : uint16_t {
  kInheritSource = 0xFF,  // in place of a source: the source of the enclosing kEnter
  kListed = 0x100,        // leaders of these stand in a list of their own
  kSecondary = 0x200,     // the older form of what another field says too
};

enum FactNumber : uint16_t { kClusterId, kStartTs, kCommitTs, kConnectionId, kTaskId, kStoreId };
enum FactFlag : uint16_t { kNotFound, kContainAll };
enum StmtNumber : uint16_t { kStmtStartTs, kStmtConnectionId, kStmtNumbers };
enum RouteNumber : uint16_t {
  kRouteRegionId,
  kRouteConfVer,
  kRouteVersion,
  kRoutePeerId,
  kRouteStoreId,
  kRouteTaskId,
  kRouteBucketsVersion,
};
enum RouteNumber32 : uint16_t { kRouteApiVersion, kRouteKeyspaceId };
enum RouteFlag : uint16_t { kRouteReplicaRead, kRouteStaleRead, kRouteIsRetry };
enum StatementNumber : uint16_t {
  kStatementRegionId,
  kStatementConfVer,
  kStatementVersion,
  kStatementLeaderPeer,
  kStatementLeaderStore,
};
enum PeerNumber : uint16_t { kPeerId, kPeerStoreId, kPeerRole };
enum ErrorNumber : uint16_t {
  kErrorRegionId,
  kErrorLeaderPeer,
  kErrorLeaderStore,
  kErrorRequestStore,
  kErrorActualStore,
};
enum FrameNumber : uint16_t { kFrameLeaderPeer, kFrameLeaderStore, kFrameTaskId };
enum FactString : uint16_t { kTraceId, kResourceGroupTag, kRequestSource, kCallerId, kCallerComponent };
enum IdList : uint16_t { kAskedIds, kKeyIdMap, kPrevKeyIdMap };

// What a frame does when its message begins or ends; follows from the actions in the message.
enum Op : uint16_t {
  kOpRange = 1 << 0,     // begin: add the frame's range
  kOpPoint = 1 << 1,     // begin: add the frame's key
  kOpRaw = 1 << 2,       // begin: MessageFacts::raw_keyspace
  kOpEncoded = 1 << 3,   // of kOpRange and kOpPoint: the key's form
  kOpPrevious = 1 << 4,  // of kOpPoint
  kOpReverse = 1 << 5,   // end: swap the ranges if the message is a reverse scan
  kOpLeader = 1 << 6,    // end: give the region its leader
  kOpTaskId = 1 << 7,    // end: give the errors the task id
  kOpDropPairs = 1 << 8,
  kOpDropSplits = 1 << 9,
  kOpEndMask = kOpReverse | kOpLeader | kOpTaskId | kOpDropPairs | kOpDropSplits,
};

struct Meaning {
  std::string_view message;
  Role role;
  std::string_view field;
  Action action;
  uint16_t arg = 0;
  Role child_role = Role::kPlain;
};

// Sorted in no way; a (message, role, field) stands in it once.
std::span<const Meaning> Meanings();

// A method whose request is read in another role than kPlain.
struct MethodRole {
  std::string_view method;  // the part of the path behind the last '/'
  std::string_view request;
  Role role;
};
std::span<const MethodRole> MethodRoles();

}  // namespace keytrail::schema
