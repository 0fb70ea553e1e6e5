#include "collector/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <map>

#include "collector/correlate/correlator.h"
#include "collector/store/schema.h"
#include "common/key_codec.h"
#include "common/plain_text.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Store> Opened(const std::string& path) {
  Result<std::unique_ptr<Store>> store = Store::Open(path);
  EXPECT_TRUE(store.ok()) << store.error();
  return store.ok() ? std::move(*store) : nullptr;
}

uint32_t Agent(Store& store, const std::string& key, uint64_t epoch = 1) {
  const Result<AgentRow> row = store.RegisterAgent(key, "", "", epoch);
  EXPECT_TRUE(row.ok()) << row.error();
  return row->id;
}

std::string Shown(const Store::QueryValue& v) {
  using Type = Store::QueryValue::Type;
  switch (v.type) {
    case Type::kNull:
      return "null";
    case Type::kInteger:
      return std::to_string(v.integer);
    case Type::kReal:
      return std::to_string(v.real);
    case Type::kText:
      return v.bytes;
    case Type::kBlob:
      return "x'" + HexLower(AsBytes(v.bytes)) + "'";
  }
  return "";
}

// One string a row, values joined by '|'; or the error.
std::vector<std::string> Rows(Store& store, const std::string& sql) {
  std::vector<std::string> rows;
  const Status status = store.Query(
      sql, [](const Store::QueryColumns&) {},
      [&](const std::vector<Store::QueryValue>& values) {
        std::string row;
        for (const Store::QueryValue& v : values) row += (row.empty() ? "" : "|") + Shown(v);
        rows.push_back(row);
        return true;
      });
  if (!status.ok()) rows.push_back("error: " + status.error());
  return rows;
}

void CommitOne(Store& store, uint32_t agent, uint64_t sequence, const CallRecord& call) {
  ASSERT_TRUE(store.Begin().ok());
  const Result<uint64_t> id = store.Add(agent, call);
  ASSERT_TRUE(id.ok()) << id.error();
  const Status done = store.Commit(agent, sequence);
  ASSERT_TRUE(done.ok()) << done.error();
}

using Stored = std::map<uint64_t, std::pair<uint32_t, std::string>>;

Stored ReadAll(Store& store) {
  Stored got;
  const Status status = store.ForEachCall([&](uint32_t agent, uint64_t id, const CallRecord& call) {
    EXPECT_TRUE(got.emplace(id, std::pair(agent, DescribeCall(call))).second) << id;
  });
  EXPECT_TRUE(status.ok()) << status.error();
  return got;
}

TEST(Store, EveryRecordComesBackWholeAlsoFromTheFile) {
  const ScratchDir dir;
  const std::string path = dir / "k.db";
  RandomRecords records(21);
  Stored expected;
  {
    std::unique_ptr<Store> store = Opened(path);
    const uint32_t agents[2] = {Agent(*store, "a"), Agent(*store, "b")};
    for (uint64_t batch = 1; batch <= 40; ++batch) {
      const uint32_t agent = agents[batch % 2];
      ASSERT_TRUE(store->Begin().ok());
      for (uint64_t n = 0; n < batch * 3; ++n) {
        const CallRecord& call = records.Any();
        const Result<uint64_t> id = store->Add(agent, call);
        ASSERT_TRUE(id.ok()) << id.error();
        expected[*id] = {agent, DescribeCall(call)};
      }
      ASSERT_TRUE(store->Commit(agent, batch).ok());
    }
    EXPECT_EQ(ReadAll(*store), expected);
  }
  EXPECT_EQ(ReadAll(*Opened(path)), expected);
  Result<std::unique_ptr<Store>> reader = Store::OpenReadOnly(path);
  ASSERT_TRUE(reader.ok()) << reader.error();
  EXPECT_EQ(ReadAll(**reader), expected);
  EXPECT_EQ((*reader)->CallCount().value(), expected.size());
  EXPECT_THAT(Rows(**reader, "SELECT count(*) FROM calls"), ElementsAre(std::to_string(expected.size())));
}

// More than one compressed batch in a transaction.
TEST(Store, ALongTransaction) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const uint32_t agent = Agent(*store, "a");
  RandomRecords records(1);
  ASSERT_TRUE(store->Begin().ok());
  for (int n = 0; n < 5000; ++n) ASSERT_TRUE(store->Add(agent, records.Get()).ok());
  ASSERT_TRUE(store->Commit(agent, 1).ok());
  const Stored got = ReadAll(*store);
  EXPECT_EQ(got.size(), 5000u);
  EXPECT_EQ(got.begin()->first, 1u);
  EXPECT_EQ(got.rbegin()->first, 5000u);
  EXPECT_THAT(Rows(*store, "SELECT count(*), sum(records) FROM record_batches"), ElementsAre("3|5000"));
}

TEST(Store, RowsOfAPointRead) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const Result<AgentRow> agent = store->RegisterAgent("key", "tidb1", "tidb", 7);
  ASSERT_TRUE(agent.ok());
  RandomRecords records(2);
  CallRecord call = records.Get();
  call.resp_last = TimeNs{call.req_first.ns + 335'000};
  call.incomplete = kGap | kCut;
  call.client_process = {4711, {"tidb-server"}};
  CommitOne(*store, agent->id, 1, call);
  EXPECT_THAT(Rows(*store,
                   "SELECT id, observer, kind, method, method_from, command, server, joined, latency_ns,"
                   " incomplete, resp_messages, reset FROM calls"),
              ElementsAre("1|tidb1|sub|/tikvpb.Tikv/BatchCommands|header|Get|10.77.0.31:20160|start|335000|"
                          "gap,cut|1|0"));
  EXPECT_THAT(Rows(*store, "SELECT client_process, server_process FROM calls"),
              ElementsAre("tidb-server|null"));
  EXPECT_THAT(Rows(*store, "SELECT client_pid, client_process, server_pid, server_process FROM connections"),
              ElementsAre("4711|tidb-server|null|null"));
  const Route& route = call.request->routes[0];
  const std::string expected_route = std::to_string(route.region_id) + "|1|" + std::to_string(route.version) +
                                     "|" + std::to_string(route.peer_id) + "|1";
  EXPECT_THAT(Rows(*store, "SELECT region_id, conf_ver, version, peer_id, store_id FROM routes"),
              ElementsAre(expected_route));
  EXPECT_THAT(Rows(*store, "SELECT region_id, conf_ver, version, peer_id, store_id FROM calls"),
              ElementsAre(expected_route));
  // The raw key of the wire is stored encoded.
  const Bytes raw = call.request->keys[0].start;
  EXPECT_THAT(Rows(*store,
                   "SELECT form, is_range, start_key, end_key, decode_key(start_key), tidb_key(start_key)"
                   " FROM call_keys"),
              ElementsAre("raw|0|x'" + HexLower(AsBytes(EncodeKey(raw))) + "'|null|x'" + HexLower(raw) +
                          "'|" + RawKeyText(raw)));
  EXPECT_THAT(Rows(*store, "SELECT store_id, server, calls FROM stores"),
              ElementsAre("1|10.77.0.31:20160|1"));
}

// A name that is proved after its calls were stored: of their connection and stream alone, and read back
// whole.
TEST(Store, AnAmendmentNamesWhatCameWithout) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const uint32_t agent = Agent(*store, "a");
  CallRecord call;
  call.client = *ParseEndpoint("10.0.0.1:40000");
  call.server = *ParseEndpoint("10.0.0.2:20160");
  call.connection = 3;
  uint64_t sequence = 0;
  for (const uint32_t stream : {21, 23}) {
    call.stream = stream;
    CommitOne(*store, agent, ++sequence, call);
  }
  call.kind = CallKind::kAmend;
  call.stream = 21;
  call.method = "/tikvpb.Tikv/KvGet";
  call.method_from = MethodFrom::kSlot;
  CommitOne(*store, agent, ++sequence, call);
  EXPECT_THAT(Rows(*store, "SELECT stream, method, method_from FROM calls ORDER BY id"),
              ElementsAre("21|/tikvpb.Tikv/KvGet|slot", "23|null|unknown"));
  EXPECT_EQ(ReadAll(*store).size(), 3u);
}

TEST(Store, KeysAreStoredInEncodedForm) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const uint32_t agent = Agent(*store, "a");
  OwnedRecord r;
  r.call.request = &r.request;
  const auto add = [&](std::string_view start, std::string_view end, bool is_range, KeyForm form) {
    KeyItem& k = r.request.keys.emplace_back();
    k.start = AsBytes(start);
    k.end = AsBytes(end);
    k.is_range = is_range;
    k.form = form;
  };
  add("k", "", false, KeyForm::kRaw);
  add("", "", false, KeyForm::kRaw);  // a key that is empty, no infinity
  add("a", "", true, KeyForm::kRaw);
  add("", "b", true, KeyForm::kRaw);
  add("k", "", false, KeyForm::kEncoded);
  CommitOne(*store, agent, 1, r.call);
  const auto hex = [](const std::string& s) { return "x'" + HexLower(AsBytes(s)) + "'"; };
  const auto encoded = [&](const char* s) { return hex(EncodeKey(AsBytes(s))); };
  EXPECT_THAT(Rows(*store, "SELECT n, start_key, end_key FROM call_keys ORDER BY n"),
              ElementsAre("0|" + encoded("k") + "|null", "1|" + encoded("") + "|null",
                          "2|" + encoded("a") + "|x''", "3|x''|" + encoded("b"), "4|" + hex("k") + "|null"));
  r.request.raw_keyspace = true;
  r.request.keys.resize(1);
  CommitOne(*store, agent, 2, r.call);
  EXPECT_THAT(Rows(*store, "SELECT start_key FROM call_keys WHERE call_id = 2"), ElementsAre(hex("k")));
}

TEST(Store, StatementsAndErrorsReferToTheirCall) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const uint32_t agent = Agent(*store, "a");
  OwnedRecord r;
  r.call.request = &r.request;
  r.call.response = &r.response;
  r.call.resp_first = TimeNs{5};
  for (MessageFacts* f : {&r.request, &r.response}) {
    RegionStatement& s = f->statements.emplace_back();
    s.source = f == &r.request ? StatementSource::kHeartbeat : StatementSource::kEpochNotMatch;
    s.region_id = 16;
    s.version = 2;
    s.conf_ver = 1;
    s.has_epoch = true;
    s.start = AsBytes("a");
    s.first_peer = 0;
    s.peer_count = 2;
    f->peers = {{3, 1, 0}, {4, 2, 1}};
  }
  ErrorFact& e = r.response.errors.emplace_back();
  e.kind = ErrorKind::kKeyOutOfRegion;
  e.has_key = e.has_bounds = true;
  e.key = AsBytes("k");
  e.region_id = 16;
  CommitOne(*store, agent, 1, r.call);
  EXPECT_THAT(
      Rows(*store,
           "SELECT id, call_id, source, t_ns, region_id, version, start_key, end_key, peers"
           " FROM statements ORDER BY id"),
      ElementsAre(
          std::to_string(Correlator::StatementId(1, 0)) + "|1|heartbeat|null|16|2|x'61'|x''|3:1:0 4:2:1",
          std::to_string(Correlator::StatementId(1, 1)) + "|1|epoch_not_match|5|16|2|x'61'|x''|3:1:0 4:2:1"));
  EXPECT_THAT(
      Rows(*store, "SELECT call_id, kind, region_id, key, range_start, start_key, end_key FROM errors"),
      ElementsAre("1|key_out_of_region|16|x'6b'|null|x''|x''"));
  EXPECT_THAT(Rows(*store, "SELECT region_id, version, statements, sources FROM regions"),
              ElementsAre("16|2|2|heartbeat,epoch_not_match"));
}

TEST(Store, ProgressMovesWithTheRows) {
  const ScratchDir dir;
  std::unique_ptr<Store> store = Opened(dir / "k.db");
  RandomRecords records(3);
  const uint32_t agent = Agent(*store, "a", 9);
  CommitOne(*store, agent, 1, records.Get());
  ASSERT_TRUE(store->Begin().ok());
  ASSERT_TRUE(store->Add(agent, records.Get()).ok());
  ASSERT_TRUE(store->AddLoss(agent, "gaps", 3, 0, 0).ok());
  store->Rollback();
  EXPECT_EQ(store->CallCount().value(), 1u);
  EXPECT_EQ(store->RegisterAgent("a", "", "", 9)->last_sequence, 1u);
  CommitOne(*store, agent, 2, records.Get());
  EXPECT_EQ(store->RegisterAgent("a", "", "", 9)->last_sequence, 2u);
  EXPECT_THAT(Rows(*store, "SELECT id FROM calls"), ElementsAre("1", "2"));
  EXPECT_THAT(Rows(*store, "SELECT count(*) FROM losses"), ElementsAre("0"));
  // Neither a lost process leaves half a batch.
  ASSERT_TRUE(store->Begin().ok());
  ASSERT_TRUE(store->Add(agent, records.Get()).ok());
  store.reset();
  EXPECT_EQ(Opened(dir / "k.db")->CallCount().value(), 2u);
}

TEST(Store, AnAgentThatStartsAnewIsANewAgent) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const Result<AgentRow> first = store->RegisterAgent("a", "tidb1", "tidb", 1);
  RandomRecords records(3);
  CommitOne(*store, first->id, 5, records.Get());
  const Result<AgentRow> second = store->RegisterAgent("a", "tidb1", "tidb", 0xFFFFFFFFFFFFFFFF);
  EXPECT_NE(second->id, first->id);
  EXPECT_EQ(second->last_sequence, 0u);
  const Result<AgentRow> again = store->RegisterAgent("a", "renamed", "tidb", 1);
  EXPECT_EQ(again->id, first->id);
  EXPECT_EQ(again->last_sequence, 5u);
  const Result<std::vector<AgentRow>> all = store->Agents();
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].name, "renamed");
  EXPECT_EQ((*all)[1].epoch, 0xFFFFFFFFFFFFFFFF);
}

// Numbers that one connection remembers are stale after another has written.
TEST(Store, TwoWritersOfOneFile) {
  const ScratchDir dir;
  std::unique_ptr<Store> a = Opened(dir / "k.db");
  std::unique_ptr<Store> b = Opened(dir / "k.db");
  const uint32_t agents[2] = {Agent(*a, "a"), Agent(*b, "b")};
  RandomRecords records(4);
  Stored expected;
  for (uint64_t i = 1; i <= 60; ++i) {
    Store& store = i % 3 == 0 ? *b : *a;
    const uint32_t agent = agents[i % 3 == 0];
    const CallRecord& call = records.Any();
    CommitOne(store, agent, i, call);
    expected[i] = {agent, DescribeCall(call)};
  }
  EXPECT_EQ(ReadAll(*a), expected);
  EXPECT_EQ(ReadAll(*b), expected);
  EXPECT_THAT(Rows(*a, "SELECT count(*) FROM calls"), ElementsAre("60"));
}

// Bytes of the wire that are no text do not make the file unreadable for programs that expect some.
TEST(Store, TextColumnsHoldText) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const uint32_t agent = Agent(*store, "a");
  RandomRecords records(8);
  ASSERT_TRUE(store->Begin().ok());
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(store->Add(agent, records.Any()).ok());
  ASSERT_TRUE(store->AddLoss(agent, "\xFF", 1, 0, 0).ok());
  ASSERT_TRUE(store->Commit(agent, 1).ok());
  uint64_t texts = 0;
  for (const TableDescription& table : DatabaseSchema()) {
    const Status status = store->Query(
        std::string("SELECT * FROM ") + table.name, [](const Store::QueryColumns&) {},
        [&](const std::vector<Store::QueryValue>& row) {
          for (const Store::QueryValue& v : row) {
            if (v.type != Store::QueryValue::Type::kText) continue;
            EXPECT_TRUE(IsPlainText(v.bytes)) << table.name;
            ++texts;
          }
          return true;
        });
    EXPECT_TRUE(status.ok()) << status.error();
  }
  EXPECT_GT(texts, 3000u);
}

TEST(Store, LossesComeBack) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const uint32_t agent = Agent(*store, "a");
  ASSERT_TRUE(store->Begin().ok());
  ASSERT_TRUE(store->AddLoss(agent, "kernel_drops", 12, 1000, 2000).ok());
  ASSERT_TRUE(store->AddLoss(agent, "gaps", 1, 0, 0).ok());
  ASSERT_TRUE(store->Commit(agent, 1).ok());
  std::vector<std::string> got;
  ASSERT_TRUE(store
                  ->ForEachLoss([&](const LossRow& l) {
                    got.push_back(l.kind + " " + std::to_string(l.count) + " " + std::to_string(l.first_ns) +
                                  " " + std::to_string(l.last_ns));
                  })
                  .ok());
  EXPECT_THAT(got, ElementsAre("kernel_drops 12 1000 2000", "gaps 1 0 0"));
  EXPECT_THAT(Rows(*store, "SELECT kind, count, first_ns FROM losses"),
              ElementsAre("kernel_drops|12|1000", "gaps|1|null"));
}

// A full disk, played by a limit on the size of files.
TEST(Store, AFullDiskIsAnErrorAndPasses) {
  const ScratchDir dir;
  std::unique_ptr<Store> store = Opened(dir / "k.db");
  const uint32_t agent = Agent(*store, "a");
  RandomRecords records(5);
  CommitOne(*store, agent, 1, records.Get());
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction before {};
  sigaction(SIGXFSZ, &ignore, &before);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{400'000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string error;
  for (uint64_t sequence = 2; sequence < 100 && error.empty(); ++sequence) {
    const Status begun = store->Begin();
    if (!begun.ok()) error = begun.error();
    for (int n = 0; n < 1000 && error.empty(); ++n) {
      const Result<uint64_t> id = store->Add(agent, records.Get());
      if (!id.ok()) error = id.error();
    }
    if (error.empty()) {
      const Status done = store->Commit(agent, sequence);
      if (!done.ok()) error = done.error();
    }
    if (!error.empty()) store->Rollback();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  sigaction(SIGXFSZ, &before, nullptr);
  EXPECT_THAT(error, HasSubstr("k.db"));
  const Result<AgentRow> row = store->RegisterAgent("a", "", "", 1);
  ASSERT_TRUE(row.ok()) << row.error();
  EXPECT_EQ(store->CallCount().value(), 1 + (row->last_sequence - 1) * 1000);
  CommitOne(*store, agent, row->last_sequence + 1, records.Get());
  EXPECT_EQ(ReadAll(*store).size(), store->CallCount().value());
}

TEST(StoreOpen, SaysWhatIsWrong) {
  const ScratchDir dir;
  const auto error = [](const std::string& path) {
    const Result<std::unique_ptr<Store>> store = Store::Open(path);
    return store.ok() ? "opened" : store.error();
  };
  const auto read_error = [](const std::string& path) {
    const Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(path);
    return store.ok() ? "opened" : store.error();
  };
  EXPECT_THAT(error(dir / "none/k.db"),
              HasSubstr("none/k.db': cannot open: unable to open database file (No such file"));
  EXPECT_THAT(error(dir.path()), HasSubstr("cannot open"));
  EXPECT_THAT(read_error(dir / "absent.db"), HasSubstr("No such file"));
  EXPECT_THAT(error("/proc/k.db"), HasSubstr("/proc/k.db"));

  // A capture given by mistake stays as it is, however short.
  for (const size_t size : {1, 24, 100, 5000}) {
    const std::string path = dir / ("capture" + std::to_string(size));
    std::string bytes = "\xD4\xC3\xB2\xA1";
    bytes.resize(size, 'x');
    std::ofstream(path) << bytes;
    EXPECT_THAT(error(path), HasSubstr("not a database")) << size;
    EXPECT_THAT(read_error(path), HasSubstr("not a database")) << size;
    std::ifstream in(path);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes);
  }

  // Somebody else's database stays as it is, too.
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir / "foreign.db").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "CREATE TABLE t (a)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  EXPECT_THAT(error(dir / "foreign.db"), HasSubstr("was not written by keytrail"));
  EXPECT_THAT(read_error(dir / "foreign.db"), HasSubstr("was not written by keytrail"));

  Opened(dir / "newer.db");
  ASSERT_EQ(sqlite3_open((dir / "newer.db").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version = 1000", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  EXPECT_THAT(error(dir / "newer.db"), HasSubstr("newer keytrail (schema 1000"));
  EXPECT_THAT(read_error(dir / "newer.db"), HasSubstr("newer keytrail"));

  // An empty file is a new database, but nothing to read.
  std::ofstream(dir / "empty.db");
  EXPECT_THAT(read_error(dir / "empty.db"), HasSubstr("was not written by keytrail"));
  EXPECT_EQ(error(dir / "empty.db"), "opened");
  EXPECT_EQ(read_error(dir / "empty.db"), "opened");
}

TEST(StoreOpen, AReaderSeesWhatIsCommittedWhileAWriterWrites) {
  const ScratchDir dir;
  std::unique_ptr<Store> writer = Opened(dir / "k.db");
  Result<std::unique_ptr<Store>> reader = Store::OpenReadOnly(dir / "k.db");
  ASSERT_TRUE(reader.ok()) << reader.error();
  const uint32_t agent = Agent(*writer, "a");
  RandomRecords records(6);
  CommitOne(*writer, agent, 1, records.Get());
  ASSERT_TRUE(writer->Begin().ok());
  ASSERT_TRUE(writer->Add(agent, records.Get()).ok());
  EXPECT_THAT(Rows(**reader, "SELECT count(*) FROM calls"), ElementsAre("1"));
  ASSERT_TRUE(writer->Commit(agent, 2).ok());
  EXPECT_THAT(Rows(**reader, "SELECT count(*) FROM calls"), ElementsAre("2"));
}

// The description that the database carries is the database.
TEST(StoreSchema, EveryColumnIsDocumented) {
  std::unique_ptr<Store> store = Opened(":memory:");
  std::vector<std::string> tables;
  for (const TableDescription& table : DatabaseSchema()) {
    tables.push_back(table.name);
    std::vector<std::string> names;
    for (const ColumnDescription& column : table.columns) names.push_back(column.name);
    EXPECT_EQ(Rows(*store, std::string("SELECT name FROM pragma_table_xinfo('") + table.name + "')"), names)
        << table.name;
    EXPECT_EQ(Rows(*store, std::string("SELECT column_name FROM columns WHERE column_name IS NOT NULL AND"
                                       " length(meaning) > 3 AND table_name = '") +
                               table.name + "'"),
              names);
    EXPECT_THAT(Rows(*store, std::string("SELECT count(*) FROM ") + table.name), ElementsAre(testing::_));
  }
  std::sort(tables.begin(), tables.end());
  EXPECT_EQ(Rows(*store, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name"),
            tables);
  EXPECT_THAT(
      Rows(*store, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%STRICT%'"),
      ElementsAre("0"));
  for (const char* promised : {"calls", "routes", "statements", "errors", "verdicts", "evidence", "agents",
                               "losses", "clock_offsets", "regions", "stores"}) {
    EXPECT_TRUE(std::binary_search(tables.begin(), tables.end(), promised)) << promised;
  }
}

// `sqlite3 file.db` has none of our functions; the views must do without.
TEST(StoreSchema, ViewsWorkInAPlainSqlite) {
  const ScratchDir dir;
  Opened(dir / "k.db");
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir / "k.db").c_str(), &db), SQLITE_OK);
  for (const TableDescription& table : DatabaseSchema()) {
    EXPECT_EQ(
        sqlite3_exec(db, (std::string("SELECT * FROM ") + table.name).c_str(), nullptr, nullptr, nullptr),
        SQLITE_OK)
        << sqlite3_errmsg(db);
  }
  sqlite3_close(db);
}

TEST(StoreQuery, ReadsOnly) {
  const ScratchDir dir;
  std::unique_ptr<Store> store = Opened(dir / "k.db");
  const uint32_t agent = Agent(*store, "a");
  RandomRecords records(7);
  CommitOne(*store, agent, 1, records.Get());
  const std::string other = dir / "other.db";
  for (const std::string& sql : {std::string("DELETE FROM call_rows"),
                                 std::string("INSERT INTO benign VALUES ('x', 1)"),
                                 std::string("UPDATE agents SET name = 'x'"),
                                 std::string("UPDATE sqlite_master SET sql = 'x'"),
                                 std::string("DROP TABLE call_rows"),
                                 std::string("CREATE TABLE t (a)"),
                                 std::string("CREATE TEMP TABLE t (a)"),
                                 std::string("VACUUM"),
                                 "VACUUM INTO '" + other + "'",
                                 "ATTACH '" + other + "' AS o",
                                 std::string("PRAGMA user_version = 7"),
                                 std::string("PRAGMA journal_mode = DELETE"),
                                 std::string("PRAGMA writable_schema = 1"),
                                 std::string("BEGIN"),
                                 std::string("COMMIT"),
                                 std::string("REINDEX"),
                                 std::string("ANALYZE"),
                                 std::string("SELECT load_extension('x')"),
                                 std::string("SELECT 1; DELETE FROM call_rows"),
                                 std::string("SELECT 1; SELECT 2"),
                                 std::string("WITH x AS (SELECT 1) DELETE FROM call_rows"),
                                 std::string(""),
                                 std::string("-- nothing"),
                                 std::string("SELECT"),
                                 std::string("SELEC 1")}) {
    EXPECT_THAT(Rows(*store, sql), ElementsAre(HasSubstr("error: "))) << sql;
  }
  EXPECT_FALSE(std::filesystem::exists(other));
  EXPECT_THAT(Rows(*store, "SELECT count(*) FROM call_rows; -- that is all\n;"), ElementsAre("1"));
  EXPECT_THAT(Rows(*store, "SELECT value FROM json_each('[1, 2]')"), ElementsAre("1", "2"));
  // Writing goes on afterwards.
  CommitOne(*store, agent, 2, records.Get());
  EXPECT_EQ(store->CallCount().value(), 2u);
}

TEST(StoreQuery, ValuesAndEarlyEnd) {
  std::unique_ptr<Store> store = Opened(":memory:");
  EXPECT_THAT(Rows(*store, "SELECT NULL, -3, 1.5, 'a' || char(0) || 'b', x'00ff', x''"),
              ElementsAre(std::string("null|-3|1.500000|a\0b|x'00ff'|x''", 32)));
  int rows = 0;
  ASSERT_TRUE(store
                  ->Query(
                      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
                      [](const Store::QueryColumns& c) { EXPECT_THAT(c.names, ElementsAre("i")); },
                      [&](const auto&) { return ++rows < 10; })
                  .ok());
  EXPECT_EQ(rows, 10);
}

TEST(StoreQuery, Functions) {
  std::unique_ptr<Store> store = Opened(":memory:");
  const auto one = [&](const std::string& sql) { return Rows(*store, "SELECT " + sql).at(0); };
  // The key of TiDB's own documentation.
  EXPECT_EQ(one("tidb_key(x'7480000000000000FF3B5F728000000000FF1DE3F10000000000FA')"), "t59_r1958897");
  EXPECT_EQ(one("encode_key(x'0102030405060708')"), "x'0102030405060708ff0000000000000000f7'");
  EXPECT_EQ(one("encode_key('')"), "x'0000000000000000f7'");
  EXPECT_EQ(one("decode_key(x'0102030000000000fa')"), "x'010203'");
  EXPECT_EQ(one("decode_key(x'01')"), "null");
  EXPECT_EQ(one("in_range(x'62', x'61', x'63')"), "1");
  EXPECT_EQ(one("in_range(x'63', x'61', x'63')"), "0");
  EXPECT_EQ(one("in_range(x'61', x'61', x'')"), "1");
  EXPECT_EQ(one("in_range(x'61', x'', x'61')"), "0");
  EXPECT_EQ(one("in_range(NULL, x'', x'')"), "null");
  // 2020-05-24 is `tso_time` of PD's own documentation: TSO 416840553701343233.
  EXPECT_EQ(one("tso_time(" + std::to_string((uint64_t{1590335440123} << 18) + 5) + ")"),
            "2020-05-24 15:50:40.123");
  EXPECT_EQ(one("tso_time(0)"), "null");
  EXPECT_EQ(one("tso_time(9223372036854775807)"), "null");
  EXPECT_EQ(one("tso_time(NULL)"), "null");
}

}  // namespace
}  // namespace keytrail
