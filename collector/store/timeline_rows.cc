#include "collector/store/timeline_rows.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "collector/store/timeline_details.h"
#include "collector/store/timeline_marks.h"
#include "collector/store/timeline_scene.h"
#include "collector/store/timeline_select.h"
#include "collector/store/timeline_sql.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// Windows of one statement, over all agents: a row of it each.
constexpr size_t kMostWindows = 1000;

class Reader {
 public:
  Reader(const TimelineQuestion& question, const InvestigationReport& report, TimelineScene& scene)
      : question_(question), scene_(scene) {
    out_.question = question;
    out_.reference = scene.places().reference();
    out_.hosts = report.hosts;
    if (scene.verdict() != nullptr) out_.verdict = *scene.verdict();
  }

  Result<Timeline> Read() {
    for (const auto step : {&Reader::ReadAsked, &Reader::ReadChains, &Reader::ReadAround,
                            &Reader::ReadPartners, &Reader::PickAndFill}) {
      const Status status = (this->*step)();
      if (!status.ok()) return Error{status.error()};
    }
    out_.unread = scene_.unread();
    return std::move(out_);
  }

 private:
  // What the question names itself.
  Status ReadAsked() {
    std::vector<TimelineWindow> windows;
    if (question_.from_ns || question_.to_ns) {
      windows.push_back({question_.from_ns.value_or(std::numeric_limits<int64_t>::min() / 2),
                         question_.to_ns.value_or(std::numeric_limits<int64_t>::max() / 2)});
    }
    if (!out_.verdict) return scene_.Observe(IdsOfQuestion(question_), windows, true);
    std::vector<uint64_t> ids;
    for (const auto& [id, marks] : scene_.marks()) ids.push_back(id);
    return scene_.Observe(ids, true);
  }

  Status ReadChains() {
    Result<TimelineChains> chains = ReadTimelineChains(scene_);
    if (!chains) return Error{chains.error()};
    links_ = std::move(chains->links);
    followed_.insert(chains->searched.begin(), chains->searched.end());
    return Done{};
  }

  // Calls about the same regions, near what is marked or refused.
  Status ReadAround() {
    if (question_.around_ns <= 0 || question_.about == TimelineQuestion::About::kRegion ||
        question_.about == TimelineQuestion::About::kTime) {
      return Done{};
    }
    scene_.Pair();
    std::set<uint64_t> linked;
    for (const TimelineRawLink& link : links_) linked.insert({link.from, link.to});
    std::vector<TimelineWindow> windows;
    std::vector<uint64_t> centres;
    for (const size_t c : scene_.Ordered()) {
      if (centres.size() == limits::kMaxTimelineChains) break;
      bool centre = scene_.RankOf(c) != TimelineScene::kOther &&
                    (!out_.verdict || scene_.RankOf(c) == TimelineScene::kEvidence);
      for (const size_t v : scene_.Views(c)) centre |= linked.contains(scene_.Seen(v).brief.call_id);
      const std::optional<int64_t> at = scene_.AskedAt(c);
      if (!centre || !at) continue;
      centres.push_back(scene_.Best(c).brief.call_id);
      windows.push_back(
          {*at - question_.around_ns, scene_.AnsweredAt(c).value_or(*at) + question_.around_ns});
    }
    std::vector<uint64_t> regions;
    if (out_.verdict) {
      regions.push_back(out_.verdict->region_id);
    } else {
      const Result<std::map<uint64_t, TimelineCall>> details = ReadTimelineDetails(centres, scene_.sql());
      if (!details) return Error{details.error()};
      std::set<uint64_t> distinct;
      for (const auto& [id, call] : *details) {
        if (call.region_id) distinct.insert(*call.region_id);
      }
      regions.assign(distinct.begin(), distinct.end());
    }
    if (regions.empty() || windows.empty()) return Done{};
    const size_t agents = std::max<size_t>(1, scene_.places().agents().size());
    return scene_.Observe(IdsOfRegions(regions),
                          Joined(std::move(windows), std::max<size_t>(1, kMostWindows / agents)), false);
  }

  // Windows that meet become one; of more than `most` those with the least between them do, too.
  static std::vector<TimelineWindow> Joined(std::vector<TimelineWindow> windows, size_t most) {
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
    while (joined.size() > most) {
      size_t at = 1;
      for (size_t i = 2; i < joined.size(); ++i) {
        if (joined[i].from_ns - joined[i - 1].to_ns < joined[at].from_ns - joined[at - 1].to_ns) at = i;
      }
      joined[at - 1].to_ns = joined[at].to_ns;
      joined.erase(joined.begin() + static_cast<ptrdiff_t>(at));
    }
    return joined;
  }

  Status ReadPartners() { return ReadTimelinePartners(scene_, question_.most_calls); }

  std::vector<size_t> Pick() {
    out_.found = scene_.call_count();
    const std::vector<size_t> order = scene_.Ordered();
    std::map<size_t, std::vector<size_t>> linked;
    for (const TimelineRawLink& link : links_) {
      const std::optional<size_t> from = scene_.CallOf(link.from);
      const std::optional<size_t> to = scene_.CallOf(link.to);
      if (!from || !to) continue;
      linked[*from].push_back(*to);
      linked[*to].push_back(*from);
    }
    std::set<size_t> picked;
    std::set<int64_t> centres;
    const auto pick = [&](size_t c) {
      if (picked.size() < question_.most_calls) picked.insert(c);
    };
    for (const size_t c : order) {
      if (scene_.RankOf(c) == TimelineScene::kOther) break;
      // A refusal without what led to it and what followed tells little: they come or stay together.
      pick(c);
      if (const std::optional<int64_t> at = scene_.AskedAt(c)) centres.insert(*at);
      for (const size_t other : linked[c]) pick(other);
    }
    // The rest by nearness to these; without any the earliest.
    std::vector<std::pair<int64_t, size_t>> rest;
    for (const size_t c : order) {
      if (picked.contains(c)) continue;
      const int64_t at = scene_.AskedAt(c).value_or(0);
      int64_t near = centres.empty() ? at : std::numeric_limits<int64_t>::max();
      const auto after = centres.lower_bound(at);
      if (after != centres.end()) near = std::min(near, *after - at);
      if (after != centres.begin()) near = std::min(near, at - *std::prev(after));
      // What a chain consists of and what was asked for goes before the context.
      rest.emplace_back(near, c);
    }
    std::stable_sort(rest.begin(), rest.end(), [&](const auto& a, const auto& b) {
      return std::tuple(!scene_.AskedFor(a.second), a.first) <
             std::tuple(!scene_.AskedFor(b.second), b.first);
    });
    for (const auto& [near, c] : rest) pick(c);
    out_.left_out = out_.found - picked.size();
    for (size_t c = 0; c < scene_.call_count(); ++c) {
      if (!picked.contains(c) && scene_.Refused(c)) ++out_.refused_left;
    }
    return {picked.begin(), picked.end()};
  }

  Status PickAndFill() {
    const std::vector<size_t> picked = Pick();
    std::vector<uint64_t> ids;
    for (const size_t c : picked) {
      for (const size_t v : scene_.Views(c)) ids.push_back(scene_.Seen(v).brief.call_id);
    }
    Result<std::map<uint64_t, TimelineCall>> details = ReadTimelineDetails(ids, scene_.sql());
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
    const SeenObservation& best = scene_.Best(c);
    TimelineCall call;
    if (const auto it = details.find(best.brief.call_id); it != details.end()) call = it->second;
    for (const size_t v : scene_.Views(c)) {
      const SeenObservation& s = scene_.Seen(v);
      if (const auto it = details.find(s.brief.call_id); it != details.end() && &s != &best) {
        MergeDetails(it->second, call);
      }
      TimelineView view;
      view.call_id = s.brief.call_id;
      view.agent = s.brief.agent;
      view.observer = scene_.places().ObserverName(s.brief.agent);
      view.on_reference = s.brief.on_reference;
      view.clock_error_ns = scene_.places().clocks().ErrorNs(view.observer, s.own.First().value_or(0));
      const auto corrected = [&](std::optional<int64_t> t) { return scene_.Corrected(s.brief.agent, t); };
      view.times = {corrected(s.own.req_first), corrected(s.own.req_last), corrected(s.own.resp_first),
                    corrected(s.own.resp_last)};
      const TimelineScene::Side side = scene_.SideOf(s);
      std::optional<TimelineView>& place = side == TimelineScene::Side::kClient   ? call.at_client
                                           : side == TimelineScene::Side::kServer ? call.at_server
                                                                                  : call.between;
      if (!place) place = std::move(view);
    }
    call.client = scene_.places().EndOf(best.brief.client, best.client_address, best.brief.agent);
    call.server = scene_.places().EndOf(best.brief.server, best.server_address, best.brief.agent);
    call.refused = scene_.Refused(c);
    for (const size_t v : scene_.Views(c)) call.followed |= followed_.contains(scene_.Seen(v).brief.call_id);
    call.asked_for = scene_.AskedFor(c);
    call.marks = scene_.Marks(c);
    PlaceStatementMarks(c, details, call.marks);
    OrderViews(call);
    return call;
  }

  // A statement is said where it stands: in a report to PD that is the request.
  void PlaceStatementMarks(size_t c, const std::map<uint64_t, TimelineCall>& details,
                           std::vector<TimelineMark>& marks) const {
    for (TimelineMark& mark : marks) {
      if (mark.statement_id == 0) continue;
      for (const size_t v : scene_.Views(c)) {
        const auto it = details.find(scene_.Seen(v).brief.call_id);
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
      const std::optional<size_t> call = scene_.CallOf(id);
      if (!call) return std::nullopt;
      const auto at = position.find(*call);
      return at == position.end() ? std::nullopt : std::optional(at->second);
    };
    std::set<std::tuple<TimelineLink::Kind, size_t, size_t>> known;
    for (const TimelineRawLink& raw : links_) {
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
  TimelineScene& scene_;
  Timeline out_;
  std::vector<TimelineRawLink> links_;
  std::set<uint64_t> followed_;  // refused calls of which it was looked for what came after: calls.id
};

}  // namespace

Result<Timeline> ReadTimeline(const TimelineQuestion& question, const InvestigationReport& report,
                              const TimelineSql& sql) {
  const Result<TimelinePlaces> places = TimelinePlaces::Read(sql, report);
  if (!places) return Error{places.error()};
  const bool of_verdict = question.about == TimelineQuestion::About::kVerdict;
  const auto verdict = std::find_if(report.verdicts.begin(), report.verdicts.end(),
                                    [&](const Verdict& v) { return v.id == question.number; });
  if (of_verdict && verdict == report.verdicts.end()) {
    return Error{"no verdict " + std::to_string(question.number) + " in the last report, which has " +
                 (report.verdicts.empty() ? "none" : std::to_string(report.verdicts.size()))};
  }
  TimelineScene scene(sql, *places, of_verdict ? &*verdict : nullptr,
                      MarksOf(report, of_verdict ? question.number : 0));
  return Reader(question, report, scene).Read();
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
