// The observations of a timeline while it is being read: which calls they make, when they were on the
// reference's clock, and what the verdicts say of them.
//
// For timeline_rows.cc, timeline_chains.cc and timeline_partners.cc. A call is a position here; positions
// change with every Pair().
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "collector/store/timeline_model.h"
#include "collector/store/timeline_pairs.h"
#include "collector/store/timeline_places.h"
#include "collector/store/timeline_select.h"
#include "collector/store/timeline_sql.h"

namespace keytrail {

// An observation as the database has it, beside its short form.
struct SeenObservation {
  TimelineObservation brief;
  std::string client_address;
  std::string server_address;
  TimelineTimes own;  // observer's clock
};

class TimelineScene {
 public:
  enum class Side : uint8_t { kClient, kServer, kBetween };

  // All of these must outlive the scene. `verdict`: the one that was asked for, or null.
  TimelineScene(const TimelineSql& sql, const TimelinePlaces& places, const Verdict* verdict,
                std::map<uint64_t, std::vector<TimelineMark>> marks);

  // Reads observations; those that are there already stay as they are. Error: the source's words.
  Status Observe(const std::string& ids_sql, const std::vector<TimelineWindow>& windows, bool asked_for);
  Status Observe(const std::vector<uint64_t>& ids, bool asked_for);
  // Beyond limits::kMaxTimelineObservations.
  uint64_t unread() const { return unread_; }

  // Makes calls of the observations so far.
  void Pair();
  // Leaves out calls all of whose views are among `ids`.
  void Drop(const std::vector<uint64_t>& ids);
  size_t call_count() const { return calls_.size(); }
  const std::vector<size_t>& Views(size_t call) const { return calls_[call]; }
  const SeenObservation& Seen(size_t view) const { return seen_[view]; }
  std::optional<size_t> CallOf(uint64_t call_id) const;

  Side SideOf(const SeenObservation& seen) const;
  // The client's view of a call if there is one: what followed is measured by its clock.
  const SeenObservation& Best(size_t call) const;
  std::optional<int64_t> Corrected(uint32_t agent, std::optional<int64_t> own) const;
  std::optional<int64_t> AskedAt(size_t call) const;
  std::optional<int64_t> AnsweredAt(size_t call) const;
  bool Refused(size_t call) const;
  bool AskedFor(size_t call) const;
  std::vector<TimelineMark> Marks(size_t call) const;

  // Evidence of the verdict that was asked for, wrong statements, refusals, and the rest.
  enum Rank : uint8_t { kEvidence, kGuilty, kRefused, kOther };
  Rank RankOf(size_t call) const;
  // Calls, the most important first, then by time.
  std::vector<size_t> Ordered() const;

  const TimelineSql& sql() const { return sql_; }
  const TimelinePlaces& places() const { return places_; }
  const Verdict* verdict() const { return verdict_; }
  const std::map<uint64_t, std::vector<TimelineMark>>& marks() const { return marks_; }

 private:
  void Keep(const SqlRow& row, bool asked_for);
  void Index();

  const TimelineSql& sql_;
  const TimelinePlaces& places_;
  const Verdict* verdict_;
  std::map<uint64_t, std::vector<TimelineMark>> marks_;  // by calls.id
  std::vector<SeenObservation> seen_;
  std::map<uint64_t, size_t> by_id_;
  std::vector<std::vector<size_t>> calls_;  // positions in seen_
  std::map<uint64_t, size_t> call_of_;      // calls.id -> position in calls_
  uint64_t unread_ = 0;
};

// Links by calls.id, before it is known which calls are shown.
struct TimelineRawLink {
  TimelineLink::Kind kind = TimelineLink::Kind::kRoute;
  uint64_t from = 0;
  uint64_t to = 0;
  uint64_t statement_id = 0;
};

// What led to refused calls and what followed, in timeline_chains.cc.
struct TimelineChains {
  std::vector<TimelineRawLink> links;
  std::vector<uint64_t> searched;  // refused calls of which it was looked for: calls.id
};
// Adds the calls of the chains to the scene.
Result<TimelineChains> ReadTimelineChains(TimelineScene& scene);

// Adds the other end's view of calls of which one view is there, for the `most` first of them at most, and
// pairs (timeline_partners.cc).
Status ReadTimelinePartners(TimelineScene& scene, size_t most);

}  // namespace keytrail
