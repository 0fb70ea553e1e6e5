// The route ledger: who said which range of which (region, version) to whom, and which keys were served.
//
// (region id, version) -> range is a function (tidb-wire.md 0.1), so two distinct ranges under one key are
// evidence, whenever they were said. conf_ver never matters (rule 9). Not thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "collector/correlate/call_log.h"
#include "common/call_record.h"

namespace keytrail::correlate {

// Encoded bounds, "" is unbounded on either side.
struct Range {
  std::string start;
  std::string end;

  bool Contains(Bytes key) const;
  bool ContainsRange(Bytes from, Bytes to) const;  // empty `to` is +infinity, empty `from` -infinity
  bool Overlaps(const Range& other) const;
  friend auto operator<=>(const Range&, const Range&) = default;
};

class RangeTable {
 public:
  uint32_t Intern(Bytes start, Bytes end);
  const Range& Get(uint32_t id) const { return ranges_[id]; }

 private:
  std::unordered_map<std::string, uint32_t> ids_;
  std::vector<Range> ranges_;
  std::string scratch_;
};

struct RegionVersion {
  uint64_t region_id = 0;
  uint64_t version = 0;

  friend auto operator<=>(const RegionVersion&, const RegionVersion&) = default;
};

struct RegionVersionHash {
  size_t operator()(const RegionVersion& rv) const {
    uint64_t h = rv.region_id * 0x9E3779B97F4A7C15ull ^ (rv.version + 0x7F4A7C15ull) * 0xC2B2AE3D27D4EB4Full;
    return static_cast<size_t>(h ^ h >> 29);
  }
};

// One time that a statement was made.
struct StatementUse {
  uint32_t observation = kNone;
  uint32_t index = 0;  // n-th statement of the call's row, request first
};

// One distinct statement as one agent saw it.
struct LedgerEntry {
  uint32_t range = kNone;
  StatementSource source = StatementSource::kUnknown;
  uint16_t agent = 0;
  uint32_t speaker = kNone;   // endpoint
  uint32_t listener = kNone;  // endpoint
  uint64_t count = 0;
  std::vector<StatementUse> uses;  // the first ones, and always the last one
};

// Smallest and largest key that a server answered without any error under one (region, version), by command:
// a store that checks one command may let another pass.
struct ServedKeys {
  uint16_t method = 0;
  uint16_t command = 0;
  std::string low;
  std::string high;
  uint32_t low_observation = kNone;
  uint32_t high_observation = kNone;
};

struct ServedBy {
  RegionVersion region;
  uint32_t server = kNone;  // endpoint
  friend auto operator<=>(const ServedBy&, const ServedBy&) = default;
};

struct ServedByHash {
  size_t operator()(const ServedBy& s) const {
    return RegionVersionHash()(s.region) ^ static_cast<size_t>(s.server) * 0x9E3779B1u;
  }
};

class RouteLedger {
 public:
  // `call` is the record behind observation `index` of `log`.
  void Add(const CallLog& log, uint32_t index, const CallRecord& call);

  using Entries = std::vector<LedgerEntry>;
  const std::unordered_map<RegionVersion, Entries, RegionVersionHash>& entries() const { return entries_; }
  const std::unordered_map<ServedBy, std::vector<ServedKeys>, ServedByHash>& served() const {
    return served_;
  }
  // Statements that gave a (region, version) another range than the first one did.
  uint64_t contradictions() const { return contradictions_; }
  // The first key that a PD lookup asked for, encoded.
  const std::string* AskedKey(uint32_t observation) const;
  RangeTable& ranges() { return ranges_; }
  const RangeTable& ranges() const { return ranges_; }

 private:
  void AddStatement(const CallLog& log, uint32_t index, const RegionStatement& statement, uint32_t n,
                    bool in_request);
  void AddServed(const CallLog& log, uint32_t index, const CallRecord& call);

  std::unordered_map<RegionVersion, Entries, RegionVersionHash> entries_;
  std::unordered_map<ServedBy, std::vector<ServedKeys>, ServedByHash> served_;
  std::unordered_map<uint32_t, std::string> asked_;
  RangeTable ranges_;
  uint64_t contradictions_ = 0;
  std::string scratch_;
};

// PD's own words to clients and followers; of these the answers to a client's question; TiKV's words to PD;
// TiKV's words to clients.
bool IsPdAnswer(StatementSource source);
bool IsPdLookup(StatementSource source);
bool IsReportToPd(StatementSource source);
bool IsTikvAnswer(StatementSource source);

// The physical form of a request's key: Raw* requests of API V1 carry it as it is (tidb-wire.md section 4).
// False if nobody can tell (API V3).
bool PhysicalForm(const MessageFacts& request, const KeyItem& item, Bytes key, std::string& out);

}  // namespace keytrail::correlate
