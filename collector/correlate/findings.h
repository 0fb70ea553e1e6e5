// What single records show by themselves: complaints about a range, PD answers that are wrong on their face,
// inverted ranges that nobody complained of, and region errors that are no range problem.
//
// Collected while records come in; judged later with the ledger. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "collector/correlate/call_log.h"
#include "collector/correlate/ledger.h"
#include "common/call_record.h"
#include "common/limits.h"

namespace keytrail::correlate {

class Pairing;

// A key (end empty, is_range false) or range of a request, in the form in which regions are bounded.
struct Item {
  std::string start;
  std::string end;
  bool is_range = false;

  bool InsideOf(const Range& r) const {
    return is_range ? r.ContainsRange(AsBytes(start), AsBytes(end)) : r.Contains(AsBytes(start));
  }
  friend bool operator==(const Item&, const Item&) = default;
};

// A server refused a key or range as outside of the region (errors (a) to (d) of tidb-wire.md section 3).
struct Complaint {
  uint32_t observation = kNone;
  ErrorKind kind = ErrorKind::kNone;
  RegionVersion region;  // of the request's route; version unknown if the request was not seen
  bool version_known = false;
  uint32_t bounds = kNone;              // the server's range, into the ledger's ranges
  bool bounds_of_other_region = false;  // the error names another region than the request did
  std::optional<Item> complained;       // the key or range that the error names
  bool complained_in_request = false;
  bool items_known = false;        // the request's keys were all read, and in physical form
  bool all_inside_bounds = false;  // ... and lie inside `bounds`
  bool inverted = false;           // the request holds a range whose start lies behind its end
  bool unsorted = false;           // a coprocessor request's ranges overlap or are not in order
  uint32_t item_count = 0;
  std::vector<Item> items;  // those outside of `bounds` first, capped
};

// A PD answer that its own call proves wrong (rule 1).
struct FaceFault {
  enum class Kind : uint8_t {
    kKeyOutside,   // the answered region does not hold the key asked for
    kOtherRegion,  // GetRegionByID answered another id
    kOverlap,      // a scan's regions overlap or are not in order
    kMapLength,    // QueryRegion answered another number of keys than were asked
    kHole,         // a scan that promised to be whole has a hole
    kTooMany,      // a scan answered more regions than were asked for
    kQuietHole,    // a scan that promised nothing has a hole: a fault only if PD knew what belongs there
  };
  uint32_t observation = kNone;
  uint32_t statement = 0;  // n-th of the row
  Kind kind = Kind::kKeyOutside;
  RegionVersion region;
  uint32_t range = kNone;
  uint32_t other_range = kNone;  // the one that it overlaps or leaves a hole after
  std::string key;               // asked
};

// A region error that is no range problem, or may become one only by repetition (rules 7 to 12).
struct Setback {
  uint32_t observation = kNone;
  ErrorKind kind = ErrorKind::kNone;
  RegionVersion region;
  uint64_t server_version = 0;  // of EpochNotMatch; 0: the region was not among those named
  // Of StoreNotMatch: the store that was looked for, and the one that lives there. 0: not said.
  uint64_t request_store = 0;
  uint64_t actual_store = 0;
};

// A client asked PD where a store lives (rule 11). What PD answered is not in a record.
struct StoreAsk {
  uint32_t observation = kNone;
  uint64_t store_id = 0;  // 0: all stores
};

// A range that a client read by a coprocessor or scan request, or asked PD for (rule 13).
struct ReadRange {
  uint32_t observation = kNone;
  uint64_t start_ts = 0;  // 0 of a question to PD
  RegionVersion region;
  Item range;
  bool asked_pd = false;
};

// A request that is wrong on its face though nobody refused it: one that names a region twice for overlapping
// ranges (rule 0), or a key that was never answered because its connection was reset (rule 14).
struct OddRequest {
  enum class Kind : uint8_t { kTwice, kReset };
  uint32_t observation = kNone;
  Kind kind = Kind::kTwice;
  RegionVersion region;
  std::vector<Item> items;
};

// What the complaint is about, as far as the request bears it out.
std::vector<Item> DisputedItems(const Complaint& complaint);

class Findings {
 public:
  explicit Findings(size_t most_complaints = limits::kMaxComplaints) : most_complaints_(most_complaints) {}

  void Add(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call);

  const std::vector<Complaint>& complaints() const { return complaints_; }
  const std::vector<FaceFault>& face_faults() const { return face_faults_; }
  const std::vector<Setback>& setbacks() const { return setbacks_; }
  const std::vector<OddRequest>& odd_requests() const { return odd_requests_; }
  // Counted, but not there any more.
  uint64_t complaints_over_cap() const { return complaints_over_cap_; }
  uint64_t others_over_cap() const { return others_over_cap_; }
  // By BenignName(): those of setbacks that are not there any more.
  const std::map<std::string, uint64_t>& benign() const { return benign_; }
  // Grows with all that was ever found and is not benign by itself.
  uint64_t signs() const { return signs_; }

  // Goes through what observations below `young` showed, whose other views have come by now: counts what
  // matters no more, and keeps to the caps.
  void Settle(const CallLog& log, const Pairing& pairing, uint32_t young);
  // Sets `kept` for the observations that are referred to, and their other views.
  void Mark(const Pairing& pairing, std::vector<bool>& kept) const;
  // CallLog::Keep() and RangeTable::Keep() were done; `ranges` is empty if the latter was not.
  void Renumber(const std::vector<uint32_t>& observations, const std::vector<uint32_t>& ranges);
  void MarkRanges(std::vector<bool>& used) const;
  void MarkRegions(std::unordered_set<RegionVersion, RegionVersionHash>& regions) const;
  const std::vector<StoreAsk>& store_asks() const { return store_asks_; }
  // What was read near the holes of scans is kept; of other places only what came last.
  const std::vector<ReadRange>& reads() const { return reads_; }
  // Not all questions after stores, not all that was read near a hole is there any more: no proof by absence.
  bool store_asks_dropped() const { return store_asks_dropped_ != 0; }
  bool reads_dropped() const { return reads_dropped_ != 0; }

 private:
  void NoteStoreAsk(const CallLog& log, uint32_t index, const CallRecord& call);
  void NoteReads(const CallLog& log, uint32_t index, const CallRecord& call);
  void DropReads(const RangeTable& ranges);
  void SettleSetbacks(const Pairing& pairing, uint32_t young);
  void SettleComplaints(const CallLog& log, const Pairing& pairing, uint32_t young);

  void AddError(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call,
                const ErrorFact& error);
  void CheckRequest(const CallLog& log, uint32_t index, const CallRecord& call);
  void AddComplaint(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call,
                    const ErrorFact& error);
  void CheckPdAnswer(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call);
  void CheckScan(RangeTable& ranges, uint32_t index, const CallRecord& call, uint32_t first_statement);
  void CheckQuery(RangeTable& ranges, uint32_t index, const CallRecord& call, uint32_t first_statement);
  void AddFault(RangeTable& ranges, uint32_t index, uint32_t n, const RegionStatement& s,
                FaceFault::Kind kind, Bytes key);

  const size_t most_complaints_;
  std::vector<Complaint> complaints_;
  std::vector<FaceFault> face_faults_;
  std::vector<Setback> setbacks_;
  std::vector<OddRequest> odd_requests_;
  std::map<std::string, uint64_t> benign_;
  uint64_t complaints_over_cap_ = 0;
  std::vector<StoreAsk> store_asks_;
  std::vector<ReadRange> reads_;
  uint64_t store_asks_dropped_ = 0;
  uint64_t reads_dropped_ = 0;
  uint64_t others_over_cap_ = 0;
  uint64_t signs_ = 0;
};

// The name under which the setback is counted if nothing else comes of it.
std::string BenignName(const Setback& setback);

// The range between two regions of a scan's answer that it leaves out. Only of kHole and kQuietHole.
Range HoleOf(const RangeTable& ranges, const FaceFault& fault);

bool IsRangeComplaint(ErrorKind kind);

}  // namespace keytrail::correlate
