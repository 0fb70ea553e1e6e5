// Rows in, text out. The pictures were read line by line before they were pinned.

#include "collector/report/timeline_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "collector/report/layout.h"
#include "collector/report/timeline_grid.h"
#include "collector/report/timeline_lanes.h"
#include "tests/unit/report/timeline_scenes.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Draw(const Timeline& t, int width, bool unfold = false) {
  TimelineTextOptions options;
  options.width = width;
  options.unfold = unfold;
  return TimelineText(t, options);
}

size_t Widest(const std::string& text) {
  std::istringstream lines(text);
  size_t widest = 0;
  for (std::string line; std::getline(lines, line);) widest = std::max(widest, report::Columns(line));
  return widest;
}

// Each picture without its title and footer.
std::string Picture(const Timeline& t, int width, bool unfold = false) {
  const std::string text = Draw(t, width, unfold);
  const size_t begin = text.find("\n\n") + 2;
  return text.substr(begin, text.find("\n\n", begin) + 1 - begin);
}

TEST(TimelineText, AStoryAtEightyColumns) {
  EXPECT_EQ(Picture(WideScene(), 80),
            R"(                          TiDB  TiDB   PD   TiKV
UTC 16:30                 tidb1 tidb2  pd1  tikv1
10.000100      1 asked      ├─────┼────▶┃     │   GetRegion "c"
10.000500  !!  2 said       ┃◀━━━━┿━━━━━┥     │   WRONG, too wide: region 13 v2
                            │     │     │     │     ["a", m) (400|398 µs)
10.000700                   │     │     │     │   … 1 other call, not refused
10.001000      3 used       ├─────┼─────┼────▶┃   Get "k" to region 13 v2
                            ┃     │     │     ┃     (inside what PD said) ← 2
10.001300      4 refused    ┃◀╌╌╌╌┼╌╌╌╌╌┼╌╌╌╌✗┤   key out of region ["a", "g")
                            │     │     │     │     (300|298 µs)
10.002000      5 lookup     ├─────┼────▶┃     │   GetRegion "k" ← 4
10.002250      6 told       ┃◀╌╌╌╌┼╌╌╌╌╌┤     │   region 14 v1 ["g", m)
                            │     │     │     │     (250|248 µs)
10.002300      7 retry      ├─────┼─────┼────▶│   Get "k" to region 14 v1: ok
                            │     │     │     │     (400|398 µs) ← 4, 6
)");
}

TEST(TimelineText, AStoryAtSixtyColumnsFoldsTheQuietestLanes) {
  EXPECT_EQ(Picture(WideScene(), 60),
            R"(                         TiDB  PD
UTC 16:30                …db1  pd1  +2
10.000100      1 asked     ├───▶┃    │   GetRegion "c"
10.000500  !!  2 said      ┃◀━━━┥    │   WRONG, too wide:
                           │    │    │     region 13 v2
                           │    │    │     ["a", m)
                           │    │    │     (400|398 µs)
10.000700                  │    │    │   … 1 other call, not
                           │    │    │     refused
10.001000      3 used      ├────┼───▶┃   Get "k" to region
                           ┃    │    ┃     13 v2 (inside
                           ┃    │    ┃     what PD said) ← 2
10.001300      4 refused   ┃◀╌╌╌┼╌╌╌✗┤   key out of region
                           │    │    │     ["a", "g")
                           │    │    │     (300|298 µs)
10.002000      5 lookup    ├───▶┃    │   GetRegion "k" ← 4
10.002250      6 told      ┃◀╌╌╌┤    │   region 14 v1 ["g",
                           │    │    │     m) (250|248 µs)
10.002300      7 retry     ├────┼───▶│   Get "k" to region
                           │    │    │     14 v1: ok
                           │    │    │     (400|398 µs)
                           │    │    │     ← 4, 6
)");
  EXPECT_THAT(Draw(WideScene(), 60), HasSubstr("Lanes from left:"));
}

TEST(TimelineText, AStoryAtOneHundredAndSixtyColumns) {
  EXPECT_EQ(Picture(WideScene(), 160, true),
            R"(                                  TiDB       TiDB        PD        TiKV
UTC                               tidb1      tidb2       pd1       tikv1
16:30:10.000100      1 asked        ├──────────┼─────────▶┃          │      GetRegion "c"
16:30:10.000500  !!  2 said         ┃◀━━━━━━━━━┿━━━━━━━━━━┥          │      WRONG, too wide: region 13 v2 ["a", m) (400|398 µs)
16:30:10.000700                     │          ├──────────┼─────────▶│      KvGet to region 13 v2: ok (200|198 µs)
16:30:10.001000      3 used         ├──────────┼──────────┼─────────▶┃      Get "k" to region 13 v2 (inside what PD said) ← 2
16:30:10.001300      4 refused      ┃◀╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌✗┤      key out of region ["a", "g") (300|298 µs)
16:30:10.002000      5 lookup       ├──────────┼─────────▶┃          │      GetRegion "k" ← 4
16:30:10.002250      6 told         ┃◀╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌┤          │      region 14 v1 ["g", m) (250|248 µs)
16:30:10.002300      7 retry        ├──────────┼──────────┼─────────▶│      Get "k" to region 14 v1: ok (400|398 µs) ← 4, 6
)");
}

TEST(TimelineText, NoLineIsWiderThanAskedFor) {
  Timeline t = WideScene();
  t.verdict->text += " " + std::string(300, 'x') + "€";
  for (TimelineCall& call : t.calls) {
    call.grpc_status = 14;
    call.grpc_message = std::string(500, 'y') + " " + std::string(500, 'z');
    call.server.host = "a-host-with-a-very-long-name-" + call.server.host + ".example";
    call.keys = {{SceneKey(std::string(200, 'k')), SceneKey(std::string(300, 'q'))}};
  }
  for (int width = 60; width <= 200; ++width) {
    ASSERT_LE(Widest(Draw(t, width)), static_cast<size_t>(width)) << width;
    ASSERT_LE(Widest(Draw(t, width, true)), static_cast<size_t>(width)) << width;
  }
  EXPECT_LE(Widest(Draw(t, 1)), 60u);
}

TEST(TimelineText, NothingFromTheWireReachesTheTerminal) {
  // Escape sequences, C1 controls, bells, line ends, marks that turn the direction, broken UTF-8.
  for (const std::string& evil : {std::string("\x1b[2J"),
                                  std::string("\xc2\x9b"
                                              "31m"),
                                  std::string("a\nb\rc\td"), std::string("\x07\x7f\x00x", 4),
                                  std::string("\xe2\x80\xae"), std::string("\xff\xfe\xc3")}) {
    Timeline t = WideScene();
    t.verdict->text = evil + t.verdict->text;
    t.reference = evil;
    for (TimelineCall& call : t.calls) {
      call.client.host += evil;
      call.server.host += evil;
      call.method += evil;
      call.command += evil;
      call.grpc_status = 2;
      call.grpc_message = evil;
      call.keys.push_back({SceneKey(evil), SceneKey(evil + evil)});
      call.at_client->observer += evil;
      for (TimelineMark& mark : call.marks) mark.note += evil;
      for (TimelineError& error : call.errors) {
        error.kind += evil;
        error.text = evil;
        error.bounds_end.reset();
      }
      for (TimelineStatement& s : call.statements) s.end = evil;
    }
    for (const bool unfold : {false, true}) {
      const std::string text = Draw(t, 100, unfold);
      for (size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        ASSERT_TRUE((c >= 0x20 && c != 0x7F) || c == '\n') << i;
        ASSERT_FALSE(c == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0) << i;
      }
      EXPECT_THAT(text, Not(HasSubstr("\xe2\x80\xae")));
      EXPECT_THAT(text, Not(HasSubstr("\xff")));
    }
  }
}

TEST(TimelineText, WhatWasNotSeenIsSaid) {
  Timeline t = WideScene();
  t.calls[2].at_client->times = {kSceneStart + 1'000'000, {}, {}, {}};
  t.calls[2].at_server.reset();
  t.calls[2].errors.clear();
  t.calls[2].refused = false;
  t.calls[2].marks.pop_back();
  t.links.erase(t.links.begin() + 1, t.links.begin() + 3);
  t.calls[0].at_server.reset();
  t.calls[4].at_client->times = {};
  t.calls[4].at_server.reset();
  const std::string text = Draw(t, 120);
  EXPECT_THAT(text, HasSubstr("no answer seen"));
  EXPECT_THAT(text, HasSubstr("(400 µs at tidb1)"));
  EXPECT_THAT(text, HasSubstr("\n?  "));
}

TEST(TimelineText, ACauseComesFirstWithinTheClocksError) {
  Timeline t = WideScene();
  // tidb1 was not captured, and TiKV's clock is off by a little: the request seems to come before the answer.
  for (TimelineCall& call : t.calls) call.at_client.reset();
  const int64_t told = *t.calls[0].at_server->times.resp_last;
  t.calls[2].at_server->times = {told - 1500, told - 1500, told - 500, told - 500};
  const std::string text = Draw(t, 120);
  const size_t said = text.find("  2 said");
  const size_t used = text.find("  3 used");
  ASSERT_NE(said, std::string::npos);
  ASSERT_NE(used, std::string::npos);
  EXPECT_LT(said, used);
  EXPECT_THAT(text, HasSubstr("* "));
  EXPECT_THAT(text, HasSubstr("*: moved within the clocks' error"));
}

TEST(TimelineText, UnrelatedClocksStandApart) {
  Timeline t = WideScene();
  for (TimelineCall& call : t.calls) {
    if (call.server.host == "tikv1") {
      call.at_client.reset();
      call.at_server->on_reference = false;
    }
  }
  const std::string text = Draw(t, 120);
  const size_t apart = text.find("seen only by clocks that are not related to the others:");
  ASSERT_NE(apart, std::string::npos);
  EXPECT_GT(text.find("refused"), apart);
  EXPECT_LT(text.find("told"), apart);
  EXPECT_THAT(text, HasSubstr("16:30:10.001001?"));
}

TEST(TimelineText, WhoIsWrongIsMarkedInTheRequestAndInTheRefusal) {
  Timeline t = WideScene();
  t.calls[0].marks[0].guilty = false;
  t.calls[2].marks[0].guilty = true;
  std::string text = Draw(t, 120);
  EXPECT_THAT(text, HasSubstr("!!  3 used         ┝━"));
  EXPECT_THAT(text, HasSubstr("WRONG, inside what PD said: Get \"k\""));
  t.calls[2].marks[0].guilty = false;
  t.calls[2].marks[1].guilty = true;
  t.calls[2].marks[1].note = "too narrow";
  text = Draw(t, 120);
  EXPECT_THAT(text, HasSubstr("!!  4 refused      ┃◀━"));
  EXPECT_THAT(text, HasSubstr("WRONG, too narrow: key out of region"));
}

TEST(TimelineText, RefusalsOfOneCauseTakeARowEach) {
  Timeline t = WideScene();
  for (int i = 0; i < 3; ++i) {
    TimelineCall call = t.calls[2];
    for (TimelineView* view : {&*call.at_client, &*call.at_server}) {
      for (auto* time :
           {&view->times.req_first, &view->times.req_last, &view->times.resp_first, &view->times.resp_last}) {
        **time += (10 + i) * 1'000'000;
      }
    }
    call.marks = {{1, "again", "", false, false, 0, 0}};
    t.links.push_back({TimelineLink::Kind::kRoute, 0, t.calls.size(), 65536});
    t.calls.push_back(call);
  }
  const std::string text = Draw(t, 160);
  for (const char* number : {"8 again", "9 again", "10 again"}) EXPECT_THAT(text, HasSubstr(number));
  EXPECT_THAT(text,
              HasSubstr("Get \"k\" to region 13 v2: key out of region, bounds as in 4 (300|298 µs) ← 2"));
}

TEST(TimelineText, ColourIsAllThatColourAdds) {
  TimelineTextOptions options;
  options.width = 100;
  const std::string plain = TimelineText(WideScene(), options);
  options.color = true;
  std::string colored = TimelineText(WideScene(), options);
  EXPECT_THAT(colored, HasSubstr("\x1b[1;31m!!"));
  for (size_t at = 0; (at = colored.find('\x1b')) != std::string::npos;) {
    colored.erase(at, colored.find('m', at) - at + 1);
  }
  EXPECT_EQ(colored, plain);
}

TEST(TimelineText, NothingFound) {
  Timeline t;
  t.question.about = TimelineQuestion::About::kRegion;
  t.question.number = 7;
  EXPECT_EQ(Draw(t, 80), "Region 7: 0 calls, 0 refused.\n\nNo call is found.\n");
}

TEST(TimelineText, LeftOutIsTold) {
  Timeline t = WideScene();
  t.found = 1205;
  t.left_out = 1200;
  t.refused_left = 3;
  t.unread = 12;
  const std::string text = Draw(t, 100);
  EXPECT_THAT(text, HasSubstr("Left out: 1,200 calls, 3 of them refused. --calls 1205 shows all"));
  EXPECT_THAT(text, HasSubstr("Not looked at: 12 more observations"));
}

TEST(TimelineLanes, ProcessesOfOneHostHaveLanesOfTheirOwn) {
  Timeline t;
  const TimelineEnd client{"lab", "10.0.0.9", "10.0.0.9:50000", "tidb"};
  const TimelineEnd pd{"lab", "10.0.0.9", "10.0.0.9:2379", "tidb"};
  const TimelineEnd tikv{"lab", "10.0.0.9", "10.0.0.9:20160", "tidb"};
  t.calls = {SceneCall(1, client, pd, "/pdpb.PD/GetRegion", 0, 1),
             SceneCall(2, client, tikv, "/tikvpb.Tikv/KvGet", 2, 3)};
  const report::LaneChart chart = report::ChartLanes(t, 0);
  std::vector<std::string> lanes;
  for (const report::Lane& lane : chart.lanes) lanes.push_back(lane.role + " " + lane.name);
  EXPECT_THAT(lanes, ElementsAre("tidb lab", "pd lab:2379", "tikv lab:20160"));
  EXPECT_EQ(chart.of_call[1].client, 0u);
  EXPECT_EQ(chart.of_call[1].server, 2u);
}

TEST(TimelineLanes, TheBlamedAreTheLastToBeFolded) {
  Timeline t = WideScene();
  const TimelineEnd tikv2 = SceneEnd("tikv2", "tikv", 32, "20160");
  for (int i = 0; i < 50; ++i)
    t.calls.push_back(SceneCall(100 + i, SceneEnd("tidb2", "tidb", 12, "40003"), tikv2, "/tikvpb.Tikv/KvGet",
                                3000 + i, 3001 + i));
  const report::LaneChart chart = report::ChartLanes(t, 3);
  std::vector<std::string> lanes;
  for (const report::Lane& lane : chart.lanes) lanes.push_back(lane.name);
  EXPECT_THAT(lanes, ElementsAre("tidb1", "pd1", "+3"));
}

TEST(TimelineGrid, NamesAreCutAtTheirBeginning) {
  EXPECT_EQ(report::TailOf("tikv1", 5), "tikv1");
  EXPECT_EQ(report::TailOf("10.77.0.11", 5), "…0.11");
  EXPECT_EQ(report::TailOf("höst-größe", 5), "…röße");
}

}  // namespace
}  // namespace keytrail
