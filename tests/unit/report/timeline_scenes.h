// Timelines made by hand, for the tests of what draws them.
#pragma once

#include <string>

#include "collector/store/timeline_model.h"
#include "common/key_codec.h"

namespace keytrail {

// 2026-11-23 16:30:10 UTC
inline constexpr int64_t kSceneStart = 1'795'451'410'000'000'000;

inline std::string SceneKey(const std::string& raw) {
  return EncodeKey(AsBytes(raw));
}

inline TimelineEnd SceneEnd(const std::string& host, const std::string& role, int number,
                            const std::string& port) {
  const std::string address = "10.0.0." + std::to_string(number);
  return {host, address, address + ":" + port, role};
}

// A call seen at both ends, on the reference's clock; times in µs after kSceneStart. A server that is a µs
// away.
inline TimelineCall SceneCall(uint64_t id, const TimelineEnd& client, const TimelineEnd& server,
                              const std::string& method, int64_t asked_us, int64_t answered_us) {
  TimelineCall call;
  call.client = client;
  call.server = server;
  call.method = method;
  call.kind = "unary";
  call.method_from = "header";
  call.stream = id;
  const auto view = [&](uint64_t view_id, const std::string& observer, int64_t way_us) {
    TimelineView v;
    v.call_id = view_id;
    v.observer = observer;
    v.clock_error_ns = 2000;
    const int64_t asked = kSceneStart + (asked_us + way_us) * 1000;
    const int64_t answered = kSceneStart + (answered_us - way_us) * 1000;
    v.times = {asked, asked, answered, answered};
    return v;
  };
  call.at_client = view(id, client.host, 0);
  call.at_server = view(id + 1000, server.host, 1);
  return call;
}

// PD tells tidb1 a range that is too wide; tidb1 is refused, asks again and tries again. tidb2 is a
// bystander.
inline Timeline WideScene() {
  const TimelineEnd tidb1 = SceneEnd("tidb1", "tidb", 11, "40001");
  const TimelineEnd tidb1_store = SceneEnd("tidb1", "tidb", 11, "40002");
  const TimelineEnd tidb2 = SceneEnd("tidb2", "tidb", 12, "40003");
  const TimelineEnd pd = SceneEnd("pd1", "pd", 21, "2379");
  const TimelineEnd tikv = SceneEnd("tikv1", "tikv", 31, "20160");
  const auto statement = [](uint64_t call, const char* start, const char* end) {
    return TimelineStatement{call * 65536, "pd_get_region", 13, 2, SceneKey(start), SceneKey(end)};
  };
  Timeline t;
  t.question.about = TimelineQuestion::About::kVerdict;
  t.question.number = 1;
  t.verdict.emplace();
  t.verdict->id = 1;
  t.verdict->component = Component::kPd;
  t.verdict->certain = true;
  t.verdict->rule = "3";
  t.verdict->text =
      "PD is wrong: it told tidb1 that region 13 (version 2) reaches to \"m\"; it ends at \"g\".";

  TimelineCall lookup = SceneCall(1, tidb1, pd, "/pdpb.PD/GetRegion", 100, 500);
  lookup.keys = {{SceneKey("c"), {}}};
  lookup.statements = {statement(1, "a", "m")};
  lookup.marks = {{1, "said", "too wide", false, true, 65536, 0}};
  TimelineCall other = SceneCall(2, tidb2, tikv, "/tikvpb.Tikv/KvGet", 700, 900);
  other.region_id = 13;
  other.version = 2;
  other.asked_for = false;
  TimelineCall used = SceneCall(3, tidb1_store, tikv, "/tikvpb.Tikv/BatchCommands", 1000, 1300);
  used.command = "Get";
  used.region_id = 13;
  used.version = 2;
  used.keys = {{SceneKey("k"), {}}};
  used.refused = true;
  used.followed = true;
  TimelineError error;
  error.kind = "key_out_of_region";
  error.key = SceneKey("k");
  error.bounds_start = SceneKey("a");
  error.bounds_end = SceneKey("g");
  used.errors = {error};
  used.marks = {{1, "used", "inside what PD said", true, false, 0, 0},
                {1, "refused", "", false, false, 0, 0}};
  TimelineCall again = SceneCall(4, tidb1, pd, "/pdpb.PD/GetRegion", 2000, 2250);
  again.keys = {{SceneKey("k"), {}}};
  again.statements = {{4 * 65536, "pd_get_region", 14, 1, SceneKey("g"), SceneKey("m")}};
  TimelineCall retry = SceneCall(5, tidb1_store, tikv, "/tikvpb.Tikv/BatchCommands", 2300, 2700);
  retry.command = "Get";
  retry.region_id = 14;
  retry.version = 1;
  retry.keys = {{SceneKey("k"), {}}};
  t.calls = {lookup, other, used, again, retry};
  t.links = {{TimelineLink::Kind::kRoute, 0, 2, 65536},
             {TimelineLink::Kind::kAsk, 2, 3, 0},
             {TimelineLink::Kind::kRetry, 2, 4, 0},
             {TimelineLink::Kind::kRoute, 3, 4, 4 * 65536}};
  t.found = 5;
  t.reference = "pd1";
  return t;
}

}  // namespace keytrail
