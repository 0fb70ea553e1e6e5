// `keytrail sql`: one statement, a saved query, a script on stdin, or a shell.

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "collector/cli/commands.h"
#include "collector/cli/shell.h"
#include "collector/cli/source_options.h"
#include "collector/cli/sql_session.h"
#include "collector/cli/terminal.h"
#include "collector/query/named_queries.h"

namespace keytrail {

namespace {

// Of the shell, whose answers are fetched whole before they are shown.
constexpr uint64_t kShellRows = 10'000;

struct SqlArguments {
  SourceOptions source;
  std::string query;
  std::string named;
  std::vector<std::string> parameters;
  std::string format = "table";
  std::string color = "auto";
  uint64_t limit = 0;
  std::string timeout;
  bool has_query = false;
  bool has_named = false;
};

int RunSql(const SqlArguments& arguments) {
  if (arguments.has_named && arguments.named.empty()) {
    return WriteOut(NamedQueryList()) ? kExitDone : Fail("standard output: cannot write");
  }
  SqlRequest request;
  request.sql = arguments.query;
  request.named = arguments.named;
  for (const std::string& text : arguments.parameters) {
    const Result<std::pair<std::string, Store::QueryValue>> parameter = ParseParameter(text);
    if (!parameter) {
      Fail("--param: " + parameter.error());
      return kExitUsage;
    }
    if (!request.parameters.insert(*parameter).second) {
      Fail("--param: " + parameter->first + " is given twice");
      return kExitUsage;
    }
  }
  SqlSettings settings;
  settings.format = arguments.format;
  settings.database = arguments.source.database;
  settings.max_rows = arguments.limit;
  settings.terminal = isatty(STDOUT_FILENO) != 0;
  settings.color = UseColor(arguments.color);
  if (!arguments.timeout.empty()) settings.max_time_ns = ParseDurationNs(arguments.timeout).value();

  const Result<std::unique_ptr<AnswerSource>> source = OpenSource(arguments.source);
  if (!source) return Fail(source.error());
  if (arguments.has_query || arguments.has_named) return SqlSession(**source, settings).Ask(request);
  if (!request.parameters.empty()) {
    Fail("--param is for -e and --named");
    return kExitUsage;
  }
  settings.shell = isatty(STDIN_FILENO) != 0 && settings.terminal;
  if (settings.shell && settings.max_rows == 0) settings.max_rows = kShellRows;
  SqlSession session(**source, settings);
  return settings.shell ? RunShell(**source, session) : RunScript(session);
}

}  // namespace

void AddSqlCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<SqlArguments>();
  CLI::App* command =
      app.add_subcommand("sql", "Ask a database or a collector with SQL: a shell, without -e");
  AddSourceOptions(*command, arguments->source);
  CLI::Option* query =
      command->add_option("-e,--execute", arguments->query, "The query: one statement that only reads")
          ->type_name("QUERY");
  CLI::Option* named =
      command->add_option("--named", arguments->named, "A saved query instead; without a name: list them")
          ->type_name("NAME")
          ->expected(0, 1)
          ->excludes(query);
  command
      ->add_option("--param", arguments->parameters,
                   "Value of :NAME in the query: a number, 0x… a key, or text")
      ->type_name("NAME=VALUE")
      ->expected(1)
      ->take_all();
  command->add_option("--format", arguments->format, "table, line, csv or json")
      ->check(CLI::IsMember({"table", "line", "csv", "json"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  command->add_option("--limit", arguments->limit, "Rows at most (1,000,000; in the shell 10,000)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command->add_option("--timeout", arguments->timeout, "Time at most, such as 500ms, 30s or 2m (30s)")
      ->check([](const std::string& text) {
        return ParseDurationNs(text) ? std::string() : "'" + text + "' is no time such as 500ms, 30s or 2m";
      })
      ->type_name("TIME");
  command->add_option("--color", arguments->color, "auto, always or never; NO_COLOR is heeded")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  command->footer(
      "Without -e and --named: a shell on a terminal, else statements from standard input.\n"
      "Tables: keytrail sql -e 'select * from columns'\n"
      "Functions: tidb_key(key), encode_key(raw), decode_key(key), in_range(key, start, end), ns_time(ns),\n"
      "tso_time(ts). Exit status 3: a limit of rows cut the answer.");
  command->callback([arguments, query, named, &exit_status] {
    arguments->has_query = query->count() != 0;
    arguments->has_named = named->count() != 0;
    exit_status = RunSql(*arguments);
  });
}

}  // namespace keytrail
