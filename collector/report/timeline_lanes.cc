#include "collector/report/timeline_lanes.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "common/plain_text.h"

namespace keytrail::report {
namespace {

struct LaneKey {
  std::string address;
  std::string part;  // endpoint of a server, "client", or empty: the host has one process

  friend auto operator<=>(const LaneKey&, const LaneKey&) = default;
};

int RoleRank(const std::string& role) {
  if (role == "tidb") return 0;
  if (role == "client") return 1;
  if (role == "pd") return 3;
  if (role == "tikv") return 4;
  return 2;
}

// Of a host with several processes the host's role says little: what is asked of this one does.
std::string RoleByMethod(const std::string& method, const std::string& otherwise) {
  for (const char* pd : {"/pdpb.", "/routerpb.", "/etcdserverpb.", "/tsopb."}) {
    if (method.rfind(pd, 0) == 0) return "pd";
  }
  return method.rfind("/tikvpb.", 0) == 0 ? "tikv" : otherwise;
}

// Hosts that serve at several ports, or talk to themselves.
std::set<std::string> ManyProcesses(const Timeline& timeline) {
  std::map<std::string, std::set<std::string>> served;
  std::set<std::string> many;
  for (const TimelineCall& call : timeline.calls) {
    served[call.server.address].insert(call.server.endpoint);
    if (call.client.address == call.server.address) many.insert(call.client.address);
  }
  for (const auto& [address, endpoints] : served) {
    if (endpoints.size() > 1) many.insert(address);
  }
  return many;
}

// Whoever is blamed, and whom it was said to, is the last to be folded; then those of the chain.
std::vector<size_t> Weights(const Timeline& timeline) {
  const std::vector<bool> important = ImportantCalls(timeline);
  std::vector<size_t> weights(timeline.calls.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = important[i] ? 1 : 0;
    for (const TimelineMark& mark : timeline.calls[i].marks) {
      if (mark.guilty) weights[i] += 1'000'000;
      if (mark.label == "said" || mark.label == "used" || mark.label == "refused") weights[i] += 1000;
    }
  }
  return weights;
}

void Fold(LaneChart& chart, size_t most) {
  if (most == 0 || chart.lanes.size() <= most) return;
  std::vector<size_t> order(chart.lanes.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const Lane& x = chart.lanes[a];
    const Lane& y = chart.lanes[b];
    return std::tuple(x.important, x.calls) > std::tuple(y.important, y.calls);
  });
  const size_t kept = most - 1;
  std::vector<bool> keep(chart.lanes.size());
  for (size_t i = 0; i < kept; ++i) keep[order[i]] = true;
  std::vector<Lane> lanes;
  std::vector<size_t> to(chart.lanes.size());
  for (size_t i = 0; i < chart.lanes.size(); ++i) {
    to[i] = keep[i] ? lanes.size() : kept;
    if (keep[i]) lanes.push_back(chart.lanes[i]);
  }
  Lane others;
  others.name = "+" + std::to_string(chart.lanes.size() - kept);
  for (size_t i = 0; i < chart.lanes.size(); ++i) {
    if (keep[i]) continue;
    others.important += chart.lanes[i].important;
    others.calls += chart.lanes[i].calls;
  }
  lanes.push_back(std::move(others));
  chart.lanes = std::move(lanes);
  for (LaneOfCall& of : chart.of_call) of = {to[of.client], to[of.server]};
}

}  // namespace

std::vector<bool> ImportantCalls(const Timeline& timeline) {
  std::vector<bool> important(timeline.calls.size());
  for (size_t i = 0; i < timeline.calls.size(); ++i) {
    important[i] = timeline.calls[i].refused || !timeline.calls[i].marks.empty();
  }
  for (const TimelineLink& link : timeline.links) {
    important[link.from] = true;
    important[link.to] = true;
  }
  return important;
}

LaneChart ChartLanes(const Timeline& timeline, size_t most) {
  const std::set<std::string> many = ManyProcesses(timeline);
  const std::vector<size_t> weights = Weights(timeline);
  std::map<LaneKey, Lane> lanes;
  const auto key_of = [&](const TimelineEnd& end, bool server) {
    if (!many.contains(end.address)) return LaneKey{end.address, ""};
    return LaneKey{end.address, server ? end.endpoint : "client"};
  };
  for (size_t i = 0; i < timeline.calls.size(); ++i) {
    const TimelineCall& call = timeline.calls[i];
    for (const bool server : {false, true}) {
      const TimelineEnd& end = server ? call.server : call.client;
      const LaneKey key = key_of(end, server);
      Lane& lane = lanes[key];
      lane.calls += 1;
      lane.important += weights[i];
      if (!lane.name.empty()) continue;
      lane.name = PlainText(end.host);
      lane.role = end.role;
      if (key.part.empty()) continue;
      if (server) {
        const size_t colon = end.endpoint.rfind(':');
        lane.name += PlainText(colon == std::string::npos ? "" : end.endpoint.substr(colon));
        lane.role = RoleByMethod(call.method, end.role);
      } else {
        lane.role = end.role == "tidb" ? "tidb" : "client";
      }
    }
  }
  std::vector<std::pair<LaneKey, Lane>> sorted(lanes.begin(), lanes.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::tuple(RoleRank(a.second.role), a.second.name) <
           std::tuple(RoleRank(b.second.role), b.second.name);
  });
  LaneChart chart;
  std::map<LaneKey, size_t> position;
  for (auto& [key, lane] : sorted) {
    position[key] = chart.lanes.size();
    chart.lanes.push_back(std::move(lane));
  }
  for (const TimelineCall& call : timeline.calls) {
    chart.of_call.push_back({position[key_of(call.client, false)], position[key_of(call.server, true)]});
  }
  Fold(chart, most == 0 ? 0 : std::max<size_t>(2, most));
  return chart;
}

const char* RoleTitle(const std::string& role) {
  if (role == "tidb") return "TiDB";
  if (role == "pd") return "PD";
  if (role == "tikv") return "TiKV";
  if (role == "client") return "client";
  return role.empty() ? "" : "?";
}

}  // namespace keytrail::report
