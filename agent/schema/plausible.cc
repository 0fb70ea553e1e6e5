#include "agent/schema/plausible.h"

namespace keytrail::schema {

namespace {

// Physical times between 2015 and 2050, in ms: TiDB is not older.
constexpr uint64_t kFirstMs = 1'420'000'000'000;
constexpr uint64_t kLastMs = 2'524'000'000'000;
constexpr int kLogicalBits = 18;

constexpr DomainRow kDomains[] = {
    // Timestamps of transactions (tidb-wire.md section 2). SQL statements in auto-commit read at 2^64-1.
    {"kvrpcpb.GetRequest", "version", Domain::kTimestamp},
    {"kvrpcpb.ScanRequest", "version", Domain::kTimestamp},
    {"kvrpcpb.BatchGetRequest", "version", Domain::kTimestamp},
    {"kvrpcpb.BufferBatchGetRequest", "version", Domain::kTimestamp},
    {"kvrpcpb.FlashbackToVersionRequest", "version", Domain::kTimestamp},
    {"", "start_ts", Domain::kTimestamp},
    {"", "commit_ts", Domain::kTimestamp},
    {"", "start_version", Domain::kTimestamp},
    {"", "commit_version", Domain::kTimestamp},
    {"", "lock_ts", Domain::kTimestamp},
    {"", "caller_start_ts", Domain::kTimestamp},
    {"", "current_ts", Domain::kTimestamp},
    {"", "for_update_ts", Domain::kTimestamp},
    {"", "lock_version", Domain::kTimestamp},
    {"kvrpcpb.StoreSafeTSResponse", "safe_ts", Domain::kTimestamp},
    {"kvrpcpb.GCRequest", "safe_point", Domain::kTimestamp},
    {"pdpb.Timestamp", "physical", Domain::kPhysicalMs},
    // PD hands out ids one by one, for regions, peers and stores alike: none is near 2^48.
    {"kvrpcpb.Context", "region_id", Domain::kId},
    {"metapb.Region", "id", Domain::kId},
    {"metapb.Peer", "id", Domain::kId},
    {"metapb.Peer", "store_id", Domain::kId},
    {"metapb.Store", "id", Domain::kId},
    {"pdpb.GetStoreRequest", "store_id", Domain::kId},
    {"pdpb.GetRegionByIDRequest", "region_id", Domain::kId},
    {"metapb.RegionEpoch", "conf_ver", Domain::kId},
    {"metapb.RegionEpoch", "version", Domain::kId},
    // Counts and seconds; a lease's id in their place has 62 bits.
    {"etcdserverpb.RangeRequest", "limit", Domain::kId},
    {"etcdserverpb.LeaseGrantRequest", "TTL", Domain::kId},
    {"etcdserverpb.CompactionRequest", "revision", Domain::kId},
    // etcd's members and leases.
    {"etcdserverpb.MemberRemoveRequest", "ID", Domain::kRandomId},
    {"etcdserverpb.MemberUpdateRequest", "ID", Domain::kRandomId},
    {"etcdserverpb.MemberPromoteRequest", "ID", Domain::kRandomId},
    {"etcdserverpb.MoveLeaderRequest", "targetID", Domain::kRandomId},
    {"etcdserverpb.LeaseRevokeRequest", "ID", Domain::kRandomId},
    {"etcdserverpb.LeaseKeepAliveRequest", "ID", Domain::kRandomId},
    {"etcdserverpb.LeaseTimeToLiveRequest", "ID", Domain::kRandomId},
    // PD draws it at bootstrap from the time and a random number: 63 bits.
    {"pdpb.RequestHeader", "cluster_id", Domain::kClusterId},
    {"pdpb.ResponseHeader", "cluster_id", Domain::kClusterId},
    {"tsopb.RequestHeader", "cluster_id", Domain::kClusterId},
    {"tsopb.ResponseHeader", "cluster_id", Domain::kClusterId},
    {"meta_storagepb.RequestHeader", "cluster_id", Domain::kClusterId},
    {"meta_storagepb.ResponseHeader", "cluster_id", Domain::kClusterId},
    {"schedulingpb.RequestHeader", "cluster_id", Domain::kClusterId},
    {"schedulingpb.ResponseHeader", "cluster_id", Domain::kClusterId},
    {"gcpb.RequestHeader", "cluster_id", Domain::kClusterId},
    {"gcpb.ResponseHeader", "cluster_id", Domain::kClusterId},
};

constexpr ShapeRow kShapes[] = {
    // Anchors: who speaks. Every routed request carries a Context with these three (section 2); requests
    // without a region are not recognised by shape.
    {"kvrpcpb.Context", "region_id region_epoch peer", 30, true},
    {"metapb.RegionEpoch", "conf_ver version", 4, false},
    {"metapb.Peer", "id store_id", 4, false},
    {"metapb.Region", "id region_epoch peers", 16, true},
    {"metapb.Store", "id address", 16, true},
    {"pdpb.Member", "name member_id peer_urls client_urls", 30, true},
    {"pdpb.Timestamp", "physical", 4, true},
    // (in the answers within a transaction's answer it has a revision alone)
    {"etcdserverpb.ResponseHeader", "cluster_id member_id raft_term", 24, true, false},
    {"etcdserverpb.Member", "ID peerURLs", 16, true},
    // PD and its services answer nothing without their cluster id; clients ask with it, except for the two
    // calls that learn it (GetMembers, GetClusterInfo).
    {"pdpb.RequestHeader", "cluster_id", 2, false},
    {"pdpb.ResponseHeader", "cluster_id", 2, false},
    {"tsopb.RequestHeader", "cluster_id", 2, false},
    {"tsopb.ResponseHeader", "cluster_id", 2, false},
    {"meta_storagepb.RequestHeader", "cluster_id", 2, false},
    {"meta_storagepb.ResponseHeader", "cluster_id", 2, false},
    {"schedulingpb.RequestHeader", "cluster_id", 2, false},
    {"schedulingpb.ResponseHeader", "cluster_id", 2, false},
    {"gcpb.RequestHeader", "cluster_id", 2, false},
    {"gcpb.ResponseHeader", "cluster_id", 2, false},
    // Requests of TiKV without which the method makes no sense: client-go and TiKV's own tests never leave
    // them out (tikvrpc, tidb-wire.md section 2).
    {"kvrpcpb.GetRequest", "context key version", 2, false},
    {"kvrpcpb.ScanRequest", "context limit version", 2, false},
    {"kvrpcpb.BatchGetRequest", "context keys version", 2, false},
    {"kvrpcpb.PrewriteRequest", "context mutations primary_lock start_version", 4, false},
    {"kvrpcpb.PessimisticLockRequest", "context mutations primary_lock start_version for_update_ts", 4,
     false},
    {"kvrpcpb.PessimisticRollbackRequest", "context start_version for_update_ts keys", 4, false},
    {"kvrpcpb.CommitRequest", "context start_version keys commit_version", 4, false},
    {"kvrpcpb.CleanupRequest", "context key start_version", 2, false},
    {"kvrpcpb.BatchRollbackRequest", "context start_version keys", 2, false},
    {"kvrpcpb.CheckTxnStatusRequest", "context primary_key lock_ts", 2, false},
    {"kvrpcpb.CheckSecondaryLocksRequest", "context keys start_version", 2, false},
    {"kvrpcpb.TxnHeartBeatRequest", "context primary_lock start_version advise_lock_ttl", 2, false},
    {"kvrpcpb.ScanLockRequest", "context max_version", 2, false},
    {"kvrpcpb.ResolveLockRequest", "context", 0, false},
    {"kvrpcpb.GCRequest", "context safe_point", 2, false},
    {"kvrpcpb.DeleteRangeRequest", "context start_key", 0, false},
    {"kvrpcpb.PrepareFlashbackToVersionRequest", "context start_ts", 2, false},
    {"kvrpcpb.FlashbackToVersionRequest", "context version start_ts", 2, false},
    {"kvrpcpb.FlushRequest", "context mutations primary_key start_ts generation", 4, false},
    {"kvrpcpb.BufferBatchGetRequest", "context keys version", 2, false},
    {"kvrpcpb.RawGetRequest", "context key", 0, false},
    {"kvrpcpb.RawBatchGetRequest", "context keys", 0, false},
    {"kvrpcpb.RawPutRequest", "context key value", 0, false},
    {"kvrpcpb.RawBatchPutRequest", "context pairs", 0, false},
    {"kvrpcpb.RawDeleteRequest", "context key", 0, false},
    {"kvrpcpb.RawBatchDeleteRequest", "context keys", 0, false},
    {"kvrpcpb.RawScanRequest", "context limit", 0, false},
    {"kvrpcpb.RawDeleteRangeRequest", "context end_key", 0, false},
    {"kvrpcpb.RawBatchScanRequest", "context ranges each_limit", 0, false},
    {"kvrpcpb.RawGetKeyTTLRequest", "context key", 0, false},
    {"kvrpcpb.RawCASRequest", "context key", 0, false},
    {"kvrpcpb.RawChecksumRequest", "context ranges", 0, false},
    {"kvrpcpb.RawCoprocessorRequest", "context copr_name data", 0, false},
    {"kvrpcpb.SplitRegionRequest", "context split_keys", 0, false},
    {"kvrpcpb.ReadIndexRequest", "context ranges", 0, false},
    {"kvrpcpb.MvccGetByKeyRequest", "context key", 0, false},
    {"kvrpcpb.MvccGetByStartTsRequest", "context start_ts", 2, false},
    {"kvrpcpb.CheckLeaderRequest", "regions", 0, false},
    {"coprocessor.Request", "context tp data", 2, false},
    {"coprocessor.BatchRequest", "context tp data", 2, false},
    {"kvrpcpb.MvccInfo", "writes", 0, false},
    {"kvrpcpb.MvccWrite", "start_ts", 2, false},
    // Questions to PD (section 1). A scan always has a limit: PD's client passes it on, client-go's is 128.
    {"pdpb.GetRegionRequest", "header", 0, false},
    {"pdpb.GetRegionByIDRequest", "header region_id", 0, false},
    {"pdpb.ScanRegionsRequest", "header limit", 0, false},
    {"pdpb.BatchScanRegionsRequest", "header ranges", 0, false},
    {"pdpb.QueryRegionRequest", "header", 0, false},
    {"pdpb.GetStoreRequest", "header store_id", 0, false},
    {"pdpb.GetAllStoresRequest", "header", 0, false},
    {"pdpb.PutStoreRequest", "header store", 0, false},
    {"pdpb.BootstrapRequest", "header store region", 0, false},
    {"pdpb.TsoRequest", "header count", 0, false},
    {"pdpb.TsoResponse", "header count timestamp", 0, false},
    {"tsopb.TsoRequest", "header count", 0, false},
    {"tsopb.TsoResponse", "header count timestamp", 0, false},
    {"pdpb.RegionHeartbeatRequest", "header region", 0, false},
    {"pdpb.RegionHeartbeatResponse", "header region_id", 0, false},
    {"schedulingpb.RegionHeartbeatRequest", "header region", 0, false},
    {"pdpb.StoreHeartbeatRequest", "header stats", 0, false},
    {"pdpb.StoreStats", "store_id", 2, false},
    {"pdpb.AskBatchSplitRequest", "header region split_count", 0, false},
    {"pdpb.ReportBatchSplitRequest", "header regions", 0, false},
    {"pdpb.GetMembersResponse", "header members", 0, false},
    {"pdpb.GetRegionResponse", "header", 0, false},
    {"pdpb.ScanRegionsResponse", "header", 0, false},
    {"pdpb.BatchScanRegionsResponse", "header", 0, false},
    {"pdpb.QueryRegionResponse", "header", 0, false},
    {"pdpb.GetStoreResponse", "header", 0, false},
    {"pdpb.GetAllStoresResponse", "header", 0, false},
    // etcd and health, whose calls share PD's connections.
    {"etcdserverpb.LeaseGrantRequest", "TTL", 0, false},
    {"etcdserverpb.LeaseGrantResponse", "header ID TTL", 0, false},
    {"etcdserverpb.LeaseTimeToLiveResponse", "header ID", 0, false},
    {"etcdserverpb.LeaseRevokeRequest", "ID", 0, false},
    {"etcdserverpb.LeaseKeepAliveRequest", "ID", 0, false},
    {"etcdserverpb.LeaseKeepAliveResponse", "header ID", 0, false},
    {"etcdserverpb.LeaseTimeToLiveRequest", "ID", 0, false},
    {"etcdserverpb.RangeRequest", "key", 0, false},
    {"etcdserverpb.PutRequest", "key", 0, false},
    {"etcdserverpb.DeleteRangeRequest", "key", 0, false},
    {"etcdserverpb.Compare", "key", 0, false},
    {"etcdserverpb.MemberRemoveRequest", "ID", 0, false},
    {"etcdserverpb.MemberUpdateRequest", "ID", 0, false},
    {"etcdserverpb.MemberPromoteRequest", "ID", 0, false},
    {"etcdserverpb.RangeResponse", "header", 0, false},
    {"etcdserverpb.PutResponse", "header", 0, false},
    {"etcdserverpb.DeleteRangeResponse", "header", 0, false},
    {"etcdserverpb.WatchResponse", "header", 0, false},
    {"resource_manager.ResourceGroup", "name mode", 16, true},
    {"resource_manager.TokenBucketRequest", "resource_group_name", 10, true},
    {"resource_manager.TokenBucketResponse", "resource_group_name", 10, true},
    {"mvccpb.KeyValue", "key create_revision mod_revision version", 10, false},
};

constexpr EchoRow kEchoes[] = {
    {"", "header.cluster_id", "header.cluster_id"},
    {"/pdpb.PD/GetStore", "store_id", "store.id"},
    {"/routerpb.Router/GetStore", "store_id", "store.id"},
    {"/pdpb.PD/GetRegionByID", "region_id", "region.id"},
    {"/routerpb.Router/GetRegionByID", "region_id", "region.id"},
    // Three calls with an id and a number of seconds: which is which, the repeated number tells.
    {"/etcdserverpb.Lease/LeaseGrant", "TTL", "TTL"},
    {"/etcdserverpb.Lease/LeaseTimeToLive", "ID", "ID"},
    {"/etcdserverpb.Lease/LeaseKeepAlive", "ID", "ID"},
};

constexpr DemandRow kDemands[] = {
    // TiKV says in each part of a streamed answer which range it covers (coprocessor/dag:
    // make_stream_response).
    {"/tikvpb.Tikv/CoprocessorStream", true, "data", "range"},
    // PD answers with the store's statistics too; GetAllStores has none, and its `true` looks like store 1.
    {"/pdpb.PD/GetStore", true, "store", "stats"},
    {"/routerpb.Router/GetStore", true, "store", "stats"},
    {"/tikvpb.Tikv/Coprocessor", false, "", "ranges"},
    {"/tikvpb.VersionedKv/VersionedCoprocessor", false, "", "versioned_ranges"},
};

}  // namespace

std::span<const DemandRow> Demands() {
  return kDemands;
}
std::span<const DomainRow> Domains() {
  return kDomains;
}
std::span<const ShapeRow> Shapes() {
  return kShapes;
}
std::span<const EchoRow> Echoes() {
  return kEchoes;
}

bool IsPlausible(Domain domain, uint64_t value) {
  switch (domain) {
    case Domain::kAny:
      return true;
    case Domain::kUint32:
      return value <= UINT32_MAX;
    case Domain::kInt32:
      return value <= INT32_MAX || static_cast<int64_t>(value) >= INT32_MIN;
    case Domain::kTimestamp:
      return value == UINT64_MAX || (value >> kLogicalBits >= kFirstMs && value >> kLogicalBits <= kLastMs);
    case Domain::kPhysicalMs:
      return value >= kFirstMs && value <= kLastMs;
    case Domain::kId:
      return value != 0 && value >> 48 == 0;
    case Domain::kRandomId:
      return value >> 40 != 0;
    case Domain::kClusterId:
      return value != 0;
  }
  return true;
}

int BitsOf(Domain domain) {
  switch (domain) {
    case Domain::kTimestamp:
      return 14;
    case Domain::kPhysicalMs:
      return 20;
    case Domain::kId:
      return 1;
    default:
      return 0;
  }
}

}  // namespace keytrail::schema
