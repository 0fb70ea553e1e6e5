#include "agent/schema/schema.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "common/key_codec.h"

namespace keytrail {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const Schema& Bundled() {
  static const std::unique_ptr<Schema> schema = std::move(Schema::Bundled().value());
  return *schema;
}

// A folder of the test's own, gone afterwards.
class SchemaFiles : public ::testing::Test {
 protected:
  SchemaFiles() {
    dir_ =
        fs::path(::testing::TempDir()) /
        ("keytrail_schema_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~SchemaFiles() override { fs::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }

  fs::path dir_;
};

TEST(Schema, KnowsTheServicesOfTheFactTables) {
  EXPECT_EQ(Bundled().method_count(), 266u + 43u);
  for (const char* path :
       {"/tikvpb.Tikv/KvGet", "/tikvpb.Tikv/Coprocessor", "/pdpb.PD/GetRegion", "/pdpb.PD/ScanRegions",
        "/routerpb.Router/BatchScanRegions", "/backup.Backup/backup", "/etcdserverpb.KV/Range",
        "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/meta_storagepb.MetaStorage/Watch",
        "/resource_manager.ResourceManager/AcquireTokenBuckets", "/deadlock.Deadlock/Detect",
        "/keyspacepb.Keyspace/LoadKeyspace", "/tikvpb.VersionedKv/VersionedCoprocessor"}) {
    const Method* method = Bundled().FindMethod(path);
    ASSERT_NE(method, nullptr) << path;
    EXPECT_EQ(method->path, path);
    EXPECT_NE(method->request, kNoType);
    EXPECT_NE(method->response, kNoType);
  }
  EXPECT_EQ(Bundled().FindMethod("/tikvpb.Tikv/NoSuch"), nullptr);
  EXPECT_EQ(Bundled().FindMethod(""), nullptr);
}

TEST(Schema, StreamsAndClasses) {
  const auto method = [](std::string_view path) { return *Bundled().FindMethod(path); };
  EXPECT_TRUE(method("/tikvpb.Tikv/KvGet").unary());
  EXPECT_EQ(method("/tikvpb.Tikv/KvGet").cls, MethodClass::kPlain);
  EXPECT_TRUE(method("/tikvpb.Tikv/BatchCommands").client_stream);
  EXPECT_TRUE(method("/tikvpb.Tikv/BatchCommands").server_stream);
  EXPECT_EQ(method("/tikvpb.Tikv/BatchCommands").cls, MethodClass::kBatchCommands);
  EXPECT_EQ(method("/pdpb.PD/QueryRegion").cls, MethodClass::kQueryRegion);
  EXPECT_EQ(method("/routerpb.Router/QueryRegion").cls, MethodClass::kQueryRegion);
  EXPECT_EQ(method("/pdpb.PD/Tso").cls, MethodClass::kCountOnly);
  EXPECT_EQ(method("/tsopb.TSO/Tso").cls, MethodClass::kCountOnly);
  EXPECT_EQ(method("/etcdserverpb.Watch/Watch").cls, MethodClass::kCountOnly);
  EXPECT_EQ(method("/pdpb.PD/RegionHeartbeat").cls, MethodClass::kPlain);
  EXPECT_FALSE(method("/tikvpb.Tikv/BatchCoprocessor").client_stream);
  EXPECT_TRUE(method("/tikvpb.Tikv/BatchCoprocessor").server_stream);
  EXPECT_TRUE(method("/tikvpb.Tikv/Raft").client_stream);
  EXPECT_FALSE(method("/tikvpb.Tikv/Raft").server_stream);
}

TEST(Schema, BatchCommandsByNumber) {
  const auto name = [](uint32_t number) { return Bundled().FindBatchCommand(number, true).name; };
  EXPECT_EQ(name(1), "Get");
  EXPECT_EQ(name(3), "Prewrite");
  EXPECT_EQ(name(11), "GC");
  EXPECT_EQ(name(22), "Coprocessor");
  EXPECT_EQ(name(23), "PessimisticLock");
  EXPECT_EQ(name(40), "BroadcastTxnStatus");
  EXPECT_EQ(name(255), "Empty");
  for (const uint32_t number : {0u, 27u, 32u, 41u, 256u, 1000u, 4000000000u}) {
    EXPECT_EQ(name(number), "") << number;
    EXPECT_EQ(Bundled().FindBatchCommand(number, true).type, kNoType);
  }
  int count = 0;
  for (uint32_t number = 0; number < 300; ++number) {
    const BatchCommand request = Bundled().FindBatchCommand(number, true);
    const BatchCommand response = Bundled().FindBatchCommand(number, false);
    EXPECT_EQ(request.name, response.name);
    count += !request.name.empty();
    if (request.name == "Get") {
      EXPECT_EQ(Bundled().MessageName(request.type), "kvrpcpb.GetRequest");
      EXPECT_EQ(Bundled().MessageName(response.type), "kvrpcpb.GetResponse");
    }
  }
  EXPECT_EQ(count, 35);
}

TEST(Schema, MessagesByName) {
  const MessageType type = Bundled().FindMessage("kvrpcpb.GetRequest");
  ASSERT_NE(type, kNoType);
  EXPECT_EQ(Bundled().MessageName(type), "kvrpcpb.GetRequest");
  EXPECT_EQ(Bundled().FindMessage("kvrpcpb.NoSuch"), kNoType);
  EXPECT_EQ(Bundled().MessageName(kNoType), "");
  EXPECT_EQ(Bundled().MessageName(1 << 30), "");
}

TEST(Schema, FullText) {
  const std::string bytes = FromHex(
                                "0a020810"
                                "12016b"
                                "1807")
                                .value();
  const MessageType type = Bundled().FindMessage("kvrpcpb.GetRequest");
  EXPECT_EQ(Bundled().FullText(type, AsBytes(bytes), true),
            "context { region_id: 16 } key: \"k\" version: 7");
  EXPECT_EQ(Bundled().FullText(type, AsBytes(bytes), false),
            "context {\n  region_id: 16\n}\nkey: \"k\"\nversion: 7");
  // Unknown fields are printed by number; unknown types and damage fall back on the raw form.
  EXPECT_EQ(Bundled().FullText(type, AsBytes(bytes + FromHex("f80105").value()), true),
            "context { region_id: 16 } key: \"k\" version: 7 31: 5");
  EXPECT_EQ(Bundled().FullText(kNoType, AsBytes(bytes), true), RawText(AsBytes(bytes), true));
  EXPECT_EQ(Bundled().FullText(type, AsBytes(bytes).first(3), true), RawText(AsBytes(bytes).first(3), true));
}

TEST(Schema, StrictCheckSeesWhatDoesNotFit) {
  const auto check = [](std::string_view type, std::string_view hex) {
    return Bundled().Check(Bundled().FindMessage(type), AsBytes(FromHex(hex).value()));
  };
  StrictResult r = check("kvrpcpb.GetRequest",
                         "0a020810"
                         "12016b"
                         "1807");
  EXPECT_TRUE(r.valid);
  EXPECT_EQ(r.fields, 4u);
  EXPECT_EQ(r.known_fields, 4u);
  EXPECT_EQ(check("kvrpcpb.GetRequest", "f80105").unknown_fields, 1u);
  EXPECT_EQ(check("kvrpcpb.GetRequest", "1005").wrong_wire_types, 1u);
  EXPECT_EQ(check("kvrpcpb.GetRequest", "18071808").repeated_singular, 1u);
  EXPECT_EQ(check("kvrpcpb.GetRequest", "180712016b").out_of_order, 1u);
  EXPECT_EQ(check("kvrpcpb.GetRequest", "1800").explicit_zeroes, 1u);
  EXPECT_EQ(check("kvrpcpb.GetRequest", "2002").bad_bools, 1u);
  EXPECT_EQ(check("kvrpcpb.Context", "30ff01").unknown_enums, 1u);
  EXPECT_EQ(check("kvrpcpb.Context", "c2010180").bad_strings, 1u);
  EXPECT_EQ(check("tikvpb.BatchCommandsRequest.Request", "0a001200").oneof_conflicts, 1u);
  // Damage in a submessage that Walk does not look into.
  EXPECT_FALSE(check("coprocessor.Response", "5a0180").valid);
  MessageFacts facts;
  EXPECT_TRUE(Bundled().Walk(Bundled().FindMessage("coprocessor.Response"),
                             AsBytes(FromHex("5a0180").value()), facts));
}

// ---------------------------------------------------------------------------------------------------------
// A user's own files

constexpr const char* kOtherNumbers = R"(syntax = "proto3";
package kvrpcpb;
message Context { uint64 region_id = 70; RegionEpoch epoch = 3; string request_source = 2; }
message RegionEpoch { uint64 version = 9; }
message GetRequest { bytes key = 1; Context context = 200; uint64 version = 5; }
message GetResponse { string error = 4; bytes value = 1; }
)";
constexpr const char* kOtherService = R"(syntax = "proto3";
package tikvpb;
import "kvrpcpb.proto";
import "gogoproto/gogo.proto";
option (gogoproto.marshaler_all) = true;
message BatchCommandsRequest {
  message Request { oneof cmd { kvrpcpb.GetRequest get = 7; kvrpcpb.GetRequest batch_get = 9; } }
  repeated Request requests = 1;
}
message BatchCommandsResponse {
  message Response { oneof cmd { kvrpcpb.GetResponse get = 7; } }
}
service Tikv { rpc KvGet(kvrpcpb.GetRequest) returns (kvrpcpb.GetResponse) {} }
)";
constexpr const char* kGogo = R"(syntax = "proto2";
package gogoproto;
import "google/protobuf/descriptor.proto";
extend google.protobuf.FileOptions { optional bool marshaler_all = 63017; }
)";

void ExpectOtherNumbers(const Schema& schema) {
  const Method* method = schema.FindMethod("/tikvpb.Tikv/KvGet");
  ASSERT_NE(method, nullptr);
  // key = 1, context = 200 { region_id = 70, request_source = 2 }, version = 5
  const std::string bytes = FromHex(
                                "0a026b31"
                                "c20c0612"
                                "0173"
                                "b0042a"
                                "2863")
                                .value();
  MessageFacts facts;
  EXPECT_TRUE(schema.Walk(method->request, AsBytes(bytes), facts));
  ASSERT_EQ(facts.keys.size(), 1u);
  EXPECT_EQ(AsText(facts.keys[0].start), "k1");
  ASSERT_EQ(facts.routes.size(), 1u);
  EXPECT_EQ(facts.routes[0].region_id, 42u);
  EXPECT_EQ(facts.request_source, "s");
  EXPECT_EQ(facts.start_ts, 99u);
  EXPECT_EQ(schema.FullText(method->request, AsBytes(bytes), true),
            "key: \"k1\" version: 99 context { request_source: \"s\" region_id: 42 }");
  EXPECT_EQ(schema.FindBatchCommand(7, true).name, "Get");
  EXPECT_EQ(schema.FindBatchCommand(9, true).name, "BatchGet");
  EXPECT_EQ(schema.FindBatchCommand(1, true).name, "");
  EXPECT_EQ(schema.FindBatchCommand(9, false).name, "");
  // Of the bundled schema what does not need the user's packages: etcd and health are there.
  EXPECT_NE(schema.FindMethod("/etcdserverpb.KV/Range"), nullptr);
  EXPECT_NE(schema.FindMethod("/grpc.health.v1.Health/Check"), nullptr);
  EXPECT_NE(schema.FindMethod("/meta_storagepb.MetaStorage/Watch"), nullptr);
  // The user's tikvpb has one method, and no other is added to it.
  EXPECT_EQ(schema.FindMethod("/tikvpb.Tikv/KvScan"), nullptr);
  // import_sstpb needs messages that this user's kvrpcpb lacks.
  EXPECT_EQ(schema.FindMethod("/import_sstpb.ImportSST/Ingest"), nullptr);
  for (size_t i = 0; i < schema.method_count(); ++i) {
    EXPECT_NE(schema.method(i).request, kNoType);
    EXPECT_NE(schema.method(i).response, kNoType);
  }
}

TEST_F(SchemaFiles, OtherNumbersFromARepository) {
  Write("proto/kvrpcpb.proto", kOtherNumbers);
  Write("proto/tikvpb.proto", kOtherService);
  Write("include/gogoproto/gogo.proto", kGogo);
  for (const fs::path& dir : {dir_, dir_ / "proto"}) {
    const auto schema = Schema::FromProtoDir(dir.string());
    ASSERT_TRUE(schema.ok()) << schema.error();
    ExpectOtherNumbers(**schema);
  }
}

TEST_F(SchemaFiles, RelativeAndFlatFolders) {
  Write("flat/kvrpcpb.proto", kOtherNumbers);
  Write("flat/tikvpb.proto", kOtherService);
  Write("flat/gogoproto/gogo.proto", kGogo);
  const fs::path before = fs::current_path();
  fs::current_path(dir_);
  const auto schema = Schema::FromProtoDir("flat/");
  fs::current_path(before);
  ASSERT_TRUE(schema.ok()) << schema.error();
  ExpectOtherNumbers(**schema);
}

TEST_F(SchemaFiles, OtherNumbersFromADescriptorSet) {
  Write("kvrpcpb.proto", kOtherNumbers);
  Write("tikvpb.proto", kOtherService);
  Write("gogoproto/gogo.proto", kGogo);
  const std::string set = (dir_ / "set.pb").string();
  const std::string command = "protoc -I'" + dir_.string() + "' --include_imports --descriptor_set_out='" +
                              set + "' kvrpcpb.proto tikvpb.proto";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const auto schema = Schema::FromDescriptorSet(set);
  ASSERT_TRUE(schema.ok()) << schema.error();
  ExpectOtherNumbers(**schema);
  // Without its imports a set cannot be used, and says how to make a right one.
  const std::string half = "protoc -I'" + dir_.string() + "' --descriptor_set_out='" + set + "' tikvpb.proto";
  ASSERT_EQ(std::system(half.c_str()), 0);
  const auto without = Schema::FromDescriptorSet(set);
  ASSERT_FALSE(without.ok());
  EXPECT_THAT(without.error(), StartsWith(set + ": "));
  EXPECT_THAT(without.error(), HasSubstr("--include_imports"));
}

TEST_F(SchemaFiles, TheBundledFilesReadBackAreTheBundledSchema) {
  const auto schema = Schema::FromProtoDir(KEYTRAIL_KVPROTO_DIR);
  ASSERT_TRUE(schema.ok()) << schema.error();
  ASSERT_EQ((*schema)->method_count(), Bundled().method_count());
  std::set<std::string> a;
  std::set<std::string> b;
  for (size_t i = 0; i < Bundled().method_count(); ++i) {
    a.insert(Bundled().method(i).path);
    b.insert((*schema)->method(i).path);
  }
  EXPECT_EQ(a, b);
}

TEST_F(SchemaFiles, OldScanRegionsResponse) {
  // kvproto 4.0: `regions` were metapb.Region.
  Write("metapb.proto",
        "syntax = \"proto3\"; package metapb; message Region { uint64 id = 1; bytes start_key = 2; } "
        "message Peer { uint64 id = 1; uint64 store_id = 2; }");
  Write("pdpb.proto",
        "syntax = \"proto3\"; package pdpb; import \"metapb.proto\"; message ScanRegionsResponse { "
        "repeated metapb.Region regions = 2; repeated metapb.Peer leaders = 3; }");
  const auto schema = Schema::FromProtoDir(dir_.string());
  ASSERT_TRUE(schema.ok()) << schema.error();
  MessageFacts facts;
  EXPECT_TRUE((*schema)->Walk((*schema)->FindMessage("pdpb.ScanRegionsResponse"),
                              AsBytes(FromHex("1205080512016b").value()), facts));
  ASSERT_EQ(facts.statements.size(), 1u);
  EXPECT_EQ(facts.statements[0].source, StatementSource::kPdScanRegions);
  EXPECT_EQ(facts.statements[0].region_id, 5u);
}

// A schema may call anything by these names; nothing may crash.
TEST_F(SchemaFiles, StrangeSchemas) {
  Write("kvrpcpb.proto",
        "syntax = \"proto3\"; package kvrpcpb; message Context { Context region_epoch = 1; Context peer = 2; "
        "repeated uint64 region_id = 3; string version = 4; Context source_stmt = 5; }"
        "message GetRequest { repeated Context context = 1; Context key = 2; sint64 version = 3; }"
        "message GetResponse { KeyError error = 1; repeated KeyError errors = 2; GetResponse again = 3; }"
        "message KeyError { KeyError locked = 1; KeyError conflict = 2; uint64 abort = 3; string retryable = "
        "4; }");
  const auto schema = Schema::FromProtoDir(dir_.string());
  ASSERT_TRUE(schema.ok()) << schema.error();
  MessageFacts facts;
  for (const char* type :
       {"kvrpcpb.GetRequest", "kvrpcpb.GetResponse", "kvrpcpb.Context", "kvrpcpb.KeyError"}) {
    for (int first = 0; first < 64; ++first) {
      std::string bytes = "x";
      for (int i = 0; i < 12; ++i) {
        bytes = std::string(1, static_cast<char>(first)) + std::string(1, static_cast<char>(bytes.size())) +
                bytes;
      }
      facts.Reset();
      (*schema)->Walk((*schema)->FindMessage(type), AsBytes(bytes), facts);
      (*schema)->Check((*schema)->FindMessage(type), AsBytes(bytes));
    }
  }
}

TEST_F(SchemaFiles, ErrorsSayWhereAndWhat) {
  const auto error_of = [](Result<std::unique_ptr<Schema>> result) {
    return result.ok() ? std::string("(no error)") : result.error();
  };
  const std::string missing = (dir_ / "missing").string();
  EXPECT_EQ(error_of(Schema::FromProtoDir(missing)), missing + ": No such file or directory");
  EXPECT_EQ(error_of(Schema::FromDescriptorSet(missing)), missing + ": No such file or directory");
  fs::create_directories(dir_ / "empty");
  EXPECT_EQ(error_of(Schema::FromProtoDir((dir_ / "empty").string())),
            (dir_ / "empty").string() + ": no .proto file in this directory");
  Write("file", "not a descriptor set");
  EXPECT_THAT(error_of(Schema::FromDescriptorSet((dir_ / "file").string())),
              StartsWith((dir_ / "file").string() + ": not a descriptor set"));
  EXPECT_THAT(error_of(Schema::FromProtoDir((dir_ / "file").string())), HasSubstr("not a directory"));
  EXPECT_THAT(error_of(Schema::FromDescriptorSet(dir_.string())), HasSubstr("a directory"));
  Write("none", "");
  EXPECT_THAT(error_of(Schema::FromDescriptorSet((dir_ / "none").string())), HasSubstr("without any file"));

  Write("bad/a.proto", "syntax = \"proto3\";\npackage a;\nmessage M {\n  uint64 x = ;\n}\n");
  EXPECT_EQ(error_of(Schema::FromProtoDir((dir_ / "bad").string())),
            (dir_ / "bad").string() + "/a.proto:4:14: Expected field number.");
  Write("unresolved/a.proto", "syntax = \"proto3\";\nmessage M {\n  NoSuch x = 1;\n}\n");
  EXPECT_THAT(
      error_of(Schema::FromProtoDir((dir_ / "unresolved").string())),
      ::testing::AllOf(StartsWith((dir_ / "unresolved").string() + "/a.proto:3:3: "), HasSubstr("NoSuch")));
  Write("import/a.proto", "syntax = \"proto3\";\nimport \"b.proto\";\n");
  EXPECT_THAT(error_of(Schema::FromProtoDir((dir_ / "import").string())), HasSubstr("b.proto"));
}

}  // namespace
}  // namespace keytrail
