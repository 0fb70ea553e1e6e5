// The walker on messages whose facts can be said by hand.
#include <gtest/gtest.h>

#include "agent/schema/schema.h"
#include "common/key_codec.h"
#include "common/limits.h"
#include "tests/unit/agent/schema/count_allocations.h"
#include "tests/unit/agent/schema/message_maker.h"

namespace keytrail {
namespace {

using testing::allocation_count;
using testing::MessageMaker;

const Schema& TheSchema() {
  static const std::unique_ptr<Schema> schema = std::move(Schema::Bundled().value());
  return *schema;
}

MessageMaker& Maker() {
  static MessageMaker maker(1);
  return maker;
}

std::string Bytes_(const std::string& type, const std::string& text) {
  return Maker().FromText(type, text)->SerializeAsString();
}

void Walk(const std::string& type, const std::string& bytes, MessageFacts& facts) {
  facts.Reset();
  EXPECT_TRUE(TheSchema().Walk(TheSchema().FindMessage(type), AsBytes(bytes), facts)) << type;
  EXPECT_FALSE(facts.parse_failed);
}

std::string Tag(uint32_t number, uint32_t wire) {
  std::string out;
  for (uint32_t v = number << 3 | wire;; v >>= 7) {
    out += static_cast<char>((v & 0x7F) | (v > 0x7F ? 0x80 : 0));
    if (v <= 0x7F) return out;
  }
}
std::string Varint(uint64_t v) {
  std::string out;
  for (;; v >>= 7) {
    out += static_cast<char>((v & 0x7F) | (v > 0x7F ? 0x80 : 0));
    if (v <= 0x7F) return out;
  }
}
std::string Len(uint32_t number, const std::string& value) {
  return Tag(number, 2) + Varint(value.size()) + value;
}
std::string Num(uint32_t number, uint64_t value) {
  return Tag(number, 0) + Varint(value);
}

TEST(Walker, PointGetOfTiDB) {
  MessageFacts facts;
  Walk("kvrpcpb.GetRequest",
       Bytes_("kvrpcpb.GetRequest",
              "context { region_id: 16 region_epoch { conf_ver: 1 version: 2 } peer { id: 3 store_id: 1 } "
              "task_id: 9 "
              "stale_read: true request_source: 'external_Select' keyspace_id: 4294967295 source_stmt { "
              "start_ts: 7 "
              "connection_id: 5 } cluster_id: 77 resource_group_tag: 'tag' trace_id: 'tr' } key: 't_key' "
              "version: 88"),
       facts);
  ASSERT_EQ(facts.routes.size(), 1u);
  const Route& r = facts.routes[0];
  EXPECT_EQ(r.kind, Route::Kind::kContext);
  EXPECT_EQ(r.region_id, 16u);
  EXPECT_TRUE(r.has_epoch);
  EXPECT_EQ(r.conf_ver, 1u);
  EXPECT_EQ(r.version, 2u);
  EXPECT_EQ(r.peer_id, 3u);
  EXPECT_EQ(r.store_id, 1u);
  EXPECT_TRUE(r.stale_read);
  EXPECT_FALSE(r.replica_read);
  ASSERT_EQ(facts.keys.size(), 1u);
  EXPECT_EQ(AsText(facts.keys[0].start), "t_key");
  EXPECT_FALSE(facts.keys[0].is_range);
  EXPECT_EQ(facts.keys[0].form, KeyForm::kRaw);
  EXPECT_EQ(facts.keys[0].route, 0);
  EXPECT_EQ(facts.start_ts, 88u);  // the request's own, not source_stmt's
  EXPECT_EQ(facts.connection_id, 5u);
  EXPECT_EQ(facts.cluster_id, 77u);
  EXPECT_EQ(facts.task_id, 9u);
  EXPECT_EQ(facts.request_source, "external_Select");
  EXPECT_EQ(AsText(facts.resource_group_tag), "tag");
  EXPECT_EQ(AsText(facts.trace_id), "tr");
}

TEST(Walker, BytesOutliveTheMessage) {
  MessageFacts facts;
  {
    std::string bytes = Bytes_("kvrpcpb.GetRequest", "context { request_source: 'src' } key: 'k1'");
    Walk("kvrpcpb.GetRequest", bytes, facts);
    std::fill(bytes.begin(), bytes.end(), '?');
  }
  EXPECT_EQ(AsText(facts.keys[0].start), "k1");
  EXPECT_EQ(facts.request_source, "src");
}

TEST(Walker, KeysThatMayLieElsewhereAreNoKeys) {
  MessageFacts facts;
  Walk("kvrpcpb.PrewriteRequest",
       Bytes_(
           "kvrpcpb.PrewriteRequest",
           "mutations { key: 'a' value: '12345' } mutations { key: 'b' } primary_lock: 'p' secondaries: 's'"),
       facts);
  ASSERT_EQ(facts.keys.size(), 2u);
  EXPECT_EQ(AsText(facts.keys[0].start), "a");
  EXPECT_EQ(AsText(facts.keys[1].start), "b");
  EXPECT_EQ(facts.value_bytes, 5u);
  Walk("kvrpcpb.CommitRequest", Bytes_("kvrpcpb.CommitRequest", "keys: 'a' primary_key: 'p'"), facts);
  ASSERT_EQ(facts.keys.size(), 1u);
}

TEST(Walker, ReverseScansRunDownwards) {
  MessageFacts facts;
  Walk("kvrpcpb.ScanRequest",
       Bytes_("kvrpcpb.ScanRequest", "start_key: 'upper' end_key: 'lower' reverse: true limit: 7"), facts);
  ASSERT_EQ(facts.keys.size(), 1u);
  EXPECT_EQ(AsText(facts.keys[0].start), "lower");
  EXPECT_EQ(AsText(facts.keys[0].end), "upper");
  EXPECT_TRUE(facts.keys[0].reverse);
  EXPECT_EQ(facts.limit, 7u);
  // Without bounds a range stays without them.
  Walk("kvrpcpb.ScanRequest", Bytes_("kvrpcpb.ScanRequest", "start_key: 'upper' reverse: true"), facts);
  EXPECT_TRUE(facts.keys[0].start.empty());
  EXPECT_EQ(AsText(facts.keys[0].end), "upper");
  Walk("kvrpcpb.RawBatchScanRequest",
       Bytes_("kvrpcpb.RawBatchScanRequest",
              "ranges { start_key: 'b' end_key: 'a' } ranges { start_key: 'd' end_key: 'c' } reverse: true"),
       facts);
  ASSERT_EQ(facts.keys.size(), 2u);
  EXPECT_EQ(AsText(facts.keys[1].start), "c");
  EXPECT_TRUE(facts.raw_keyspace);
}

TEST(Walker, StoreBatchedTasksAreRoutedByThemselves) {
  MessageFacts facts;
  Walk("coprocessor.Request",
       Bytes_("coprocessor.Request",
              "context { region_id: 1 } ranges { start: 'a' end: 'b' } "
              "tasks { region_id: 2 region_epoch { version: 5 } ranges { start: 'c' end: 'd' } task_id: 71 } "
              "tasks { region_id: 3 ranges { start: 'e' end: 'f' } versioned_ranges { range { start: 'g' "
              "end: 'h' } } "
              "task_id: 72 } start_ts: 9 connection_id: 12"),
       facts);
  ASSERT_EQ(facts.routes.size(), 3u);
  EXPECT_EQ(facts.routes[1].kind, Route::Kind::kTask);
  EXPECT_EQ(facts.routes[1].task_id, 71u);
  EXPECT_EQ(facts.routes[2].region_id, 3u);
  ASSERT_EQ(facts.keys.size(), 4u);
  EXPECT_EQ(facts.keys[0].route, 0);
  EXPECT_EQ(facts.keys[1].route, 1);
  EXPECT_EQ(facts.keys[2].route, 2);
  EXPECT_EQ(facts.keys[3].route, 2);
  EXPECT_EQ(AsText(facts.keys[3].end), "h");
}

// Serializers write Context first; nobody has to.
TEST(Walker, KeysBeforeTheContext) {
  MessageFacts facts;
  const std::string context = Len(1, Num(1, 16));
  Walk("kvrpcpb.GetRequest", Len(2, "k") + context, facts);
  EXPECT_EQ(facts.keys[0].route, 0);
  const std::string range = Len(4, Len(1, "a") + Len(2, "b"));
  const std::string task = Len(11, Num(1, 2) + range);
  Walk("coprocessor.Request", task + range + context, facts);
  ASSERT_EQ(facts.routes.size(), 2u);
  ASSERT_EQ(facts.keys.size(), 2u);
  EXPECT_EQ(facts.routes[facts.keys[0].route].region_id, 2u);
  EXPECT_EQ(facts.routes[facts.keys[1].route].region_id, 16u);
  // No Context at all: the request's own range must not look like the task's.
  Walk("coprocessor.Request", task + range, facts);
  ASSERT_EQ(facts.routes.size(), 2u);
  EXPECT_EQ(facts.routes[facts.keys[0].route].region_id, 2u);
  EXPECT_EQ(facts.routes[facts.keys[1].route].region_id, 0u);
}

TEST(Walker, TaskAnswersCarryTheirTaskId) {
  MessageFacts facts;
  Walk("coprocessor.Response",
       Bytes_("coprocessor.Response",
              "data: 'xx' batch_responses { data: 'yyy' task_id: 71 } batch_responses { region_error { "
              "message: 'm' "
              "epoch_not_match { current_regions { id: 5 start_key: 's' end_key: 'e' region_epoch { version: "
              "8 } } } } "
              "task_id: 72 } batch_responses { other_error: 'Request range exceeds bound, request range:[61, "
              "62), "
              "physical bound:[63, (none))' task_id: 73 }"),
       facts);
  EXPECT_EQ(facts.value_bytes, 5u);
  ASSERT_EQ(facts.errors.size(), 2u);
  EXPECT_EQ(facts.errors[0].kind, ErrorKind::kEpochNotMatch);
  EXPECT_EQ(facts.errors[0].task_id, 72u);
  EXPECT_EQ(facts.errors[0].statement_count, 1u);
  EXPECT_EQ(facts.statements[facts.errors[0].first_statement].version, 8u);
  EXPECT_EQ(facts.errors[1].kind, ErrorKind::kRangeExceedsBound);
  EXPECT_EQ(facts.errors[1].task_id, 73u);
  EXPECT_EQ(AsText(facts.errors[1].range_start), "a");
  EXPECT_EQ(AsText(facts.errors[1].start), "c");
}

TEST(Walker, StructuredKeyNotInRegionWinsOverItsText) {
  MessageFacts facts;
  Walk("kvrpcpb.PrewriteResponse",
       Bytes_("kvrpcpb.PrewriteResponse",
              "region_error { message: 'key 61 is not in region key range [62, 63) for region 9' "
              "key_not_in_region { "
              "key: 'k' region_id: 8 start_key: 's' } }"),
       facts);
  ASSERT_EQ(facts.errors.size(), 1u);
  const ErrorFact& e = facts.errors[0];
  EXPECT_EQ(e.kind, ErrorKind::kKeyNotInRegion);
  EXPECT_FALSE(e.from_text);
  EXPECT_EQ(e.region_id, 8u);
  EXPECT_EQ(AsText(e.key), "k");
  EXPECT_EQ(AsText(e.start), "s");
  EXPECT_TRUE(e.has_bounds);
  EXPECT_TRUE(e.end.empty());
  EXPECT_EQ(AsText(e.text), "key 61 is not in region key range [62, 63) for region 9");
}

TEST(Walker, AbortTextsAndOthers) {
  MessageFacts facts;
  Walk("kvrpcpb.GetResponse",
       Bytes_("kvrpcpb.GetResponse",
              "error { abort: 'Error(Other(\"Key 7480 is out of [region 16] [74, 7500)\"))' }"),
       facts);
  ASSERT_EQ(facts.errors.size(), 1u);
  EXPECT_EQ(facts.errors[0].kind, ErrorKind::kKeyOutOfRegion);
  EXPECT_EQ(facts.errors[0].region_id, 16u);
  Walk("kvrpcpb.ScanResponse",
       Bytes_("kvrpcpb.ScanResponse",
              "pairs { key: 'a' value: 'vv' } pairs { error { abort: 'nothing known' } }"),
       facts);
  EXPECT_EQ(facts.pairs, 2u);
  EXPECT_EQ(facts.value_bytes, 2u);
  ASSERT_EQ(facts.errors.size(), 1u);
  EXPECT_EQ(facts.errors[0].kind, ErrorKind::kKeyAbort);
  EXPECT_TRUE(facts.keys.empty());  // keys of an answer are no keys asked for
  Walk("kvrpcpb.RawPutResponse", Bytes_("kvrpcpb.RawPutResponse", "error: 'disk on fire'"), facts);
  ASSERT_EQ(facts.errors.size(), 1u);
  EXPECT_EQ(facts.errors[0].kind, ErrorKind::kOtherError);
  Walk("pdpb.GetRegionResponse",
       Bytes_("pdpb.GetRegionResponse", "header { error { type: REGION_NOT_FOUND message: 'no' } }"), facts);
  ASSERT_EQ(facts.errors.size(), 1u);
  EXPECT_EQ(facts.errors[0].kind, ErrorKind::kPdError);
  EXPECT_EQ(facts.errors[0].pd_error_type, 6u);
  Walk("pdpb.GetRegionResponse", Bytes_("pdpb.GetRegionResponse", "header { error { } }"), facts);
  EXPECT_TRUE(facts.errors.empty());
}

TEST(Walker, ScanAnswersToldTwiceAreOneStatement) {
  const std::string a = "id: 1 start_key: 'a' end_key: 'b' region_epoch { conf_ver: 1 version: 2 }";
  const std::string b = "id: 2 start_key: 'b' end_key: 'c' region_epoch { conf_ver: 1 version: 3 }";
  const std::string metas = "region_metas { " + a + " } region_metas { " + b +
                            " } leaders { id: 11 store_id: 1 } leaders { id: 12 store_id: 2 } ";
  MessageFacts facts;
  Walk("pdpb.ScanRegionsResponse",
       Bytes_("pdpb.ScanRegionsResponse", metas + "regions { region { " + a +
                                              " } leader { id: 11 store_id: 1 } } regions { region { " + b +
                                              " } leader { id: 12 store_id: 2 } }"),
       facts);
  ASSERT_EQ(facts.statements.size(), 2u);
  EXPECT_EQ(facts.statements[1].region_id, 2u);
  EXPECT_EQ(facts.statements[1].leader_peer_id, 12u);
  EXPECT_EQ(facts.statements[0].source, StatementSource::kPdScanRegions);
  // 4.0: the old lists alone.
  Walk("pdpb.ScanRegionsResponse", Bytes_("pdpb.ScanRegionsResponse", metas), facts);
  ASSERT_EQ(facts.statements.size(), 2u);
  EXPECT_EQ(facts.statements[1].leader_store_id, 2u);
  // PD contradicts itself within one answer: both forms are kept.
  Walk("pdpb.ScanRegionsResponse",
       Bytes_("pdpb.ScanRegionsResponse", metas + "regions { region { " + a +
                                              " } } regions { region { id: 2 start_key: "
                                              "'b' end_key: 'd' region_epoch { conf_ver: 1 version: 3 } } }"),
       facts);
  EXPECT_EQ(facts.statements.size(), 4u);
}

TEST(Walker, SplitHalvesToldTwiceAreOneStatement) {
  const std::string a = "id: 1 end_key: 'b' region_epoch { version: 2 }";
  const std::string b = "id: 2 start_key: 'b' region_epoch { version: 2 }";
  MessageFacts facts;
  const std::string halves = "left { " + a + " } right { " + b + " } ";
  Walk("kvrpcpb.SplitRegionResponse",
       Bytes_("kvrpcpb.SplitRegionResponse", halves + "regions { " + a + " } regions { " + b + " }"), facts);
  EXPECT_EQ(facts.statements.size(), 2u);
  Walk("kvrpcpb.SplitRegionResponse", Bytes_("kvrpcpb.SplitRegionResponse", halves), facts);
  EXPECT_EQ(facts.statements.size(), 2u);
  Walk("kvrpcpb.SplitRegionResponse", Bytes_("kvrpcpb.SplitRegionResponse", halves + "regions { " + a + " }"),
       facts);
  EXPECT_EQ(facts.statements.size(), 2u);
}

TEST(Walker, QueryRegionAnswers) {
  MessageFacts facts;
  Walk("pdpb.QueryRegionResponse",
       Bytes_("pdpb.QueryRegionResponse",
              "key_id_map: 5 key_id_map: 0 prev_key_id_map: 6 regions_by_id { key: 5 value { region { id: 5 "
              "start_key: "
              "'a' region_epoch { version: 3 } peers { id: 1 store_id: 2 role: Learner } } leader { id: 1 "
              "store_id: 2 } } "
              "} regions_by_id { key: 6 value { } }"),
       facts);
  EXPECT_EQ(facts.key_id_map, (std::vector<uint64_t>{5, 0}));
  EXPECT_EQ(facts.prev_key_id_map, (std::vector<uint64_t>{6}));
  ASSERT_EQ(facts.statements.size(), 1u);
  EXPECT_EQ(facts.statements[0].source, StatementSource::kPdQueryRegion);
  EXPECT_EQ(facts.statements[0].leader_peer_id, 1u);
  ASSERT_EQ(facts.statements[0].peer_count, 1u);
  EXPECT_EQ(facts.peers[facts.statements[0].first_peer].role, 1u);
}

TEST(Walker, PdQuestions) {
  MessageFacts facts;
  Walk("pdpb.BatchScanRegionsRequest",
       Bytes_("pdpb.BatchScanRegionsRequest",
              "header { cluster_id: 7 caller_id: 'tidb-server' caller_component: 'region-cache' } ranges { "
              "start_key: 'a' "
              "end_key: 'b' } limit: 128 contain_all_key_range: true"),
       facts);
  ASSERT_EQ(facts.keys.size(), 1u);
  EXPECT_EQ(facts.keys[0].form, KeyForm::kEncoded);
  EXPECT_TRUE(facts.keys[0].is_range);
  EXPECT_EQ(facts.limit, 128u);
  EXPECT_TRUE(facts.contain_all_key_range);
  EXPECT_EQ(facts.caller, "tidb-server/region-cache");
  EXPECT_EQ(facts.cluster_id, 7u);
  // Asking for the first region: an empty key is a key here.
  Walk("pdpb.GetRegionRequest", Bytes_("pdpb.GetRegionRequest", "header { cluster_id: 7 }"), facts);
  ASSERT_EQ(facts.keys.size(), 1u);
  EXPECT_TRUE(facts.keys[0].start.empty());
  Walk("pdpb.ScanRegionsRequest", Bytes_("pdpb.ScanRegionsRequest", "limit: -1"), facts);
  EXPECT_EQ(facts.limit, 0u);
}

TEST(Walker, RegionsWithoutAnIdAreNoStatements) {
  MessageFacts facts;
  Walk("pdpb.GetRegionResponse", Bytes_("pdpb.GetRegionResponse", "region { } leader { id: 3 }"), facts);
  EXPECT_TRUE(facts.statements.empty());
  Walk("kvrpcpb.GetResponse",
       Bytes_("kvrpcpb.GetResponse",
              "region_error { epoch_not_match { current_regions { } current_regions { id: 4 } "
              "current_regions { } "
              "current_regions { id: 5 } } }"),
       facts);
  ASSERT_EQ(facts.statements.size(), 2u);
  ASSERT_EQ(facts.errors.size(), 1u);
  EXPECT_EQ(facts.errors[0].first_statement, 0u);
  EXPECT_EQ(facts.errors[0].statement_count, 2u);
}

TEST(Walker, PackedAndUnpackedNumbers) {
  MessageFacts facts;
  Walk("pdpb.QueryRegionRequest", Len(3, Varint(300) + Varint(1)) + Num(3, 7) + Len(3, ""), facts);
  EXPECT_EQ(facts.asked_region_ids, (std::vector<uint64_t>{300, 1, 7}));
  facts.Reset();
  EXPECT_FALSE(
      TheSchema().Walk(TheSchema().FindMessage("pdpb.QueryRegionRequest"), AsBytes(Len(3, "\x80")), facts));
}

TEST(Walker, AnotherWireTypeIsAnUnknownField) {
  MessageFacts facts;
  Walk("kvrpcpb.GetRequest",
       Num(2, 5) + Len(3, "ab") + Tag(3, 1) + std::string(8, '\1') + Tag(2, 5) + std::string(4, '\1') +
           Num(1, 1),
       facts);
  EXPECT_TRUE(facts.keys.empty());
  EXPECT_TRUE(facts.routes.empty());
  EXPECT_EQ(facts.start_ts, 0u);
  Walk("kvrpcpb.GetRequest", Len(2, "k") + Num(2, 5), facts);
  ASSERT_EQ(facts.keys.size(), 1u);
}

TEST(Walker, GroupsAreSkipped) {
  MessageFacts facts;
  const std::string group = Tag(90, 3) + Num(1, 5) + Tag(7, 3) + Len(2, "x") + Tag(7, 4) + Tag(90, 4);
  Walk("kvrpcpb.GetRequest", group + Len(2, "k") + group, facts);
  ASSERT_EQ(facts.keys.size(), 1u);
  for (const std::string& bad :
       {Tag(90, 3), Tag(90, 4), Tag(90, 3) + Tag(91, 4), Tag(0, 0) + Varint(1), Tag(9, 6), Tag(9, 7),
        Tag(9, 0), Tag(9, 2) + Varint(5) + "abcd", Tag(9, 0) + std::string(10, '\xFF'), Tag(9, 1) + "1234567",
        Tag(9, 5) + "123"}) {
    facts.Reset();
    EXPECT_FALSE(
        TheSchema().Walk(TheSchema().FindMessage("kvrpcpb.GetRequest"), AsBytes(Len(2, "k") + bad), facts))
        << HexLower(AsBytes(bad));
    EXPECT_TRUE(facts.parse_failed);
    ASSERT_EQ(facts.keys.size(), 1u);  // what was read before the damage stays
    EXPECT_EQ(AsText(facts.keys[0].start), "k");
  }
}

// A range or a region whose end was not reached would read as one without bounds.
TEST(Walker, DamageTakesHalfKnownRangesBack) {
  struct Case {
    const char* type;
    const char* text;
  };
  for (const Case& c :
       {Case{"kvrpcpb.ScanRequest", "context { region_id: 1 } start_key: 'aaaa' end_key: 'bbbb'"},
        Case{"coprocessor.Request", "ranges { start: 'aaaa' end: 'bbbb' }"},
        Case{"kvrpcpb.RawBatchScanRequest", "ranges { start_key: 'b' end_key: 'a' } reverse: true"},
        Case{"pdpb.GetRegionResponse", "region { id: 1 start_key: 'aaaa' end_key: 'bbbb' }"},
        Case{"kvrpcpb.GetResponse",
             "region_error { key_not_in_region { key: 'k' start_key: 'aa' end_key: 'bb' } }"}}) {
    const std::string whole = Bytes_(c.type, c.text);
    MessageFacts facts;
    for (size_t n = 0; n < whole.size(); ++n) {
      const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
      facts.Reset();
      if (TheSchema().Walk(TheSchema().FindMessage(c.type), cut, facts)) continue;  // cut between two fields
      for (const KeyItem& key : facts.keys) {
        EXPECT_FALSE(key.is_range && (key.end.empty() || CompareBytes(key.start, key.end) > 0))
            << c.type << n;
      }
      for (const RegionStatement& s : facts.statements) EXPECT_FALSE(s.end.empty()) << c.type << n;
      for (const ErrorFact& e : facts.errors) {
        EXPECT_FALSE(e.has_bounds && e.end.empty()) << c.type << n;
        EXPECT_FALSE(e.has_key && e.key.empty()) << c.type << n;
      }
    }
  }
}

TEST(Walker, CapsAreToldAndNothingFalseIsLeft) {
  MessageFacts facts;
  std::string bytes;
  for (size_t i = 0; i < limits::kMaxKeysPerMessage + 5; ++i) bytes += Len(2, "k");
  Walk("kvrpcpb.BatchGetRequest", bytes, facts);
  EXPECT_TRUE(facts.over_cap);
  EXPECT_EQ(facts.keys.size(), limits::kMaxKeysPerMessage);

  // Bytes: keys that do not fit are left out, not emptied.
  bytes.clear();
  const std::string large(1 << 20, 'k');
  for (int i = 0; i < 12; ++i) bytes += Len(2, large);
  Walk("kvrpcpb.BatchGetRequest", bytes, facts);
  EXPECT_TRUE(facts.over_cap);
  EXPECT_FALSE(facts.keys.empty());
  for (const KeyItem& key : facts.keys) EXPECT_EQ(key.start.size(), large.size());

  const std::string region = Num(1, 5) + Len(2, large) + Len(3, large);
  bytes.clear();
  for (int i = 0; i < 12; ++i) bytes += Len(2, region);
  Walk("pdpb.ReportBatchSplitRequest", bytes, facts);
  EXPECT_TRUE(facts.over_cap);
  for (const RegionStatement& s : facts.statements) EXPECT_EQ(s.end.size(), large.size());

  bytes.clear();
  for (size_t i = 0; i < limits::kMaxRoutesPerMessage + 5; ++i)
    bytes += Len(11, Num(1, 2) + Len(4, Len(1, "a")));
  Walk("coprocessor.Request", bytes, facts);
  EXPECT_TRUE(facts.over_cap);
  EXPECT_EQ(facts.routes.size(), limits::kMaxRoutesPerMessage);
  EXPECT_EQ(facts.keys.size(), limits::kMaxRoutesPerMessage);

  bytes.clear();
  for (size_t i = 0; i < limits::kMaxErrorsPerMessage + 5; ++i) bytes += Len(2, Len(3, "abort"));
  Walk("kvrpcpb.PrewriteResponse", bytes, facts);
  EXPECT_TRUE(facts.over_cap);
  EXPECT_EQ(facts.errors.size(), limits::kMaxErrorsPerMessage);

  bytes.clear();
  for (size_t i = 0; i < limits::kMaxStatementsPerMessage + 5; ++i) bytes += Len(2, Num(1, 5) + Len(5, ""));
  Walk("pdpb.ReportBatchSplitRequest", bytes, facts);
  EXPECT_TRUE(facts.over_cap);
  EXPECT_EQ(facts.statements.size(), limits::kMaxStatementsPerMessage);

  const std::string text(10000, 'x');
  Walk("kvrpcpb.RawPutResponse", Len(2, text), facts);
  EXPECT_EQ(facts.errors[0].text.size(), limits::kMaxErrorTextBytes);
}

// The decimal form of a range error is longer than the text that is kept; it is parsed before it is cut.
TEST(Walker, LongErrorTextsAreParsedWhole) {
  std::string list = "[116";
  for (int i = 0; i < 1500; ++i) list += ", 128";
  list += "]";
  MessageFacts facts;
  Walk("kvrpcpb.ScanResponse",
       Len(3, Len(3, "InvalidReqRange { start: Some(" + list +
                         "), end: None, lower_bound: Some([1]), upper_bound: None }")),
       facts);
  ASSERT_EQ(facts.errors.size(), 1u);
  EXPECT_EQ(facts.errors[0].kind, ErrorKind::kRangeExceedsBound);
  EXPECT_EQ(facts.errors[0].range_start.size(), 1501u);
  EXPECT_EQ(facts.errors[0].text.size(), limits::kMaxErrorTextBytes);
}

TEST(Walker, DeepNestingEndsAtTheCap) {
  // LockInfo.shared_lock_infos nests; the walker looks into no lock, the strict check into all.
  std::string lock = Num(2, 5);
  for (int i = 0; i < 200; ++i) lock = Len(12, lock);
  MessageFacts facts;
  Walk("kvrpcpb.ScanLockResponse", Len(3, lock), facts);
  const StrictResult check =
      TheSchema().Check(TheSchema().FindMessage("kvrpcpb.ScanLockResponse"), AsBytes(Len(3, lock)));
  EXPECT_TRUE(check.valid);
  EXPECT_TRUE(check.too_deep);
  std::string group;
  for (int i = 0; i < 100000; ++i) group += Tag(9, 3);
  facts.Reset();
  EXPECT_FALSE(TheSchema().Walk(TheSchema().FindMessage("kvrpcpb.GetRequest"), AsBytes(group), facts));
}

TEST(Walker, ReadsNothingOfBatchCommands) {
  MessageFacts facts;
  Walk("tikvpb.BatchCommandsRequest",
       Bytes_("tikvpb.BatchCommandsRequest",
              "requests { Get { context { region_id: 1 } key: 'k' } } request_ids: 1"),
       facts);
  EXPECT_TRUE(facts.routes.empty());
  EXPECT_TRUE(facts.keys.empty());
}

TEST(Walker, EmptyMessagesAndUnknownTypes) {
  MessageFacts facts;
  EXPECT_TRUE(TheSchema().Walk(TheSchema().FindMessage("kvrpcpb.GetRequest"), {}, facts));
  EXPECT_FALSE(TheSchema().Walk(kNoType, {}, facts));
  facts.Reset();
  EXPECT_FALSE(TheSchema().Walk(1 << 30, {}, facts));
  EXPECT_FALSE(TheSchema().Check(kNoType, {}).valid);
}

TEST(Walker, AllocatesNothingInTheSteadyState) {
  const std::string region =
      "region { id: 1 start_key: 'a' end_key: 'b' region_epoch { version: 2 } peers { id: 1 store_id: 1 } "
      "peers { id: "
      "2 } } leader { id: 1 } ";
  struct Sample {
    const char* type;
    std::string text;
  };
  const Sample samples[] = {
      {"kvrpcpb.GetRequest",
       "context { region_id: 1 request_source: 'external_Select' } key: 'k' version: 7"},
      {"kvrpcpb.BatchGetRequest", "context { region_id: 1 } keys: 'a' keys: 'b' keys: 'c'"},
      {"kvrpcpb.ScanRequest", "context { region_id: 1 } start_key: 'a' end_key: 'b' reverse: true"},
      {"kvrpcpb.PrewriteRequest", "context { region_id: 1 } mutations { key: 'a' value: 'v' }"},
      {"coprocessor.Request",
       "context { region_id: 1 } ranges { start: 'a' end: 'b' } tasks { region_id: 2 ranges { "
       "start: 'b' end: 'c' } }"},
      {"coprocessor.Response", "data: 'x' batch_responses { data: 'y' task_id: 3 }"},
      {"kvrpcpb.ScanResponse", "pairs { key: 'a' value: 'b' } pairs { key: 'c' }"},
      {"kvrpcpb.GetResponse", "region_error { message: 'm' epoch_not_match { current_regions { id: 3 } } }"},
      {"kvrpcpb.GetResponse", "error { locked { key: 'k' } }"},
      {"pdpb.GetRegionRequest",
       "header { cluster_id: 1 caller_id: 'tidb' caller_component: 'c' } region_key: 'k'"},
      {"pdpb.ScanRegionsResponse", "region_metas { id: 1 } leaders { id: 4 } regions { region { id: 1 } }"},
      {"pdpb.QueryRegionResponse", "key_id_map: 5 regions_by_id { key: 5 value { " + region + "} }"},
      {"pdpb.RegionHeartbeatRequest", region},
  };
  for (const Sample& sample : samples) {
    const std::string bytes = Bytes_(sample.type, sample.text);
    const MessageType type = TheSchema().FindMessage(sample.type);
    MessageFacts facts;
    for (int round = 0; round < 3; ++round) {
      facts.Reset();
      allocation_count = {true, 0};
      const bool ok = TheSchema().Walk(type, AsBytes(bytes), facts);
      allocation_count.on = false;
      EXPECT_TRUE(ok);
      EXPECT_TRUE(allocation_count.count == 0 || round < 2) << sample.type;
    }
  }
}

}  // namespace
}  // namespace keytrail
