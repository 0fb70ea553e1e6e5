// A folder of windows: rolling, reading as one, retention, crashes between two files, damage, layouts,
// backup.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "collector/store/sandbox.h"
#include "collector/store/schema.h"
#include "collector/store/store.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr int64_t kHourNs = 3600ll * 1'000'000'000;

using Stored = std::map<uint64_t, std::pair<uint32_t, std::string>>;

class FolderTest : public testing::Test {
 protected:
  void Open() {
    store_.reset();
    options_.clock = [this] { return now_ns_; };
    Result<std::unique_ptr<Store>> store = Store::OpenFolder(data_, options_);
    ASSERT_TRUE(store.ok()) << store.error();
    store_ = std::move(*store);
    const Result<AgentRow> agent = store_->RegisterAgent("a", "tidb1", "tidb", 7);
    ASSERT_TRUE(agent.ok()) << agent.error();
    agent_ = agent->id;
    sequence_ = agent->last_sequence;
  }

  void Commit(int records, bool any = false) {
    const Status begun = store_->Begin();
    ASSERT_TRUE(begun.ok()) << begun.error();
    for (int n = 0; n < records; ++n) {
      const CallRecord& call = any ? records_.Any() : records_.Get();
      const Result<uint64_t> id = store_->Add(agent_, call);
      ASSERT_TRUE(id.ok()) << id.error();
      ASSERT_TRUE(expected_.emplace(*id, std::pair(agent_, DescribeCall(call))).second) << *id;
      ASSERT_EQ(*id, expected_.rbegin()->first);
    }
    const Status done = store_->Commit(agent_, ++sequence_);
    ASSERT_TRUE(done.ok()) << done.error();
  }
  // So that the next batch begins a new window.
  void NextWindow() { now_ns_ += options_.keep_age_ns / 6; }

  static Stored ReadAll(Store& store) {
    Stored got;
    const Status status = store.ForEachCall([&](uint32_t agent, uint64_t id, const CallRecord& call) {
      EXPECT_TRUE(got.emplace(id, std::pair(agent, DescribeCall(call))).second) << id;
    });
    EXPECT_TRUE(status.ok()) << status.error();
    return got;
  }

  std::vector<std::string> Ask(const std::string& sql) { return Ask(data_, sql); }
  static std::vector<std::string> Ask(const std::string& path, const std::string& sql) {
    Result<std::unique_ptr<Sandbox>> sandbox = Sandbox::Open(path);
    if (!sandbox) return {"error: " + sandbox.error()};
    return Ask(**sandbox, sql);
  }
  static std::vector<std::string> Ask(Sandbox& sandbox, const std::string& sql) {
    std::vector<std::string> rows;
    SqlQuestion question;
    question.sql = sql;
    const SqlOutcome outcome = sandbox.Run(
        question, [](const std::vector<std::string>&) {},
        [&](const std::vector<Store::QueryValue>& values) {
          std::string row;
          for (const Store::QueryValue& v : values) {
            const bool number = v.type == Store::QueryValue::Type::kInteger;
            row += (row.empty() ? "" : "|") + (number ? std::to_string(v.integer) : v.bytes);
          }
          rows.push_back(row);
          return true;
        });
    if (outcome.end != SqlOutcome::End::kDone) rows.push_back("error: " + outcome.text);
    return rows;
  }

  std::vector<std::string> Files(const std::string& end = ".db") const {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(data_)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("calls-") && name.ends_with(end)) files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  static void Execute(const std::string& path, const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_free(error);
    sqlite3_close(db);
  }
  // As a build of an earlier layout had it: without views, of which it had others, and what came later.
  static void MakeOld(const std::string& path, int version) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
    std::string sql;
    const auto add_drop = [](void* text, int, char** values, char**) {
      *static_cast<std::string*>(text) += std::string("DROP VIEW ") + values[0] + ";";
      return 0;
    };
    ASSERT_EQ(sqlite3_exec(db, "SELECT name FROM sqlite_schema WHERE type = 'view'", add_drop, &sql, nullptr),
              SQLITE_OK);
    sqlite3_close(db);
    for (const char* column : {"client_pid", "client_process", "server_pid", "server_process"}) {
      sql += std::string("ALTER TABLE connections DROP COLUMN ") + column + ";";
    }
    if (version < 4) {
      sql += "ALTER TABLE agents DROP COLUMN redaction; ALTER TABLE agents DROP COLUMN redact_secret;";
    }
    if (version < 3) sql += "DROP TABLE windows;";
    Execute(path, sql + "PRAGMA user_version = " + std::to_string(version));
  }
  std::string Notices() {
    std::string all;
    for (const std::string& n : store_->TakeNotices()) all += n + "\n";
    return all;
  }

  const ScratchDir dir_;
  const std::string data_ = dir_ / "data";
  int64_t now_ns_ = 1'795'000'000'000'000'000;
  FolderOptions options_;
  RandomRecords records_{3};
  Stored expected_;
  std::unique_ptr<Store> store_;
  uint32_t agent_ = 0;
  uint64_t sequence_ = 0;
};

TEST_F(FolderTest, WindowsFollowEachOtherAndAreOneDatabase) {
  Open();
  for (int window = 0; window < 5; ++window) {
    for (int batch = 0; batch < 3; ++batch) Commit(40, true);
    NextWindow();
  }
  EXPECT_EQ(Files().size(), 5u);
  EXPECT_EQ(ReadAll(*store_), expected_);
  const std::string count = std::to_string(expected_.size());
  EXPECT_THAT(Ask("SELECT sum(records) FROM record_batches"), ElementsAre(count));
  EXPECT_THAT(Ask("SELECT count(*) FROM windows"), ElementsAre("5"));
  // The same rows as in one file.
  std::unique_ptr<Store> single = Store::Open(dir_ / "single.db").value();
  const uint32_t agent = single->RegisterAgent("a", "tidb1", "tidb", 7)->id;
  RandomRecords again(3);
  for (int batch = 1; batch <= 15; ++batch) {
    ASSERT_TRUE(single->Begin().ok());
    for (int n = 0; n < 40; ++n) ASSERT_TRUE(single->Add(agent, again.Any()).ok());
    ASSERT_TRUE(single->Commit(agent, static_cast<uint64_t>(batch)).ok());
  }
  for (const char* sql :
       {"SELECT * FROM call_keys ORDER BY call_id, side, n", "SELECT * FROM routes ORDER BY call_id, n",
        "SELECT * FROM statements ORDER BY id", "SELECT * FROM errors ORDER BY call_id, side, n",
        "SELECT id, observer, kind, method, method_from, command, client, server, stream, incomplete FROM "
        "calls"
        " ORDER BY id DESC",
        "SELECT * FROM requests ORDER BY call_id, route",
        "SELECT * FROM lookups ORDER BY call_id, statement_id",
        "SELECT * FROM call_errors ORDER BY call_id, kind, text, key, range_start",
        "SELECT region_id, version, start_key, end_key, statements, first_ns, last_ns FROM regions ORDER BY "
        "1, 2, 3, 4",
        "SELECT * FROM stores ORDER BY 1, 2", "SELECT host, batches, records, losses FROM agent_progress",
        "SELECT c.id, r.region_id, e.kind, s.id FROM calls c JOIN routes r ON r.call_id = c.id JOIN errors e "
        "ON"
        " e.call_id = c.id LEFT JOIN statements s ON s.call_id = c.id ORDER BY 1, 2, 3, 4, r.n, e.n, "
        "e.side"}) {
    const std::vector<std::string> rows = Ask(sql);
    // Not EXPECT_EQ: it would show megabytes.
    EXPECT_TRUE(rows == Ask(dir_ / "single.db", sql)) << sql << "\n" << (rows.empty() ? "" : rows.back());
    EXPECT_FALSE(rows.empty()) << sql;
  }
  Open();
  EXPECT_EQ(ReadAll(*store_), expected_);
  EXPECT_EQ(sequence_, 15u);
  Commit(3);
  EXPECT_EQ(ReadAll(*store_), expected_);
}

// A condition on a number, region or time is answered by an index of each complete window.
TEST_F(FolderTest, ConditionsReachTheIndexes) {
  Open();
  Commit(500);
  NextWindow();
  Commit(500);
  store_->WaitForIndexes();
  store_->Maintain();
  std::unique_ptr<Sandbox> sandbox = Sandbox::Open(data_).value();
  // The outer plan hands the condition on ...
  for (const char* where :
       {"calls WHERE id = 5", "routes WHERE region_id = 5", "calls WHERE req_first_ns > 5",
        "calls WHERE region_id = 5", "statements WHERE region_id = 5"}) {
    const std::vector<std::string> plan =
        Ask(*sandbox, std::string("EXPLAIN QUERY PLAN SELECT * FROM ") + where);
    ASSERT_EQ(plan.size(), 1u);
    // "SCAN calls VIRTUAL TABLE INDEX 0:<columns> <order> <column> <operator>"
    EXPECT_TRUE(std::count(plan[0].begin(), plan[0].end(), ' ') >= 8) << plan[0];
  }
  // ... and a sealed window has an index for it.
  const std::string sealed = Files()[0];
  for (const auto& [sql, index] :
       std::map<std::string, std::string>{{"calls WHERE id = 5", "PRIMARY KEY (rowid=?)"},
                                          {"routes WHERE region_id = 5", "routes_region"},
                                          {"calls WHERE region_id = 5", "call_rows_region"},
                                          {"calls WHERE start_ts = 5", "call_rows_start_ts"},
                                          {"calls WHERE req_first_ns BETWEEN 5 AND 6", "call_rows_time"},
                                          {"requests WHERE region_id = 5", "routes_region"},
                                          {"statements WHERE region_id = 5", "statements_region"},
                                          {"errors WHERE region_id = 5", "errors_region"}}) {
    std::string plan;
    for (const std::string& line : Ask(sealed, "EXPLAIN QUERY PLAN SELECT * FROM " + sql))
      plan += line + "\n";
    EXPECT_THAT(plan, HasSubstr(index)) << sql;
  }
}

TEST_F(FolderTest, ReadersFollowWhatComesAndGoes) {
  options_.keep_age_ns = 6 * kHourNs;
  Open();
  Commit(10);
  std::unique_ptr<Sandbox> early = Sandbox::Open(data_).value();
  EXPECT_THAT(Ask(*early, "SELECT count(*) FROM call_rows"), ElementsAre("10"));
  // A window is dropped in the middle of a query: it goes on, with what it began with.
  uint64_t rows = 0;
  SqlQuestion question;
  question.sql = "SELECT id FROM call_rows ORDER BY id";
  const SqlOutcome outcome = early->Run(
      question, [](const std::vector<std::string>&) {},
      [&](const std::vector<Store::QueryValue>&) {
        if (++rows == 5) {
          for (int n = 0; n < 9; ++n) {
            NextWindow();
            Commit(10);
          }
        }
        return true;
      });
  EXPECT_EQ(outcome.end, SqlOutcome::End::kDone) << outcome.text;
  EXPECT_EQ(rows, 10u);
  EXPECT_THAT(Notices(), HasSubstr("older than the age that is kept"));
  const std::vector<std::string> kept = Ask(*early, "SELECT count(*) FROM call_rows");
  EXPECT_EQ(kept, Ask("SELECT count(*) FROM call_rows"));
  EXPECT_EQ(kept, Ask("SELECT sum(records) FROM record_batches"));
  EXPECT_NE(kept[0], "100");
}

// Queries all the time while windows come and go.
TEST_F(FolderTest, QueriesWhileWindowsRoll) {
  options_.keep_bytes = 4u << 20;
  Open();
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> asked = 0;
  std::string problem;
  std::thread reader([&] {
    std::unique_ptr<Sandbox> sandbox = Sandbox::Open(data_).value();
    while (!stop && problem.empty()) {
      for (const char* sql :
           {"SELECT count(*), count(DISTINCT id) FROM calls",
            "SELECT count(*) FROM requests WHERE region_id = 8",
            "SELECT count(*), 0 FROM call_rows c JOIN record_batches b ON b.first_call_id = c.id"}) {
        const std::vector<std::string> rows = Ask(*sandbox, sql);
        if (rows.size() != 1 || rows[0].starts_with("error")) problem = rows.empty() ? "none" : rows.back();
      }
      ++asked;
    }
  });
  for (int n = 0; n < 30; ++n) Commit(1000);
  while (asked < 3 && problem.empty()) std::this_thread::yield();
  stop = true;
  reader.join();
  EXPECT_EQ(problem, "");
  store_->WaitForIndexes();
  now_ns_ += 2'000'000'000;
  store_->Maintain();
  uint64_t bytes = 0;
  for (const std::string& file : Files()) bytes += fs::file_size(file);
  EXPECT_LE(bytes, options_.keep_bytes);
  EXPECT_GT(bytes, options_.keep_bytes / 2);
  EXPECT_THAT(Notices(), HasSubstr("more than the bytes that are kept"));
  // Nothing goes silently: kept and dropped make all.
  EXPECT_THAT(
      Ask("SELECT (SELECT sum(calls) FROM windows WHERE state = 'dropped') + (SELECT count(*) FROM call_rows)"
          " - (SELECT sum(carried) FROM windows WHERE state = 'dropped')"),
      ElementsAre("30000"));
  EXPECT_THAT(Ask("SELECT sum(count) > 0 FROM lost WHERE kind = 'dropped_window'"), ElementsAre("1"));
  Open();
  EXPECT_EQ(sequence_, 30u);
  Commit(1);
}

// What a verdict refers to, and who first stated a route, outlive their window.
TEST_F(FolderTest, EvidenceIsCarriedOver) {
  Open();
  OwnedRecord r;
  r.call.client = *ParseEndpoint("10.0.0.1:40000");
  r.call.server = *ParseEndpoint("10.0.0.2:2379");
  r.call.response = &r.response;
  RegionStatement& s = r.response.statements.emplace_back();
  s.source = StatementSource::kPdGetRegion;
  s.region_id = 16;
  s.version = 2;
  s.has_epoch = true;
  s.start = AsBytes("a");
  s.end = AsBytes("b");
  ASSERT_TRUE(store_->Begin().ok());
  const uint64_t statement = store_->Add(agent_, r.call).value();
  ASSERT_TRUE(store_->Add(agent_, r.call).ok());  // said again: not needed
  const uint64_t complaint = store_->Add(agent_, records_.Get()).value();
  const std::string described = DescribeCall(records_.Get());
  ASSERT_TRUE(store_->Add(agent_, records_.Get()).ok());
  ASSERT_TRUE(store_->AddLoss(agent_, "gaps", 5, 100, 200).ok());
  ASSERT_TRUE(store_->Commit(agent_, ++sequence_).ok());
  InvestigationReport report;
  Verdict& v = report.verdicts.emplace_back();
  v.id = 1;
  Evidence& e = v.evidence.emplace_back();
  e.call_id = complaint;
  ASSERT_TRUE(store_->WriteReport(report).ok());
  for (int n = 0; n < 9; ++n) {
    NextWindow();
    Commit(1);
  }
  EXPECT_THAT(Ask("SELECT id FROM calls WHERE id <= 4 ORDER BY id"),
              ElementsAre(std::to_string(statement), std::to_string(complaint)));
  EXPECT_THAT(Ask("SELECT region_id, version, start_key, end_key FROM statements WHERE id = " +
                  std::to_string(statement << 16)),
              ElementsAre("16|2|a|b"));
  EXPECT_THAT(Ask("SELECT c.method FROM evidence e JOIN calls c ON c.id = e.call_id"),
              ElementsAre("/tikvpb.Tikv/BatchCommands"));
  EXPECT_THAT(Ask("SELECT kind, count FROM losses"), ElementsAre("gaps|5"));
  Open();
  const Stored got = ReadAll(*store_);
  EXPECT_TRUE(got.contains(statement));
  EXPECT_TRUE(got.contains(complaint));
  EXPECT_FALSE(got.contains(statement + 1));
  EXPECT_EQ(got.begin()->second.second, DescribeCall(r.call));
}

// A method that is proved when its calls' window is complete already.
TEST_F(FolderTest, AnAmendmentReachesAnOlderWindow) {
  Open();
  CallRecord call;
  call.client = *ParseEndpoint("10.0.0.1:40000");
  call.server = *ParseEndpoint("10.0.0.2:20160");
  call.connection = 3;
  call.stream = 21;
  const auto commit = [&] {
    ASSERT_TRUE(store_->Begin().ok());
    ASSERT_TRUE(store_->Add(agent_, call).ok());
    ASSERT_TRUE(store_->Commit(agent_, ++sequence_).ok());
  };
  commit();
  NextWindow();
  call.kind = CallKind::kAmend;
  call.method = "/tikvpb.Tikv/KvGet";
  call.method_from = MethodFrom::kSlot;
  commit();
  now_ns_ += 2'000'000'000;
  store_->Maintain();
  store_->WaitForIndexes();
  EXPECT_EQ(Files().size(), 2u);
  EXPECT_THAT(Ask("SELECT method, method_from FROM calls"), ElementsAre("/tikvpb.Tikv/KvGet|slot"));
}

// Killed at random moments, while windows roll and go: every batch is there once.
TEST_F(FolderTest, KilledBetweenTheFiles) {
  options_.keep_bytes = 64u << 20;
  std::mt19937 random(11);
  uint64_t stored = 0;
  for (int round = 0; round < 12; ++round) {
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      // Each batch rolls, nearly: most of the time is spent between files.
      int64_t now = now_ns_ + round * kHourNs;
      FolderOptions options;
      options.keep_age_ns = 3600ll * kHourNs;
      options.clock = [&] { return now += 150 * kHourNs; };
      Result<std::unique_ptr<Store>> store = Store::OpenFolder(data_, options);
      if (!store.ok()) _exit(3);
      const Result<AgentRow> agent = (*store)->RegisterAgent("a", "", "", 1);
      if (!agent.ok()) _exit(4);
      for (uint64_t sequence = agent->last_sequence + 1;; ++sequence) {
        if (!(*store)->Begin().ok()) _exit(5);
        RandomRecords records(sequence);
        for (int n = 0; n < 5; ++n) {
          if (!(*store)->Add(agent->id, records.Get()).ok()) _exit(6);
        }
        if (!(*store)->Commit(agent->id, sequence).ok()) _exit(7);
        if (write(pipes[1], &sequence, sizeof sequence) != sizeof sequence) _exit(8);
      }
    }
    close(pipes[1]);
    uint64_t acknowledged = 0;
    for (size_t n = random() % 5; n > 0; --n) {
      ASSERT_EQ(read(pipes[0], &acknowledged, sizeof acknowledged), ssize_t{sizeof acknowledged});
    }
    usleep(static_cast<useconds_t>(random() % 40'000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    while (read(pipes[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged) {
    }
    close(pipes[0]);
    acknowledged = std::max(acknowledged, stored);
    FolderOptions options;
    options.keep_age_ns = 1000000ll * kHourNs;
    Result<std::unique_ptr<Store>> store = Store::OpenFolder(data_, options);
    ASSERT_TRUE(store.ok()) << store.error();
    EXPECT_THAT((*store)->TakeNotices(), testing::Each(testing::Not(HasSubstr("damaged"))));
    stored = (*store)->RegisterAgent("a", "", "", 1)->last_sequence;
    // The commit may have been made and not been told.
    EXPECT_GE(stored, acknowledged);
    EXPECT_LE(stored, acknowledged + 1);
    (*store)->WaitForIndexes();
    store->reset();
    // Each kept or dropped once, without a hole.
    EXPECT_THAT(
        Ask("SELECT coalesce(sum(calls), 0) - coalesce(sum(carried), 0) + (SELECT count(*) FROM call_rows)"
            " FROM windows WHERE state = 'dropped'"),
        ElementsAre(std::to_string(stored * 5)));
    EXPECT_THAT(Ask("SELECT count(*) - count(DISTINCT id) FROM call_rows"), ElementsAre("0"));
  }
  EXPECT_GT(stored, 12u);
}

TEST_F(FolderTest, DamagedFilesAreSetAside) {
  Open();
  for (int n = 0; n < 3; ++n) {
    if (n > 0) NextWindow();
    Commit(2000);
  }
  store_->WaitForIndexes();
  store_->Maintain();
  store_.reset();
  const std::vector<std::string> files = Files();
  ASSERT_EQ(files.size(), 3u);
  const auto scratch = [](const std::string& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file << std::string(3000, '\x5A');
  };
  // A sealed window that lost its end, and the live one with a wrong page.
  fs::resize_file(files[0], fs::file_size(files[0]) - 4096);
  for (int64_t page = 2; page < 20; ++page) scratch(files[2], page * 4096);
  Open();
  const std::string notices = Notices();
  EXPECT_THAT(notices, HasSubstr(files[0] + "' is damaged (it has "));
  EXPECT_THAT(notices, HasSubstr(files[2] + ".damaged"));
  EXPECT_EQ(Files(".damaged").size(), 2u);
  EXPECT_THAT(Ask("SELECT count(*) FROM calls"), ElementsAre("2000"));
  EXPECT_THAT(Ask("SELECT count(*) FROM lost WHERE kind = 'damaged_window'"), ElementsAre("2"));
  // What was only in the damaged ones is asked for again; new numbers are not those that were given.
  EXPECT_EQ(sequence_, 2u);
  Commit(10);
  EXPECT_THAT(Ask("SELECT count(*) FROM calls WHERE id > 6000"), ElementsAre("10"));
  // Of a sealed one every page is read when that is asked for.
  store_.reset();
  for (int64_t page = 2; page < 20; ++page) scratch(files[1], page * 4096);
  options_.check = true;
  Open();
  EXPECT_THAT(Notices(), HasSubstr(files[1] + ".damaged"));
  EXPECT_THAT(Ask("SELECT count(*) FROM calls"), ElementsAre("10"));
}

TEST_F(FolderTest, ADamagedCatalogueIsMadeAnew) {
  Open();
  Commit(20);
  NextWindow();
  Commit(20);
  store_.reset();
  {
    std::fstream file(data_ + "/keytrail.db", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    file << std::string(40'000, '\x5A');
  }
  Open();
  EXPECT_THAT(Notices(), HasSubstr("keytrail.db.damaged"));
  EXPECT_EQ(ReadAll(*store_), expected_);
  EXPECT_EQ(sequence_, 2u);
  // Lost altogether, too.
  store_.reset();
  fs::remove(data_ + "/keytrail.db");
  EXPECT_THAT(Ask("SELECT 1"), ElementsAre(HasSubstr("has no catalogue")));
  Open();
  EXPECT_EQ(ReadAll(*store_), expected_);
  Commit(1);
}

TEST_F(FolderTest, AnEarlierLayoutBecomesAWindow) {
  fs::create_directories(data_);
  {
    std::unique_ptr<Store> old = Store::Open(data_ + "/keytrail.db").value();
    agent_ = old->RegisterAgent("a", "tidb1", "tidb", 7)->id;
    ASSERT_TRUE(old->Begin().ok());
    for (int n = 0; n < 30; ++n) {
      const CallRecord& call = records_.Any();
      expected_[old->Add(agent_, call).value()] = {agent_, DescribeCall(call)};
    }
    ASSERT_TRUE(old->Commit(agent_, 1).ok());
  }
  MakeOld(data_ + "/keytrail.db", 2);
  EXPECT_THAT(Ask("SELECT count(*) FROM windows"), ElementsAre("0"));
  EXPECT_THAT(Ask("SELECT count(*) >= 0 FROM lost"), ElementsAre("1"));
  Open();
  EXPECT_THAT(Notices(), HasSubstr("earlier layout"));
  EXPECT_EQ(sequence_, 1u);
  EXPECT_EQ(ReadAll(*store_), expected_);
  Commit(5);
  NextWindow();
  Commit(5);
  EXPECT_EQ(ReadAll(*store_), expected_);
  Open();
  EXPECT_EQ(Notices(), "");
  EXPECT_EQ(ReadAll(*store_), expected_);
}

// Version 3 had no word of how agents tell keys.
TEST_F(FolderTest, AFolderOfVersionThree) {
  const char* const kRedactions =
      "SELECT coalesce(redaction, '-'), coalesce(redact_secret, '-') FROM agents ORDER BY id";
  const auto as_before = [&] {
    store_.reset();
    for (const std::string& file : {Files()[0], std::string(data_ + "/keytrail.db")}) MakeOld(file, 3);
  };
  Open();
  Commit(5);
  as_before();
  EXPECT_THAT(Ask("SELECT host, records, redaction FROM agent_progress"), ElementsAre("tidb1|5|"));
  EXPECT_THAT(Ask("SELECT count(*) FROM windows"), ElementsAre("1"));
  Open();
  EXPECT_EQ(Notices(), "");
  EXPECT_EQ(ReadAll(*store_), expected_);
  EXPECT_THAT(Ask(kRedactions), ElementsAre("-|-"));
  AgentRow told;
  told.agent_key = "b";
  told.epoch = 8;
  told.redaction = {Redaction::Mode::kOn, "0011223344"};
  const Result<AgentRow> added = store_->RegisterAgent(told);
  ASSERT_TRUE(added.ok()) << added.error();
  agent_ = added->id;
  sequence_ = 0;
  Commit(1);
  EXPECT_THAT(Ask(kRedactions), ElementsAre("-|-", "on|0011223344"));
  // The window alone brings them back.
  store_.reset();
  fs::remove(data_ + "/keytrail.db");
  Open();
  EXPECT_THAT(Ask(kRedactions), ElementsAre("-|-", "on|0011223344"));
  EXPECT_EQ(store_->Agents()->back().redaction, told.redaction);
}

// Version 4 had no processes. Windows of both are one database, for a reader that comes before the collector
// raises the old ones, too.
TEST_F(FolderTest, AFolderOfVersionFour) {
  const char* const kProcesses =
      "SELECT client_process, server_process, count(*) FROM calls GROUP BY 1, 2 ORDER BY 3, 1, 2";
  const char* const kCounts = "SELECT count(*), count(DISTINCT client), count(client_process) > 0 FROM calls";
  Open();
  Commit(200, true);
  NextWindow();
  Commit(200, true);
  store_.reset();
  const std::vector<std::string> with = Ask(kProcesses);
  const std::vector<std::string> counts = Ask(kCounts);
  ASSERT_GT(with.size(), 2u);
  const std::vector<std::string> files = Files();
  ASSERT_EQ(files.size(), 2u);
  const size_t second = std::stoul(Ask(files[1], "SELECT count(client_process) FROM calls").at(0));
  ASSERT_GT(second, 0u);

  MakeOld(files[0], 4);
  MakeOld(data_ + "/keytrail.db", 4);
  EXPECT_THAT(Ask("SELECT count(client_process) FROM calls"), ElementsAre(std::to_string(second)));
  EXPECT_THAT(Ask("SELECT count(*), count(DISTINCT client), 1 FROM calls"), ElementsAreArray(counts));
  EXPECT_THAT(Ask("SELECT count(*) FROM connections WHERE client_pid IS NULL AND client_process IS NOT NULL"),
              ElementsAre("0"));
  EXPECT_THAT(Ask("SELECT count(*) > 0 FROM requests"), ElementsAre("1"));
  EXPECT_THAT(Ask(files[0],
                  "SELECT count(*), count(c.client_process), count(n.server_pid) FROM calls c, connections n"
                  " WHERE n.id = c.connection"),
              ElementsAre("200|0|0"));

  MakeOld(files[1], 4);
  Open();
  EXPECT_EQ(Notices(), "");
  EXPECT_EQ(ReadAll(*store_), expected_);
  EXPECT_THAT(Ask("SELECT count(client_process), count(*) FROM calls"), ElementsAre("0|400"));
  Commit(200, true);
  EXPECT_THAT(Ask("SELECT count(client_process) > 0, count(*) FROM calls"), ElementsAre("1|600"));
  EXPECT_EQ(ReadAll(*store_), expected_);
}

TEST_F(FolderTest, WhatIsRefused) {
  Open();
  Commit(1);
  FolderOptions options;
  EXPECT_THAT(Store::OpenFolder(data_, options).error(), HasSubstr("another collector writes there"));
  EXPECT_THAT(Store::Open(data_ + "/keytrail.db").error(), HasSubstr("one of several files"));
  store_.reset();
  Execute(Files()[0], "PRAGMA user_version = 1000");
  EXPECT_THAT(Store::OpenFolder(data_, options).error(), HasSubstr("newer keytrail (schema 1000"));
  Execute(Files()[0], "PRAGMA user_version = " + std::to_string(kSchemaVersion));
  Execute(data_ + "/keytrail.db", "PRAGMA user_version = 1000");
  EXPECT_THAT(Store::OpenFolder(data_, options).error(), HasSubstr("newer keytrail (schema 1000"));
}

TEST_F(FolderTest, BackupIsOneFile) {
  Open();
  for (int n = 0; n < 3; ++n) {
    Commit(50, true);
    NextWindow();
  }
  const std::string copy = dir_ / "copy.db";
  const Status done = BackUp(data_, copy);
  ASSERT_TRUE(done.ok()) << done.error();
  EXPECT_FALSE(fs::exists(copy + ".partial"));
  for (const char* sql :
       {"SELECT * FROM calls ORDER BY id", "SELECT * FROM agents", "SELECT * FROM statements ORDER BY id"}) {
    EXPECT_EQ(Ask(copy, sql).size(), Ask(sql).size()) << sql;
  }
  EXPECT_EQ(ReadAll(*Store::OpenReadOnly(copy).value()), expected_);
  EXPECT_THAT(BackUp(data_, copy).error(), HasSubstr("is there already"));
  EXPECT_THAT(BackUp(dir_ / "absent", dir_ / "x.db").error(), HasSubstr("absent"));
  EXPECT_FALSE(fs::exists(dir_ / "x.db"));
  // A copy of the copy, and it can be written.
  ASSERT_TRUE(BackUp(copy, dir_ / "again.db").ok());
  EXPECT_TRUE(Store::Open(dir_ / "again.db").ok());
}

}  // namespace
}  // namespace keytrail
