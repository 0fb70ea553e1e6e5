#include "collector/query/audit_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "common/limits.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

AuditEntry Entry() {
  AuditEntry e;
  e.peer = "ipv4:127.0.0.1:9";
  e.what = "sql";
  e.ended = "done";
  return e;
}

std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(AuditLog, ALine) {
  AuditEntry e = Entry();
  e.begun_ns = 1'790'000'000'123'456'789;
  e.elapsed_ns = 2'500'000;
  e.statement = "select\n\"x\"";
  e.parameters = {"region"};
  e.rows = 3;
  e.bytes = 40;
  EXPECT_EQ(AuditLine(e),
            "{\"at\":\"2026-09-21T14:13:20.123Z\",\"at_ns\":1790000000123456789,"
            "\"who\":{\"peer\":\"ipv4:127.0.0.1:9\",\"tls_name\":null},\"what\":\"sql\",\"for\":null,"
            "\"statement\":\"select\\n\\\"x\\\"\",\"statement_bytes\":10,\"named\":null,"
            "\"parameters\":[\"region\"],\"rows\":3,\"bytes\":40,\"elapsed_ms\":2,\"ended\":\"done\"}\n");
  e.uid = 12;
  e.statement = std::string(limits::kMaxAuditStatementBytes, 'a') + "rest";
  EXPECT_THAT(AuditLine(e), HasSubstr("\"who\":{\"uid\":12,\"user\":null}"));
  EXPECT_THAT(AuditLine(e), HasSubstr("aaa\",\"statement_bytes\":516"));
  e.statement = "\xFF\xFE";
  EXPECT_THAT(AuditLine(e), HasSubstr("\"statement_bytes\":2"));
}

TEST(AuditLog, BelongsToACollectorsFolder) {
  const ScratchDir dir;
  EXPECT_EQ(AuditLog::FolderOf(dir.path()), std::nullopt);
  EXPECT_EQ(AuditLog::FolderOf(dir / "keytrail.db"), std::nullopt);
  for (const char* name : {"keytrail.db", "copy.db"}) std::ofstream(dir / name) << "x";
  EXPECT_EQ(AuditLog::FolderOf(dir.path()), dir.path());
  EXPECT_EQ(AuditLog::FolderOf(dir / "keytrail.db"), dir.path());
  EXPECT_EQ(AuditLog::FolderOf(dir / "copy.db"), std::nullopt);
}

TEST(AuditLog, IsForItsOwnerAlone) {
  const ScratchDir dir;
  const AuditLog log(dir / "");
  ASSERT_TRUE(log.Append(Entry()).ok());
  ASSERT_TRUE(log.Append(Entry()).ok());
  struct stat about {};
  ASSERT_EQ(stat((dir / "audit.log").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600u);
  EXPECT_EQ(Lines(dir / "audit.log").size(), 2u);
}

TEST(AuditLog, IsPutAwayOnceAtItsCap) {
  const ScratchDir dir;
  const AuditLog log(dir / "");
  AuditEntry e = Entry();
  e.parameters = {std::string(1u << 20, 'p')};
  for (int n = 0; n < 40; ++n) {
    e.rows = static_cast<uint64_t>(n);
    ASSERT_TRUE(log.Append(e).ok());
    ASSERT_LE(fs::file_size(dir / "audit.log"), limits::kMaxAuditBytes);
  }
  const size_t now = Lines(dir / "audit.log").size();
  const size_t before = Lines(dir / "audit.log.1").size();
  EXPECT_EQ(before, 15u);
  EXPECT_EQ(now, 40u - 2 * 15u);
  EXPECT_THAT(Lines(dir / "audit.log.1").front(), HasSubstr("\"rows\":15"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / ""), fs::directory_iterator()), 2);
}

TEST(AuditLog, ManyAppendAtOnce) {
  const ScratchDir dir;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const AuditLog log(dir / "");
      AuditEntry e = Entry();
      // Long enough that the log is put away meanwhile.
      e.parameters = {std::string(100'000, 'p')};
      for (uint64_t n = 0; n < 50; ++n) {
        e.rows = t * 1000 + n;
        EXPECT_TRUE(log.Append(e).ok());
      }
    });
  }
  for (std::thread& t : threads) t.join();
  std::set<std::string> rows;
  size_t lines = 0;
  for (const char* name : {"audit.log", "audit.log.1"}) {
    for (const std::string& line : Lines(dir / name)) {
      ++lines;
      EXPECT_TRUE(line.starts_with("{\"at\"") && line.ends_with("\"ended\":\"done\"}"));
      const size_t at = line.find("\"rows\":");
      rows.insert(line.substr(at, line.find(',', at) - at));
    }
  }
  EXPECT_EQ(lines, 200u);
  EXPECT_EQ(rows.size(), 200u);
}

TEST(AuditLog, WhereItCannotBeWritten) {
  const ScratchDir dir;
  EXPECT_THAT(AuditLog(dir / "none").Append(Entry()).error(), HasSubstr("none/audit.log': No such file"));
  fs::create_directory(dir / "audit.log");
  EXPECT_THAT(AuditLog(dir / "").Append(Entry()).error(), HasSubstr("audit.log': Is a directory"));
  fs::remove(dir / "audit.log");
  fs::create_symlink(dir / "elsewhere", dir / "audit.log");
  EXPECT_FALSE(AuditLog(dir / "").Append(Entry()).ok()) << "a link is not followed";
  EXPECT_FALSE(fs::exists(dir / "elsewhere"));
  fs::remove(dir / "audit.log");
  std::ofstream(dir / "elsewhere") << "of somebody else";
  fs::create_hard_link(dir / "elsewhere", dir / "audit.log");
  EXPECT_THAT(AuditLog(dir.path()).Append(Entry()).error(), HasSubstr("has another name besides"));
  EXPECT_EQ(Lines(dir / "elsewhere"), std::vector<std::string>{"of somebody else"});
}

}  // namespace
}  // namespace keytrail
