// `keytrail sql --db FILE -e QUERY`: one reading statement.

#include <cstdio>
#include <memory>

#include "collector/cli/commands.h"
#include "collector/cli/row_printer.h"
#include "collector/store/store.h"

namespace keytrail {

namespace {

constexpr size_t kWriteBytes = 1 << 16;

struct SqlArguments {
  std::string database;
  std::string query;
  std::string format = "table";
};

int Fail(const std::string& message) {
  std::fprintf(stderr, "keytrail: %s\n", message.c_str());
  return kExitFailed;
}

bool Write(std::string& out) {
  const bool written = std::fwrite(out.data(), 1, out.size(), stdout) == out.size();
  out.clear();
  return written;
}

int RunSql(const SqlArguments& arguments) {
  Result<std::unique_ptr<Store>> store = Store::OpenReadOnly(arguments.database);
  if (!store) return Fail(store.error());
  const std::unique_ptr<RowPrinter> printer = MakeRowPrinter(arguments.format);
  std::string out;
  bool writable = true;
  const Status status = (*store)->Query(
      arguments.query, [&](const Store::QueryColumns& columns) { printer->Columns(columns.names, out); },
      [&](const std::vector<Store::QueryValue>& row) {
        printer->Row(row, out);
        if (out.size() >= kWriteBytes) writable = Write(out);
        return writable;
      });
  if (!status.ok()) return Fail("sql: " + status.error());
  printer->End(out);
  if (!writable || !Write(out) || std::fflush(stdout) != 0) return Fail("standard output: cannot write");
  return kExitDone;
}

}  // namespace

void AddSqlCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<SqlArguments>();
  CLI::App* command = app.add_subcommand("sql", "Ask a database with SQL");
  command->add_option("--db", arguments->database, "Database of a collector or an investigation")
      ->required()
      ->type_name("FILE");
  command->add_option("-e,--execute", arguments->query, "The query: one statement that only reads")
      ->required()
      ->type_name("QUERY");
  command->add_option("--format", arguments->format, "table, csv or json")
      ->check(CLI::IsMember({"table", "csv", "json"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  command->footer(
      "Tables: keytrail sql --db FILE -e 'select * from columns'\n"
      "Functions: tidb_key(blob), encode_key(blob), decode_key(blob), tso_time(ts), "
      "in_range(key, start, end)");
  command->callback([arguments, &exit_status] { exit_status = RunSql(*arguments); });
}

}  // namespace keytrail
