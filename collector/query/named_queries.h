// Saved queries by name: `keytrail sql --named slowest-lookups`, `.named` in the shell, SqlRequest.named.
//
// Pure. They use the tables and views of collector/store/schema.h and the SQL functions; counts are of
// observations where a column says so: a call that was seen at both ends has two.
#pragma once

#include <map>
#include <span>
#include <string>

#include "collector/store/sandbox.h"
#include "common/result.h"

namespace keytrail {

struct NamedParameter {
  enum class Kind : uint8_t { kNumber, kKey };
  const char* name;
  Kind kind;
  const char* meaning;
  int64_t standard;  // the value if none is given, of a number; -1: one must be given
};

struct NamedQuery {
  const char* name;
  const char* meaning;  // one line
  std::span<const NamedParameter> parameters;
  const char* view;  // that it asks, or null
  const char* sql;
};

std::span<const NamedQuery> NamedQueries();

// The SQL of `name` and its parameters, with standard values for those that are not given. Error: there is no
// such query, a parameter is missing, unknown or of the wrong kind.
Result<SqlQuestion> NamedQuestion(const std::string& name,
                                  const std::map<std::string, Store::QueryValue>& parameters);

// "region=12", "key=0x74…": a number, a BLOB or a text. Error: there is no name or no value.
Result<std::pair<std::string, Store::QueryValue>> ParseParameter(const std::string& text);

// The list of `keytrail sql --named`, ends with a newline.
std::string NamedQueryList();

}  // namespace keytrail
