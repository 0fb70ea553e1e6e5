// Two views become one call, and paired calls bound the clocks.
#include <gtest/gtest.h>

#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Investigate;
using testing::ScriptOptions;

const HostReport& HostAt(const InvestigationReport& report, const std::string& address) {
  for (const HostReport& h : report.hosts) {
    if (h.address == address) return h;
  }
  static const HostReport kNone;
  ADD_FAILURE() << "no host " << address;
  return kNone;
}

constexpr char kTraffic[] = R"(
  10 tidb1 > pd1 GetRegion f = 7.3[a,m)
  11 tidb2 > pd1 GetRegion f = 7.3[a,m)
  12 tidb1 > tikv1 Get 7.3 f = ok
  14 tidb2 > tikv1 Get 7.3 f = ok
  15 tikv1 > pd1 Heartbeat 7.3[a,m)
)";

TEST(Clocks, OffsetsWithinTheirErrorOfTheTruth) {
  for (const int64_t shift : {int64_t{0}, int64_t{350'000'000}, int64_t{-600'000'000'000}}) {
    ScriptOptions options;
    options.clock_ns = {{"tidb1", shift}, {"tikv1", -shift / 3}, {"pd1", shift / 7}};
    const auto report = Investigate(kTraffic, options);
    ASSERT_EQ(report.hosts.size(), 4u);
    for (const auto& [address, clock] : std::map<std::string, int64_t>{
             {"10.0.0.11", shift}, {"10.0.0.12", 0}, {"10.0.0.21", shift / 7}, {"10.0.0.31", -shift / 3}}) {
      const HostReport& h = HostAt(report, address);
      EXPECT_EQ(h.reference, "10.0.0.21");
      ASSERT_TRUE(h.clock_offset_ns.has_value()) << address;
      EXPECT_LE(std::abs(*h.clock_offset_ns - (clock - shift / 7)), *h.offset_error_ns) << address;
      EXPECT_LE(*h.offset_error_ns, 100'000) << address;
    }
    EXPECT_EQ(report.calls, 5u);
  }
}

TEST(Clocks, HostsWithoutSharedTrafficAreUnrelated) {
  ScriptOptions options;
  options.captured = {"tidb1", "tidb2"};
  const auto report = Investigate(kTraffic, options);
  ASSERT_EQ(report.hosts.size(), 2u);
  EXPECT_EQ(report.hosts[0].clock_offset_ns.has_value() + report.hosts[1].clock_offset_ns.has_value(), 1);
}

// The verdict and its order of events hold when clocks differ by minutes.
TEST(Clocks, SkewChangesNoVerdict) {
  constexpr char kScript[] = R"(
    5 tidb2 > pd1 QueryRegion c = 7.3[a,m)
    6 tidb2 > tikv1 Get 7.3 c = ok
    10 tidb1 > pd1 GetRegion f = 7.3[a,z)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    20 tidb1 > pd1 GetRegion f = 7.3[a,m)
    22 tidb1 > tikv1 Get 7.3 f = ok
  )";
  for (const int64_t shift : {int64_t{600'000'000'000}, int64_t{-600'000'000'000}}) {
    ScriptOptions options;
    options.clock_ns = {{"tidb1", shift}, {"tikv1", -shift}};
    const auto report = Investigate(kScript, options);
    EXPECT_EQ(testing::Summary(report), "pd certain 3 7.3 x2");
    // On the reference's clock, pd1's, the answer came before the refusal.
    const Verdict& v = report.verdicts.at(0);
    EXPECT_EQ(v.occurrence_list[0].what, "wrong_statement");
    EXPECT_LT(v.last_ns - v.first_ns, 10'000'000);
    for (size_t i = 1; i < 3; ++i) EXPECT_LE(v.evidence[i - 1].ref_ns, v.evidence[i].ref_ns);
  }
}

// tidb1 learnt the wide range after its request only, so PD's answer was not the source.
TEST(Pairing, AnAnswerAfterTheRequestIsNotItsSource) {
  EXPECT_EQ(testing::Summary(Investigate(R"(
    5 tidb1 > pd1 GetRegion f = 7.3[a,m)
    12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
    20 tidb1 > pd1 GetRegion q = 8.4[m,z)
  )")),
            "tidb certain 2 7.3 x1");
}

// The same ports, stream and request id again, a minute later: two calls, and each view meets its own.
TEST(Pairing, PortUsedAgain) {
  constexpr char kScript[] = R"(
    5 tidb1 > pd1 GetRegion f = 7.3[a,m)
    10 tidb1 > tikv1 Get 7.3 b = ok port=50000 stream=9 id=1
    60010 tidb1 > tikv1 Get 7.3 p = outside p [a,m) port=50000 stream=9 id=1
    120010 tidb1 > tikv1 Get 7.3 p = outside p [a,m) port=50000 stream=9 id=1
  )";
  EXPECT_EQ(Investigate(kScript).calls, 4u);
  EXPECT_EQ(testing::Summary(Investigate(kScript)), "tidb certain 2 7.3 x2");
}

// One side joined later: the nth message of the one is not the nth of the other.
TEST(Pairing, MessagesWithoutIdsArePairedByTime) {
  ScriptOptions options;
  std::string script;
  for (int i = 0; i < 50; ++i) {
    script +=
        std::to_string(10 + i * 1000) + " tikv1 > pd1 Heartbeat " + std::to_string(7 + i % 3) + ".3[a,m)\n";
  }
  script += "5 tidb1 > pd1 GetRegion f = 20.3[a,m)\n 6 tidb1 > tikv1 Get 20.3 f = ok\n";
  auto records = testing::ParseScript(script, options);
  std::erase_if(records, [](const auto& r) { return r.host == "pd1" && r.call_id < 30; });
  Correlator correlator;
  testing::Feed(correlator, records, options);
  EXPECT_EQ(correlator.Judge().calls, 52u);
}

TEST(Pairing, OneAgentAlone) {
  ScriptOptions options;
  options.captured = {"tidb1"};
  const auto report = Investigate(kTraffic, options);
  EXPECT_EQ(report.calls, 2u);
  ASSERT_EQ(report.hosts.size(), 1u);
  EXPECT_EQ(report.hosts[0].address, "10.0.0.11");
  EXPECT_EQ(report.not_captured, (std::vector<std::string>{"pd 10.0.0.21", "tikv 10.0.0.31"}));
}

}  // namespace
}  // namespace keytrail
