// What was told before a refused request, and what its client did afterwards.

#include <algorithm>
#include <limits>

#include "collector/store/timeline_details.h"
#include "collector/store/timeline_scene.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// Followers of one refusal that are looked at: the first look-up and the first retry are what counts.
constexpr size_t kMostFollowers = 64;

void NoColumns(const Store::QueryColumns&) {}

class ChainReader {
 public:
  explicit ChainReader(TimelineScene& scene) : scene_(scene) {}

  Result<TimelineChains> Read() {
    for (const auto step : {&ChainReader::FindRefusals, &ChainReader::Follow, &ChainReader::FindRoutes}) {
      const Status status = (this->*step)();
      if (!status.ok()) return Error{status.error()};
      if (refusals_.empty()) break;
    }
    return std::move(out_);
  }

 private:
  Status FindRefusals() {
    scene_.Pair();
    std::vector<size_t> refused;
    for (const size_t c : scene_.Ordered()) {
      if (!scene_.Refused(c) || refused.size() == limits::kMaxTimelineChains) continue;
      // A witness's own troubles are another story.
      const std::vector<TimelineMark> marks = scene_.Marks(c);
      const auto is_witness = [](const TimelineMark& m) { return m.label == "witness"; };
      if (scene_.verdict() != nullptr && std::all_of(marks.begin(), marks.end(), is_witness)) continue;
      refused.push_back(c);
    }
    for (const size_t c : refused) ids_.push_back(scene_.Best(c).brief.call_id);
    Result<std::map<uint64_t, TimelineCall>> details = ReadTimelineDetails(ids_, scene_.sql());
    if (!details) return Error{details.error()};
    for (size_t n = 0; n < refused.size(); ++n) AddRefusal(n, refused[n], (*details)[ids_[n]]);
    for (const Refusal& r : refusals_) out_.searched.push_back(ids_[r.number]);
    return Done{};
  }

  void AddRefusal(size_t number, size_t call, const TimelineCall& details) {
    const SeenObservation& s = scene_.Best(call);
    const TimelinePlaces& places = scene_.places();
    Refusal r;
    r.number = number;
    r.client_address = s.client_address;
    r.agents = places.AgentsAt(places.EndOf(s.brief.client, s.client_address, s.brief.agent).address);
    if (r.agents.empty()) r.agents = places.agents();
    r.asked_ns = scene_.AskedAt(call);
    r.answered_ns = scene_.AnsweredAt(call).value_or(r.asked_ns.value_or(0));
    r.method = details.method;
    r.command = details.command;
    r.start_ts = details.start_ts;
    r.region_id = details.region_id.value_or(0);
    r.version = details.version;
    for (const TimelineError& e : details.errors) {
      if (r.key.empty() && e.key) r.key = *e.key;
      if (r.key.empty() && e.range_start) r.key = *e.range_start;
    }
    if (r.key.empty() && !details.keys.empty()) r.key = details.keys.front().start;
    if (!r.method.empty() && !r.agents.empty()) refusals_.push_back(std::move(r));
  }

  Status Follow() {
    struct Next {
      std::optional<uint64_t> lookup;
      std::optional<uint64_t> retry;
      size_t rows = 0;
    };
    std::map<size_t, Next> next;
    const Status read =
        scene_.sql()(FollowersSql(refusals_, scene_.places()), NoColumns, [&](const auto& values) {
          const SqlRow row(values);
          Next& n = next[row.Number(0)];
          // The refused call itself begins before its answer; damaged stamps may say otherwise.
          if (n.rows++ >= kMostFollowers || row.Number(1) == ids_[row.Number(0)]) return true;
          std::optional<uint64_t>& slot = row.Number(3) != 0 ? n.lookup : n.retry;
          // After the retry nothing more is asked on its behalf.
          if (!slot && !n.retry) slot = row.Number(1);
          return true;
        });
    if (!read.ok()) return read;
    std::vector<uint64_t> fresh;
    for (const auto& [number, n] : next) {
      const uint64_t refused = ids_[number];
      if (n.lookup) out_.links.push_back({TimelineLink::Kind::kAsk, refused, *n.lookup, 0});
      if (n.lookup && n.retry) out_.links.push_back({TimelineLink::Kind::kRoute, *n.lookup, *n.retry, 0});
      if (n.retry) out_.links.push_back({TimelineLink::Kind::kRetry, refused, *n.retry, 0});
      for (const auto& id : {n.lookup, n.retry}) {
        if (id) fresh.push_back(*id);
      }
    }
    return scene_.Observe(fresh, true);
  }

  struct Told {
    int64_t at = std::numeric_limits<int64_t>::min();
    uint64_t call_id = 0;
    uint64_t statement_id = 0;
  };

  // The last route that the client was told before it sent the refused request.
  Status FindRoutes() {
    std::map<size_t, Told> told;
    std::map<size_t, const Refusal*> by_number;
    for (const Refusal& r : refusals_) by_number[r.number] = &r;
    const Status read = scene_.sql()(RoutesToldSql(refusals_), NoColumns, [&](const auto& values) {
      const SqlRow row(values);
      const auto it = by_number.find(row.Number(0));
      if (it == by_number.end() || row.Null(3) || !it->second->asked_ns) return true;
      const Refusal& r = *it->second;
      const auto agent = static_cast<uint32_t>(row.Number(2));
      // A loopback client is told apart by who saw it.
      const bool own = std::find(r.agents.begin(), r.agents.end(), agent) != r.agents.end();
      if (IsLoopbackText(r.client_address) && !own) return true;
      const int64_t at = *scene_.Corrected(agent, row.Signed(3));
      Told& t = told[r.number];
      if (at <= *r.asked_ns && at > t.at) t = {at, row.Number(1), row.Number(4)};
      return true;
    });
    if (!read.ok()) return read;
    if (scene_.verdict() != nullptr) FollowVerdict(told);
    std::vector<uint64_t> fresh;
    for (const auto& [number, t] : told) {
      if (t.call_id == 0 || t.call_id == ids_[number]) continue;
      out_.links.push_back({TimelineLink::Kind::kRoute, t.call_id, ids_[number], t.statement_id});
      fresh.push_back(t.call_id);
    }
    return scene_.Observe(fresh, true);
  }

  // Of the evidence's own refusal the verdict names the route.
  void FollowVerdict(std::map<size_t, Told>& told) const {
    const Evidence* said = nullptr;
    for (const Evidence& e : scene_.verdict()->evidence) {
      if (e.label == "said" && e.statement_id != 0 && said == nullptr) said = &e;
      const std::optional<size_t> call = scene_.CallOf(e.call_id);
      if (e.label != "used" || said == nullptr || !call) continue;
      const auto it = std::find(ids_.begin(), ids_.end(), scene_.Best(*call).brief.call_id);
      if (it == ids_.end()) continue;
      told[static_cast<size_t>(it - ids_.begin())] = {said->ref_ns, said->call_id, said->statement_id};
    }
  }

  TimelineScene& scene_;
  std::vector<uint64_t> ids_;  // of refused calls, by Refusal::number
  std::vector<Refusal> refusals_;
  TimelineChains out_;
};

}  // namespace

Result<TimelineChains> ReadTimelineChains(TimelineScene& scene) {
  return ChainReader(scene).Read();
}

}  // namespace keytrail
