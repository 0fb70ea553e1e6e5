#include "collector/report/timeline_bars.h"

#include <algorithm>
#include <string_view>
#include <tuple>

namespace keytrail::report {
namespace {

class Maker {
 public:
  Maker(const Timeline& timeline, const LaneChart& chart) : timeline_(timeline), chart_(chart) {}

  TimelineBars Make() {
    out_.at_client.assign(timeline_.calls.size(), TimelineBars::kNone);
    out_.at_server.assign(timeline_.calls.size(), TimelineBars::kNone);
    for (size_t i = 0; i < timeline_.calls.size(); ++i) {
      const TimelineCall& call = timeline_.calls[i];
      const LaneOfCall lanes = chart_.of_call[i];
      Add(i, call.at_client, "client", lanes.client);
      Add(i, call.at_server, "server", lanes.server);
      if (!call.at_client && !call.at_server) Add(i, call.between, "between", lanes.client);
    }
    std::stable_sort(out_.bars.begin(), out_.bars.end(), [](const TimelineBar& a, const TimelineBar& b) {
      return std::tuple(a.begin, -a.end) < std::tuple(b.begin, -b.end);
    });
    for (size_t b = 0; b < out_.bars.size(); ++b) {
      const bool server = out_.bars[b].side == std::string_view("server");
      (server ? out_.at_server : out_.at_client)[out_.bars[b].call] = b;
    }
    for (size_t i = 0; i < timeline_.calls.size(); ++i) {
      const size_t client = out_.at_client[i];
      const size_t server = out_.at_server[i];
      if (client != TimelineBars::kNone && server != TimelineBars::kNone && client < server)
        out_.sent.emplace_back(client, server);
    }
    for (size_t i = 0; i < timeline_.calls.size(); ++i) {
      if (timeline_.calls[i].refused) Chain(i);
    }
    return std::move(out_);
  }

 private:
  void Add(size_t i, const std::optional<TimelineView>& view, const char* side, size_t lane) {
    if (!view || !view->times.First()) return;
    const int64_t begin = *view->times.First();
    // An end that was not seen is none: the bar is as short as can be.
    const int64_t end = std::max(view->times.Last().value_or(begin), begin + TimelineBars::kShortestNs);
    out_.bars.push_back({i, &*view, side, lane, begin, end});
  }

  // Where the client stood if that was seen, since what led to what is its doing.
  size_t BarOf(size_t call) const {
    return out_.at_client[call] != TimelineBars::kNone ? out_.at_client[call] : out_.at_server[call];
  }

  void Chain(size_t refused) {
    std::vector<TimelineBars::Step> steps;
    const auto add = [&](size_t bar, bool error) {
      if (bar == TimelineBars::kNone) return;
      // Against the clock no arrow can be drawn; an error comes after its call by itself.
      if (!steps.empty() && steps.back().bar >= bar && !(error && steps.back().bar == bar)) return;
      steps.push_back({bar, error});
    };
    const auto linked = [&](TimelineLink::Kind kind, bool to) {
      for (const TimelineLink& link : timeline_.links) {
        if (link.kind == kind && (to ? link.to : link.from) == refused)
          add(BarOf(to ? link.from : link.to), false);
      }
    };
    linked(TimelineLink::Kind::kRoute, true);
    add(BarOf(refused), false);
    add(BarOf(refused), true);
    linked(TimelineLink::Kind::kAsk, false);
    linked(TimelineLink::Kind::kRetry, false);
    if (steps.size() >= 2) out_.chains.push_back(std::move(steps));
  }

  const Timeline& timeline_;
  const LaneChart& chart_;
  TimelineBars out_;
};

}  // namespace

TimelineBars MakeBars(const Timeline& timeline, const LaneChart& chart) {
  return Maker(timeline, chart).Make();
}

}  // namespace keytrail::report
