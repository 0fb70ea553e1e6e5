// The service over a real database file and a real channel, both on this host.

#include "collector/query/service.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

#include "collector/store/store.h"
#include "proto/keytrail/query.grpc.pb.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using grpc::StatusCode;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kEndless[] =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
constexpr char kEndlessRows[] =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, hex(zeroblob(500)) FROM n";

// Until `condition` holds; the test's own time limit ends what never comes.
template <class Condition>
void WaitUntil(const Condition& condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

class QueryServiceTest : public ::testing::Test {
 protected:
  QueryServiceTest() {
    options_.address = "127.0.0.1:0";
    options_.database = dir_ / "k.db";
    store_ = Store::Open(options_.database).value();
    agent_ = store_->RegisterAgent("host-a", "a", "tidb", 1)->id;
    Commit(20);
  }

  void Commit(int records) {
    ASSERT_TRUE(store_->Begin().ok());
    for (int i = 0; i < records; ++i) ASSERT_TRUE(store_->Add(agent_, records_.Get()).ok());
    ASSERT_TRUE(store_->Commit(agent_, ++sequence_).ok());
  }

  void Start() {
    Result<std::unique_ptr<QueryService>> service = QueryService::Start(options_);
    ASSERT_TRUE(service.ok()) << service.error();
    service_ = std::move(*service);
    channel_ = grpc::CreateChannel(service_->address(), grpc::InsecureChannelCredentials());
    stub_ = query::Query::NewStub(channel_);
  }

  // The rows of one integer column; the status in `status_`.
  std::vector<int64_t> Ask(const query::SqlRequest& request) {
    grpc::ClientContext context;
    const auto reader = stub_->Sql(&context, request);
    std::vector<int64_t> rows;
    end_.Clear();
    for (query::SqlAnswer answer; reader->Read(&answer);) {
      for (const query::SqlRow& row : answer.rows().rows()) rows.push_back(row.values(0).integer());
      if (answer.has_end()) end_ = answer.end();
    }
    status_ = reader->Finish();
    return rows;
  }
  std::vector<int64_t> Ask(const std::string& sql) {
    query::SqlRequest request;
    request.set_sql(sql);
    return Ask(request);
  }

  ScratchDir dir_;
  QueryServiceOptions options_;
  std::unique_ptr<Store> store_;
  RandomRecords records_{5};
  uint32_t agent_ = 0;
  uint64_t sequence_ = 0;
  std::unique_ptr<QueryService> service_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<query::Query::Stub> stub_;
  grpc::Status status_;
  query::SqlEnd end_;
};

TEST_F(QueryServiceTest, StreamsRows) {
  Start();
  EXPECT_THAT(Ask("SELECT count(*) FROM calls"), ElementsAre(20));
  EXPECT_TRUE(status_.ok());
  // Many messages, in order.
  const std::vector<int64_t> many =
      Ask("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999) SELECT i FROM n");
  ASSERT_EQ(many.size(), 100'000u);
  for (size_t i = 0; i < many.size(); ++i) ASSERT_EQ(many[i], static_cast<int64_t>(i));
  EXPECT_EQ(end_.rows(), 100'000u);
  EXPECT_FALSE(end_.row_limit_reached());
  EXPECT_EQ(service_->stats().answered, 2u);
}

TEST_F(QueryServiceTest, EveryKindOfValueArrives) {
  Start();
  query::SqlRequest request;
  request.set_sql("SELECT NULL, -3, 1.5, 'a' || char(0), x'00ff', :n");
  (*request.mutable_parameters())["n"].set_integer(7);
  grpc::ClientContext context;
  const auto reader = stub_->Sql(&context, request);
  query::SqlRow row;
  for (query::SqlAnswer answer; reader->Read(&answer);) {
    if (answer.rows().rows_size() == 1) row = answer.rows().rows(0);
  }
  ASSERT_TRUE(reader->Finish().ok());
  ASSERT_EQ(row.values_size(), 6);
  EXPECT_EQ(row.values(0).value_case(), query::Value::VALUE_NOT_SET);
  EXPECT_EQ(row.values(1).integer(), -3);
  EXPECT_EQ(row.values(2).real(), 1.5);
  EXPECT_EQ(row.values(3).text(), std::string("a\0", 2));
  EXPECT_EQ(row.values(4).blob(), std::string("\0\xFF", 2));
  EXPECT_EQ(row.values(5).integer(), 7);
}

TEST_F(QueryServiceTest, EachRefusalHasItsCode) {
  Start();
  const auto code = [&](const std::string& sql) {
    Ask(sql);
    return status_.error_code();
  };
  EXPECT_EQ(code("DELETE FROM call_rows"), StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status_.error_message(), HasSubstr("only reading is allowed"));
  EXPECT_EQ(code("SELEC 1"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code("SELECT :n"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code("SELECT zeroblob(1000000) || value AS b FROM json_each('[" +
                 [] {
                   std::string list = "0";
                   for (int i = 1; i < 1000; ++i) list += "," + std::to_string(i);
                   return list;
                 }() +
                 "]') ORDER BY b"),
            StatusCode::RESOURCE_EXHAUSTED);
  query::SqlRequest request;
  request.set_sql(kEndless);
  request.set_time_limit_ms(50);
  Ask(request);
  EXPECT_EQ(status_.error_code(), StatusCode::DEADLINE_EXCEEDED);
  request.set_named("no-such-query");
  Ask(request);
  EXPECT_EQ(status_.error_code(), StatusCode::INVALID_ARGUMENT);
  request.set_named("routes-of-region");
  Ask(request);
  EXPECT_THAT(status_.error_message(), HasSubstr("region=N"));
  grpc::ClientContext context;
  query::TimelineAnswer timeline;
  EXPECT_EQ(stub_->Timeline(&context, {}, &timeline).error_code(), StatusCode::UNIMPLEMENTED);
  const ServiceStats stats = service_->stats();
  EXPECT_EQ(stats.refused, 1u);
  EXPECT_EQ(stats.wrong, 4u);
  EXPECT_EQ(stats.timed_out, 1u);
  EXPECT_EQ(stats.out_of_memory, 1u);
  EXPECT_EQ(stats.running, 0u);
}

TEST_F(QueryServiceTest, ALargeRequestIsTurnedAway) {
  Start();
  Ask("SELECT 1 -- " + std::string(limits::kMaxServiceRequestBytes, 'x'));
  EXPECT_EQ(status_.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(Ask("SELECT 1"), ElementsAre(1));
}

TEST_F(QueryServiceTest, LimitsOfTheServiceWin) {
  options_.max_rows = 10;
  options_.max_time_ns = 50'000'000;
  Start();
  query::SqlRequest request;
  request.set_sql("SELECT a.id FROM calls a, calls b");
  request.set_row_limit(1'000'000);
  EXPECT_EQ(Ask(request).size(), 10u);
  EXPECT_TRUE(status_.ok());
  EXPECT_TRUE(end_.row_limit_reached());
  request.set_row_limit(3);
  EXPECT_EQ(Ask(request).size(), 3u);
  request.set_sql(kEndless);
  request.set_time_limit_ms(UINT64_MAX);
  Ask(request);
  EXPECT_EQ(status_.error_code(), StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(QueryServiceTest, AQueryEndsWithItsClient) {
  Start();
  query::SqlRequest request;
  request.set_sql(kEndless);
  grpc::ClientContext context;
  const auto reader = stub_->Sql(&context, request);
  WaitUntil([&] { return service_->stats().running == 1; });
  context.TryCancel();
  query::SqlAnswer answer;
  while (reader->Read(&answer)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  WaitUntil([&] { return service_->stats().running == 0; });
  EXPECT_EQ(service_->stats().cancelled, 1u);
}

// A client that asks and does not read must not hold its place, nor the state of the database that it reads.
TEST_F(QueryServiceTest, AClientThatDoesNotReadIsCutOff) {
  Start();
  query::SqlRequest request;
  request.set_sql(kEndlessRows);
  request.set_time_limit_ms(200);
  grpc::ClientContext context;
  const auto reader = stub_->Sql(&context, request);
  WaitUntil([&] { return service_->stats().timed_out == 1; });
  WaitUntil([&] { return service_->stats().running == 0; });
  query::SqlAnswer answer;
  while (reader->Read(&answer)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(QueryServiceTest, TheLineIsBounded) {
  options_.running = 1;
  options_.waiting = 1;
  Start();
  query::SqlRequest request;
  request.set_sql(kEndless);
  grpc::ClientContext first;
  const auto runs = stub_->Sql(&first, request);
  WaitUntil([&] { return service_->stats().running == 1; });
  grpc::ClientContext second;
  const auto waits = stub_->Sql(&second, request);
  WaitUntil([&] { return service_->stats().waiting == 1; });
  Ask("SELECT 1");
  EXPECT_EQ(status_.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status_.error_message(), HasSubstr("too many queries at once"));
  // Who tells how busy it is does not stand in line.
  grpc::ClientContext asks;
  query::AgentsAnswer agents;
  ASSERT_TRUE(stub_->Agents(&asks, {}, &agents).ok());
  EXPECT_EQ(agents.queries().running(), 1u);
  EXPECT_EQ(agents.queries().turned_away(), 1u);
  first.TryCancel();
  second.TryCancel();
  query::SqlAnswer answer;
  while (runs->Read(&answer) || waits->Read(&answer)) {
  }
  (void)runs->Finish();
  (void)waits->Finish();
  WaitUntil([&] { return service_->stats().running + service_->stats().waiting == 0; });
  EXPECT_THAT(Ask("SELECT 1"), ElementsAre(1));
}

TEST_F(QueryServiceTest, ThreadsAreBounded) {
  options_.threads = 8;
  Start();
  // Each watcher takes one.
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<query::WatchEvent>>> watchers;
  std::string refusal;
  for (int i = 0; i < 8 && refusal.empty(); ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    watchers.push_back(stub_->Watch(contexts.back().get(), {}));
    query::WatchEvent event;
    if (!watchers.back()->Read(&event)) refusal = watchers.back()->Finish().error_message();
  }
  EXPECT_THAT(refusal, HasSubstr("Exhausted"));
  for (const auto& context : contexts) context->TryCancel();
  WaitUntil([&] { return service_->stats().watchers == 0; });
  // The places are free again.
  do Ask("SELECT 1");
  while (!status_.ok());
}

// A query that would hold the log for minutes is asked to come again.
TEST_F(QueryServiceTest, ALongQueryGivesWayToTheLog) {
  options_.max_log_bytes = 1 << 20;
  options_.log_patience_ns = 50'000'000;
  Start();
  query::SqlRequest request;
  request.set_sql(
      "SELECT count(*) FROM call_rows a, call_rows b, call_rows c, call_rows d, call_rows e, call_rows f");
  request.set_time_limit_ms(300'000);
  grpc::ClientContext context;
  const auto reader = stub_->Sql(&context, request);
  WaitUntil([&] { return service_->stats().running == 1; });
  const std::string log = options_.database + "-wal";
  while (std::filesystem::file_size(log) <= options_.max_log_bytes) Commit(500);
  query::SqlAnswer answer;
  while (reader->Read(&answer)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::ABORTED);
  WaitUntil([&] { return std::filesystem::file_size(log) == 0; });
  EXPECT_EQ(service_->stats().aborted, 1u);
  EXPECT_THAT(Ask("SELECT 1"), ElementsAre(1));
}

// Queries that overlap for ever would let the log grow for ever.
TEST_F(QueryServiceTest, TheLogIsFoldedThoughThereIsAlwaysAReader) {
  options_.max_log_bytes = 1 << 20;
  options_.running = 2;
  Start();
  const std::string log = options_.database + "-wal";
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> asked = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!stop) {
        grpc::ClientContext context;
        query::SqlRequest request;
        request.set_sql("SELECT count(*) FROM call_rows a, (SELECT 1 UNION ALL SELECT 2)");
        const auto reader = stub_->Sql(&context, request);
        query::SqlAnswer answer;
        while (reader->Read(&answer)) {
        }
        if (reader->Finish().ok()) ++asked;
      }
    });
  }
  while (std::filesystem::file_size(log) <= options_.max_log_bytes) Commit(500);
  WaitUntil([&] { return std::filesystem::file_size(log) == 0; });
  const uint64_t before = asked;
  WaitUntil([&] { return asked > before + 10; });
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

TEST_F(QueryServiceTest, WatchTellsWhatIsThereAndWhatComes) {
  options_.watchers = 1;
  Start();
  grpc::ClientContext context;
  const auto events = stub_->Watch(&context, {});
  query::WatchEvent event;
  ASSERT_TRUE(events->Read(&event));
  ASSERT_TRUE(event.has_agent());
  EXPECT_EQ(event.agent().host(), "a");
  ASSERT_TRUE(events->Read(&event));
  ASSERT_TRUE(event.has_rates());
  EXPECT_EQ(event.rates().agents(0).records(), 20u);

  grpc::ClientContext another;
  const auto refused = stub_->Watch(&another, {});
  query::WatchEvent none;
  EXPECT_FALSE(refused->Read(&none));
  EXPECT_EQ(refused->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);

  InvestigationReport report;
  Verdict& verdict = report.verdicts.emplace_back();
  verdict.id = 1;
  verdict.component = Component::kPd;
  verdict.rule = "3";
  verdict.occurrences = 2;
  verdict.text = "PD is wrong";
  ASSERT_TRUE(store_->WriteReport(report).ok());
  while (!event.has_verdict()) ASSERT_TRUE(events->Read(&event));
  EXPECT_TRUE(event.verdict().is_new());
  EXPECT_EQ(event.verdict().text(), "PD is wrong");
  report.verdicts.clear();
  ASSERT_TRUE(store_->WriteReport(report).ok());
  do ASSERT_TRUE(events->Read(&event));
  while (!event.has_verdict());
  EXPECT_TRUE(event.verdict().withdrawn());
  ASSERT_TRUE(store_->Begin().ok());
  ASSERT_TRUE(store_->AddLoss(agent_, "kernel_drops", 12, 0, 0).ok());
  ASSERT_TRUE(store_->Commit(agent_, ++sequence_).ok());
  while (!event.has_loss()) ASSERT_TRUE(events->Read(&event));
  EXPECT_EQ(event.loss().kind(), "kernel_drops");
  EXPECT_EQ(event.loss().count(), 12u);
  context.TryCancel();
  while (events->Read(&event)) {
  }
  (void)events->Finish();
  WaitUntil([&] { return service_->stats().watchers == 0; });
}

TEST_F(QueryServiceTest, WithoutAReportThereAreNoVerdicts) {
  Start();
  grpc::ClientContext early;
  query::VerdictsAnswer answer;
  const grpc::Status unjudged = stub_->Verdicts(&early, {}, &answer);
  EXPECT_EQ(unjudged.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(unjudged.error_message(), HasSubstr("nothing was judged yet"));
}

// Bytes of a generic unary call.
std::string CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                    const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const grpc::Slice slice(request);
  const grpc::ByteBuffer in(&slice, 1);
  const auto stream = stub.PrepareCall(&context, method, &queue);
  grpc::ByteBuffer out;
  grpc::Status status;
  void* tag = nullptr;
  bool ok = false;
  stream->StartCall(nullptr);
  queue.Next(&tag, &ok);
  stream->WriteLast(in, grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  stream->Read(&out, nullptr);
  queue.Next(&tag, &ok);
  stream->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  std::string bytes;
  std::vector<grpc::Slice> slices;
  if (!status.ok() || !out.Dump(&slices).ok()) return "status: " + status.error_message();
  for (const grpc::Slice& s : slices) bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  return bytes;
}

TEST_F(QueryServiceTest, HealthAndReflectionAnswer) {
  Start();
  // HealthCheckResponse { status: SERVING }
  EXPECT_EQ(CallRaw(channel_, "/grpc.health.v1.Health/Check", ""), "\x08\x01");
  // ServerReflectionRequest { list_services: "" }
  const std::string services = CallRaw(
      channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3A\x00", 2));
  EXPECT_THAT(services, HasSubstr("keytrail.query.Query"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(QueryServiceTest, EndsInTheMiddleOfQueries) {
  Start();
  query::SqlRequest request;
  request.set_sql(kEndless);
  grpc::ClientContext context;
  const auto reader = stub_->Sql(&context, request);
  grpc::ClientContext watching;
  const auto events = stub_->Watch(&watching, {});
  WaitUntil([&] { return service_->stats().running == 1 && service_->stats().watchers == 1; });
  service_ = nullptr;
  query::SqlAnswer answer;
  while (reader->Read(&answer)) {
  }
  EXPECT_THAT(reader->Finish().error_code(), AnyOf(StatusCode::UNAVAILABLE, StatusCode::CANCELLED));
  query::WatchEvent event;
  while (events->Read(&event)) {
  }
  EXPECT_THAT(events->Finish().error_code(), AnyOf(StatusCode::UNAVAILABLE, StatusCode::CANCELLED));
}

// What a connection of this host sends after `said`, until it is ended; "still open" after a minute.
std::string UntilTheEnd(const std::string& address, const std::string& said) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  there.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  const timeval minute{60, 0};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
  std::string heard;
  if (connect(socket, reinterpret_cast<sockaddr*>(&there), sizeof there) != 0 ||
      send(socket, said.data(), said.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(said.size())) {
    heard = "not connected";
  }
  char part[4096];
  ssize_t got = 0;
  while (heard != "not connected" && (got = recv(socket, part, sizeof part, 0)) > 0) heard.append(part, got);
  if (got < 0 && errno != ECONNRESET) heard = "still open";
  close(socket);
  return heard;
}

TEST_F(QueryServiceTest, ConnectionsThatAskNothingEnd) {
  options_.handshake_ms = 200;
  options_.idle_ms = 200;
  Start();
  const std::string preface("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 33);
  for (const std::string& said : {std::string(), preface.substr(0, 9), preface.substr(0, 26), preface}) {
    const std::string heard = UntilTheEnd(service_->address(), said);
    EXPECT_NE(heard, "not connected") << said.size();
    EXPECT_NE(heard, "still open") << said.size();
  }
  // A client does not notice.
  EXPECT_THAT(Ask("SELECT 1"), ElementsAre(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_THAT(Ask("SELECT 2"), ElementsAre(2));
}

TEST_F(QueryServiceTest, OneServiceAtAnAddress) {
  Start();
  QueryServiceOptions again = options_;
  again.address = service_->address();
  const Result<std::unique_ptr<QueryService>> second = QueryService::Start(again);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error(), "cannot listen for queries at " + again.address + ": Address already in use");
}

TEST_F(QueryServiceTest, AUnixSocket) {
  options_.address = "unix:" + (dir_ / "query.sock");
  Start();
  EXPECT_THAT(Ask("SELECT 1"), ElementsAre(1));
}

TEST(QueryAddress, OfThisHostOnly) {
  for (const char* good :
       {"127.0.0.1:7451", "127.1.2.3:0", "[::1]:7451", "localhost:7451", "unix:/run/x.sock"}) {
    EXPECT_TRUE(CheckQueryAddress(good).ok()) << good;
  }
  for (const char* open : {"0.0.0.0:7451", "10.0.0.1:7451", "[::]:7451", "db.example.com:7451"}) {
    const Status status = CheckQueryAddress(open);
    ASSERT_FALSE(status.ok()) << open;
    EXPECT_THAT(status.error(), HasSubstr("without TLS")) << open;
  }
  for (const char* none :
       {"", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "::1:7451", "unix:"}) {
    const Status status = CheckQueryAddress(none);
    ASSERT_FALSE(status.ok()) << none;
    EXPECT_THAT(status.error(), ::testing::AnyOf(HasSubstr("is no address"), HasSubstr("names no socket")))
        << none;
  }
}

}  // namespace
}  // namespace keytrail
