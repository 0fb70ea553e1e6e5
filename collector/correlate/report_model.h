// What the correlator concludes: verdicts with their evidence, as plain values. Printed by collector/report,
// stored by collector/store. Keys are encoded bytes in std::string.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/time.h"

namespace keytrail {

enum class Component : uint8_t { kTidb, kPd, kTikv };
inline const char* ComponentName(Component c) {
  return c == Component::kTidb ? "tidb" : c == Component::kPd ? "pd" : "tikv";
}

// One line of evidence: who said or did what, when, in which call.
struct Evidence {
  std::string what;      // "request", "complaint", "route", "statement", "served"
  std::string label;     // for people: "said", "used", "refused", "witness", "again"
  std::string host;      // the observing host whose clock t_ns is
  std::string observer;  // "both", "client", "server"
  std::string speaker;   // who said it: host name or address:port
  std::string listener;
  std::string method;         // "GetRegion", "BatchCommands/Get", …
  uint64_t call_id = 0;       // row in `calls`
  uint64_t statement_id = 0;  // row in `statements`, 0 if it is no statement
  int64_t t_ns = 0;
  uint64_t region_id = 0;
  uint64_t version = 0;
  std::optional<std::string> key;  // encoded
  std::optional<std::string> range_start;
  std::optional<std::string> range_end;
  std::string note;    // "too wide", "inside what PD said"
  int64_t ref_ns = 0;  // t_ns on the reference host's clock; t_ns itself if the clocks are unrelated
  uint64_t count = 1;  // of an "again" line: how many times
};

// One call or statement that shows the fault.
struct Occurrence {
  int64_t t_ns = 0;  // reference clock
  std::string what;  // "complaint", "wrong_statement", "served"
  uint64_t call_id = 0;
  uint64_t region_id = 0;
  uint64_t version = 0;
  std::optional<std::string> key;          // encoded
  uint64_t statement_id = 0;               // of a "wrong_statement"
  std::optional<std::string> range_start;  // what was said: the wrong range, or the server's bounds
  std::optional<std::string> range_end;
};

struct Verdict {
  uint64_t id = 0;
  Component component = Component::kTidb;
  bool certain = false;
  std::string rule;    // number of the decision table, "2", "3"
  std::string client;  // address of the client process's host
  std::string server;  // address:port
  uint64_t region_id = 0;
  uint64_t version = 0;
  std::string key;  // encoded, of the first occurrence that has one
  uint64_t occurrences = 0;
  int64_t first_ns = 0;
  int64_t last_ns = 0;
  std::string text;  // one sentence a person can act on
  std::vector<Evidence> evidence;
  std::vector<Occurrence> occurrence_list;  // all, in time order
  std::vector<std::string> weakened_by;
  std::string culprit;               // host name or address of the guilty process, for people
  std::vector<std::string> sure_of;  // for people: what makes the verdict sure
};

struct Inconclusive {
  std::vector<Component> suspects;
  std::vector<std::string> missing;
  std::string rule;
  std::string client;
  std::string server;
  uint64_t region_id = 0;
  uint64_t version = 0;
  std::string key;
  uint64_t occurrences = 0;
  int64_t first_ns = 0;
  int64_t last_ns = 0;
  std::string text;
  std::vector<Evidence> evidence;
};

struct HostReport {
  std::string host;  // its name if given, else its address
  std::string address;
  std::string role;  // "tidb", "pd", "tikv", "client", "unknown"
  // What to add to the reference's clock to get this host's, when this host's clock showed clock_at_ns (0: at
  // any time), and the bound within which the truth lies. Nothing: the clocks are not related.
  std::optional<int64_t> clock_offset_ns;
  std::optional<int64_t> offset_error_ns;
  std::string reference;
  int64_t clock_at_ns = 0;
  std::optional<int64_t> clock_drift_ppb;  // how fast the offset grew then, in parts per billion
  uint64_t clock_steps = 0;                // how often one of the two clocks was seen to be set
};

// How two hosts' clocks stand to each other within a stretch of time.
struct ClockReport {
  std::string host;
  std::string reference;  // the other one
  std::string relation;   // "direct": from calls of the two; "path": over other hosts; "unrelated": not known
  std::string via;        // of a path: the hosts between, nearest first
  // The stretch, by `host`'s clock; nothing of what follows if unrelated.
  std::optional<int64_t> from_ns;
  std::optional<int64_t> to_ns;
  // To add to the reference's clock to get the host's: offset_ns + drift_ppb * (t - from_ns) / 10^9, where
  // the host's clock shows t. Right within error_ns everywhere in the stretch.
  std::optional<int64_t> offset_ns;
  std::optional<int64_t> error_ns;
  std::optional<int64_t> drift_ppb;  // nothing if the stretch is a moment
  std::optional<int64_t> drift_error_ppb;
  uint64_t calls = 0;    // paired ones behind it; of a path those of its first hop
  bool stepped = false;  // one of the clocks was set within it
};

// A connection that was seen between different ends, since a NAT or a TCP proxy stands between them.
// Endpoints are address:port; a client's is an address alone if it stands for several connections.
struct TranslationReport {
  std::string host;              // the client's
  std::string client;            // as its own agent saw it
  std::string client_at_server;  // as the server's agent saw it
  std::string server;            // as its own agent saw it
  std::string server_at_client;  // as the client's agent saw it
  uint64_t connections = 0;
  uint64_t calls = 0;  // that were the same at both ends when this was found out
};

struct LossReport {
  std::string host;
  std::string kind;  // name of the counter or reason
  uint64_t count = 0;
  int64_t first_ns = 0;  // 0: not known
  int64_t last_ns = 0;
};

struct InvestigationReport {
  std::vector<Verdict> verdicts;
  std::vector<Inconclusive> inconclusive;
  std::map<std::string, uint64_t> benign;  // "stale_route", "not_leader", "server_is_busy", …
  std::vector<HostReport> hosts;
  std::vector<ClockReport> clocks;
  std::vector<TranslationReport> translations;
  std::vector<LossReport> losses;
  // Logical calls of the kinds unary, sub and message: one that was seen at both ends counts once. Records of
  // kind stream are the envelope of messages and are not counted again.
  uint64_t calls = 0;
  // What was checked, for the sentence "no other wrong range among ...".
  uint64_t unread = 0;                    // logical calls without a method name: nothing in them was read
  uint64_t routed_requests = 0;           // logical calls that name a region
  uint64_t statements = 0;                // distinct statements (who, to whom, region, version, range)
  uint64_t regions = 0;                   // distinct (region, version)
  uint64_t complaints = 0;                // refused keys and ranges
  uint64_t key_forms = 0;                 // in which agents tell keys; more than one: nothing was decided
  std::vector<std::string> not_captured;  // servers and clients that were seen only from the other side
};

}  // namespace keytrail
