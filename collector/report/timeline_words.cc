#include "collector/report/timeline_words.h"

#include <algorithm>
#include <cstdio>

#include "collector/report/layout.h"
#include "common/bytes.h"
#include "common/key_codec.h"
#include "common/plain_text.h"

namespace keytrail::report {
namespace {

// A statement's number ends in its position within the message, the same in both views.
constexpr uint64_t kStatementPositions = 65536;
constexpr size_t kMostErrorColumns = 160;

bool IsRefusal(const std::string& kind) {
  // Errors about locks and transactions, and PD's own, are none about where a key lives.
  for (const char* other : {"locked", "retryable", "abort", "conflict", "already_exist", "deadlock",
                            "txn_not_found", "other_key_error", "other_error", "pd_error"}) {
    if (kind == other) return false;
  }
  return true;
}

}  // namespace

std::string TimelineWords::Key(const std::string& key) const {
  const std::string text = hex_keys_ ? HexLower(AsBytes(key)) : PlainText(EncodedKeyText(AsBytes(key)));
  return key_columns_ == 0 ? text : Shorten(text, key_columns_);
}

std::string TimelineWords::Range(const std::string& start, const std::string& end) const {
  return "[" + (start.empty() ? "-inf" : Key(start)) + ", " + (end.empty() ? "+inf" : Key(end)) + ")";
}

std::string TimelineWords::Deed(const TimelineCall& call, const std::string& key) const {
  std::string text = MethodWord(call);
  uint64_t more = call.more_keys;
  const TimelineError* error = RefusalOf(call);
  if (error != nullptr && error->key) {
    text += " " + Key(*error->key);
    more += call.keys.empty() ? 0 : call.keys.size() - 1;
  } else if (!call.keys.empty()) {
    const auto wanted = std::find_if(call.keys.begin(), call.keys.end(),
                                     [&](const TimelineKey& k) { return !k.end && k.start == key; });
    const TimelineKey& first = wanted == call.keys.end() ? call.keys.front() : *wanted;
    text += " " + (first.end ? Range(first.start, *first.end) : Key(first.start));
    more += call.keys.size() - 1;
  } else if (!call.asked_regions.empty()) {
    text += " " + std::to_string(call.asked_regions.front());
  }
  if (more > 0) text += " +" + Count(more, "key", "keys");
  return text;
}

std::string TimelineWords::Route(const TimelineCall& call) const {
  if (!call.region_id || *call.region_id == 0) return "";
  std::string text = "region " + std::to_string(*call.region_id);
  if (call.version) text += " v" + std::to_string(*call.version);
  return text;
}

std::string TimelineWords::StatementRegion(const TimelineStatement& statement) const {
  std::string text = "region " + std::to_string(statement.region_id);
  if (statement.version) text += " v" + std::to_string(*statement.version);
  return text;
}

std::string TimelineWords::Statement(const TimelineStatement& statement) const {
  return StatementRegion(statement) + " " + Range(statement.start, statement.end);
}

std::string TimelineWords::ErrorDetail(const TimelineError& error) const {
  if (error.bounds_start && error.bounds_end) return " " + Range(*error.bounds_start, *error.bounds_end);
  if (error.text.empty() || error.kind == "epoch_not_match") return "";
  return ": " + Shorten(PlainText(error.text), kMostErrorColumns);
}

std::string TimelineWords::Error(const TimelineError& error) const {
  return ErrorWord(error.kind) + ErrorDetail(error);
}

std::string MethodWord(const TimelineCall& call) {
  if (!call.command.empty()) return PlainText(call.command);
  if (call.method.empty()) return "an unknown call";
  return PlainText(call.method.substr(call.method.rfind('/') + 1));
}

std::string ErrorWord(const std::string& kind) {
  std::string text = PlainText(kind);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string DurationText(int64_t ns) {
  char out[32];
  if (ns < 1'000) {
    std::snprintf(out, sizeof out, "%d ns", static_cast<int>(ns));
  } else if (ns < 1'000'000) {
    std::snprintf(out, sizeof out, "%d µs", static_cast<int>(ns / 1000));
  } else if (ns < 1'000'000'000) {
    std::snprintf(out, sizeof out, "%.*f ms", ns < 10'000'000 ? 2 : 1, static_cast<double>(ns) / 1e6);
  } else {
    std::snprintf(out, sizeof out, "%.2f s", static_cast<double>(ns) / 1e9);
  }
  return out;
}

std::string LatencyText(const TimelineCall& call) {
  const auto took = [](const std::optional<TimelineView>& view) -> std::optional<int64_t> {
    if (!view || !view->times.Asked() || !view->times.Answered()) return std::nullopt;
    return *view->times.Answered() - *view->times.Asked();
  };
  const std::optional<int64_t> client = took(call.at_client);
  const std::optional<int64_t> server = took(call.at_server);
  if (client && server) {
    const std::string whole = DurationText(*client);
    const std::string inner = DurationText(*server);
    const size_t unit = whole.find(' ');
    // "246|238 µs", but "1.02 ms|238 µs".
    const bool same =
        inner.find(' ') != std::string::npos && whole.substr(unit) == inner.substr(inner.find(' '));
    return (same ? whole.substr(0, unit) : whole) + "|" + inner;
  }
  for (const std::optional<TimelineView>* view : {&call.at_client, &call.at_server, &call.between}) {
    if (const std::optional<int64_t> ns = took(*view))
      return DurationText(*ns) + " at " + PlainText((*view)->observer);
  }
  return "";
}

const TimelineError* RefusalOf(const TimelineCall& call) {
  const auto it = std::find_if(call.errors.begin(), call.errors.end(),
                               [](const TimelineError& e) { return IsRefusal(e.kind); });
  return it == call.errors.end() ? nullptr : &*it;
}

const TimelineStatement* StatementOf(const TimelineCall& call, uint64_t statement_id) {
  if (call.statements.empty()) return nullptr;
  if (statement_id != 0) {
    for (const TimelineStatement& s : call.statements) {
      if (s.id % kStatementPositions == statement_id % kStatementPositions) return &s;
    }
  }
  if (!call.keys.empty()) {
    for (const TimelineStatement& s : call.statements) {
      if (InRange(AsBytes(call.keys.front().start), AsBytes(s.start), AsBytes(s.end))) return &s;
    }
  }
  return &call.statements.front();
}

const TimelineView& ShownView(const TimelineCall& call) {
  for (const std::optional<TimelineView>* view : {&call.at_client, &call.at_server, &call.between}) {
    if (*view && (*view)->on_reference) return **view;
  }
  return call.view();
}

}  // namespace keytrail::report
