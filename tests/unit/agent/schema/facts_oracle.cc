#include "tests/unit/agent/schema/facts_oracle.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "agent/schema/error_text.h"
#include "common/key_codec.h"

namespace keytrail::testing {

namespace {

namespace pb = google::protobuf;
using F = pb::FieldDescriptor;

// Section 1 and 2 of tidb-wire.md as "what:field" words.
const std::map<std::string, std::string>& Spec() {
  static const std::map<std::string, std::string> kSpec = {
      {"kvrpcpb.GetRequest", "key:key ts:version"},
      {"kvrpcpb.BatchGetRequest", "key:keys ts:version"},
      {"kvrpcpb.BufferBatchGetRequest", "key:keys ts:version"},
      {"kvrpcpb.ScanRequest", "range:start_key,end_key limit:limit ts:version reverse:reverse"},
      {"kvrpcpb.PrewriteRequest", "items:mutations ts:start_version"},
      {"kvrpcpb.PessimisticLockRequest", "items:mutations ts:start_version"},
      {"kvrpcpb.PessimisticRollbackRequest", "key:keys ts:start_version"},
      {"kvrpcpb.TxnHeartBeatRequest", "key:primary_lock ts:start_version"},
      {"kvrpcpb.CheckTxnStatusRequest", "key:primary_key ts:lock_ts"},
      {"kvrpcpb.CheckSecondaryLocksRequest", "key:keys ts:start_version"},
      {"kvrpcpb.CommitRequest", "key:keys ts:start_version commit:commit_version"},
      {"kvrpcpb.ImportRequest", "items:mutations commit:commit_version"},
      {"kvrpcpb.CleanupRequest", "key:key ts:start_version"},
      {"kvrpcpb.BatchRollbackRequest", "key:keys ts:start_version"},
      {"kvrpcpb.ScanLockRequest", "range:start_key,end_key limit:limit"},
      {"kvrpcpb.ResolveLockRequest", "key:keys ts:start_version commit:commit_version"},
      {"kvrpcpb.DeleteRangeRequest", "range:start_key,end_key"},
      {"kvrpcpb.PrepareFlashbackToVersionRequest", "range:start_key,end_key ts:start_ts"},
      {"kvrpcpb.FlashbackToVersionRequest", "range:start_key,end_key ts:start_ts commit:commit_ts"},
      {"kvrpcpb.FlushRequest", "items:mutations ts:start_ts"},
      {"kvrpcpb.UnsafeDestroyRangeRequest", "range:start_key,end_key"},
      {"kvrpcpb.PhysicalScanLockRequest", "range:start_key, limit:limit"},
      {"kvrpcpb.SplitRegionRequest", "key:split_key key:split_keys"},
      {"kvrpcpb.ReadIndexRequest", "items:ranges ts:start_ts"},
      {"kvrpcpb.ReadIndexResponse", "locked:locked"},
      {"kvrpcpb.MvccGetByKeyRequest", "key:key"},
      {"kvrpcpb.MvccGetByStartTsRequest", "ts:start_ts"},
      {"kvrpcpb.RawGetRequest", "raw key:key"},
      {"kvrpcpb.RawBatchGetRequest", "raw key:keys"},
      {"kvrpcpb.RawPutRequest", "raw key:key value:value"},
      {"kvrpcpb.RawBatchPutRequest", "raw items:pairs"},
      {"kvrpcpb.RawDeleteRequest", "raw key:key"},
      {"kvrpcpb.RawBatchDeleteRequest", "raw key:keys"},
      {"kvrpcpb.RawScanRequest", "raw range:start_key,end_key limit:limit reverse:reverse"},
      {"kvrpcpb.RawDeleteRangeRequest", "raw range:start_key,end_key"},
      {"kvrpcpb.RawBatchScanRequest", "raw items:ranges limit:each_limit reverse:reverse"},
      {"kvrpcpb.RawGetKeyTTLRequest", "raw key:key"},
      {"kvrpcpb.RawCASRequest", "raw key:key value:value value:previous_value"},
      {"kvrpcpb.RawChecksumRequest", "raw items:ranges"},
      {"kvrpcpb.RawCoprocessorRequest", "raw items:ranges"},
      {"coprocessor.Request",
       "items:ranges holders:versioned_ranges tasks:tasks ts:start_ts conn:connection_id"},
      {"coprocessor.BatchRequest", "tasks:regions ts:start_ts conn:connection_id"},
      {"coprocessor.TableRegions", "tasks:regions"},
      {"coprocessor.DelegateRequest", "items:ranges ts:start_ts"},
      {"coprocessor.TiCIEstimateCountRequest", "ts:start_ts"},
      {"mpp.DispatchTaskRequest", "tasks:regions"},
      {"mpp.TaskMeta", "ts:start_ts task:task_id conn:connection_id"},
      {"kvrpcpb.GetResponse", "value:value notfound:not_found"},
      {"kvrpcpb.ScanResponse", "pairs:pairs"},
      {"kvrpcpb.BatchGetResponse", "pairs:pairs"},
      {"kvrpcpb.BufferBatchGetResponse", "pairs:pairs"},
      {"kvrpcpb.KvPair", "value:value"},
      {"kvrpcpb.PrewriteResponse", "commit:one_pc_commit_ts"},
      {"kvrpcpb.CommitResponse", "commit:commit_version"},
      {"kvrpcpb.CheckTxnStatusResponse", "commit:commit_version"},
      {"kvrpcpb.CheckSecondaryLocksResponse", "commit:commit_ts"},
      {"kvrpcpb.CleanupResponse", "commit:commit_version"},
      {"kvrpcpb.PessimisticLockResponse", "value:value value:values"},
      {"kvrpcpb.PessimisticLockKeyResult", "value:value"},
      {"kvrpcpb.RawGetResponse", "value:value notfound:not_found"},
      {"kvrpcpb.RawBatchGetResponse", "pairs:pairs"},
      {"kvrpcpb.RawScanResponse", "pairs:kvs"},
      {"kvrpcpb.RawBatchScanResponse", "pairs:kvs"},
      {"kvrpcpb.RawGetKeyTTLResponse", "notfound:not_found"},
      {"kvrpcpb.RawCASResponse", "value:previous_value"},
      {"kvrpcpb.RawCoprocessorResponse", "value:data"},
      {"coprocessor.Response", "value:data locked:locked text:other_error"},
      {"coprocessor.StoreBatchTaskResponse", "value:data locked:locked text:other_error"},
      {"coprocessor.BatchResponse", "value:data text:other_error"},
      {"coprocessor.DelegateResponse", "locked:locked text:other_error"},
      {"coprocessor.TiCIEstimateCountResponse", "text:other_error"},
      {"mpp.MPPDataPacket", "value:data value:chunks"},
      {"pdpb.RequestHeader", "cluster:cluster_id"},
      {"pdpb.ResponseHeader", "cluster:cluster_id"},
      {"tsopb.RequestHeader", "cluster:cluster_id"},
      {"tsopb.ResponseHeader", "cluster:cluster_id"},
      {"schedulingpb.RequestHeader", "cluster:cluster_id"},
      {"schedulingpb.ResponseHeader", "cluster:cluster_id"},
      {"meta_storagepb.RequestHeader", "cluster:cluster_id"},
      {"meta_storagepb.ResponseHeader", "cluster:cluster_id"},
      {"pdpb.GetRegionByIDRequest", "asked:region_id"},
      {"pdpb.ScanRegionsRequest", "encoded range:start_key,end_key limit:limit"},
      {"pdpb.BatchScanRegionsRequest", "encoded items:ranges limit:limit all:contain_all_key_range"},
      {"pdpb.QueryRegionRequest", "encoded asked:ids key:keys prev:prev_keys"},
      {"pdpb.QueryRegionResponse", "map:key_id_map prevmap:prev_key_id_map"},
      {"pdpb.GetStoreRequest", "store:store_id"},
      {"pdpb.ReportMinResolvedTsRequest", "store:store_id"},
      {"pdpb.GetOperatorRequest", "asked:region_id"},
      {"pdpb.ScatterRegionRequest", "asked:region_id asked:regions_id"},
      {"pdpb.SplitRegionsRequest", "encoded key:split_keys"},
      {"pdpb.SplitAndScatterRegionsRequest", "encoded key:split_keys"},
  };
  return kSpec;
}

StatementSource SourceOf(const std::string& field, StatementSource around) {
  static const std::map<std::string, StatementSource> kSources = {
      {"pdpb.GetRegionResponse.region", StatementSource::kPdGetRegion},
      {"pdpb.ScanRegionsResponse.region_metas", StatementSource::kPdScanRegions},
      {"pdpb.SyncRegionResponse.regions", StatementSource::kPdSyncRegions},
      {"pdpb.RegionHeartbeatRequest.region", StatementSource::kHeartbeat},
      {"pdpb.Merge.target", StatementSource::kPdHeartbeatAnswer},
      {"pdpb.AskSplitRequest.region", StatementSource::kSplitReport},
      {"pdpb.AskBatchSplitRequest.region", StatementSource::kSplitReport},
      {"pdpb.ReportSplitRequest.left", StatementSource::kSplitReport},
      {"pdpb.ReportSplitRequest.right", StatementSource::kSplitReport},
      {"pdpb.ReportBatchSplitRequest.regions", StatementSource::kSplitReport},
      {"pdpb.ScatterRegionRequest.region", StatementSource::kRequest},
      {"kvrpcpb.SplitRegionResponse.left", StatementSource::kSplitResponse},
      {"kvrpcpb.SplitRegionResponse.right", StatementSource::kSplitResponse},
      {"kvrpcpb.SplitRegionResponse.regions", StatementSource::kSplitResponse},
      {"coprocessor.BatchResponse.retry_regions", StatementSource::kRetryRegions},
      {"mpp.DispatchTaskResponse.retry_regions", StatementSource::kRetryRegions},
  };
  if (field == "pdpb.Region.region" || field == "pdpb.RegionResponse.region") return around;
  const auto it = kSources.find(field);
  return it == kSources.end() ? StatementSource::kOther : it->second;
}

struct Around {
  int route = -1;
  StatementSource source = StatementSource::kOther;
};

class Oracle {
 public:
  explicit Oracle(MessageFacts& facts) : facts_(facts) {}

  void Root(const pb::Message& m, bool previous) {
    Around around;
    root_route_ = -1;
    if (Name(m) == "pdpb.GetRegionRequest") {
      KeyItem item;
      item.start = Copy(Bytes_(m, "region_key"));
      item.form = KeyForm::kEncoded;
      item.previous = previous;
      AddKey(item, around);
    }
    Plain(m, around, true);
    int settled = root_route_ >= 0 ? root_route_ : 0;
    if (!pending_.empty() && root_route_ < 0 && !facts_.routes.empty()) {
      settled = static_cast<int>(facts_.routes.size());
      facts_.routes.emplace_back();
    }
    for (const size_t i : pending_) facts_.keys[i].route = static_cast<uint16_t>(settled);
    if (facts_.start_ts == 0) facts_.start_ts = stmt_ts_;
    if (facts_.connection_id == 0) facts_.connection_id = stmt_conn_;
    if (!caller_.empty()) facts_.caller = AsText(Copy(caller_));
  }

 private:
  static std::string Name(const pb::Message& m) { return m.GetDescriptor()->full_name(); }
  static const F* Find(const pb::Message& m, const std::string& field) {
    return m.GetDescriptor()->FindFieldByName(field);
  }
  static uint64_t Number(const pb::Message& m, const std::string& field, int i = -1) {
    return NumberOf(m, Find(m, field), i);
  }
  static uint64_t NumberOf(const pb::Message& m, const F* f, int i = -1) {
    const pb::Reflection* r = m.GetReflection();
#define KEYTRAIL_GET(Type) i >= 0 ? r->GetRepeated##Type(m, f, i) : r->Get##Type(m, f)
    switch (f->cpp_type()) {
      case F::CPPTYPE_INT32:
        return static_cast<uint64_t>(int64_t{KEYTRAIL_GET(Int32)});
      case F::CPPTYPE_INT64:
        return static_cast<uint64_t>(KEYTRAIL_GET(Int64));
      case F::CPPTYPE_UINT32:
        return KEYTRAIL_GET(UInt32);
      case F::CPPTYPE_UINT64:
        return KEYTRAIL_GET(UInt64);
      case F::CPPTYPE_BOOL:
        return KEYTRAIL_GET(Bool);
      case F::CPPTYPE_ENUM:
        return static_cast<uint64_t>(int64_t{KEYTRAIL_GET(EnumValue)});
      default:
        std::abort();
    }
#undef KEYTRAIL_GET
  }
  static std::string Bytes_(const pb::Message& m, const std::string& field) {
    return m.GetReflection()->GetString(m, Find(m, field));
  }
  static bool Has(const pb::Message& m, const std::string& field) {
    return m.GetReflection()->HasField(m, Find(m, field));
  }
  static const pb::Message& Sub(const pb::Message& m, const std::string& field) {
    return m.GetReflection()->GetMessage(m, Find(m, field));
  }
  Bytes Copy(const std::string& s) {
    return facts_.arena.Copy(AsBytes(s));
  }

  template <typename Fn>
  static void Each(const pb::Message& m, const F* f, Fn fn) {
    const pb::Reflection* r = m.GetReflection();
    if (!f->is_repeated()) {
      if (r->HasField(m, f)) fn(r->GetMessage(m, f));
      return;
    }
    for (int i = 0; i < r->FieldSize(m, f); ++i) fn(r->GetRepeatedMessage(m, f, i));
  }

  void Plain(const pb::Message& m, Around around, bool root = false) {
    const std::string name = Name(m);
    const size_t first_key = facts_.keys.size();
    const size_t first_error = facts_.errors.size();
    const size_t first_statement = facts_.statements.size();
    std::map<std::string, std::string> what;  // field -> what
    bool encoded = false;
    if (const auto spec = Spec().find(name); spec != Spec().end()) {
      std::istringstream words(spec->second);
      for (std::string word; words >> word;) {
        if (word == "raw") {
          facts_.raw_keyspace = true;
        } else if (word == "encoded") {
          encoded = true;
        } else {
          const size_t colon = word.find(':');
          what[word.substr(colon + 1)] = word.substr(0, colon);
        }
      }
    }
    // The message's own Context, wherever it stands.
    for (int i = 0; i < m.GetDescriptor()->field_count(); ++i) {
      const F* f = m.GetDescriptor()->field(i);
      if (f->message_type() && f->message_type()->full_name() == "kvrpcpb.Context" && !f->is_repeated() &&
          m.GetReflection()->HasField(m, f)) {
        around.route = static_cast<int>(facts_.routes.size());
        Context(m.GetReflection()->GetMessage(m, f));
        if (root) root_route_ = around.route;
      }
    }
    for (const auto& [fields, kind] : what) {
      if (kind != "range") continue;
      const size_t comma = fields.find(',');
      KeyItem item;
      item.is_range = true;
      item.form = encoded ? KeyForm::kEncoded : KeyForm::kRaw;
      item.start = Copy(Bytes_(m, fields.substr(0, comma)));
      if (comma + 1 < fields.size()) item.end = Copy(Bytes_(m, fields.substr(comma + 1)));
      AddKey(item, around);
    }
    if (name == "pdpb.RequestHeader") {
      const std::string component = Bytes_(m, "caller_component");
      caller_ = Bytes_(m, "caller_id") + (component.empty() ? "" : "/" + component);
    }
    if (name == "pdpb.PutStoreRequest" && Has(m, "store")) facts_.store_id = Number(Sub(m, "store"), "id");
    if (name == "pdpb.StoreHeartbeatRequest" && Has(m, "stats")) {
      facts_.store_id = Number(Sub(m, "stats"), "store_id");
    }

    std::vector<const F*> fields;
    m.GetReflection()->ListFields(m, &fields);
    for (const F* f : fields) {
      const auto it = what.find(f->name());
      Field(m, f, it == what.end() ? "" : it->second, encoded, around);
    }
    if (Find(m, "reverse") && what.contains("reverse") && Number(m, "reverse") != 0) {
      for (size_t i = first_key; i < facts_.keys.size(); ++i) {
        if (!facts_.keys[i].is_range) continue;
        std::swap(facts_.keys[i].start, facts_.keys[i].end);
        facts_.keys[i].reverse = true;
      }
    }
    if (name == "coprocessor.StoreBatchTaskResponse") {
      for (size_t i = first_error; i < facts_.errors.size(); ++i)
        facts_.errors[i].task_id = Number(m, "task_id");
    }
    Leaders(m, name, first_statement);
    Repeats(m, name, first_statement);
  }

  void Field(const pb::Message& m, const F* f, const std::string& what, bool encoded, const Around& around) {
    const KeyForm form = encoded ? KeyForm::kEncoded : KeyForm::kRaw;
    const pb::Reflection* r = m.GetReflection();
    if (what == "key" || what == "prev") {
      const int n = f->is_repeated() ? r->FieldSize(m, f) : 1;
      for (int i = 0; i < n; ++i) {
        KeyItem item;
        item.form = form;
        item.previous = what == "prev";
        item.start = Copy(f->is_repeated() ? r->GetRepeatedString(m, f, i) : r->GetString(m, f));
        AddKey(item, around);
      }
    } else if (what == "items") {
      Each(m, f, [&](const pb::Message& item) { Item(item, form, around); });
    } else if (what == "holders") {
      Each(m, f, [&](const pb::Message& holder) {
        if (Has(holder, "range")) Item(Sub(holder, "range"), form, around);
      });
    } else if (what == "tasks") {
      Each(m, f, [&](const pb::Message& task) { Task(task); });
    } else if (what == "ts") {
      facts_.start_ts = NumberOf(m, f);
    } else if (what == "commit") {
      facts_.commit_ts = NumberOf(m, f);
    } else if (what == "conn") {
      facts_.connection_id = NumberOf(m, f);
    } else if (what == "task") {
      facts_.task_id = NumberOf(m, f);
    } else if (what == "store") {
      facts_.store_id = NumberOf(m, f);
    } else if (what == "cluster") {
      facts_.cluster_id = NumberOf(m, f);
    } else if (what == "limit") {
      const uint64_t v = NumberOf(m, f);
      facts_.limit = static_cast<int64_t>(v) < 0 ? 0 : v;
    } else if (what == "notfound") {
      facts_.not_found = NumberOf(m, f) != 0;
    } else if (what == "all") {
      facts_.contain_all_key_range = NumberOf(m, f) != 0;
    } else if (what == "asked" || what == "map" || what == "prevmap") {
      auto& list = what == "asked" ? facts_.asked_region_ids
                   : what == "map" ? facts_.key_id_map
                                   : facts_.prev_key_id_map;
      const int n = f->is_repeated() ? r->FieldSize(m, f) : 1;
      for (int i = 0; i < n; ++i) list.push_back(NumberOf(m, f, f->is_repeated() ? i : -1));
    } else if (what == "value") {
      const int n = f->is_repeated() ? r->FieldSize(m, f) : 1;
      for (int i = 0; i < n; ++i) {
        facts_.value_bytes += (f->is_repeated() ? r->GetRepeatedString(m, f, i) : r->GetString(m, f)).size();
      }
    } else if (what == "pairs") {
      facts_.pairs += static_cast<uint32_t>(r->FieldSize(m, f));
      Each(m, f, [&](const pb::Message& pair) { Plain(pair, around); });
    } else if (what == "locked") {
      facts_.errors.emplace_back().kind = ErrorKind::kKeyLocked;
    } else if (what == "text") {
      TextError(r->GetString(m, f));
    } else if (what.empty()) {
      Unnamed(m, f, around);
    }
  }

  // Fields that mean something by their type, and all the others.
  void Unnamed(const pb::Message& m, const F* f, Around around) {
    const std::string full = f->full_name();
    if (f->name() == "error" && f->type() == F::TYPE_STRING && full.starts_with("kvrpcpb.") &&
        Name(m).ends_with("Response")) {
      TextError(m.GetReflection()->GetString(m, f));
      return;
    }
    if (!f->message_type()) return;
    const std::string type = f->message_type()->full_name();
    if (full == "tikvpb.BatchCommandsRequest.requests" || full == "tikvpb.BatchCommandsResponse.responses")
      return;
    if (type == "kvrpcpb.Context") {
      if (f->is_repeated()) Each(m, f, [&](const pb::Message& c) { Context(c); });
    } else if (type == "metapb.Region") {
      Each(m, f, [&](const pb::Message& region) { Statement(region, SourceOf(full, around.source)); });
    } else if (type == "errorpb.Error" || full == "cdcpb.Event.error") {
      Each(m, f, [&](const pb::Message& e) { RegionError(e); });
    } else if (type == "kvrpcpb.KeyError") {
      Each(m, f, [&](const pb::Message& e) { KeyError(e); });
    } else if (full == "pdpb.ResponseHeader.error" || full == "pdpb.StoreGlobalConfigResponse.error") {
      const pb::Message& e = m.GetReflection()->GetMessage(m, f);
      if (Number(e, "type") == 0 && Bytes_(e, "message").empty()) return;
      ErrorFact& error = facts_.errors.emplace_back();
      error.kind = ErrorKind::kPdError;
      error.pd_error_type = static_cast<uint32_t>(Number(e, "type"));
      error.text = Copy(Bytes_(e, "message"));
    } else if (type == "mpp.Error" && full != "mpp.CancelTaskRequest.error") {
      TextError(Bytes_(m.GetReflection()->GetMessage(m, f), "msg"));
    } else if (type == "metapb.Store" && full == "pdpb.PutStoreRequest.store") {
    } else if (type == "pdpb.StoreStats" && full == "pdpb.StoreHeartbeatRequest.stats") {
    } else {
      if (full == "pdpb.ScanRegionsResponse.regions" || full == "pdpb.BatchScanRegionsResponse.regions") {
        around.source = StatementSource::kPdScanRegions;
      } else if (full == "pdpb.QueryRegionResponse.regions_by_id") {
        around.source = StatementSource::kPdQueryRegion;
      }
      Each(m, f, [&](const pb::Message& child) { Plain(child, around); });
    }
  }

  void Context(const pb::Message& c) {
    Route& route = facts_.routes.emplace_back();
    route.region_id = Number(c, "region_id");
    Epoch(c, route);
    Peer(c, route);
    route.replica_read = Number(c, "replica_read") != 0;
    route.stale_read = Number(c, "stale_read") != 0;
    route.is_retry = Number(c, "is_retry_request") != 0;
    route.api_version = static_cast<uint32_t>(Number(c, "api_version"));
    route.buckets_version = Number(c, "buckets_version");
    if (Has(c, "keyspace_id")) route.keyspace_id = static_cast<uint32_t>(Number(c, "keyspace_id"));
    if (Has(c, "keyspace_identity")) {
      const uint64_t id = Number(Sub(c, "keyspace_identity"), "keyspace_id");
      if (id != 0) route.keyspace_id = static_cast<uint32_t>(id);
    }
    if (Number(c, "task_id") != 0) facts_.task_id = Number(c, "task_id");
    if (Number(c, "cluster_id") != 0) facts_.cluster_id = Number(c, "cluster_id");
    if (Has(c, "resource_group_tag")) facts_.resource_group_tag = Copy(Bytes_(c, "resource_group_tag"));
    if (Has(c, "trace_id")) facts_.trace_id = Copy(Bytes_(c, "trace_id"));
    if (Has(c, "request_source")) facts_.request_source = AsText(Copy(Bytes_(c, "request_source")));
    if (Has(c, "source_stmt")) {
      const pb::Message& s = Sub(c, "source_stmt");
      if (Number(s, "start_ts") != 0) stmt_ts_ = Number(s, "start_ts");
      if (Number(s, "connection_id") != 0) stmt_conn_ = Number(s, "connection_id");
    }
  }

  template <typename T>
  static void Epoch(const pb::Message& m, T& to) {
    if (!Has(m, "region_epoch")) return;
    to.has_epoch = true;
    to.conf_ver = Number(Sub(m, "region_epoch"), "conf_ver");
    to.version = Number(Sub(m, "region_epoch"), "version");
  }

  static void Peer(const pb::Message& m, Route& route) {
    if (!Has(m, "peer")) return;
    route.peer_id = Number(Sub(m, "peer"), "id");
    route.store_id = Number(Sub(m, "peer"), "store_id");
  }

  void Task(const pb::Message& t) {
    Around around;
    around.route = static_cast<int>(facts_.routes.size());
    Route& route = facts_.routes.emplace_back();
    const bool info = Name(t) == "coprocessor.RegionInfo";
    route.kind = info ? Route::Kind::kRegionInfo : Route::Kind::kTask;
    route.region_id = Number(t, "region_id");
    Epoch(t, route);
    if (!info) {
      Peer(t, route);
      route.task_id = Number(t, "task_id");
      route.buckets_version = Number(t, "buckets_version");
    }
    Each(t, Find(t, "ranges"), [&](const pb::Message& range) { Item(range, KeyForm::kRaw, around); });
    if (info) return;
    Each(t, Find(t, "versioned_ranges"), [&](const pb::Message& holder) {
      if (Has(holder, "range")) Item(Sub(holder, "range"), KeyForm::kRaw, around);
    });
  }

  void Item(const pb::Message& m, KeyForm form, const Around& around) {
    KeyItem item;
    item.form = form;
    item.is_range = Name(m).ends_with("KeyRange");
    if (item.is_range) {
      item.start = Copy(Bytes_(m, Find(m, "start") ? "start" : "start_key"));
      item.end = Copy(Bytes_(m, Find(m, "end") ? "end" : "end_key"));
    } else {
      item.start = Copy(Bytes_(m, "key"));
      facts_.value_bytes += Bytes_(m, "value").size();
    }
    AddKey(item, around);
  }

  void AddKey(KeyItem item, const Around& around) {
    if (around.route < 0) pending_.push_back(facts_.keys.size());
    item.route = static_cast<uint16_t>(around.route < 0 ? 0 : around.route);
    facts_.keys.push_back(item);
  }

  void Statement(const pb::Message& region, StatementSource source) {
    if (Number(region, "id") == 0) return;
    RegionStatement s;
    s.source = source;
    s.region_id = Number(region, "id");
    s.start = Copy(Bytes_(region, "start_key"));
    s.end = Copy(Bytes_(region, "end_key"));
    Epoch(region, s);
    s.first_peer = static_cast<uint32_t>(facts_.peers.size());
    Each(region, Find(region, "peers"), [&](const pb::Message& p) {
      facts_.peers.push_back(
          {Number(p, "id"), Number(p, "store_id"), static_cast<uint32_t>(Number(p, "role"))});
      ++s.peer_count;
    });
    facts_.statements.push_back(s);
  }

  static void SetLeader(RegionStatement& s, const pb::Message& peer) {
    s.leader_peer_id = Number(peer, "id");
    s.leader_store_id = Number(peer, "store_id");
  }

  void Leaders(const pb::Message& m, const std::string& name, size_t first) {
    if (name == "pdpb.GetRegionResponse" || name == "pdpb.Region" || name == "pdpb.RegionResponse" ||
        name == "pdpb.RegionHeartbeatRequest" || name == "pdpb.ScatterRegionRequest") {
      if (facts_.statements.size() > first && Has(m, "leader")) {
        SetLeader(facts_.statements[first], Sub(m, "leader"));
      }
      return;
    }
    const bool scan = name == "pdpb.ScanRegionsResponse";
    if (!scan && name != "pdpb.SyncRegionResponse") return;
    // The i-th leader belongs to the i-th region, among which some may have been left out above (id 0).
    const pb::Reflection* r = m.GetReflection();
    const F* regions = Find(m, scan ? "region_metas" : "regions");
    const F* leaders = Find(m, scan ? "leaders" : "region_leaders");
    size_t at = first;
    for (int i = 0; i < r->FieldSize(m, regions); ++i) {
      if (Number(r->GetRepeatedMessage(m, regions, i), "id") == 0) continue;
      if (i < r->FieldSize(m, leaders))
        SetLeader(facts_.statements[at], r->GetRepeatedMessage(m, leaders, i));
      ++at;
    }
  }

  static std::string RegionText(const pb::Message& region) {
    std::string text = std::to_string(Number(region, "id")) + " " +
                       HexLower(AsBytes(Bytes_(region, "start_key"))) + " " +
                       HexLower(AsBytes(Bytes_(region, "end_key")));
    if (Has(region, "region_epoch")) {
      text += " " + std::to_string(Number(Sub(region, "region_epoch"), "conf_ver")) + " " +
              std::to_string(Number(Sub(region, "region_epoch"), "version"));
    } else {
      text += " 0 0";
    }
    return text;
  }

  // The older form of what is told again in the same message.
  void Repeats(const pb::Message& m, const std::string& name, size_t first) {
    std::vector<std::string> old_form;
    std::vector<std::string> new_form;
    if (name == "pdpb.ScanRegionsResponse") {
      Each(m, Find(m, "region_metas"), [&](const pb::Message& r) { old_form.push_back(RegionText(r)); });
      Each(m, Find(m, "regions"), [&](const pb::Message& r) {
        if (Has(r, "region")) new_form.push_back(RegionText(Sub(r, "region")));
      });
      if (old_form != new_form) return;
      size_t n = 0;
      Each(m, Find(m, "region_metas"), [&](const pb::Message& r) { n += Number(r, "id") != 0; });
      facts_.statements.erase(facts_.statements.begin() + static_cast<std::ptrdiff_t>(first),
                              facts_.statements.begin() + static_cast<std::ptrdiff_t>(first + n));
    } else if (name == "kvrpcpb.SplitRegionResponse") {
      Each(m, Find(m, "regions"), [&](const pb::Message& r) { new_form.push_back(RegionText(r)); });
      size_t at = first;
      for (const F* f : {Find(m, "left"), Find(m, "right")}) {
        if (!m.GetReflection()->HasField(m, f)) continue;
        const pb::Message& half = m.GetReflection()->GetMessage(m, f);
        if (Number(half, "id") == 0) continue;
        if (std::find(new_form.begin(), new_form.end(), RegionText(half)) == new_form.end()) {
          ++at;
        } else {
          // region_error's statements come first.
          size_t i = at;
          while (facts_.statements[i].source != StatementSource::kSplitResponse) ++i;
          facts_.statements.erase(facts_.statements.begin() + static_cast<std::ptrdiff_t>(i));
        }
      }
    }
  }

  void TextError(const std::string& text) {
    if (text.empty()) return;
    ErrorFact& error = facts_.errors.emplace_back();
    error.kind = ErrorKind::kOtherError;
    ParseErrorText(AsBytes(text), facts_.arena, error);
    error.text = Copy(text);
  }

  void RegionError(const pb::Message& e) {
    static const std::map<std::string, ErrorKind> kKinds = {
        {"not_leader", ErrorKind::kNotLeader},
        {"region_not_found", ErrorKind::kRegionNotFound},
        {"key_not_in_region", ErrorKind::kKeyNotInRegion},
        {"epoch_not_match", ErrorKind::kEpochNotMatch},
        {"server_is_busy", ErrorKind::kServerIsBusy},
        {"stale_command", ErrorKind::kStaleCommand},
        {"store_not_match", ErrorKind::kStoreNotMatch},
        {"raft_entry_too_large", ErrorKind::kRaftEntryTooLarge},
        {"max_timestamp_not_synced", ErrorKind::kMaxTimestampNotSynced},
        {"read_index_not_ready", ErrorKind::kReadIndexNotReady},
        {"proposal_in_merging_mode", ErrorKind::kProposalInMergingMode},
        {"data_is_not_ready", ErrorKind::kDataIsNotReady},
        {"region_not_initialized", ErrorKind::kRegionNotInitialized},
        {"disk_full", ErrorKind::kDiskFull},
        {"RecoveryInProgress", ErrorKind::kRecoveryInProgress},
        {"FlashbackInProgress", ErrorKind::kFlashbackInProgress},
        {"FlashbackNotPrepared", ErrorKind::kFlashbackNotPrepared},
        {"is_witness", ErrorKind::kIsWitness},
        {"mismatch_peer_id", ErrorKind::kMismatchPeerId},
        {"bucket_version_not_match", ErrorKind::kBucketVersionNotMatch},
        {"undetermined_result", ErrorKind::kUndeterminedResult}};
    const size_t index = facts_.errors.size();
    facts_.errors.emplace_back();
    const std::string text = Find(e, "message") ? Bytes_(e, "message") : "";
    ErrorFact error;
    std::vector<const F*> fields;
    e.GetReflection()->ListFields(e, &fields);
    for (const F* f : fields) {
      const auto kind = kKinds.find(f->name());
      if (kind == kKinds.end()) continue;
      error = ErrorFact{};  // the last one counts
      error.kind = kind->second;
      const pb::Message& detail = e.GetReflection()->GetMessage(e, f);
      if (Find(detail, "region_id")) error.region_id = Number(detail, "region_id");
      if (f->name() == "not_leader" && Has(detail, "leader")) {
        error.leader_peer_id = Number(Sub(detail, "leader"), "id");
        error.leader_store_id = Number(Sub(detail, "leader"), "store_id");
      } else if (f->name() == "key_not_in_region") {
        error.has_key = error.has_bounds = true;
        error.key = WithoutMvccSuffix(Copy(Bytes_(detail, "key")));
        error.start = Copy(Bytes_(detail, "start_key"));
        error.end = Copy(Bytes_(detail, "end_key"));
      } else if (f->name() == "store_not_match") {
        error.request_store_id = Number(detail, "request_store_id");
        error.actual_store_id = Number(detail, "actual_store_id");
      } else if (f->name() == "epoch_not_match") {
        const size_t first = facts_.statements.size();
        Each(detail, Find(detail, "current_regions"),
             [&](const pb::Message& r) { Statement(r, StatementSource::kEpochNotMatch); });
        error.statement_count = static_cast<uint32_t>(facts_.statements.size() - first);
        error.first_statement = error.statement_count ? static_cast<uint32_t>(first) : 0;
      }
    }
    if (error.kind == ErrorKind::kNone) {
      error.kind = ErrorKind::kOtherRegionError;
      ParseErrorText(AsBytes(text), facts_.arena, error);
    } else if (error.kind == ErrorKind::kEpochNotMatch) {
      ErrorFact parsed;
      if (ParseErrorText(AsBytes(text), facts_.arena, parsed) && parsed.kind == ErrorKind::kEpochText) {
        error.from_text = true;
        error.region_id = parsed.region_id;
        error.current_conf_ver = parsed.current_conf_ver;
        error.current_version = parsed.current_version;
      }
    }
    error.text = Copy(text);
    facts_.errors[index] = error;
  }

  void KeyError(const pb::Message& e) {
    static const std::map<std::string, ErrorKind> kKinds = {{"locked", ErrorKind::kKeyLocked},
                                                            {"retryable", ErrorKind::kKeyRetryable},
                                                            {"abort", ErrorKind::kKeyAbort},
                                                            {"conflict", ErrorKind::kWriteConflict},
                                                            {"already_exist", ErrorKind::kAlreadyExist},
                                                            {"deadlock", ErrorKind::kDeadlock},
                                                            {"txn_not_found", ErrorKind::kTxnNotFound}};
    ErrorFact error;
    error.kind = ErrorKind::kOtherKeyError;
    std::string text;
    std::vector<const F*> fields;
    e.GetReflection()->ListFields(e, &fields);
    for (const F* f : fields) {
      const auto kind = kKinds.find(f->name());
      if (kind == kKinds.end()) continue;
      error.kind = kind->second;
      text = f->type() == F::TYPE_STRING ? Bytes_(e, f->name()) : "";
    }
    if (!text.empty()) ParseErrorText(AsBytes(text), facts_.arena, error);
    error.text = Copy(text);
    facts_.errors.push_back(error);
  }

  MessageFacts& facts_;
  int root_route_ = -1;
  std::vector<size_t> pending_;
  uint64_t stmt_ts_ = 0;
  uint64_t stmt_conn_ = 0;
  std::string caller_;
};

std::string RouteText(const Route& r) {
  std::ostringstream out;
  out << int(r.kind) << " region=" << r.region_id << " epoch=" << r.has_epoch << "/" << r.conf_ver << ":"
      << r.version << " peer=" << r.peer_id << "@" << r.store_id << " task=" << r.task_id
      << " buckets=" << r.buckets_version << " api=" << r.api_version << " ks=" << r.keyspace_id
      << " flags=" << r.replica_read << r.stale_read << r.is_retry;
  return out.str();
}

std::string StatementText(const MessageFacts& facts, const RegionStatement& s) {
  std::ostringstream out;
  out << int(s.source) << " region=" << s.region_id << " epoch=" << s.has_epoch << "/" << s.conf_ver << ":"
      << s.version << " [" << HexLower(s.start) << ", " << HexLower(s.end) << ") leader=" << s.leader_peer_id
      << "@" << s.leader_store_id << " peers";
  for (uint32_t i = 0; i < s.peer_count; ++i) {
    const auto& p = facts.peers.at(s.first_peer + i);
    out << " " << p.id << "@" << p.store_id << "/" << p.role;
  }
  return out.str();
}

std::string ErrorText(const MessageFacts& facts, const ErrorFact& e) {
  std::ostringstream out;
  out << ErrorKindName(e.kind) << " from_text=" << e.from_text << " text=" << AsText(e.text)
      << " region=" << e.region_id << " task=" << e.task_id << " has=" << e.has_key << e.has_range
      << e.has_bounds << " key=" << HexLower(e.key) << " range=" << HexLower(e.range_start) << ".."
      << HexLower(e.range_end) << " bounds=" << HexLower(e.start) << ".." << HexLower(e.end)
      << " form=" << int(e.key_form) << " leader=" << e.leader_peer_id << "@" << e.leader_store_id
      << " stores=" << e.request_store_id << "," << e.actual_store_id << " current=" << e.current_conf_ver
      << ":" << e.current_version << " pd=" << e.pd_error_type;
  for (uint32_t i = 0; i < e.statement_count; ++i) {
    out << " {" << StatementText(facts, facts.statements.at(e.first_statement + i)) << "}";
  }
  return out.str();
}

}  // namespace

void ReadFacts(const pb::Message& m, bool previous, MessageFacts& facts) {
  Oracle(facts).Root(m, previous);
}

std::vector<std::string> FactLines(const MessageFacts& facts) {
  std::vector<std::string> lines;
  for (const Route& r : facts.routes) lines.push_back("route " + RouteText(r));
  for (const KeyItem& k : facts.keys) {
    std::ostringstream out;
    out << "key range=" << k.is_range << " reverse=" << k.reverse << " form=" << int(k.form)
        << " previous=" << k.previous << " [" << HexLower(k.start) << ", " << HexLower(k.end) << ") route="
        << (facts.routes.empty() ? std::to_string(k.route) : RouteText(facts.routes.at(k.route)));
    lines.push_back(out.str());
  }
  for (const RegionStatement& s : facts.statements) lines.push_back("statement " + StatementText(facts, s));
  for (const ErrorFact& e : facts.errors) lines.push_back("error " + ErrorText(facts, e));
  const auto ids = [&](const char* name, const std::vector<uint64_t>& list) {
    std::string line = name;
    for (const uint64_t id : list) line += " " + std::to_string(id);
    lines.push_back(line);
  };
  ids("asked", facts.asked_region_ids);
  ids("map", facts.key_id_map);
  ids("prevmap", facts.prev_key_id_map);
  std::ostringstream out;
  out << "numbers cluster=" << facts.cluster_id << " start_ts=" << facts.start_ts
      << " commit_ts=" << facts.commit_ts << " connection=" << facts.connection_id
      << " task=" << facts.task_id << " limit=" << facts.limit << " store=" << facts.store_id
      << " trace=" << HexLower(facts.trace_id) << " tag=" << HexLower(facts.resource_group_tag)
      << " source=" << facts.request_source << " caller=" << facts.caller
      << " value_bytes=" << facts.value_bytes << " pairs=" << facts.pairs << " flags=" << facts.not_found
      << facts.contain_all_key_range << facts.raw_keyspace << facts.over_cap;
  lines.push_back(out.str());
  return lines;
}

}  // namespace keytrail::testing
