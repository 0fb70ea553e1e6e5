#include "collector/cli/shell.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <iostream>
#include <map>
#include <set>

#include "collector/cli/commands.h"
#include "collector/cli/interrupt.h"
#include "collector/cli/line_editor.h"
#include "collector/cli/terminal.h"
#include "collector/query/named_queries.h"

namespace keytrail {

namespace {

// A statement that has no end is a mistake, not a query.
constexpr size_t kMaxStatementBytes = static_cast<size_t>(limits::kMaxSqlBytes) * 2;

constexpr const char* kKeywords[] = {
    "SELECT",    "FROM",     "WHERE",     "GROUP BY",  "ORDER BY",    "HAVING",     "LIMIT", "JOIN",
    "LEFT JOIN", "WITH",     "AND",       "OR",        "NOT",         "NULL",       "IS",    "IN",
    "LIKE",      "BETWEEN",  "DISTINCT",  "COUNT(",    "SUM(",        "MIN(",       "MAX(",  "AVG(",
    "CASE",      "WHEN",     "THEN",      "ELSE",      "END",         "DESC",       "ASC",   "UNION",
    "tidb_key(", "ns_time(", "tso_time(", "in_range(", "encode_key(", "decode_key("};

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool IsBlank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

// Tables and their columns, as the database describes itself.
using Names = std::map<std::string, std::set<std::string>>;

Names NamesOf(AnswerSource& source) {
  Names names;
  SqlRequest request;
  request.sql = "SELECT table_name, column_name FROM columns";
  // Without it completion knows keywords only; the first query will tell what is wrong.
  (void)source.Sql(
      request, [](const std::vector<std::string>&) {},
      [&](const std::vector<Store::QueryValue>& row) {
        std::set<std::string>& columns = names[row[0].bytes];
        if (!row[1].bytes.empty()) columns.insert(row[1].bytes);
        return true;
      });
  return names;
}

// What may stand for the word at the end of `before`.
class Completion {
 public:
  explicit Completion(Names names) : names_(std::move(names)) {}

  std::vector<std::string> operator()(const std::string& before) const {
    size_t at = before.size();
    while (at > 0 && (std::isalnum(static_cast<unsigned char>(before[at - 1])) != 0 ||
                      before[at - 1] == '_' || before[at - 1] == '-')) {
      --at;
    }
    const std::string start = before.substr(at);
    std::set<std::string> all;
    if (at > 0 && before[at - 1] == '.' && before.find_first_not_of(' ') == at - 1) {
      // A command of the shell: the dot stays.
      for (size_t i = 0; i < kShellCommandCount; ++i) all.insert(kShellCommands[i] + 1);
    } else if (before.starts_with(".")) {
      Arguments(before, all);
    } else if (at > 0 && before[at - 1] == '.') {
      ColumnsOf(TableBefore(before, at - 1), all);
    } else if (WantsTable(Lower(before.substr(0, at)))) {
      for (const auto& [table, columns] : names_) all.insert(table);
    } else {
      for (const auto& [table, columns] : names_) {
        all.insert(table);
        // Columns of tables that the statement names; all of them before it names any.
        if (!NamesATable(before) || Mentions(before, table)) all.insert(columns.begin(), columns.end());
      }
      // In the case that the writer writes.
      const bool lower = start == Lower(start);
      for (const char* keyword : kKeywords) all.insert(lower ? Lower(keyword) : keyword);
    }
    std::vector<std::string> fitting;
    for (const std::string& word : all) {
      if (Lower(word).starts_with(Lower(start))) fitting.push_back(word);
    }
    return start.empty() && fitting.size() > 100 ? std::vector<std::string>() : fitting;
  }

 private:
  void Arguments(const std::string& before, std::set<std::string>& all) const {
    if (before.starts_with(".named ") && before.find(' ') == before.rfind(' ')) {
      for (const NamedQuery& query : NamedQueries()) all.insert(query.name);
    }
    if (before.starts_with(".schema ")) {
      for (const auto& [table, columns] : names_) all.insert(table);
    }
    if (before.starts_with(".mode ")) all.insert({"table", "line", "csv", "json"});
  }

  static bool WantsTable(std::string before) {
    while (!before.empty() && before.back() == ' ') before.pop_back();
    return before.ends_with(" from") || before.ends_with(" join");
  }
  static std::string TableBefore(const std::string& before, size_t dot) {
    size_t at = dot;
    while (at > 0 && (std::isalnum(static_cast<unsigned char>(before[at - 1])) != 0 || before[at - 1] == '_'))
      --at;
    return Lower(before.substr(at, dot - at));
  }
  // `table` may be an alias: then those of all tables.
  void ColumnsOf(const std::string& table, std::set<std::string>& all) const {
    for (const auto& [name, columns] : names_) {
      if (!names_.contains(table) || name == table) all.insert(columns.begin(), columns.end());
    }
  }
  static bool Mentions(const std::string& text, const std::string& table) {
    const std::string lower = " " + Lower(text) + " ";
    for (size_t at = lower.find(table); at != std::string::npos; at = lower.find(table, at + 1)) {
      const auto part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
      if (!part(lower[at - 1]) && !part(lower[at + table.size()])) return true;
    }
    return false;
  }
  bool NamesATable(const std::string& text) const {
    return std::any_of(names_.begin(), names_.end(),
                       [&](const auto& entry) { return Mentions(text, entry.first); });
  }

  Names names_;
};

// Asks all whole statements at the beginning of `text` and takes them away. `ask` gets one; false: no more.
template <class Ask>
void TakeStatements(std::string& text, const Ask& ask) {
  for (size_t length; (length = FirstStatement(text)) != 0;) {
    const std::string statement = text.substr(0, length);
    text.erase(0, length);
    if (!ask(statement)) return;
  }
  if (IsBlank(text)) text.clear();
}

}  // namespace

int RunShell(AnswerSource& source, SqlSession& session) {
  Interrupt::Install();
  std::fputs("keytrail sql: .help for help, .tables for tables, .named for saved queries\n", stderr);
  LineEditor editor(HistoryFile(), Completion(NamesOf(source)));
  std::string statement;
  std::string line;
  while (!session.quit()) {
    const LineEditor::Read read = editor.ReadLine(statement.empty() ? "keytrail> " : "     ...> ", line);
    if (read == LineEditor::Read::kEnd) {
      std::fputs("\n", stderr);
      break;
    }
    if (read == LineEditor::Read::kInterrupted) {
      statement.clear();
      std::fputs("\n", stderr);
      continue;
    }
    if (statement.empty() && IsBlank(line)) continue;
    if (statement.empty() && line[line.find_first_not_of(" \t")] == '.') {
      editor.Remember(line);
      session.Command(line);
      continue;
    }
    statement += line + "\n";
    if (statement.size() > kMaxStatementBytes) {
      Fail("sql: the statement is too long");
      statement.clear();
    }
    const std::string entered = statement;
    bool asked = false;
    TakeStatements(statement, [&](const std::string& sql) {
      if (!asked) editor.Remember(entered.substr(0, entered.find_last_not_of(" \n") + 1));
      asked = true;
      SqlRequest request;
      request.sql = sql;
      return session.Ask(request) != kExitFailed;
    });
    if (asked) statement.clear();
  }
  return kExitDone;
}

int RunScript(SqlSession& session) {
  int status = kExitDone;
  const auto run = [&](int code) {
    if (code != kExitDone) status = code;
    return code != kExitFailed && !session.quit();
  };
  const auto ask = [&](const std::string& sql) {
    SqlRequest request;
    request.sql = sql;
    return run(session.Ask(request));
  };
  std::string statement;
  for (std::string line; status != kExitFailed && !session.quit() && std::getline(std::cin, line);) {
    if (statement.empty() && IsBlank(line)) continue;
    if (statement.empty() && line.starts_with('.')) {
      run(session.Command(line));
      continue;
    }
    statement += line + "\n";
    if (statement.size() > kMaxStatementBytes) return Fail("sql: a statement on standard input is too long");
    TakeStatements(statement, ask);
  }
  // The last one may do without its semicolon; a comment at the end is none.
  if (status != kExitFailed && !session.quit() && !IsBlank(statement) && !statement.starts_with("--"))
    ask(statement);
  return status;
}

}  // namespace keytrail
