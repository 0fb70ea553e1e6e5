#include "agent/schema/facts_finish.h"

#include <algorithm>
#include <vector>

#include "agent/schema/error_text.h"
#include "common/key_codec.h"
#include "common/limits.h"

namespace keytrail::schema {

namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

Bytes CopyWithinCap(MessageFacts& facts, Bytes from) {
  if (facts.arena.bytes_used() + from.size() > limits::kMaxFactBytesPerMessage) {
    facts.over_cap = true;
    return {};
  }
  return facts.arena.Copy(from);
}

// Keys that came before the Context, or without one. A message that names no Context but has routed tasks
// gets an empty route, so that its own keys are not taken for those of a task.
void SettleRoutes(MessageFacts& facts, const Finish& finish) {
  uint32_t route = finish.route;
  if (route == kNone) {
    route = 0;
    if (facts.routes.size() > finish.first_route && facts.routes.size() <= limits::kMaxRoutesPerMessage) {
      route = static_cast<uint32_t>(facts.routes.size());
      facts.routes.emplace_back();
    }
  }
  for (size_t i = finish.first_key; i < facts.keys.size(); ++i) {
    if (facts.keys[i].route == kPendingRoute) facts.keys[i].route = static_cast<uint16_t>(route);
  }
}

void SettleCaller(MessageFacts& facts, const Finish& finish) {
  const size_t n = finish.caller_id.size();
  const size_t m = finish.caller_component.size();
  const size_t total = n + (m != 0 ? m + 1 : 0);
  if (facts.arena.bytes_used() + total > limits::kMaxFactBytesPerMessage) {
    facts.over_cap = true;
    return;
  }
  uint8_t* to = facts.arena.Take(total);
  uint8_t* at = std::copy(finish.caller_id.begin(), finish.caller_id.end(), to);
  if (m != 0) {
    *at++ = '/';
    std::copy(finish.caller_component.begin(), finish.caller_component.end(), at);
  }
  facts.caller = AsText(Bytes(to, total));
}

void AddEpochsFromText(MessageFacts& facts, ErrorFact& error) {
  ErrorFact parsed;
  if (!ParseErrorText(error.text, facts.arena, parsed) || parsed.kind != ErrorKind::kEpochText) return;
  error.from_text = true;
  if (error.region_id == 0) error.region_id = parsed.region_id;
  error.current_conf_ver = parsed.current_conf_ver;
  error.current_version = parsed.current_version;
}

// Texts still stand in the message here: they are parsed whole, and copied cut.
void SettleError(MessageFacts& facts, ErrorFact& error, bool& prune) {
  switch (error.kind) {
    case ErrorKind::kOtherRegionError:
    case ErrorKind::kKeyAbort:
    case ErrorKind::kKeyRetryable:
    case ErrorKind::kOtherError:
      if (!error.text.empty()) {
        ParseErrorText(error.text, facts.arena, error);
      } else if (error.kind == ErrorKind::kOtherError) {
        error.kind = ErrorKind::kNone;
      } else if (error.kind != ErrorKind::kOtherRegionError) {
        error.kind = ErrorKind::kOtherKeyError;
      }
      break;
    case ErrorKind::kEpochNotMatch:
      if (!error.text.empty()) AddEpochsFromText(facts, error);
      break;
    case ErrorKind::kKeyNotInRegion:
      error.key = WithoutMvccSuffix(error.key);
      break;
    case ErrorKind::kPdError:
      if (error.pd_error_type == 0 && error.text.empty()) error.kind = ErrorKind::kNone;
      break;
    default:
      break;
  }
  if (error.kind == ErrorKind::kNone) prune = true;
  error.text =
      CopyWithinCap(facts, error.text.first(std::min(error.text.size(), limits::kMaxErrorTextBytes)));
}

bool Believed(const RegionStatement& statement) {
  return statement.region_id != 0 && statement.source != StatementSource::kUnknown;
}

// Errors refer to statements by index, before those that are not believed are taken out.
void ReferAgain(MessageFacts& facts, const Finish& finish) {
  std::vector<uint32_t> new_index;  // where the i-th statement of this walk will stand
  uint32_t kept = static_cast<uint32_t>(finish.first_statement);
  for (size_t i = finish.first_statement; i < facts.statements.size(); ++i) {
    new_index.push_back(kept);
    kept += Believed(facts.statements[i]) ? 1 : 0;
  }
  new_index.push_back(kept);
  for (size_t i = finish.first_error; i < facts.errors.size(); ++i) {
    ErrorFact& error = facts.errors[i];
    if (error.statement_count == 0) continue;
    const size_t first = error.first_statement - finish.first_statement;
    error.first_statement = new_index[first];
    error.statement_count = new_index[first + error.statement_count] - new_index[first];
    if (error.statement_count == 0) error.first_statement = 0;
  }
}

void Prune(MessageFacts& facts, const Finish& finish) {
  const auto at = [](auto& list, size_t n) { return list.begin() + static_cast<std::ptrdiff_t>(n); };
  facts.keys.erase(std::remove_if(at(facts.keys, finish.first_key), facts.keys.end(),
                                  [](const KeyItem& key) { return key.form == KeyForm::kNone; }),
                   facts.keys.end());
  facts.errors.erase(std::remove_if(at(facts.errors, finish.first_error), facts.errors.end(),
                                    [](const ErrorFact& error) { return error.kind == ErrorKind::kNone; }),
                     facts.errors.end());
  if (finish.first_error < facts.errors.size()) ReferAgain(facts, finish);
  facts.statements.erase(std::remove_if(at(facts.statements, finish.first_statement), facts.statements.end(),
                                        [](const RegionStatement& s) { return !Believed(s); }),
                         facts.statements.end());
}

bool SameRegion(const RegionStatement& a, const RegionStatement& b) {
  return a.region_id == b.region_id && a.conf_ver == b.conf_ver && a.version == b.version &&
         EqualBytes(a.start, b.start) && EqualBytes(a.end, b.end);
}

}  // namespace

void FinishFacts(MessageFacts& facts, Finish& finish) {
  if (finish.pending_routes) SettleRoutes(facts, finish);
  if (facts.start_ts == 0) facts.start_ts = finish.stmt[kStmtStartTs];
  if (facts.connection_id == 0) facts.connection_id = finish.stmt[kStmtConnectionId];
  if (!finish.caller_id.empty() || !finish.caller_component.empty()) SettleCaller(facts, finish);
  for (size_t i = finish.first_error; i < facts.errors.size(); ++i) {
    SettleError(facts, facts.errors[i], finish.prune);
  }
  if (finish.prune) Prune(facts, finish);
}

void ReverseRanges(MessageFacts& facts, size_t first_key) {
  for (size_t i = first_key; i < facts.keys.size(); ++i) {
    KeyItem& key = facts.keys[i];
    if (!key.is_range) continue;
    std::swap(key.start, key.end);
    key.reverse = true;
  }
}

void DropPairedStatements(MessageFacts& facts, size_t first, size_t count) {
  if (count == 0 || facts.statements.size() - first != 2 * count) return;
  for (size_t i = first; i < first + count; ++i) {
    if (!SameRegion(facts.statements[i], facts.statements[i + count])) return;
  }
  const auto from = facts.statements.begin() + static_cast<std::ptrdiff_t>(first);
  facts.statements.erase(from, from + static_cast<std::ptrdiff_t>(count));
}

void DropRepeatedSplits(MessageFacts& facts, size_t first, uint32_t left, uint32_t right) {
  const auto repeated = [&](uint32_t half) {
    if (half == kNone) return false;
    for (size_t i = first; i < facts.statements.size(); ++i) {
      if (i != left && i != right && SameRegion(facts.statements[half], facts.statements[i])) return true;
    }
    return false;
  };
  const bool drop_left = repeated(left);
  const bool drop_right = repeated(right);
  const auto drop = [&](uint32_t index) {
    facts.statements.erase(facts.statements.begin() + static_cast<std::ptrdiff_t>(index));
  };
  // The later one first, so that the other's index stays right.
  if (drop_left && drop_right) {
    drop(std::max(left, right));
    drop(std::min(left, right));
  } else if (drop_left) {
    drop(left);
  } else if (drop_right) {
    drop(right);
  }
}

}  // namespace keytrail::schema
