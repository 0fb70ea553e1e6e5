// The trace of a story made by hand. What a viewer makes of whole captures is tested in
// tests/e2e/test_timeline.py.

#include "collector/report/timeline_perfetto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/report/timeline_scenes.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;
using Json = nlohmann::json;

Json Trace(const Timeline& t) {
  return Json::parse(TimelinePerfetto(t));
}

std::vector<Json> Phase(const Json& trace, const std::string& phase) {
  std::vector<Json> found;
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] == phase) found.push_back(event);
  }
  return found;
}

TEST(TimelinePerfetto, AStory) {
  const Json trace = Trace(WideScene());
  std::vector<std::string> processes;
  for (const Json& event : Phase(trace, "M")) {
    if (event["name"] == "process_name") processes.push_back(event["args"]["name"]);
  }
  EXPECT_THAT(processes, ElementsAre("TiDB tidb1", "TiDB tidb2", "PD pd1", "TiKV tikv1"));
  size_t calls = 0;
  size_t errors = 0;
  for (const Json& event : Phase(trace, "X")) {
    calls += event["cat"] == "call";
    errors += event["cat"] == "error";
  }
  EXPECT_EQ(calls, 10u);  // five calls, two views each
  EXPECT_EQ(errors, 2u);
  EXPECT_EQ(trace["otherData"]["origin_ns"], std::to_string(kSceneStart + 100'000));

  // lookup → request → error → lookup → retry: one flow over five slices, at the client.
  std::map<uint64_t, std::string> chains;
  for (const Json& event : trace["traceEvents"]) {
    if (event.contains("id") && event["cat"] == "chain")
      chains[event["id"]] += event["ph"].get<std::string>() + std::to_string(event["pid"].get<int>());
  }
  ASSERT_EQ(chains.size(), 1u);
  EXPECT_EQ(chains.begin()->second, "s1t1t1t1f1");

  const std::vector<Json> wrong = Phase(trace, "i");
  ASSERT_EQ(wrong.size(), 1u);
  EXPECT_EQ(wrong[0]["name"], "WRONG: region 13 v2 [\"a\", m)");
  EXPECT_EQ(wrong[0]["pid"], 3);  // PD said it
  EXPECT_EQ(wrong[0]["ts"], 400.0);
}

TEST(TimelinePerfetto, ArgsOfARequest) {
  const Json trace = Trace(WideScene());
  for (const Json& event : Phase(trace, "X")) {
    const Json& args = event["args"];
    if (args["call_id"] != 3 || event["cat"] != "call") continue;
    EXPECT_EQ(event["name"], "Get");
    EXPECT_EQ(event["ts"], 900.0);
    EXPECT_EQ(event["dur"], 300.0);
    EXPECT_EQ(args["region_id"], 13);
    EXPECT_EQ(args["version"], 2);
    EXPECT_EQ(args["keys"], Json::array({"\"k\""}));
    EXPECT_EQ(args["errors"], Json::array({"key out of region [\"a\", \"g\")"}));
    EXPECT_EQ(args["utc"], "2026-11-23 16:30:10.001000");
    EXPECT_EQ(args["verdicts"], Json::array({"verdict 1: used, inside what PD said", "verdict 1: refused"}));
    return;
  }
  FAIL() << "no such slice";
}

TEST(TimelinePerfetto, CallsThatOverlapStandInThreadsOfTheirOwn) {
  Timeline t;
  const TimelineEnd tidb = SceneEnd("tidb1", "tidb", 11, "40001");
  const TimelineEnd tikv = SceneEnd("tikv1", "tikv", 31, "20160");
  // One within the other, one half over the next, one after all.
  const std::pair<int, int> times[] = {{0, 100}, {10, 50}, {40, 120}, {200, 300}};
  for (uint64_t i = 0; i < 4; ++i)
    t.calls.push_back(SceneCall(i + 1, tidb, tikv, "/tikvpb.Tikv/KvGet", times[i].first, times[i].second));
  std::map<uint64_t, uint64_t> thread;
  for (const Json& event : Phase(Trace(t), "X")) thread[event["args"]["call_id"]] = event["tid"];
  EXPECT_EQ(std::set<uint64_t>({thread[1], thread[2], thread[3]}).size(), 3u);
  EXPECT_EQ(thread[1], thread[4]);
}

TEST(TimelinePerfetto, HostileTextsAreStillJson) {
  Timeline t = WideScene();
  const std::string evil = std::string("\"},{\"ph\":\"X\"\\\n\x01\x1b[2J\xff\xfe");
  t.reference = evil;
  t.verdict->text = evil;
  for (TimelineCall& call : t.calls) {
    call.client.host = evil + call.client.host;
    call.server.endpoint += evil;
    call.method += evil;
    call.command += evil;
    call.grpc_message = evil;
    call.keys.push_back({evil, evil});
    call.incomplete = evil;
    for (TimelineError& e : call.errors) e.text = e.kind = evil;
    for (TimelineMark& m : call.marks) m.label = m.note = evil;
  }
  const Json trace = Trace(t);
  EXPECT_EQ(Phase(trace, "X").size(), 12u);
}

TEST(TimelinePerfetto, WhatWasNotSeenIsSaid) {
  Timeline t = WideScene();
  t.links.clear();
  t.calls[1].at_server->times = {};
  t.calls[1].at_client->times.resp_first.reset();
  t.calls[1].at_client->times.resp_last.reset();
  const Json trace = Trace(t);
  size_t seen = 0;
  for (const Json& event : Phase(trace, "X")) {
    if (event["args"]["call_id"] == 1002) ADD_FAILURE() << "a view without a time";
    if (event["args"]["call_id"] != 2) continue;
    ++seen;
    EXPECT_EQ(event["args"]["response"], "not seen");
    EXPECT_LT(event["dur"], 1.0);
  }
  EXPECT_EQ(seen, 1u);
}

TEST(TimelinePerfetto, Empty) {
  const Json trace = Trace({});
  EXPECT_TRUE(trace["traceEvents"].empty());
}

}  // namespace
}  // namespace keytrail
