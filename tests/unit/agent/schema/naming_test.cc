// Which method the messages of a call prove, and which they do not. Messages are written as protobuf text, so
// that each case can be read; protobuf's own serializer makes the bytes.
#include "agent/schema/naming.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "proto/kvproto/bundled_descriptor_set.h"

namespace keytrail {
namespace {

namespace pb = google::protobuf;

const Schema& TheSchema() {
  static const Result<std::unique_ptr<Schema>> schema = Schema::Bundled();
  return **schema;
}

// The bytes of `text` as a message of the type.
std::string Encode(const std::string& type, const std::string& text) {
  static pb::DescriptorPool pool;
  static pb::DynamicMessageFactory factory(&pool);
  static const bool built = [] {
    pb::FileDescriptorSet set;
    const Bytes bundled = BundledDescriptorSet();
    if (!set.ParseFromArray(bundled.data(), static_cast<int>(bundled.size()))) return false;
    for (const auto& file : set.file()) pool.BuildFile(file);
    return true;
  }();
  EXPECT_TRUE(built);
  const pb::Descriptor* descriptor = pool.FindMessageTypeByName(type);
  if (descriptor == nullptr) {
    ADD_FAILURE() << type;
    return {};
  }
  std::unique_ptr<pb::Message> message(factory.GetPrototype(descriptor)->New());
  EXPECT_TRUE(pb::TextFormat::ParseFromString(text, message.get())) << type << ": " << text;
  return message->SerializeAsString();
}

struct Call {
  std::string request;
  std::string response;
};

constexpr ServerRoles kPd = 1, kTikv = 2;

struct Case {
  const char* what;
  const char* request_type;
  const char* response_type;
  std::vector<Call> calls;  // text
  ServerRoles roles;
  const char* expected;  // "": must stay unknown
};

// A routed request's context.
const std::string kContext =
    "context { region_id: 16 region_epoch { conf_ver: 5 version: 83 } peer { id: 4693 store_id: 1 } } ";
const std::string kHeader = "header { cluster_id: 7711404973877209306 } ";
const std::string kTs = "470661668192388056";
const std::string kRegion =
    "region { id: 14 start_key: 't1' end_key: 't9' region_epoch { conf_ver: 1 version: 2 } "
    "peers { id: 9 store_id: 1 } } leader { id: 9 store_id: 1 }";
const std::string kEtcd =
    "header { cluster_id: 14841639068965178418 member_id: 10276657743932975437 revision: 9 raft_term: 2 } ";

std::vector<Call> Times(size_t n, const Call& call) {
  return std::vector<Call>(n, call);
}

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"point reads",
       "kvrpcpb.GetRequest",
       "kvrpcpb.GetResponse",
       {{kContext + "key: 't53_r8012' version: " + kTs, "value: 'some row' "},
        {kContext + "key: 't53_r8013' version: " + kTs, "not_found: true"}},
       kAnyServer,
       "/tikvpb.Tikv/KvGet"},
      {"one point read is not enough: it may be another method's only short message",
       "kvrpcpb.GetRequest",
       "kvrpcpb.GetResponse",
       {{kContext + "key: 'k' version: " + kTs, "value: 'v'"}},
       kAnyServer,
       ""},
      {"point reads without an answer", "kvrpcpb.GetRequest", "",
       Times(6, {kContext + "key: 't53_r8012' version: " + kTs, ""}), kAnyServer, ""},
      {"a raw read that finds nothing is like a raw delete or a look for the time to live",
       "kvrpcpb.RawGetRequest", "kvrpcpb.RawGetResponse",
       Times(6, {kContext + "key: 'k'", "not_found: true"}), kAnyServer, ""},
      {"a delete of a raw key", "kvrpcpb.RawDeleteRequest", "kvrpcpb.RawDeleteResponse",
       Times(6, {kContext + "key: 'k'", ""}), kAnyServer, ""},
      {"a scan from a key", "kvrpcpb.ScanRequest", "kvrpcpb.ScanResponse",
       Times(3, {kContext + "start_key: 'a' limit: 256 version: " + kTs + " end_key: 'b'",
                 "pairs { key: 'a1' value: 'x' } pairs { key: 'a2' value: 'y' }"}),
       kAnyServer, "/tikvpb.Tikv/KvScan"},
      {"prewrites", "kvrpcpb.PrewriteRequest", "kvrpcpb.PrewriteResponse",
       Times(2, {kContext +
                     "mutations { key: 'k' value: 'v' } primary_lock: 'k' lock_ttl: 3000 txn_size: 2 "
                     "start_version: " +
                     kTs,
                 ""}),
       kAnyServer, "/tikvpb.Tikv/KvPrewrite"},
      {"a coprocessor request is no stream's, and no versioned one's", "coprocessor.Request",
       "coprocessor.Response",
       Times(3, {kContext + "tp: 103 data: '\\010\\001\\022\\004abcd' start_ts: " + kTs +
                     " ranges { start: 't1' end: 't2' } schema_ver: 30",
                 "data: '\\012\\003abc'"}),
       kAnyServer, "/tikvpb.Tikv/Coprocessor"},
      {"a coprocessor request with a newer field at its top", "coprocessor.Request", "coprocessor.Response",
       Times(3, {kContext + "tp: 103 data: 'xyz' ranges { start: 't1' end: 't2' }\x01", "data: 'abc'"}),
       kAnyServer, ""},
      {"a lookup at PD whose answers hold the key",
       "pdpb.GetRegionRequest",
       "pdpb.GetRegionResponse",
       {{kHeader + "region_key: 't2'", kHeader + kRegion}, {kHeader + "region_key: 't3'", kHeader + kRegion}},
       kPd,
       "/pdpb.PD/GetRegion"},
      {"the same at a server of which nothing is known: a router answers so too",
       "pdpb.GetRegionRequest",
       "pdpb.GetRegionResponse",
       {{kHeader + "region_key: 't2'", kHeader + kRegion}, {kHeader + "region_key: 't3'", kHeader + kRegion}},
       kAnyServer,
       ""},
      {"answers that lie before the key: GetPrevRegion, or a GetRegion that is wrong",
       "pdpb.GetRegionRequest", "pdpb.GetRegionResponse",
       Times(8, {kHeader + "region_key: 'ta'", kHeader + kRegion}), kPd, ""},
      {"GetPrevRegion with every other answer too wide",
       "pdpb.GetRegionRequest",
       "pdpb.GetRegionResponse",
       {{kHeader + "region_key: 'ta'", kHeader + kRegion},
        {kHeader + "region_key: 't2'", kHeader + kRegion},
        {kHeader + "region_key: 'ta'", kHeader + kRegion},
        {kHeader + "region_key: 't2'", kHeader + kRegion},
        {kHeader + "region_key: 'tb'", kHeader + kRegion},
        {kHeader + "region_key: 't2'", kHeader + kRegion}},
       kPd,
       ""},
      {"a lookup that finds no region", "pdpb.GetRegionRequest", "pdpb.GetRegionResponse",
       Times(6, {kHeader + "region_key: 't2'", kHeader}), kPd, ""},
      {"questions to PD with a header alone", "pdpb.GetClusterConfigRequest", "pdpb.GetClusterConfigResponse",
       Times(8, {kHeader, kHeader}), kPd, ""},
      {"GetAllStores without tombstones looks like GetStore of store 1", "pdpb.GetAllStoresRequest",
       "pdpb.GetAllStoresResponse",
       Times(4, {kHeader + "exclude_tombstone_stores: true",
                 kHeader + "stores { id: 1 address: '10.77.0.31:20160' version: '5.0.0' }"}),
       kPd, "/pdpb.PD/GetAllStores"},
      {"GetStore of store 1", "pdpb.GetStoreRequest", "pdpb.GetStoreResponse",
       Times(4, {kHeader + "store_id: 1", kHeader +
                                              "store { id: 1 address: '10.77.0.31:20160' version: '5.0.0' } "
                                              "stats { store_id: 1 capacity: 2147483648 }"}),
       kPd, "/pdpb.PD/GetStore"},
      {"an answer of another cluster", "pdpb.GetStoreRequest", "pdpb.GetStoreResponse",
       Times(4, {kHeader + "store_id: 1",
                 "header { cluster_id: 7711404973877209307 } "
                 "store { id: 1 address: '10.77.0.31:20160' } stats { store_id: 1 capacity: 2147483648 }"}),
       kPd, ""},
      {"heartbeats of a store", "pdpb.StoreHeartbeatRequest", "pdpb.StoreHeartbeatResponse",
       Times(2, {kHeader + "stats { store_id: 1 capacity: 2147483648 available: 1073741824 region_count: 6 "
                           "start_time: 1795450000 }",
                 kHeader + "cluster_version: '1.0.0'"}),
       kPd, "/pdpb.PD/StoreHeartbeat"},
      {"an empty question answered with the number 1, at PD", "grpc.health.v1.HealthCheckRequest",
       "grpc.health.v1.HealthCheckResponse", Times(6, {"", "status: SERVING"}), kPd,
       "/grpc.health.v1.Health/Check"},
      {"the same at TiKV, which has others that look so", "grpc.health.v1.HealthCheckRequest",
       "grpc.health.v1.HealthCheckResponse", Times(6, {"", "status: SERVING"}), kTikv, ""},
      {"empty questions and answers", "pdpb.GetMembersRequest", "kvrpcpb.RawDeleteResponse",
       Times(9, {"", ""}), kAnyServer, ""},
      {"a lease is granted: the seconds come back",
       "etcdserverpb.LeaseGrantRequest",
       "etcdserverpb.LeaseGrantResponse",
       {{"TTL: 60", kEtcd + "ID: 7587900000000000001 TTL: 60"},
        {"TTL: 60", kEtcd + "ID: 7587900000000000002 TTL: 60"}},
       kPd,
       "/etcdserverpb.Lease/LeaseGrant"},
      {"the time to live of a lease: its id comes back", "etcdserverpb.LeaseTimeToLiveRequest",
       "etcdserverpb.LeaseTimeToLiveResponse",
       Times(2, {"ID: 7587900000000000001", kEtcd + "ID: 7587900000000000001 TTL: 50 grantedTTL: 60"}), kPd,
       "/etcdserverpb.Lease/LeaseTimeToLive"},
      {"a range of etcd with what it holds", "etcdserverpb.RangeRequest", "etcdserverpb.RangeResponse",
       Times(2, {"key: '/tidb/ddl/fg/owner/' range_end: '/tidb/ddl/fg/owner0' limit: 1",
                 kEtcd + "kvs { key: '/tidb/ddl/fg/owner/12' create_revision: 7 mod_revision: 7 version: 1 "
                         "value: 'a' lease: 7587900000000000001 } count: 1"}),
       kPd, "/etcdserverpb.KV/Range"},
      {"a range of etcd that holds nothing is like a put", "etcdserverpb.RangeRequest",
       "etcdserverpb.RangeResponse", Times(6, {"key: 'a' range_end: 'b'", kEtcd}), kPd, ""},
  };
  return cases;
}

class Naming : public ::testing::TestWithParam<size_t> {};

TEST_P(Naming, ProvesThisMethodOrNone) {
  const Case& c = Cases()[GetParam()];
  SCOPED_TRACE(c.what);
  MethodEvidence evidence(TheSchema(), MethodEvidence::Shape::kCall);
  for (const Call& call : c.calls) {
    std::string request_text = call.request;
    const bool newer = request_text.ends_with('\x01');
    if (newer) request_text.pop_back();
    std::string request = Encode(c.request_type, request_text);
    if (newer) request += "\xF0\x07\x01";  // field 126, a varint
    SeenCall seen;
    seen.has_request = true;
    seen.request = AsBytes(request);
    std::string response;
    if (c.response_type[0] != '\0') {
      response = Encode(c.response_type, call.response);
      seen.has_response = true;
      seen.response = AsBytes(response);
    }
    evidence.Observe(seen);
  }
  const Method* proved = evidence.Proved(c.roles);
  EXPECT_EQ(proved == nullptr ? "" : proved->path, c.expected);
}

INSTANTIATE_TEST_SUITE_P(Calls, Naming, ::testing::Range<size_t>(0, Cases().size()));

// What is not known by name may still be known to be one of few.
TEST(NamingCandidates, AreListedWhenTheyAreFew) {
  MethodEvidence evidence(TheSchema(), MethodEvidence::Shape::kCall);
  EXPECT_TRUE(evidence.Candidates(kPd, 8).empty());
  const std::string request = Encode("pdpb.GetRegionRequest", kHeader + "region_key: 't2'");
  const std::string response = Encode("pdpb.GetRegionResponse", kHeader + kRegion);
  for (int i = 0; i < 2; ++i) evidence.Observe(SeenCall{AsBytes(request), AsBytes(response), true, true});
  std::vector<std::string> paths;
  for (const Method* method : evidence.Candidates(kAnyServer, 8)) paths.push_back(method->path);
  EXPECT_EQ(paths, (std::vector<std::string>{"/pdpb.PD/GetRegion", "/routerpb.Router/GetRegion"}));
}

TEST(NamingStreams, AreProvedByTheirMessages) {
  struct StreamCase {
    const char* request_type;
    const char* response_type;
    std::string request;
    std::string response;
    const char* expected;
  };
  const StreamCase cases[] = {
      {"tikvpb.BatchCommandsRequest", "tikvpb.BatchCommandsResponse",
       "requests { Get { " + kContext + " key: 'k' version: " + kTs + " } } request_ids: 7",
       "responses { Get { value: 'v' } } request_ids: 7", "/tikvpb.Tikv/BatchCommands"},
      {"pdpb.TsoRequest", "pdpb.TsoResponse", kHeader + "count: 3",
       kHeader + "count: 3 timestamp { physical: 1795451401556 logical: 5 }", "/pdpb.PD/Tso"},
      {"pdpb.RegionHeartbeatRequest", "pdpb.RegionHeartbeatResponse",
       kHeader + kRegion + " approximate_size: 10 approximate_keys: 4000",
       kHeader + "region_id: 14 region_epoch { conf_ver: 1 version: 2 } target_peer { id: 9 store_id: 1 }",
       "/pdpb.PD/RegionHeartbeat"},
      {"pdpb.QueryRegionRequest", "pdpb.QueryRegionResponse", kHeader + "keys: 't2'",
       kHeader + "key_id_map: 14 regions_by_id { key: 14 value { " + kRegion + " } }",
       "/pdpb.PD/QueryRegion"},
      {"etcdserverpb.LeaseKeepAliveRequest", "etcdserverpb.LeaseKeepAliveResponse", "ID: 7587900000000000001",
       kEtcd + "ID: 7587900000000000001 TTL: 60", "/etcdserverpb.Lease/LeaseKeepAlive"},
  };
  for (const StreamCase& c : cases) {
    SCOPED_TRACE(c.expected);
    MethodEvidence right(TheSchema(), MethodEvidence::Shape::kStream);
    MethodEvidence swapped(TheSchema(), MethodEvidence::Shape::kStream);
    const std::string request = Encode(c.request_type, c.request);
    const std::string response = Encode(c.response_type, c.response);
    for (int i = 0; i < 4; ++i) {
      right.Observe(false, AsBytes(request));
      right.Observe(true, AsBytes(response));
      swapped.Observe(true, AsBytes(request));
      swapped.Observe(false, AsBytes(response));
    }
    const Method* proved = right.Proved(kAnyServer & (kPd | kTikv));
    EXPECT_EQ(proved == nullptr ? "" : proved->path, c.expected);
    // Who is the client is part of the proof.
    EXPECT_EQ(swapped.Proved(kAnyServer & (kPd | kTikv)), nullptr);
  }
}

}  // namespace
}  // namespace keytrail
