#include "collector/cli/fleet_output.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/plain_text.h"

namespace keytrail {

namespace {

using nlohmann::ordered_json;

std::string Utc(int64_t seconds) {
  if (seconds < 0) return "";
  const std::time_t time = seconds;
  std::tm utc{};
  gmtime_r(&time, &utc);
  char text[32] = {};
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

const char* LinkWord(Link link) {
  return link == Link::kConnected ? "connected" : link == Link::kNotConnected ? "not connected" : "";
}

std::string VersionWord(const HostFacts& facts) {
  const std::string version = Fact(facts, "version");
  const size_t blank = version.rfind(' ');
  return blank == std::string::npos ? version : version.substr(blank + 1);
}

bool Runs(const HostResult& unit) {
  return unit.outcome == Outcome::kDone;
}

std::string Left(const HostResult& unit) {
  const int64_t left = Runs(unit) ? SecondsLeft(unit.facts) : -1;
  if (left < 0) return "";
  char text[32] = {};
  std::snprintf(text, sizeof text, "%lldm%02llds", static_cast<long long>(left / 60),
                static_cast<long long>(left % 60));
  return text;
}

std::string Mib(const HostFacts& facts) {
  const int64_t kib = NumberOf(facts, "disk_kib");
  return kib < 0 ? "" : std::to_string((kib + 1023) / 1024) + " MiB";
}

std::string Padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

ordered_json OrNull(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json OrNull(int64_t number) {
  return number < 0 ? ordered_json(nullptr) : ordered_json(number);
}

const char* StateWord(const HostResult& unit) {
  if (unit.outcome == Outcome::kFailed) return "unknown";
  const std::string state = Fact(unit.facts, "state");
  for (const char* word : {"running", "starting", "ended", "died", "prepared", "none"}) {
    if (state == word) return word;
  }
  return "unknown";
}

ordered_json UnitObject(const HostResult& unit) {
  const HostFacts& facts = unit.facts;
  const bool runs = Runs(unit);
  return {{"name", unit.name},
          {"address", unit.address},
          {"state", StateWord(unit)},
          {"says", OrNull(unit.said)},
          {"what_to_do", OrNull(unit.what_to_do)},
          {"pid", runs ? OrNull(NumberOf(facts, "pid")) : ordered_json(nullptr)},
          {"version", OrNull(VersionWord(facts))},
          {"started", OrNull(Utc(NumberOf(facts, "started")))},
          {"seconds_left", runs ? OrNull(SecondsLeft(facts)) : ordered_json(nullptr)},
          {"collector",
           runs && unit.name != "collector" ? OrNull(LinkWord(LinkOf(facts))) : ordered_json(nullptr)},
          {"disk_kib", OrNull(NumberOf(facts, "disk_kib"))},
          {"spool_kib", OrNull(NumberOf(facts, "spool_kib"))},
          {"records_left", !runs && !Fact(facts, "records_left").empty()},
          {"ended_status", OrNull(NumberOf(facts, "ended_status"))},
          {"ended", OrNull(Utc(NumberOf(facts, "ended_at")))},
          {"last_log_line", OrNull(Fact(facts, "log"))}};
}

}  // namespace

std::string HostLine(const HostResult& host) {
  char seconds[32] = {};
  if (host.seconds >= 0.05) std::snprintf(seconds, sizeof seconds, " (%.1f s)", host.seconds);
  std::string line =
      host.name + ": " + (host.outcome == Outcome::kFailed ? "FAILED: " : "") + host.said + seconds + "\n";
  if (!host.what_to_do.empty()) line += "      what to do: " + host.what_to_do + "\n";
  return line;
}

std::string SummaryOf(const FleetResult& result, const std::string& verb) {
  const std::string prefix = "keytrail fleet: ";
  std::string text;
  if (!result.failure.empty()) text += prefix + result.failure + "\n";
  size_t hosts = 0;
  size_t well = 0;
  std::string not_begun;
  std::string not_well;
  for (const HostResult& unit : result.units) {
    if (unit.name == "collector") {
      if (unit.outcome == Outcome::kKept) text += prefix + HostLine(unit);
      continue;
    }
    ++hosts;
    if (unit.outcome == Outcome::kDone || unit.outcome == Outcome::kAlready) {
      ++well;
    } else {
      std::string& list = unit.outcome == Outcome::kNotBegun ? not_begun : not_well;
      list += (list.empty() ? "" : ", ") + unit.name;
    }
  }
  const std::string of =
      std::to_string(well) + " of " + std::to_string(hosts) + (hosts == 1 ? " host" : " hosts");
  if (verb == "start" && well != 0) {
    text += prefix + of + " run, and end by themselves when their time is over\n";
  } else if (hosts != 0) {
    text += prefix + of + " done\n";
  }
  if (!not_well.empty())
    text += prefix + "not as wanted: " + not_well + " (why, and what to do, stands above)\n";
  if (!not_begun.empty()) text += prefix + "not begun: " + not_begun + "\n";
  if (verb == "start" && (!not_begun.empty() || !not_well.empty())) {
    text += prefix +
            "the same start again goes on with these and leaves the others alone; keytrail fleet stop ends "
            "and removes all\n";
  }
  return text;
}

std::string StatusTable(const FleetResult& result) {
  std::vector<std::vector<std::string>> rows = {
      {"host", "state", "pid", "version", "since (UTC)", "left", "collector", "disk"}};
  for (const HostResult& unit : result.units) {
    const bool runs = Runs(unit);
    rows.push_back({unit.name, StateWord(unit), runs ? Fact(unit.facts, "pid") : "", VersionWord(unit.facts),
                    Utc(NumberOf(unit.facts, "started")), Left(unit),
                    runs && unit.name != "collector" ? LinkWord(LinkOf(unit.facts)) : "", Mib(unit.facts)});
  }
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows[r].size(); ++i) line += Padded(PlainText(rows[r][i]), widths[i] + 2);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
    if (r == 0) continue;
    const HostResult& unit = result.units[r - 1];
    if (!Runs(unit) && unit.outcome != Outcome::kFailed) text += "    " + unit.said + "\n";
    if (!Runs(unit) && !Fact(unit.facts, "records_left").empty()) {
      text += "    records that were not shipped are left there: keytrail fleet collect\n";
    }
    const std::string log = Fact(unit.facts, "log");
    const bool worth = unit.outcome == Outcome::kKept || LinkOf(unit.facts) == Link::kNotConnected;
    if (worth && !log.empty()) text += "    its last words: " + PlainText(log) + "\n";
  }
  return text;
}

std::string StatusJson(const FleetResult& result) {
  ordered_json object = {
      {"hosts", ordered_json::array()}, {"collector", nullptr}, {"all_running", result.AllWell()}};
  for (const HostResult& unit : result.units) {
    if (unit.name == "collector") {
      object["collector"] = UnitObject(unit);
    } else {
      object["hosts"].push_back(UnitObject(unit));
    }
  }
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace keytrail
