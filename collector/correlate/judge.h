// The rules of the decision table (tidb-wire.md section 6) over a scene: causes, each with what shows it.
//
// README.md of this room says each rule as it is implemented here.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "collector/correlate/history.h"
#include "collector/correlate/region_case.h"
#include "collector/correlate/report_model.h"
#include "collector/correlate/requests_around.h"
#include "collector/correlate/route_cache.h"
#include "collector/correlate/scene.h"

namespace keytrail::correlate {

// A statement at one of its times.
struct ToldAt {
  const Said* said = nullptr;
  Telling telling;
};

// Why a component is blamed: decides the sentence.
enum class Reason : uint8_t {
  kPdWrongRange,         // PD said a range that is not the region's
  kPdContradictsItself,  // ... and which of its answers is wrong cannot be told
  kPdFaceFault,          // PD's answer does not fit its own question
  kTidbOutsideRoute,     // the client knew the range and asked for a key outside of it
  kTidbMalformed,        // an inverted range
  kTidbUnsorted,         // ranges that overlap or are not in order
  kTidbTwice,            // one request names a region twice for overlapping ranges
  kTidbReset,            // a key outside of the route, and the connection was reset instead of an answer
  kTidbKeptOld,          // it was told a newer version on the same connection, and used the old one
  kTidbKnewBetter,       // its own requests show that its cache held the right route
  kTidbNeverTold,        // nobody told the client that the region holds the key
  kTikvNarrow,           // the store refused a key that the region holds
  kTikvInsideBounds,     // ... by bounds that hold the key
  kTikvToldWrong,        // the store stated a range that is not the region's
  kTikvContradictsItself,
  kTikvServedOutside,   // the store answered a key that it says the region does not hold
  kTikvEpochUnchecked,  // the store was at another version itself, and should have said so first
  kTikvLag,             // the store is behind for longer than it may be
  kTikvWentBack,        // the store reported an older version again, and PD believed it
  kPdStale,             // PD answers an older version than it was told
  kPdWentBack,          // ... than it had answered itself
  kPdOldAddress,        // PD sends clients that are new to an address where another store lives
  kTidbReadAround,      // it read both sides of a hole that PD's answer left, and not the hole
  kUndecided,
};

struct Cause {
  bool decided = true;
  Component component = Component::kTidb;
  std::vector<Component> suspects;
  std::string rule;
  Reason reason = Reason::kUndecided;
  uint32_t client_host = kNone;
  uint32_t server = kNone;  // endpoint
  RegionVersion region;
  const RegionCase* region_case = nullptr;
  bool certain = false;
  std::set<std::string> weakened;
  std::set<std::string> missing;
  uint32_t told_range = kNone;   // the wrong one that was used
  uint32_t right_range = kNone;  // what it should have been; kNone if that is not known
  std::vector<CaseComplaint> complaints;
  std::vector<ToldAt> wrong;  // wrong statements
  std::vector<const FaceFault*> faults;
  std::vector<ServedOutside> served;
  std::optional<ToldAt> neighbour;  // a statement about another region or version that refutes it
  RegionVersion neighbour_region;
  const FaceFault* hole = nullptr;          // of kTidbReadAround: the answer that has it
  std::optional<CaseComplaint> other_side;  // ... and the first read behind it
  uint64_t store_looked_for = 0;            // of kPdOldAddress
  uint64_t store_there = 0;
};

// A loss that can hide an answer: all but the kinds that are known not to (payloads, sampled timestamps).
bool HidesMessages(const std::string& kind, uint64_t count);

class Judge {
 public:
  Judge(const Scene& scene, const Graces& graces);
  // Fills causes(); they and their cases live as long as the judge.
  void Run();
  const std::vector<const Cause*>& causes() const { return sorted_; }
  const std::map<std::string, uint64_t>& benign() const { return benign_; }
  uint64_t complaint_count() const { return complaint_count_; }

  // How the client's region cache came to the route of this request.
  std::optional<RouteOrigin> OriginOf(const RegionVersion& region, uint32_t client_host,
                                      uint32_t logical) const;
  // Statements about the region that reached the client's machine before the request, newest first.
  std::vector<ToldAt> ToldBefore(const RegionCase& c, uint32_t client_host, uint32_t logical) const;

 private:
  struct Blame {
    bool decided = true;
    Component component = Component::kTidb;
    std::vector<Component> suspects;
    const char* rule = "";
    Reason reason = Reason::kUndecided;
    bool certain = true;
    uint32_t told_range = kNone;
    uint32_t right_range = kNone;  // the case's truth unless set
    uint32_t server = kNone;       // the complaint's unless set
    // Undecided only because captures lost something: enough of them decide together.
    bool only_losses = false;
    std::vector<std::string> weakened;
    std::vector<std::string> missing;
  };

  void BuildCases();
  void JudgeComplaints();
  const RegionCase* CaseOf(const RegionVersion& region) const;
  Blame JudgeComplaint(const RegionCase& c, const CaseComplaint& k) const;
  Blame JudgeDispute(const RegionCase& c, const CaseComplaint& k, const std::vector<ToldAt>& holding,
                     const std::vector<Item>& items) const;
  // The store that refuses, by its own words or deeds about that version.
  bool ContradictsItself(const RegionCase& c, const Complaint& complaint) const;
  static Blame StoresDiffer(const char* rule);
  const Said* StoreThatSaid(const RegionCase& c, const std::vector<Item>& items) const;
  Blame JudgeOutsideRoute(const RegionCase& c, const CaseComplaint& k, const std::vector<Item>& items) const;
  Blame JudgeWithoutRoute(const RegionCase& c, const CaseComplaint& k, const std::vector<Item>& items) const;
  std::optional<Blame> BlamePd(const RegionCase& c, uint32_t range, uint32_t bounds) const;
  // The client sent other requests to the region that does hold the key, on the same connection before and
  // after, and nobody told it anything about that place in between: its cache held the right route.
  bool KnewBetter(const CaseComplaint& k) const;
  // Between the requests `from` and `to`, or nearly, or at a time that cannot be told from that.
  bool ToldBetween(const RegionVersion& region, uint32_t client_host, uint32_t from, uint32_t to) const;
  bool AnsweredWithoutItsKey(const CaseComplaint& k, const std::vector<Item>& items) const;
  void JudgeStatements(const RegionCase& c);
  void JudgeFaceFaults();
  void JudgeSetbacks();
  // Rules 7, 8 and 10: who goes on for too long by what it should know better (versions.cc).
  void JudgeVersions();
  void JudgeRelapses();
  void JudgeLag();
  void JudgeKeptOld();
  void JudgeOddRequests();
  // Rules 11 and 13 (reach.cc).
  void JudgeAddresses();
  void JudgeHoles();
  void JudgeHole(const FaceFault& fault);
  void DoubtMixedClusters();
  const RegionCase& CaseFor(const RegionVersion& region);
  std::optional<ToldAt> AsTold(const RegionVersion& region, const Mention& mention);
  // A region that PD knew before and after the answer, and left out of it.
  std::optional<ToldAt> LeftOut(const FaceFault& fault, RegionVersion& region);
  CaseComplaint MakeComplaint(const Setback& setback);
  void SortByTime(std::vector<const Setback*>& setbacks) const;
  // PD's statement about a neighbour that leaves no room for the range that the cause is about.
  void FindRefutingNeighbour(Cause& cause);
  Cause& CauseFor(const RegionCase& c, const Blame& blame, uint32_t client_host, uint32_t server);
  // The verdict that other signs of the same fault belong to.
  Cause* PdCauseOf(uint32_t client_host, const RegionVersion& region);
  Cause* TikvCauseOf(uint32_t server, const RegionVersion& region, uint32_t client_host);
  void Sort();

  // Words for what hides the answers that gave a client its route; empty if nothing does.
  std::vector<std::string> NotCovered(uint32_t client_host, uint32_t server_host) const;
  std::vector<std::string> Unread(uint32_t client_host) const;
  std::vector<std::string> Lost(uint32_t client_host, uint32_t logical) const;
  // Words for what may hide a request that this client sent to anybody; empty if nothing does.
  std::vector<std::string> RequestsHidden(uint32_t client_host) const;
  // Words for what the ledger had no room for.
  std::string Forgotten() const;
  // No capture on this machine, or one that lost messages.
  bool Lossy(uint32_t host) const;
  // Words for what may hide a message from `host` to `other` or back; empty if one of them saw all.
  std::vector<std::string> MayHide(uint32_t host, uint32_t other) const;
  // Words for what may hide a store's report to this PD.
  std::vector<std::string> ReportsHidden(uint32_t pd_host) const;
  bool WholeLifeSeen(uint32_t client_host) const;
  std::string HostText(uint32_t host) const;
  uint32_t ServingEndpoint(uint32_t host, uint32_t otherwise) const;

  const Scene& scene_;
  const Graces graces_;
  std::unique_ptr<NeighbourIndex> neighbours_;
  VersionHistory history_;
  // Complaints that are none by their text: refusals by version, requests that were not answered.
  std::deque<Complaint> made_complaints_;
  mutable std::map<uint32_t, RouteCache> route_caches_;  // by client, made when they are asked for
  std::map<RegionVersion, RegionCase> cases_;
  std::map<std::string, Cause> causes_;  // by everything that groups
  std::map<RegionVersion, std::vector<Cause*>> causes_of_region_;
  std::map<RegionVersion, std::vector<const FaceFault*>> faults_of_region_;
  std::unique_ptr<RequestsAround> around_;
  std::vector<const Cause*> sorted_;
  std::map<std::string, uint64_t> benign_;
  uint64_t complaint_count_ = 0;
};

}  // namespace keytrail::correlate
