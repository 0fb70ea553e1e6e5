// The route ledger: who said which range of which (region, version) to whom, and which keys were served.
//
// (region id, version) -> range is a function (tidb-wire.md 0.1), so two distinct ranges under one key are
// evidence, whenever they were said. conf_ver never matters (rule 9). Not thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "collector/correlate/call_log.h"
#include "common/call_record.h"
#include "common/limits.h"

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
  // Keeps those of which `used` is true; returns their new numbers, kNone for the others.
  std::vector<uint32_t> Keep(const std::vector<bool>& used);
  size_t size() const { return ranges_.size(); }
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
  std::vector<StatementUse> uses;  // the first ones and the last ones, in order of arrival

  // Some in the middle are not known any more.
  bool has_gap() const { return count > uses.size(); }
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

// How much the ledger knows at most.
struct LedgerCaps {
  size_t regions = limits::kMaxLedgerRegions;  // versions of regions
  size_t uses = limits::kMaxStatementUses;     // of all statements
  size_t places = limits::kMaxServedPlaces;
};

class RouteLedger {
 public:
  explicit RouteLedger(const LedgerCaps& caps = {}) : caps_(caps) {}

  // `call` is the record behind observation `index` of `log`.
  void Add(const CallLog& log, uint32_t index, const CallRecord& call);

  using Entries = std::vector<LedgerEntry>;
  const std::unordered_map<RegionVersion, Entries, RegionVersionHash>& entries() const { return entries_; }
  const std::unordered_map<ServedBy, std::vector<ServedKeys>, ServedByHash>& served() const {
    return served_;
  }
  // Statements that gave a (region, version) another range than the first one did.
  uint64_t contradictions() const { return contradictions_; }
  // Versions of regions of which everything was forgotten, because there are too many of them:
  // those that nobody disputed first. What was not told cannot be known any more.
  uint64_t forgotten() const { return forgotten_; }
  uint64_t served_forgotten() const { return served_forgotten_; }
  // It has grown so far that Shrink() should be called.
  bool over_cap() const { return Over(1); }
  // It cannot wait until the next observations are gone through.
  bool far_over_cap() const { return Over(2); }
  // Back below the caps. What is said of `needed` stays as it is. Ranges are numbered anew if something was
  // forgotten: returns their new numbers then; `range_used` says which ones others refer to.
  std::vector<uint32_t> Shrink(const std::unordered_set<RegionVersion, RegionVersionHash>& needed,
                               std::vector<bool> range_used);
  // Connections of `log` that were known under the ends on the left have those on the right now
  // (CallLog::Join).
  void Rejoin(const CallLog& log, const std::map<SeenConnection, SeenConnection>& ends);
  // Sets `kept` for all observations that the ledger refers to.
  void Mark(std::vector<bool>& kept) const;
  // CallLog::Keep() was done.
  void Renumber(const std::vector<uint32_t>& renumbered);
  // Sets `used` for all endpoints that the ledger refers to.
  void MarkEndpoints(std::vector<bool>& used) const;
  void RenumberEndpoints(const std::vector<uint32_t>& renumbered);
  // The first key that a PD lookup asked for, encoded.
  const std::string* AskedKey(uint32_t observation) const;
  RangeTable& ranges() { return ranges_; }
  const RangeTable& ranges() const { return ranges_; }

 private:
  void AddStatement(const CallLog& log, uint32_t index, const RegionStatement& statement, uint32_t n,
                    bool in_request);
  static void AddServedKey(const CallLog& log, uint32_t index, const std::string& key, ServedKeys& served);
  ServedKeys& PlaceOf(const ServedBy& by, uint16_t method, uint16_t command);
  void AddServed(const CallLog& log, uint32_t index, const CallRecord& call);
  bool Over(size_t times) const {
    return uses_ > times * caps_.uses || entries_.size() > times * caps_.regions ||
           places_ > times * caps_.places;
  }
  static bool Disputed(const Entries& entries);
  void ThinUses(const std::unordered_set<RegionVersion, RegionVersionHash>& needed);
  void Forget(const std::unordered_set<RegionVersion, RegionVersionHash>& needed);
  void ForgetServed();

  const LedgerCaps caps_;
  std::unordered_map<RegionVersion, Entries, RegionVersionHash> entries_;
  std::unordered_map<ServedBy, std::vector<ServedKeys>, ServedByHash> served_;
  std::unordered_map<uint32_t, std::string> asked_;
  RangeTable ranges_;
  uint64_t contradictions_ = 0;
  uint64_t forgotten_ = 0;
  uint64_t served_forgotten_ = 0;
  size_t uses_ = 0;    // of all entries
  size_t places_ = 0;  // of all that was served
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
