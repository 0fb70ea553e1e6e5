// A statement of a stranger to a database that it may only read.
//
// Input: the statement. Whatever it is, it ends within its limits and the file stays as it was.
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "collector/store/sandbox.h"
#include "collector/store/store.h"
#include "tests/fuzz/input.h"
#include "tests/support/scratch_dir.h"

namespace keytrail::fuzz {
namespace {

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return std::move(out).str();
}

struct Asked {
  ScratchDir dir;
  std::string path = dir / "asked.db";
  std::string before;
  std::unique_ptr<Sandbox> sandbox;

  Asked() {
    {
      auto store = Store::Open(path);
      KEYTRAIL_REQUIRE(store.ok());
      const auto agent = (*store)->RegisterAgent("fuzz", "tidb1", "tidb", 1);
      KEYTRAIL_REQUIRE(agent.ok() && (*store)->Begin().ok());
      CallRecord call;
      call.method = "/pdpb.PD/GetRegion";
      for (int i = 0; i < 20; ++i) KEYTRAIL_REQUIRE((*store)->Add(agent->id, call).ok());
      KEYTRAIL_REQUIRE((*store)->Commit(agent->id, 1).ok());
    }
    before = Contents(path);
    auto opened = Sandbox::Open(path);
    KEYTRAIL_REQUIRE(opened.ok());
    sandbox = std::move(*opened);
  }
};

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  static auto* asked = new Asked;
  static uint64_t inputs = 0;
  SqlQuestion question;
  question.sql.assign(reinterpret_cast<const char*>(data), size);
  question.max_rows = 50;
  question.max_time_ns = 100'000'000;
  KEYTRAIL_REQUIRE(FirstStatement(question.sql) <= size);
  uint64_t rows = 0;
  size_t columns = 0;
  const SqlOutcome outcome = asked->sandbox->Run(
      question, [&](const std::vector<std::string>& names) { columns = names.size(); },
      [&](const std::vector<Store::QueryValue>& values) {
        KEYTRAIL_REQUIRE(values.size() == columns);
        for (const Store::QueryValue& value : values) Touch(value.bytes);
        ++rows;
        return true;
      });
  KEYTRAIL_REQUIRE(rows == outcome.rows && rows <= question.max_rows);
  KEYTRAIL_REQUIRE(outcome.end == SqlOutcome::End::kDone || !outcome.text.empty());
  // Reading the file each time would be most of the work.
  if (++inputs % 256 == 0) KEYTRAIL_REQUIRE(Contents(asked->path) == asked->before);
  return 0;
}
