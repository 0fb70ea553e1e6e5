// The view of `keytrail watch` at many sizes: never wider or higher than the terminal, what matters last to
// go.

#include "collector/cli/watch_view.h"

#include <clocale>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keytrail {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNow = 1'790'000'000 * kSecond;

class WatchView : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(std::setlocale(LC_CTYPE, "C.UTF-8"), nullptr); }
};

AgentProgress Agent(uint64_t id, const std::string& host, uint64_t records, double rate) {
  AgentProgress a;
  a.id = id;
  a.key = host;
  a.host = host;
  a.role = "tikv";
  a.input = "eth0";
  a.records = records;
  a.records_per_s = rate;
  a.last_seen_ns = kNow - 3 * kSecond;
  a.redaction.mode = Redaction::Mode::kOn;
  return a;
}

VerdictLine Verdict(uint64_t region, int64_t last_ns, const std::string& text) {
  VerdictLine v;
  v.component = "pd";
  v.certain = true;
  v.rule = "3";
  v.region_id = region;
  v.occurrences = 7;
  v.last_ns = last_ns;
  v.text = text;
  v.is_new = true;
  return v;
}

WatchModel Model(size_t agents, size_t verdicts, size_t losses) {
  WatchModel model;
  model.source = "127.0.0.1:7451";
  model.Begin(kNow - 75 * kSecond);
  for (size_t i = 0; i < losses; ++i) {
    model.Take({kNow, LossLine{"host" + std::to_string(i), "kernel_drops", 5, 1200 + i}});
  }
  for (size_t i = 0; i < verdicts; ++i) {
    model.Take({kNow, Verdict(i, kNow - static_cast<int64_t>(i) * kSecond,
                              "PD is wrong: region " + std::to_string(i) +
                                  " reaches to t53_r32983; it ends at t53_r16088")});
  }
  std::vector<AgentProgress> all;
  for (size_t i = 0; i < agents; ++i)
    all.push_back(Agent(i + 1, "host" + std::to_string(i), 1000, i == 0 ? 250 : 0));
  model.Take({kNow, all});
  return model;
}

std::string TextOf(const ViewLine& line) {
  std::string text;
  for (const auto& [tone, part] : line) text += part;
  return text;
}

std::string Page(const WatchModel& model, size_t width, size_t height) {
  std::string page;
  for (const ViewLine& line : WatchLines(model, kNow, width, height)) page += TextOf(line) + "\n";
  return page;
}

void ExpectFits(const WatchModel& model, size_t width, size_t height) {
  const std::vector<ViewLine> lines = WatchLines(model, kNow, width, height);
  EXPECT_LE(lines.size(), height) << width << "x" << height;
  for (const ViewLine& line : lines) {
    EXPECT_LE(DisplayWidth(TextOf(line)), width) << width << "x" << height << ": " << TextOf(line);
  }
}

TEST_F(WatchView, FitsEverySize) {
  const std::vector<WatchModel> models = {Model(0, 0, 0), Model(1, 0, 0), Model(3, 2, 1), Model(40, 100, 30)};
  for (WatchModel model : models) {
    for (const bool away : {false, true}) {
      if (away)
        model.away =
            "collector at 127.0.0.1:7451: failed to connect to all addresses; and so on and on and on and on";
      for (size_t width = 1; width <= 210; width += width < 60 ? 1 : 7) {
        for (size_t height = 1; height <= 64; height += height < 30 ? 1 : 5) ExpectFits(model, width, height);
      }
    }
  }
}

TEST_F(WatchView, OrdinaryTerminal) {
  const std::string page = Page(Model(4, 3, 2), 80, 24);
  EXPECT_THAT(page, HasSubstr("keytrail  127.0.0.1:7451  watched for 75 s"));
  EXPECT_THAT(page, HasSubstr("4,000 calls  250/s\n"));
  EXPECT_THAT(page, HasSubstr("host0 tikv  ships       250         1,000    3 s ago      1,200"));
  EXPECT_THAT(page, HasSubstr("host3 tikv  quiet         0         1,000    3 s ago          0"));
  EXPECT_THAT(page,
              HasSubstr("pd       0 s ago      7 certain  PD is wrong: region 0 reaches to t53_r32983; i…"));
  EXPECT_THAT(page, HasSubstr("host1 kernel_drops                         1,201"));
  EXPECT_THAT(page, HasSubstr("\nq leaves\n"));
  EXPECT_THAT(page, Not(HasSubstr(" of ")));
}

TEST_F(WatchView, WideTerminalShowsAll) {
  const std::string page = Page(Model(30, 20, 3), 200, 60);
  EXPECT_THAT(page, HasSubstr("reads"));
  EXPECT_THAT(page, HasSubstr("tokens"));
  EXPECT_THAT(page, HasSubstr("eth0"));
  EXPECT_THAT(page, HasSubstr("region 19 reaches to t53_r32983; it ends at t53_r16088\n"));
  EXPECT_THAT(page, Not(HasSubstr(" of ")));
}

TEST_F(WatchView, SmallTerminalKeepsNamesRatesAndVerdicts) {
  const std::string page = Page(Model(9, 9, 9), 40, 10);
  EXPECT_THAT(page, HasSubstr("host0"));
  EXPECT_THAT(page, HasSubstr("250"));
  EXPECT_THAT(page, HasSubstr("PD is wrong"));
  EXPECT_THAT(page, HasSubstr("lost  2 of 9"));
  EXPECT_THAT(page, HasSubstr("wrong  2 of 9"));
  EXPECT_THAT(page, ::testing::StartsWith("watched for 75 s      9,000 calls  250/s\n"));
}

TEST_F(WatchView, OneLineIsTheFigures) {
  EXPECT_EQ(Page(Model(4, 3, 2), 20, 1), "4,000 calls  250/s\n");
  EXPECT_THAT(Page(Model(4, 3, 2), 80, 1), HasSubstr("4,000 calls  250/s"));
}

TEST_F(WatchView, CollectorThatIsAwayIsTold) {
  WatchModel model = Model(2, 1, 0);
  model.away = "collector at 127.0.0.1:7451: the collector ends";
  model.changed_ns = kNow - 4 * kSecond;
  const std::string page = Page(model, 80, 24);
  EXPECT_THAT(page, HasSubstr("away for 4 s"));
  EXPECT_THAT(page, HasSubstr("the collector ends; trying again"));
  EXPECT_THAT(page, HasSubstr("host0"));  // what was known stays
  EXPECT_THAT(page, Not(HasSubstr("ships")));
  EXPECT_THAT(page, Not(HasSubstr("250")));
  EXPECT_THAT(Page(model, 30, 1), HasSubstr("away"));
}

TEST_F(WatchView, NothingYetIsSaid) {
  const std::string page = Page(Model(0, 0, 0), 80, 24);
  EXPECT_THAT(page, HasSubstr("no agent has said hello yet"));
  EXPECT_THAT(page, HasSubstr("no verdict"));
}

TEST_F(WatchView, TextsOfOthersHaveNoControlBytes) {
  WatchModel model;
  model.source = "x";
  model.Begin(kNow);
  model.Take({kNow, LossLine{"a\x1b[2Jb", "kind\r\n\x07", 1, 1}});
  VerdictLine verdict = Verdict(1, kNow,
                                "text \x1b]0;title\x07 and \xc2\x9b"
                                "31m and \xff\xfe");
  verdict.component =
      "p\x1b"
      "d";
  model.Take({kNow, verdict});
  AgentProgress agent = Agent(1, "evil\x1b[31m\nhost", 1, 1);
  agent.role = "\x1b";
  agent.input = "\x1b[8m";
  model.Take({kNow, std::vector<AgentProgress>{agent}});
  model.away = "\x1b[H";
  for (const ViewLine& line : WatchLines(model, kNow, 200, 40)) {
    for (const char c : TextOf(line)) {
      EXPECT_FALSE(static_cast<unsigned char>(c) < 0x20 || c == 0x7f) << TextOf(line);
    }
    EXPECT_EQ(TextOf(line).find("\xc2\x9b"), std::string::npos);
  }
}

TEST_F(WatchView, WidthIsThatOfTheTerminal) {
  EXPECT_EQ(DisplayWidth("数据库"), 6u);
  EXPECT_EQ(DisplayWidth("é"), 1u);
  EXPECT_EQ(DisplayWidth("e\xcc\x81"), 1u);  // a combining accent
  EXPECT_EQ(CutToWidth("数据库", 6), "数据库");
  EXPECT_EQ(CutToWidth("数据库", 5), "数据…");
  EXPECT_EQ(CutToWidth("数据库", 4), "数…");
  EXPECT_EQ(CutToWidth("数据库", 1), "…");
  EXPECT_EQ(CutToWidth("数据库", 0), "");
  WatchModel model = Model(0, 0, 0);
  AgentProgress agent = Agent(1, "数据库服务器一号机房", 10, 0);
  model.Take({kNow, std::vector<AgentProgress>{agent}});
  model.Take({kNow, Verdict(1, kNow, "区域不对区域不对区域不对区域不对区域不对区域不对区域不对")});
  for (size_t width = 1; width < 120; ++width) ExpectFits(model, width, 24);
}

TEST_F(WatchView, StartsOfOneAgentAreOneRow) {
  WatchModel model = Model(0, 0, 0);
  AgentProgress again = Agent(7, "tikv1", 30, 5);
  again.last_seen_ns = kNow - kSecond;
  model.Take({kNow, std::vector<AgentProgress>{Agent(1, "tikv1", 1000, 0), Agent(2, "pd1", 5, 0), again}});
  ASSERT_EQ(model.agents.size(), 2u);
  EXPECT_EQ(model.agents[0].host, "pd1");
  EXPECT_EQ(model.agents[1].records, 1030u);
  EXPECT_EQ(*model.agents[1].records_per_s, 5);
  EXPECT_EQ(model.agents[1].last_seen_ns, kNow - kSecond);
}

TEST_F(WatchView, VerdictsAreReplacedAndWithdrawn) {
  WatchModel model = Model(0, 2, 0);
  VerdictLine later = Verdict(1, kNow + kSecond, "PD is wrong, again");
  later.occurrences = 8;
  later.is_new = false;
  model.Take({kNow, later});
  ASSERT_EQ(model.verdicts.size(), 2u);
  EXPECT_EQ(model.verdicts[0].text, "PD is wrong, again");
  later.withdrawn = true;
  model.Take({kNow, later});
  ASSERT_EQ(model.verdicts.size(), 1u);
  EXPECT_EQ(model.verdicts[0].region_id, 0u);
}

TEST_F(WatchView, LossesThatGrowWhileWeLookHaveAnAge) {
  WatchModel model = Model(1, 0, 1);
  EXPECT_THAT(Page(model, 80, 24), Not(HasSubstr("0 s ago")));
  model.Take({kNow, LossLine{"host0", "kernel_drops", 1, 1201}});
  EXPECT_THAT(Page(model, 80, 24), HasSubstr("1,201    0 s ago"));
}

}  // namespace
}  // namespace keytrail
