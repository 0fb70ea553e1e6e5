// The views of calls that the question did not find by itself: evidence names one view of a call, and one end
// may have seen what the other did not.

#include <algorithm>

#include "collector/store/timeline_scene.h"
#include "common/call_record.h"

namespace keytrail {

namespace {

// Text of the views whose other end is looked for in one scan: well below limits::kMaxSqlBytes.
constexpr size_t kPartnerBytesAtOnce = 100'000;
// How far apart two views of a call may lie; messages have no id, only time tells them apart.
constexpr int64_t kPartnerWithinNs = 10'000'000'000;
constexpr int64_t kMessagePartnerWithinNs = 1'000'000'000;

// (agent, client, server, stream, kind, request, lo, hi) for every agent that may have seen the same call:
// those at its ends, and those of which nobody knows where they stand.
std::string RowsOf(const TimelineScene& scene, const SeenObservation& seen) {
  const TimelineObservation& o = seen.brief;
  std::string rows;
  const bool message = o.kind == static_cast<uint64_t>(CallKind::kMessage);
  const int64_t within = message ? kMessagePartnerWithinNs : kPartnerWithinNs;
  const TimelinePlaces& places = scene.places();
  for (const uint32_t agent : places.agents()) {
    const std::string& address = places.AddressOf(agent);
    const bool at_end = address.empty() || address == seen.client_address || address == seen.server_address;
    if (agent == o.agent || !o.first_ns || !at_end) continue;
    const int64_t at =
        places.clocks().FromReference(places.ObserverName(agent), *o.first_ns).value_or(*o.first_ns);
    for (const TimelinePlaces::Ends& name :
         places.NamesOf({o.client, seen.client_address, o.server, seen.server_address})) {
      rows += (rows.empty() ? "(" : ",(") + std::to_string(agent) + "," + SqlText(name.client) + "," +
              SqlText(name.server) + "," + std::to_string(o.stream) + "," + std::to_string(o.kind) + "," +
              (o.request_id ? SqlNumber(*o.request_id) : "NULL") + "," + std::to_string(at - within) + "," +
              std::to_string(at + within) + ")";
    }
  }
  return rows;
}

constexpr char kPartnersSql[] =
    ") SELECT DISTINCT c.id FROM call_rows c CROSS JOIN p ON p.stream = c.stream AND p.agent = c.agent"
    " AND p.kind = c.kind CROSS JOIN connections n ON n.id = c.connection WHERE n.client = p.client"
    " AND n.server = p.server AND c.request_id IS p.request"
    " AND coalesce(c.req_first_ns, c.req_last_ns, c.resp_first_ns, c.resp_last_ns) BETWEEN p.lo AND p.hi";

}  // namespace

Status ReadTimelinePartners(TimelineScene& scene, size_t most) {
  scene.Pair();
  std::vector<std::string> alone;
  for (const size_t c : scene.Ordered()) {
    if (alone.size() == most) break;
    if (scene.Views(c).size() > 1) continue;
    const SeenObservation& s = scene.Seen(scene.Views(c).front());
    const bool at_client = scene.SideOf(s) == TimelineScene::Side::kClient;
    const bool between = scene.SideOf(s) == TimelineScene::Side::kBetween;
    const std::string& opposite = at_client ? s.server_address : s.client_address;
    if (!between && scene.places().AgentsAt(opposite).empty()) continue;
    if (std::string rows = RowsOf(scene, s); !rows.empty()) alone.push_back(std::move(rows));
  }
  std::vector<uint64_t> found;
  for (size_t next = 0; next < alone.size();) {
    std::string rows = alone[next++];
    while (next < alone.size() && rows.size() + alone[next].size() < kPartnerBytesAtOnce)
      rows += "," + alone[next++];
    const Status read = scene.sql()(
        "WITH p(agent, client, server, stream, kind, request, lo, hi) AS (VALUES " + rows + kPartnersSql,
        [](const Store::QueryColumns&) {},
        [&](const auto& values) {
          const uint64_t id = SqlRow(values).Number(0);
          if (!scene.CallOf(id)) found.push_back(id);
          return true;
        });
    if (!read.ok()) return read;
  }
  const Status observed = scene.Observe(found, false);
  if (!observed.ok()) return observed;
  scene.Pair();
  // What was read as a possible partner and is none is not what the user asked for.
  scene.Drop(found);
  return Done{};
}

}  // namespace keytrail
