// Where a command's answers come from, as the user says it: --db FILE or --collector HOST:PORT.
#pragma once

#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "collector/query/answer_source.h"
#include "common/default_ports.h"

namespace keytrail {

struct SourceOptions {
  std::string database;
  std::string collector = kDefaultQueryAddress;
  ClientTls tls;
};

// `options` must live as long as `command`.
void AddSourceOptions(CLI::App& command, SourceOptions& options);

// Error: a sentence with the path or address.
Result<std::unique_ptr<AnswerSource>> OpenSource(const SourceOptions& options);

// "30s", "500ms", "2m", "1h"; a bare number is seconds. Empty: it is none, or not positive.
std::optional<int64_t> ParseDurationNs(const std::string& text);

}  // namespace keytrail
