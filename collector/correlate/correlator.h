// Pairing, route ledger and verdicts over call records (tidb-wire.md sections 5 and 6).
//
// Memory is bounded by CorrelatorCaps.
//
// Pure: no clock, file, socket, thread or log line. Within the window the outcome does not depend on the
// order of Add() calls, and nowhere on agents' names. Not thread-safe. Everything handed in is copied as far
// as it is kept; what is kept is compact: distinct statements, complaints, and per call a few numbers for
// pairing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "collector/correlate/report_model.h"
#include "common/call_record.h"
#include "common/limits.h"

namespace keytrail {

struct AgentDescription {
  uint32_t agent = 0;  // small number, unique among the agents of this correlator
  std::string name;    // empty if nobody named it: the host is then told by its address
  std::string role;    // "tidb", "pd", "tikv" if named, else empty: found from the traffic
};

struct LossDescription {
  uint32_t agent = 0;
  std::string kind;
  uint64_t count = 0;
  int64_t first_ns = 0;
  int64_t last_ns = 0;
};

// How long a component may go on by what it should know better, before that counts as its fault (tidb-wire.md
// section 6, rules 7, 8 and 10).
struct Graces {
  int64_t pd_ns = 10'000'000'000;         // PD answers an older version than it was told, or had answered
  int64_t follower_ns = 60'000'000'000;   // ... a PD to which no store reports itself
  int64_t store_lag_ns = 60'000'000'000;  // a store is behind the version that its clients use
  int64_t client_ns =
      10'000'000'000;  // a client uses an older version than it was told on the same connection
  int64_t address_ns = 60'000'000'000;  // PD sends clients to an address where another store lives
  int64_t hole_ns = 10'000'000'000;     // a client that was answered with a hole reads the rest
};

// What is held at most; limits.h says why.
struct CorrelatorCaps {
  size_t window = limits::kPairingWindow;  // observations that wait for the other end's view of their call
  size_t connections = limits::kMaxKnownConnections;  // before former ones are told by their ends alone
  size_t clock_buckets = limits::kMaxClockBuckets;
  size_t ledger_regions = limits::kMaxLedgerRegions;
  size_t statement_uses = limits::kMaxStatementUses;
  size_t served_places = limits::kMaxServedPlaces;
  size_t complaints = limits::kMaxComplaints;

  // For files that are read one after the other and judged once.
  static CorrelatorCaps ForFiles();
};

class Correlator {
 public:
  explicit Correlator(const Graces& graces = {}, const CorrelatorCaps& caps = {});
  ~Correlator();

  void AddAgent(const AgentDescription& agent);
  // One observation of a call by one agent. call_id: its row in `calls`, unique. Statement ids are call_id
  // based: see StatementId().
  void Add(uint32_t agent, uint64_t call_id, const CallRecord& call);
  void AddLoss(const LossDescription& loss);

  // How many things were added that may be somebody's fault: refused keys, answers that do not fit their
  // question, statements that contradict another. While it stays, a judgement can hardly bring a new certain
  // verdict.
  uint64_t signs() const;

  // Judges everything added so far. May be called again after more was added; the cost is that of what is
  // held.
  InvestigationReport Judge();
  // Observations that are held now.
  size_t held() const;
  size_t held_connections() const;

  // The id of the n-th statement (request facts first, then response facts) of a call's row: what the
  // store writes in `statements.id` and evidence refers to.
  static uint64_t StatementId(uint64_t call_id, uint32_t n) { return call_id << 16 | (n & 0xFFFF); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
