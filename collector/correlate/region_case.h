// All that anybody said of one (region, version), and what follows from it: which range is true, who
// contradicts himself, whose statement came from whom.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "collector/correlate/scene.h"

namespace keytrail::correlate {

// One time that a statement was made, seen by one or two agents.
struct Telling {
  uint32_t logical = kNone;
  uint32_t observation = kNone;  // the speaker's side if it was seen there
  uint32_t index = 0;            // n-th statement of that call
  int64_t ref_ns = kNoTime;      // when it was said
};

// One distinct statement over all agents.
struct Said {
  uint32_t range = kNone;
  StatementSource source = StatementSource::kUnknown;
  uint32_t speaker = kNone;  // endpoint (the lowest, if there are several of one machine)
  uint32_t speaker_host = kNone;
  uint32_t listener_host = kNone;
  uint64_t count = 0;
  std::vector<Telling> tellings;  // in time order, capped
};

// A complaint with the best view of its call.
struct CaseComplaint {
  const Complaint* complaint = nullptr;
  uint32_t logical = kNone;
  bool elsewhere = false;  // the store was at another version: its bounds are not this version's
};

// A key that a server answered although it says that the region does not hold it.
struct ServedOutside {
  std::string key;
  uint32_t observation = kNone;
  uint32_t server = kNone;  // endpoint
  uint32_t range = kNone;   // the statement that it breaks
};

struct RegionCase {
  RegionVersion region;
  std::vector<Said> said;
  std::vector<CaseComplaint> complaints;
  std::set<uint32_t> pd_ranges;        // that PD answered
  std::set<uint32_t> reported_ranges;  // that a store told PD
  std::set<uint32_t> tikv_ranges;      // that a store stated to anybody, complaints included
  std::set<uint32_t>
      against_report;  // that PD answered and no store told it, well after one had told it another
  std::vector<ServedOutside> served_outside;
  // PD's own answers differ in a way that no store's report explains: two ranges that no store told it, or
  // one after it had answered another. A single such range may come from a report before the capture.
  bool pd_contradicts = false;
  bool tikv_contradicts = false;  // statements of stores differ, or a store served what it says it lacks
  // Machines of stores that do so each by itself. One store's contradiction is not another's, though a region
  // was on both.
  std::set<uint32_t> contradicting_stores;
  std::optional<uint32_t> truth;

  // PD answered it and no store told it so.
  bool PdInvented(uint32_t range) const {
    return pd_ranges.contains(range) && !reported_ranges.contains(range);
  }
  bool Disputed() const { return tikv_contradicts || !OneRange(); }
  bool OneRange() const;
  // The truth is known, and not from PD alone.
  bool StoresKnow() const { return truth && tikv_ranges.contains(*truth); }
};

// Knows all statements by place, to find neighbours that cannot exist beside a range.
class NeighbourIndex {
 public:
  explicit NeighbourIndex(const Scene& scene);
  // A region that PD's own words put into PD's tree at the same time as `region`, every range of which
  // overlaps `range`: the tree never holds two regions of one place, so PD contradicts itself. (Unless a
  // store reported the region anew in between, which puts it back.) Versions prove nothing here: a store may
  // give the new half of a split a version of its own (unistore does).
  std::optional<RegionVersion> Refutes(const RegionVersion& region, const Range& range) const;
  // A region that overlaps `hole` by all that was said of it, and that PD is known to have held both before
  // and after the call `lookup` (an observation): it was told it, or answered it itself.
  std::optional<RegionVersion> KnownAround(const Range& hole, uint32_t lookup) const;
  // How many other regions that were spoken of while `region` was are overlapped by `range` whatever was said
  // of them. Not proof; tells the likelier of several ranges that PD gave.
  size_t Conflicts(const RegionVersion& region, const Range& range) const;
  // Regions that hold `key` by all that was said of them, and regions that do so by some of it.
  struct Holders {
    std::set<RegionVersion> by_all;
    std::set<RegionVersion> by_some;
  };
  Holders HoldersOf(const std::string& key) const;
  // ... the key that the complaint is about; none if it is about more than one. (A single key is looked up by
  // itself, others are grouped by the region of the one before.)
  Holders HoldersOf(const Complaint& complaint) const;
  // Regions from which a store answered, by this command, keys at or below and at or above `key`: by its own
  // deeds they hold it, as far as nobody stated otherwise. For when no statement was seen.
  std::set<RegionVersion> ServersOf(const std::string& key, uint16_t method, uint16_t command) const;

 private:
  struct Place {
    std::string start;
    std::string end;
    RegionVersion region;
  };
  // When PD can last have known a region before, and first after, by its answers.
  struct Answer {
    int64_t asked_ref_ns = 0;  // for sorting; equal ones by the call's number
    uint64_t call_id = 0;
    Event asked;
    Event answered;
  };
  struct Moments {
    std::vector<Answer> answers;  // in time order
    std::vector<Event> reports;   // stores told PD of it
    bool all_reports = true;      // not only the first and last ones
  };
  // PD answered with `a` both before `b` was asked for and after it was answered: it held both.
  bool HeldAround(const Moments& a, const Moments& b) const;
  template <typename F>
  void ForEachOverlap(const Range& range, F visit) const;
  bool OverlapsAll(const RegionVersion& other, const Range& range) const;
  Moments PdMoments(const RegionVersion& region) const;
  bool MayBeDropped(const RegionVersion& region, const Range& range, const Event& from,
                    const Event& to) const;
  std::pair<int64_t, int64_t> Spoken(const RegionVersion& region) const;

  const Scene& scene_;
  struct ServedPlace {
    std::string low;
    std::string high;
    RegionVersion region;
    uint16_t method = 0;
    uint16_t command = 0;
  };
  std::vector<Place> places_;        // by start
  std::vector<ServedPlace> served_;  // by low
  bool one_pd_ = true;               // times of several PDs prove nothing about one tree
};

// Builds the case of `region` and draws the conclusions. `complaints` are those of this (region, version).
RegionCase BuildCase(const Scene& scene, const NeighbourIndex& neighbours, const RegionVersion& region,
                     std::vector<CaseComplaint> complaints);

}  // namespace keytrail::correlate
