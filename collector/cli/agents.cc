// `keytrail agents` and `keytrail losses`: who reports how much, and what is missing.

#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>

#include "collector/cli/agents_json.h"
#include "collector/cli/commands.h"
#include "collector/cli/row_printer.h"
#include "collector/cli/source_options.h"
#include "collector/cli/terminal.h"
#include "collector/report/layout.h"

namespace keytrail {

namespace {

using Row = std::vector<Store::QueryValue>;
using Type = Store::QueryValue::Type;

struct TableArguments {
  SourceOptions source;
  std::string color = "auto";
  bool json = false;
};

Store::QueryValue Text(const std::string& text) {
  Store::QueryValue v;
  v.type = text.empty() ? Type::kNull : Type::kText;
  v.bytes = text;
  return v;
}

// Plain digits: columns of numbers are set to the right.
Store::QueryValue Number(uint64_t n) {
  Store::QueryValue v;
  v.type = Type::kInteger;
  v.integer = static_cast<int64_t>(n);
  return v;
}

std::string Ago(int64_t then_ns, int64_t now_ns) {
  const int64_t seconds = std::max<int64_t>(0, (now_ns - then_ns) / 1'000'000'000);
  if (seconds < 120) return std::to_string(seconds) + " s ago";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min ago";
  if (seconds < 172'800) return std::to_string(seconds / 3600) + " h ago";
  return std::to_string(seconds / 86'400) + " days ago";
}

Store::QueryValue Rate(double per_second) {
  return Number(static_cast<uint64_t>(per_second + 0.5));
}

std::string Table(const std::vector<std::string>& names, const std::vector<Row>& rows,
                  const std::string& color) {
  TableLook look;
  look.width = isatty(STDOUT_FILENO) != 0 ? TerminalColumns() : 0;
  look.color = UseColor(color);
  const std::unique_ptr<RowPrinter> printer = MakeRowPrinter("table", look);
  std::string out;
  printer->Columns(names, out);
  for (const Row& row : rows) printer->Row(row, out);
  printer->End(out);
  return out;
}

std::string QueriesText(const ServiceStats& q) {
  std::string text = "queries: " + std::to_string(q.running) + " running, " + std::to_string(q.waiting) +
                     " waiting, " + std::to_string(q.watchers) + " watching; " + report::Number(q.answered) +
                     " answered";
  const struct {
    uint64_t count;
    const char* words;
  } kEnds[] = {{q.row_limited, "of them cut at their limit of rows"},
               {q.timed_out, "stopped at their time limit"},
               {q.cancelled, "left by their clients"},
               {q.refused, "refused for more than reading"},
               {q.wrong, "not understood"},
               {q.turned_away, "turned away"},
               {q.out_of_memory, "out of memory"},
               {q.aborted, "aborted for the log"}};
  for (const auto& end : kEnds) {
    if (end.count != 0) text += ", " + report::Number(end.count) + " " + end.words;
  }
  if (isatty(STDOUT_FILENO) == 0) return text + "\n";
  std::string wrapped;
  for (const std::string& line : report::Wrap(text, static_cast<size_t>(TerminalColumns())))
    wrapped += line + "\n";
  return wrapped;
}

// "off", "on 0123456789", or empty.
std::string Redact(const Redaction& redaction) {
  return std::string(RedactionName(redaction.mode)) +
         (redaction.secret.empty() ? "" : " " + redaction.secret);
}

// A terminal that is narrower shows what people look for first.
constexpr int kWideTerminal = 120;

std::string AgentsText(const AgentsReport& report, const std::string& color) {
  if (report.agents.empty()) return "no agent has said hello yet\n";
  std::vector<std::string> names = {"host",    "role",   "stored", "records",  "per_s",   "mean_per_s",
                                    "batches", "losses", "redact", "hostname", "version", "input"};
  std::vector<Row> rows;
  for (const AgentProgress& a : report.agents) {
    rows.push_back({Text(a.host), Text(a.role), Text(Ago(a.last_seen_ns, report.now_ns)), Number(a.records),
                    a.records_per_s ? Rate(*a.records_per_s) : Text(""), Rate(a.mean_records_per_s),
                    Number(a.batches), Number(a.losses), Text(Redact(a.redaction)), Text(a.hostname),
                    Text(a.version), Text(a.input)});
  }
  if (isatty(STDOUT_FILENO) != 0 && TerminalColumns() < kWideTerminal) {
    names.resize(9);
    for (Row& row : rows) row.resize(9);
  }
  return Table(names, rows, color);
}

std::string LossesText(const std::vector<LostEntry>& losses, const std::string& color) {
  if (losses.empty()) return "nothing is known to be missing\n";
  // Milliseconds of a day of this year, so that a line fits 80 columns; --json has it all.
  const auto time = [](const std::optional<int64_t>& ns) {
    return Text(ns ? report::DateText(*ns).substr(5) + " " + report::TimeText(*ns).substr(0, 12) : "");
  };
  std::vector<Row> rows;
  std::map<std::string, std::string> meanings;
  for (const LostEntry& l : losses) {
    rows.push_back(
        {Text(l.host), Text(l.kind), Number(l.count), time(l.first_ns), time(l.last_ns), Text(l.clock)});
    meanings[l.kind] = l.meaning;
  }
  std::string out = Table({"host", "kind", "count", "from", "until", "clock"}, rows, color) + "\n";
  const size_t width = isatty(STDOUT_FILENO) != 0 ? static_cast<size_t>(TerminalColumns()) : 120;
  for (const auto& [kind, meaning] : meanings) {
    for (const std::string& line : report::Wrap(kind + ": " + meaning, width)) out += line + "\n";
  }
  return out;
}

int RunAgents(const TableArguments& arguments) {
  const Result<std::unique_ptr<AnswerSource>> source = OpenSource(arguments.source);
  if (!source) return Fail(source.error());
  const Result<AgentsReport> report = (*source)->Agents();
  if (!report) return Fail(report.error());
  std::string text;
  if (arguments.json) {
    text = AgentsJson(*report);
  } else {
    text = AgentsText(*report, arguments.color);
    const std::string warning = AgentsWarning(*report);
    if (!warning.empty()) text += "warning: " + warning + "\n";
    if (report->queries) text += QueriesText(*report->queries);
  }
  return WriteOut(text) ? kExitDone : Fail("standard output: cannot write");
}

int RunLosses(const TableArguments& arguments) {
  const Result<std::unique_ptr<AnswerSource>> source = OpenSource(arguments.source);
  if (!source) return Fail(source.error());
  const Result<std::vector<LostEntry>> losses = (*source)->Losses();
  if (!losses) return Fail(losses.error());
  const std::string text = arguments.json ? LossesJson(*losses) : LossesText(*losses, arguments.color);
  return WriteOut(text) ? kExitDone : Fail("standard output: cannot write");
}

std::shared_ptr<TableArguments> AddTableCommand(CLI::App& app, const char* name, const char* meaning,
                                                const char* footer, int& exit_status,
                                                int (*run)(const TableArguments&)) {
  auto arguments = std::make_shared<TableArguments>();
  CLI::App* command = app.add_subcommand(name, meaning);
  AddSourceOptions(*command, arguments->source);
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->add_option("--color", arguments->color, "auto, always or never; NO_COLOR is heeded")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  command->footer(footer);
  command->callback([arguments, run, &exit_status] { exit_status = run(*arguments); });
  return arguments;
}

}  // namespace

void AddAgentsCommand(CLI::App& app, int& exit_status) {
  AddTableCommand(
      app, "agents", "Print the agents: how much of theirs is stored, and how fast it comes",
      "per_s: of the last seconds, if a collector is asked; mean_per_s: from the first to the last record.",
      exit_status, RunAgents);
}

void AddLossesCommand(CLI::App& app, int& exit_status) {
  AddTableCommand(
      app, "losses", "Print everything that is known to be missing, by host and time",
      "Times are by the clock of the observing host, or the collector's, as `clock` says; without one, it"
      " is not known when.",
      exit_status, RunLosses);
}

}  // namespace keytrail
