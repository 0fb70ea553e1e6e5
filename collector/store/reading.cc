#include "collector/store/reading.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <string_view>

namespace keytrail {

namespace {

// Pragmas that only read, for people who look around.
constexpr std::string_view kPragmas[] = {
    "application_id", "compile_options", "function_list", "index_info", "index_list",  "index_xinfo",
    "page_count",     "page_size",       "table_info",    "table_list", "table_xinfo", "user_version"};
// Those of them that write if they are given a value.
constexpr std::string_view kPragmasWithoutValue[] = {"application_id", "page_count", "page_size",
                                                     "user_version"};

// SQLite's functions that compute from their arguments and do nothing else, and ours. A newer SQLite may
// bring functions that nobody looked at: those are refused.
constexpr std::string_view kFunctions =
    " -> ->> abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce cos cosh count "
    "cume_dist current_date current_time current_timestamp date datetime decode_key degrees dense_rank "
    "encode_key exp first_value floor format glob group_concat hex ifnull iif in_range instr json "
    "json_array json_array_length json_extract json_group_array json_group_object json_insert "
    "json_object json_patch json_quote json_remove json_replace json_set json_type json_valid julianday "
    "lag last_value lead length like likelihood likely ln log log10 log2 lower ltrim max min mod "
    "ns_time nth_value ntile nullif percent_rank pi pow power printf quote radians random randomblob "
    "rank replace round row_number rtrim sign sin sinh soundex sqlite_source_id sqlite_version sqrt "
    "strftime substr substring subtype sum tan tanh tidb_key time total trim trunc tso_time typeof "
    "unhex unicode unixepoch unlikely upper zeroblob ";

// Functions of SQLite's shell and of extensions that reach out of the database. They are not there, and are
// asked for in the hope that they are.
constexpr std::string_view kOutside[] = {"edit",           "fsdir",     "load_extension", "readfile",
                                         "sqlar_compress", "writefile", "zipfile"};

template <size_t N>
bool Contains(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

std::string Lower(const char* text) {
  std::string lower(text == nullptr ? "" : text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// The first word of a statement in upper case, behind space and comments; and the second.
std::pair<std::string, std::string> FirstWords(std::string_view sql) {
  size_t at = 0;
  const auto word = [&] {
    for (;;) {
      while (at < sql.size() && std::isspace(static_cast<unsigned char>(sql[at])) != 0) ++at;
      if (sql.substr(at).starts_with("--")) {
        at = std::min(sql.find('\n', at), sql.size());
      } else if (sql.substr(at).starts_with("/*")) {
        const size_t end = sql.find("*/", at + 2);
        at = end == std::string_view::npos ? sql.size() : end + 2;
      } else {
        break;
      }
    }
    std::string out;
    for (; at < sql.size() && (std::isalnum(static_cast<unsigned char>(sql[at])) != 0 || sql[at] == '_');
         ++at) {
      out += static_cast<char>(std::toupper(static_cast<unsigned char>(sql[at])));
    }
    return out;
  };
  std::string first = word();
  return {first, word()};
}

// Statements that are none of ours to run, whatever is in them.
bool IsWriting(std::string_view verb) {
  static constexpr std::string_view kVerbs[] = {
      "ALTER", "ANALYZE", "ATTACH",  "BEGIN",   "COMMIT",  "CREATE",   "DELETE",    "DETACH", "DROP",
      "END",   "INSERT",  "REINDEX", "RELEASE", "REPLACE", "ROLLBACK", "SAVEPOINT", "UPDATE", "VACUUM"};
  return Contains(kVerbs, verb);
}

// "no such function: writefile" is true, and does not tell that there never will be one.
std::string_view OutsideFunction(std::string_view error) {
  for (const std::string_view start : {"no such function: ", "no such table: "}) {
    if (!error.starts_with(start)) continue;
    const std::string name = Lower(std::string(error.substr(start.size())).c_str());
    for (const std::string_view outside : kOutside) {
      if (name == outside) return outside;
    }
  }
  return {};
}

// Nothing but space, comments and semicolons: SQLite finds no statement in it.
bool IsEmptySql(sqlite3* db, const char* sql) {
  sqlite3_stmt* rest = nullptr;
  for (;;) {
    const char* tail = nullptr;
    if (sqlite3_prepare_v2(db, sql, -1, &rest, &tail) != SQLITE_OK) return false;
    if (rest != nullptr) {
      sqlite3_finalize(rest);
      return false;
    }
    if (*tail == '\0') return true;
    if (tail == sql) return false;
    sql = tail;
  }
}

}  // namespace

ReadingOnly::ReadingOnly(sqlite3* db) : db_(db) {
  sqlite3_set_authorizer(db, Authorize, this);
}
ReadingOnly::~ReadingOnly() {
  sqlite3_set_authorizer(db_, nullptr, nullptr);
}

int ReadingOnly::Authorize(void* self, int action, const char* first, const char* second, const char*,
                           const char*) {
  ReadingOnly& only = *static_cast<ReadingOnly*>(self);
  const auto refuse = [&](const std::string& what) {
    only.has_refused_ = true;
    only.refused_ = what;
    return SQLITE_DENY;
  };
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_FUNCTION: {
      const std::string name = Lower(second);
      const bool harmless = kFunctions.find(" " + name + " ") != std::string_view::npos;
      return harmless ? SQLITE_OK : refuse("function " + name + "()");
    }
    case SQLITE_UPDATE:
      // What SQLite asks when a query first names a table-valued function (json_each, pragma_table_info). A
      // statement that really updates is none that only reads, which is asked as well.
      return sqlite3_stricmp(first, "sqlite_master") == 0 ? SQLITE_OK
                                                          : refuse(std::string("UPDATE of ") + first);
    case SQLITE_PRAGMA: {
      const std::string name = Lower(first);
      const bool reads =
          Contains(kPragmas, name) && (second == nullptr || !Contains(kPragmasWithoutValue, name));
      return reads ? SQLITE_OK : refuse("PRAGMA " + name);
    }
    case SQLITE_INSERT:
      return refuse(std::string("INSERT into ") + first);
    case SQLITE_DELETE:
      return refuse(std::string("DELETE from ") + first);
    default:
      return refuse("");
  }
}

std::string RefusalText(const std::string& sql, const std::string& refused) {
  std::string what = refused;
  const auto [verb, object] = FirstWords(sql);
  // A statement is told by its name, whatever it asked for first; a query by what in it was refused.
  if (verb != "SELECT" && verb != "WITH" && verb != "VALUES" && verb != "EXPLAIN" && verb != "PRAGMA") {
    what = verb;
    for (const char* with_object : {"CREATE", "DROP", "ALTER", "VACUUM"}) {
      if (verb == with_object && !object.empty()) what += " " + object;
    }
  }
  if (what.empty()) what = "this";
  return "only reading is allowed: " + what + " is refused";
}

PreparedReading PrepareReading(sqlite3* db, const std::string& sql, const ReadingOnly& only) {
  if (sql.find('\0') != std::string::npos) return ReadingProblem{false, "a statement has no zero bytes"};
  SqlStatement statement;
  const char* tail = nullptr;
  const int prepared = statement.PrepareOnce(db, sql.c_str(), &tail);
  if (prepared != SQLITE_OK) {
    const std::string error = sqlite3_errmsg(db);
    // SQLite does not come to ask about every writing statement: that there is no such table to delete from,
    // or that it is a view, is not what is wrong with it.
    if (only.has_refused() || IsWriting(FirstWords(sql).first)) {
      return ReadingProblem{true, RefusalText(sql, only.refused())};
    }
    // SQLite's word for a program of more operations than it may have (or, told as such, for a bound of
    // memory).
    if (prepared == SQLITE_NOMEM) return ReadingProblem{false, "the statement is too large"};
    const std::string_view outside = OutsideFunction(error);
    if (outside.empty()) return ReadingProblem{false, error};
    return ReadingProblem{true, RefusalText("SELECT", "function " + std::string(outside) + "()")};
  }
  if (statement.raw() == nullptr) return ReadingProblem{false, "no statement given"};
  if (sqlite3_stmt_readonly(statement.raw()) == 0)
    return ReadingProblem{true, RefusalText(sql, only.refused())};
  if (!IsEmptySql(db, tail)) return ReadingProblem{false, "one statement at a time"};
  return statement;
}

void ReadValue(sqlite3_stmt* statement, int i, Store::QueryValue& value) {
  using Type = Store::QueryValue::Type;
  value.bytes.clear();
  switch (sqlite3_column_type(statement, i)) {
    case SQLITE_INTEGER:
      value.type = Type::kInteger;
      value.integer = sqlite3_column_int64(statement, i);
      return;
    case SQLITE_FLOAT:
      value.type = Type::kReal;
      value.real = sqlite3_column_double(statement, i);
      return;
    case SQLITE_NULL:
      value.type = Type::kNull;
      return;
    default: {
      value.type = sqlite3_column_type(statement, i) == SQLITE_BLOB ? Type::kBlob : Type::kText;
      const void* data = sqlite3_column_blob(statement, i);
      const int size = sqlite3_column_bytes(statement, i);
      if (size > 0) value.bytes.assign(static_cast<const char*>(data), static_cast<size_t>(size));
    }
  }
}

}  // namespace keytrail
