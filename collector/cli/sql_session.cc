#include "collector/cli/sql_session.h"

#include <charconv>
#include <csignal>
#include <cstdio>
#include <sstream>

#include "collector/cli/commands.h"
#include "collector/cli/interrupt.h"
#include "collector/cli/local_export.h"
#include "collector/cli/paged_output.h"
#include "collector/cli/source_options.h"
#include "collector/cli/terminal.h"
#include "collector/query/named_queries.h"
#include "collector/report/layout.h"

namespace keytrail {

namespace {

using End = SqlOutcome::End;

constexpr size_t kWriteBytes = 1 << 16;

constexpr char kHelp[] =
    "A statement ends with a semicolon and may have several lines. Ctrl-C stops it, Ctrl-D leaves.\n"
    "\n"
    ".tables                    tables and views with their meaning\n"
    ".schema TABLE              columns of a table with their meaning\n"
    ".named                     saved queries\n"
    ".named NAME [PARAM=VALUE]  run one of them\n"
    ".mode table|line|csv|json  how rows are printed; now it is %MODE%\n"
    ".limit N                   rows at most; now %LIMIT%\n"
    ".timeout 30s               time at most; now %TIMEOUT%\n"
    ".help  .quit\n"
    "\n"
    "Functions: tidb_key(key) shows a key (tidb_key(key, 1) the end of a range), encode_key(raw), "
    "decode_key(key),\n"
    "in_range(key, start, end), ns_time(ns) shows a time of the database, tso_time(ts) that of a timestamp "
    "of TiDB.\n";

void Replace(std::string& text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  if (at != std::string::npos) text.replace(at, what.size(), by);
}

std::string TimeText(int64_t ns) {
  char text[32];
  const double ms = static_cast<double>(ns) / 1e6;
  if (ms < 1000) {
    std::snprintf(text, sizeof text, "%.1f ms", ms);
  } else {
    std::snprintf(text, sizeof text, "%.3g s", ms / 1000);
  }
  return text;
}

const char* EndedAs(End end) {
  switch (end) {
    case End::kDone:
      return "done";
    case End::kRowLimit:
      return "row_limit";
    case End::kReader:
    case End::kCancelled:
      return "cut_off";
    case End::kTimeLimit:
      return "time_limit";
    case End::kMemoryLimit:
      return "memory_limit";
    case End::kRefused:
      return "refused";
    case End::kWrong:
      return "wrong";
    default:
      return "failed";
  }
}

}  // namespace

const char* const kShellCommands[] = {".help", ".limit",  ".mode",   ".named",
                                      ".quit", ".schema", ".tables", ".timeout"};
const size_t kShellCommandCount = std::size(kShellCommands);

int SqlSession::Ask(const SqlRequest& asked) {
  SqlRequest request = asked;
  LocalExport record(settings_.database, "sql");
  record.entry().statement = asked.sql;
  record.entry().named = asked.named;
  for (const auto& [name, value] : asked.parameters) record.entry().parameters.push_back(name);
  if (request.max_rows == 0) request.max_rows = settings_.max_rows;
  if (request.max_time_ns == 0) request.max_time_ns = settings_.max_time_ns;
  TableLook look;
  look.width = settings_.terminal ? TerminalColumns() : 0;
  look.color = settings_.color;
  const std::unique_ptr<RowPrinter> printer = MakeRowPrinter(settings_.format, look);
  PagedOutput output(settings_.shell && settings_.terminal);
  std::string out;
  bool readable = true;
  const auto write = [&] {
    record.entry().bytes += out.size();
    return output.Write(out);
  };
  SqlOutcome outcome;
  {
    std::unique_ptr<Interrupt> interrupt;
    // What was cut off stands in the audit log, too.
    if (settings_.shell || record.active())
      interrupt = std::make_unique<Interrupt>([&] { source_.Cancel(); });
    outcome = source_.Sql(
        request, [&](const std::vector<std::string>& names) { printer->Columns(names, out); },
        [&](const std::vector<Store::QueryValue>& row) {
          printer->Row(row, out);
          // In the shell all of it is fetched first: the query must not wait for somebody who reads a page.
          if (!settings_.shell && out.size() >= kWriteBytes) readable = write();
          return readable;
        });
  }
  const bool whole = outcome.end == End::kDone || outcome.end == End::kRowLimit;
  if (whole) printer->End(out);
  // Rows that came before an error are printed, too; JSON would be no JSON then.
  if (whole || settings_.format != "json") {
    readable = readable && (write() || output.left());
    readable = output.Finish() && readable;
  }
  if (!settings_.shell && record.active()) std::signal(SIGINT, SIG_DFL);
  record.entry().rows = outcome.rows;
  record.entry().ended = readable ? EndedAs(outcome.end) : "cut_off";
  if (!readable) return Fail("standard output: cannot write");
  if (whole && settings_.shell) {
    const std::string counted =
        report::Count(outcome.rows, "row", "rows") + ", " + TimeText(outcome.elapsed_ns);
    std::fprintf(stderr, "%s\n", report::Paint(settings_.color)(report::Tone::kDim, counted).c_str());
  }
  if (outcome.end == End::kRowLimit) {
    std::fprintf(stderr, "keytrail: sql: %s\n", outcome.text.c_str());
    return kExitIncomplete;
  }
  return whole ? kExitDone : Fail("sql: " + outcome.text);
}

int SqlSession::Query(const std::string& sql, const std::map<std::string, Store::QueryValue>& parameters) {
  SqlRequest request;
  request.sql = sql;
  request.parameters = parameters;
  return Ask(request);
}

int SqlSession::Show(const std::string& text) {
  PagedOutput output(settings_.shell && settings_.terminal);
  std::string out = text;
  const bool written = output.Write(out) || output.left();
  return output.Finish() && written ? kExitDone : Fail("standard output: cannot write");
}

int SqlSession::Named(const std::string& words) {
  std::istringstream in(words);
  SqlRequest request;
  if (!(in >> request.named)) return Show(NamedQueryList());
  for (std::string word; in >> word;) {
    const Result<std::pair<std::string, Store::QueryValue>> parameter = ParseParameter(word);
    if (!parameter) return Fail(parameter.error());
    request.parameters.insert(*parameter);
  }
  return Ask(request);
}

int SqlSession::Schema(const std::string& table) {
  if (table.empty()) return Fail(".schema: of which table? .tables lists them");
  Store::QueryValue name;
  name.type = Store::QueryValue::Type::kText;
  name.bytes = table;
  return Query(
      "SELECT column_name AS \"column\", type, meaning FROM columns"
      " WHERE table_name = lower(:name) AND column_name IS NOT NULL",
      {{"name", name}});
}

int SqlSession::Mode(const std::string& mode) {
  for (const char* known : {"table", "line", "csv", "json"}) {
    if (mode != known) continue;
    settings_.format = mode;
    return kExitDone;
  }
  return Fail(".mode: table, line, csv or json; now it is " + settings_.format);
}

int SqlSession::Limit(const std::string& number) {
  uint64_t rows = 0;
  const auto [end, problem] = std::from_chars(number.data(), number.data() + number.size(), rows);
  if (problem != std::errc() || end != number.data() + number.size() || rows == 0) {
    return Fail(".limit: a number of rows; now it is " + std::to_string(settings_.max_rows));
  }
  settings_.max_rows = rows;
  return kExitDone;
}

int SqlSession::Timeout(const std::string& duration) {
  const std::optional<int64_t> ns = ParseDurationNs(duration);
  if (!ns) return Fail(".timeout: a time such as 30s, 500ms or 2m");
  settings_.max_time_ns = *ns;
  return kExitDone;
}

int SqlSession::Command(const std::string& line) {
  std::istringstream in(line);
  std::string command;
  in >> command;
  std::string rest;
  std::getline(in >> std::ws, rest);
  while (!rest.empty() && (rest.back() == ' ' || rest.back() == ';')) rest.pop_back();
  while (!command.empty() && command.back() == ';') command.pop_back();
  if (command == ".help") {
    std::string text = kHelp;
    Replace(text, "%MODE%", settings_.format);
    Replace(text, "%LIMIT%", settings_.max_rows == 0 ? "the default" : std::to_string(settings_.max_rows));
    Replace(text, "%TIMEOUT%", settings_.max_time_ns == 0 ? "the default" : TimeText(settings_.max_time_ns));
    return Show(text);
  }
  if (command == ".tables") {
    return Query(
        "SELECT table_name AS name, type, meaning FROM columns WHERE column_name IS NULL ORDER BY 1");
  }
  if (command == ".schema") return Schema(rest);
  if (command == ".named") return Named(rest);
  if (command == ".mode") return Mode(rest);
  if (command == ".limit") return Limit(rest);
  if (command == ".timeout") return Timeout(rest);
  if (command == ".quit" || command == ".exit") {
    quit_ = true;
    return kExitDone;
  }
  return Fail(command + " is no command; .help lists them");
}

}  // namespace keytrail
