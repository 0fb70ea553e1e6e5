#include "collector/store/timeline_rows.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <set>
#include <tuple>

#include "collector/store/timeline_details.h"
#include "collector/store/timeline_marks.h"
#include "collector/store/timeline_pairs.h"
#include "collector/store/timeline_select.h"
#include "collector/store/timeline_sql.h"
#include "common/call_record.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::min();
// Views whose other end is looked for in one scan.
constexpr size_t kPartnersAtOnce = 500;
// Followers of one refusal that are remembered: the first look-up and the first retry are what counts.
constexpr size_t kMostFollowers = 64;

// An observation as the database has it, beside its short form.
struct Seen {
  TimelineObservation brief;
  std::string client_address;
  std::string server_address;
  TimelineTimes own;  // observer's clock
};

// Links by calls.id, before it is known which calls are shown.
struct RawLink {
  TimelineLink::Kind kind;
  uint64_t from;
  uint64_t to;
  uint64_t statement_id;
};

class Reader {
 public:
  Reader(const TimelineQuestion& question, const InvestigationReport& report, const TimelineSql& sql,
         TimelinePlaces places)
      : question_(question), report_(report), sql_(sql), places_(std::move(places)) {
    out_.question = question;
    out_.reference = places_.reference();
    out_.hosts = report.hosts;
  }

  Result<Timeline> Read() {
    for (const auto step : {&Reader::FindVerdict, &Reader::ReadAsked, &Reader::ReadChains,
                            &Reader::ReadAround, &Reader::ReadPartners, &Reader::PickAndFill}) {
      const Status status = (this->*step)();
      if (!status.ok()) return Error{status.error()};
    }
    return std::move(out_);
  }

 private:
  Status FindVerdict() {
    const bool one = question_.about == TimelineQuestion::About::kVerdict;
    marks_ = MarksOf(report_, one ? question_.number : 0);
    if (!one) return Done{};
    for (const Verdict& v : report_.verdicts) {
      if (v.id == question_.number) out_.verdict = v;
    }
    if (out_.verdict) return Done{};
    return Error{"no verdict " + std::to_string(question_.number) + ": there " +
                 (report_.verdicts.size() == 1 ? "is 1" : "are " + std::to_string(report_.verdicts.size()))};
  }

  // What the question names itself.
  Status ReadAsked() {
    std::vector<TimelineWindow> windows;
    if (question_.from_ns || question_.to_ns) {
      windows.push_back({question_.from_ns.value_or(kNever / 2),
                         question_.to_ns.value_or(std::numeric_limits<int64_t>::max() / 2)});
    }
    if (!out_.verdict) return Observe(IdsOfQuestion(question_), windows, true);
    std::vector<uint64_t> ids;
    for (const auto& [id, marks] : marks_) ids.push_back(id);
    return ObserveIds(ids, true);
  }

  Status ObserveIds(const std::vector<uint64_t>& ids, bool asked_for) {
    for (size_t begin = 0; begin < ids.size(); begin += kPartnersAtOnce) {
      const auto first = ids.begin() + static_cast<ptrdiff_t>(begin);
      const auto last = ids.begin() + static_cast<ptrdiff_t>(std::min(ids.size(), begin + kPartnersAtOnce));
      const Status read = Observe(IdsOfList(std::vector<uint64_t>(first, last)), {}, asked_for);
      if (!read.ok()) return read;
    }
    return Done{};
  }

  Status Observe(const std::string& ids, const std::vector<TimelineWindow>& windows, bool asked_for) {
    return sql_(
        ObservationsSql(ids, windows, places_), [](const Store::QueryColumns&) {},
        [&](const auto& values) {
          Keep(SqlRow(values), asked_for);
          return true;
        });
  }

  void Keep(const SqlRow& row, bool asked_for) {
    if (by_id_.contains(row.Number(0))) return;
    if (seen_.size() >= limits::kMaxTimelineObservations) {
      ++out_.unread;
      return;
    }
    Seen s;
    TimelineObservation& o = s.brief;
    o.call_id = row.Number(0);
    o.agent = static_cast<uint32_t>(row.Number(1));
    o.client = row.Text(2);
    s.client_address = row.Text(3);
    o.server = row.Text(4);
    s.server_address = row.Text(5);
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

  std::optional<int64_t> Corrected(uint32_t agent, std::optional<int64_t> own) const {
    if (!own) return own;
    return places_.clocks().ToReference(places_.ObserverName(agent), *own).value_or(*own);
  }

  void Pair() {
    std::vector<TimelineObservation> brief;
    brief.reserve(seen_.size());
    for (const Seen& s : seen_) brief.push_back(s.brief);
    calls_ = PairViews(brief);
    call_of_.clear();
    for (size_t c = 0; c < calls_.size(); ++c) {
      for (const size_t v : calls_[c]) call_of_[seen_[v].brief.call_id] = c;
    }
  }

  enum class Side : uint8_t { kClient, kServer, kBetween };
  Side SideOf(const Seen& s) const {
    const std::string& own = places_.AddressOf(s.brief.agent);
    const auto is_own = [&](const std::string& address) {
      return !own.empty() && (address == own || IsLoopbackText(address));
    };
    // Of a host that talks to itself there is one view, and it is as near to the client as to the server.
    if (is_own(s.client_address)) return Side::kClient;
    return is_own(s.server_address) ? Side::kServer : Side::kBetween;
  }

  // The client's view of a call if there is one: what followed is measured by its clock.
  const Seen& Best(size_t call) const {
    const Seen* best = nullptr;
    for (const size_t v : calls_[call]) {
      if (best == nullptr || SideOf(seen_[v]) < SideOf(*best)) best = &seen_[v];
    }
    return *best;
  }
  std::optional<int64_t> AskedAt(size_t call) const {
    const Seen& s = Best(call);
    return Corrected(s.brief.agent, s.own.First());
  }
  std::optional<int64_t> AnsweredAt(size_t call) const {
    const Seen& s = Best(call);
    return Corrected(s.brief.agent, s.own.Answered());
  }
  bool Refused(size_t call) const {
    return std::any_of(calls_[call].begin(), calls_[call].end(),
                       [&](size_t v) { return seen_[v].brief.refused; });
  }
  bool Asked(size_t call) const {
    return std::any_of(calls_[call].begin(), calls_[call].end(),
                       [&](size_t v) { return seen_[v].brief.asked_for; });
  }
  std::vector<TimelineMark> Marks(size_t call) const {
    std::vector<TimelineMark> all;
    for (const size_t v : calls_[call]) {
      const auto it = marks_.find(seen_[v].brief.call_id);
      if (it == marks_.end()) continue;
      for (const TimelineMark& m : it->second) {
        const auto same = std::find_if(all.begin(), all.end(), [&](const TimelineMark& a) {
          return a.verdict == m.verdict && a.on_request == m.on_request;
        });
        if (same == all.end()) {
          all.push_back(m);
        } else {
          same->guilty |= m.guilty;
        }
      }
    }
    return all;
  }

  // 0: evidence of the verdict asked for; 1: marked otherwise; 2: refused; 3: the rest.
  int Rank(size_t call) const {
    if (out_.verdict) {
      for (const size_t v : calls_[call]) {
        for (const Evidence& e : out_.verdict->evidence) {
          if (e.call_id == seen_[v].brief.call_id) return 0;
        }
      }
    }
    const std::vector<TimelineMark> marks = Marks(call);
    if (std::any_of(marks.begin(), marks.end(), [](const TimelineMark& m) { return m.guilty; })) return 1;
    return Refused(call) ? 2 : 3;
  }

  // Positions of calls, the most important first.
  std::vector<size_t> Ordered() const {
    std::vector<std::tuple<int, int64_t, uint64_t, size_t>> keyed;
    for (size_t c = 0; c < calls_.size(); ++c) {
      const Seen& s = seen_[calls_[c].front()];
      keyed.emplace_back(Rank(c), AskedAt(c).value_or(kNever), s.brief.call_id, c);
    }
    std::sort(keyed.begin(), keyed.end());
    std::vector<size_t> order;
    for (const auto& k : keyed) order.push_back(std::get<3>(k));
    return order;
  }

  // What was told before a refused request, and what its client did afterwards.
  Status ReadChains() {
    Pair();
    std::vector<Refusal> refusals;
    std::vector<size_t> refused;
    for (const size_t c : Ordered()) {
      if (!Refused(c) || refused.size() == limits::kMaxTimelineChains) continue;
      // A witness's own troubles are another story.
      const std::vector<TimelineMark> marks = Marks(c);
      if (out_.verdict && std::all_of(marks.begin(), marks.end(),
                                      [](const TimelineMark& m) { return m.label == "witness"; })) {
        continue;
      }
      refused.push_back(c);
    }
    std::vector<uint64_t> ids;
    for (const size_t c : refused) ids.push_back(Best(c).brief.call_id);
    Result<std::map<uint64_t, TimelineCall>> details = ReadTimelineDetails(ids, sql_);
    if (!details) return Error{details.error()};
    for (size_t n = 0; n < refused.size(); ++n) {
      const Seen& s = Best(refused[n]);
      const TimelineCall& d = (*details)[s.brief.call_id];
      Refusal r;
      r.number = n;
      r.client_address = s.client_address;
      r.agents = places_.AgentsAt(places_.EndOf(s.brief.client, s.client_address, s.brief.agent).address);
      if (r.agents.empty()) r.agents = places_.agents();
      r.asked_ns = AskedAt(refused[n]);
      r.answered_ns = AnsweredAt(refused[n]).value_or(r.asked_ns.value_or(0));
      r.method = d.method;
      r.command = d.command;
      r.start_ts = d.start_ts;
      r.region_id = d.region_id.value_or(0);
      r.version = d.version;
      for (const TimelineError& e : d.errors) {
        if (r.key.empty() && e.key) r.key = *e.key;
        if (r.key.empty() && e.range_start) r.key = *e.range_start;
      }
      if (r.key.empty() && !d.keys.empty()) r.key = d.keys.front().start;
      if (!r.method.empty() && !r.agents.empty()) refusals.push_back(std::move(r));
    }
    if (refusals.empty()) return Done{};
    for (const Refusal& r : refusals) followed_.insert(ids[r.number]);
    const Status followed = Follow(refusals, ids);
    return followed.ok() ? FindRoutes(refusals, ids) : followed;
  }

  Status Follow(const std::vector<Refusal>& refusals, const std::vector<uint64_t>& ids) {
    struct Next {
      std::optional<uint64_t> lookup;
      std::optional<uint64_t> retry;
      size_t rows = 0;
    };
    std::map<size_t, Next> next;
    const Status read = sql_(
        FollowersSql(refusals, places_), [](const Store::QueryColumns&) {},
        [&](const auto& values) {
          const SqlRow row(values);
          Next& n = next[row.Number(0)];
          // The refused call itself begins before its answer; damaged stamps may say otherwise.
          if (n.rows++ >= kMostFollowers || row.Number(1) == ids[row.Number(0)]) return true;
          std::optional<uint64_t>& slot = row.Number(3) != 0 ? n.lookup : n.retry;
          // After the retry nothing more is asked on its behalf.
          if (!slot && !n.retry) slot = row.Number(1);
          return true;
        });
    if (!read.ok()) return read;
    std::vector<uint64_t> fresh;
    for (const auto& [number, n] : next) {
      const uint64_t refused = ids[number];
      if (n.lookup) links_.push_back({TimelineLink::Kind::kAsk, refused, *n.lookup, 0});
      if (n.lookup && n.retry) links_.push_back({TimelineLink::Kind::kRoute, *n.lookup, *n.retry, 0});
      if (n.retry) links_.push_back({TimelineLink::Kind::kRetry, refused, *n.retry, 0});
      for (const auto& id : {n.lookup, n.retry}) {
        if (id) fresh.push_back(*id);
      }
    }
    return ObserveIds(fresh, true);
  }

  // The last route that the client was told before it sent the refused request; for the evidence's own
  // refusal the one that the verdict names.
  Status FindRoutes(const std::vector<Refusal>& refusals, const std::vector<uint64_t>& ids) {
    struct Told {
      int64_t at = kNever;
      uint64_t call_id = 0;
      uint64_t statement_id = 0;
    };
    std::map<size_t, Told> told;
    std::map<size_t, const Refusal*> by_number;
    for (const Refusal& r : refusals) by_number[r.number] = &r;
    const Status read = sql_(
        RoutesToldSql(refusals), [](const Store::QueryColumns&) {},
        [&](const auto& values) {
          const SqlRow row(values);
          const auto it = by_number.find(row.Number(0));
          if (it == by_number.end() || row.Null(3) || !it->second->asked_ns) return true;
          const std::vector<uint32_t>& agents = it->second->agents;
          const auto agent = static_cast<uint32_t>(row.Number(2));
          const int64_t at = *Corrected(agent, row.Signed(3));
          // A loopback client is told apart by who saw it.
          if (IsLoopbackText(it->second->client_address) &&
              std::find(agents.begin(), agents.end(), agent) == agents.end()) {
            return true;
          }
          Told& t = told[row.Number(0)];
          if (at <= *it->second->asked_ns && at > t.at) {
            t = {at, row.Number(1), row.Number(4)};
          }
          return true;
        });
    if (!read.ok()) return read;
    if (out_.verdict) {
      const Evidence* said = nullptr;
      for (const Evidence& e : out_.verdict->evidence) {
        if (e.label == "said" && e.statement_id != 0 && said == nullptr) said = &e;
        if (e.label != "used" || said == nullptr || !call_of_.contains(e.call_id)) continue;
        const auto it = std::find(ids.begin(), ids.end(), Best(call_of_[e.call_id]).brief.call_id);
        if (it != ids.end()) {
          told[static_cast<size_t>(it - ids.begin())] = {said->ref_ns, said->call_id, said->statement_id};
        }
      }
    }
    std::vector<uint64_t> fresh;
    for (const auto& [number, t] : told) {
      if (t.call_id == 0 || t.call_id == ids[number]) continue;
      links_.push_back({TimelineLink::Kind::kRoute, t.call_id, ids[number], t.statement_id});
      fresh.push_back(t.call_id);
    }
    return ObserveIds(fresh, true);
  }

  // Calls about the same regions, near what is marked or refused.
  Status ReadAround() {
    if (question_.around_ns <= 0 || question_.about == TimelineQuestion::About::kRegion ||
        question_.about == TimelineQuestion::About::kTime) {
      return Done{};
    }
    Pair();
    std::set<uint64_t> linked;
    for (const RawLink& link : links_) linked.insert({link.from, link.to});
    std::vector<TimelineWindow> windows;
    std::vector<uint64_t> centres;
    for (const size_t c : Ordered()) {
      if (centres.size() == limits::kMaxTimelineChains) break;
      bool centre = Rank(c) < 3 && (!out_.verdict || Rank(c) == 0);
      for (const size_t v : calls_[c]) centre |= linked.contains(seen_[v].brief.call_id);
      const std::optional<int64_t> at = AskedAt(c);
      if (!centre || !at) continue;
      centres.push_back(Best(c).brief.call_id);
      windows.push_back({*at - question_.around_ns, AnsweredAt(c).value_or(*at) + question_.around_ns});
    }
    std::vector<uint64_t> regions;
    if (out_.verdict) {
      regions.push_back(out_.verdict->region_id);
    } else {
      const Result<std::map<uint64_t, TimelineCall>> details = ReadTimelineDetails(centres, sql_);
      if (!details) return Error{details.error()};
      std::set<uint64_t> distinct;
      for (const auto& [id, call] : *details) {
        if (call.region_id) distinct.insert(*call.region_id);
      }
      regions.assign(distinct.begin(), distinct.end());
    }
    if (regions.empty() || windows.empty()) return Done{};
    return Observe(IdsOfRegions(regions), Joined(std::move(windows)), false);
  }

  static std::vector<TimelineWindow> Joined(std::vector<TimelineWindow> windows) {
    std::sort(windows.begin(), windows.end(),
              [](const TimelineWindow& a, const TimelineWindow& b) { return a.from_ns < b.from_ns; });
    std::vector<TimelineWindow> joined;
    for (const TimelineWindow& w : windows) {
      if (joined.empty() || w.from_ns > joined.back().to_ns) {
        joined.push_back(w);
      } else {
        joined.back().to_ns = std::max(joined.back().to_ns, w.to_ns);
      }
    }
    return joined;
  }

  // The other end's view of calls of which the question matched one view only.
  Status ReadPartners() {
    Pair();
    std::vector<const Seen*> alone;
    for (const size_t c : Ordered()) {
      if (alone.size() == question_.most_calls) break;
      if (calls_[c].size() > 1) continue;
      const Seen& s = seen_[calls_[c].front()];
      const Side side = SideOf(s);
      const std::string& opposite = side == Side::kClient ? s.server_address : s.client_address;
      if (side == Side::kBetween || !places_.AgentsAt(opposite).empty()) alone.push_back(&s);
    }
    std::vector<uint64_t> found;
    for (size_t begin = 0; begin < alone.size(); begin += kPartnersAtOnce) {
      const Status read = FindPartners(alone, begin, found);
      if (!read.ok()) return read;
    }
    const Status observed = ObserveIds(found, false);
    if (!observed.ok()) return observed;
    Pair();
    DropStrangers(found);
    return Done{};
  }

  Status FindPartners(const std::vector<const Seen*>& alone, size_t begin, std::vector<uint64_t>& found) {
    std::string rows;
    for (size_t i = begin; i < std::min(alone.size(), begin + kPartnersAtOnce); ++i) {
      const TimelineObservation& o = alone[i]->brief;
      const bool message = o.kind == static_cast<uint64_t>(CallKind::kMessage);
      // Messages have no id: only time tells them apart.
      const int64_t within = message ? 1'000'000'000 : 10'000'000'000;
      for (const uint32_t agent : places_.agents()) {
        if (agent == o.agent || !o.first_ns) continue;
        const int64_t at =
            places_.clocks().FromReference(places_.ObserverName(agent), *o.first_ns).value_or(*o.first_ns);
        rows += (rows.empty() ? "(" : ",(") + std::to_string(agent) + "," + SqlText(o.client) + "," +
                SqlText(o.server) + "," + std::to_string(o.stream) + "," + std::to_string(o.kind) + "," +
                (o.request_id ? SqlNumber(*o.request_id) : "NULL") + "," + std::to_string(at - within) + "," +
                std::to_string(at + within) + ")";
      }
    }
    if (rows.empty()) return Done{};
    return sql_(
        "WITH p(agent, client, server, stream, kind, request, lo, hi) AS (VALUES " + rows +
            ") SELECT DISTINCT c.id FROM call_rows c CROSS JOIN p ON p.stream = c.stream AND p.agent = "
            "c.agent"
            " AND p.kind = c.kind CROSS JOIN connections n ON n.id = c.connection WHERE n.client = p.client"
            " AND n.server = p.server AND c.request_id IS p.request"
            " AND coalesce(c.req_first_ns, c.req_last_ns, c.resp_first_ns, c.resp_last_ns) BETWEEN p.lo AND "
            "p.hi",
        [](const Store::QueryColumns&) {},
        [&](const auto& values) {
          found.push_back(SqlRow(values).Number(0));
          return true;
        });
  }

  // What was read as a possible partner and is none is not what the user asked for.
  void DropStrangers(const std::vector<uint64_t>& candidates) {
    const std::set<uint64_t> possible(candidates.begin(), candidates.end());
    std::erase_if(calls_, [&](const std::vector<size_t>& call) {
      return std::all_of(call.begin(), call.end(),
                         [&](size_t v) { return possible.contains(seen_[v].brief.call_id); });
    });
    call_of_.clear();
    for (size_t c = 0; c < calls_.size(); ++c) {
      for (const size_t v : calls_[c]) call_of_[seen_[v].brief.call_id] = c;
    }
  }

  std::vector<size_t> Pick() {
    out_.found = calls_.size();
    const std::vector<size_t> order = Ordered();
    std::map<size_t, std::vector<size_t>> linked;
    for (const RawLink& link : links_) {
      if (!call_of_.contains(link.from) || !call_of_.contains(link.to)) continue;
      linked[call_of_[link.from]].push_back(call_of_[link.to]);
      linked[call_of_[link.to]].push_back(call_of_[link.from]);
    }
    std::set<size_t> picked;
    std::set<int64_t> centres;
    const auto pick = [&](size_t c) {
      if (picked.size() < question_.most_calls) picked.insert(c);
    };
    for (const size_t c : order) {
      if (Rank(c) == 3) break;
      // A refusal without what led to it and what followed tells little: they come or stay together.
      pick(c);
      if (const std::optional<int64_t> at = AskedAt(c)) centres.insert(*at);
      for (const size_t other : linked[c]) pick(other);
    }
    // The rest by nearness to these; without any the earliest.
    std::vector<std::pair<int64_t, size_t>> rest;
    for (const size_t c : order) {
      if (picked.contains(c)) continue;
      const int64_t at = AskedAt(c).value_or(0);
      int64_t near = centres.empty() ? at : std::numeric_limits<int64_t>::max();
      const auto after = centres.lower_bound(at);
      if (after != centres.end()) near = std::min(near, *after - at);
      if (after != centres.begin()) near = std::min(near, at - *std::prev(after));
      // What a chain consists of and what was asked for goes before the context.
      rest.emplace_back(near, c);
    }
    std::stable_sort(rest.begin(), rest.end(), [&](const auto& a, const auto& b) {
      return std::tuple(!Asked(a.second), a.first) < std::tuple(!Asked(b.second), b.first);
    });
    for (const auto& [near, c] : rest) pick(c);
    out_.left_out = out_.found - picked.size();
    for (size_t c = 0; c < calls_.size(); ++c) {
      if (!picked.contains(c) && Refused(c)) ++out_.refused_left;
    }
    return {picked.begin(), picked.end()};
  }

  Status PickAndFill() {
    const std::vector<size_t> picked = Pick();
    std::vector<uint64_t> ids;
    for (const size_t c : picked) {
      for (const size_t v : calls_[c]) ids.push_back(seen_[v].brief.call_id);
    }
    Result<std::map<uint64_t, TimelineCall>> details = ReadTimelineDetails(ids, sql_);
    if (!details) return Error{details.error()};
    std::vector<std::pair<TimelineCall, size_t>> made;
    for (const size_t c : picked) made.emplace_back(Make(c, *details), c);
    std::stable_sort(made.begin(), made.end(), [](const auto& a, const auto& b) {
      const auto when = [](const TimelineCall& call) {
        const std::optional<int64_t> at = call.view().times.First();
        return std::tuple(!at || !call.view().on_reference, at.value_or(0), call.view().call_id);
      };
      return when(a.first) < when(b.first);
    });
    std::map<size_t, size_t> position;
    for (auto& [call, c] : made) {
      position[c] = out_.calls.size();
      out_.calls.push_back(std::move(call));
    }
    FillLinks(position);
    return Done{};
  }

  TimelineCall Make(size_t c, const std::map<uint64_t, TimelineCall>& details) const {
    const Seen& best = Best(c);
    TimelineCall call;
    if (const auto it = details.find(best.brief.call_id); it != details.end()) call = it->second;
    for (const size_t v : calls_[c]) {
      const Seen& s = seen_[v];
      if (const auto it = details.find(s.brief.call_id); it != details.end() && &s != &best) {
        MergeDetails(it->second, call);
      }
      TimelineView view;
      view.call_id = s.brief.call_id;
      view.agent = s.brief.agent;
      view.observer = places_.ObserverName(s.brief.agent);
      view.on_reference = s.brief.on_reference;
      view.clock_error_ns = places_.clocks().ErrorNs(view.observer, s.own.First().value_or(0));
      const auto corrected = [&](std::optional<int64_t> t) { return Corrected(s.brief.agent, t); };
      view.times = {corrected(s.own.req_first), corrected(s.own.req_last), corrected(s.own.resp_first),
                    corrected(s.own.resp_last)};
      const Side side = SideOf(s);
      std::optional<TimelineView>& place = side == Side::kClient   ? call.at_client
                                           : side == Side::kServer ? call.at_server
                                                                   : call.between;
      if (!place) place = std::move(view);
    }
    call.client = places_.EndOf(best.brief.client, best.client_address, best.brief.agent);
    call.server = places_.EndOf(best.brief.server, best.server_address, best.brief.agent);
    call.refused = Refused(c);
    for (const size_t v : calls_[c]) call.followed |= followed_.contains(seen_[v].brief.call_id);
    call.asked_for = Asked(c);
    call.marks = Marks(c);
    PlaceStatementMarks(c, details, call.marks);
    OrderViews(call);
    return call;
  }

  // A statement is said where it stands: in a report to PD that is the request.
  void PlaceStatementMarks(size_t c, const std::map<uint64_t, TimelineCall>& details,
                           std::vector<TimelineMark>& marks) const {
    for (TimelineMark& mark : marks) {
      if (mark.statement_id == 0) continue;
      for (const size_t v : calls_[c]) {
        const auto it = details.find(seen_[v].brief.call_id);
        if (it == details.end()) continue;
        for (const TimelineStatement& s : it->second.statements) {
          if (s.id == mark.statement_id)
            mark.on_request = s.source == "heartbeat" || s.source == "split_report";
        }
      }
    }
  }

  void FillLinks(const std::map<size_t, size_t>& position) {
    const auto place = [&](uint64_t id) -> std::optional<size_t> {
      const auto call = call_of_.find(id);
      if (call == call_of_.end()) return std::nullopt;
      const auto at = position.find(call->second);
      return at == position.end() ? std::nullopt : std::optional(at->second);
    };
    std::set<std::tuple<TimelineLink::Kind, size_t, size_t>> known;
    for (const RawLink& raw : links_) {
      const std::optional<size_t> from = place(raw.from);
      const std::optional<size_t> to = place(raw.to);
      if (!from || !to || *from == *to || !known.insert({raw.kind, *from, *to}).second) continue;
      uint64_t statement = raw.statement_id;
      if (raw.kind == TimelineLink::Kind::kRoute && statement == 0) {
        // A look-up leads to the retry only if it told the region that the retry went to.
        const TimelineCall& retry = out_.calls[*to];
        for (const TimelineStatement& s : out_.calls[*from].statements) {
          if (retry.region_id == s.region_id && retry.version == s.version) statement = s.id;
        }
        if (statement == 0) continue;
      }
      out_.links.push_back({raw.kind, *from, *to, statement});
    }
    std::sort(out_.links.begin(), out_.links.end(), [](const TimelineLink& a, const TimelineLink& b) {
      return std::tuple(a.to, a.from, a.kind) < std::tuple(b.to, b.from, b.kind);
    });
  }

  const TimelineQuestion& question_;
  const InvestigationReport& report_;
  const TimelineSql& sql_;
  TimelinePlaces places_;
  Timeline out_;
  std::map<uint64_t, std::vector<TimelineMark>> marks_;  // by calls.id
  std::vector<Seen> seen_;
  std::map<uint64_t, size_t> by_id_;
  std::vector<std::vector<size_t>> calls_;  // positions in seen_
  std::map<uint64_t, size_t> call_of_;      // calls.id -> position in calls_
  std::vector<RawLink> links_;
  std::set<uint64_t> followed_;  // refused calls of which it was looked for what came after: calls.id
};

}  // namespace

Result<Timeline> ReadTimeline(const TimelineQuestion& question, const InvestigationReport& report,
                              const TimelineSql& sql) {
  Result<TimelinePlaces> places = TimelinePlaces::Read(sql, report);
  if (!places) return Error{places.error()};
  return Reader(question, report, sql, std::move(*places)).Read();
}

Result<TimelineSpan> ReadTimelineSpan(const TimelineSql& sql) {
  TimelineSpan span;
  const Status read = sql(
      "SELECT min(coalesce(req_first_ns, resp_first_ns)), max(coalesce(req_first_ns, resp_first_ns)) FROM "
      "call_rows",
      [](const Store::QueryColumns&) {},
      [&](const auto& values) {
        span = {SqlRow(values).OptionalSigned(0), SqlRow(values).OptionalSigned(1)};
        return true;
      });
  if (!read.ok()) return Error{read.error()};
  return span;
}

}  // namespace keytrail
