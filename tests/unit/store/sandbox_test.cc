#include "collector/store/sandbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <thread>

#include "collector/store/store.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using End = SqlOutcome::End;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kEndless[] =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";

class SandboxTest : public ::testing::Test {
 protected:
  SandboxTest() : path_(dir_ / "k.db") {
    store_ = Store::Open(path_).value();
    agent_ = store_->RegisterAgent("a", "", "", 1)->id;
    Commit(20);
    sandbox_ = Sandbox::Open(path_).value();
  }

  void Commit(int records) {
    ASSERT_TRUE(store_->Begin().ok());
    for (int i = 0; i < records; ++i) ASSERT_TRUE(store_->Add(agent_, records_.Get()).ok());
    const Status done = store_->Commit(agent_, ++sequence_);
    ASSERT_TRUE(done.ok()) << done.error();
  }

  SqlOutcome Ask(const SqlQuestion& question) {
    rows_.clear();
    return sandbox_->Run(
        question, [](const std::vector<std::string>&) {},
        [&](const std::vector<Store::QueryValue>& row) {
          rows_.push_back(row.empty()            ? ""
                          : row[0].bytes.empty() ? std::to_string(row[0].integer)
                                                 : row[0].bytes);
          return true;
        });
  }
  SqlOutcome Ask(const std::string& sql) {
    SqlQuestion question;
    question.sql = sql;
    return Ask(question);
  }

  ScratchDir dir_;
  std::string path_;
  std::unique_ptr<Store> store_;
  RandomRecords records_{3};
  uint32_t agent_ = 0;
  uint64_t sequence_ = 0;
  std::unique_ptr<Sandbox> sandbox_;
  std::vector<std::string> rows_;
};

TEST_F(SandboxTest, EveryDoorIsShutAndSaysSo) {
  const std::string other = dir_ / "other.db";
  const std::pair<std::string, std::string> kDoors[] = {
      {"INSERT INTO benign VALUES ('x', 1)", "INSERT"},
      {"REPLACE INTO benign VALUES ('x', 1)", "REPLACE"},
      {"INSERT INTO nowhere VALUES (1)", "INSERT"},
      {"UPDATE agents SET name = 'x'", "UPDATE"},
      {"UPDATE sqlite_master SET sql = 'x'", "UPDATE"},
      {"DELETE FROM call_rows", "DELETE"},
      {"DELETE FROM calls", "DELETE"},
      {"WITH x AS (SELECT 1) DELETE FROM call_rows", "DELETE from call_rows"},
      {"/* SELECT */ -- SELECT\n DROP TABLE call_rows", "DROP TABLE"},
      {"CREATE TABLE t (a)", "CREATE TABLE"},
      {"CREATE TEMP TABLE t (a)", "CREATE TEMP"},
      {"CREATE TEMP VIEW t AS SELECT 1", "CREATE TEMP"},
      {"CREATE VIRTUAL TABLE t USING fts5(a)", "CREATE VIRTUAL"},
      {"ALTER TABLE agents RENAME TO x", "ALTER TABLE"},
      {"VACUUM", "VACUUM"},
      {"VACUUM INTO '" + other + "'", "VACUUM INTO"},
      {"ATTACH '" + other + "' AS o", "ATTACH"},
      {"DETACH main", "DETACH"},
      {"PRAGMA user_version = 7", "PRAGMA user_version"},
      {"PRAGMA journal_mode = DELETE", "PRAGMA journal_mode"},
      {"PRAGMA writable_schema = 1", "PRAGMA writable_schema"},
      {"PRAGMA query_only = 0", "PRAGMA query_only"},
      {"PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint"},
      {"PRAGMA temp_store_directory = '/tmp'", "PRAGMA temp_store_directory"},
      {"PRAGMA hard_heap_limit = 1", "PRAGMA hard_heap_limit"},
      {"BEGIN IMMEDIATE", "BEGIN"},
      {"COMMIT", "COMMIT"},
      {"SAVEPOINT x", "SAVEPOINT"},
      {"REINDEX", "REINDEX"},
      {"ANALYZE", "ANALYZE"},
      {"SELECT load_extension('x')", "function load_extension()"},
      {"SELECT writefile('" + other + "', 'x')", "function writefile()"},
      {"SELECT readfile('/etc/passwd')", "function readfile()"},
      {"SELECT edit('x')", "function edit()"},
      {"SELECT * FROM fsdir('/')", "function fsdir()"},
      {"SELECT fts3_tokenizer('simple')", "function fts3_tokenizer()"},
      {"SELECT sqlite_log(1, 'x')", "function sqlite_log()"},
      {"EXPLAIN DELETE FROM call_rows", "DELETE from call_rows"},
  };
  for (const auto& [sql, what] : kDoors) {
    const SqlOutcome outcome = Ask(sql);
    EXPECT_EQ(outcome.end, End::kRefused) << sql << ": " << outcome.text;
    EXPECT_EQ(outcome.text, "only reading is allowed: " + what + " is refused") << sql;
  }
  EXPECT_FALSE(std::filesystem::exists(other));
  EXPECT_EQ(Ask("SELECT count(*) FROM call_rows").end, End::kDone);
  EXPECT_THAT(rows_, ElementsAre("20"));
  Commit(1);
}

// A newer SQLite that brings a function makes this fail: somebody has to look at it.
TEST_F(SandboxTest, EveryFunctionIsAllowedOrRefusedOnPurpose) {
  ASSERT_EQ(Ask("SELECT DISTINCT name FROM pragma_function_list").end, End::kDone);
  const std::vector<std::string> names = rows_;
  ASSERT_GT(names.size(), 100u);
  std::set<std::string> refused;
  for (const std::string& name : names) {
    if (name.starts_with("-") || name.starts_with("current_")) continue;  // operators and keywords
    for (const char* arguments : {"()", "(1)", "(1, 2)", "(1, 2, 3)", "(1, 2, 3, 4)"}) {
      for (const char* over : {"", " OVER ()"}) {
        if (Ask("SELECT " + name + arguments + over).end == End::kRefused) refused.insert(name);
      }
    }
  }
  const std::set<std::string> expected = {"bm25",
                                          "changes",
                                          "fts3_tokenizer",
                                          "fts5",
                                          "fts5_source_id",
                                          "highlight",
                                          "last_insert_rowid",
                                          "load_extension",
                                          "match",
                                          "matchinfo",
                                          "offsets",
                                          "optimize",
                                          "rtreecheck",
                                          "rtreedepth",
                                          "rtreenode",
                                          "snippet",
                                          "sqlite_compileoption_get",
                                          "sqlite_compileoption_used",
                                          "sqlite_log",
                                          "total_changes"};
  EXPECT_EQ(refused, expected);
}

TEST_F(SandboxTest, TimeIsBounded) {
  SqlQuestion question;
  question.sql = kEndless;
  question.max_time_ns = 50'000'000;
  const SqlOutcome outcome = Ask(question);
  EXPECT_EQ(outcome.end, End::kTimeLimit);
  EXPECT_EQ(outcome.text, "stopped after 0.05 s, its time limit");
  EXPECT_GE(outcome.elapsed_ns, question.max_time_ns);
  // The next one has its own time.
  EXPECT_EQ(Ask("SELECT 1").end, End::kDone);
}

TEST_F(SandboxTest, TheReaderOfTheRowsIsOnTheClock) {
  SqlQuestion question;
  question.sql = "SELECT 1 UNION ALL SELECT 2";
  question.max_time_ns = 1'000'000;
  const SqlOutcome outcome = sandbox_->Run(
      question, [](const std::vector<std::string>&) {},
      [](const std::vector<Store::QueryValue>&) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return true;
      });
  EXPECT_EQ(outcome.end, End::kTimeLimit);
  EXPECT_EQ(outcome.rows, 1u);
}

TEST_F(SandboxTest, RowsAreBounded) {
  SqlQuestion question;
  question.sql = "SELECT a.id FROM call_rows a, call_rows b, call_rows c";
  question.max_rows = 100;
  SqlOutcome outcome = Ask(question);
  EXPECT_EQ(outcome.end, End::kRowLimit);
  EXPECT_EQ(outcome.rows, 100u);
  EXPECT_EQ(rows_.size(), 100u);
  EXPECT_EQ(outcome.text, "stopped after 100 rows, the limit; there are more");
  // As many as allowed is not too many.
  question.sql = "SELECT id FROM call_rows";
  question.max_rows = 20;
  outcome = Ask(question);
  EXPECT_EQ(outcome.end, End::kDone);
  EXPECT_EQ(outcome.rows, 20u);
}

// The bound is that of the question, not of the process: the writer on the same thread does not feel it.
TEST_F(SandboxTest, MemoryIsBounded) {
  const SqlOutcome outcome =
      Ask("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
          " SELECT length(group_concat(hex(zeroblob(1000000)))) FROM n");
  EXPECT_EQ(outcome.end, End::kWrong);  // one value is bounded first
  EXPECT_THAT(outcome.text, HasSubstr("too big"));
  const SqlOutcome sorted =
      Ask("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
          " SELECT zeroblob(1000000) || i AS b FROM n ORDER BY b");
  EXPECT_EQ(sorted.end, End::kMemoryLimit);
  EXPECT_EQ(sorted.text, "stopped: it needs more than 256 MiB of memory");
  Commit(1000);
  EXPECT_EQ(Ask("SELECT count(*) FROM call_rows").end, End::kDone);
  EXPECT_THAT(rows_, ElementsAre("1020"));
}

TEST_F(SandboxTest, StatementsAreBounded) {
  const auto wrong = [&](const std::string& sql) {
    const SqlOutcome outcome = Ask(sql);
    EXPECT_EQ(outcome.end, End::kWrong) << sql.substr(0, 60);
    return outcome.text;
  };
  std::string deep = "SELECT 1";
  for (int i = 0; i <= limits::kMaxSqlExpressionDepth; ++i) deep += " + 1";
  EXPECT_THAT(wrong(deep), StartsWith("Expression tree is too large"));
  std::string many = "SELECT 1";
  for (int i = 0; i <= limits::kMaxSqlCompoundSelects; ++i) many += " UNION ALL SELECT 1";
  EXPECT_THAT(wrong(many), HasSubstr("too many terms in compound SELECT"));
  std::string wide = "SELECT 1";
  for (int i = 0; i < limits::kMaxSqlColumns; ++i) wide += ", 1";
  EXPECT_THAT(wrong(wide), HasSubstr("too many columns"));
  EXPECT_THAT(wrong("SELECT '" + std::string(limits::kMaxSqlBytes, 'x') + "'"), HasSubstr("too big"));
  EXPECT_THAT(wrong("SELECT zeroblob(" + std::to_string(limits::kMaxSqlValueBytes + 1) + ")"),
              HasSubstr("too big"));
  EXPECT_THAT(wrong("SELECT 'x' LIKE '" + std::string(limits::kMaxSqlLikePatternBytes + 1, '%') + "'"),
              HasSubstr("LIKE or GLOB pattern too complex"));
  std::string call = "SELECT max(1";
  for (int i = 0; i < limits::kMaxSqlFunctionArguments; ++i) call += ", 1";
  EXPECT_THAT(wrong(call + ")"), HasSubstr("too many arguments"));
  std::string values = "SELECT 1 IN (1";
  for (int i = 0; i < limits::kMaxSqlParameters + 1; ++i) values += ", :p" + std::to_string(i);
  EXPECT_THAT(wrong(values + ")"), HasSubstr("too many SQL variables"));
  // Each subquery over the view is more than a hundred operations.
  std::string cases = "SELECT 1";
  for (int i = 0; i < 900; ++i) {
    cases += ", (SELECT max(kind || method_from || incomplete || latency_ns) FROM calls WHERE id > 1)";
  }
  EXPECT_EQ(wrong(cases), "the statement is too large");
  std::string zero = "SELECT 1";
  zero += '\0';
  EXPECT_THAT(wrong(zero + "; DROP TABLE call_rows"), HasSubstr("zero bytes"));
  const SqlOutcome row = Ask("SELECT zeroblob(15000000), zeroblob(15000000)");
  EXPECT_EQ(row.end, End::kMemoryLimit);
  EXPECT_THAT(row.text, HasSubstr("a row is larger than"));
}

TEST_F(SandboxTest, CancelComesFromAnotherThread) {
  std::thread canceller;
  SqlQuestion question;
  // The first row tells that it runs.
  question.sql = "SELECT 1 UNION ALL SELECT * FROM (" + std::string(kEndless) + ")";
  const SqlOutcome outcome = sandbox_->Run(
      question, [](const std::vector<std::string>&) {},
      [&](const std::vector<Store::QueryValue>&) {
        canceller = std::thread([&] { sandbox_->Cancel(); });
        return true;
      });
  canceller.join();
  EXPECT_EQ(outcome.end, End::kCancelled);
  EXPECT_EQ(Ask("SELECT 1").end, End::kCancelled) << "it stays so";
}

TEST_F(SandboxTest, Parameters) {
  SqlQuestion question;
  question.sql = "SELECT :text || @text, :n";
  EXPECT_EQ(Ask(question).text, "no value is given for the parameter :text");
  Store::QueryValue text;
  text.type = Store::QueryValue::Type::kText;
  text.bytes = "x'; DROP TABLE call_rows; --";
  question.parameters["text"] = text;
  question.parameters["n"] = {};
  EXPECT_EQ(Ask(question).end, End::kDone);
  EXPECT_THAT(rows_, ElementsAre(text.bytes + text.bytes));
  question.parameters["other"] = {};
  EXPECT_EQ(Ask(question).text, "the query has no parameter :other");
  EXPECT_THAT(Ask("SELECT ?").text, HasSubstr("a parameter needs a name"));
}

// One question sees one state of the database, and the writer goes on meanwhile.
TEST_F(SandboxTest, ReadsBesideAWriter) {
  int rows = 0;
  SqlQuestion question;
  question.sql = "SELECT a.id FROM call_rows a, call_rows b";
  const SqlOutcome outcome = sandbox_->Run(
      question, [](const std::vector<std::string>&) {},
      [&](const std::vector<Store::QueryValue>&) {
        if (++rows % 100 == 0) Commit(10);
        return true;
      });
  EXPECT_EQ(outcome.end, End::kDone) << outcome.text;
  EXPECT_EQ(rows, 400);
  EXPECT_EQ(Ask("SELECT count(*) FROM call_rows").end, End::kDone);
  EXPECT_THAT(rows_, ElementsAre("60"));
}

TEST_F(SandboxTest, TheLogIsFoldedBetweenReaders) {
  const std::string log = path_ + "-wal";
  Commit(5000);
  ASSERT_GT(std::filesystem::file_size(log), 500'000u);
  SqlQuestion question;
  question.sql = "SELECT id FROM call_rows";
  sandbox_->Run(
      question, [](const std::vector<std::string>&) {},
      [&](const std::vector<Store::QueryValue>&) {
        Commit(1);
        const Result<bool> folded = FoldLog(path_);
        EXPECT_TRUE(folded.ok() && !*folded) << "somebody reads";
        return false;
      });
  const Result<bool> folded = FoldLog(path_);
  ASSERT_TRUE(folded.ok()) << folded.error();
  EXPECT_TRUE(*folded);
  EXPECT_EQ(std::filesystem::file_size(log), 0u);
  Commit(1);
  EXPECT_EQ(Ask("SELECT count(*) FROM call_rows").end, End::kDone);
  EXPECT_THAT(rows_, ElementsAre("5022"));
  EXPECT_FALSE(FoldLog(dir_ / "absent.db").ok());
}

TEST(FirstStatement, KnowsQuotesAndComments) {
  EXPECT_EQ(FirstStatement("select 1; select 2;"), 9u);
  EXPECT_EQ(FirstStatement("select ';' || \";\""), 0u);
  EXPECT_EQ(FirstStatement("select ';';x"), 11u);
  EXPECT_EQ(FirstStatement("select 1 -- ;\n"), 0u);
  EXPECT_EQ(FirstStatement("select /* ; */ 1;"), 17u);
  EXPECT_EQ(FirstStatement(""), 0u);
}

}  // namespace
}  // namespace keytrail
