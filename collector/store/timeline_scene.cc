#include "collector/store/timeline_scene.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "collector/store/timeline_marks.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// Ids in one statement.
constexpr size_t kIdsAtOnce = 500;

}  // namespace

TimelineScene::TimelineScene(const TimelineSql& sql, const TimelinePlaces& places, const Verdict* verdict,
                             std::map<uint64_t, std::vector<TimelineMark>> marks)
    : sql_(sql), places_(places), verdict_(verdict), marks_(std::move(marks)) {}

Status TimelineScene::Observe(const std::vector<uint64_t>& ids, bool asked_for) {
  for (size_t begin = 0; begin < ids.size(); begin += kIdsAtOnce) {
    const auto first = ids.begin() + static_cast<ptrdiff_t>(begin);
    const auto last = ids.begin() + static_cast<ptrdiff_t>(std::min(ids.size(), begin + kIdsAtOnce));
    const Status read = Observe(IdsOfList(std::vector<uint64_t>(first, last)), {}, asked_for);
    if (!read.ok()) return read;
  }
  return Done{};
}

Status TimelineScene::Observe(const std::string& ids, const std::vector<TimelineWindow>& windows,
                              bool asked_for) {
  return sql_(
      ObservationsSql(ids, windows, places_), [](const Store::QueryColumns&) {},
      [&](const auto& values) {
        Keep(SqlRow(values), asked_for);
        return true;
      });
}

void TimelineScene::Keep(const SqlRow& row, bool asked_for) {
  if (by_id_.contains(row.Number(0))) return;
  if (seen_.size() >= limits::kMaxTimelineObservations) {
    ++unread_;
    return;
  }
  SeenObservation s;
  TimelineObservation& o = s.brief;
  o.call_id = row.Number(0);
  o.agent = static_cast<uint32_t>(row.Number(1));
  TimelinePlaces::Ends ends = places_.TrueEnds({row.Text(2), row.Text(3), row.Text(4), row.Text(5)});
  o.client = std::move(ends.client);
  s.client_address = std::move(ends.client_address);
  o.server = std::move(ends.server);
  s.server_address = std::move(ends.server_address);
  o.loopback = IsLoopbackText(s.client_address) || IsLoopbackText(s.server_address);
  o.kind = row.Number(7);
  o.stream = row.Number(8);
  o.request_id = row.OptionalNumber(9);
  s.own = {row.OptionalSigned(10), row.OptionalSigned(11), row.OptionalSigned(12), row.OptionalSigned(13)};
  o.req_bytes = row.Number(14);
  o.resp_bytes = row.Number(15);
  o.refused = row.Number(16) != 0;
  o.asked_for = asked_for;
  o.request_seen = s.own.req_first.has_value();
  o.on_reference = places_.clocks().Related(places_.ObserverName(o.agent));
  o.first_ns = Corrected(o.agent, s.own.First());
  by_id_[o.call_id] = seen_.size();
  seen_.push_back(std::move(s));
}

std::optional<int64_t> TimelineScene::Corrected(uint32_t agent, std::optional<int64_t> own) const {
  if (!own) return own;
  return places_.clocks().ToReference(places_.ObserverName(agent), *own).value_or(*own);
}

void TimelineScene::Pair() {
  std::vector<TimelineObservation> brief;
  brief.reserve(seen_.size());
  for (const SeenObservation& s : seen_) brief.push_back(s.brief);
  calls_ = PairViews(brief);
  Index();
}

void TimelineScene::Index() {
  call_of_.clear();
  for (size_t c = 0; c < calls_.size(); ++c) {
    for (const size_t v : calls_[c]) call_of_[seen_[v].brief.call_id] = c;
  }
}

void TimelineScene::Drop(const std::vector<uint64_t>& ids) {
  const std::set<uint64_t> dropped(ids.begin(), ids.end());
  std::erase_if(calls_, [&](const std::vector<size_t>& call) {
    return std::all_of(call.begin(), call.end(),
                       [&](size_t v) { return dropped.contains(seen_[v].brief.call_id); });
  });
  Index();
}

std::optional<size_t> TimelineScene::CallOf(uint64_t call_id) const {
  const auto it = call_of_.find(call_id);
  return it == call_of_.end() ? std::nullopt : std::optional(it->second);
}

TimelineScene::Side TimelineScene::SideOf(const SeenObservation& s) const {
  const std::string& own = places_.AddressOf(s.brief.agent);
  const auto is_own = [&](const std::string& address) {
    return !own.empty() && (address == own || IsLoopbackText(address));
  };
  // Of a host that talks to itself there is one view, and it is as near to the client as to the server.
  if (is_own(s.client_address)) return Side::kClient;
  return is_own(s.server_address) ? Side::kServer : Side::kBetween;
}

const SeenObservation& TimelineScene::Best(size_t call) const {
  const SeenObservation* best = nullptr;
  for (const size_t v : calls_[call]) {
    if (best == nullptr || SideOf(seen_[v]) < SideOf(*best)) best = &seen_[v];
  }
  return *best;
}

std::optional<int64_t> TimelineScene::AskedAt(size_t call) const {
  const SeenObservation& s = Best(call);
  return Corrected(s.brief.agent, s.own.First());
}

std::optional<int64_t> TimelineScene::AnsweredAt(size_t call) const {
  const SeenObservation& s = Best(call);
  return Corrected(s.brief.agent, s.own.Answered());
}

bool TimelineScene::Refused(size_t call) const {
  return std::any_of(calls_[call].begin(), calls_[call].end(),
                     [&](size_t v) { return seen_[v].brief.refused; });
}

bool TimelineScene::AskedFor(size_t call) const {
  return std::any_of(calls_[call].begin(), calls_[call].end(),
                     [&](size_t v) { return seen_[v].brief.asked_for; });
}

std::vector<TimelineMark> TimelineScene::Marks(size_t call) const {
  std::vector<TimelineMark> all;
  for (const size_t v : calls_[call]) {
    const auto it = marks_.find(seen_[v].brief.call_id);
    if (it == marks_.end()) continue;
    for (const TimelineMark& m : it->second) JoinMark(all, m);
  }
  return all;
}

TimelineScene::Rank TimelineScene::RankOf(size_t call) const {
  if (verdict_ != nullptr) {
    for (const size_t v : calls_[call]) {
      for (const Evidence& e : verdict_->evidence) {
        if (e.call_id == seen_[v].brief.call_id) return kEvidence;
      }
    }
  }
  const std::vector<TimelineMark> marks = Marks(call);
  if (std::any_of(marks.begin(), marks.end(), [](const TimelineMark& m) { return m.guilty; })) return kGuilty;
  return Refused(call) ? kRefused : kOther;
}

std::vector<size_t> TimelineScene::Ordered() const {
  std::vector<std::tuple<Rank, int64_t, uint64_t, size_t>> keyed;
  for (size_t c = 0; c < calls_.size(); ++c) {
    const SeenObservation& s = seen_[calls_[c].front()];
    keyed.emplace_back(RankOf(c), AskedAt(c).value_or(std::numeric_limits<int64_t>::min()), s.brief.call_id,
                       c);
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<size_t> order;
  for (const auto& k : keyed) order.push_back(std::get<3>(k));
  return order;
}

}  // namespace keytrail
