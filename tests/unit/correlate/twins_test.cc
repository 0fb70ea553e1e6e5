// A connection that a NAT or a TCP proxy stands in: seen between different ends, and known to be one by what
// went over it.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::Network;
using testing::ParseScript;
using testing::ScriptOptions;
using testing::ScriptRecord;
using testing::Summary;
using testing::Translate;

InvestigationReport Judge(const std::string& script, const Network& network, ScriptOptions options = {}) {
  std::vector<ScriptRecord> records = ParseScript(script, options);
  Translate(records, network);
  Correlator correlator;
  testing::Feed(correlator, records, options);
  return correlator.Judge();
}

// Enough calls that every connection of tidb1 and tidb2 is told from every other.
constexpr int kCalls = 12;
std::string Traffic(int calls = kCalls) {
  std::string out;
  for (int i = 0; i < calls; ++i) {
    const std::string t = std::to_string(100 + i * 3);
    const std::string key = "f" + std::to_string(i);
    const std::string ts = " ts=" + std::to_string(1000 + i);
    out += t + " tidb1 > pd1 GetRegion " + key + " = 7.3[a,m)\n";
    out += t + " tidb2 > pd1 GetRegion g" + key + " = 7.3[a,m)\n";
    out += t + " tidb1 > tikv1 Get 7.3 " + key + " = ok" + ts + "0\n";
    out += t + " tidb2 > tikv1 Get 7.3 " + key + " = ok" + ts + "1\n";
    out += t + " tikv1 > pd1 Heartbeat 7.3[a,m)\n";
  }
  return out;
}

constexpr char kWide[] =
    "200 tidb1 > pd1 GetRegion p = 7.3[a,z)\n"
    "202 tidb1 > tikv1 Get 7.3 p = outside p [a,m)\n";

const std::vector<Network> kNetworks = {{true, false}, {false, true}, {true, true}};

TEST(Twins, VerdictsClocksAndCountsAreThoseOfTheOpenNetwork) {
  ScriptOptions options;
  options.clock_ns = {{"tidb1", 350'000'000}, {"tidb2", -90'000'000'000}, {"tikv1", 5'000'000}};
  const InvestigationReport open = Judge(Traffic() + kWide, {}, options);
  const std::vector<std::string> names = {"tidb1", "tidb2", "pd1", "tikv1"};
  ASSERT_EQ(Summary(open), "pd certain 3 7.3 x2");
  EXPECT_TRUE(open.translations.empty());
  for (const Network& network : kNetworks) {
    const InvestigationReport report = Judge(Traffic() + kWide, network, options);
    SCOPED_TRACE(std::string(network.hide_clients ? "clients " : "") +
                 (network.hide_servers ? "servers" : ""));
    EXPECT_EQ(Summary(report), Summary(open));
    EXPECT_EQ(report.verdicts.at(0).client, "10.0.0.11");
    EXPECT_EQ(report.verdicts.at(0).server, open.verdicts.at(0).server);
    // Heartbeats have nothing that tells one from another: that connection stays two.
    EXPECT_EQ(report.calls, open.calls + kCalls);
    EXPECT_EQ(report.statements, open.statements + 1);
    ASSERT_EQ(report.hosts.size(), open.hosts.size());
    for (size_t h = 0; h < open.hosts.size(); ++h) {
      EXPECT_EQ(report.hosts[h].address, open.hosts[h].address);
      EXPECT_EQ(report.hosts[h].role, open.hosts[h].role);
      // It takes one connection less to tell the clocks.
      ASSERT_TRUE(report.hosts[h].clock_offset_ns.has_value());
      EXPECT_LE(std::abs(*report.hosts[h].clock_offset_ns - options.clock_ns[names[h]]),
                *report.hosts[h].offset_error_ns);
      EXPECT_LT(*report.hosts[h].offset_error_ns, 1'000'000);
    }
    ASSERT_EQ(report.translations.size(), 4u);
    EXPECT_EQ(report.translations[0].client.substr(0, 10), "10.0.0.11:");
    EXPECT_TRUE(report.translations[0].client_at_server.starts_with(network.hide_clients ? "10.9.0.1:"
                                                                                         : "10.0.0.11:"));
    EXPECT_EQ(report.translations[0].connections, 1u);
    EXPECT_GE(report.translations[0].calls, 12u);
  }
}

// tidb2's own fault stays its own, though both have one address.
TEST(Twins, OfTwoClientsBehindOneAddressTheGuiltyOneIsNamed) {
  const std::string script = Traffic() + "202 tidb2 > tikv1 Get 7.3 p = outside p [a,m)\n";
  for (const Network& network : kNetworks) {
    const InvestigationReport report = Judge(script, network);
    EXPECT_EQ(Summary(report), "tidb certain 2 7.3 x1");
    EXPECT_EQ(report.verdicts.at(0).client, "10.0.0.12");
  }
}

// Found out in the course of time: what came before is joined as well, what comes after at once.
TEST(Twins, JoinedWhileRecordsCome) {
  ScriptOptions options;
  std::vector<ScriptRecord> records = ParseScript(Traffic(30) + kWide, options);
  Translate(records, {true, true});
  std::stable_sort(records.begin(), records.end(), [](const ScriptRecord& a, const ScriptRecord& b) {
    return a.record->call.req_first.ns < b.record->call.req_first.ns;
  });
  Correlator correlator;
  std::map<std::string, uint32_t> agents;
  size_t joined = 0;
  for (const ScriptRecord& r : records) {
    const auto [it, fresh] = agents.try_emplace(r.host, static_cast<uint32_t>(agents.size() + 1));
    if (fresh) correlator.AddAgent({it->second, "", ""});
    correlator.Add(it->second, r.call_id, r.record->call);
    const size_t now = correlator.Judge().translations.size();
    EXPECT_GE(now, joined);
    joined = now;
  }
  const InvestigationReport report = correlator.Judge();
  EXPECT_EQ(Summary(report), "pd certain 3 7.3 x2");
  EXPECT_EQ(report.translations.size(), 4u);
  EXPECT_EQ(report.calls, Judge(Traffic(30) + kWide, {}).calls + 30);
}

TEST(Twins, TooFewCallsProveNothing) {
  const InvestigationReport report = Judge(Traffic(7), {true, true});
  EXPECT_TRUE(report.translations.empty());
  EXPECT_GT(report.calls, Judge(Traffic(7), {}).calls);
}

// Two connections that carry the same, and a third as well: nobody knows which ones belong together.
TEST(Twins, WhatThreeConnectionsSayTellsNothing) {
  std::string script;
  for (int i = 0; i < 20; ++i) {
    const std::string t = std::to_string(100 + i * 3);
    const std::string lookup = " > pd1 GetRegion f" + std::to_string(i) + " = 7.3[a,m)\n";
    script += t + " tidb1" + lookup + t + " tidb2" + lookup;
    script += t + " tikv1 > pd1 Heartbeat 7.3[a,m)\n";
  }
  const InvestigationReport report = Judge(script, {true, true});
  for (const TranslationReport& t : report.translations) EXPECT_TRUE(t.client.starts_with("10.0.0.31:"));
}

// The same questions at the same places, but an answer came while nobody waited for it at the other end.
TEST(Twins, CallsThatAreNotWithinEachOthersTimeAreOthers) {
  ScriptOptions options;
  std::vector<ScriptRecord> records = ParseScript(Traffic(20), options);
  Translate(records, {true, true});
  int n = 0;
  for (ScriptRecord& r : records) {
    if (r.host != "tikv1") continue;
    // As if it had been another client's connection: now sooner, now later.
    const int64_t by = n++ % 2 == 0 ? 2'000'000 : -2'000'000;
    for (TimeNs* t : {&r.record->call.req_first, &r.record->call.req_last, &r.record->call.resp_first,
                      &r.record->call.resp_last}) {
      if (*t != kTimeUnknown) t->ns += by;
    }
  }
  Correlator correlator;
  testing::Feed(correlator, records, options);
  for (const TranslationReport& t : correlator.Judge().translations) {
    EXPECT_EQ(t.server.find("10.0.0.31"), std::string::npos) << t.server;
  }
}

// One call in between that is another one at the other end.
TEST(Twins, OneCallThatDiffersRefutesIt) {
  ScriptOptions options;
  std::vector<ScriptRecord> records = ParseScript(Traffic(20), options);
  Translate(records, {true, true});
  size_t changed = 0;
  for (ScriptRecord& r : records) {
    if (r.host != "tikv1" || r.record->call.command != "Get" || changed == 1) continue;
    ++changed;
    ++r.record->request.start_ts;
  }
  ASSERT_EQ(changed, 1u);
  Correlator correlator;
  testing::Feed(correlator, records, options);
  const auto translations = correlator.Judge().translations;
  const auto to_tikv = std::count_if(translations.begin(), translations.end(), [](const auto& t) {
    return t.server.find("10.0.0.31") != std::string::npos;
  });
  EXPECT_EQ(to_tikv, 1);  // the other client's
}

// The translated port serves another client later: what it says is not the first one's.
TEST(Twins, APortThatIsGivenToAnotherClientIsNotTheFirstOnes) {
  ScriptOptions options;
  std::vector<ScriptRecord> records =
      ParseScript(Traffic(20) + "90000 tidb2 > tikv1 Get 7.3 p = outside p [a,m) port=51111\n", options);
  Translate(records, {true, false});
  // At the store the last call comes from the ports that were tidb1's, over a new connection.
  Endpoint first;
  for (const ScriptRecord& r : records) {
    if (r.host == "tikv1" &&
        r.record->call.req_first.ns < records[0].record->call.req_first.ns + 1'000'000'000 &&
        r.record->call.client.port >= 1000 &&
        r.record->call.server.address == *ParseAddress(testing::AddressOf("tikv1")) &&
        r.record->request.start_ts % 10 == 0 && r.record->request.start_ts != 0) {
      first = r.record->call.client;
    }
  }
  ASSERT_NE(first.port, 0);
  for (ScriptRecord& r : records) {
    if (r.host == "tikv1" && r.record->call.client.port == 51111 + 300 * 12) r.record->call.client = first;
  }
  Correlator correlator;
  testing::Feed(correlator, records, options);
  const InvestigationReport report = correlator.Judge();
  for (const Verdict& v : report.verdicts) EXPECT_NE(v.client, "10.0.0.11");
}

}  // namespace
}  // namespace keytrail
