// Timelines out of small databases made by hand.

#include "collector/store/timeline_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "collector/store/store.h"
#include "common/key_codec.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// 2026-11-23 16:30:10 UTC
constexpr int64_t kStart = 1'795'451'410'000'000'000;
constexpr char kGetRegion[] = "/pdpb.PD/GetRegion";
constexpr char kBatch[] = "/tikvpb.Tikv/BatchCommands";

std::string Encoded(const std::string& raw) {
  return EncodeKey(AsBytes(raw));
}

// What one call says; strings must live until it is stored.
struct Said {
  const char* client = "10.0.0.11:4001";
  const char* server = "10.0.0.21:2379";
  const char* method = kGetRegion;
  const char* command = "";
  uint32_t stream = 1;
  std::optional<uint64_t> request_id;
  int64_t asked = 0;  // ns after kStart, by the true clock
  int64_t answered = 0;
  std::string key;
  uint64_t region = 0;  // of the request
  uint64_t version = 0;
  uint64_t start_ts = 0;
  uint64_t told_region = 0;  // of the answer
  uint64_t told_version = 0;
  std::string told_start, told_end;
  ErrorKind error = ErrorKind::kNone;
  uint64_t message_bytes = 0;  // not 0: one message of a stream, such as a heartbeat
};

class TimelineRows : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Store>> store = Store::Open(dir_ / "t.db");
    ASSERT_TRUE(store.ok()) << store.error();
    store_ = std::move(*store);
    for (const char* name : {"tidb1", "pd1", "tikv1"}) AddAgent(name, name);
    report_.hosts.clear();
    AddHost("tidb1", "10.0.0.11", "tidb", 1000);
    AddHost("pd1", "10.0.0.21", "pd", 0);
    AddHost("tikv1", "10.0.0.31", "tikv", 1000);
  }

  void AddHost(const char* name, const char* address, const char* role, int64_t error_ns) {
    HostReport& host = report_.hosts.emplace_back();
    host.host = name;
    host.address = address;
    host.role = role;
    host.clock_offset_ns = 0;
    host.offset_error_ns = error_ns;
    host.reference = "pd1";
  }

  void AddAgent(const std::string& key, const std::string& name) {
    const Result<AgentRow> row = store_->RegisterAgent(key, name, "", 1);
    ASSERT_TRUE(row.ok()) << row.error();
    agents_[key] = row->id;
  }

  // As one agent saw it, with its clock off by `skew`.
  uint64_t Add(const std::string& agent, const Said& said, int64_t skew = 0) {
    MessageFacts request;
    MessageFacts response;
    CallRecord call;
    call.client = *ParseEndpoint(said.client);
    call.server = *ParseEndpoint(said.server);
    call.connection = call.client.port;
    call.joined_at_start = true;
    call.method = said.method;
    call.command = said.command;
    call.method_from = MethodFrom::kHeader;
    call.kind = said.request_id ? CallKind::kSub : CallKind::kUnary;
    call.stream = said.stream;
    call.request_id = said.request_id;
    const auto at = [&](int64_t ns) { return TimeNs{kStart + ns + skew}; };
    call.req_first = call.req_last = at(said.asked);
    call.resp_first = call.resp_last = at(said.answered);
    call.req_messages = call.resp_messages = 1;
    if (said.message_bytes != 0) {
      call.kind = CallKind::kMessage;
      call.resp_first = call.resp_last = kTimeUnknown;
      call.resp_messages = 0;
      call.req_bytes = said.message_bytes;
    }
    if (!said.key.empty())
      request.keys.push_back({AsBytes(said.key), {}, false, false, KeyForm::kRaw, 0, false});
    if (said.region != 0) {
      Route& route = request.routes.emplace_back();
      route.region_id = said.region;
      route.version = said.version;
      route.has_epoch = true;
    }
    request.start_ts = said.start_ts;
    const std::string start = Encoded(said.told_start);
    const std::string end = Encoded(said.told_end);
    const std::string key = Encoded(said.key);
    if (said.told_region != 0) {
      RegionStatement& s = response.statements.emplace_back();
      s.source = said.error == ErrorKind::kEpochNotMatch ? StatementSource::kEpochNotMatch
                                                         : StatementSource::kPdGetRegion;
      s.region_id = said.told_region;
      s.version = said.told_version;
      s.has_epoch = true;
      s.start = AsBytes(start);
      s.end = AsBytes(end);
    }
    if (said.error != ErrorKind::kNone) {
      ErrorFact& e = response.errors.emplace_back();
      e.kind = said.error;
      e.key = AsBytes(key);
      e.has_key = true;
    }
    call.request = &request;
    call.response = &response;
    EXPECT_TRUE(store_->Begin().ok());
    const Result<uint64_t> id = store_->Add(agents_[agent], call);
    EXPECT_TRUE(id.ok()) << id.error();
    EXPECT_TRUE(store_->Commit(agents_[agent], ++sequence_).ok());
    return *id;
  }

  Timeline Read(TimelineQuestion question) {
    // Its hosts' clocks stand in the database, too.
    EXPECT_TRUE(store_->WriteReport(report_).ok());
    if (question.most_calls == 0) question.most_calls = 1000;
    Result<Timeline> t = ReadTimeline(question, report_, Sql());
    EXPECT_TRUE(t.ok()) << t.error();
    return t.ok() ? std::move(*t) : Timeline();
  }

  TimelineSql Sql() {
    return [this](const std::string& sql, const auto& columns, const auto& row) {
      return store_->Query(sql, columns, row);
    };
  }

  static TimelineQuestion About(TimelineQuestion::About about, uint64_t number) {
    TimelineQuestion q;
    q.about = about;
    q.number = number;
    return q;
  }

  // PD tells tidb1 the wrong region; tidb1 is refused, asks again, and tries again. Seen by tidb1 and the
  // server.
  void AddStory(int64_t tidb_skew = 0, int64_t pd_skew = 0, int64_t tikv_skew = 0) {
    Said lookup;
    lookup.stream = 1;
    lookup.asked = 100'000;
    lookup.answered = 200'000;
    lookup.key = "c";
    lookup.told_region = 13;
    lookup.told_version = 2;
    lookup.told_start = "a";
    lookup.told_end = "m";
    Said get;
    get.client = "10.0.0.11:4002";
    get.server = "10.0.0.31:20160";
    get.method = kBatch;
    get.command = "Get";
    get.stream = 1;
    get.request_id = 7;
    get.asked = 1'000'000;
    get.answered = 1'200'000;
    get.key = "k";
    get.region = 13;
    get.version = 2;
    get.start_ts = 400;
    get.error = ErrorKind::kKeyOutOfRegion;
    Said again = lookup;
    again.stream = 3;
    again.asked = 2'000'000;
    again.answered = 2'100'000;
    again.key = "k";
    again.told_region = 14;
    again.told_version = 1;
    again.told_start = "g";
    Said retry = get;
    retry.request_id = 8;
    retry.asked = 3'000'000;
    retry.answered = 3'100'000;
    retry.region = 14;
    retry.version = 1;
    retry.error = ErrorKind::kNone;
    // Another transaction reads the same key in between: no retry of the one that was refused.
    Said other = retry;
    other.request_id = 9;
    other.asked = 2'500'000;
    other.answered = 2'600'000;
    other.start_ts = 500;
    const auto seen = [&](Said said) {
      const uint64_t id = Add("tidb1", said, tidb_skew);
      said.asked += 20'000;
      said.answered -= 20'000;
      const bool pd = said.server == lookup.server;
      Add(pd ? "pd1" : "tikv1", said, pd ? pd_skew : tikv_skew);
      return id;
    };
    lookup_ = seen(lookup);
    refused_ = seen(get);
    again_ = seen(again);
    retry_ = seen(retry);
    other_ = seen(other);
  }

  std::vector<std::string> Links(const Timeline& t) {
    std::vector<std::string> out;
    for (const TimelineLink& link : t.links) {
      const char* kinds[] = {"route", "ask", "retry"};
      out.push_back(std::string(kinds[static_cast<int>(link.kind)]) + " " + Name(t.calls[link.from]) + " " +
                    Name(t.calls[link.to]));
    }
    return out;
  }
  std::string Name(const TimelineCall& call) const {
    const uint64_t id = call.at_client ? call.at_client->call_id : 0;
    return id == lookup_    ? "lookup"
           : id == refused_ ? "refused"
           : id == again_   ? "again"
           : id == retry_   ? "retry"
           : id == other_   ? "other"
                            : "?";
  }
  std::vector<std::string> Names(const Timeline& t) {
    std::vector<std::string> out;
    for (const TimelineCall& call : t.calls) out.push_back(Name(call));
    return out;
  }

  ScratchDir dir_;
  std::unique_ptr<Store> store_;
  std::map<std::string, uint32_t> agents_;
  uint64_t sequence_ = 0;
  InvestigationReport report_;
  uint64_t lookup_ = 0, refused_ = 0, again_ = 0, retry_ = 0, other_ = 0;
};

TEST_F(TimelineRows, AChainOfATransaction) {
  AddStory();
  // The lookups carry no transaction: they come by the chain.
  const Timeline t = Read(About(TimelineQuestion::About::kStartTs, 400));
  EXPECT_THAT(Names(t), ElementsAre("lookup", "refused", "again", "retry"));
  EXPECT_THAT(Links(t), ElementsAre("route lookup refused", "ask refused again", "retry refused retry",
                                    "route again retry"));
  for (const TimelineCall& call : t.calls) {
    EXPECT_TRUE(call.at_client && call.at_server);
    EXPECT_EQ(call.client.host, "tidb1");
    EXPECT_EQ(call.client.role, "tidb");
  }
  EXPECT_TRUE(t.calls[1].refused);
  EXPECT_TRUE(t.calls[1].followed);
  EXPECT_EQ(t.reference, "pd1");
  EXPECT_EQ(t.found, 4u);
  EXPECT_EQ(t.left_out, 0u);
}

TEST_F(TimelineRows, ByKeyByRegionByTime) {
  AddStory();
  TimelineQuestion key = About(TimelineQuestion::About::kKey, 0);
  key.keys = {Encoded("k")};
  EXPECT_THAT(Names(Read(key)), ElementsAre("lookup", "refused", "again", "other", "retry"));
  EXPECT_THAT(Names(Read(About(TimelineQuestion::About::kRegion, 13))),
              ElementsAre("lookup", "refused", "again", "retry"));
  EXPECT_THAT(Names(Read(About(TimelineQuestion::About::kRegion, 99))), ElementsAre());
  TimelineQuestion time = About(TimelineQuestion::About::kTime, 0);
  time.from_ns = kStart + 2'400'000;
  time.to_ns = kStart + 2'700'000;
  EXPECT_THAT(Names(Read(time)), ElementsAre("other"));
  time.from_ns = kStart + 2'050'000;  // within a call
  EXPECT_THAT(Names(Read(time)), ElementsAre("again", "other"));
}

TEST_F(TimelineRows, AroundARefusalCallsAboutItsRegion) {
  AddStory();
  Said near;
  near.client = "10.0.0.12:5000";
  near.server = "10.0.0.31:20160";
  near.method = kBatch;
  near.command = "Get";
  near.request_id = 1;
  near.asked = 5'000'000;
  near.answered = 5'100'000;
  near.region = 13;
  near.version = 2;
  Add("tikv1", near);
  TimelineQuestion question = About(TimelineQuestion::About::kStartTs, 400);
  EXPECT_EQ(Read(question).calls.size(), 4u);
  question.around_ns = 4'000'000;
  const Timeline t = Read(question);
  ASSERT_EQ(t.calls.size(), 6u);  // and the other transaction's request to region 14
  EXPECT_FALSE(t.calls.back().asked_for);
  EXPECT_EQ(t.calls.back().client.host, "10.0.0.12");
  EXPECT_EQ(t.calls.back().client.role, "unknown");
  EXPECT_FALSE(t.calls.back().at_client.has_value());
}

TEST_F(TimelineRows, SkewedClocksGiveTheSameTimeline) {
  AddStory(0, 0, 0);
  const Timeline plain = Read(About(TimelineQuestion::About::kStartTs, 400));
  store_.reset();
  std::filesystem::remove(dir_ / "t.db");
  agents_.clear();
  SetUp();
  AddStory(5'000'000'000, 0, -7'000'000'000);
  report_.hosts[0].clock_offset_ns = 5'000'000'000;
  report_.hosts[2].clock_offset_ns = -7'000'000'000;
  const Timeline skewed = Read(About(TimelineQuestion::About::kStartTs, 400));
  ASSERT_EQ(skewed.calls.size(), plain.calls.size());
  EXPECT_EQ(Links(skewed), Links(plain));
  for (size_t i = 0; i < plain.calls.size(); ++i) {
    EXPECT_EQ(skewed.calls[i].at_client->times.req_first, plain.calls[i].at_client->times.req_first);
    ASSERT_TRUE(skewed.calls[i].at_server.has_value());
    EXPECT_EQ(skewed.calls[i].at_server->times.resp_last, plain.calls[i].at_server->times.resp_last);
    EXPECT_EQ(skewed.calls[i].at_server->moved_ns, 0);
  }
}

ClockReport Stretch(const char* host, const char* reference, int64_t from, int64_t to, int64_t offset,
                    int64_t error, int64_t drift) {
  ClockReport c;
  c.host = host;
  c.reference = reference;
  c.relation = "direct";
  c.from_ns = from;
  c.to_ns = to;
  c.offset_ns = offset;
  c.error_ns = error;
  c.drift_ppb = drift;
  return c;
}

TEST_F(TimelineRows, ClocksInStretches) {
  AddStory(0, 0, 1'000'000'000);
  const int64_t from = kStart + 1'000'000'000;
  // 1,000,000 ppb: 1 µs each ms. What is said of other pairs of hosts does not count.
  report_.clocks = {Stretch("tikv1", "pd1", from, from + 10'000'000, 1'000'000'000, 77, 1'000'000),
                    Stretch("tidb1", "pd1", from - 1'000'000'000, from, 0, 5, 0),
                    Stretch("tikv1", "tidb1", from, from + 1, 999'000'000, 1, 0)};
  report_.clocks.emplace_back();
  report_.clocks.back().host = "tikv1";
  report_.clocks.back().reference = "pd1";
  report_.clocks.back().relation = "unrelated";
  const Timeline t = Read(About(TimelineQuestion::About::kStartTs, 400));
  ASSERT_EQ(t.calls.size(), 4u);
  const TimelineCall& refused = t.calls[1];
  ASSERT_TRUE(refused.at_server.has_value());
  // Asked 1.02 ms after the stretch began: 1.02 µs of drift.
  EXPECT_EQ(refused.at_server->times.req_first, kStart + 1'020'000 - 1'020);
  EXPECT_EQ(refused.at_server->clock_error_ns, 77);
  EXPECT_TRUE(refused.at_server->on_reference);
}

TEST_F(TimelineRows, AVerdictMarksItsCallsAndFindsTheirOtherViews) {
  AddStory();
  Verdict& v = report_.verdicts.emplace_back();
  v.id = 1;
  v.component = Component::kPd;
  v.culprit = "pd1";
  v.region_id = 13;
  v.version = 2;
  const auto line = [&](const char* what, const char* label, const char* speaker, uint64_t call,
                        uint64_t statement) {
    Evidence& e = v.evidence.emplace_back();
    e.what = what;
    e.label = label;
    e.speaker = speaker;
    e.call_id = call;
    e.statement_id = statement;
    e.ref_ns = kStart + 180'000;
  };
  // The evidence names one view of each.
  line("route", "said", "pd1", lookup_ + 1, (lookup_ + 1) * 65536);
  line("request", "used", "tidb1", refused_, 0);
  line("complaint", "refused", "tikv1", refused_ + 1, 0);
  const Timeline t = Read(About(TimelineQuestion::About::kVerdict, 1));
  EXPECT_THAT(Names(t), ElementsAre("lookup", "refused", "again", "retry"));
  ASSERT_EQ(t.calls[0].marks.size(), 1u);
  EXPECT_TRUE(t.calls[0].marks[0].guilty);
  EXPECT_EQ(t.calls[0].marks[0].label, "said");
  EXPECT_EQ(t.calls[1].marks.size(), 2u);
  EXPECT_EQ(t.verdict->id, 1u);
  const Result<Timeline> none = ReadTimeline(About(TimelineQuestion::About::kVerdict, 9), report_, Sql());
  ASSERT_FALSE(none.ok());
  EXPECT_THAT(none.error(), HasSubstr("no verdict 9"));
}

// Heartbeats have no id: all that the other end saw of the stream near in time is looked at, and one of them
// is meant.
TEST_F(TimelineRows, NeighboursOfAMessageAreNotShown) {
  Said beat;
  beat.client = "10.0.0.31:4001";
  beat.method = "/pdpb.PD/RegionHeartbeat";
  uint64_t wanted = 0;
  uint64_t partner = 0;
  for (int i = 0; i < 5; ++i) {
    beat.asked = i * 50'000'000;
    beat.message_bytes = 100 + static_cast<uint64_t>(i);
    const uint64_t at_store = Add("tikv1", beat);
    const uint64_t at_pd = Add("pd1", beat, 20'000);
    if (i == 2) {
      wanted = at_store;
      partner = at_pd;
    }
  }
  Verdict& v = report_.verdicts.emplace_back();
  v.id = 1;
  v.evidence.emplace_back();
  v.evidence[0].label = "witness";
  v.evidence[0].call_id = wanted;
  const Timeline t = Read(About(TimelineQuestion::About::kVerdict, 1));
  ASSERT_EQ(t.calls.size(), 1u);
  EXPECT_EQ(t.found, 1u);
  ASSERT_TRUE(t.calls[0].at_client && t.calls[0].at_server);
  EXPECT_EQ(t.calls[0].at_client->call_id, wanted);
  EXPECT_EQ(t.calls[0].at_server->call_id, partner);
}

TEST_F(TimelineRows, WhatIsKeptIsWhatMatters) {
  AddStory();
  for (uint64_t i = 0; i < 100; ++i) {
    Said get;
    get.client = "10.0.0.11:4002";
    get.server = "10.0.0.31:20160";
    get.method = kBatch;
    get.command = "Get";
    get.request_id = 1000 + i;
    get.asked = static_cast<int64_t>(i) * 10'000;
    get.answered = get.asked + 5000;
    get.region = 13;
    get.version = 2;
    Add("tidb1", get);
  }
  TimelineQuestion question = About(TimelineQuestion::About::kRegion, 13);
  question.most_calls = 6;
  const Timeline t = Read(question);
  EXPECT_EQ(t.calls.size(), 6u);
  EXPECT_EQ(t.found, 104u);
  EXPECT_EQ(t.left_out, 98u);
  EXPECT_EQ(t.refused_left, 0u);
  const std::vector<std::string> names = Names(t);
  for (const char* name : {"lookup", "refused", "again", "retry"})
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 1) << name;
}

TEST_F(TimelineRows, WithoutNamesAgentsStandWhereMostConnectionsMeet) {
  store_.reset();
  std::filesystem::remove(dir_ / "t.db");
  agents_.clear();
  SetUp();
  for (HostReport& host : report_.hosts) {
    host.host = host.address;
    host.reference = "10.0.0.21";
  }
  for (const char* key : {"one", "two", "three"}) AddAgent(key, "");
  agents_ = {{"tidb1", agents_["one"]}, {"pd1", agents_["two"]}, {"tikv1", agents_["three"]}};
  AddStory();
  // So far tidb1 alone has two connections; the others saw one each, and each of its ends fits as well.
  Said more;
  more.client = "10.0.0.12:5000";
  Add("pd1", more);
  more.server = "10.0.0.31:20160";
  more.method = kBatch;
  Add("tikv1", more);
  const Timeline t = Read(About(TimelineQuestion::About::kStartTs, 400));
  ASSERT_EQ(t.calls.size(), 4u);
  for (const TimelineCall& call : t.calls) {
    ASSERT_TRUE(call.at_client && call.at_server);
    EXPECT_EQ(call.at_client->observer, "10.0.0.11");
    EXPECT_EQ(call.at_server->observer, call.server.address);
  }
}

TEST_F(TimelineRows, EverythingOnOneMachine) {
  Said lookup;
  lookup.client = "127.0.0.1:4001";
  lookup.server = "127.0.0.1:2379";
  lookup.asked = 1000;
  lookup.answered = 2000;
  lookup.key = "k";
  lookup.told_region = 5;
  lookup.told_version = 1;
  lookup.told_start = "a";
  lookup.told_end = "z";
  Add("tidb1", lookup);
  // The same addresses at another agent are another machine's.
  lookup.asked += 50;
  Add("tikv1", lookup);
  const Timeline t = Read(About(TimelineQuestion::About::kRegion, 5));
  ASSERT_EQ(t.calls.size(), 2u);
  EXPECT_EQ(t.calls[0].client.host, "tidb1");
  EXPECT_EQ(t.calls[1].client.host, "tikv1");
}

TEST_F(TimelineRows, KeysAsPeopleWriteThem) {
  const auto find = [&](const std::string& text) {
    const Result<std::vector<std::string>> keys = FindTimelineKey(text, Sql());
    return keys.ok() ? *keys : std::vector<std::string>{"error: " + keys.error()};
  };
  for (const char* text : {"t53_r8012", "t53_r-5", "t53", "t53_i1", "t53_i1_902", "t53_i1_902_-7"}) {
    const std::vector<std::string> keys = find(text);
    ASSERT_EQ(keys.size(), 1u) << text;
    EXPECT_EQ(EncodedKeyText(AsBytes(keys[0])), text);
  }
  EXPECT_THAT(find("\"tkv_00180\""), ElementsAre(Encoded("tkv_00180"), "tkv_00180"));
  EXPECT_THAT(find(HexLower(AsBytes(Encoded("abc")))), ElementsAre(Encoded("abc")));
  EXPECT_THAT(find("616263"), ElementsAre("abc", Encoded("abc")));  // no encoding: raw, or as it is
  // What is not made up from its text is looked for as it is shown.
  const std::string index = "t" + std::string("\x80\0\0\0\0\0\0\x35", 8) + "_i" +
                            std::string("\x80\0\0\0\0\0\0\x01", 8) + "\x01" +
                            EncodeKey(AsBytes(std::string("name")));
  EXPECT_EQ(RawKeyText(AsBytes(index)), "t53_i1_name");
  EXPECT_THAT(find("t53_i1_name"), ElementsAre(HasSubstr("error: no key is shown as 't53_i1_name'")));
  Said said;
  said.key = index;
  Add("tidb1", said);
  EXPECT_THAT(find("t53_i1_name"), ElementsAre(Encoded(index)));
  EXPECT_THAT(find("it's none"), ElementsAre(HasSubstr("error: no key is shown as 'it's none'")));
}

TEST_F(TimelineRows, HostileTextsStayWithinTheirStatement) {
  report_.hosts[0].host = "x'); DROP TABLE call_rows; --";
  store_.reset();
  std::filesystem::remove(dir_ / "t.db");
  agents_.clear();
  SetUp();
  AddAgent("evil", "o'neil\"; --");
  report_.hosts[0].host = "o'neil\"; --";
  agents_["tidb1"] = agents_["evil"];
  AddStory();
  EXPECT_THAT(Names(Read(About(TimelineQuestion::About::kStartTs, 400))),
              ElementsAre("lookup", "refused", "again", "retry"));
}

TEST_F(TimelineRows, AnEmptyDatabase) {
  const Result<TimelineSpan> span = ReadTimelineSpan(Sql());
  ASSERT_TRUE(span.ok());
  EXPECT_FALSE(span->first_ns.has_value());
  EXPECT_TRUE(Read(About(TimelineQuestion::About::kTime, 0)).calls.empty());
}

}  // namespace
}  // namespace keytrail
